package replicator

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckptferry/ckptferry/fsutil/faultfs"
)

// superseded runs Replicate, and holds that the checkpoint counts as superseded because of the named source file and
// that nothing of it is visible.
func (w *world) superseded(t *testing.T, req Request, file string) {
	t.Helper()
	res, err := Replicate(t.Context(), w, req)
	if !errors.Is(err, ErrSuperseded) || errors.Is(err, ErrBroken) || res.Status != StatusSuperseded {
		t.Fatalf("Replicate = %+v, %v", res, err)
	}
	if !strings.Contains(err.Error(), file) {
		t.Errorf("the error does not name %s: %v", file, err)
	}
	w.wholeReplicas(t, w.dst)
	chk := req.Source.Dir().Base() + "/" + req.Source.Base() + "/"
	for _, name := range names(t, w.dst, "replicas") {
		if strings.Contains(name, chk) && !strings.HasPrefix(name, "replicas/"+ownDir+"/journal/") {
			t.Errorf("%s is there", name)
		}
	}
	if infos, err := w.dst.List(t.Context(), "replicas/"+chk[:len(chk)-1]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the checkpoint's directory is there: %v, %v", infos, err)
	}
}

// when makes something happen before the n-th call at the source.
func (w *world) when(op faultfs.Op, name string, n int, do func()) {
	w.there.Inject(faultfs.Fault{Op: op, Name: name, First: n, Do: faultfs.Before(func(context.Context, faultfs.Call) error {
		do()
		return nil
	})})
}

func TestAFileThatVanishesWhileItIsCopiedSupersedesTheCheckpoint(t *testing.T) {
	for _, c := range []struct{ fixture, chk string }{
		{"1.20.0-rocksdb-incremental", "chk-4"},
		{"1.20.0-entropy", "chk-4"},
		{"1.20.0-claimed", "chk-7"},
		{"1.20.0-changelog", "chk-4"},
		{"1.20.0-filemerging-across", "chk-3"},
		{"1.20.0-unaligned", "chk-4"},
	} {
		t.Run(c.fixture, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				source := w.load(t, one(t, c.fixture, c.chk))
				w.fullSource = w.src.CrashClone()
				var files []string
				for _, ref := range handles(t, w.src, strings.TrimPrefix(source.Path, "/"), source.String()) {
					files = append(files, strings.TrimPrefix(mustURI(ref.URI).Path, "/"))
				}
				for i, file := range files {
					w.src, w.dst = w.fullSource.CrashClone(), newWorld().dst
					w.calm()
					if i%2 == 0 {
						w.when(faultfs.Open, file, 1, func() { remove(t, w.src, file) })
					} else {
						w.there.Inject(faultfs.Fault{Op: faultfs.Open, Name: file, Do: faultfs.FailAt(100, fs.ErrNotExist)})
					}
					w.superseded(t, w.request(source), file)
				}
			})
		})
	}
}

func TestSharedFilesOfASupersededCheckpointAreUsedByTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		older := w.load(t, one(t, "1.20.0-rocksdb-incremental", "chk-4"))
		newer := one(t, "1.20.0-rocksdb-incremental", "chk-5").named()
		w.fullSource = w.src.CrashClone()
		metadata := strings.TrimPrefix(older.Path, "/") + "/" + metadataName
		w.when(faultfs.Open, metadata, 2, func() { remove(t, w.src, metadata) })
		w.superseded(t, w.request(older), metadata)

		copied := map[string]bool{}
		for _, name := range names(t, w.dst, "replicas") {
			copied[name[strings.LastIndexByte(name, '/')+1:]] = strings.Contains(name, "/shared/")
		}
		w.calm()
		w.there.Inject(faultfs.Fault{Op: faultfs.Open, Last: faultfs.Forever, Do: faultfs.Before(func(_ context.Context, c faultfs.Call) error {
			if copied[c.Name[strings.LastIndexByte(c.Name, '/')+1:]] {
				t.Errorf("%s is copied again", c.Name)
			}
			return nil
		})})
		res := w.mustReplicate(t, w.request(newer))
		if res.FilesSkipped < 5 {
			t.Errorf("Replicate = %+v", res)
		}
	})
}

func TestMetadataThatVanishesOrChangesBeforePublishingSupersedesTheCheckpoint(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, w *world, metadata string){
		"vanished": func(t *testing.T, w *world, metadata string) { remove(t, w.src, metadata) },
		"of another life": func(t *testing.T, w *world, metadata string) {
			put(t, w.src, metadata, get(t, w.src, strings.Replace(metadata, "chk-5", "chk-4", 1)))
		},
		"one bit": func(t *testing.T, w *world, metadata string) { flip(t, w.src, metadata, 5000) },
		"something after": func(t *testing.T, w *world, metadata string) {
			put(t, w.src, metadata, append(get(t, w.src, metadata), 0))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				source := w.load(t, one(t, "1.20.0-rocksdb-incremental", "chk-5"))
				w.fullSource = w.src.CrashClone()
				metadata := strings.TrimPrefix(source.Path, "/") + "/" + metadataName
				w.when(faultfs.Open, metadata, 2, func() { change(t, w, metadata) })
				w.superseded(t, w.request(source), metadata)
			})
		})
	}
}

func TestAFileThatIsMissingWhileFlinkDeletesTheCheckpointSupersedesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		source := w.load(t, one(t, "1.20.0-rocksdb-incremental", "chk-5"))
		file, _ := w.aSharedFile(t, source)
		w.fullSource = w.src.CrashClone()
		remove(t, w.src, file)
		time.AfterFunc(1900*time.Millisecond, func() { remove(t, w.src, strings.TrimPrefix(source.Path, "/")+"/"+metadataName) })
		w.superseded(t, w.request(source), file)
		if left := names(t, w.dst, "."); len(left) > 0 {
			t.Errorf("something was written: %v", left)
		}
	})
}

func TestAFileThatIsMissingOfACheckpointThatStaysIsABrokenCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		source := w.load(t, one(t, "1.20.0-rocksdb-incremental", "chk-5"))
		file, _ := w.aSharedFile(t, source)
		remove(t, w.src, file)
		res, err := Replicate(t.Context(), w, w.request(source))
		var broken *BrokenError
		if !errors.As(err, &broken) || errors.Is(err, ErrSuperseded) || res.Status != StatusFailed {
			t.Fatalf("Replicate = %+v, %v", res, err)
		}
		if len(broken.Problems) != 1 || broken.Problems[0].Kind != Missing || broken.Problems[0].File != "file:/"+file || len(broken.Problems[0].Owners) == 0 {
			t.Errorf("problems %+v", broken.Problems)
		}
		if !strings.Contains(err.Error(), "operator") || res.Duration < vanishGrace {
			t.Errorf("after %s: %v", res.Duration, err)
		}
		if left := names(t, w.dst, "."); len(left) > 0 {
			t.Errorf("something was written: %v", left)
		}
	})
}

func TestAReadyReplicaStaysWhenItsCheckpointIsSupersededInARepair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		req := w.request(w.load(t, one(t, "1.20.0-rocksdb-incremental", "chk-5")))
		w.mustReplicate(t, req)
		there, here := w.aSharedFile(t, req.Source)
		flip(t, w.dst, here, 3)
		before := names(t, w.dst, "replicas")
		w.when(faultfs.Open, there, 1, func() { remove(t, w.src, there) })
		if res, err := Replicate(t.Context(), w, req); !errors.Is(err, ErrSuperseded) {
			t.Fatalf("Replicate = %+v, %v", res, err)
		}
		for _, name := range before {
			if _, err := w.dst.Stat(t.Context(), name); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestARunThatGivesUpTakesNothingFromAnotherThatIsAtWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		req := w.request(w.load(t, one(t, "1.20.0-rocksdb-incremental", "chk-5")))
		w.fullSource = w.src.CrashClone()
		exclusive, metadata := "", strings.TrimPrefix(req.Source.Path, "/")+"/"+metadataName
		for _, name := range names(t, w.src, strings.TrimPrefix(req.Source.Path, "/")) {
			if name != metadata {
				exclusive = "replicas/" + req.Source.Dir().Base() + name[strings.LastIndex(name, "/chk-5/"):]
			}
		}
		dst, err := w.Open(t.Context(), dcB)
		if err != nil {
			t.Fatal(err)
		}
		other := newAttempt(dst, req.Source.Dir().Base()+"/chk-5")
		if err := other.begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.when(faultfs.Open, metadata, 2, func() { remove(t, w.src, metadata) })
		if res, err := Replicate(t.Context(), w, req); !errors.Is(err, ErrSuperseded) {
			t.Fatalf("Replicate = %+v, %v", res, err)
		}
		if _, err := w.dst.Stat(t.Context(), exclusive); err != nil {
			t.Fatalf("the other run's file was taken away: %v", err)
		}

		// The other way round: one that begins while another takes files away must not count on them.
		put(t, w.src, metadata, get(t, w.fullSource, metadata))
		if alone, err := other.giveUp(t.Context()); !alone || err != nil {
			t.Fatal(alone, err)
		}
		w.calm()
		if res, err := Replicate(t.Context(), w, req); !errors.Is(err, ErrSuperseded) || res.BytesCopied != 0 {
			t.Fatalf("Replicate = %+v, %v", res, err)
		}
		_ = pause(t.Context(), staleAttempt+time.Minute) // it died over it
		w.mustReplicate(t, req)
	})
}

func TestASupersededSavepointLeavesWhatAReadyReplicaNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		const job = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		w.checkpoint(t, "dc-a/cp/savepoint-1", relative("kept"), relative("new"))
		// Claimed from the savepoint, natively: the job goes on with its files.
		claimed := w.checkpoint(t, "dc-a/cp/"+job+"/chk-1", absolute("file:/dc-a/cp/savepoint-1/kept"))
		w.mustReplicate(t, w.request(claimed))
		w.fullSource = w.src.CrashClone()
		w.when(faultfs.Open, "dc-a/cp/savepoint-1/new", 1, func() { remove(t, w.src, "dc-a/cp/savepoint-1/new") })
		if res, err := Replicate(t.Context(), w, w.request(mustURI("file:/dc-a/cp/savepoint-1"))); !errors.Is(err, ErrSuperseded) {
			t.Fatalf("Replicate = %+v, %v", res, err)
		}
		if n := w.wholeReplicas(t, w.dst); n != 1 {
			t.Fatalf("%d replicas", n)
		}
	})
}
