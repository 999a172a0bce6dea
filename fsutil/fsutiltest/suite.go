// Package fsutiltest is the contract of fsutil.FS as a test: one suite that every implementation passes, so that
// what holds on a laptop's directory holds on HDFS. Start at Run.
package fsutiltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"testing"

	"github.com/ckptferry/ckptferry/fsutil"
)

// Place is one root of an implementation under test.
type Place struct {
	FS fsutil.FS
	// Reopen gives the same root by a new instance, as after a restart of the process.
	Reopen func(t *testing.T) fsutil.FS
}

// Run tests an implementation. newPlace is called once per test and gives a root where nothing is yet; what it opens
// it closes with t.Cleanup.
func Run(t *testing.T, newPlace func(t *testing.T) Place) {
	for _, group := range []map[string]func(*testing.T, Place){nameTests, writeTests, readTests, renameTests, concurrencyTests, contextTests} {
		for name, test := range group {
			t.Run(name, func(t *testing.T) { test(t, newPlace(t)) })
		}
	}
}

// content makes n bytes that are the same for the same seed, and different everywhere else.
func content(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1}).Read(b) // never fails
	return b
}

func create(t *testing.T, f fsutil.FS, name string) fsutil.File {
	t.Helper()
	w, err := f.Create(t.Context(), name)
	if err != nil {
		t.Fatalf("Create(%q) = %v", name, err)
	}
	t.Cleanup(func() { _ = w.Abort() }) // does nothing after Commit
	return w
}

// put creates and commits a file.
func put(t *testing.T, f fsutil.FS, name string, data []byte) {
	t.Helper()
	if err := putFile(t.Context(), f, name, data); err != nil {
		t.Fatal(err)
	}
}

func putFile(ctx context.Context, f fsutil.FS, name string, data []byte) error {
	w, err := f.Create(ctx, name)
	if err != nil {
		return fmt.Errorf("Create(%q): %w", name, err)
	}
	if _, err := w.Write(data); err != nil {
		return errors.Join(fmt.Errorf("Write(%q): %w", name, err), w.Abort())
	}
	if err := w.Commit(ctx); err != nil {
		return errors.Join(fmt.Errorf("Commit(%q): %w", name, err), w.Abort())
	}
	return nil
}

func get(ctx context.Context, f fsutil.ReadFS, name string, offset int64) ([]byte, error) {
	r, err := f.Open(ctx, name, offset)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

func wantContent(t *testing.T, f fsutil.ReadFS, name string, want []byte) {
	t.Helper()
	got, err := get(t.Context(), f, name, 0)
	if err != nil {
		t.Fatalf("read %q: %v", name, err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("read %q: %d bytes, not the %d that were written", name, len(got), len(want))
	}
	i, err := f.Stat(t.Context(), name)
	if err != nil || i.Size != int64(len(want)) || i.IsDir {
		t.Fatalf("Stat(%q) = %+v, %v; want a file of %d bytes", name, i, err, len(want))
	}
}

func wantAbsent(t *testing.T, f fsutil.ReadFS, name string) {
	t.Helper()
	if i, err := f.Stat(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Stat(%q) = %+v, %v; want fs.ErrNotExist", name, i, err)
	}
}

func wantDir(t *testing.T, f fsutil.ReadFS, name string) {
	t.Helper()
	if i, err := f.Stat(t.Context(), name); err != nil || !i.IsDir || i.Size != 0 {
		t.Fatalf("Stat(%q) = %+v, %v; want a directory", name, i, err)
	}
}

func wantErr(t *testing.T, call string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s = %v; want %v", call, err, want)
	}
}

func rename(t *testing.T, f fsutil.FS, from, to string) {
	t.Helper()
	if err := f.Rename(t.Context(), from, to); err != nil {
		t.Fatalf("Rename(%q, %q) = %v", from, to, err)
	}
}

// listed are the names of List, directories with a slash.
func listed(t *testing.T, f fsutil.ReadFS, dir string) []string {
	t.Helper()
	infos, err := f.List(t.Context(), dir)
	if err != nil {
		t.Fatalf("List(%q) = %v", dir, err)
	}
	names := []string{}
	for _, i := range infos {
		if i.IsDir {
			i.Name += "/"
		}
		names = append(names, i.Name)
	}
	return names
}
