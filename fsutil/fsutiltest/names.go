package fsutiltest

import (
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/fsutil"
)

var nameTests = map[string]func(*testing.T, Place){
	"a name that can lead elsewhere is refused by every method":                 testBadNames,
	"the root is neither created nor renamed nor removed":                       testRootIsNotTouched,
	"odd characters and lengths are kept as they are":                           testOddNames,
	"a name is found through every method, however deep":                        testDeepName,
	"names that differ only in case or in Unicode normal form are two files":    testDistinctNames,
	"the root is the same URI in every instance, and names are joined below it": testRoot,
}

func badNames() []string {
	long := strings.Repeat("x", 256)
	return []string{
		"", "/", "/a", "//a", "..", "../x", "a/..", "a/../b", "a/../../x", "a//b", "a/", "./a", "a/.", "a/./b",
		"a\x00b", "\x00", "a/\x00", "\xff", "a/\xc3\x28", long, "a/" + long, long + "/a", strings.Repeat("日", 86),
	}
}

func testBadNames(t *testing.T, p Place) {
	f, ctx := p.FS, t.Context()
	put(t, f, "a", []byte("kept"))
	for _, name := range badNames() {
		if r, err := f.Open(ctx, name, 0); err == nil {
			_ = r.Close()
			t.Errorf("Open(%q) is no error", name)
		} else {
			wantErr(t, "Open("+name+")", err, fs.ErrInvalid)
		}
		_, err := f.Stat(ctx, name)
		wantErr(t, "Stat("+name+")", err, fs.ErrInvalid)
		_, err = f.List(ctx, name)
		wantErr(t, "List("+name+")", err, fs.ErrInvalid)
		if w, err := f.Create(ctx, name); err == nil {
			_ = w.Abort()
			t.Errorf("Create(%q) is no error", name)
		} else {
			wantErr(t, "Create("+name+")", err, fs.ErrInvalid)
		}
		wantErr(t, "Rename("+name+", b)", f.Rename(ctx, name, "b"), fs.ErrInvalid)
		wantErr(t, "Rename(a, "+name+")", f.Rename(ctx, "a", name), fs.ErrInvalid)
		wantErr(t, "Remove("+name+")", f.Remove(ctx, name), fs.ErrInvalid)
	}
	wantContent(t, f, "a", []byte("kept"))
	if got := listed(t, f, "."); !slices.Equal(got, []string{"a"}) {
		t.Errorf("List(.) = %q; want only a", got)
	}
}

func testRootIsNotTouched(t *testing.T, p Place) {
	f, ctx := p.FS, t.Context()
	put(t, f, "a", nil)
	_, err := f.Create(ctx, ".")
	wantErr(t, "Create(.)", err, fs.ErrInvalid)
	wantErr(t, "Rename(., b)", f.Rename(ctx, ".", "b"), fs.ErrInvalid)
	wantErr(t, "Rename(a, .)", f.Rename(ctx, "a", "."), fs.ErrInvalid)
	if err := f.Remove(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "Remove(.)", f.Remove(ctx, "."), fs.ErrInvalid)
	wantDir(t, f, ".")
}

func testOddNames(t *testing.T, p Place) {
	names := []string{
		`back\slash`, `..\x`, `C\x`, "with space", " leading", "trailing ", "...", "..x", ".hidden", "-rf", "~", "$HOME",
		"%2F", "%", "a+b", "a=b", "a&b", "a#b", "a?b", "*", "[x]", "{a,b}", `"quoted"`, "'", "ümläut", "日本語", "🛳",
		strings.Repeat("x", 255), strings.Repeat("日", 85), "_metadata", "00000000-0000-0000-0000-000000000000.200",
	}
	for i, name := range names {
		data := content(uint64(i), 10+i)
		put(t, p.FS, "tmp", data)
		rename(t, p.FS, "tmp", "dir/"+name)
		wantContent(t, p.FS, "dir/"+name, data)
		put(t, p.FS, "in/"+name+"/file", data)
		wantContent(t, p.FS, "in/"+name+"/file", data)
	}
	slices.Sort(names)
	if got := listed(t, p.FS, "dir"); !slices.Equal(got, names) {
		t.Errorf("List gives the names as %q", got)
	}
	for _, name := range names {
		if err := p.FS.Remove(t.Context(), "dir/"+name); err != nil {
			t.Errorf("Remove(%q) = %v", name, err)
		}
	}
	if got := listed(t, p.FS, "dir"); len(got) != 0 {
		t.Errorf("after removing all: %q", got)
	}
}

func testDeepName(t *testing.T, p Place) {
	dir := strings.Repeat(strings.Repeat("d", 60)+"/", 12)
	put(t, p.FS, dir+"tmp", []byte("deep"))
	rename(t, p.FS, dir+"tmp", dir+"to/file")
	wantContent(t, p.Reopen(t), dir+"to/file", []byte("deep"))
	if got := listed(t, p.FS, strings.TrimSuffix(dir, "/")); !slices.Equal(got, []string{"to/"}) {
		t.Errorf("List = %q", got)
	}
}

func testDistinctNames(t *testing.T, p Place) {
	names := []string{"A", "a", "e\u0301", "\u00e9"}
	for i, name := range names {
		put(t, p.FS, "d/"+name, content(uint64(i), 5))
	}
	for i, name := range names {
		wantContent(t, p.FS, "d/"+name, content(uint64(i), 5))
	}
	if got := listed(t, p.FS, "d"); !slices.Equal(got, names) {
		t.Errorf("List = %q; want %q", got, names)
	}
}

func testRoot(t *testing.T, p Place) {
	root := p.FS.Root()
	if parsed, err := fsutil.ParseURI(root.String()); err != nil || parsed != root {
		t.Errorf("Root() = %#v, which reads back as %#v, %v", root, parsed, err)
	}
	if again := p.Reopen(t).Root(); again != root {
		t.Errorf("Root() is %s, and after reopening %s", root, again)
	}
}
