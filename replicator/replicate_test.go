package replicator

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/flinkmeta"
)

// tree lists every file below dir with its content.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		out[strings.TrimPrefix(p, dir+"/")] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEveryFixtureBecomesASelfContainedReplica(t *testing.T) {
	for _, f := range fixtures(t, "*") {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			f := f.private(t)
			before := tree(t, f.root)
			stores, target := newStores(t), filepath.Join(t.TempDir(), "replicas")
			res, err := Replicate(t.Context(), stores, Request{Source: f.source(), Target: fileURI(target), Maps: f.maps()})
			if err != nil {
				t.Fatal(err)
			}
			if res.Status != StatusReady || res.FilesSkipped != 0 {
				t.Fatalf("Replicate = %+v", res)
			}
			after := tree(t, f.root)
			if len(before) != len(after) {
				t.Fatalf("the source had %d files and has %d", len(before), len(after))
			}
			for name, content := range before {
				if after[name] != content {
					t.Fatalf("the source's %s was changed", name)
				}
			}
			if err := os.RemoveAll(f.root); err != nil {
				t.Fatal(err)
			}
			replica := strings.TrimPrefix(res.Replica, "file:")
			report, err := Check(t.Context(), stores, CheckRequest{Dir: fileURI(replica)})
			if err != nil || !report.Digests || report.Files != res.Files {
				t.Fatalf("Check = %+v, %v", report, err)
			}
			raw, err := os.ReadFile(filepath.Join(replica, metadataName))
			if err != nil {
				t.Fatal(err)
			}
			meta, err := flinkmeta.Scan(raw)
			if err != nil {
				t.Fatal(err)
			}
			refs, err := meta.Refs("file:" + replica)
			if err != nil {
				t.Fatal(err)
			}
			for _, ref := range refs {
				path, inside := strings.CutPrefix(ref.URI, "file:"+target+"/")
				if !inside {
					t.Fatalf("%s lies outside of the replica", ref.URI)
				}
				fi, err := os.Stat(filepath.Join(target, path))
				if err != nil || fi.Size() < ref.Need {
					t.Fatalf("%s: %v, needs %d bytes", ref.URI, err, ref.Need)
				}
			}
			if left, err := filepath.Glob(filepath.Join(target, ownDir, "tmp", "*")); err != nil || len(left) > 0 {
				t.Fatalf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestReplicatingAgainCopiesNothing(t *testing.T) {
	for _, verify := range []VerifyMode{VerifyAll, VerifyCopied} {
		t.Run(string(verify), func(t *testing.T) {
			f, stores, target := one(t, "1.20.0-rocksdb-incremental", "chk-5"), newStores(t), filepath.Join(t.TempDir(), "r")
			req := Request{Source: f.source(), Target: fileURI(target), Maps: f.maps(), Verify: verify}
			if _, err := Replicate(t.Context(), stores, req); err != nil {
				t.Fatal(err)
			}
			before := tree(t, target)
			res, err := Replicate(t.Context(), stores, req)
			if err != nil || res.Status != StatusReady || res.BytesCopied != 0 || res.FilesSkipped != res.Files {
				t.Fatalf("Replicate = %+v, %v", res, err)
			}
			for name, content := range tree(t, target) {
				if before[name] != content {
					t.Errorf("%s was changed", name)
				}
			}
		})
	}
}

func TestSharedFilesOfAnEarlierReplicaAreNotCopiedAgain(t *testing.T) {
	stores, target := newStores(t), filepath.Join(t.TempDir(), "r")
	copied := map[string]int64{}
	for _, chk := range []string{"chk-4", "chk-5"} {
		f := one(t, "1.20.0-rocksdb-incremental", chk)
		res, err := Replicate(t.Context(), stores, Request{Source: f.source(), Target: fileURI(target), Maps: f.maps()})
		if err != nil {
			t.Fatal(err)
		}
		copied[chk] = res.BytesCopied
		if chk == "chk-5" && res.FilesSkipped == 0 {
			t.Error("nothing was shared")
		}
	}
	if copied["chk-5"] >= copied["chk-4"] {
		t.Errorf("copied %v", copied)
	}
}

func TestAMissingFileIsABrokenCheckpointThatNamesTheOperator(t *testing.T) {
	t.Parallel()
	f := one(t, "2.3.0-rocksdb-incremental", "chk-5").private(t)
	shared, err := filepath.Glob(filepath.Join(filepath.Dir(f.dir), "shared", "*"))
	if err != nil || len(shared) == 0 {
		t.Fatal(shared, err)
	}
	// Of the newest checkpoint's own files only some are in shared/ by now: take one that it refers to.
	raw, err := os.ReadFile(filepath.Join(f.dir, metadataName))
	if err != nil {
		t.Fatal(err)
	}
	var gone string
	for _, s := range shared {
		if strings.Contains(string(raw), filepath.Base(s)) {
			gone = s
		}
	}
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(t.TempDir(), "r")
	res, err := Replicate(t.Context(), newStores(t), Request{Source: f.source(), Target: fileURI(target), Maps: f.maps()})
	if !errors.Is(err, ErrBroken) || errors.Is(err, ErrSuperseded) || res.Status != StatusFailed {
		t.Fatalf("Replicate = %+v, %v", res, err)
	}
	if msg := err.Error(); !strings.Contains(msg, filepath.Base(gone)) || !strings.Contains(msg, "operator") {
		t.Errorf("the error does not say what and whose: %s", msg)
	}
	if _, err := os.Stat(target); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was written: %v", err)
	}
}

func TestAShortFileIsABrokenCheckpoint(t *testing.T) {
	t.Parallel()
	f := one(t, "1.20.0-rocksdb-full", "chk-5").private(t)
	files, err := filepath.Glob(filepath.Join(f.dir, "*-*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	if err := os.Truncate(files[0], 1); err != nil {
		t.Fatal(err)
	}
	_, err = Replicate(t.Context(), newStores(t), Request{Source: f.source(), Target: fileURI(filepath.Join(t.TempDir(), "r")), Maps: f.maps()})
	var broken *BrokenError
	if !errors.As(err, &broken) || broken.Problems[0].Kind != Short || broken.Problems[0].Have != 1 {
		t.Fatalf("Replicate: %v", err)
	}
}
