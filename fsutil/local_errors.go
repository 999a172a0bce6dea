package fsutil

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// localCause is an error of the operating system in the terms of this package: its message is the system's own plus
// what to do, and errors.Is finds both class and the errno.
type localCause struct {
	cause error
	class error // one of this package's sentinels or io/fs's; nil where errno's own Is does
	hint  string
}

func (e *localCause) Error() string {
	if e.hint == "" {
		return e.cause.Error()
	}
	return e.cause.Error() + ": " + e.hint
}

func (e *localCause) Unwrap() []error {
	if e.class == nil {
		return []error{e.cause}
	}
	return []error{e.cause, e.class}
}

// pathEscapes is the message of os.Root's error for a symbolic link that leads out, or is absolute
// wherever it leads. os doesn't export the error.
const pathEscapes = "path escapes from parent"

// notADirectory is the message of os.OpenRoot's error for a root that is a file.
const notADirectory = "not a directory"

// causeOf says what an error of package os means. The path in it is dropped: it is relative to some directory, and
// the caller names the whole place.
func causeOf(err error) error {
	switch e := err.(type) { // not errors.As: what was wrapped on the way was explained there
	case *fs.PathError:
		err = e.Err
	case *os.LinkError:
		err = e.Err
	case *os.SyscallError:
		err = e.Err
	}
	errno, ok := err.(syscall.Errno)
	if !ok {
		switch err.Error() {
		case pathEscapes:
			return &localCause{err, ErrUnsupported, "a symbolic link leads out of the root or is absolute; name the place it leads to as the root, or make it relative"}
		case notADirectory:
			return &localCause{err, fs.ErrInvalid, ""}
		}
		return err
	}
	c := localCause{cause: errno}
	switch errno {
	case syscall.ENOSPC:
		c.class, c.hint = ErrNoSpace, "free space, or choose another place"
	case syscall.EDQUOT:
		c.class, c.hint = ErrNoSpace, "raise the quota, or choose another place"
	case syscall.EROFS:
		c.class, c.hint = fs.ErrPermission, "mount it for writing"
	case syscall.EXDEV:
		c.class, c.hint = ErrUnsupported, "the two names lie on different file systems (a mount or a symbolic link below the root), and a file can't be moved between those at once; let the whole root be on one"
	case syscall.EIO, syscall.ESTALE, syscall.ETIMEDOUT, syscall.ENOTCONN, syscall.EHOSTDOWN, syscall.ENODEV, syscall.ENXIO:
		c.class, c.hint = ErrUnavailable, "the disk or the mount does not work; see the kernel's log"
	case syscall.EMFILE, syscall.ENFILE:
		c.class, c.hint = ErrUnavailable, "too few file descriptors are allowed; raise `ulimit -n`"
	case syscall.ENOTDIR, syscall.EISDIR, syscall.EINVAL, syscall.ENAMETOOLONG, syscall.ELOOP:
		c.class = fs.ErrInvalid
	case syscall.EFBIG:
		c.class, c.hint = ErrUnsupported, "the file system or `ulimit -f` allows no file of this size"
	}
	return &c
}

// isAbsent reports whether err says that a name isn't there; what lies "below" a file isn't there either.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
