package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/raftstore"
)

// What discovery believes of directory times holds on a real disk.
func TestDirectoryTimesOfALocalDiskTellWhatChanged(t *testing.T) {
	dir := t.TempDir()
	stores := fsutil.NewStores(fsutil.StoresConfig{})
	defer func() {
		if err := stores.Close(); err != nil {
			t.Error(err)
		}
	}()
	now := time.Now() // of the agent; the disk's clock goes its own way
	d, err := newDiscovery(raftstore.Export{Name: "prod", Bases: []string{"file:" + dir + "/cp/{job}"}}, nil, stores, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	job := filepath.Join(dir, "cp", "orders", jobA)
	write := func(name string, b []byte) {
		t.Helper()
		err := os.MkdirAll(filepath.Dir(name), 0o755)
		if err == nil {
			err = os.WriteFile(name, b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	look := func(what string, want ...string) {
		t.Helper()
		p := d.poll(t.Context())
		if len(p.problems) > 0 {
			t.Errorf("%s: %s", what, p.problem())
		}
		if got := taken(p); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: found %q, want %q", what, got, want)
		}
		now = now.Add(5 * time.Second)
	}
	uri := func(n int) string { return fmt.Sprintf("%s/chk-%d", job[1:], n) }
	for n := 1; n <= 20; n++ {
		chk := filepath.Join(job, fmt.Sprintf("chk-%d", n))
		write(filepath.Join(chk, "f"), content("f"))
		if n%5 == 0 {
			look("under way")
		}
		// As Flink does: under another name first.
		write(filepath.Join(chk, "._metadata.inprogress.1"), metadataOf(uri(n), []string{"f"}, nil))
		if n%7 == 0 {
			look("being written")
		}
		if err := os.Rename(filepath.Join(chk, "._metadata.inprogress.1"), filepath.Join(chk, metadataName)); err != nil {
			t.Fatal(err)
		}
		look("complete", uri(n))
		if n > 2 {
			if err := os.RemoveAll(filepath.Join(job, fmt.Sprintf("chk-%d", n-2))); err != nil {
				t.Fatal(err)
			}
		}
		if n%3 == 0 {
			for range 4 {
				look("idle")
			}
		}
	}
}
