package fsutil

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sync"
)

// Rename implements FS: rename2 with overwrite, atomic and in the namenode's journal when it returns. The call is
// repeated after an answer was lost: the file's id tells whether it is there already.
func (h *hdfsFS) Rename(ctx context.Context, from, to string) error {
	if err := checkEntry("rename", h.root, from); err != nil {
		return err
	}
	if err := checkEntry("rename to", h.root, to); err != nil {
		return err
	}
	move := fileMove{from: h.path(from), to: h.path(to)}
	var known bool
	if move.id, known = h.cluster.paths.committed(move.from); !known {
		status, err := h.status(ctx, from)
		if err == nil && status.isDir() {
			err = fmt.Errorf("a directory: %w", fs.ErrInvalid)
		}
		if err != nil {
			return h.fail("rename", from, err)
		}
		move.id = status.id()
	}
	if move.from == move.to {
		return nil
	}
	_, err := repeat(ctx, h.cluster, func(m *member, past attempt) (struct{}, error) {
		return struct{}{}, h.cluster.rename(m, move, past)
	})
	if err != nil {
		return h.fail("rename", from, fmt.Errorf("to %s: %w", to, err))
	}
	h.cluster.paths.forget(move.from)
	return nil
}

// fileMove is a rename of the file with that id.
type fileMove struct {
	from, to string
	id       uint64
}

func (c *cluster) rename(m *member, move fileMove, past attempt) error {
	try := func() error {
		_, err := m.ask("rename2", "Rename2", protoFields{"src": move.from, "dst": move.to, "overwriteDest": true})
		return err
	}
	err := try()
	if remote := asRemote(err); remote == nil || !errors.Is(remote, fs.ErrNotExist) {
		return err
	}
	if past.unknown {
		there, err := m.status(move.to)
		if err == nil && there.id() == move.id {
			return nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if _, err := m.status(move.from); err != nil {
		return err
	}
	// So it is the parent of `to` that is absent.
	if err := m.makeDirs(path.Dir(move.to), c.umask); err != nil {
		return err
	}
	return try()
}

// makeDirs is mkdirs: with parents, nil where the directory is there.
func (m *member) makeDirs(dir string, umask uint32) error {
	_, err := m.ask("mkdirs", "Mkdirs", protoFields{
		"src": dir, "createParent": true, "masked": permission(dirMode &^ umask), "unmasked": permission(dirMode),
	})
	return err
}

// Remove implements FS.
func (h *hdfsFS) Remove(ctx context.Context, name string) error {
	if err := checkEntry("remove", h.root, name); err != nil {
		return err
	}
	p := h.path(name)
	if err := h.delete(ctx, p); err != nil && !errors.Is(missing(err), fs.ErrNotExist) {
		return h.fail("remove", name, err)
	}
	h.cluster.paths.forget(p)
	return nil
}

// delete is for one path, an absent one too.
func (h *hdfsFS) delete(ctx context.Context, path string) error {
	_, err := repeat(ctx, h.cluster, func(m *member, _ attempt) (struct{}, error) { return struct{}{}, m.delete(path) })
	return err
}

// delete is ClientProtocol's, not recursive. Its result, whether the path was there, is not needed.
func (m *member) delete(path string) error {
	_, err := m.ask("delete", "Delete", protoFields{"src": path, "recursive": false})
	return err
}

// pathTable knows the files that this process is writing, and those that it has written and not yet renamed. The zero
// value is ready. Safe for concurrent use.
type pathTable struct {
	mu      sync.Mutex
	writing map[string]struct{}
	written map[string]uint64 // file ids
}

// maxWritten bounds the table: names that are never renamed stay in it.
const maxWritten = 10_000

// begin marks a path as being written, and says whether it was free.
func (t *pathTable) begin(path string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, taken := t.writing[path]; taken {
		return false
	}
	if t.writing == nil {
		t.writing, t.written = map[string]struct{}{}, map[string]uint64{}
	}
	t.writing[path] = struct{}{}
	delete(t.written, path)
	return true
}

// commit ends begin: the path is the finished file with that id.
func (t *pathTable) commit(path string, id uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.writing, path)
	if len(t.written) >= maxWritten {
		clear(t.written) // costs those a question when they are renamed
	}
	t.written[path] = id
}

// committed is the id of a file that this process has written under path.
func (t *pathTable) committed(path string) (id uint64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	id, ok = t.written[path]
	return id, ok
}

// end forgets all about a path.
func (t *pathTable) end(path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.writing, path)
	delete(t.written, path)
}

// forget forgets what was written under a path, not that it is being written.
func (t *pathTable) forget(path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.written, path)
}
