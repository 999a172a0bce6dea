package fsutil

import (
	"os"
	"path"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// localDirs opens directories below a root through os.Root, and lets all calls that use one directory at a time share
// one descriptor. os.Root alone walks down from the root in each call, a system call or two per level: for 10,000
// small files by 32 workers that is five times the cost of the files themselves. The last one out closes it, so
// nothing is open between calls.
//
// What is done in a directory names one element and follows no symbolic link: it stays in the jail.
type localDirs struct {
	root string

	mu   sync.Mutex
	open map[string]*localDir // by name below the root, "." is the root
}

// localDir is an open directory.
type localDir struct {
	s    *localDirs
	name string
	f    *os.File
	fd   int
	self unix.Stat_t
	refs int // guarded by localDirs.mu
}

func newLocalDirs(root string) *localDirs {
	return &localDirs{root: root, open: map[string]*localDir{}}
}

// enter gives the directory that name is now; whoever enters it calls leave.
func (s *localDirs) enter(name string) (*localDir, error) {
	s.mu.Lock()
	d := s.open[name]
	if d != nil {
		d.refs++
	}
	s.mu.Unlock()
	if d != nil {
		if d.isCurrent() {
			return d, nil
		}
		d.leave()
	}
	return s.enterNew(name)
}

func (s *localDirs) enterNew(name string) (*localDir, error) {
	jail, err := os.OpenRoot(s.root)
	if err != nil {
		return nil, err
	}
	defer jail.Close() // nothing is written through it
	f, err := jail.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	d := &localDir{s: s, name: name, f: f, fd: int(f.Fd()), refs: 1}
	if err := unix.Fstat(d.fd, &d.self); err != nil {
		_ = f.Close() // not used
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.open[name]; other != nil && sameFile(&other.self, &d.self) {
		other.refs++
		_ = f.Close() // not used
		return other, nil
	}
	s.open[name] = d
	return d, nil
}

// isCurrent reports whether the path still leads to this directory: it may have been removed and made again, and a
// root may have been mounted over.
func (d *localDir) isCurrent() bool {
	var now unix.Stat_t
	err := retryInterrupted(func() error { return unix.Stat(filepath.Join(d.s.root, filepath.FromSlash(d.name)), &now) })
	return err == nil && sameFile(&now, &d.self)
}

func (d *localDir) leave() {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	if d.refs--; d.refs > 0 {
		return
	}
	if d.s.open[d.name] == d {
		delete(d.s.open, d.name)
	}
	_ = d.f.Close() // nothing is written through it
}

func sameFile(a, b *unix.Stat_t) bool { return a.Dev == b.Dev && a.Ino == b.Ino }

// openFile is openat(2). A symbolic link is ELOOP.
func (d *localDir) openFile(base string, flags int, mode uint32) (*os.File, error) {
	fd := -1
	err := retryInterrupted(func() (err error) {
		fd, err = unix.Openat(d.fd, base, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		return err
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path.Join(d.name, base)), nil
}

// lstat is fstatat(2) of the entry itself.
func (d *localDir) lstat(base string) (unix.Stat_t, error) {
	var stat unix.Stat_t
	err := retryInterrupted(func() error { return unix.Fstatat(d.fd, base, &stat, unix.AT_SYMLINK_NOFOLLOW) })
	return stat, err
}

// rename moves an entry to another directory.
func (d *localDir) rename(base string, to *localDir, toBase string) error {
	return retryInterrupted(func() error { return unix.Renameat(d.fd, base, to.fd, toBase) })
}

// remove deletes a file, a symbolic link or an empty directory.
func (d *localDir) remove(base string) error {
	err := retryInterrupted(func() error { return unix.Unlinkat(d.fd, base, 0) })
	if err == unix.EISDIR || err == unix.EPERM { // EPERM: POSIX's word for it
		if dirErr := retryInterrupted(func() error { return unix.Unlinkat(d.fd, base, unix.AT_REMOVEDIR) }); dirErr != unix.ENOTDIR {
			return dirErr
		}
	}
	return err
}

func retryInterrupted(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

func isSymlink(stat *unix.Stat_t) bool { return stat.Mode&unix.S_IFMT == unix.S_IFLNK }
func isDir(stat *unix.Stat_t) bool     { return stat.Mode&unix.S_IFMT == unix.S_IFDIR }
