package replicator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ckptferry/ckptferry/flinkmeta/metadatatest"
	"github.com/ckptferry/ckptferry/fsutil"
)

// manySmall writes a checkpoint of n small files in shared/ to a directory of its own.
func manySmall(t *testing.T, n int) fsutil.URI {
	t.Helper()
	base := t.TempDir()
	job := filepath.Join(base, "5f24a551be2324b1f70cae10026b14a1")
	for _, dir := range []string{"shared", "chk-7"} {
		if err := os.MkdirAll(filepath.Join(job, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w := &metadatatest.Writer{}
	w.Header(4, 7)
	w.I32(0)
	w.I32(1)
	w.I64(1)
	w.I64(2)
	w.I32(1)
	w.I32(128)
	w.Null()
	w.I32(1)
	w.I32(0)
	w.I32(0)
	w.I32(0)
	w.U8(11) // INCREMENTAL_V2
	w.I64(7)
	w.UTF("backend")
	w.I32(0)
	w.I32(128)
	w.I64(1)
	w.Inline("meta", []byte("meta"))
	w.I32(n)
	for i := range n {
		name := filepath.Join(job, "shared", fmt.Sprintf("file-%04d", i))
		content := strings.Repeat(fmt.Sprint(i), 1+i%50)
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		w.UTF(fmt.Sprintf("%06d.sst", i))
		w.File("file:"+name, int64(len(content)))
	}
	w.I32(0)
	w.UTF("handle")
	w.Null()
	w.I32(0)
	w.I32(0)
	w.CheckpointTail()
	if err := os.WriteFile(filepath.Join(job, "chk-7", metadataName), w.B, 0o644); err != nil {
		t.Fatal(err)
	}
	return fileURI(filepath.Join(job, "chk-7"))
}

// brittle is a local target on which some calls fail, or whose bytes go bad, as a test says.
type brittle struct {
	*fsutil.Local
	renameAll func(do func() error) error
	create    func(name string) error
	committed func(name string)
	batches   *atomic.Int64
}

func (b *brittle) RenameAll(ctx context.Context, moves []fsutil.Renaming) error {
	b.batches.Add(1)
	do := func() error { return b.Local.RenameAll(ctx, moves) }
	if b.renameAll != nil {
		return b.renameAll(do)
	}
	return do()
}

func (b *brittle) Create(ctx context.Context, name string) (fsutil.File, error) {
	if b.create != nil {
		if err := b.create(name); err != nil {
			return nil, err
		}
	}
	f, err := b.Local.Create(ctx, name)
	if err != nil || b.committed == nil {
		return f, err
	}
	return &watchedFile{File: f, committed: func() { b.committed(name) }}, nil
}

type watchedFile struct {
	fsutil.File
	committed func()
}

func (f *watchedFile) Commit(ctx context.Context) error {
	err := f.File.Commit(ctx)
	if err == nil {
		f.committed()
	}
	return err
}

// brittleOpener gives the target as brittle.
type brittleOpener struct {
	Opener
	target *brittle
}

func (o brittleOpener) Open(ctx context.Context, root fsutil.URI) (fsutil.FS, error) {
	if root == o.target.Root() {
		return o.target, nil
	}
	return o.Opener.Open(ctx, root)
}

func TestABatchOfSmallFilesSurvivesWhatGoesWrongWithOneOfThem(t *testing.T) {
	const files = 200
	var once atomic.Bool
	for name, tc := range map[string]struct {
		target brittle
		again  bool // something is copied a second time
	}{
		"nothing goes wrong": {},
		"a file can't be made at first": {again: true, target: brittle{create: func(name string) error {
			if strings.HasSuffix(name, "-0") && once.CompareAndSwap(false, true) {
				return fsutil.ErrUnavailable
			}
			return nil
		}}},
		"the renaming fails before it did anything": {again: true, target: brittle{renameAll: func(do func() error) error {
			if once.CompareAndSwap(false, true) {
				return fsutil.ErrUnavailable
			}
			return do()
		}}},
		"the renaming fails after it was done": {again: true, target: brittle{renameAll: func(do func() error) error {
			err := do()
			if once.CompareAndSwap(false, true) {
				return errors.Join(err, fsutil.ErrUnavailable)
			}
			return err
		}}},
		"a copy goes bad on the disk": {again: true},
	} {
		t.Run(name, func(t *testing.T) {
			once.Store(false)
			source, root := manySmall(t, files), t.TempDir()
			local, err := fsutil.OpenLocal(fileURI(root))
			if err != nil {
				t.Fatal(err)
			}
			target := &tc.target
			target.Local, target.batches = local, &atomic.Int64{}
			if name == "a copy goes bad on the disk" {
				target.committed = func(name string) {
					if strings.Contains(name, "-0") && once.CompareAndSwap(false, true) {
						if err := os.WriteFile(filepath.Join(root, name), []byte("bad"), 0o644); err != nil {
							t.Error(err)
						}
					}
				}
			}
			meter, stores := &Meter{}, newStores(t)
			res, err := Replicate(t.Context(), brittleOpener{stores, target}, Request{Source: source, Target: fileURI(root), Parallel: 4, Meter: meter})
			if err != nil || res.Status != StatusReady || res.Files != files+1 {
				t.Fatalf("Replicate = %+v, %v", res, err)
			}
			if target.batches.Load() == 0 {
				t.Error("no files were copied together: the test tests nothing")
			}
			if again := meter.Retries.Load() > 0; again != tc.again {
				t.Errorf("%d retries", meter.Retries.Load())
			}
			if done := meter.BytesDone.Load(); done != meter.Bytes.Load() || meter.FilesDone.Load() != files {
				t.Errorf("the meter says %d bytes of %d, %d files of %d", done, meter.Bytes.Load(), meter.FilesDone.Load(), files)
			}
			report, err := Check(t.Context(), stores, CheckRequest{Dir: fileURI(strings.TrimPrefix(res.Replica, "file:"))})
			if err != nil || !report.Digests || report.Files != files+1 {
				t.Fatalf("Check = %+v, %v", report, err)
			}
		})
	}
}

func TestAFileThatVanishesFromABatchSupersedesTheCheckpoint(t *testing.T) {
	source, root := manySmall(t, 200), t.TempDir()
	local, err := fsutil.OpenLocal(fileURI(root))
	if err != nil {
		t.Fatal(err)
	}
	gone := filepath.Join(filepath.Dir(source.Path), "shared", "file-0100")
	target := &brittle{Local: local, batches: &atomic.Int64{}, create: func(string) error {
		if err := os.Remove(gone); err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
		return nil
	}}
	res, err := Replicate(t.Context(), brittleOpener{newStores(t), target}, Request{Source: source, Target: fileURI(root), Parallel: 1})
	if !errors.Is(err, ErrSuperseded) || res.Status != StatusSuperseded || !strings.Contains(err.Error(), "file-0100") {
		t.Fatalf("Replicate = %+v, %v", res, err)
	}
}
