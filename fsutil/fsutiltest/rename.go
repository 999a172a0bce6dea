package fsutiltest

import (
	"io/fs"
	"slices"
	"testing"
)

var renameTests = map[string]func(*testing.T, Place){
	"rename moves the file and makes parents":         testRename,
	"rename replaces a file":                          testRenameReplaces,
	"rename to its own name does nothing":             testRenameSame,
	"rename of what is absent changes nothing":        testRenameAbsent,
	"rename never replaces or moves a directory":      testRenameDirectory,
	"rename below a file is refused":                  testRenameBelowFile,
	"a rename that is repeated tells that it is done": testRenameRepeated,
}

func testRename(t *testing.T, p Place) {
	data := content(1, 100_000)
	put(t, p.FS, "tmp/1", data)
	rename(t, p.FS, "tmp/1", "job/shared/x")
	wantAbsent(t, p.FS, "tmp/1")
	wantContent(t, p.FS, "job/shared/x", data)
	rename(t, p.FS, "job/shared/x", "top")
	rename(t, p.FS, "top", "job/y")
	reopened := p.Reopen(t)
	wantContent(t, reopened, "job/y", data)
	if got := listed(t, reopened, "job"); !slices.Equal(got, []string{"shared/", "y"}) {
		t.Errorf("List(job) = %q", got)
	}
	if got := listed(t, reopened, "tmp"); len(got) != 0 {
		t.Errorf("List(tmp) = %q", got)
	}
}

func testRenameReplaces(t *testing.T, p Place) {
	old, data := content(1, 5000), content(2, 300)
	put(t, p.FS, "d/f", old)
	put(t, p.FS, "d/tmp", data)
	rename(t, p.FS, "d/tmp", "d/f")
	wantContent(t, p.FS, "d/f", data)
	wantContent(t, p.Reopen(t), "d/f", data)
	if got := listed(t, p.FS, "d"); !slices.Equal(got, []string{"f"}) {
		t.Errorf("List(d) = %q", got)
	}
}

func testRenameSame(t *testing.T, p Place) {
	put(t, p.FS, "d/f", []byte("x"))
	rename(t, p.FS, "d/f", "d/f")
	wantContent(t, p.FS, "d/f", []byte("x"))
	wantErr(t, "Rename of an absent file to its own name", p.FS.Rename(t.Context(), "d/none", "d/none"), fs.ErrNotExist)
}

func testRenameAbsent(t *testing.T, p Place) {
	put(t, p.FS, "d/f", []byte("x"))
	for _, from := range []string{"none", "none/none", "d/none", "d/f/none"} {
		wantErr(t, "Rename("+from+", d/f)", p.FS.Rename(t.Context(), from, "d/f"), fs.ErrNotExist)
		wantErr(t, "Rename("+from+", d/g)", p.FS.Rename(t.Context(), from, "d/g"), fs.ErrNotExist)
	}
	wantContent(t, p.FS, "d/f", []byte("x"))
	if got := listed(t, p.FS, "d"); !slices.Equal(got, []string{"f"}) {
		t.Errorf("List(d) = %q", got)
	}
}

func testRenameDirectory(t *testing.T, p Place) {
	f, ctx := p.FS, t.Context()
	put(t, f, "d/f", []byte("x"))
	put(t, f, "full/g", []byte("y"))
	put(t, f, "empty/g", nil)
	if err := f.Remove(ctx, "empty/g"); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "Rename over a directory", f.Rename(ctx, "d/f", "full"), fs.ErrInvalid)
	wantErr(t, "Rename over an empty directory", f.Rename(ctx, "d/f", "empty"), fs.ErrInvalid)
	wantErr(t, "Rename over the own directory", f.Rename(ctx, "d/f", "d"), fs.ErrInvalid)
	wantErr(t, "Rename of a directory", f.Rename(ctx, "full", "moved"), fs.ErrInvalid)
	wantErr(t, "Rename of an empty directory", f.Rename(ctx, "empty", "moved"), fs.ErrInvalid)
	wantErr(t, "Rename of a directory over a file", f.Rename(ctx, "empty", "d/f"), fs.ErrInvalid)
	wantErr(t, "Rename of a directory into itself", f.Rename(ctx, "full", "full/in"), fs.ErrInvalid)
	wantContent(t, f, "d/f", []byte("x"))
	wantContent(t, f, "full/g", []byte("y"))
	if got := listed(t, f, "."); !slices.Equal(got, []string{"d/", "empty/", "full/"}) {
		t.Errorf("List(.) = %q", got)
	}
}

func testRenameBelowFile(t *testing.T, p Place) {
	put(t, p.FS, "a", []byte("x"))
	put(t, p.FS, "b", []byte("y"))
	wantErr(t, "Rename below another file", p.FS.Rename(t.Context(), "a", "b/c"), fs.ErrInvalid)
	wantErr(t, "Rename far below another file", p.FS.Rename(t.Context(), "a", "b/c/d"), fs.ErrInvalid)
	wantErr(t, "Rename below itself", p.FS.Rename(t.Context(), "a", "a/c"), fs.ErrInvalid)
	wantContent(t, p.FS, "a", []byte("x"))
	wantContent(t, p.FS, "b", []byte("y"))
}

func testRenameRepeated(t *testing.T, p Place) {
	put(t, p.FS, "tmp", []byte("x"))
	rename(t, p.FS, "tmp", "d/f")
	wantErr(t, "the same Rename again", p.FS.Rename(t.Context(), "tmp", "d/f"), fs.ErrNotExist)
	wantContent(t, p.FS, "d/f", []byte("x"))
}
