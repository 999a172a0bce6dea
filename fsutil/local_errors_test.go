package fsutil

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"testing"
)

func TestCausesOfTheOperatingSystemHaveAClass(t *testing.T) {
	for errno, class := range map[syscall.Errno]error{
		syscall.ENOENT: fs.ErrNotExist, syscall.EEXIST: fs.ErrExist, syscall.ENOTEMPTY: fs.ErrExist,
		syscall.EACCES: fs.ErrPermission, syscall.EPERM: fs.ErrPermission, syscall.EROFS: fs.ErrPermission,
		syscall.ENOSPC: ErrNoSpace, syscall.EDQUOT: ErrNoSpace,
		syscall.EIO: ErrUnavailable, syscall.ESTALE: ErrUnavailable, syscall.ETIMEDOUT: ErrUnavailable,
		syscall.ENOTCONN: ErrUnavailable, syscall.EMFILE: ErrUnavailable, syscall.ENFILE: ErrUnavailable,
		syscall.EXDEV: ErrUnsupported, syscall.EFBIG: ErrUnsupported,
		syscall.ENOTDIR: fs.ErrInvalid, syscall.EISDIR: fs.ErrInvalid, syscall.EINVAL: fs.ErrInvalid,
		syscall.ENAMETOOLONG: fs.ErrInvalid, syscall.ELOOP: fs.ErrInvalid,
	} {
		for _, from := range []error{
			errno,
			&fs.PathError{Op: "openat", Path: "f", Err: errno},
			&os.LinkError{Op: "renameat", Old: "f", New: "g", Err: errno},
			os.NewSyscallError("fsync", errno),
		} {
			got := causeOf(from)
			if !errors.Is(got, class) || !errors.Is(got, errno) {
				t.Errorf("causeOf(%v) = %v; want %v", from, got, class)
			}
			for _, other := range []error{ErrCorrupt, ErrUnavailable, ErrUnsupported, ErrNoSpace, fs.ErrInvalid, fs.ErrNotExist, fs.ErrExist, fs.ErrPermission} {
				if other != class && errors.Is(got, other) {
					t.Errorf("causeOf(%v) is %v too", from, other)
				}
			}
		}
	}
	explained := fmt.Errorf("explained: %w", syscall.ENOSPC)
	if got := causeOf(explained); got != explained {
		t.Errorf("causeOf(%v) = %v: what was explained loses that", explained, got)
	}
}
