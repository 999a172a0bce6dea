package fsutiltest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"

	"github.com/ckptferry/ckptferry/fsutil"
)

var writeTests = map[string]func(*testing.T, Place){
	"files of every size come back, also from another instance": testSizes,
	"many odd-sized writes make one file":                       testChunkedWrites,
	"create makes parents and shows the name at once":           testCreate,
	"create never touches what is there":                        testCreateExisting,
	"create below a file is refused":                            testCreateBelowFile,
	"abort leaves nothing under the name":                       testAbort,
	"after commit the file is closed":                           testAfterCommit,
	"a file that is kept stays as far as it came":               testKeep,
	"remove": testRemove,
}

// bigBytes is more than any buffer on the way, and no multiple of one.
const bigBytes = 9<<20 + 4321

func testSizes(t *testing.T, p Place) {
	sizes := []int{0, 1, 511, 512, 513, 4095, 4096, 4097, 65536, 65537, 1<<20 + 1, bigBytes}
	for i, size := range sizes {
		put(t, p.FS, fmt.Sprint("f", size), content(uint64(i), size))
	}
	for _, f := range []Place{p, {FS: p.Reopen(t)}} {
		for i, size := range sizes {
			wantContent(t, f.FS, fmt.Sprint("f", size), content(uint64(i), size))
		}
	}
}

func testChunkedWrites(t *testing.T, p Place) {
	want := content(1, 1<<20)
	w := create(t, p.FS, "d/f")
	buf := make([]byte, 70000)
	for i, rest := 0, want; len(rest) > 0; i++ {
		n := copy(buf[:min(len(buf), i*131)], rest)
		if got, err := w.Write(buf[:n]); got != n || err != nil {
			t.Fatalf("Write of %d bytes = %d, %v", n, got, err)
		}
		clear(buf) // Write must not keep the buffer
		rest = rest[n:]
	}
	if err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantContent(t, p.FS, "d/f", want)
}

func testCreate(t *testing.T, p Place) {
	w := create(t, p.FS, "a/b/c")
	wantDir(t, p.FS, "a/b")
	if i, err := p.FS.Stat(t.Context(), "a/b/c"); err != nil || i.IsDir {
		t.Errorf("Stat of a file that is being written = %+v, %v", i, err)
	}
	_, err := p.FS.Create(t.Context(), "a/b/c")
	wantErr(t, "Create of a file that is being written", err, fs.ErrExist)
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantContent(t, p.FS, "a/b/c", []byte("x"))
}

func testCreateExisting(t *testing.T, p Place) {
	put(t, p.FS, "d/f", []byte("first"))
	_, err := p.FS.Create(t.Context(), "d/f")
	wantErr(t, "Create over a file", err, fs.ErrExist)
	_, err = p.FS.Create(t.Context(), "d")
	wantErr(t, "Create over a directory", err, fs.ErrExist)
	wantContent(t, p.FS, "d/f", []byte("first"))
}

func testCreateBelowFile(t *testing.T, p Place) {
	put(t, p.FS, "d/f", []byte("first"))
	_, err := p.FS.Create(t.Context(), "d/f/x")
	wantErr(t, "Create below a file", err, fs.ErrInvalid)
	_, err = p.FS.Create(t.Context(), "d/f/x/y")
	wantErr(t, "Create further below a file", err, fs.ErrInvalid)
	wantContent(t, p.FS, "d/f", []byte("first"))
}

func testAbort(t *testing.T, p Place) {
	for _, size := range []int{0, 10, 3 << 20} {
		w := create(t, p.FS, "d/f")
		if _, err := w.Write(content(1, size)); err != nil {
			t.Fatal(err)
		}
		if err := w.Abort(); err != nil {
			t.Fatalf("Abort after %d bytes = %v", size, err)
		}
		wantAbsent(t, p.FS, "d/f")
		if err := w.Abort(); err != nil {
			t.Errorf("Abort again = %v", err)
		}
		_, err := w.Write([]byte("x"))
		wantErr(t, "Write after Abort", err, fs.ErrClosed)
		wantErr(t, "Commit after Abort", w.Commit(t.Context()), fs.ErrClosed)
		wantAbsent(t, p.FS, "d/f")
	}
	put(t, p.FS, "d/f", []byte("the next try"))
	wantContent(t, p.Reopen(t), "d/f", []byte("the next try"))
}

func testKeep(t *testing.T, p Place) {
	want := content(5, 3<<20)
	w := create(t, p.FS, "d/f")
	keeper, ok := w.(fsutil.Keeper)
	if !ok {
		t.Skip("files can't be kept here")
	}
	if _, err := w.Write(want); err != nil {
		t.Fatal(err)
	}
	if err := keeper.Keep(t.Context()); err != nil {
		t.Fatalf("Keep = %v", err)
	}
	_, err := w.Write([]byte("x"))
	wantErr(t, "Write after Keep", err, fs.ErrClosed)
	wantErr(t, "Commit after Keep", w.Commit(t.Context()), fs.ErrClosed)
	if err := errors.Join(w.Abort(), keeper.Keep(t.Context())); err != nil {
		t.Errorf("Abort and Keep after Keep = %v", err)
	}
	wantContent(t, p.Reopen(t), "d/f", want)
	if err := p.FS.Remove(t.Context(), "d/f"); err != nil {
		t.Errorf("Remove of what was kept = %v", err)
	}
	put(t, p.FS, "d/f", []byte("another"))
	if w, err := p.FS.Create(t.Context(), "d/g"); err != nil {
		t.Error(err)
	} else if err := errors.Join(w.Commit(t.Context()), w.(fsutil.Keeper).Keep(t.Context())); err != nil {
		t.Errorf("Keep after Commit = %v", err)
	}
}

func testAfterCommit(t *testing.T, p Place) {
	w := create(t, p.FS, "f")
	if _, err := w.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := w.Write([]byte("def"))
	wantErr(t, "Write after Commit", err, fs.ErrClosed)
	wantErr(t, "Commit again", w.Commit(t.Context()), fs.ErrClosed)
	if err := w.Abort(); err != nil {
		t.Errorf("Abort after Commit = %v", err)
	}
	wantContent(t, p.FS, "f", []byte("abc"))
}

func testRemove(t *testing.T, p Place) {
	f, ctx := p.FS, t.Context()
	put(t, f, "d/f", []byte("x"))
	put(t, f, "d/sub/g", []byte("y"))
	for _, absent := range []string{"d/none", "none/none", "d/f/none", "d/f/none/none"} {
		if err := f.Remove(ctx, absent); err != nil {
			t.Errorf("Remove(%q), which is absent = %v", absent, err)
		}
	}
	wantErr(t, "Remove of a directory that is not empty", f.Remove(ctx, "d"), fs.ErrExist)
	wantContent(t, f, "d/f", []byte("x"))
	wantContent(t, f, "d/sub/g", []byte("y"))
	for _, name := range []string{"d/sub/g", "d/sub", "d/f"} {
		if err := f.Remove(ctx, name); err != nil {
			t.Fatalf("Remove(%q) = %v", name, err)
		}
		wantAbsent(t, f, name)
		wantAbsent(t, p.Reopen(t), name)
	}
	if got := listed(t, f, "d"); len(got) != 0 {
		t.Errorf("List(d) = %q", got)
	}
	put(t, f, "d/sub/g", bytes.Repeat([]byte("z"), 9))
	if got := listed(t, f, "d"); !slices.Equal(got, []string{"sub/"}) {
		t.Errorf("List(d) after making it again = %q", got)
	}
}
