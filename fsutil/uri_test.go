package fsutil

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseURI(t *testing.T) {
	t.Chdir(t.TempDir())
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for s, want := range map[string]URI{
		"file:/a/b":               {"file", "", "/a/b"},
		"file:///a/b":             {"file", "", "/a/b"},
		"file:////a//b/":          {"file", "", "/a/b"},
		"FILE:/a":                 {"file", "", "/a"},
		"file:/":                  {"file", "", "/"},
		"file:":                   {"file", "", "/"},
		"file:///":                {"file", "", "/"},
		"file:/a/./b/../c":        {"file", "", "/a/c"},
		"file:/../../a":           {"file", "", "/a"},
		"file:/a%20b":             {"file", "", "/a%20b"},
		"file:/a b?c#d":           {"file", "", "/a b?c#d"},
		`file:/a\b`:               {"file", "", `/a\b`},
		"file:/ü/日本":              {"file", "", "/ü/日本"},
		"hdfs://ns":               {"hdfs", "ns", "/"},
		"hdfs://ns/":              {"hdfs", "ns", "/"},
		"hdfs://ns/a//b/":         {"hdfs", "ns", "/a/b"},
		"HDFS://NS-1/a":           {"hdfs", "NS-1", "/a"},
		"hdfs://nn.dc:8020/a":     {"hdfs", "nn.dc:8020", "/a"},
		"hdfs://nn:8020/a:b/c":    {"hdfs", "nn:8020", "/a:b/c"},
		"hdfs:/a":                 {"hdfs", "", "/a"},
		"hdfs:///a":               {"hdfs", "", "/a"},
		"s3://bucket/a":           {"s3", "bucket", "/a"},
		"/a/b/":                   {"file", "", "/a/b"},
		"//a":                     {"file", "", "/a"},
		"a/b":                     {"file", "", filepath.ToSlash(wd) + "/a/b"},
		"./a:b":                   {"file", "", filepath.ToSlash(wd) + "/a:b"},
		".":                       {"file", "", filepath.ToSlash(wd)},
		"1a:b":                    {"file", "", filepath.ToSlash(wd) + "/1a:b"},
		"/has:colon/hdfs://x":     {"file", "", "/has:colon/hdfs:/x"},
		"hdfs://ns/../x":          {"hdfs", "ns", "/x"},
		"viewfs://cluster/a":      {"viewfs", "cluster", "/a"},
		"file:/a/_metadata":       {"file", "", "/a/_metadata"},
		"x-y.z+1://host:1/p/../q": {"x-y.z+1", "host:1", "/q"},
	} {
		if got, err := ParseURI(s); err != nil || got != want {
			t.Errorf("ParseURI(%q) = %#v, %v; want %#v", s, got, err, want)
		}
	}
}

func TestParseURIRefuses(t *testing.T) {
	for s, says := range map[string]string{
		"":               "empty",
		"file:a":         "slash",
		"hdfs:a/b":       "slash",
		"a:b":            "slash",
		"file://host/a":  "file:/host/a",
		"file://a":       "names no host",
		"file:/a\x00":    "NUL",
		"\x00":           "NUL",
		"hdfs://n\x00/a": "NUL",
	} {
		if got, err := ParseURI(s); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("ParseURI(%q) = %#v, %v; want an error that says %q", s, got, err, says)
		}
	}
}

func TestURIString(t *testing.T) {
	for want, u := range map[string]URI{
		"":            {},
		"file:/a":     {"file", "", "/a"},
		"file:/":      {"file", "", "/"},
		"hdfs://ns/a": {"hdfs", "ns", "/a"},
		"hdfs://ns/":  {"hdfs", "ns", "/"},
		"hdfs:/a":     {"hdfs", "", "/a"},
	} {
		if got := u.String(); got != want {
			t.Errorf("%#v.String() = %q; want %q", u, got, want)
		}
	}
}

func TestURIRel(t *testing.T) {
	for _, tc := range []struct {
		base, of, want string
		below          bool
	}{
		{"file:/a", "file:/a/b/c", "b/c", true},
		{"file:/a", "file:/a", ".", true},
		{"file:/a", "file:/ab", "", false},
		{"file:/a", "file:/", "", false},
		{"file:/", "file:/a", "a", true},
		{"file:/", "file:/", ".", true},
		{"file:/a", "hdfs:/a/b", "", false},
		{"hdfs://x/a", "hdfs://y/a/b", "", false},
		{"hdfs://x/a", "hdfs://x/a/b", "b", true},
	} {
		base, of := mustParse(t, tc.base), mustParse(t, tc.of)
		if got, below := base.Rel(of); below != tc.below || below && got != tc.want {
			t.Errorf("%s.Rel(%s) = %q, %v; want %q, %v", base, of, got, below, tc.want, tc.below)
		}
	}
	if u := mustParse(t, "file:/a/b"); u.Dir() != mustParse(t, "file:/a") || u.Base() != "b" || u.Join("../c") != mustParse(t, "file:/a/c") {
		t.Errorf("Dir %s, Base %s, Join %s", u.Dir(), u.Base(), u.Join("../c"))
	}
	if u := mustParse(t, "hdfs://ns/"); u.Dir() != u || u.Base() != "/" || u.Join("a").String() != "hdfs://ns/a" {
		t.Errorf("Dir %s, Base %s, Join %s", u.Dir(), u.Base(), u.Join("a"))
	}
}

func mustParse(t *testing.T, s string) URI {
	t.Helper()
	u, err := ParseURI(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestJoinAndRelAreInverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		segment := rapid.StringMatching(`[^/\x00]{1,8}`).Filter(func(s string) bool { return fs.ValidPath(s) && s != "." })
		root := URI{
			Scheme:    rapid.SampledFrom([]string{"file", "hdfs", "s3"}).Draw(t, "scheme"),
			Authority: rapid.SampledFrom([]string{"", "ns", "nn:8020"}).Draw(t, "authority"),
			Path:      "/" + strings.Join(rapid.SliceOfN(segment, 0, 4).Draw(t, "root"), "/"),
		}
		name := strings.Join(rapid.SliceOfN(segment, 1, 4).Draw(t, "name"), "/")
		joined := root.Join(name)
		if got, below := root.Rel(joined); !below || got != name {
			t.Fatalf("%s.Rel(%s) = %q, %v; want %q", root, joined, got, below, name)
		}
		if got, below := root.Join("../x").Rel(joined); below && root.Path != "/" && root.Base() != "x" {
			t.Fatalf("a sibling says that %s is its own %q", joined, got)
		}
	})
}

func FuzzParseURI(f *testing.F) {
	for _, s := range []string{"file:/a", "file:///a/../b", "hdfs://ns:8020//x/", "a/b:c", "x:", "x://", "://", "//", "\xff:/\xff", "file:/\\"} {
		f.Add(s, "shared/x")
	}
	f.Fuzz(func(t *testing.T, s, name string) {
		u, err := ParseURI(s)
		if err != nil {
			return
		}
		again, err := ParseURI(u.String())
		if err != nil || again != u {
			t.Fatalf("ParseURI(%q) = %#v, and its String %q reads back as %#v, %v", s, u, u.String(), again, err)
		}
		if !strings.HasPrefix(u.Path, "/") || strings.Contains(u.Path, "//") || u.Path != "/" && strings.HasSuffix(u.Path, "/") {
			t.Fatalf("ParseURI(%q) has the path %q", s, u.Path)
		}
		if fs.ValidPath(name) {
			if got, below := u.Rel(u.Join(name)); !below || got != name {
				t.Fatalf("%s.Rel(Join(%q)) = %q, %v", u, name, got, below)
			}
		}
	})
}
