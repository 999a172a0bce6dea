package node

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/config"
	"github.com/ckptferry/ckptferry/fsutil"
)

func uri(t *testing.T, s string) fsutil.URI {
	t.Helper()
	u, err := fsutil.ParseURI(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestAPlaceIsReachedWhereTheConfigurationSays(t *testing.T) {
	mnt := t.TempDir()
	if err := os.MkdirAll(filepath.Join(mnt, "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(mnt, "a", "f"), []byte("bytes"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := openPlaces([]config.Place{
		{Prefixes: []fsutil.URI{uri(t, "hdfs://dc1/flink"), uri(t, "viewfs://dc1/flink")}, Reach: uri(t, "file:"+mnt)},
		{Prefixes: []fsutil.URI{uri(t, "file:"+mnt+"/a")}, Reach: uri(t, "file:"+mnt+"/a")},
	})
	for _, named := range []string{"hdfs://dc1/flink/a", "viewfs://dc1/flink/a", "file:" + mnt + "/a"} {
		read, err := p.OpenRead(t.Context(), uri(t, named))
		if err != nil {
			t.Fatal(err)
		}
		if got := read.Root().String(); got != named {
			t.Errorf("opened as %s, its root is %s: it must be the name that it was asked for by", named, got)
		}
		f, err := read.Open(t.Context(), "f", 0)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(f); err != nil || string(got) != "bytes" {
			t.Errorf("%s/f holds %q, %v", named, got, err)
		}
		_ = f.Close()
		write, err := p.Open(t.Context(), uri(t, named))
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := write.(fsutil.AllRenamer); !ok {
			t.Errorf("%s lost RenameAll of the local file system", named)
		}
	}
	if err := errors.Join(p.Close(), p.Close()); err != nil {
		t.Error(err)
	}
}

func TestTheLongestPrefixDecides(t *testing.T) {
	outer, inner := t.TempDir(), t.TempDir()
	p := openPlaces([]config.Place{
		{Prefixes: []fsutil.URI{uri(t, "hdfs://dc1/")}, Reach: uri(t, "file:"+outer)},
		{Prefixes: []fsutil.URI{uri(t, "hdfs://dc1/inner")}, Reach: uri(t, "file:"+inner)},
	})
	for named, want := range map[string]string{
		"hdfs://dc1/inner/x": inner + "/x", "hdfs://dc1/inner": inner, "hdfs://dc1/innermost": outer + "/innermost", "hdfs://dc1/": outer,
	} {
		if _, got, err := p.find(uri(t, named)); err != nil || got.Path != want {
			t.Errorf("%s is reached at %s (%v), want %s", named, got, err, want)
		}
	}
}

func TestAPlaceOutsideOfTheStoresIsDenied(t *testing.T) {
	p := openPlaces([]config.Place{{Prefixes: []fsutil.URI{uri(t, "hdfs://dc1/flink")}, Reach: uri(t, "file:"+t.TempDir())}})
	for _, named := range []string{"hdfs://dc1/", "hdfs://dc1/flink2", "hdfs://dc2/flink", "file:/etc"} {
		if _, err := p.Open(t.Context(), uri(t, named)); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("open %s: %v, want %v", named, err, fs.ErrPermission)
		}
		if _, err := p.OpenRead(t.Context(), uri(t, named)); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("open %s for reading: %v, want %v", named, err, fs.ErrPermission)
		}
	}
}

func TestALinkedStoreIsKnownByWhereItLeads(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Mkdir(filepath.Join(dir, "real"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "real"), link); err != nil {
		t.Fatal(err)
	}
	p := openPlaces([]config.Place{{Prefixes: []fsutil.URI{uri(t, "file:"+link)}, Reach: uri(t, "file:"+link)}})
	real := fsutil.Canonical(uri(t, "file:"+link+"/x"))
	if _, got, err := p.find(real); err != nil || got != real {
		t.Errorf("%s is reached at %s, %v", real, got, err)
	}
}
