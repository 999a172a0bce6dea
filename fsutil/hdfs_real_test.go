//go:build e2e

package fsutil_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/e2e/lab/hdfslab"
	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/fsutil/fsutiltest"
)

// plain is the cluster that most tests share, each below a directory of its own: one JVM, two datanodes.
var plain = sync.OnceValues(func() (*hdfslab.Cluster, error) {
	return hdfslab.Start(context.Background(), hdfslab.Options{Datanodes: 2})
})

func TestMain(m *testing.M) {
	code := m.Run()
	if c, err := plain(); err == nil {
		_ = c.Close() // its processes end with this one anyhow
	}
	os.Exit(code)
}

func plainCluster(t *testing.T) *hdfslab.Cluster {
	t.Helper()
	c, err := plain()
	if err != nil {
		t.Fatalf("hdfslab: %v", err)
	}
	return c
}

// quick is a configuration whose time limits suit a test.
func quick(c *hdfslab.Cluster) fsutil.HDFSConfig {
	return fsutil.HDFSConfig{ConfDir: c.ConfDir(), DialTimeout: 2 * time.Second, IdleTimeout: 3 * time.Second, RetryFor: 10 * time.Second}
}

var places atomic.Int64

// openDir opens a directory of the cluster where nothing is yet.
func openDir(t *testing.T, c *hdfslab.Cluster, cfg fsutil.HDFSConfig) fsutil.FS {
	t.Helper()
	return openAt(t, cfg, fmt.Sprintf("%s/t%d", c.URI(), places.Add(1)))
}

func openAt(t *testing.T, cfg fsutil.HDFSConfig, uri string) fsutil.FS {
	t.Helper()
	root, err := fsutil.ParseURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	h := fsutil.NewHDFS(cfg)
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("close HDFS: %v", err)
		}
	})
	f, err := h.Open(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), 7})
	_, _ = r.Read(b) // never fails
	return b
}

func putHDFS(ctx context.Context, f fsutil.FS, name string, b []byte) error {
	w, err := f.Create(ctx, name)
	if err != nil {
		return err
	}
	if _, err = w.Write(b); err == nil {
		err = w.Commit(ctx)
	}
	if err != nil {
		_ = w.Abort() // the first error is the one to tell
	}
	return err
}

func getHDFS(ctx context.Context, f fsutil.ReadFS, name string, offset int64) ([]byte, error) {
	r, err := f.Open(ctx, name, offset)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestHDFSConformsToFS(t *testing.T) {
	c := plainCluster(t)
	fsutiltest.Run(t, func(t *testing.T) fsutiltest.Place {
		f := openDir(t, c, quick(c))
		return fsutiltest.Place{FS: f, Reopen: func(t *testing.T) fsutil.FS { return openAt(t, quick(c), f.Root().String()) }}
	})
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
