package replicator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/ckptferry/ckptferry/fsutil"
)

// ReadOpener opens places for reading, by their URI.
type ReadOpener interface {
	OpenRead(ctx context.Context, root fsutil.URI) (fsutil.ReadFS, error)
}

// Opener opens places by their URI; fsutil.Stores is the one of the product.
type Opener interface {
	ReadOpener
	Open(ctx context.Context, root fsutil.URI) (fsutil.FS, error)
}

// PrefixMap says that what _metadata names below From is reached from here below To.
type PrefixMap struct{ From, To fsutil.URI }

// PrefixMaps are tried longest From first.
type PrefixMaps []PrefixMap

// Reached is where a URI that _metadata names is reached from here.
func (ms PrefixMaps) Reached(named fsutil.URI) fsutil.URI {
	return ms.move(named, func(m PrefixMap) (from, to fsutil.URI) { return m.From, m.To })
}

// Named is what _metadata calls a place that is reached from here: Reached the other way.
func (ms PrefixMaps) Named(reached fsutil.URI) fsutil.URI {
	return ms.move(reached, func(m PrefixMap) (from, to fsutil.URI) { return m.To, m.From })
}

func (ms PrefixMaps) move(u fsutil.URI, way func(PrefixMap) (from, to fsutil.URI)) fsutil.URI {
	best, out := -1, u
	for _, m := range ms {
		from, to := way(m)
		rest, ok := from.Rel(u)
		if ok && len(from.Path) > best {
			best, out = len(from.Path), to.Join(rest)
		}
	}
	return out
}

// located is a file as it is reached: a file system and the name in it.
type located struct {
	fs   fsutil.ReadFS
	name string
}

func (l located) open(ctx context.Context) (io.ReadCloser, error) { return l.fs.Open(ctx, l.name, 0) }

// openMerged opens a merged file of which need bytes are wanted. Flink may have it open for writing still; HDFS then
// knows no length of it and refuses open, but what _metadata refers to was synced before the checkpoint completed.
func (l located) openMerged(ctx context.Context, need int64) (io.ReadCloser, error) {
	r, err := l.open(ctx)
	if writing, ok := l.fs.(fsutil.PrefixOpener); ok && errors.Is(err, fsutil.ErrUnavailable) {
		return writing.OpenPrefix(ctx, l.name, 0, need)
	}
	return r, err
}

// holdsMore says whether a merged file that looks shorter than need bytes is one that Flink has open for writing, so
// that they may be there. A finished file is what it looks.
func (l located) holdsMore(ctx context.Context, need int64) (bool, error) {
	writing, ok := l.fs.(fsutil.PrefixOpener)
	if !ok {
		return false, nil
	}
	r, err := writing.OpenPrefix(ctx, l.name, 0, need)
	switch {
	case errors.Is(err, fs.ErrInvalid), errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look whether %s is being written: %w", l.fs.Root().Join(l.name), err)
	}
	return true, r.Close()
}

// sources finds the file systems that the files of one checkpoint lie on: one for the base that holds the job's
// directory, and one for everything else with the same scheme and authority, rooted at what its places have in
// common (with entropy injection nearly every file has a prefix of its own: a root each would be too many).
type sources struct {
	opener ReadOpener
	maps   PrefixMaps
	layout layout
	base   fsutil.ReadFS
	// canonical brings two names of one place together; nil leaves names as they are.
	canonical func(fsutil.URI) fsutil.URI
	// places are the external prefixes, as named → as reached, with symbolic links resolved.
	places map[fsutil.URI]fsutil.URI
	roots  map[fsutil.URI]fsutil.ReadFS // by scheme and authority (Path empty)
}

func newSources(ctx context.Context, opener ReadOpener, maps PrefixMaps, l layout) (*sources, error) {
	base, err := opener.OpenRead(ctx, maps.Reached(l.base))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", maps.Reached(l.base), err)
	}
	return &sources{opener: opener, maps: maps, layout: l, base: base, canonical: fsutil.Canonical,
		places: map[fsutil.URI]fsutil.URI{}, roots: map[fsutil.URI]fsutil.ReadFS{}}, nil
}

// reach opens the file systems that the given files (as named) lie on. To be called once, with all of them.
func (s *sources) reach(ctx context.Context, named []fsutil.URI) error {
	common := map[fsutil.URI]fsutil.URI{}
	for _, u := range named {
		prefix, _ := s.layout.split(u)
		if _, done := s.places[prefix]; done || prefix == s.layout.base {
			continue
		}
		place := s.maps.Reached(prefix)
		if s.canonical != nil {
			place = s.canonical(place)
		}
		s.places[prefix] = place
		key := fsutil.URI{Scheme: place.Scheme, Authority: place.Authority}
		if c, ok := common[key]; ok {
			place = commonParent(c, place)
		}
		common[key] = place
	}
	for key, root := range common {
		opened, err := s.opener.OpenRead(ctx, root)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &ReachError{Place: root, Err: err}
		}
		if err == nil {
			s.roots[key] = opened
		}
	}
	return nil
}

// locate finds one of the files that reach was told of; fs.ErrNotExist when the place it lies in is not there.
func (s *sources) locate(named fsutil.URI) (located, error) {
	prefix, rest := s.layout.split(named)
	if prefix == s.layout.base {
		return located{s.base, rest}, nil
	}
	place := s.places[prefix].Join(rest)
	root, ok := s.roots[fsutil.URI{Scheme: place.Scheme, Authority: place.Authority}]
	if !ok {
		return located{}, fmt.Errorf("find %s: %w", place, fs.ErrNotExist)
	}
	name, ok := root.Root().Rel(place)
	if !ok {
		return located{}, fmt.Errorf("find %s below %s: %w", place, root.Root(), fs.ErrNotExist)
	}
	return located{root, name}, nil
}

// prefixes are all places that Flink keeps the source's files in, as reached.
func (s *sources) prefixes() []fsutil.URI {
	out := []fsutil.URI{s.maps.Reached(s.layout.flinks())}
	for _, p := range s.places {
		out = append(out, p)
	}
	return out
}

func commonParent(a, b fsutil.URI) fsutil.URI {
	as, bs := strings.Split(a.Path, "/"), strings.Split(b.Path, "/")
	n := 0
	for n < len(as) && n < len(bs) && as[n] == bs[n] {
		n++
	}
	a.Path = "/" + strings.TrimPrefix(strings.Join(as[:n], "/"), "/")
	return a
}
