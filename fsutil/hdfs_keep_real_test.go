//go:build e2e

package fsutil_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
)

// What a writer that broke leaves on HDFS: its finished blocks can be read by anybody while the file is open, also when its
// process is gone and nobody recovers the lease, and it can be removed.
func TestWhatABrokenWriterLeavesCanBeReadAndRemoved(t *testing.T) {
	c := plainCluster(t)
	f := openDir(t, c, quick(c))
	const block = 128 << 20
	want := randomBytes(block + 5<<20)
	for name, end := range map[string]func(t *testing.T, w fsutil.File){
		"kept after its context ended": func(t *testing.T, w fsutil.File) {
			if err := w.(fsutil.Keeper).Keep(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
		"abandoned": func(*testing.T, fsutil.File) {}, // as a killed process does
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			file := "d/" + name
			w, err := f.Create(ctx, file)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(want); err != nil {
				t.Fatal(err)
			}
			cancel()
			if _, err := w.Write([]byte("x")); !errors.Is(err, context.Canceled) {
				t.Fatalf("Write after the context ended = %v", err)
			}
			end(t, w)
			other := openAt(t, quick(c), f.Root().String())
			info, err := other.Stat(t.Context(), file)
			if err != nil || info.Size != block {
				t.Fatalf("Stat = %+v, %v; want the finished block", info, err)
			}
			began := time.Now()
			r, err := other.(fsutil.PrefixOpener).OpenPrefix(t.Context(), file, 0, info.Size)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, want[:block]) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			t.Logf("%d MiB were read in %s", len(got)>>20, time.Since(began))
			if err := errors.Join(r.Close(), other.Remove(t.Context(), file)); err != nil {
				t.Fatal(err)
			}
			if err := w.Abort(); err != nil {
				t.Errorf("Abort of a file that was removed = %v", err)
			}
		})
	}
}
