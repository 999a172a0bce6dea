package replicator

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/fsutil/faultfs"
)

// together runs requests at the same time, with calls that take different times.
func (w *world) together(t *testing.T, seed uint64, reqs ...Request) []error {
	t.Helper()
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(1, seed))
	some := func(ctx context.Context, _ faultfs.Call) error {
		mu.Lock()
		d := time.Duration(r.IntN(20)) * time.Millisecond
		mu.Unlock()
		return pause(ctx, d)
	}
	w.here.Inject(always(some))
	w.there.Inject(always(some))
	errs := make([]error, len(reqs))
	var all sync.WaitGroup
	for i, req := range reqs {
		all.Go(func() {
			res, err := Replicate(t.Context(), w, req)
			if errs[i] = err; (err == nil) != (res.Status == StatusReady) {
				t.Errorf("Replicate = %+v, %v", res, err)
			}
		})
	}
	all.Wait()
	return errs
}

func TestRunsAtTheSameTimeMakeWholeReplicas(t *testing.T) {
	const name = "1.20.0-rocksdb-incremental"
	for what, chks := range map[string][]string{
		"of one checkpoint":          {"chk-5", "chk-5"},
		"of two checkpoints":         {"chk-4", "chk-5"},
		"of two checkpoints, thrice": {"chk-4", "chk-5", "chk-4", "chk-5", "chk-4", "chk-5"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(10) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld()
					w.load(t, one(t, name, "chk-5"))
					var reqs []Request
					distinct := map[string]bool{}
					for _, chk := range chks {
						req := w.request(one(t, name, chk).named())
						req.Parallel = 4
						reqs, distinct[chk] = append(reqs, req), true
					}
					for _, err := range w.together(t, seed, reqs...) {
						if err != nil {
							t.Errorf("seed %d: %v", seed, err)
						}
					}
					w.calm()
					w.checkAll(t, len(distinct))
					if left := names(t, w.dst, "replicas/"+ownDir+"/tmp"); len(left) > 0 {
						t.Errorf("left behind: %v", left)
					}
				})
			}
		})
	}
}

func TestRunsAtTheSameTimeWhileFlinkDeletesTheCheckpoint(t *testing.T) {
	ready := 0
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			req := w.request(w.load(t, one(t, "1.20.0-rocksdb-incremental", "chk-5")))
			req.Parallel = 2
			w.fullSource = w.src.CrashClone()
			victims := handles(t, w.src, strings.TrimPrefix(req.Source.Path, "/"), req.Source.String())
			r := rand.New(rand.NewPCG(2, seed))
			victim := strings.TrimPrefix(mustURI(victims[r.IntN(len(victims))].URI).Path, "/")
			time.AfterFunc(time.Duration(r.IntN(2000))*time.Millisecond, func() { remove(t, w.src, victim) })
			later := req
			later.BytesPerSecond = 200_000
			errs := w.together(t, seed, req, later, req)
			for _, err := range errs {
				if err != nil && !errors.Is(err, ErrSuperseded) && !errors.Is(err, ErrBroken) && !errors.Is(err, ErrVerify) {
					t.Errorf("seed %d: %v", seed, err)
				}
			}
			w.calm()
			if n := w.wholeReplicas(t, w.dst); n > 0 {
				ready++
				w.checkAll(t, 1)
			} else if fmt.Sprint(errs) == fmt.Sprint(make([]error, len(errs))) {
				t.Errorf("seed %d: READY, and no replica", seed)
			}
			_ = pause(t.Context(), 5*time.Second)
		})
	}
	if ready == 0 || ready == 30 {
		t.Errorf("%d of 30 times READY: the test does not meet the moment", ready)
	}
}

func TestOfTwoLivesOfAJobAtTheSameTimeOneAtMostIsReady(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			// Two clusters with one fixed job id, which an operator sends to one root by mistake.
			a := w.checkpoint(t, "dc-a/x/"+jobA+"/chk-1", absolute("file:/dc-a/x/"+jobA+"/shared/f"), relative("1"))
			b := w.checkpoint(t, "dc-a/y/"+jobA+"/chk-1", absolute("file:/dc-a/y/"+jobA+"/shared/g"), relative("2"))
			errs := w.together(t, seed, w.request(a), w.request(b))
			w.calm()
			good := 0
			for _, err := range errs {
				if err == nil {
					good++
				} else if !errors.Is(err, ErrRefused) && !errors.Is(err, ErrVerify) {
					t.Errorf("seed %d: %v", seed, err)
				}
			}
			report, err := Check(t.Context(), w, CheckRequest{Dir: dcB.Join(jobA + "/chk-1")})
			if good == 2 || good > 0 && err != nil {
				t.Errorf("seed %d: %d runs ended READY: %v; Check = %+v, %v", seed, good, errs, report, err)
			}
		})
	}
}

func TestOneMeterMayBeUsedForRunAfterRun(t *testing.T) {
	w := newWorld()
	req := w.request(w.load(t, one(t, "1.20.0-rocksdb-incremental", "chk-5")))
	req.Meter = &Meter{}
	first := w.mustReplicate(t, req)
	again := w.mustReplicate(t, req)
	if again.BytesCopied != 0 || again.FilesSkipped != first.Files || req.Meter.Phase() != PhaseDone || req.Meter.BytesDone.Load() != req.Meter.Bytes.Load() {
		t.Errorf("Replicate = %+v", again)
	}
}

func TestABandwidthLimitIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var files []stateFile
		for i := range 8 {
			files = append(files, stateFile{path: fmt.Sprintf("file:/dc-a/cp/%s/shared/%d", jobA, i), size: 1 << 20})
		}
		req := w.request(w.checkpoint(t, "dc-a/cp/"+jobA+"/chk-5", files...))
		req.BytesPerSecond = 1 << 19
		res := w.mustReplicate(t, req)
		// The first eighth of a second's bytes pass at once.
		if want := 16*time.Second - time.Second/8; res.Duration < want || res.Duration > want+time.Second {
			t.Errorf("8 MiB at 512 KiB/s took %s", res.Duration)
		}
	})
}

var _ Opener = (*fsutil.Stores)(nil)

// A run that was held up while another one published leaves the other's record as it is: its checksum is known elsewhere.
func TestARunThatComesLateKeepsTheManifest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const name = "1.20.0-rocksdb-incremental"
		w := newWorld()
		w.load(t, one(t, name, "chk-5"))
		req := w.request(one(t, name, "chk-5").named())
		held, free := make(chan struct{}), make(chan struct{})
		var first atomic.Bool
		w.here.Inject(faultfs.Fault{Op: faultfs.Create, Last: faultfs.Forever, Do: faultfs.Before(func(context.Context, faultfs.Call) error {
			if first.CompareAndSwap(false, true) { // it is past its plan
				close(held)
				<-free
			}
			return nil
		})})
		late := make(chan error, 1)
		go func() {
			_, err := Replicate(t.Context(), w, req)
			late <- err
		}()
		<-held
		time.Sleep(time.Minute) // of the bubble's clock: its manifest will be another one
		made := w.mustReplicate(t, req)
		close(free)
		if err := <-late; err != nil {
			t.Fatal(err)
		}
		w.calm()
		again := w.mustReplicate(t, req)
		if again.ManifestCRC != made.ManifestCRC {
			t.Errorf("the manifest has the checksum %08x, and had %08x", again.ManifestCRC, made.ManifestCRC)
		}
		w.checkAll(t, 1)
	})
}
