package fsutil

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// Memory is an FS in memory, for tests. Beside its tree as everybody sees it, it knows what a disk would hold: only
// what the contract of FS promises to be durable (bytes that were committed, names that were renamed, removals).
// CrashClone is the file system after a power loss.
type Memory struct {
	root URI

	mu   sync.Mutex
	tree *memoryNode
}

var _ FS = (*Memory)(nil)

// memoryNode is a file or (children != nil) a directory. All fields are guarded by Memory.mu; bytes below len(data)
// never change, so a reader may keep a slice of them.
type memoryNode struct {
	modTime time.Time

	children map[string]*memoryNode // as everybody sees it
	durable  map[string]*memoryNode // the entries that survive a crash

	data   []byte
	synced int // how many bytes of data survive a crash
}

// NewMemory makes an empty file system. root is what Root returns: a scheme that the code under test accepts.
func NewMemory(root URI) *Memory { return &Memory{root: root, tree: newMemoryDir(memoryNow())} }

// memoryNow has the precision of HDFS.
func memoryNow() time.Time { return time.Now().Truncate(time.Millisecond) }

func newMemoryDir(now time.Time) *memoryNode {
	return &memoryNode{modTime: now, children: map[string]*memoryNode{}, durable: map[string]*memoryNode{}}
}

func (n *memoryNode) isDir() bool { return n.children != nil }

// Root implements ReadFS.
func (m *Memory) Root() URI { return m.root }

// find is the node under name, or nil. A file on the way is an absent name. The caller holds mu.
func (m *Memory) find(name string) *memoryNode {
	n := m.tree
	if name == "." {
		return n
	}
	for element := range strings.SplitSeq(name, "/") {
		if n = n.children[element]; n == nil {
			return nil
		}
	}
	return n
}

// makeParent is the directory that holds name; it is made, with its parents, where it is absent. The caller holds mu.
func (m *Memory) makeParent(name string) (*memoryNode, error) {
	n := m.tree
	dir := path.Dir(name)
	if dir == "." {
		return n, nil
	}
	for element := range strings.SplitSeq(dir, "/") {
		child := n.children[element]
		if child == nil {
			child = newMemoryDir(memoryNow())
			n.children[element], n.modTime = child, child.modTime
		}
		if !child.isDir() {
			return nil, fmt.Errorf("%q in it is a file: %w", element, fs.ErrInvalid)
		}
		n = child
	}
	return n, nil
}

func (m *Memory) fail(op, name string, err error) error {
	return fmt.Errorf("%s %s: %w", op, m.root.Join(name), err)
}

// Open implements ReadFS. The reader sees the bytes that the file has now.
func (m *Memory) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	if err := checkName("open", m.root, name); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.find(name)
	switch {
	case ctx.Err() != nil:
		return nil, m.fail("open", name, ctx.Err())
	case n == nil:
		return nil, m.fail("open", name, fs.ErrNotExist)
	case n.isDir():
		return nil, m.fail("open", name, fmt.Errorf("a directory: %w", fs.ErrInvalid))
	case offset < 0 || offset > int64(len(n.data)):
		return nil, m.fail("open", name, offsetError(offset, int64(len(n.data))))
	}
	return &memoryReader{left: n.data[offset:len(n.data):len(n.data)], ctxErr: ctx.Err}, nil
}

func offsetError(offset, size int64) error {
	return fmt.Errorf("offset %d of a file of %d bytes: %w", offset, size, fs.ErrInvalid)
}

type memoryReader struct {
	left   []byte
	ctxErr func() error // of the ctx given to Open, which bounds the reading too
	closed bool
}

func (r *memoryReader) Read(p []byte) (int, error) {
	switch {
	case r.closed:
		return 0, fmt.Errorf("read: %w", fs.ErrClosed)
	case r.ctxErr() != nil:
		return 0, fmt.Errorf("read: %w", r.ctxErr())
	case len(p) == 0:
		return 0, nil
	case len(r.left) == 0:
		return 0, io.EOF
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

func (r *memoryReader) Close() error {
	r.closed, r.left = true, nil
	return nil
}

// Stat implements ReadFS.
func (m *Memory) Stat(ctx context.Context, name string) (FileInfo, error) {
	if err := checkName("stat", m.root, name); err != nil {
		return FileInfo{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.find(name)
	switch {
	case ctx.Err() != nil:
		return FileInfo{}, m.fail("stat", name, ctx.Err())
	case n == nil:
		return FileInfo{}, m.fail("stat", name, fs.ErrNotExist)
	}
	return n.info(path.Base(name)), nil
}

func (n *memoryNode) info(name string) FileInfo {
	return FileInfo{Name: name, Size: int64(len(n.data)), ModTime: n.modTime, IsDir: n.isDir()}
}

// List implements ReadFS.
func (m *Memory) List(ctx context.Context, dir string) ([]FileInfo, error) {
	if err := checkName("list", m.root, dir); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.find(dir)
	switch {
	case ctx.Err() != nil:
		return nil, m.fail("list", dir, ctx.Err())
	case n == nil:
		return nil, m.fail("list", dir, fs.ErrNotExist)
	case !n.isDir():
		return nil, m.fail("list", dir, fmt.Errorf("a file, not a directory: %w", fs.ErrInvalid))
	}
	infos := make([]FileInfo, 0, len(n.children))
	for name, child := range n.children {
		infos = append(infos, child.info(name))
	}
	slices.SortFunc(infos, func(a, b FileInfo) int { return strings.Compare(a.Name, b.Name) })
	return infos, nil
}

// Create implements FS.
func (m *Memory) Create(ctx context.Context, name string) (File, error) {
	if err := checkEntry("create", m.root, name); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil {
		return nil, m.fail("create", name, ctx.Err())
	}
	if m.find(name) != nil {
		return nil, m.fail("create", name, fs.ErrExist)
	}
	dir, err := m.makeParent(name)
	if err != nil {
		return nil, m.fail("create", name, err)
	}
	n := &memoryNode{modTime: memoryNow()}
	dir.children[path.Base(name)], dir.modTime = n, n.modTime
	return &memoryFile{m: m, name: name, node: n, ctxErr: ctx.Err}, nil
}

// Rename implements FS.
func (m *Memory) Rename(ctx context.Context, from, to string) error {
	if err := checkEntry("rename", m.root, from); err != nil {
		return err
	}
	if err := checkEntry("rename to", m.root, to); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n, old := m.find(from), m.find(to)
	switch {
	case ctx.Err() != nil:
		return m.fail("rename", from, ctx.Err())
	case n == nil:
		return m.fail("rename", from, fs.ErrNotExist)
	case n.isDir():
		return m.fail("rename", from, fmt.Errorf("a directory: %w", fs.ErrInvalid))
	case old != nil && old.isDir():
		return m.fail("rename", from, fmt.Errorf("to %s, which is a directory: %w", to, fs.ErrInvalid))
	}
	dir, err := m.makeParent(to)
	if err != nil {
		return m.fail("rename", from, fmt.Errorf("to %s: %w", to, err))
	}
	now, fromDir := memoryNow(), m.find(path.Dir(from))
	delete(fromDir.children, path.Base(from))
	delete(fromDir.durable, path.Base(from))
	dir.children[path.Base(to)], dir.durable[path.Base(to)] = n, n
	fromDir.modTime, dir.modTime = now, now
	for p := path.Dir(to); p != "."; p = path.Dir(p) { // a durable name needs durable parents
		m.find(path.Dir(p)).durable[path.Base(p)] = m.find(p)
	}
	return nil
}

// Remove implements FS.
func (m *Memory) Remove(ctx context.Context, name string) error {
	if err := checkEntry("remove", m.root, name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.find(name)
	switch {
	case ctx.Err() != nil:
		return m.fail("remove", name, ctx.Err())
	case n == nil:
		return nil
	case len(n.children) > 0:
		return m.fail("remove", name, fmt.Errorf("directory not empty: %w", fs.ErrExist))
	}
	dir := m.find(path.Dir(name))
	delete(dir.children, path.Base(name))
	delete(dir.durable, path.Base(name))
	dir.modTime = memoryNow()
	return nil
}

// memoryFile is a File of Memory.
type memoryFile struct {
	m      *Memory
	name   string
	node   *memoryNode
	ctxErr func() error // of the ctx given to Create, which bounds the writing too
	err    error        // the first failure, or ErrClosed after Commit and Abort
	done   bool         // committed or aborted
}

func (f *memoryFile) Write(p []byte) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.usable(f.ctxErr()); err != nil {
		return 0, f.m.fail("write", f.name, err)
	}
	f.node.data = append(f.node.data, p...)
	f.node.modTime = memoryNow()
	return len(p), nil
}

func (f *memoryFile) usable(ctxErr error) error {
	if f.err == nil {
		f.err = ctxErr
	}
	return f.err
}

func (f *memoryFile) Commit(ctx context.Context) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.usable(ctx.Err()); err != nil {
		return f.m.fail("commit", f.name, err)
	}
	f.node.synced = len(f.node.data)
	f.err, f.done = fs.ErrClosed, true
	return nil
}

func (f *memoryFile) Abort() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.done {
		return nil
	}
	f.err, f.done = fs.ErrClosed, true
	// The name may have been removed and made again by somebody else since.
	if f.m.find(f.name) == f.node {
		dir := f.m.find(path.Dir(f.name))
		delete(dir.children, path.Base(f.name))
		delete(dir.durable, path.Base(f.name))
	}
	return nil
}

// Keep implements Keeper.
func (f *memoryFile) Keep(context.Context) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if !f.done {
		f.err, f.done = fs.ErrClosed, true
	}
	return nil
}

// CrashClone is a copy as a power loss would leave it at worst: bytes that were not committed and names that were
// not renamed into place are gone. m stays as it is, and the two share nothing.
func (m *Memory) CrashClone() *Memory {
	return m.crash(func(int) int { return 0 })
}

// CrashCloneRandom is CrashClone with luck: a name that was not durable may have survived all the same, and a file
// that was not committed may hold any part of its bytes. So leftovers are seen as a real crash leaves them.
func (m *Memory) CrashCloneRandom(r *rand.Rand) *Memory {
	return m.crash(func(n int) int { return r.IntN(n + 1) })
}

// crash copies what is durable; luck(n) is how much of n things beyond that survives, 0 to n.
func (m *Memory) crash(luck func(n int) int) *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &Memory{root: m.root, tree: m.tree.crash(luck)}
}

func (n *memoryNode) crash(luck func(n int) int) *memoryNode {
	if !n.isDir() {
		kept := n.synced + luck(len(n.data)-n.synced)
		return &memoryNode{modTime: n.modTime, data: slices.Clone(n.data[:kept]), synced: kept}
	}
	c := newMemoryDir(n.modTime)
	keep := func(name string, child *memoryNode) {
		c.children[name] = child.crash(luck)
		c.durable[name] = c.children[name]
	}
	for _, name := range slices.Sorted(maps.Keys(n.durable)) {
		keep(name, n.durable[name])
	}
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		if n.durable[name] == nil && luck(1) == 1 {
			keep(name, n.children[name])
		}
	}
	return c
}
