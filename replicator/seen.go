package replicator

import (
	"context"
	"hash/maphash"
	"io"
	"sync"

	"github.com/ckptferry/ckptferry/fsutil"
)

// Seen remembers what was seen of files, by name and what they should hold. It is safe for concurrent use. A file costs
// it a few words; a damaged one its problem.
type Seen struct {
	seed maphash.Seed

	mu   sync.Mutex
	well map[uint64]struct{}
	ill  map[ManifestFile]Problem
}

// NewSeen remembers nothing yet.
func NewSeen() *Seen {
	return &Seen{seed: maphash.MakeSeed(), well: map[uint64]struct{}{}, ill: map[ManifestFile]Problem{}}
}

func identityOf(f ManifestFile) ManifestFile {
	return ManifestFile{Name: f.Name, Bytes: f.Bytes, CRC: f.CRC}
}

func (s *Seen) ask(f ManifestFile) (p *Problem, known bool) {
	f = identityOf(f)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.well[maphash.Comparable(s.seed, f)]; ok {
		return nil, true
	}
	if p, ok := s.ill[f]; ok {
		return &p, true
	}
	return nil, false
}

func (s *Seen) tell(f ManifestFile, p *Problem) {
	f = identityOf(f)
	s.mu.Lock()
	defer s.mu.Unlock()
	if p == nil {
		s.well[maphash.Comparable(s.seed, f)] = struct{}{}
	} else {
		s.ill[f] = *p
	}
}

// limitedReads has all that is read of a file system's files keep to the limits.
func limitedReads(from fsutil.ReadFS, limits []*Limit) fsutil.ReadFS {
	if len(limits) == 0 {
		return from
	}
	return limitedFS{from, limits}
}

type limitedFS struct {
	fsutil.ReadFS
	limits []*Limit
}

func (l limitedFS) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	r, err := l.ReadFS.Open(ctx, name, offset)
	return l.limited(ctx, r, err)
}

// OpenUnchecked keeps what the file system can do for a reader with a digest of its own.
func (l limitedFS) OpenUnchecked(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	if u, ok := l.ReadFS.(uncheckedOpener); ok {
		r, err := u.OpenUnchecked(ctx, name, offset)
		return l.limited(ctx, r, err)
	}
	return l.Open(ctx, name, offset)
}

func (l limitedFS) limited(ctx context.Context, r io.ReadCloser, err error) (io.ReadCloser, error) {
	if err != nil {
		return nil, err
	}
	return &limitedReader{ReadCloser: r, take: func(n int) error { return takeAll(ctx, l.limits, n) }}, nil
}

type limitedReader struct {
	io.ReadCloser
	take func(n int) error // bounded by the ctx given to Open, as the reading is
}

func (r *limitedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if n > 0 {
		if lerr := r.take(n); lerr != nil {
			return n, lerr
		}
	}
	return n, err
}
