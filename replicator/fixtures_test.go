package replicator

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/fsutil"
)

const fixturesDir = "../flinkmeta/fixtures"

// fixture is one checkpoint or savepoint that a real Flink wrote below the root /dc-a.
type fixture struct {
	name string // case/chk-N
	root string // what lies at /dc-a for Flink, absolute
	dir  string // directory of _metadata, absolute
}

func (f fixture) source() fsutil.URI { return fsutil.URI{Scheme: "file", Path: f.dir} }

func (f fixture) maps() PrefixMaps {
	root := fsutil.URI{Scheme: "file", Path: f.root}
	return PrefixMaps{
		{From: fsutil.URI{Scheme: "file", Path: "/dc-a"}, To: root},
		{From: fsutil.URI{Scheme: "ent", Path: "/dc-a"}, To: root},
	}
}

// fixtures finds all checkpoints of the cases that match the glob.
func fixtures(t *testing.T, glob string) []fixture {
	t.Helper()
	cases, err := filepath.Glob(filepath.Join(fixturesDir, glob))
	if err != nil {
		t.Fatal(err)
	}
	var out []fixture
	for _, c := range cases {
		if fi, err := os.Stat(c); err != nil || !fi.IsDir() {
			continue
		}
		abs, err := filepath.Abs(c)
		if err != nil {
			t.Fatal(err)
		}
		root := filepath.Join(abs, "dc-a")
		err = filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
			if err == nil && d.Name() == metadataName {
				dir := filepath.Dir(p)
				out = append(out, fixture{name: filepath.Base(abs) + "/" + filepath.Base(dir), root: root, dir: dir})
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(out) == 0 {
		t.Fatalf("no fixture matches %s", glob)
	}
	return out
}

// private copies a fixture's whole tree, so that a test may change it.
func (f fixture) private(t *testing.T) fixture {
	t.Helper()
	root := filepath.Join(t.TempDir(), "dc-a")
	if err := os.CopyFS(root, os.DirFS(f.root)); err != nil {
		t.Fatal(err)
	}
	return fixture{name: f.name, root: root, dir: filepath.Join(root, strings.TrimPrefix(f.dir, f.root))}
}

func one(t *testing.T, glob, chk string) fixture {
	t.Helper()
	for _, f := range fixtures(t, glob) {
		if filepath.Base(f.dir) == chk {
			return f
		}
	}
	t.Fatalf("no fixture %s/%s", glob, chk)
	return fixture{}
}

func fileURI(p string) fsutil.URI { return fsutil.URI{Scheme: "file", Path: p} }

func newStores(t *testing.T) *fsutil.Stores {
	t.Helper()
	s := fsutil.NewStores(fsutil.StoresConfig{})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
