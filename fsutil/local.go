package fsutil

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// As Java's and the shell's: the umask decides who else may read and remove what is written here, for Flink often
// runs as another user.
const (
	localFileMode = 0o666
	localDirMode  = 0o777
)

// makeTries is how often something is tried again because its parent directory was removed under it.
const makeTries = 16

// Local is an FS on a directory of this machine, or one that is mounted on it. See LocalRead for how it stays inside.
// The directory is made, with its parents, when the first file is created.
//
// Durability: Commit is fsync of the file; Rename and Remove are the system call and fsync of the directories whose
// entries it changed, up to the root where directories are new. Concurrent calls share the fsyncs of directories.
type Local struct {
	*LocalRead
	synced *dirSync

	makeRoot sync.Mutex // held while the root is made
}

var _ FS = (*Local)(nil)

// OpenLocal reads and writes the directory that a file URI names.
func OpenLocal(root URI) (*Local, error) {
	read, err := OpenLocalRead(root)
	if err != nil {
		return nil, err
	}
	l := &Local{LocalRead: read}
	l.synced = newDirSync(l.fsyncDir)
	return l, nil
}

func (l *Local) fsyncDir(dir string) error {
	d, err := l.dirs.enter(dir)
	if isAbsent(err) {
		return nil // removed since, and the entries with it
	} else if err != nil {
		return err
	}
	defer d.leave()
	err = d.f.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil // some network and FUSE file systems know no fsync of a directory: they write entries at once
	}
	return err
}

// withParents calls try again when it returned errNeedsParent, after the directories above name were made.
func (l *Local) withParents(op, name string, try func() error) error {
	for n := 1; ; n++ {
		err := try()
		if !errors.Is(err, errNeedsParent) {
			return err
		}
		if n == makeTries {
			return l.fail(op, name, fmt.Errorf("its directory is removed again and again: %w", ErrUnavailable))
		}
		if err := l.makeParents(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return l.fail(op, name, err)
		}
	}
}

var errNeedsParent = errors.New("the parent directory is absent")

// makeParents makes the directories above name, and the root. They become durable by dirSync.commit.
func (l *Local) makeParents(name string) error {
	if err := l.makeRootDir(); err != nil {
		return err
	}
	dir := path.Dir(name)
	if dir == "." {
		return nil
	}
	var names []string
	for d := dir; d != "."; d = path.Dir(d) {
		names = append(names, d)
	}
	l.synced.beginMove(names...)
	defer l.synced.endMove(names...)
	jail, err := os.OpenRoot(l.dir)
	if err != nil {
		return err
	}
	defer jail.Close() // nothing is written through it
	err = jail.MkdirAll(dir, localDirMode)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTDIR) {
		return whatIsNoDirectory(jail, names)
	}
	return err
}

// whatIsNoDirectory explains why names, some of which is there, can't be made: fs.ErrInvalid for what isn't a
// directory; fs.ErrNotExist if there is no such thing, and one of them was removed at the wrong moment.
func whatIsNoDirectory(jail *os.Root, names []string) error {
	for _, name := range names {
		i, err := jail.Lstat(name)
		if err == nil && i.Mode()&fs.ModeSymlink != 0 {
			if behind, err := jail.Stat(name); err == nil {
				i = behind // else a link to nothing, which is no directory either
			}
		}
		if err == nil && !i.IsDir() {
			return fmt.Errorf("%s is not a directory: %w", name, fs.ErrInvalid)
		}
	}
	return fs.ErrNotExist
}

// makeRootDir makes the root directory and its parents durably. What is there already is the operator's.
func (l *Local) makeRootDir() error {
	l.makeRoot.Lock()
	defer l.makeRoot.Unlock()
	var absent []string // deepest first
	for d := l.dir; ; d = filepath.Dir(d) {
		_, err := os.Stat(d)
		if err == nil {
			break
		} else if !errors.Is(err, fs.ErrNotExist) || d == filepath.Dir(d) {
			return err
		}
		absent = append(absent, d)
	}
	for i := len(absent) - 1; i >= 0; i-- {
		if err := os.Mkdir(absent[i], localDirMode); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := syncPath(filepath.Dir(absent[i])); err != nil {
			return err
		}
	}
	return nil
}

func syncPath(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }() // only synced
	return d.Sync()
}

// Create implements FS.
func (l *Local) Create(ctx context.Context, name string) (File, error) {
	if err := checkEntry("create", l.root, name); err != nil {
		return nil, err
	}
	var file *localFile
	err := l.withParents("create", name, func() (err error) {
		file, err = l.create(ctx, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return file, nil
}

func (l *Local) create(ctx context.Context, name string) (*localFile, error) {
	if err := l.check(ctx, "create", name); err != nil {
		return nil, err
	}
	d, err := l.dirs.enter(path.Dir(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNeedsParent
	} else if err != nil {
		return nil, l.fail("create", name, err)
	}
	f, err := d.openFile(path.Base(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, localFileMode)
	if err != nil {
		d.leave()
		if errors.Is(err, fs.ErrNotExist) { // the directory was removed since
			return nil, errNeedsParent
		}
		return nil, l.fail("create", name, err)
	}
	file := &localFile{l: l, f: f, in: d, name: name, ctxErr: ctx.Err}
	if err := unix.Fstat(int(f.Fd()), &file.made); err != nil {
		return nil, errors.Join(l.fail("create", name, err), file.Abort())
	}
	return file, nil
}

// Rename implements FS.
func (l *Local) Rename(ctx context.Context, from, to string) error {
	if err := checkEntry("rename", l.root, from); err != nil {
		return err
	}
	if err := checkEntry("rename to", l.root, to); err != nil {
		return err
	}
	if err := l.withParents("rename to", to, func() error { return l.rename(ctx, from, to) }); err != nil {
		return err
	}
	if err := l.commitBoth(ctx, path.Dir(from), path.Dir(to)); err != nil {
		return l.fail("rename", from, fmt.Errorf("renamed to %s, but sync its directory: %w", to, causeOf(err)))
	}
	return nil
}

// commitBoth commits two directories at once: a journal takes both changes to the disk in one go.
func (l *Local) commitBoth(ctx context.Context, from, to string) error {
	if from == to {
		return l.synced.commit(ctx, to)
	}
	second := make(chan error, 1)
	go func() { second <- l.synced.commit(ctx, from) }()
	err := l.synced.commit(ctx, to)
	if secondErr := <-second; err == nil {
		err = secondErr
	}
	return err
}

func (l *Local) rename(ctx context.Context, from, to string) error {
	if err := l.check(ctx, "rename", from); err != nil {
		return err
	}
	d, err := l.dirs.enter(path.Dir(from))
	if err != nil {
		return l.absent("rename", from, err)
	}
	defer d.leave()
	if stat, err := d.lstat(path.Base(from)); err != nil {
		return l.absent("rename", from, err)
	} else if isDir(&stat) {
		return l.fail("rename", from, fmt.Errorf("a directory: %w", fs.ErrInvalid))
	}
	toDir, err := l.dirs.enter(path.Dir(to))
	if err == nil {
		defer toDir.leave()
		err = d.rename(path.Base(from), toDir, path.Base(to))
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		if _, gone := d.lstat(path.Base(from)); gone != nil {
			return l.absent("rename", from, gone)
		}
		return errNeedsParent
	case errors.Is(err, fs.ErrExist), errors.Is(err, syscall.EISDIR):
		err = fmt.Errorf("a directory: %w", fs.ErrInvalid)
	}
	return l.fail("rename", from, fmt.Errorf("to %s: %w", to, causeOf(err)))
}

// Remove implements FS.
func (l *Local) Remove(ctx context.Context, name string) error {
	if err := checkEntry("remove", l.root, name); err != nil {
		return err
	}
	if err := l.check(ctx, "remove", name); err != nil {
		return err
	}
	l.synced.beginMove(name)
	err := l.remove(name)
	l.synced.endMove(name)
	switch {
	case isAbsent(err):
		// Another call may have removed it and not be done yet, or have failed to make that durable.
		err = l.synced.settle(ctx, path.Dir(name))
	case err != nil:
		return l.fail("remove", name, err)
	default:
		err = l.synced.commit(ctx, path.Dir(name))
	}
	if err != nil {
		return l.fail("remove", name, fmt.Errorf("removed, but sync its directory: %w", causeOf(err)))
	}
	return nil
}

func (l *Local) remove(name string) error {
	d, err := l.dirs.enter(path.Dir(name))
	if err != nil {
		return err
	}
	defer d.leave()
	return d.remove(path.Base(name))
}

// localFile is a File of Local.
type localFile struct {
	l      *Local
	f      *os.File
	in     *localDir // held until Commit or Abort
	name   string
	made   unix.Stat_t  // of the file that Create made
	ctxErr func() error // of the ctx given to Create, which bounds the writing too
	err    error        // the first failure, or ErrClosed after Commit and Abort
	done   bool         // committed or aborted
}

func (f *localFile) Write(p []byte) (int, error) {
	if f.err == nil {
		f.err = f.ctxErr()
	}
	if f.err != nil {
		return 0, f.l.fail("write", f.name, f.err)
	}
	n, err := f.f.Write(p)
	if err != nil {
		f.err = err
		return n, f.l.fail("write", f.name, err)
	}
	return n, nil
}

func (f *localFile) Commit(ctx context.Context) error {
	if f.err == nil {
		f.err = ctx.Err()
	}
	if f.err != nil {
		return f.l.fail("commit", f.name, f.err)
	}
	// A failed fsync is final: the kernel drops the bytes and says so once.
	if f.err = f.f.Sync(); f.err == nil {
		f.err = f.f.Close()
	}
	if f.err != nil {
		return f.l.fail("commit", f.name, f.err)
	}
	f.err, f.done = fs.ErrClosed, true
	f.in.leave()
	return nil
}

// Keep implements Keeper. The bytes are where the kernel has them.
func (f *localFile) Keep(context.Context) error {
	if f.done {
		return nil
	}
	f.err, f.done = fs.ErrClosed, true
	_ = f.f.Close() // what is there is compared by whoever makes use of it
	f.in.leave()
	return nil
}

func (f *localFile) Abort() error {
	if f.done {
		return nil
	}
	f.err, f.done = fs.ErrClosed, true
	_ = f.f.Close() // the bytes are given up; after a failed Commit it is closed already
	defer f.in.leave()
	// The name may have been removed and made again by somebody else since.
	now, err := f.in.lstat(path.Base(f.name))
	if err == nil && sameFile(&now, &f.made) {
		err = f.in.remove(path.Base(f.name))
	}
	if err != nil && !isAbsent(err) {
		return f.l.fail("abort", f.name, err)
	}
	return nil
}
