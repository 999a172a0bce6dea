package fsutil_test

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/fsutil/fsutiltest"
)

func newMemory() *fsutil.Memory {
	return fsutil.NewMemory(fsutil.URI{Scheme: "hdfs", Authority: "ns", Path: "/base"})
}

func TestMemoryKeepsTheContract(t *testing.T) {
	fsutiltest.Run(t, func(*testing.T) fsutiltest.Place {
		m := newMemory()
		return fsutiltest.Place{FS: m, Reopen: func(*testing.T) fsutil.FS { return m }}
	})
}

func TestMemoryAbortLeavesTheFileOfAnother(t *testing.T) {
	testAbortLeavesTheFileOfAnother(t, newMemory())
}

func TestMemoryCreateOutlivesTheRemovalOfItsDirectory(t *testing.T) {
	testCreateWhileDirectoriesGo(t, newMemory())
}

func write(t *testing.T, f fsutil.FS, name, content string) fsutil.File {
	t.Helper()
	w, err := f.Create(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	return w
}

func commit(t *testing.T, f fsutil.File) {
	t.Helper()
	if err := f.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func move(t *testing.T, f fsutil.FS, from, to string) {
	t.Helper()
	if err := f.Rename(t.Context(), from, to); err != nil {
		t.Fatal(err)
	}
}

func TestCrashKeepsOnlyWhatIsDurable(t *testing.T) {
	m := newMemory()
	commit(t, write(t, m, "tmp/1", "renamed"))
	move(t, m, "tmp/1", "job/shared/1")
	commit(t, write(t, m, "tmp/2", "old"))
	move(t, m, "tmp/2", "job/replaced")
	commit(t, write(t, m, "tmp/3", "replacement"))
	move(t, m, "tmp/3", "job/replaced")
	commit(t, write(t, m, "tmp/committed", "but not renamed"))
	move(t, m, "job/shared/1", "job/shared/moved")
	write(t, m, "tmp/open", "being written")
	write(t, m, "tmp/4", "renamed before it was committed")
	move(t, m, "tmp/4", "job/empty")
	commit(t, write(t, m, "tmp/5", "removed"))
	move(t, m, "tmp/5", "job/removed")
	if err := m.Remove(t.Context(), "job/removed"); err != nil {
		t.Fatal(err)
	}

	c := m.CrashClone()
	for name, want := range map[string]string{"job/shared/moved": "renamed", "job/replaced": "replacement", "job/empty": ""} {
		if got, err := readAll(t.Context(), c, name); got != want || err != nil {
			t.Errorf("after the crash %s = %q, %v; want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"tmp", "job/shared/1", "job/removed"} {
		if i, err := c.Stat(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after the crash %s is there: %+v, %v", name, i, err)
		}
	}
	if c.Root() != m.Root() {
		t.Errorf("the root is %s, and was %s", c.Root(), m.Root())
	}
}

func TestCrashCloneSharesNothing(t *testing.T) {
	m := newMemory()
	w := write(t, m, "tmp", "abc")
	commit(t, w)
	move(t, m, "tmp", "d/f")
	c := m.CrashClone()
	commit(t, write(t, c, "d/g", "only there"))
	if err := c.Remove(t.Context(), "d/f"); err != nil {
		t.Fatal(err)
	}
	if got, err := readAll(t.Context(), m, "d/f"); got != "abc" || err != nil {
		t.Errorf("read = %q, %v", got, err)
	}
	if _, err := m.Stat(t.Context(), "d/g"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat = %v", err)
	}
	if _, err := c.CrashClone().Stat(t.Context(), "d/f"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the crash of a clone brings back what was removed in it: %v", err)
	}
}

func TestCrashWithLuckKeepsAnythingButTheImpossible(t *testing.T) {
	const content = "0123456789"
	seen := map[string]bool{}
	for seed := range uint64(200) {
		m := newMemory()
		commit(t, write(t, m, "tmp/a", content))
		move(t, m, "tmp/a", "job/a")
		write(t, m, "tmp/open", content)
		commit(t, write(t, m, "tmp/committed", content))
		c := m.CrashCloneRandom(rand.New(rand.NewPCG(seed, 1)))
		if got, err := readAll(t.Context(), c, "job/a"); got != content || err != nil {
			t.Fatalf("seed %d: durable file = %q, %v", seed, got, err)
		}
		if got, err := readAll(t.Context(), c, "tmp/committed"); err == nil {
			if got != content {
				t.Fatalf("seed %d: committed file = %q", seed, got)
			}
			seen["committed"] = true
		} else {
			seen["not committed"] = true
		}
		if got, err := readAll(t.Context(), c, "tmp/open"); err == nil {
			if !strings.HasPrefix(content, got) {
				t.Fatalf("seed %d: open file = %q", seed, got)
			}
			seen["open "+map[bool]string{true: "whole", false: "short"}[got == content]] = true
		} else {
			seen["not open"] = true
		}
		if _, err := c.Stat(t.Context(), "tmp/a"); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("seed %d: a renamed file has its old name again: %v", seed, err)
		}
	}
	for _, outcome := range []string{"committed", "not committed", "open whole", "open short", "not open"} {
		if !seen[outcome] {
			t.Errorf("never %s", outcome)
		}
	}
}

func TestCrashWithLuckIsTheSameForTheSameSeed(t *testing.T) {
	m := newMemory()
	for _, name := range strings.Fields("a b c d e f g h i j k l") {
		write(t, m, name, strings.Repeat(name, 100))
	}
	names := func(seed uint64) (names []string) {
		infos, err := m.CrashCloneRandom(rand.New(rand.NewPCG(seed, 2))).List(t.Context(), ".")
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range infos {
			names = append(names, i.Name)
		}
		return names
	}
	if a, b := names(1), names(1); !slices.Equal(a, b) {
		t.Errorf("%v and %v", a, b)
	}
}

func TestMemoryReaderKeepsWhatItOpened(t *testing.T) {
	m := newMemory()
	w := write(t, m, "f", "abc")
	r, err := m.Open(t.Context(), "f", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("def")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 10)
	if n, err := r.Read(buf); string(buf[:n]) != "abc" || err != nil {
		t.Errorf("read = %q, %v", buf[:n], err)
	}
}
