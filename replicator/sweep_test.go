package replicator

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/fsutil/faultfs"
)

// targetFS is the target's root as the code under test sees it, faults and all.
func (w *world) targetFS(t testing.TB) fsutil.FS {
	t.Helper()
	dst, err := w.Open(context.Background(), dcB)
	if err != nil {
		t.Fatal(err)
	}
	return dst
}

// sweepAll sweeps every top, as the keeper does it.
func sweepAll(ctx context.Context, dst fsutil.FS, cfg SweepConfig) (Swept, error) {
	var all Swept
	s, ok, err := NewSweeper(ctx, dst, cfg)
	if err != nil || !ok {
		return all, err
	}
	tops, err := s.Tops(ctx)
	if err != nil {
		return all, err
	}
	for _, top := range tops {
		for more := true; more; {
			var found []Unneeded
			if found, more, err = s.Look(ctx, top); err != nil {
				return all, err
			}
			done, err := s.Move(ctx, top, found)
			all.Files, all.Bytes, all.PutBack = all.Files+done.Files, all.Bytes+done.Bytes, all.PutBack+done.PutBack
			if err != nil {
				return all, err
			}
		}
		if err := s.TidyUp(ctx, top); err != nil {
			return all, err
		}
	}
	return all, nil
}

// emptyNow empties the trash whatever its age.
func emptyNow(t testing.TB, dst fsutil.FS) Trash {
	t.Helper()
	s, ok, err := NewSweeper(t.Context(), dst, SweepConfig{})
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	trash, err := s.EmptyTrash(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return trash
}

// removeRequest is what is asked for a replica that lies there.
func removeRequest(t testing.TB, w *world, replica string) RemoveRequest {
	t.Helper()
	head, err := readManifest(t.Context(), w.targetFS(t), replica, nil)
	if err != nil {
		t.Fatal(err)
	}
	return RemoveRequest{Replica: replica, Original: uint32(head.OriginalCRC)}
}

// nameOf is a replica's name below the root.
func nameOf(res Result) string {
	_, name := PlaceOf(mustURI(res.Replica))
	return name
}

// left lists what lies below the replica's name, on record or not, but for the trash.
func left(t testing.TB, w *world, replica string) []string {
	t.Helper()
	var out []string
	for _, name := range names(t, w.dst, "replicas") {
		if strings.HasPrefix(name, "replicas/"+trashDir+"/") {
			continue // on its way out
		}
		if strings.Contains(name, replica+"/") || strings.Contains(name, replica+".jsonl") {
			out = append(out, name)
		}
	}
	return out
}

func TestARemovedReplicaTakesNothingFromOthersWhereverItIsCutShort(t *testing.T) {
	for _, fixture := range []string{"1.20.0-rocksdb-incremental", "1.20.0-filemerging-across"} {
		t.Run(fixture, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				newer := w.request(w.load(t, one(t, fixture, "chk-5")))
				old := nameOf(w.mustReplicate(t, w.request(one(t, fixture, "chk-4").named())))
				w.mustReplicate(t, newer)
				req := removeRequest(t, w, old)
				full := w.dst
				for n := int64(1); ; n++ {
					w.dst = full.CrashClone()
					w.calm()
					alive := w.dieAt(n)
					_, err := RemoveReplica(t.Context(), w.targetFS(t), req)
					over := alive()
					w.calm()
					w.wholeReplicas(t, w.dst)
					if err == nil != over {
						t.Fatalf("RemoveReplica of %d operations = %v", n, err)
					}
					w.dst = w.dst.CrashClone()
					w.calm()
					if _, err := RemoveReplica(t.Context(), w.targetFS(t), req); err != nil {
						t.Fatalf("again, after %d operations: %v", n, err)
					}
					if left := left(t, w, old); len(left) > 0 {
						t.Fatalf("after %d operations this is left: %v", n, left)
					}
					if w.wholeReplicas(t, w.dst) != 1 {
						t.Fatal("the other replica is gone")
					}
					if over {
						break
					}
				}
			})
		})
	}
}

func TestARemovedReplicaLeavesWhatBearsItsNameAndIsAnother(t *testing.T) {
	w := newWorld()
	replica := nameOf(w.mustReplicate(t, w.request(w.load(t, one(t, "1.20.0-rocksdb-incremental", "chk-5")))))
	req := removeRequest(t, w, replica)
	req.Original++
	if done, err := RemoveReplica(t.Context(), w.targetFS(t), req); err != nil || done.Files > 0 {
		t.Fatalf("RemoveReplica of another life's checkpoint = %+v, %v", done, err)
	}
	if w.wholeReplicas(t, w.dst) != 1 {
		t.Fatal("it took the replica of the new life")
	}
}

func TestNothingIsRemovedOutsideOfAReplicaRoot(t *testing.T) {
	for _, name := range []string{".", "..", "../x", "/x", ".ckptferry", ".ckptferry/manifest", "a/b/c", ""} {
		w := newWorld()
		put(t, w.dst, "replicas/.ckptferry/manifest/x", []byte("x"))
		put(t, w.dst, "x/chk-1/_metadata", []byte("x"))
		if _, err := RemoveReplica(t.Context(), w.targetFS(t), RemoveRequest{Replica: name}); !errors.Is(err, ErrRefused) {
			t.Errorf("RemoveReplica of %q = %v, want ErrRefused", name, err)
		}
		if err := Quarantine(t.Context(), w.targetFS(t), name); !errors.Is(err, ErrRefused) {
			t.Errorf("Quarantine of %q = %v, want ErrRefused", name, err)
		}
		if n := len(names(t, w.dst, ".")); n != 2 {
			t.Errorf("%q: %d files are left of 2", name, n)
		}
	}
	// A base of Flink's own: job directories, and no .ckptferry beside them.
	w := newWorld()
	job := strings.Repeat("ab", 16)
	put(t, w.dst, "replicas/"+job+"/chk-1/_metadata", []byte("x"))
	put(t, w.dst, "replicas/"+job+"/shared/f", []byte("x"))
	if _, err := RemoveReplica(t.Context(), w.targetFS(t), RemoveRequest{Replica: job + "/chk-1"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := NewSweeper(t.Context(), w.targetFS(t), SweepConfig{}); !errors.Is(err, ErrRefused) {
		t.Fatalf("NewSweeper at a base of Flink's = %v, want ErrRefused", err)
	}
	if n := len(names(t, w.dst, ".")); n != 2 {
		t.Fatalf("%d files are left of 2", n)
	}
}

// A job of a new JobID that claimed a checkpoint needs files in the directory of the old one.
func TestASweepLeavesWhatAnotherJobBorrowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var replicas []string
		all := fixtures(t, "1.20.0-claimed")
		for _, f := range all {
			w.load(t, f)
		}
		for _, f := range all {
			replicas = append(replicas, nameOf(w.mustReplicate(t, w.request(f.named()))))
		}
		if len(replicas) < 2 {
			t.Fatalf("want two checkpoints, have %v", replicas)
		}
		time.Sleep(time.Hour)
		before := len(names(t, w.dst, "replicas"))
		if done, err := sweepAll(t.Context(), w.targetFS(t), SweepConfig{}); err != nil || done.Files != 0 {
			t.Fatalf("sweep with all replicas there = %+v, %v", done, err)
		}
		if now := len(names(t, w.dst, "replicas")); now != before {
			t.Fatalf("%d files were there, %d are", before, now)
		}
		for i, replica := range replicas[:len(replicas)-1] {
			if _, err := RemoveReplica(t.Context(), w.targetFS(t), removeRequest(t, w, replica)); err != nil {
				t.Fatal(err)
			}
			if _, err := sweepAll(t.Context(), w.targetFS(t), SweepConfig{}); err != nil {
				t.Fatal(err)
			}
			if n := w.wholeReplicas(t, w.dst); n != len(replicas)-1-i {
				t.Fatalf("%d replicas are whole, want %d", n, len(replicas)-1-i)
			}
		}
		emptyNow(t, w.targetFS(t))
		w.wholeReplicas(t, w.dst)
		// The last goes too: then nothing is left but what says that a root is ours.
		if _, err := RemoveReplica(t.Context(), w.targetFS(t), removeRequest(t, w, replicas[len(replicas)-1])); err != nil {
			t.Fatal(err)
		}
		for range 8 { // directories go from the innermost outwards, each once it has been empty for a while
			if _, err := sweepAll(t.Context(), w.targetFS(t), SweepConfig{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		emptyNow(t, w.targetFS(t))
		if all := names(t, w.dst, "replicas"); len(all) > 0 {
			t.Fatalf("left: %v", all)
		}
		infos, err := w.dst.List(t.Context(), "replicas")
		if err != nil || len(infos) != 1 {
			t.Fatalf("directories of jobs that are gone: %v, %v", infos, err)
		}
	})
}

func TestASweepTakesWhatNobodyNeedsAfterGraceAndItCanBePutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		replica := nameOf(w.mustReplicate(t, w.request(w.load(t, one(t, "1.20.0-rocksdb-incremental", "chk-5")))))
		orphan := "replicas/" + Top(replica) + "/shared/orphan"
		put(t, w.dst, orphan, []byte("nobody's"))
		dst, cfg := w.targetFS(t), SweepConfig{Grace: time.Hour}
		if done, err := sweepAll(t.Context(), dst, cfg); err != nil || done.Files != 0 {
			t.Fatalf("sweep within grace = %+v, %v", done, err)
		}
		time.Sleep(time.Hour)
		if done, err := sweepAll(t.Context(), dst, cfg); err != nil || done.Files != 1 || done.Bytes != 8 {
			t.Fatalf("sweep after grace = %+v, %v", done, err)
		}
		s, _, err := NewSweeper(t.Context(), dst, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if trash, err := s.EmptyTrash(t.Context(), cfg.Grace); err != nil || trash != (Trash{Files: 1, Bytes: 8}) {
			t.Fatalf("EmptyTrash within grace = %+v, %v", trash, err)
		}
		time.Sleep(time.Hour)
		if s, _, err = NewSweeper(t.Context(), dst, cfg); err != nil {
			t.Fatal(err)
		}
		if trash, err := s.EmptyTrash(t.Context(), cfg.Grace); err != nil || trash != (Trash{Emptied: 1, Freed: 8}) {
			t.Fatalf("EmptyTrash after grace = %+v, %v", trash, err)
		}
		if left := names(t, w.dst, "replicas/"+trashDir); len(left) > 0 {
			t.Fatalf("left in the trash: %v", left)
		}
		if w.wholeReplicas(t, w.dst) != 1 {
			t.Fatal("the replica is gone")
		}
	})
}

func TestNothingIsTakenOfAJobWhoseRecordsCannotBeBelieved(t *testing.T) {
	for name, harm := range map[string]func(*testing.T, *world, string){
		"a damaged manifest": func(t *testing.T, w *world, replica string) {
			flip(t, w.dst, "replicas/"+own("manifest", replica, ".jsonl"), 40)
		},
		"no manifest": func(t *testing.T, w *world, replica string) {
			remove(t, w.dst, "replicas/"+own("manifest", replica, ".jsonl"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				source := w.load(t, one(t, "1.20.0-rocksdb-incremental", "chk-5"))
				old := nameOf(w.mustReplicate(t, w.request(one(t, "1.20.0-rocksdb-incremental", "chk-4").named())))
				w.mustReplicate(t, w.request(source))
				put(t, w.dst, "replicas/"+Top(old)+"/shared/orphan", []byte("nobody's?"))
				harm(t, w, old)
				time.Sleep(time.Hour)
				if done, err := sweepAll(t.Context(), w.targetFS(t), SweepConfig{}); !errors.Is(err, ErrUnsure) || done.Files != 0 {
					t.Fatalf("sweep = %+v, %v, want ErrUnsure", done, err)
				}
				if n := w.wholeReplicas(t, w.dst); n != 2 {
					t.Fatalf("%d replicas are whole, want 2", n)
				}
				// The damaged one can be retired all the same; then the sweep can tell again.
				crc := checksum(get(t, w.src, strings.TrimPrefix(one(t, "1.20.0-rocksdb-incremental", "chk-4").named().Path, "/")+"/"+metadataName))
				if _, err := RemoveReplica(t.Context(), w.targetFS(t), RemoveRequest{Replica: old, Original: uint32(crc)}); err != nil {
					t.Fatal(err)
				}
				if done, err := sweepAll(t.Context(), w.targetFS(t), SweepConfig{}); err != nil || done.Files == 0 {
					t.Fatalf("sweep after it was retired = %+v, %v", done, err)
				}
				if n := w.wholeReplicas(t, w.dst); n != 1 {
					t.Fatalf("%d replicas are whole, want 1", n)
				}
				if left := left(t, w, old); len(left) > 0 {
					t.Fatalf("left: %v", left)
				}
			})
		})
	}
}

// Whatever a sweep without grace does at whatever moment of a run, a replica that is visible afterwards is whole.
func TestASweepAtAnyMomentOfARunLeavesNoReplicaThatIsNotWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		const fixture = "1.20.0-rocksdb-incremental"
		req := w.request(w.load(t, one(t, fixture, "chk-5")))
		req.Parallel = 1
		old := nameOf(w.mustReplicate(t, w.request(one(t, fixture, "chk-4").named())))
		retired := removeRequest(t, w, old)
		full, published := w.dst, 0
		for n := 1; ; n++ {
			w.dst = full.CrashClone()
			w.calm()
			over := w.meanwhile(n, func() {
				// chk-4 is retired, and its shared files, which the run may count on, are nobody's for a moment.
				behind := &view{root: dcB, at: "replicas", all: w.dst}
				if _, err := RemoveReplica(t.Context(), behind, retired); err != nil {
					t.Fatal(err)
				}
				if _, err := sweepAll(t.Context(), behind, SweepConfig{}); err != nil {
					t.Fatal(err)
				}
			})
			_, err := Replicate(t.Context(), w, req)
			w.calm()
			published += w.wholeReplicas(t, w.dst)
			if err != nil {
				if !errors.Is(err, ErrVerify) {
					t.Fatalf("a sweep at operation %d: %v", n, err)
				}
				w.mustReplicate(t, req)
			}
			if over() {
				break
			}
		}
		if published == 0 {
			t.Fatal("no run was READY")
		}
	})
}

// The other way round: a run at whatever moment of a sweep, which goes on, or dies and is ended by another.
func TestARunAtAnyMomentOfASweepLeavesNoReplicaThatIsNotWhole(t *testing.T) {
	for _, dies := range []bool{false, true} {
		t.Run(fmt.Sprintf("the sweep dies %v", dies), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				const fixture = "1.20.0-rocksdb-incremental"
				req := w.request(w.load(t, one(t, fixture, "chk-5")))
				old := nameOf(w.mustReplicate(t, w.request(one(t, fixture, "chk-4").named())))
				if _, err := RemoveReplica(t.Context(), w.targetFS(t), removeRequest(t, w, old)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour)
				full := w.dst
				for n := 1; ; n++ {
					w.dst = full.CrashClone()
					w.calm()
					over := w.meanwhile(n, func() {
						runner := &world{src: w.src, dst: w.dst}
						runner.calm()
						if _, err := Replicate(t.Context(), runner, req); err != nil && !errors.Is(err, ErrVerify) {
							t.Fatal(err)
						}
						if dies {
							w.here.Inject(always(func(context.Context, faultfs.Call) error { return faultfs.ErrStopped }))
						}
					})
					_, err := sweepAll(t.Context(), w.targetFS(t), SweepConfig{})
					w.calm()
					if err != nil && !dies {
						t.Fatalf("a run at operation %d of a sweep: %v", n, err)
					}
					s, _, err := NewSweeper(t.Context(), w.targetFS(t), SweepConfig{})
					if err != nil {
						t.Fatal(err)
					}
					if dies {
						if _, err := s.PutBack(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					w.wholeReplicas(t, w.dst)
					w.mustReplicate(t, req)
					if over() {
						if n < 10 {
							t.Fatalf("the sweep had only %d operations", n)
						}
						break
					}
				}
			})
		})
	}
}

// meanwhile does something at the n-th operation on the target, counted from 1; over tells whether there were fewer.
func (w *world) meanwhile(n int, do func()) (over func() bool) {
	var count atomic.Int64
	var done atomic.Bool
	w.here.Inject(always(func(context.Context, faultfs.Call) error {
		if count.Add(1) == int64(n) {
			done.Store(true)
			do()
		}
		return nil
	}))
	return func() bool { return !done.Load() }
}

func TestAQuarantinedReplicaIsNotVisibleAndIsMendedByTheNextRun(t *testing.T) {
	w := newWorld()
	req := w.request(w.load(t, one(t, "1.20.0-rocksdb-incremental", "chk-5")))
	res := w.mustReplicate(t, req)
	replica := nameOf(res)
	rotten := ""
	if _, err := readManifest(t.Context(), w.targetFS(t), replica, func(f ManifestFile) error {
		if strings.Contains(f.Name, "/shared/") && f.Bytes > 0 {
			rotten = f.Name
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	flip(t, w.dst, path.Join("replicas", rotten), 0)
	for range 2 {
		if err := Quarantine(t.Context(), w.targetFS(t), replica); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.wholeReplicas(t, w.dst); n != 0 {
		t.Fatalf("%d replicas are visible", n)
	}
	again := w.mustReplicate(t, req)
	if again.BytesCopied == 0 || again.FilesSkipped == 0 {
		t.Fatalf("the next run = %+v, want the rotten file copied and others not", again)
	}
	if _, err := RemoveReplica(t.Context(), w.targetFS(t), removeRequest(t, w, replica)); err != nil {
		t.Fatal(err)
	}
	if left := left(t, w, replica); len(left) > 0 {
		t.Fatalf("left: %v", left)
	}
}
