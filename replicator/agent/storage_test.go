package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ckptferry/ckptferry/flinkmeta/metadatatest"
	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/fsutil/faultfs"
)

// storage is the file system of one datacenter, in memory: everything that is called file: there. It is the Opener of
// the code under test, which sees it with faults.
type storage struct {
	disk   *fsutil.Memory
	faulty atomic.Pointer[faultfs.FS]
}

func newStorage() *storage {
	s := &storage{disk: fsutil.NewMemory(mustURI("file:/"))}
	s.calm()
	return s
}

// calm takes all faults away, and begins to count calls anew.
func (s *storage) calm() { s.faulty.Store(faultfs.New(s.disk)) }

// fault is the disk as the code under test sees it.
func (s *storage) fault() *faultfs.FS { return s.faulty.Load() }

// calls counts what was asked since calm, as "list a/b".
func (s *storage) calls() map[string]int {
	n := map[string]int{}
	for _, c := range s.fault().Calls() {
		n[fmt.Sprint(c)]++
	}
	return n
}

func (s *storage) Open(_ context.Context, root fsutil.URI) (fsutil.FS, error) {
	if root.Scheme != "file" {
		return nil, fmt.Errorf("open %s: %w", root, fsutil.ErrUnsupported)
	}
	return &subtree{root, s}, nil
}

func (s *storage) OpenRead(ctx context.Context, root fsutil.URI) (fsutil.ReadFS, error) {
	opened, err := s.Open(ctx, root)
	if err != nil {
		return nil, err
	}
	return fsutil.ReadOnly(opened), nil
}

// subtree is a storage as seen from a directory. Faults go by names from the root of all.
type subtree struct {
	root fsutil.URI
	all  *storage
}

func (v *subtree) full(name string) string {
	if !fs.ValidPath(name) {
		return name // for the file system to refuse
	}
	return path.Join(".", strings.TrimPrefix(v.root.Path, "/"), name)
}

func (v *subtree) Root() fsutil.URI { return v.root }

func (v *subtree) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	return v.all.fault().Open(ctx, v.full(name), offset)
}

func (v *subtree) Stat(ctx context.Context, name string) (fsutil.FileInfo, error) {
	return v.all.fault().Stat(ctx, v.full(name))
}

func (v *subtree) List(ctx context.Context, dir string) ([]fsutil.FileInfo, error) {
	return v.all.fault().List(ctx, v.full(dir))
}

func (v *subtree) Create(ctx context.Context, name string) (fsutil.File, error) {
	return v.all.fault().Create(ctx, v.full(name))
}

func (v *subtree) Rename(ctx context.Context, from, to string) error {
	return v.all.fault().Rename(ctx, v.full(from), v.full(to))
}

func (v *subtree) Remove(ctx context.Context, name string) error {
	return v.all.fault().Remove(ctx, v.full(name))
}

func mustURI(s string) fsutil.URI {
	u, err := fsutil.ParseURI(s)
	if err != nil {
		panic(err)
	}
	return u
}

// put writes a file as a whole.
func (s *storage) put(t testing.TB, name string, b []byte) {
	t.Helper()
	f, err := s.disk.Create(t.Context(), ".put")
	if err == nil {
		if _, err = f.Write(b); err == nil {
			err = f.Commit(t.Context())
		}
	}
	if err == nil {
		err = s.disk.Rename(t.Context(), ".put", name)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// remove takes away a file, or a directory with all that is in it.
func (s *storage) remove(t testing.TB, name string) {
	t.Helper()
	infos, err := s.disk.List(t.Context(), name)
	if err != nil && !errors.Is(err, fs.ErrInvalid) && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, fi := range infos {
		s.remove(t, path.Join(name, fi.Name))
	}
	if err := s.disk.Remove(t.Context(), name); err != nil {
		t.Fatal(err)
	}
}

func (s *storage) has(t testing.TB, name string) bool {
	t.Helper()
	_, err := s.disk.Stat(t.Context(), name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

func (s *storage) get(t testing.TB, name string) []byte {
	t.Helper()
	r, err := s.disk.Open(t.Context(), name, 0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// load puts what a real Flink wrote into the storage, where it wrote it: below /dc-a.
func (s *storage) load(t testing.TB, fixture string) {
	t.Helper()
	root := filepath.Join("..", "..", "flinkmeta", "fixtures", fixture)
	n := 0
	err := filepath.WalkDir(filepath.Join(root, "dc-a"), func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		s.put(t, filepath.ToSlash(rel), b)
		n++
		return err
	})
	if err != nil || n == 0 {
		t.Fatalf("fixture %s: %d files, %v", fixture, n, err)
	}
}

// Made-up jobs: checkpoints of version 3 with one operator, whose state lies in files of 100 bytes.
const (
	jobA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	jobB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// checkpoint makes a checkpoint in dir, with files of its own, and shared files of the job, by name.
func (s *storage) checkpoint(t testing.TB, dir string, own, shared []string) {
	t.Helper()
	for _, name := range own {
		s.put(t, path.Join(dir, name), content(path.Join(dir, name)))
	}
	for _, name := range shared {
		if at := path.Join(path.Dir(dir), "shared", name); !s.has(t, at) {
			s.put(t, at, content(at))
		}
	}
	s.put(t, path.Join(dir, metadataName), metadataOf(dir, own, shared))
}

func content(name string) []byte { return []byte(strings.Repeat(name+"\n", 100/len(name)+1)[:100]) }

func metadataOf(dir string, own, shared []string) []byte {
	m := &metadatatest.Writer{}
	m.Header(3, 1)
	for _, n := range []int{0, 1} { // master states, operators
		m.I32(n)
	}
	m.I64(1)
	m.I64(2)
	m.I32(1) // parallelism
	m.I32(128)
	m.Null() // coordinator
	m.I32(1) // subtasks
	m.I32(0)
	m.I32(0) // managed, raw operator state
	m.I32(0)
	m.U8(5) // IncrementalRemoteKeyedStateHandle
	m.I64(1)
	m.UTF("11111111-2222-3333-4444-555555555555")
	m.I32(0)
	m.I32(128)
	m.Inline("meta", []byte("meta of "+dir))
	m.I32(len(own) + len(shared))
	for _, name := range own {
		m.UTF(name)
		m.Relative(name, 100)
	}
	for _, name := range shared {
		m.UTF(name)
		m.File("file:/"+path.Join(path.Dir(dir), "shared", name), 100)
	}
	m.I32(0) // private
	m.Null() // raw keyed state
	m.I32(0) // channel state
	m.I32(0)
	return m.B
}
