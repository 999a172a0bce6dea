package fsutil_test

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/fsutil"
)

func TestStoresOpenDirectories(t *testing.T) {
	s := fsutil.NewStores(fsutil.StoresConfig{})
	defer s.Close() // nothing is connected
	root := fsutil.URI{Scheme: "file", Path: t.TempDir()}
	w, err := s.Open(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	f, err := w.Create(t.Context(), "d/f")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, err := s.OpenRead(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Stat(t.Context(), "d/f"); err != nil {
		t.Error(err)
	}
	if r.Root() != root || w.Root() != root {
		t.Errorf("roots %s and %s; want %s", r.Root(), w.Root(), root)
	}
}

func TestWhatReadsCannotWriteByTypeAssertion(t *testing.T) {
	local, err := fsutil.OpenLocalRead(fsutil.URI{Scheme: "file", Path: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]fsutil.ReadFS{
		"LocalRead": local,
		"ReadOnly":  fsutil.ReadOnly(fsutil.NewMemory(fsutil.URI{Scheme: "file", Path: "/m"})),
	} {
		if _, can := r.(interface {
			Create(context.Context, string) (fsutil.File, error)
		}); can {
			t.Errorf("%s has Create", name)
		}
		if _, can := r.(interface {
			Rename(context.Context, string, string) error
		}); can {
			t.Errorf("%s has Rename", name)
		}
		if _, can := r.(interface {
			Remove(context.Context, string) error
		}); can {
			t.Errorf("%s has Remove", name)
		}
	}
}

func TestStoresRefuseWhatTheyCannotReach(t *testing.T) {
	s := fsutil.NewStores(fsutil.StoresConfig{})
	defer s.Close() // nothing is connected
	for uri, want := range map[string]struct {
		err  error
		says string // what to do
	}{
		"s3://bucket/flink":       {fsutil.ErrUnsupported, "object stores"},
		"gs://bucket/flink":       {fsutil.ErrUnsupported, "object stores"},
		"viewfs://cluster/flink":  {fsutil.ErrUnsupported, "hdfs://NAMESERVICE/"},
		"webhdfs://nn:9870/flink": {fsutil.ErrUnsupported, "hdfs://HOST:8020/flink"},
		"ent:/a":                  {fsutil.ErrUnsupported, `"ent"`},
	} {
		u, err := fsutil.ParseURI(uri)
		if err != nil {
			t.Fatal(err)
		}
		_, readErr := s.OpenRead(t.Context(), u)
		_, writeErr := s.Open(t.Context(), u)
		for _, err := range []error{readErr, writeErr} {
			if !errors.Is(err, want.err) || !strings.Contains(err.Error(), want.says) {
				t.Errorf("open %s = %v; want %v that says %s", uri, err, want.err, want.says)
			}
		}
	}
	if f, err := s.Open(t.Context(), fsutil.URI{}); f != nil || !errors.Is(err, fsutil.ErrUnsupported) {
		t.Errorf("open the zero URI = %v, %v", f, err)
	}
	if f, err := s.Open(t.Context(), fsutil.URI{Scheme: "file"}); f != nil || !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("open a file URI without path = %v, %v", f, err)
	}
}
