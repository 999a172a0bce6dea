package fsutil

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// LocalRead is a ReadFS on a directory of this machine, or one that is mounted on it. os.Root keeps it inside of the
// directory: a symbolic link below the root may lead anywhere in it, but not out (ErrUnsupported). The root itself
// may be a symbolic link.
//
// Directories are looked up by their path at each call, and nothing is kept open but what is being read or written:
// a root that is unmounted, replaced or made later is seen as it is now. ctx is looked at between system calls; a
// call that hangs (a dead NFS server) can't be ended.
type LocalRead struct {
	root URI
	dir  string
	dirs *localDirs
}

var _ ReadFS = (*LocalRead)(nil)

// OpenLocalRead reads the directory that a file URI names. It may be absent: then so is every file in it.
func OpenLocalRead(root URI) (*LocalRead, error) {
	if root.Scheme != "file" || !path.IsAbs(root.Path) {
		return nil, fmt.Errorf("open %s: not the URI of a local directory (file:/…): %w", root, fs.ErrInvalid)
	}
	dir := filepath.FromSlash(root.Path)
	return &LocalRead{root: root, dir: dir, dirs: newLocalDirs(dir)}, nil
}

// Root implements ReadFS.
func (l *LocalRead) Root() URI { return l.root }

// fail wraps an error of package os once, with the verb and the whole name.
func (l *LocalRead) fail(op, name string, err error) error {
	return fmt.Errorf("%s %s: %w", op, l.root.Join(name), causeOf(err))
}

// absent is fail for an absent name: also what lies below a file is fs.ErrNotExist.
func (l *LocalRead) absent(op, name string, err error) error {
	if errors.Is(err, syscall.ENOTDIR) {
		err = fmt.Errorf("a file is where a directory should be: %w", fs.ErrNotExist)
	}
	return l.fail(op, name, err)
}

// check is what every call does first.
func (l *LocalRead) check(ctx context.Context, op, name string) error {
	if err := checkName(op, l.root, name); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return l.fail(op, name, err)
	}
	return nil
}

// Open implements ReadFS.
func (l *LocalRead) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	if err := l.check(ctx, "open", name); err != nil {
		return nil, err
	}
	d, err := l.dirs.enter(path.Dir(name))
	if err != nil {
		return nil, l.absent("open", name, err)
	}
	// O_NONBLOCK changes nothing for a file; without it a named pipe would hang here.
	const flags = os.O_RDONLY | syscall.O_NONBLOCK
	f, err := d.openFile(path.Base(name), flags, 0)
	if err == syscall.ELOOP {
		err = l.inJail(func(jail *os.Root) (err error) {
			f, err = jail.OpenFile(name, flags, 0)
			return err
		})
	}
	if err != nil {
		d.leave()
		return nil, l.absent("open", name, err)
	}
	size, err := checkReadable(f, offset)
	if err != nil {
		d.leave()
		_ = f.Close() // not read
		return nil, l.fail("open", name, err)
	}
	return &localReader{f: f, in: d, where: l.root.Join(name), ctxErr: ctx.Err, left: size - offset}, nil
}

// inJail runs do for a name whose last element may be a symbolic link.
func (l *LocalRead) inJail(do func(*os.Root) error) error {
	jail, err := os.OpenRoot(l.dir)
	if err != nil {
		return err
	}
	defer jail.Close() // nothing is written through it
	return do(jail)
}

// checkReadable brings f to offset, and says how long it is now.
func checkReadable(f *os.File, offset int64) (size int64, err error) {
	info, err := f.Stat()
	switch {
	case err != nil:
		return 0, err
	case info.IsDir():
		return 0, fmt.Errorf("a directory: %w", fs.ErrInvalid)
	case !info.Mode().IsRegular():
		return 0, fmt.Errorf("not a regular file (%s): %w", info.Mode().Type(), ErrUnsupported)
	case offset < 0 || offset > info.Size():
		return 0, offsetError(offset, info.Size())
	case offset > 0:
		_, err = f.Seek(offset, io.SeekStart)
	}
	return info.Size(), err
}

// localReader counts down the length that the file had when it was opened, so that a file which was cut off since
// doesn't look like one that was read to its end. What was appended since is read as well.
type localReader struct {
	f      *os.File
	in     *localDir // held, so that whoever reads beside it finds it open
	where  URI
	ctxErr func() error // of the ctx given to Open, which bounds the reading too
	left   int64        // may become negative
}

func (r *localReader) Read(p []byte) (int, error) {
	if err := r.ctxErr(); err != nil {
		return 0, fmt.Errorf("read %s: %w", r.where, err)
	}
	n, err := r.f.Read(p)
	r.left -= int64(n)
	switch {
	case err == io.EOF && r.left > 0:
		return n, fmt.Errorf("read %s: ended %d bytes before the length it was opened with: %w", r.where, r.left, ErrCorrupt)
	case err == io.EOF, err == nil:
		return n, err
	}
	return n, fmt.Errorf("read %s: %w", r.where, causeOf(err))
}

func (r *localReader) Close() error {
	if r.in != nil {
		r.in.leave()
		r.in = nil
	}
	if err := r.f.Close(); err != nil {
		return fmt.Errorf("close %s: %w", r.where, causeOf(err))
	}
	return nil
}

// Stat implements ReadFS. A symbolic link is what it leads to.
func (l *LocalRead) Stat(ctx context.Context, name string) (FileInfo, error) {
	if err := l.check(ctx, "stat", name); err != nil {
		return FileInfo{}, err
	}
	d, err := l.dirs.enter(path.Dir(name))
	if err != nil {
		return FileInfo{}, l.absent("stat", name, err)
	}
	defer d.leave()
	stat, err := d.lstat(path.Base(name))
	if err != nil {
		return FileInfo{}, l.absent("stat", name, err)
	}
	if isSymlink(&stat) {
		return l.statBehind(name)
	}
	info := FileInfo{Name: path.Base(name), Size: stat.Size, ModTime: time.Unix(stat.Mtim.Unix()), IsDir: isDir(&stat)}
	if info.IsDir {
		info.Size = 0
	}
	return info, nil
}

// statBehind follows a symbolic link.
func (l *LocalRead) statBehind(name string) (info FileInfo, err error) {
	err = l.inJail(func(jail *os.Root) error {
		got, err := jail.Stat(name)
		if err == nil {
			info = localInfo(path.Base(name), got)
		}
		return err
	})
	if err != nil {
		return FileInfo{}, l.absent("stat", name, err)
	}
	return info, nil
}

func localInfo(name string, i fs.FileInfo) FileInfo {
	info := FileInfo{Name: name, Size: i.Size(), ModTime: i.ModTime(), IsDir: i.IsDir()}
	if info.IsDir {
		info.Size = 0 // of the directory's own blocks
	}
	return info
}

// List implements ReadFS. A symbolic link is what it leads to; one that leads to nothing or out of the root is listed
// as a file of 0 bytes, which Open then refuses with the reason.
func (l *LocalRead) List(ctx context.Context, dir string) ([]FileInfo, error) {
	if err := l.check(ctx, "list", dir); err != nil {
		return nil, err
	}
	var infos []FileInfo
	err := l.inJail(func(jail *os.Root) error {
		i, err := jail.Stat(dir)
		switch {
		case err != nil:
			return err
		case !i.IsDir():
			return fmt.Errorf("a file, not a directory: %w", fs.ErrInvalid)
		}
		infos, err = listLocal(ctx, jail, dir)
		return err
	})
	if err != nil {
		return nil, l.absent("list", dir, err)
	}
	return infos, nil
}

func listLocal(ctx context.Context, jail *os.Root, dir string) ([]FileInfo, error) {
	// A jail at dir makes each Lstat one system call. os.DirEntry.Info would look the path up outside of any jail.
	inner, err := jail.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer inner.Close()
	d, err := inner.Open(".")
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }() // only read
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	infos := make([]FileInfo, 0, len(names))
	for i, name := range names {
		if i%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		got, err := inner.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since it was listed
		} else if err != nil {
			return nil, err
		}
		info := localInfo(name, got)
		if got.Mode()&fs.ModeSymlink != 0 {
			info.Size = 0 // of the link's text
			if behind, err := jail.Stat(path.Join(dir, name)); err == nil {
				info = localInfo(name, behind)
			}
		}
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b FileInfo) int { return strings.Compare(a.Name, b.Name) })
	return infos, nil
}
