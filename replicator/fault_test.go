package replicator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/fsutil/faultfs"
)

var errIO = errors.New("input/output error")

// eachFault runs Replicate with one fault at the n-th call of its kind on the target, for n = 1 up to the first that
// hits nothing. The target is new each time; whatever the outcome, no visible replica is not whole, and the next run
// is READY.
func eachFault(t *testing.T, fault faultfs.Fault, look func(t *testing.T, n int, res Result, err error)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		req := w.request(w.allKinds(t))
		for n := 1; ; n++ {
			// In turns: a file at a time, or batches.
			w.batches, req.Parallel = n%2 == 0, 1+n%2
			w.dst = fsutil.NewMemory(mustURI("hdfs://dc-b/"))
			w.calm()
			fault.First = n
			w.here.Inject(fault)
			res, err := Replicate(t.Context(), w, req)
			visible := w.wholeReplicas(t, w.dst)
			if (err == nil) != (res.Status == StatusReady) || err == nil && visible != 1 {
				t.Fatalf("fault %d: Replicate = %+v, %v with %d replicas", n, res, err, visible)
			}
			unfired := len(w.here.Unfired()) > 0
			if !unfired {
				look(t, n, res, err)
			}
			w.calm() // and what could not be removed then goes as stale on another day
			if res, err := Replicate(t.Context(), w, req); err != nil || res.Status != StatusReady || w.wholeReplicas(t, w.dst) != 1 {
				t.Fatalf("after fault %d: Replicate = %+v, %v", n, res, err)
			}
			if unfired {
				if n == 1 {
					t.Fatal("the fault hit nothing")
				}
				return
			}
		}
	})
}

func TestAFaultThatPassesIsGotOver(t *testing.T) {
	for name, fault := range map[string]faultfs.Fault{
		"a bit flips while it is written":      {Op: faultfs.Create, Do: faultfs.FlipBit(0)},
		"a bit flips while it is read back":    {Op: faultfs.Open, Name: "replicas/.ckptferry/tmp/*/*", Do: faultfs.FlipBit(0)},
		"what was written is lost":             {Op: faultfs.Create, Do: faultfs.EndAt(1)},
		"it ends early when read back":         {Op: faultfs.Open, Name: "replicas/.ckptferry/tmp/*/*", Do: faultfs.EndAt(1)},
		"the target goes away in a write":      {Op: faultfs.Create, Do: faultfs.FailAt(1, fsutil.ErrUnavailable)},
		"the target is gone in a create":       {Op: faultfs.Create, Do: faultfs.Fail(fsutil.ErrUnavailable)},
		"a create has an unknown outcome":      {Op: faultfs.Create, Do: faultfs.FailAfter(fsutil.ErrUnavailable)},
		"the target is gone in a commit":       {Op: faultfs.Commit, Do: faultfs.Fail(fsutil.ErrUnavailable)},
		"a commit has an unknown outcome":      {Op: faultfs.Commit, Do: faultfs.FailAfter(fsutil.ErrUnavailable)},
		"the target is gone in a rename":       {Op: faultfs.Rename, Do: faultfs.Fail(fsutil.ErrUnavailable)},
		"a rename has an unknown outcome":      {Op: faultfs.Rename, Do: faultfs.FailAfter(fsutil.ErrUnavailable)},
		"checksums differ when it's read back": {Op: faultfs.Open, Name: "replicas/.ckptferry/tmp/*/*", Do: faultfs.FailAt(0, fsutil.ErrCorrupt)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachFault(t, fault, func(t *testing.T, n int, _ Result, err error) {
				if err != nil {
					t.Errorf("fault %d: %v", n, err)
				}
			})
		})
	}
}

func TestAFaultThatStaysIsAnErrorAndNoReplicaOrAReplicaThatIsWhole(t *testing.T) {
	for name, fault := range map[string]faultfs.Fault{
		"an error of the disk in a write":      {Op: faultfs.Write, Do: faultfs.Fail(errIO)},
		"an error of the disk in a commit":     {Op: faultfs.Commit, Do: faultfs.Fail(errIO)},
		"a rename that fails after it is done": {Op: faultfs.Rename, Do: faultfs.FailAfter(errIO)},
		"anything fails once":                  {Op: faultfs.Any, Do: faultfs.Fail(errIO)},
		"anything is unavailable once":         {Op: faultfs.Any, Do: faultfs.Fail(fsutil.ErrUnavailable)},
		"anything fails after it is done":      {Op: faultfs.Any, Do: faultfs.FailAfter(errIO)},
		"anything fails from there on":         {Op: faultfs.Any, Last: faultfs.Forever, Do: faultfs.Fail(errIO)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ready := 0
			eachFault(t, fault, func(t *testing.T, n int, _ Result, err error) {
				if err == nil {
					ready++
				} else if !errors.Is(err, errIO) && !errors.Is(err, fsutil.ErrUnavailable) {
					t.Errorf("fault %d: the error does not say why: %v", n, err)
				}
			})
			t.Logf("READY all the same: %d", ready)
		})
	}
}

func TestATargetThatNeverReadsBackRightIsNeverReady(t *testing.T) {
	for name, do := range map[string]faultfs.Action{"wrong": faultfs.FlipBit(0), "short": faultfs.EndAt(0)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				req := w.request(w.load(t, one(t, "1.20.0-rocksdb-full", "chk-5")))
				w.here.Inject(faultfs.Fault{Op: faultfs.Create, Last: faultfs.Forever, Do: do})
				began := time.Now()
				res, err := Replicate(t.Context(), w, req)
				if !errors.Is(err, ErrVerify) || res.Status != StatusFailed || w.wholeReplicas(t, w.dst) != 0 {
					t.Fatalf("Replicate = %+v, %v", res, err)
				}
				if took := time.Since(began); took > 3*time.Minute {
					t.Errorf("it took %s to see", took)
				}
			})
		})
	}
}

// aSharedFile gives one of the checkpoint's shared files, by its names in src and dst.
func (w *world) aSharedFile(t *testing.T, source fsutil.URI) (there, here string) {
	t.Helper()
	base := source.Dir().Dir()
	for _, ref := range handles(t, w.src, strings.TrimPrefix(source.Path, "/"), source.String()) {
		if rest, ok := base.Rel(mustURI(ref.URI)); ok && ref.Role == flinkmeta.RoleShared {
			return strings.TrimPrefix(mustURI(ref.URI).Path, "/"), "replicas/" + rest
		}
	}
	t.Fatal("no shared file")
	return "", ""
}

func TestASourceThatComesBackIsWaitedFor(t *testing.T) {
	for name, do := range map[string]faultfs.Action{
		"unavailable":           faultfs.Fail(fsutil.ErrUnavailable),
		"unavailable in a read": faultfs.FailAt(1, fsutil.ErrUnavailable),
		"corrupt":               faultfs.FailAt(1, fsutil.ErrCorrupt),
		"short":                 faultfs.EndAt(1),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				req := w.request(w.load(t, one(t, "1.20.0-rocksdb-incremental", "chk-5")))
				req.Meter = &Meter{}
				file, _ := w.aSharedFile(t, req.Source)
				w.there.Inject(faultfs.Fault{Op: faultfs.Open, Name: file, Last: 7, Do: do})
				res := w.mustReplicate(t, req)
				if n := req.Meter.Retries.Load(); n != 7 || req.Meter.BytesDone.Load() != req.Meter.Bytes.Load() {
					t.Errorf("%d retries, want 7; %d of %d bytes done", n, req.Meter.BytesDone.Load(), req.Meter.Bytes.Load())
				}
				if res.Duration < time.Second || res.Duration > retryFor {
					t.Errorf("it took %s", res.Duration)
				}
			})
		})
	}
}

func TestASourceFileThatIsAlwaysCorruptEndsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		req := w.request(w.load(t, one(t, "1.20.0-rocksdb-incremental", "chk-5")))
		req.Meter = &Meter{}
		file, _ := w.aSharedFile(t, req.Source)
		w.there.Inject(faultfs.Fault{Op: faultfs.Open, Name: file, Last: faultfs.Forever, Do: faultfs.FailAt(1, fsutil.ErrCorrupt)})
		res, err := Replicate(t.Context(), w, req)
		if !errors.Is(err, fsutil.ErrCorrupt) || errors.Is(err, ErrSuperseded) || !strings.Contains(err.Error(), file) || w.wholeReplicas(t, w.dst) != 0 {
			t.Fatalf("Replicate = %+v, %v", res, err)
		}
		if n := req.Meter.Retries.Load(); n < retryTries-1 || n > 30 || res.Duration > retryFor+retryMost {
			t.Errorf("%d retries in %s", n, res.Duration)
		}
		w.calm()
		w.there.Inject(always(func(_ context.Context, c faultfs.Call) error {
			if c.Op == faultfs.Open && c.Name != file && !strings.HasSuffix(c.Name, metadataName) {
				t.Errorf("%s is copied again", c.Name)
			}
			return nil
		}))
		w.mustReplicate(t, req)
	})
}

func TestAFullDiskIsOneErrorAtOnceAndTheNextRunGoesOn(t *testing.T) {
	for _, op := range []faultfs.Op{faultfs.Create, faultfs.Write, faultfs.Commit, faultfs.Rename} {
		t.Run(string(op), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				req := w.request(w.load(t, one(t, "1.20.0-rocksdb-incremental", "chk-5")))
				req.Meter = &Meter{}
				w.slow()
				full := fmt.Errorf("%w: 0 bytes left", fsutil.ErrNoSpace)
				w.here.Inject(faultfs.Fault{Op: op, First: 15, Last: faultfs.Forever, Do: faultfs.Fail(full)})
				res, err := Replicate(t.Context(), w, req)
				if !errors.Is(err, fsutil.ErrNoSpace) || strings.Count(err.Error(), fsutil.ErrNoSpace.Error()) != 1 || res.Status != StatusFailed {
					t.Fatalf("Replicate = %+v, %v", res, err)
				}
				if req.Meter.Retries.Load() != 0 {
					t.Error("it was tried again")
				}
				w.calm()
				copied := w.mustReplicate(t, req)
				if copied.Status != StatusReady {
					t.Errorf("Replicate = %+v", copied)
				}
			})
		})
	}
}

func TestAFrozenFileSystemIsLeftWhenTheContextEnds(t *testing.T) {
	for _, side := range []string{"source", "target"} {
		t.Run(side, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				req := w.request(w.load(t, one(t, "1.20.0-rocksdb-full", "chk-5")))
				for n := 1; ; n++ {
					w.dst = fsutil.NewMemory(mustURI("hdfs://dc-b/"))
					w.calm()
					frozen := w.here
					if side == "source" {
						frozen = w.there
					}
					frozen.Inject(faultfs.Fault{First: n, Last: faultfs.Forever, Do: faultfs.Freeze()})
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					began := time.Now()
					res, err := Replicate(ctx, w, req)
					cancel()
					w.wholeReplicas(t, w.dst)
					if len(frozen.Unfired()) > 0 {
						if err != nil || n < 10 {
							t.Fatalf("call %d: Replicate = %+v, %v", n, res, err)
						}
						return
					}
					if err == nil {
						continue // only what is done after READY was frozen
					}
					if !errors.Is(err, context.DeadlineExceeded) || res.Status == StatusReady {
						t.Fatalf("call %d: Replicate = %+v, %v", n, res, err)
					}
					if over := time.Since(began) - time.Minute; over > journalWrite+cleanupFor {
						t.Fatalf("call %d: it returned %s after the end of the context", n, over)
					}
				}
			})
		})
	}
}

func TestAContextThatEndsWhileTheSourceIsUnavailableIsTheContextsError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		req := w.request(w.load(t, one(t, "1.20.0-rocksdb-incremental", "chk-5")))
		file, _ := w.aSharedFile(t, req.Source)
		ctx, cancel := context.WithCancel(t.Context())
		w.there.Inject(faultfs.Fault{Op: faultfs.Open, Name: file, Last: faultfs.Forever, Do: faultfs.Before(func(context.Context, faultfs.Call) error {
			cancel()
			return fsutil.ErrUnavailable
		})})
		if _, err := Replicate(ctx, w, req); !errors.Is(err, context.Canceled) {
			t.Fatalf("Replicate: %v", err)
		}
	})
}
