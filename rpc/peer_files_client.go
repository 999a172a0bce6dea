package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
	peerv1 "github.com/ckptferry/ckptferry/proto/ckptferry/peer/v1"
	"github.com/ckptferry/ckptferry/replicator/agent"
)

// peerFiles are the files of one export at the other datacenter.
type peerFiles struct {
	peer   *Peer
	export string
	stats  statQueue
	pool   fetchPool
	wide   *peerFiles // the same, of Peer.wide; nil in that
}

// Open implements agent.SourceDC. Nothing is asked before a file is.
func (p *Peer) Open(export string) agent.ReadOpener {
	if f, ok := p.exports.Load(export); ok {
		return f.(*peerFiles)
	}
	fresh := &peerFiles{peer: p, export: export}
	fresh.stats.files, fresh.pool.files = fresh, fresh
	if p.wide != nil {
		fresh.wide = p.wide.Open(export).(*peerFiles)
	}
	f, _ := p.exports.LoadOrStore(export, fresh)
	return f.(*peerFiles)
}

// OpenRead gives the files below a root, which may lie above what is exported: what is asked below it may not.
func (f *peerFiles) OpenRead(_ context.Context, root fsutil.URI) (fsutil.ReadFS, error) {
	if root.Scheme == "" || !path.IsAbs(root.Path) || path.Clean(root.Path) != root.Path {
		return nil, fmt.Errorf("open %q at %s: not a URI with a scheme and an absolute path: %w", root, f.peer.cfg.Expect, fs.ErrInvalid)
	}
	return &peerFS{files: f, root: root}, nil
}

// peerFS reads files of the other datacenter below one root.
type peerFS struct {
	files *peerFiles
	root  fsutil.URI
}

var (
	_ fsutil.ReadFS       = (*peerFS)(nil)
	_ fsutil.PrefixOpener = (*peerFS)(nil)
	_ fsutil.AllOpener    = (*peerFS)(nil)
)

// Root implements fsutil.ReadFS. It is as the other datacenter's Flink names it.
func (r *peerFS) Root() fsutil.URI { return r.root }

// place is a name for the wire. What is no name is refused here; the other side looks again.
func (r *peerFS) place(ctx context.Context, op, name string) (*peerv1.Place, error) {
	if !fs.ValidPath(name) || strings.ContainsRune(name, 0) {
		return nil, fmt.Errorf("%s %q below %s: not a relative, slash-separated UTF-8 name without empty, \".\" and \"..\" elements: %w",
			op, name, r.root, fs.ErrInvalid)
	}
	if err := ctx.Err(); err != nil {
		return nil, r.fail(op, name, err)
	}
	return &peerv1.Place{Root: r.root.String(), Name: name}, nil
}

func (r *peerFS) fail(op, name string, err error) error {
	return fmt.Errorf("%s %s at %s: %w", op, r.root.Join(name), r.files.peer.cfg.Expect, err)
}

// Open implements fsutil.ReadFS. It returns when the other side has begun to answer.
func (r *peerFS) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	if offset < 0 {
		return nil, r.fail("open", name, fmt.Errorf("offset %d: %w", offset, fs.ErrInvalid))
	}
	return r.open(ctx, name, offset, 0)
}

// OpenPrefix implements fsutil.PrefixOpener: the other side's file system does what it can.
func (r *peerFS) OpenPrefix(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if length < 0 || offset < 0 || offset > length {
		return nil, r.fail("open", name, fmt.Errorf("from offset %d the first %d bytes: %w", offset, length, fs.ErrInvalid))
	}
	if length == 0 { // which on the wire is the whole file
		info, err := r.Stat(ctx, name)
		if err == nil && info.IsDir {
			err = r.fail("open", name, fmt.Errorf("a directory: %w", fs.ErrInvalid))
		}
		if err != nil {
			return nil, err
		}
		return io.NopCloser(strings.NewReader("")), nil
	}
	return r.open(ctx, name, offset, length)
}

func (r *peerFS) open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	place, err := r.place(ctx, "open", name)
	if err != nil {
		return nil, err
	}
	f, err := r.files.open(ctx, &peerv1.FetchRequest{Export: r.files.export, File: place, Offset: offset, PrefixLength: length})
	if err != nil {
		return nil, r.fail("open", name, err)
	}
	f.where = r.root.Join(name)
	return f, nil
}

// Stat implements fsutil.ReadFS. Calls that come while one is under way go together in the next.
func (r *peerFS) Stat(ctx context.Context, name string) (fsutil.FileInfo, error) {
	place, err := r.place(ctx, "stat", name)
	if err != nil {
		return fsutil.FileInfo{}, err
	}
	info, err := r.files.stats.stat(ctx, place)
	if err != nil {
		return fsutil.FileInfo{}, r.fail("stat", name, err)
	}
	info.Name = path.Base(name)
	return info, nil
}

const (
	// listWithin bounds the silence before each page of a list.
	listWithin = 2 * time.Minute
	// listedMost bounds what a list may hold.
	listedMost = 4 << 20
)

// List implements fsutil.ReadFS.
func (r *peerFS) List(ctx context.Context, dir string) ([]fsutil.FileInfo, error) {
	place, err := r.place(ctx, "list", dir)
	if err != nil {
		return nil, err
	}
	var infos []fsutil.FileInfo
	err = r.files.peer.on(ctx, func(l *link) (err error) {
		infos, err = r.list(ctx, l, place)
		return err
	})
	if err != nil {
		return nil, r.fail("list", dir, err)
	}
	return infos, nil
}

func (r *peerFS) list(ctx context.Context, l *link, place *peerv1.Place) ([]fsutil.FileInfo, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	late := time.AfterFunc(listWithin, cancel)
	defer late.Stop()
	stream, err := l.client.List(ctx, &peerv1.ListRequest{Export: r.files.export, Directory: place})
	if err != nil {
		return nil, err
	}
	var infos []fsutil.FileInfo
	last := ""
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return infos, nil
		}
		if err != nil {
			return nil, err
		}
		if answer.GetError() != nil {
			return nil, fromFileError(answer.GetError())
		}
		for _, m := range answer.GetInfos() {
			if err := checkInfo(m); err != nil {
				return nil, err
			}
			if m.GetName() <= last || strings.Contains(m.GetName(), "/") || !fs.ValidPath(m.GetName()) || m.GetName() == "." {
				return nil, notAnAnswer("a list with %q after %q", m.GetName(), last)
			}
			last = m.GetName()
			infos = append(infos, infoOf(m))
		}
		if len(infos) > listedMost {
			return nil, notAnAnswer("a list of more than %d entries", listedMost)
		}
		late.Reset(listWithin)
	}
}

func checkInfo(m *peerv1.FileInfo) error {
	if m == nil || m.GetSizeBytes() < 0 {
		return notAnAnswer("a file of %d bytes", m.GetSizeBytes())
	}
	return nil
}

// notAnAnswer is for what no peer of ours sends.
func notAnAnswer(format string, args ...any) error {
	return &remoteError{message: "the answer is " + fmt.Sprintf(format, args...) + ", which is none: bytes are corrupt", is: fsutil.ErrCorrupt}
}
