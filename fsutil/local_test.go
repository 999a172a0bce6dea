package fsutil_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/fsutil/fsutiltest"
)

func openLocal(t *testing.T, dir string) *fsutil.Local {
	t.Helper()
	l, err := fsutil.OpenLocal(fsutil.URI{Scheme: "file", Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func writeLocal(t *testing.T, l *fsutil.Local, name, content string) {
	t.Helper()
	f, err := l.Create(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func readAll(ctx context.Context, r fsutil.ReadFS, name string) (string, error) {
	f, err := r.Open(ctx, name, 0)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(f)
	return string(b), errors.Join(err, f.Close())
}

func TestLocalKeepsTheContract(t *testing.T) {
	fsutiltest.Run(t, func(t *testing.T) fsutiltest.Place {
		dir := path.Join(t.TempDir(), "made/when needed")
		return fsutiltest.Place{
			FS:     openLocal(t, dir),
			Reopen: func(t *testing.T) fsutil.FS { return openLocal(t, dir) },
		}
	})
}

func TestLocalRefusesOtherPlaces(t *testing.T) {
	for _, root := range []fsutil.URI{{}, {Scheme: "hdfs", Path: "/a"}, {Scheme: "file"}, {Scheme: "file", Path: "a"}} {
		if l, err := fsutil.OpenLocal(root); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("OpenLocal(%#v) = %v, %v", root, l, err)
		}
	}
}

func TestLocalRootIsMadeWhenTheFirstFileIs(t *testing.T) {
	dir := path.Join(t.TempDir(), "a/b/root")
	l, ctx := openLocal(t, dir), t.Context()
	_, statErr := l.Stat(ctx, ".")
	_, listErr := l.List(ctx, ".")
	_, openErr := l.Open(ctx, "f", 0)
	for call, err := range map[string]error{"Stat": statErr, "List": listErr, "Open": openErr, "Rename": l.Rename(ctx, "f", "g")} {
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s in an absent root = %v", call, err)
		}
	}
	if err := l.Remove(ctx, "f"); err != nil {
		t.Errorf("Remove in an absent root = %v", err)
	}
	if _, err := os.Stat(path.Dir(path.Dir(dir))); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("something was made before it was needed: %v", err)
	}
	var wg sync.WaitGroup
	for _, name := range []string{"f", "d/g", "d/e/h", "i"} {
		wg.Go(func() { writeLocal(t, l, name, name) })
	}
	wg.Wait()
	if got, err := readAll(ctx, l, "d/e/h"); err != nil || got != "d/e/h" {
		t.Errorf("read = %q, %v", got, err)
	}
}

func TestLocalRootThatIsAFile(t *testing.T) {
	file := path.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	l := openLocal(t, file)
	if _, err := l.List(t.Context(), "."); !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("List = %v", err)
	}
	if _, err := l.Create(t.Context(), "x"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("Create = %v", err)
	}
}

func TestLocalRootThatIsReplacedIsSeenAsItIsNow(t *testing.T) {
	dir := path.Join(t.TempDir(), "root")
	l := openLocal(t, dir)
	writeLocal(t, l, "d/f", "old")
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Stat(t.Context(), "d/f"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat after the root was moved away = %v", err)
	}
	writeLocal(t, l, "d/f", "new")
	if got, err := readAll(t.Context(), l, "d/f"); got != "new" || err != nil {
		t.Errorf("read = %q, %v", got, err)
	}
}

func TestLocalDirectoryThatIsReplacedWhileItIsUsed(t *testing.T) {
	base := t.TempDir()
	dir := path.Join(base, "root")
	l := openLocal(t, dir)
	writeLocal(t, l, "d/f", "old")
	held, err := l.Open(t.Context(), "d/f", 0) // keeps the directory open
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close() // only read

	if err := os.Rename(path.Join(dir, "d"), path.Join(base, "outside")); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Stat(t.Context(), "d/f"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat after the directory was moved away = %v", err)
	}
	writeLocal(t, l, "d/f", "new")
	if got, err := readAll(t.Context(), l, "d/f"); got != "new" || err != nil {
		t.Errorf("read = %q, %v", got, err)
	}
	if got, err := os.ReadFile(path.Join(base, "outside/f")); string(got) != "old" || err != nil {
		t.Errorf("the old directory's file is %q, %v", got, err)
	}

	// A link in its place that leads out is refused, though the directory behind it was once inside.
	again, err := l.Open(t.Context(), "d/f", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close() // only read
	if err := os.Rename(path.Join(dir, "d"), path.Join(base, "outside2")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../outside", path.Join(dir, "d")); err != nil {
		t.Fatal(err)
	}
	if got, err := readAll(t.Context(), l, "d/f"); !errors.Is(err, fsutil.ErrUnsupported) {
		t.Errorf("read through a link that leads out = %q, %v", got, err)
	}
	if got, err := io.ReadAll(held); string(got) != "old" || err != nil {
		t.Errorf("what was opened before = %q, %v", got, err)
	}
}

func TestLocalStaysInside(t *testing.T) {
	base := t.TempDir()
	dir, outside := path.Join(base, "root"), path.Join(base, "outside")
	for _, d := range []string{path.Join(dir, "real/sub"), outside} {
		if err := os.MkdirAll(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{path.Join(dir, "real/sub/f"): "inside", path.Join(outside, "secret"): "secret"} {
		if err := os.WriteFile(name, []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{
		"in":         "real/sub",
		"in-file":    "real/sub/f",
		"in-dots":    "real/../real/sub",
		"out":        "../outside",
		"out-abs":    outside,
		"out-file":   "../outside/secret",
		"in-abs":     path.Join(dir, "real"), // absolute: os.Root follows none, wherever it leads
		"dangling":   "nowhere",
		"loop":       "loop",
		"real/above": "../../outside",
	} {
		if err := os.Symlink(target, path.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	l, ctx := openLocal(t, dir), t.Context()

	for _, name := range []string{"in/f", "in-file", "in-dots/f"} {
		if got, err := readAll(ctx, l, name); got != "inside" || err != nil {
			t.Errorf("read %s, a link inside = %q, %v", name, got, err)
		}
	}
	writeLocal(t, l, "in/new/g", "through the link")
	if got, err := os.ReadFile(path.Join(dir, "real/sub/new/g")); string(got) != "through the link" || err != nil {
		t.Errorf("written through a link inside: %q, %v", got, err)
	}

	refused := func(call, name string, err error) {
		t.Helper()
		if !errors.Is(err, fsutil.ErrUnsupported) || !strings.Contains(err.Error(), "symbolic link leads out") || !strings.Contains(err.Error(), name) {
			t.Errorf("%s(%s) = %v; want ErrUnsupported that says why", call, name, err)
		}
	}
	for _, name := range []string{"out/secret", "out-abs/secret", "out-file", "real/above/secret", "in-abs/sub/f"} {
		_, err := readAll(ctx, l, name)
		refused("Open", name, err)
		_, err = l.Stat(ctx, name)
		refused("Stat", name, err)
	}
	for _, name := range []string{"out", "out-abs", "real/above"} {
		_, err := l.List(ctx, name)
		refused("List", name, err)
		_, err = l.Create(ctx, name+"/x")
		refused("Create", name+"/x", err)
		_, err = l.Create(ctx, name+"/x/y")
		refused("Create", name+"/x/y", err)
		refused("Remove", name+"/secret", l.Remove(ctx, name+"/secret"))
		refused("Rename from", name+"/secret", l.Rename(ctx, name+"/secret", "stolen"))
		refused("Rename to", name+"/x", l.Rename(ctx, "real/sub/f", name+"/x"))
	}
	if got, err := os.ReadDir(outside); len(got) != 1 || err != nil {
		t.Errorf("outside are %v, %v", got, err)
	}
	if _, err := l.Create(ctx, "dangling/x"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("Create below a link to nothing = %v", err)
	}
	if _, err := l.Stat(ctx, "loop"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("Stat of a link to itself = %v", err)
	}

	infos, err := l.List(ctx, ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range infos {
		wantDir := i.Name == "in" || i.Name == "in-dots" || i.Name == "real"
		wantSize := int64(0)
		if i.Name == "in-file" {
			wantSize = int64(len("inside"))
		}
		if i.IsDir != wantDir || i.Size != wantSize {
			t.Errorf("listed: %+v", i)
		}
	}
}

func TestLocalRemovesALinkAndNotWhatItLeadsTo(t *testing.T) {
	dir := t.TempDir()
	l := openLocal(t, dir)
	writeLocal(t, l, "d/f", "kept")
	for link, target := range map[string]string{"to-file": "d/f", "to-dir": "d"} {
		if err := os.Symlink(target, path.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
		if err := l.Remove(t.Context(), link); err != nil {
			t.Errorf("Remove(%s) = %v", link, err)
		}
	}
	if got, err := readAll(t.Context(), l, "d/f"); got != "kept" || err != nil {
		t.Errorf("read = %q, %v", got, err)
	}
}

func TestLocalOpensNoPipe(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(path.Join(dir, "pipe"), 0o666); err != nil {
		t.Skipf("no named pipes here: %v", err)
	}
	if _, err := openLocal(t, dir).Open(t.Context(), "pipe", 0); !errors.Is(err, fsutil.ErrUnsupported) {
		t.Errorf("Open of a pipe = %v", err)
	}
}

func TestLocalFileThatShrinksWhileItIsReadIsCorrupt(t *testing.T) {
	dir := t.TempDir()
	l := openLocal(t, dir)
	writeLocal(t, l, "f", strings.Repeat("x", 100_000))
	r, err := l.Open(t.Context(), "f", 10)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close() // only read
	if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path.Join(dir, "f"), 50_000); err != nil {
		t.Fatal(err)
	}
	for range 2 { // it stays so
		if _, err := io.ReadAll(r); !errors.Is(err, fsutil.ErrCorrupt) || !strings.Contains(err.Error(), "50000 bytes before") {
			t.Errorf("read = %v; want ErrCorrupt that says how much is missing", err)
		}
	}
}

func TestLocalFileThatGrowsIsReadToItsEnd(t *testing.T) {
	dir := t.TempDir()
	l := openLocal(t, dir)
	writeLocal(t, l, "f", "abc")
	r, err := l.Open(t.Context(), "f", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close() // only read
	f, err := os.OpenFile(path.Join(dir, "f"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("def"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); string(got) != "bcdef" || err != nil {
		t.Errorf("read = %q, %v", got, err)
	}
}

func TestLocalAbortLeavesTheFileOfAnother(t *testing.T) {
	l := openLocal(t, t.TempDir())
	testAbortLeavesTheFileOfAnother(t, l)
}

func testAbortLeavesTheFileOfAnother(t *testing.T, f fsutil.FS) {
	w, err := f.Create(t.Context(), "tmp")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Remove(t.Context(), "tmp"); err != nil {
		t.Fatal(err)
	}
	other, err := f.Create(t.Context(), "tmp")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Write([]byte("another's")); err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(); err != nil {
		t.Errorf("Abort = %v", err)
	}
	if err := other.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := readAll(t.Context(), f, "tmp"); got != "another's" || err != nil {
		t.Errorf("read = %q, %v", got, err)
	}
}

func TestLocalCreateOutlivesTheRemovalOfItsDirectory(t *testing.T) {
	l := openLocal(t, t.TempDir())
	testCreateWhileDirectoriesGo(t, l)
}

func testCreateWhileDirectoriesGo(t *testing.T, f fsutil.FS) {
	ctx, cancel := context.WithCancel(t.Context())
	var sweeper, writers sync.WaitGroup
	sweeper.Go(func() {
		for ctx.Err() == nil {
			for _, dir := range []string{"a/b", "a", "tmp"} {
				_ = f.Remove(ctx, dir) // mostly not empty
			}
		}
	})
	for _, name := range []string{"f", "g", "h"} {
		writers.Go(func() {
			for range 50 {
				w, err := f.Create(t.Context(), "tmp/"+name)
				if err != nil {
					t.Errorf("Create = %v", err)
					return
				}
				err = errors.Join(w.Commit(t.Context()), f.Rename(t.Context(), "tmp/"+name, "a/b/"+name), f.Remove(t.Context(), "a/b/"+name))
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	cancel()
	sweeper.Wait()
}

func TestLocalLeavesNoDescriptorOpen(t *testing.T) {
	open := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skipf("count descriptors: %v", err)
		}
		return len(fds)
	}
	l, ctx := openLocal(t, t.TempDir()), t.Context()
	use := func() {
		writeLocal(t, l, "tmp", "x")
		_ = l.Rename(ctx, "tmp", "d/f")
		_, _ = readAll(ctx, l, "d/f")
		_, _ = readAll(ctx, l, "d") // a directory
		_, _ = readAll(ctx, l, "none")
		_, _ = l.Open(ctx, "d/f", 9) // beyond the end
		_, _ = l.List(ctx, "d")
		_, _ = l.List(ctx, "d/f")
		_, _ = l.Create(ctx, "d/f")
		_, _ = l.Create(ctx, "d/f/x")
		_ = l.Rename(ctx, "d/f", "d")
		_ = l.Remove(ctx, "d/f")
		if f, err := l.Create(ctx, "aborted"); err == nil {
			_ = f.Abort()
		}
	}
	use()
	before := open()
	for range 20 {
		use()
	}
	if after := open(); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func TestLocalModTimeIsTheFiles(t *testing.T) {
	dir := t.TempDir()
	l := openLocal(t, dir)
	writeLocal(t, l, "f", "x")
	at := time.Date(2024, 5, 6, 7, 8, 9, 123456789, time.UTC)
	if err := os.Chtimes(filepath.Join(dir, "f"), at, at); err != nil {
		t.Fatal(err)
	}
	if i, err := l.Stat(t.Context(), "f"); err != nil || !i.ModTime.Equal(at) {
		t.Errorf("Stat = %+v, %v", i, err)
	}
	infos, err := l.List(t.Context(), ".")
	if err != nil || !slices.ContainsFunc(infos, func(i fsutil.FileInfo) bool { return i.Name == "f" && i.ModTime.Equal(at) }) {
		t.Errorf("List = %+v, %v", infos, err)
	}
}
