package fsutil

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
)

// HDFS opens places on HDFS clusters, and owns the connections: one set for each nameservice or host. All methods
// are safe for concurrent use.
//
// The client library (github.com/colinmarc/hdfs/v2) is used as released. What it gets wrong is caught here: see
// hdfs_read.go (corrupt replicas, unfinished and replaced files), hdfs_write.go (writes that look finished),
// hdfs_conn.go (no time limits), hadoopconf.go (merged nameservices, wire modes that don't work).
type HDFS struct {
	cfg HDFSConfig

	mu       sync.Mutex
	conf     hadoopConf // nil until it is read
	clusters map[string]*cluster
	closed   bool
}

// NewHDFS connects to nothing and reads nothing yet.
func NewHDFS(cfg HDFSConfig) *HDFS {
	return &HDFS{cfg: cfg.withDefaults(), clusters: map[string]*cluster{}}
}

// Open is for reading and writing below root, hdfs://NAMESERVICE/path or hdfs://HOST[:PORT]/path. It asks the namenode
// once, so a wrong address, user or Kerberos ticket is found here. A wire mode or mount that doesn't work is ErrUnsupported.
// The FS lives until Close.
func (h *HDFS) Open(ctx context.Context, root URI) (FS, error) {
	r, err := h.open(ctx, root)
	if err != nil {
		return nil, err
	}
	return &hdfsFS{hdfsRead: r}, nil
}

// OpenRead is Open for reading alone: what it returns has no method that writes.
func (h *HDFS) OpenRead(ctx context.Context, root URI) (ReadFS, error) {
	r, err := h.open(ctx, root)
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (h *HDFS) open(ctx context.Context, root URI) (*hdfsRead, error) {
	if err := checkHDFSRoot(root); err != nil {
		return nil, fmt.Errorf("open %s: %w", root, err)
	}
	c, err := h.cluster(root.Authority)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", root, err)
	}
	r := &hdfsRead{root: root, cluster: c}
	if _, err := r.Stat(ctx, "."); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open %s: %w", root, err)
	}
	return r, nil
}

func checkHDFSRoot(root URI) error {
	switch {
	case root.Scheme == "viewfs":
		return fmt.Errorf("viewfs mounts are not resolved: write the hdfs:// URI of the nameservice behind the mount: %w", ErrUnsupported)
	case root.Scheme != "hdfs":
		return fmt.Errorf("scheme %q is not hdfs: %w", root.Scheme, ErrUnsupported)
	case !path.IsAbs(root.Path):
		return fmt.Errorf("the path is not absolute: %w", fs.ErrInvalid)
	case root.Path == "/.reserved" || strings.HasPrefix(root.Path, "/.reserved/"):
		return fmt.Errorf("/.reserved is HDFS's own view of other files (raw, by inode): %w", fs.ErrInvalid)
	}
	return nil
}

// cluster is the one that authority names; "" is fs.defaultFS.
func (h *HDFS) cluster(authority string) (*cluster, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errClosed
	}
	if c, ok := h.clusters[authority]; ok {
		return c, nil
	}
	if h.conf == nil {
		conf, err := loadHadoopConf(h.cfg.ConfDir)
		if err != nil {
			return nil, err
		}
		h.conf = conf
	}
	name := authority
	if name == "" {
		var err error
		if name, err = h.conf.defaultAuthority(); err != nil {
			return nil, err
		}
	}
	addrs, err := h.conf.namenodes(name, h.cfg.Namenodes)
	if err != nil {
		return nil, err
	}
	c, err := newCluster(name, addrs, h.conf, h.cfg)
	if err != nil {
		return nil, err
	}
	h.clusters[authority] = c
	return c, nil
}

// Close ends all connections. What was opened answers fs.ErrClosed from then on. Closing again does nothing.
func (h *HDFS) Close() error {
	h.mu.Lock()
	clusters := h.clusters
	h.clusters, h.closed = nil, true
	h.mu.Unlock()
	for _, c := range clusters {
		c.close()
	}
	return nil
}

// hdfsRead is a ReadFS below one directory of a cluster.
type hdfsRead struct {
	root    URI
	cluster *cluster
}

// hdfsFS writes as well.
type hdfsFS struct{ *hdfsRead }

var (
	_ ReadFS          = (*hdfsRead)(nil)
	_ FS              = (*hdfsFS)(nil)
	_ UncheckedOpener = (*hdfsRead)(nil)
)

// UncheckedOpener is what a ReadFS may have beside its methods: Open without the comparison, at the file's end, of
// what was read with the digest that the file system keeps. It is for callers that compare a digest of their own, as
// when a file is read back that was just written. Errors are those of Open; bytes that the storage itself knows to be
// wrong are still not handed out.
type UncheckedOpener interface {
	OpenUnchecked(ctx context.Context, name string, offset int64) (io.ReadCloser, error)
}

// Root implements ReadFS.
func (r *hdfsRead) Root() URI { return r.root }

func (r *hdfsRead) path(name string) string { return path.Join(r.root.Path, name) }

// fail wraps an error once, with the verb and the whole name.
func (r *hdfsRead) fail(op, name string, err error) error {
	return fmt.Errorf("%s %s: %w", op, r.root.Join(name), err)
}

// missing makes "a file is where a directory should be" what it is for a reader: the name does not exist.
func missing(err error) error {
	if remote := asRemote(err); remote != nil && remote.class == parentNotDirectory {
		return fmt.Errorf("a file is where a directory should be: %w", fs.ErrNotExist)
	}
	return err
}

// Stat implements ReadFS.
func (r *hdfsRead) Stat(ctx context.Context, name string) (FileInfo, error) {
	if err := checkName("stat", r.root, name); err != nil {
		return FileInfo{}, err
	}
	status, err := r.status(ctx, name)
	if err != nil {
		return FileInfo{}, r.fail("stat", name, err)
	}
	return status.info(path.Base(name)), nil
}

func (s fileStatus) info(name string) FileInfo {
	info := FileInfo{Name: name, ModTime: time.UnixMilli(s.modifiedMillis()), IsDir: s.isDir()}
	if !info.IsDir {
		info.Size = s.length()
	}
	return info
}

func (r *hdfsRead) status(ctx context.Context, name string) (fileStatus, error) {
	s, err := repeat(ctx, r.cluster, func(m *member, _ attempt) (fileStatus, error) { return m.status(r.path(name)) })
	return s, missing(err)
}

// status is getFileInfo.
func (m *member) status(path string) (fileStatus, error) {
	resp, err := m.ask("getFileInfo", "GetFileInfo", protoFields{"src": path})
	if err != nil {
		return fileStatus{}, err
	}
	if !hasProtoField(resp, "fs") {
		return fileStatus{}, fs.ErrNotExist
	}
	return fileStatus{protoMessage(resp, "fs")}, nil
}

// List implements ReadFS. One call for each thousand entries (dfs.ls.limit).
func (r *hdfsRead) List(ctx context.Context, dir string) ([]FileInfo, error) {
	if err := checkName("list", r.root, dir); err != nil {
		return nil, err
	}
	infos := []FileInfo{}
	for after := []byte{}; after != nil; {
		page, err := repeat(ctx, r.cluster, func(m *member, _ attempt) (proto.Message, error) {
			return m.ask("getListing", "GetListing", protoFields{"src": r.path(dir), "startAfter": after, "needLocation": false})
		})
		if err == nil && !hasProtoField(page, "dirList") {
			err = fs.ErrNotExist
		}
		if err != nil {
			return nil, r.fail("list", dir, missing(err))
		}
		listing := protoMessage(page, "dirList")
		entries := protoMessages(listing, "partialListing")
		after = nil
		for _, entry := range entries {
			s := fileStatus{entry}
			if s.name() == "" { // a file is listed as itself
				return nil, r.fail("list", dir, fmt.Errorf("a file, not a directory: %w", fs.ErrInvalid))
			}
			infos = append(infos, s.info(s.name()))
		}
		if protoField(listing, "remainingEntries").Uint() > 0 && len(entries) > 0 {
			after = []byte(infos[len(infos)-1].Name)
		}
	}
	// HDFS sorts by the bytes of the names, as we do; a directory that changed between two pages may not be sorted.
	slices.SortFunc(infos, func(a, b FileInfo) int { return strings.Compare(a.Name, b.Name) })
	return infos, nil
}
