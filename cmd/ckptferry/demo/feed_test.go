package demo

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ckptferry/ckptferry/flinkmeta/fixtures"
	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/replicator"
)

// below lists the files below a directory with their sizes.
func below(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	files := map[string]int64{}
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		files[filepath.ToSlash(rel)] = fi.Size()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestAJobIsFedInFlinksOrder(t *testing.T) {
	root := t.TempDir()
	jobs, err := readJobs(fixtures.Demo, root)
	if err != nil {
		t.Fatal(err)
	}
	stores := fsutil.NewStores(fsutil.StoresConfig{})
	t.Cleanup(func() { stores.Close() })
	maps := replicator.PrefixMaps{{From: fsutil.URI{Scheme: "file", Path: writtenBelow}, To: fsutil.URI{Scheme: "file", Path: filepath.Join(root, "dc-a")}}}
	longest, grew := 0, false
	for _, j := range jobs {
		longest = max(longest, len(j.checkpoints))
		var ids []int64
		for !j.done() {
			before := below(t, root)
			id, err := j.feed()
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
			for name, size := range below(t, root) {
				if old, was := before[name]; was && size > old {
					grew = true
				}
			}
			// Each retained checkpoint is whole, and none is there beside them.
			for _, k := range j.kept {
				dir := fsutil.URI{Scheme: "file", Path: filepath.Join(root, filepath.FromSlash(k.dir))}
				if _, err := replicator.Check(t.Context(), stores, replicator.CheckRequest{Dir: dir, Maps: maps}); err != nil {
					t.Errorf("%s after chk-%d: chk-%d: %v", j.name, id, k.id, err)
				}
			}
			there, err := filepath.Glob(filepath.Join(root, path.Dir(j.checkpoints[0].dir), "chk-*"))
			if err != nil || len(there) != min(len(ids), retained) {
				t.Errorf("%s after chk-%d: %v, %v", j.name, id, there, err)
			}
			needed := map[string]bool{}
			for _, k := range j.kept {
				needed[path.Join(k.dir, metadataName)] = true
				for name := range k.needs {
					needed[name] = true
				}
			}
			for name := range below(t, root) {
				if !needed[name] {
					t.Errorf("%s after chk-%d: nobody needs %s", j.name, id, name)
				}
			}
		}
		if !slices.IsSorted(ids) || ids[len(ids)-1] != ids[0]+int64(len(ids))-1 {
			t.Errorf("%s: fed %v, want consecutive checkpoints", j.name, ids)
		}
		for _, k := range j.kept {
			for name := range k.needs {
				if err := same(filepath.Join(root, filepath.FromSlash(name)), j.written, name); err != nil {
					t.Error(err)
				}
			}
		}
		if err := j.cancel(); err != nil {
			t.Fatal(err)
		}
		if left := below(t, root); len(left) != 0 || j.done() {
			t.Errorf("%s: after it was cancelled there is %v", j.name, left)
		}
	}
	if longest <= retained || !grew {
		t.Errorf("the longest job has %d checkpoints, files grow: %t: want one of which some are deleted, with merged files that grow", longest, grew)
	}
}

// same compares a file with what Flink wrote.
func same(file string, written fs.FS, name string) error {
	got, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	want, err := fs.ReadFile(written, name)
	if err != nil {
		return err
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("%s is not what Flink wrote: %d bytes, want %d", name, len(got), len(want))
	}
	return nil
}
