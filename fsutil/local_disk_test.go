package fsutil_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"testing"

	"github.com/ckptferry/ckptferry/fsutil"
)

// mountTmpfs mounts a small file system on dir; it needs the rights for that.
func mountTmpfs(t *testing.T, dir, options string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("mount a file system for this test: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func TestLocalFullDisk(t *testing.T) {
	dir := path.Join(t.TempDir(), "small")
	mountTmpfs(t, dir, "size=256k,nr_inodes=10")
	l := openLocal(t, dir)
	f, err := l.Create(t.Context(), "big")
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(bytes.Repeat([]byte("x"), 1<<20))
	if !errors.Is(err, fsutil.ErrNoSpace) || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), dir+"/big") {
		t.Errorf("Write = %v; want ErrNoSpace", err)
	}
	if err := f.Commit(t.Context()); !errors.Is(err, fsutil.ErrNoSpace) {
		t.Errorf("Commit after it = %v", err)
	}
	if err := f.Abort(); err != nil {
		t.Errorf("Abort = %v", err)
	}
	if infos, err := l.List(t.Context(), "."); err != nil || len(infos) != 0 {
		t.Errorf("List = %v, %v; want nothing left", infos, err)
	}
	for i := range 20 { // names run out before bytes do
		f, err := l.Create(t.Context(), path.Join("d", strings.Repeat("x", i+1)))
		if err != nil {
			if !errors.Is(err, fsutil.ErrNoSpace) {
				t.Errorf("Create = %v; want ErrNoSpace", err)
			}
			return
		}
		if err := f.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	t.Error("more files were created than the file system has names for")
}

func TestLocalTwoFileSystemsBelowOneRoot(t *testing.T) {
	dir := t.TempDir()
	mountTmpfs(t, path.Join(dir, "mounted"), "")
	l := openLocal(t, dir)
	writeLocal(t, l, "tmp/f", "x")
	err := l.Rename(t.Context(), "tmp/f", "mounted/f")
	if !errors.Is(err, fsutil.ErrUnsupported) || !errors.Is(err, syscall.EXDEV) || !strings.Contains(err.Error(), "different file systems") {
		t.Errorf("Rename = %v; want ErrUnsupported that says why", err)
	}
	if got, err := readAll(t.Context(), l, "tmp/f"); got != "x" || err != nil {
		t.Errorf("read = %q, %v", got, err)
	}
}

func TestLocalReadOnlyMount(t *testing.T) {
	dir := path.Join(t.TempDir(), "ro")
	mountTmpfs(t, dir, "")
	l := openLocal(t, dir)
	writeLocal(t, l, "f", "x")
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Skipf("remount: %v", err)
	}
	_, err := l.Create(t.Context(), "g")
	for call, err := range map[string]error{"Create": err, "Rename": l.Rename(t.Context(), "f", "g"), "Remove": l.Remove(t.Context(), "f")} {
		if !errors.Is(err, fs.ErrPermission) || !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s = %v; want fs.ErrPermission", call, err)
		}
	}
	if got, err := readAll(t.Context(), l, "f"); got != "x" || err != nil {
		t.Errorf("read = %q, %v", got, err)
	}
}

func TestLocalWithoutPermission(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may do everything")
	}
	dir := t.TempDir()
	l := openLocal(t, dir)
	writeLocal(t, l, "d/f", "x")
	if err := os.Chmod(path.Join(dir, "d"), 0); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.Chmod(path.Join(dir, "d"), 0o777) }() // for the removal of the directory
	_, openErr := l.Open(t.Context(), "d/f", 0)
	_, createErr := l.Create(t.Context(), "d/g")
	for call, err := range map[string]error{"Open": openErr, "Create": createErr, "Remove": l.Remove(t.Context(), "d/f")} {
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s = %v; want fs.ErrPermission", call, err)
		}
	}
}
