//go:build e2e

package fsutil_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/e2e/lab/hdfslab"
	"github.com/ckptferry/ckptferry/fsutil"
)

// within fails the test when do takes longer.
func within(t *testing.T, limit time.Duration, what string, do func()) {
	t.Helper()
	start := time.Now()
	do()
	if took := time.Since(start); took > limit {
		t.Errorf("%s took %s; want at most %s", what, took, limit)
	}
}

func wantErrIs(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v; want %v", what, err, want)
	}
}

func wantBytes(t *testing.T, f fsutil.ReadFS, name string, want []byte) {
	t.Helper()
	got, err := getHDFS(t.Context(), f, name, 0)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("read %s: %d bytes, %v; want the %d bytes written", name, len(got), err, len(want))
	}
}

// onNode calls one of the cluster's methods on a node.
func onNode(t *testing.T, do func(string) error, node string) {
	t.Helper()
	if err := do(node); err != nil {
		t.Fatal(err)
	}
}

// strict is a configuration for nodes that are known to be dead or frozen.
func strict(c *hdfslab.Cluster) fsutil.HDFSConfig {
	return fsutil.HDFSConfig{ConfDir: c.ConfDir(), DialTimeout: 2 * time.Second, IdleTimeout: 2 * time.Second, RetryFor: 5 * time.Second}
}

// clientGoroutines are the stacks of the client's goroutines that write blocks: two for each, which it does not end when
// the block fails. They may take a moment to end.
func clientGoroutines() string {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		buf := make([]byte, 1<<20)
		all := string(buf[:runtime.Stack(buf, true)])
		if !strings.Contains(all, "blockWriteStream") {
			return ""
		}
		if time.Now().After(deadline) {
			return all
		}
	}
}

// bound is what a call may take at most with that: RetryFor + IdleTimeout, and some for a busy machine.
const bound = 12 * time.Second

// writtenTo is a datanode that takes part in a write at the moment.
func writtenTo(t *testing.T, c *hdfslab.Cluster) string {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for _, dn := range []string{"dn2", "dn1", "dn3"} {
			if files, err := c.OpenBlockFiles(dn); err == nil && len(files) > 0 {
				return dn
			}
		}
	}
	t.Fatal("nothing is written to any datanode")
	return ""
}

// TestHDFSFaultsOfNodes kills and freezes nodes of one cluster: a namenode and three datanodes, each file on all three.
func TestHDFSFaultsOfNodes(t *testing.T) {
	c := hdfslab.New(t, hdfslab.Options{
		Layout: hdfslab.Separate, Datanodes: 3, Properties: map[string]string{"dfs.blocksize": "1048576"},
	})
	f := openDir(t, c, strict(c))
	old := randomBytes(3<<20 + 7)
	if err := putHDFS(t.Context(), f, "old", old); err != nil {
		t.Fatal(err)
	}

	t.Run("a datanode killed while a file is read costs nothing", func(t *testing.T) {
		for _, dn := range []string{"dn1", "dn2", "dn3"} { // whichever it is read from
			r, err := f.Open(t.Context(), "old", 0)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(old))
			if _, err := io.ReadFull(r, got[:300_000]); err != nil {
				t.Fatal(err)
			}
			onNode(t, c.Kill, dn)
			if _, err := io.ReadFull(r, got[300_000:]); err != nil || !bytes.Equal(got, old) {
				t.Errorf("read with %s killed: %v; want the file", dn, err)
			}
			_ = r.Close()
			onNode(t, c.StartNode, dn)
			if err := c.WaitReady(t.Context(), 3); err != nil {
				t.Fatal(err)
			}
		}
	})

	t.Run("a datanode killed while a file is written fails the file, and writing it again succeeds", func(t *testing.T) {
		h := fsutil.NewHDFS(strict(c))
		f, err := h.Open(t.Context(), f.Root())
		if err != nil {
			t.Fatal(err)
		}
		content := randomBytes(8 << 20)
		w, err := f.Create(t.Context(), "killed")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content[:3<<19]); err != nil { // into the second block
			t.Fatal(err)
		}
		onNode(t, c.Kill, writtenTo(t, c))
		_, err = w.Write(content[3<<19:])
		if err == nil {
			err = w.Commit(t.Context())
		}
		wantErrIs(t, "write after the kill", err, fsutil.ErrUnavailable)
		wantErrIs(t, "commit of a failed file", w.Commit(t.Context()), fsutil.ErrUnavailable)
		if err := w.Abort(); err != nil {
			t.Errorf("abort: %v", err)
		}
		_, err = f.Stat(t.Context(), "killed")
		wantErrIs(t, "stat after abort", err, fs.ErrNotExist)
		if err := putHDFS(t.Context(), f, "killed", content); err != nil {
			t.Fatalf("write again: %v", err)
		}
		wantBytes(t, f, "killed", content)
		if err := h.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if stacks := clientGoroutines(); stacks != "" {
			t.Errorf("the client's goroutines go on after a failed write and Close:\n%s", stacks)
		}
	})

	t.Run("files are written at once while the namenode still offers the dead datanode", func(t *testing.T) {
		fresh := openAt(t, strict(c), f.Root().Join("fresh").String()) // an instance that has not met the dead one
		within(t, bound, "20 files", func() {
			for i := range 20 {
				name := fmt.Sprintf("f%d", i)
				if err := putHDFS(t.Context(), fresh, name, old[:2<<20]); err != nil {
					t.Fatalf("write %s: %v", name, err)
				}
			}
		})
		wantBytes(t, fresh, "f19", old[:2<<20])
	})

	t.Run("files are read while a datanode is dead", func(t *testing.T) {
		within(t, bound, "read", func() { wantBytes(t, f, "old", old) })
	})
	for _, dn := range []string{"dn1", "dn2", "dn3"} {
		onNode(t, c.StartNode, dn)
	}
	if err := c.WaitReady(t.Context(), 3); err != nil {
		t.Fatal(err)
	}

	t.Run("a frozen datanode costs one time limit, reading and writing", func(t *testing.T) {
		onNode(t, c.Pause, "dn1")
		defer onNode(t, c.Resume, "dn1")
		fresh := openAt(t, strict(c), f.Root().String())
		within(t, bound, "read", func() { wantBytes(t, fresh, "old", old) })
		within(t, bound, "write", func() {
			if err := putHDFS(t.Context(), fresh, "frozen", old); err != nil {
				t.Errorf("write: %v", err)
			}
		})
		within(t, bound, "read back", func() { wantBytes(t, fresh, "frozen", old) })
	})

	t.Run("a datanode frozen while a file is written ends the write", func(t *testing.T) {
		w, err := f.Create(t.Context(), "stuck")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(old[:1<<19]); err != nil {
			t.Fatal(err)
		}
		for _, dn := range []string{"dn1", "dn2", "dn3"} {
			onNode(t, c.Pause, dn)
			defer onNode(t, c.Resume, dn)
		}
		within(t, bound, "write", func() {
			_, err := w.Write(old)
			if err == nil {
				err = w.Commit(t.Context())
			}
			wantErrIs(t, "write", err, fsutil.ErrUnavailable)
		})
		within(t, bound, "abort", func() {
			if err := w.Abort(); err != nil {
				t.Errorf("abort: %v", err)
			}
		})
	})

	t.Run("a frozen namenode is an error in bounded time, and forgotten when it runs again", func(t *testing.T) {
		onNode(t, c.Pause, "nn1")
		resume := sync.OnceFunc(func() { onNode(t, c.Resume, "nn1") })
		defer resume()
		within(t, bound, "stat", func() {
			_, err := f.Stat(t.Context(), "old")
			wantErrIs(t, "stat", err, fsutil.ErrUnavailable)
		})
		var calls sync.WaitGroup
		within(t, bound, "calls side by side", func() {
			for range 20 {
				calls.Go(func() {
					_, err := f.List(t.Context(), ".")
					wantErrIs(t, "list", err, fsutil.ErrUnavailable)
				})
			}
			calls.Wait()
		})
		within(t, 2*time.Second, "a call that is cancelled", func() {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			_, err := f.Stat(ctx, "old")
			wantErrIs(t, "stat", err, context.DeadlineExceeded)
		})
		resume()
		within(t, bound, "stat", func() {
			if _, err := f.Stat(t.Context(), "old"); err != nil {
				t.Errorf("stat after the namenode runs again: %v", err)
			}
		})
	})

	t.Run("closing does not wait for a frozen namenode", func(t *testing.T) {
		h := fsutil.NewHDFS(strict(c))
		if _, err := h.Open(t.Context(), f.Root()); err != nil {
			t.Fatal(err)
		}
		onNode(t, c.Pause, "nn1")
		defer onNode(t, c.Resume, "nn1")
		within(t, time.Second, "close", func() {
			if err := h.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	})

	t.Run("calls wait for a namenode that restarts", func(t *testing.T) {
		patient := strict(c)
		patient.RetryFor = time.Minute
		f := openAt(t, patient, f.Root().Join("restart").String())
		if err := putHDFS(t.Context(), f, "a", old); err != nil {
			t.Fatal(err)
		}
		w, err := f.Create(t.Context(), "open") // stays open over the restart
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(old[:100]); err != nil {
			t.Fatal(err)
		}
		onNode(t, c.Kill, "nn1")
		onNode(t, c.StartNode, "nn1")
		if err := f.Rename(t.Context(), "a", "b/a"); err != nil {
			t.Errorf("rename: %v", err)
		}
		if err := putHDFS(t.Context(), f, "new", old); err != nil {
			t.Errorf("write: %v", err)
		}
		if err := f.Remove(t.Context(), "new"); err != nil {
			t.Errorf("remove: %v", err)
		}
		wantBytes(t, f, "b/a", old)
		if _, err := w.Write(old[100:200]); err != nil {
			t.Errorf("write to the file that was open: %v", err)
		}
		if err := w.Commit(t.Context()); err != nil {
			t.Errorf("commit of the file that was open: %v", err)
		}
		wantBytes(t, f, "open", old[:200])
	})

	t.Run("no live replica is an error, never a wrong checksum", func(t *testing.T) {
		r, err := f.Open(t.Context(), "old", 0)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := io.ReadFull(r, make([]byte, 1<<20-1)); err != nil { // all but the byte that completes the block
			t.Fatal(err)
		}
		for _, dn := range []string{"dn1", "dn2", "dn3"} {
			onNode(t, c.Kill, dn)
		}
		within(t, bound, "the rest of an open file", func() {
			n, err := io.Copy(io.Discard, r)
			wantErrIs(t, fmt.Sprintf("read (%d bytes)", n), err, fsutil.ErrUnavailable)
		})
		within(t, bound, "a file of dead datanodes", func() {
			_, err := getHDFS(t.Context(), f, "old", 0)
			wantErrIs(t, "read", err, fsutil.ErrUnavailable)
		})
		deadline := time.Now().Add(time.Minute)
		for { // until the namenode knows it too: it lists no datanode then
			r, err := f.Open(t.Context(), "old", 0)
			if err != nil {
				wantErrIs(t, "open", err, fsutil.ErrUnavailable)
				break
			}
			_ = r.Close()
			if time.Now().After(deadline) {
				t.Fatal("the namenode does not see that its datanodes are dead")
			}
			time.Sleep(200 * time.Millisecond)
		}
		for _, dn := range []string{"dn1", "dn2", "dn3"} {
			onNode(t, c.StartNode, dn)
		}
		if err := c.WaitReady(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
		wantBytes(t, f, "old", old)
	})
}
