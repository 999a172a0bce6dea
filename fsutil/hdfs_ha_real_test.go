//go:build e2e

package fsutil_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/e2e/lab/hdfslab"
	"github.com/ckptferry/ckptferry/fsutil"
)

// TestHDFSHighAvailability moves the active namenode of one cluster while files are written and read.
func TestHDFSHighAvailability(t *testing.T) {
	c := hdfslab.New(t, hdfslab.Options{Name: "dc-ha", Layout: hdfslab.HighAvailability, Datanodes: 1})
	cfg := quick(c)
	cfg.RetryFor = 40 * time.Second
	f := openDir(t, c, cfg)
	content := randomBytes(200_000)

	// across works without pause while change moves the active role, and for a while after it.
	across := func(t *testing.T, change func() error) {
		open, err := f.Create(t.Context(), t.Name()+"/open") // stays open over the change
		if err != nil {
			t.Fatal(err)
		}
		if _, err := open.Write(content[:1000]); err != nil {
			t.Fatal(err)
		}
		changed := make(chan error, 1)
		go func() { changed <- change() }()
		after := 0
		for i := 0; after < 3; i++ {
			select {
			case err := <-changed:
				if err != nil {
					t.Fatal(err)
				}
				after = 1
			default:
			}
			if after > 0 {
				after++
			}
			name := fmt.Sprintf("%s/f%d", t.Name(), i)
			if err := putHDFS(t.Context(), f, name+".tmp", content); err != nil {
				t.Fatalf("write: %v", err)
			}
			if err := f.Rename(t.Context(), name+".tmp", name); err != nil {
				t.Fatalf("rename: %v", err)
			}
			wantBytes(t, f, name, content)
			if err := f.Remove(t.Context(), name); err != nil {
				t.Fatalf("remove: %v", err)
			}
		}
		if _, err := open.Write(content[1000:]); err != nil {
			t.Errorf("write to the file that was open: %v", err)
		}
		if err := open.Commit(t.Context()); err != nil {
			t.Errorf("commit of the file that was open: %v", err)
		}
		wantBytes(t, f, t.Name()+"/open", content)
	}

	t.Run("a failover between two live namenodes fails no call", func(t *testing.T) {
		across(t, func() error { return c.Failover("nn1", "nn2") })
	})

	t.Run("a dead active namenode fails no call once the other is active", func(t *testing.T) {
		across(t, func() error {
			if err := c.Kill("nn2"); err != nil {
				return err
			}
			time.Sleep(3 * time.Second) // both are standby or dead meanwhile: calls are repeated
			_, err := c.Run("haadmin", "-transitionToActive", "--forceactive", "nn1")
			return err
		})
	})

	t.Run("standby for longer than RetryFor is unavailable", func(t *testing.T) {
		short := quick(c)
		short.RetryFor = 3 * time.Second
		f := openAt(t, short, f.Root().String())
		if _, err := c.Run("haadmin", "-transitionToStandby", "nn1"); err != nil {
			t.Fatal(err)
		}
		within(t, 3*time.Second+bound, "stat", func() {
			_, err := f.Stat(t.Context(), ".")
			wantErrIs(t, "stat", err, fsutil.ErrUnavailable)
		})
	})
}
