package flinkmeta_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/flinkmeta"
	"pgregory.net/rapid"
)

func TestNormalizePathIsFlinksPath(t *testing.T) {
	for in, want := range map[string]string{
		"file:/a/b":                         "file:/a/b",
		"file:///a/b":                       "file:/a/b",
		"file:////a//b///c/":                "file:/a/b/c",
		"FILE:/a":                           "file:/a",
		"file:/a/./b/../c":                  "file:/a/c",
		"file:/a/b/..":                      "file:/a",
		`file:/a\b`:                         "file:/a/b",
		"file:/":                            "file:/",
		"file:///":                          "file:/",
		"hdfs://ns":                         "hdfs://ns/",
		"hdfs://ns/":                        "hdfs://ns/",
		"hdfs://nn.dc1:8020//a":             "hdfs://nn.dc1:8020/a",
		"hdfs:/a":                           "hdfs:/a",
		"hdfs:///a":                         "hdfs:/a",
		"s3://bucket/_entropy_/x":           "s3://bucket/_entropy_/x",
		"s3a+x.y-z://b/k":                   "s3a+x.y-z://b/k",
		"/a/../b":                           "/b",
		"//a/b":                             "//a/b",
		"file:/with blank/and:colon/é/😀":    "file:/with blank/and:colon/é/😀",
		"file:/not%20decoded":               "file:/not%20decoded",
		"file:/.hidden/..twodots/...three/": "file:/.hidden/..twodots/...three",
	} {
		got, err := flinkmeta.NormalizePath(in)
		if err != nil || got != want {
			t.Errorf("NormalizePath(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestNormalizePathRefusesWhatNamesNoFile(t *testing.T) {
	for _, in := range []string{"", "a/b", "../a", "file:a", "file:", ":/a", "1x:/a", "c:/windows", "a b:/c", "file:/..", "file:/a/../../b",
		"file:/a ", " file:/a", "file:/a\x00b", "file:/\xff", "hdfs:a/b"} {
		if got, err := flinkmeta.NormalizePath(in); !errors.Is(err, flinkmeta.ErrPath) {
			t.Errorf("NormalizePath(%q) = %q, %v; want ErrPath", in, got, err)
		}
	}
}

func TestResolvePathIsURIResolve(t *testing.T) {
	for _, tc := range []struct{ dir, rel, want string }{
		{"file:/cp/job/chk-7", "uuid", "file:/cp/job/chk-7/uuid"},
		{"file:///cp/job/chk-7/", "uuid", "file:/cp/job/chk-7/uuid"},
		{"hdfs://ns/cp/job/chk-7", "../shared/uuid", "hdfs://ns/cp/job/shared/uuid"},
		{"hdfs://ns/", "uuid", "hdfs://ns/uuid"},
		{"hdfs://ns", "a/b", "hdfs://ns/a/b"},
		{"file:/", "a", "file:/a"},
		{"file:/cp", "/a", "file:/cp/a"}, // Path strips the slash
		{"file:/cp", "sub//x/", "file:/cp/sub/x"},
		{"file:/cp", `sub\x`, "file:/cp/sub/x"},
		{"file:/cp", "./a/../b", "file:/cp/b"},
		{"file:/cp", "sub/with:colon", "file:/cp/sub/with:colon"},
		{"file:/cp", "..hidden", "file:/cp/..hidden"},
	} {
		got, err := flinkmeta.ResolvePath(tc.dir, tc.rel)
		if err != nil || got != tc.want {
			t.Errorf("ResolvePath(%q, %q) = %q, %v; want %q", tc.dir, tc.rel, got, err, tc.want)
		}
	}
	for _, tc := range []struct{ dir, rel string }{
		{"file:/cp", ""}, {"file:/cp", "."}, {"file:/cp", "a/.."}, {"file:/cp", "../../a"}, {"file:/cp", "file:/a"}, {"file:/cp", "//host/a"},
		{"file:/cp", "a "}, {"cp", "a"}, {"file:/cp", "x\x00"},
	} {
		if got, err := flinkmeta.ResolvePath(tc.dir, tc.rel); !errors.Is(err, flinkmeta.ErrPath) {
			t.Errorf("ResolvePath(%q, %q) = %q, %v; want ErrPath", tc.dir, tc.rel, got, err)
		}
	}
}

// The quick tests for paths that need no work, against the slow way: a path is made odd and normalised, which must not
// depend on how odd it was.
func TestNormalizePathIsIdempotentAndBlindToSpelling(t *testing.T) {
	segment := rapid.StringMatching(`[a-z.:%\\ é-]{1,10}`)
	rapid.Check(t, func(t *rapid.T) {
		root := rapid.SampledFrom([]string{"file:", "hdfs://ns", "s3://b", ""}).Draw(t, "root")
		segments := rapid.SliceOfN(segment, 1, 5).Draw(t, "segments")
		once, err := flinkmeta.NormalizePath(root + "/" + strings.Join(segments, "/"))
		if err != nil {
			return
		}
		twice, err := flinkmeta.NormalizePath(once)
		if err != nil || twice != once {
			t.Fatalf("%q, again %q, %v", once, twice, err)
		}
		odd, err := flinkmeta.NormalizePath(root + "/./" + strings.Join(segments, "/x/..//"))
		if err != nil || odd != once {
			t.Fatalf("%q, spelled otherwise %q, %v", once, odd, err)
		}
	})
}

func TestABackslashIsFoundWhereverItIs(t *testing.T) {
	for at := range 24 {
		name := []byte(strings.Repeat("a", 24))
		name[at] = '\\'
		want := "file:/x/" + strings.Trim(strings.Replace(string(name), `\`, "/", 1), "/")
		if got, err := flinkmeta.NormalizePath("file:/x/" + string(name)); err != nil || got != want {
			t.Errorf("NormalizePath with %q = %q, %v; want %q", name, got, err, want)
		}
	}
}
