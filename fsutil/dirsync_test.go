package fsutil

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestSyncSharesRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rounds, changes atomic.Int64
		var covered atomic.Int64 // how many changes the last finished fsync has seen
		s := newDirSync(func(string) error {
			rounds.Add(1)
			seen := changes.Load()
			time.Sleep(time.Millisecond) // of the bubble's clock
			covered.Store(seen)
			return nil
		})
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				mine := changes.Add(1)
				if err := s.sync(t.Context(), "d"); err != nil {
					t.Error(err)
				}
				if covered.Load() < mine {
					t.Error("sync returned before an fsync that started after the change")
				}
			})
		}
		wg.Wait()
		if n := rounds.Load(); n > 2 {
			t.Errorf("%d fsyncs for changes that were all made at once", n)
		}
		if len(s.queues) != 0 {
			t.Errorf("%d queues are left", len(s.queues))
		}
	})
}

func TestSyncOfTwoDirectoriesDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newDirSync(func(string) error { time.Sleep(time.Second); return nil })
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				if err := s.sync(t.Context(), fmt.Sprint(i)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(start); took != time.Second {
			t.Errorf("10 directories took %v", took)
		}
	})
}

func TestSyncFailsEveryoneInTheRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("disk is broken")
		var fails atomic.Bool
		fails.Store(true)
		s := newDirSync(func(string) error {
			time.Sleep(time.Second)
			if fails.Load() {
				return broken
			}
			return nil
		})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if err := s.sync(t.Context(), "d"); !errors.Is(err, broken) {
					t.Errorf("sync = %v", err)
				}
			})
		}
		wg.Wait()
		if err := s.settle(t.Context(), "d"); !errors.Is(err, broken) {
			t.Errorf("settle after an fsync that failed = %v", err)
		}
		fails.Store(false)
		start := time.Now()
		if err := s.settle(t.Context(), "d"); err != nil || time.Since(start) == 0 {
			t.Errorf("settle = %v, without another fsync", err)
		}
		start = time.Now()
		if err := s.settle(t.Context(), "d"); err != nil || time.Since(start) != 0 {
			t.Errorf("settle of what is settled = %v, with an fsync", err)
		}
	})
}

func TestSyncDoesNotOutliveItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newDirSync(func(string) error { time.Sleep(time.Hour); return nil })
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := s.sync(context.WithoutCancel(t.Context()), "d"); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := s.sync(ctx, "d"); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("sync = %v after %v", err, time.Since(start))
		}
		wg.Wait()
		start = time.Now()
		if err := s.settle(t.Context(), "d"); err != nil || time.Since(start) == 0 {
			t.Errorf("settle = %v; want an fsync for the change that nobody waited for", err)
		}
	})
}

// platter is what the disk holds of the directories: at every fsync, their entries of that moment.
type platter struct {
	root string

	mu      sync.Mutex
	entries map[inode]map[string]inode
}

type inode uint64

func inodeOf(i fs.FileInfo) inode { return inode(i.Sys().(*syscall.Stat_t).Ino) }

// platterOf records the fsyncs of l.
func platterOf(t *testing.T, l *Local) *platter {
	p := &platter{root: l.dir, entries: map[inode]map[string]inode{}}
	fsync := l.synced.fsync
	l.synced.fsync = func(dir string) error {
		d, err := os.Open(filepath.Join(l.dir, dir))
		if errors.Is(err, fs.ErrNotExist) {
			return fsync(dir)
		} else if err != nil {
			return err
		}
		t.Cleanup(func() { _ = d.Close() }) // while it is open, its inode is given to no other directory
		self, err := d.Stat()
		if err != nil {
			return err
		}
		names, err := d.Readdirnames(-1)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // removed since it was opened
			return err
		}
		entries := map[string]inode{}
		for _, name := range names {
			if i, err := os.Lstat(fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name)); err == nil {
				entries[name] = inodeOf(i)
			}
		}
		if err := fsync(dir); err != nil {
			return err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.entries[inodeOf(self)] = entries
		return nil
	}
	return p
}

// holds reports whether name survives a power loss: its entry, and those of its directories.
func (p *platter) holds(name string) bool {
	root, err := os.Stat(p.root)
	if err != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	at := inodeOf(root)
	for element := range strings.SplitSeq(name, "/") {
		entry, there := p.entries[at][element]
		if !there {
			return false
		}
		at = entry
	}
	return true
}

func TestRenameAndRemoveAreOnTheDiskWhenTheyReturn(t *testing.T) {
	l, err := OpenLocal(URI{Scheme: "file", Path: path.Join(t.TempDir(), "root")})
	if err != nil {
		t.Fatal(err)
	}
	p := platterOf(t, l)
	step := func(i, n int) error {
		ctx := t.Context()
		tmp, to := fmt.Sprintf("tmp/%d/%d", i%3, i), fmt.Sprintf("job%d/%d/shared/%d", n%3, n%2, i)
		f, err := l.Create(ctx, tmp)
		if err != nil {
			return err
		}
		if err := f.Commit(ctx); err != nil {
			return err
		}
		if err := l.Rename(ctx, tmp, to); err != nil {
			return err
		}
		if !p.holds(to) || p.holds(tmp) {
			return fmt.Errorf("after the rename %s is on the disk: %v, and %s: %v", to, p.holds(to), tmp, p.holds(tmp))
		}
		if err := l.Remove(ctx, to); err != nil {
			return err
		}
		if p.holds(to) {
			return fmt.Errorf("after the removal %s is still on the disk", to)
		}
		for dir := path.Dir(to); dir != "."; dir = path.Dir(dir) { // the next one has to make them again
			if err := l.Remove(ctx, dir); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
		return nil
	}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for n := range 25 {
				if err := step(i, n); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestRenameBelievesNoDirectoryThatItDidNotSync(t *testing.T) {
	dir := t.TempDir()
	// Another process made them, and died before it synced them.
	if err := os.MkdirAll(filepath.Join(dir, "job/shared"), 0o777); err != nil {
		t.Fatal(err)
	}
	l, err := OpenLocal(URI{Scheme: "file", Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	p := platterOf(t, l)
	f, err := l.Create(t.Context(), "job/tmp")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Rename(t.Context(), "job/tmp", "job/shared/f"); err != nil {
		t.Fatal(err)
	}
	if !p.holds("job/shared/f") {
		t.Errorf("on the disk: %v", p.entries)
	}
}

func TestRenameTellsThatItsDirectoryIsNotOnTheDisk(t *testing.T) {
	l, err := OpenLocal(URI{Scheme: "file", Path: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.Create(t.Context(), "tmp")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.synced.fsync = func(string) error { return &fs.PathError{Op: "sync", Path: "x", Err: syscall.EIO} }
	for _, tc := range []struct {
		call string
		do   func() error
	}{
		{"Rename", func() error { return l.Rename(t.Context(), "tmp", "d/f") }},
		{"Remove", func() error { return l.Remove(t.Context(), "d/f") }},
		{"Remove of what is gone, but maybe not on the disk", func() error { return l.Remove(t.Context(), "d/f") }},
	} {
		if err := tc.do(); !errors.Is(err, ErrUnavailable) || !errors.Is(err, syscall.EIO) {
			t.Errorf("%s = %v; want ErrUnavailable", tc.call, err)
		}
	}
}
