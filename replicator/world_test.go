package replicator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/fsutil/faultfs"
)

// world is the two datacenters of a test in memory: what a fixture's Flink wrote is at file:/dc-a and ent:/dc-a, as
// its _metadata names it, and replicas go to hdfs://dc-b/replicas. It is the Opener of the code under test.
type world struct {
	src, dst   *fsutil.Memory
	there      *faultfs.FS    // src, as the code under test sees it
	here       *faultfs.FS    // dst, the same
	batches    bool           // the target renames many files at once, as a local directory does
	fullSource *fsutil.Memory // what src held before a test took something away; nil: src
}

func newWorld() *world {
	w := &world{src: fsutil.NewMemory(mustURI("file:/")), dst: fsutil.NewMemory(mustURI("hdfs://dc-b/"))}
	w.calm()
	return w
}

// calm takes all faults away.
func (w *world) calm() { w.there, w.here = faultfs.New(w.src), faultfs.New(w.dst) }

// always is a fault at every call.
func always(do func(ctx context.Context, c faultfs.Call) error) faultfs.Fault {
	return faultfs.Fault{Last: faultfs.Forever, Do: faultfs.Before(do)}
}

func mustURI(s string) fsutil.URI {
	u, err := fsutil.ParseURI(s)
	if err != nil {
		panic(err)
	}
	return u
}

var dcB = mustURI("hdfs://dc-b/replicas")

func (w *world) view(root fsutil.URI) (*view, error) {
	at := strings.TrimPrefix(root.Path, "/")
	if at == "" {
		at = "."
	}
	switch {
	case root.Scheme == "hdfs" && root.Authority == "dc-b":
		return &view{root: root, at: at, all: w.here}, nil
	case root.Scheme == "file" || root.Scheme == "ent":
		return &view{root: root, at: at, all: w.there}, nil
	}
	return nil, fmt.Errorf("open %s: %w", root, fsutil.ErrUnsupported)
}

// Open implements Opener: the target alone can be written.
func (w *world) Open(ctx context.Context, root fsutil.URI) (fsutil.FS, error) {
	if root.Scheme != "hdfs" {
		return nil, fmt.Errorf("open %s for writing: the test forbids it: %w", root, fs.ErrPermission)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	v, err := w.view(root)
	if w.batches && err == nil {
		return batchView{v}, nil
	}
	return v, err
}

// OpenRead implements Opener.
func (w *world) OpenRead(ctx context.Context, root fsutil.URI) (fsutil.ReadFS, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	v, err := w.view(root)
	if err != nil {
		return nil, err
	}
	return fsutil.ReadOnly(v), nil
}

// view is a file system as seen from one directory in it. Faults go by names from the root of all.
type view struct {
	root fsutil.URI
	at   string // the directory in all
	all  fsutil.FS
}

func (v *view) Root() fsutil.URI { return v.root }

func (v *view) full(name string) string {
	if !fs.ValidPath(name) {
		return name // for the file system to refuse
	}
	return path.Join(v.at, name)
}

func (v *view) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	return v.all.Open(ctx, v.full(name), offset)
}

func (v *view) Stat(ctx context.Context, name string) (fsutil.FileInfo, error) {
	return v.all.Stat(ctx, v.full(name))
}

func (v *view) List(ctx context.Context, dir string) ([]fsutil.FileInfo, error) {
	return v.all.List(ctx, v.full(dir))
}

func (v *view) Create(ctx context.Context, name string) (fsutil.File, error) {
	return v.all.Create(ctx, v.full(name))
}

func (v *view) Rename(ctx context.Context, from, to string) error {
	return v.all.Rename(ctx, v.full(from), v.full(to))
}

func (v *view) Remove(ctx context.Context, name string) error {
	return v.all.Remove(ctx, v.full(name))
}

// batchView is a view that is an fsutil.AllRenamer.
type batchView struct{ *view }

func (v batchView) RenameAll(ctx context.Context, moves []fsutil.Renaming) error {
	for _, m := range moves {
		if err := v.Rename(ctx, m.From, m.To); err != nil {
			return err
		}
	}
	return nil
}

// put writes a file as a whole, durably.
func put(t testing.TB, m *fsutil.Memory, name string, b []byte) {
	t.Helper()
	f, err := m.Create(t.Context(), ".put")
	if err == nil {
		if _, err = f.Write(b); err == nil {
			err = f.Commit(t.Context())
		}
	}
	if err == nil {
		err = m.Rename(t.Context(), ".put", name)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// remove takes away one file, or a directory with all that is in it.
func remove(t testing.TB, m *fsutil.Memory, name string) {
	t.Helper()
	if err := removeTree(t.Context(), m, name); err != nil && !errors.Is(err, fs.ErrInvalid) {
		t.Fatal(err)
	}
	if err := m.Remove(t.Context(), name); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, m *fsutil.Memory, name string) []byte {
	t.Helper()
	fi, err := m.Stat(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	r, err := m.Open(context.Background(), name, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, fi.Size)
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	return b
}

// names lists every file below dir.
func names(t testing.TB, m *fsutil.Memory, dir string) []string {
	t.Helper()
	infos, err := m.List(context.Background(), dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var out []string
	for _, fi := range infos {
		if name := path.Join(dir, fi.Name); fi.IsDir {
			out = append(out, names(t, m, name)...)
		} else {
			out = append(out, name)
		}
	}
	return out
}

// digests lists every file below dir with its SHA-256.
func digests(t testing.TB, m *fsutil.Memory, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, name := range names(t, m, dir) {
		out[name] = fmt.Sprintf("%x", sha256.Sum256(get(t, m, name)))
	}
	return out
}

// load puts the whole tree of a fixture into the source datacenter and gives the checkpoint's directory there.
func (w *world) load(t testing.TB, f fixture) fsutil.URI {
	t.Helper()
	err := filepath.WalkDir(f.root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		put(t, w.src, "dc-a"+filepath.ToSlash(strings.TrimPrefix(p, f.root)), b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return f.named()
}

// named is the checkpoint's directory as its job named it.
func (f fixture) named() fsutil.URI {
	return mustURI("file:/dc-a" + filepath.ToSlash(strings.TrimPrefix(f.dir, f.root)))
}

func (w *world) request(source fsutil.URI) Request {
	return Request{Source: source, Target: dcB}
}

// mustReplicate is a run that ends READY, and leaves a replica that stands up to wholeReplicas.
func (w *world) mustReplicate(t testing.TB, req Request) Result {
	t.Helper()
	res, err := Replicate(t.Context(), w, req)
	if err != nil || res.Status != StatusReady {
		t.Fatalf("Replicate = %+v, %v", res, err)
	}
	if n := w.wholeReplicas(t, w.dst); n == 0 {
		t.Fatal("READY, and there is no replica")
	}
	if left := names(t, w.dst, "replicas/"+ownDir+"/tmp"); len(left) > 0 {
		t.Fatalf("left behind: %v", left)
	}
	return res
}

// flip changes one bit of a file in place.
func flip(t testing.TB, m *fsutil.Memory, name string, at int) {
	t.Helper()
	b := bytes.Clone(get(t, m, name))
	b[at] ^= 0x10
	put(t, m, name, b)
}

// pause waits, on the fake clock of a synctest bubble.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
