package replicator

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"path"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/fsutil/faultfs"
)

// largeFile is the large file of these tests, of largeSize bytes: with points every 1000 of them.
const (
	largeFile   = "dc-a/cp/" + jobA + "/shared/large"
	largeCopied = "replicas/" + jobA + "/shared/large"
	largeSize   = 10_500
)

func (w *world) largeRequest(t testing.TB) Request {
	t.Helper()
	large := absolute("file:/" + largeFile)
	large.size = largeSize
	req := w.request(w.checkpoint(t, "dc-a/cp/"+jobA+"/chk-5", large, relative("small")))
	req.partials = partialRule{from: 5000, every: 1000}
	req.Parallel = 1
	return req
}

// besideLarge is what the run copies beside the large file.
const besideLarge = 100

func (w *world) partialFiles(t testing.TB) []string {
	t.Helper()
	return names(t, w.dst, "replicas/"+ownDir+"/"+partialDir)
}

// cutAt ends the n-th reading of the large file after so many of its bytes.
func (w *world) cutAt(n int, at int64, err error) {
	w.there.Inject(faultfs.Fault{Op: faultfs.Open, Name: largeFile, First: n, Do: faultfs.FailAt(at, err)})
}

func TestALargeFileThatIsCutGoesOnWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		req := w.largeRequest(t)
		for n := 1; n <= 40; n++ { // more often than anything else is tried
			w.cutAt(n, int64(n)*250, fsutil.ErrUnavailable)
		}
		res := w.mustReplicate(t, req)
		if res.BytesCopied != largeSize+besideLarge {
			t.Errorf("%d bytes were read at the source, want each once: %d", res.BytesCopied, largeSize+besideLarge)
		}
		if left := w.partialFiles(t); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		w.checkAll(t, 1)
	})
}

// What can be believed no longer is read again.
func TestALargeFileBeginsAnew(t *testing.T) {
	other := []byte(strings.Repeat("another", largeSize/7))
	for name, c := range map[string]struct {
		cut    error
		change func(t *testing.T, w *world)
		again  int64 // read at the source more than once
	}{
		"after bytes that were wrong": {cut: fsutil.ErrCorrupt, again: 5500},
		"when the source's file is another one": {cut: fsutil.ErrUnavailable, again: 5500, change: func(t *testing.T, w *world) {
			put(t, w.src, largeFile, other)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				req := w.largeRequest(t)
				_ = pause(t.Context(), time.Second)
				w.cutAt(1, 5500, c.cut)
				if c.change != nil {
					w.when("read", largeFile, 2, func() { c.change(t, w) })
				}
				res := w.mustReplicate(t, req)
				if res.BytesCopied != largeSize+besideLarge+c.again {
					t.Errorf("%d bytes were read at the source, want %d", res.BytesCopied, largeSize+besideLarge+c.again)
				}
				w.checkAll(t, 1)
			})
		})
	}
}

// A writer that breaks leaves what it has; the next goes on from there, and reads it at the target.
func TestACopyThatCannotBeWrittenToGoesOnInAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		req := w.largeRequest(t)
		w.here.Inject(faultfs.Fault{Op: faultfs.Create, Name: "replicas/" + ownDir + "/" + partialDir + "/*", Do: faultfs.FailAt(4200, fsutil.ErrUnavailable)})
		res := w.mustReplicate(t, req)
		// What was read and not written any more is read again, and what came after the last point.
		if res.BytesCopied > 2*largeSize-4000+besideLarge || len(opened(w.here, "replicas/"+ownDir+"/"+partialDir)) == 0 {
			t.Errorf("%d bytes were read at the source", res.BytesCopied)
		}
		if left := w.partialFiles(t); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

// interrupted is a run that is interrupted in the middle of the large file.
func (w *world) interrupted(t *testing.T, req Request) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.there.Inject(faultfs.Fault{Op: faultfs.Open, Name: largeFile, Do: faultfs.FreezeAt(5500)})
	time.AfterFunc(time.Minute, cancel)
	res, err := Replicate(ctx, w, req)
	if !errors.Is(err, context.Canceled) || res.Status != StatusInterrupted {
		t.Fatalf("Replicate = %+v, %v", res, err)
	}
	w.calm()
}

// killed is a run that ends without a word in the middle of the large file.
func (w *world) killed(t *testing.T, req Request) {
	t.Helper()
	var dead atomic.Bool
	stop := faultfs.Before(func(context.Context, faultfs.Call) error {
		if dead.Load() {
			return faultfs.ErrStopped
		}
		return nil
	})
	w.here.Inject(faultfs.Fault{Last: faultfs.Forever, Do: stop})
	w.there.Inject(faultfs.Fault{Op: faultfs.Open, Name: largeFile, Do: faultfs.FailAt(5500, faultfs.ErrStopped)},
		faultfs.Fault{Op: faultfs.Read, Name: largeFile, First: 2, Last: faultfs.Forever, Do: faultfs.Before(func(ctx context.Context, _ faultfs.Call) error {
			_ = pause(ctx, time.Millisecond) // until all records are written
			dead.Store(true)
			return faultfs.ErrStopped
		})})
	if _, err := Replicate(t.Context(), w, req); err == nil {
		t.Fatal("Replicate: no error")
	}
	w.calm()
}

func TestTheNextRunGoesOnWithALargeFile(t *testing.T) {
	data := func(t *testing.T, w *world) string {
		for _, name := range w.partialFiles(t) {
			if !strings.HasSuffix(name, ".json") {
				return name
			}
		}
		t.Fatal("no partial file")
		return ""
	}
	for name, c := range map[string]struct {
		change func(t *testing.T, w *world)
		rest   map[string]int64 // that the next run reads of the large file, by how the first one ended
	}{
		"as it was left": {nil, map[string]int64{"interrupted": largeSize - 5500, "killed": largeSize - 5000}},
		"damaged": {func(t *testing.T, w *world) { flip(t, w.dst, data(t, w), 3300) },
			map[string]int64{"interrupted": largeSize - 3000, "killed": largeSize - 3000}},
		"damaged at its beginning": {func(t *testing.T, w *world) { flip(t, w.dst, data(t, w), 0) },
			map[string]int64{"interrupted": largeSize, "killed": largeSize}},
		"shorter": {func(t *testing.T, w *world) { put(t, w.dst, data(t, w), get(t, w.dst, data(t, w))[:2999]) },
			map[string]int64{"interrupted": largeSize - 2000, "killed": largeSize - 2000}},
		"gone": {func(t *testing.T, w *world) { remove(t, w.dst, data(t, w)) },
			map[string]int64{"interrupted": largeSize, "killed": largeSize}},
		"with a record that is damaged": {func(t *testing.T, w *world) {
			put(t, w.dst, data(t, w)+".json", []byte(`{"partial_format":1`))
		}, map[string]int64{"interrupted": largeSize, "killed": largeSize}},
		"with a record whose digests are not its own": {func(t *testing.T, w *world) {
			name := data(t, w) + ".json"
			b := string(get(t, w.dst, name))
			put(t, w.dst, name, []byte(strings.ReplaceAll(b, `"crc32c":"`, `"crc32c":"00000000","was":"`)))
		}, map[string]int64{"interrupted": largeSize, "killed": largeSize}},
		"of a source that was written again since": {func(t *testing.T, w *world) {
			put(t, w.src, largeFile, []byte(strings.Repeat("another", largeSize/7)))
		}, map[string]int64{"interrupted": largeSize, "killed": largeSize}},
		"after a power loss": {func(_ *testing.T, w *world) { w.dst = w.dst.CrashClone() },
			map[string]int64{"interrupted": largeSize, "killed": largeSize}},
	} {
		for ended, rest := range c.rest {
			t.Run(ended+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld()
					req := w.largeRequest(t)
					map[string]func(*testing.T, Request){"interrupted": w.interrupted, "killed": w.killed}[ended](t, req)
					_ = pause(t.Context(), time.Second)
					if c.change != nil {
						c.change(t, w)
						w.calm()
					}
					res, err := Replicate(t.Context(), w, req)
					if err != nil {
						t.Fatal(err)
					}
					if got := res.BytesCopied - besideLarge; got != rest {
						t.Errorf("%d bytes of the large file were read at the source, want %d", got, rest)
					}
					w.checkAll(t, 1)
					if left := w.partialFiles(t); ended == "interrupted" && name == "as it was left" && len(left) > 0 {
						t.Errorf("left: %v", left)
					}
					// Of one that was killed nobody knows whether it is dead; on another day it is.
					_ = pause(t.Context(), staleAttempt+time.Hour)
					w.mustReplicate(t, req)
					if left := w.partialFiles(t); len(left) > 0 {
						t.Errorf("left on the next day: %v", left)
					}
				})
			})
		}
	}
}

// A shared file that was cut is gone on with by the next checkpoint, and an exclusive one of a checkpoint that is no more
// leaves nothing.
func TestWhatIsLeftOfASupersededCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		req := w.largeRequest(t)
		w.interrupted(t, req)
		remove(t, w.src, "dc-a/cp/"+jobA+"/chk-5")
		large := absolute("file:/" + largeFile)
		large.size = largeSize
		exclusive := relative("exclusive")
		exclusive.size = largeSize - 1 // after the shared one
		next := req
		next.Source = w.checkpoint(t, "dc-a/cp/"+jobA+"/chk-6", large, exclusive, relative("small"))
		cut := "dc-a/cp/" + jobA + "/chk-6/exclusive"
		w.there.Inject(faultfs.Fault{Op: faultfs.Open, Name: cut, Do: faultfs.FreezeAt(5500)})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if res, err := Replicate(ctx, w, next); err == nil || res.BytesCopied != largeSize-5500+5500 {
			t.Fatalf("Replicate = %+v, %v", res, err)
		}
		w.calm()
		ofExclusive := func() int {
			n := 0
			for _, name := range w.partialFiles(t) {
				if strings.HasSuffix(name, ".json") && strings.Contains(string(get(t, w.dst, name)), "/exclusive") {
					n++
				}
			}
			return n
		}
		if ofExclusive() != 1 {
			t.Fatal("nothing is left of the exclusive file")
		}
		w.fullSource = w.src.CrashClone()
		w.when("open", cut, 1, func() { remove(t, w.src, cut); remove(t, w.src, "dc-a/cp/"+jobA+"/chk-6/small") })
		if _, err := Replicate(t.Context(), w, next); !errors.Is(err, ErrSuperseded) {
			t.Fatalf("Replicate: %v", err)
		}
		if ofExclusive() != 0 {
			t.Error("the exclusive file of a checkpoint that is no more was kept")
		}
	})
}

func TestASweepRemovesWhatWasCutADayAgo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.killed(t, w.largeRequest(t))
		for _, want := range []bool{true, false} {
			s, _, err := NewSweeper(t.Context(), w.targetFS(t), SweepConfig{})
			if err == nil {
				err = s.RemoveDeadAttempts(t.Context())
			}
			if left := w.partialFiles(t); err != nil || (len(left) > 0) != want {
				t.Errorf("left: %v, %v; want some: %v", left, err, want)
			}
			_ = pause(t.Context(), staleAttempt)
		}
	})
}

func TestAFullDiskIsNotKeptFull(t *testing.T) {
	w := newWorld()
	req := w.largeRequest(t)
	w.here.Inject(faultfs.Fault{Op: faultfs.Create, Name: "replicas/" + ownDir + "/" + partialDir + "/*", Do: faultfs.FailAt(4200, fsutil.ErrNoSpace)})
	if _, err := Replicate(t.Context(), w, req); !errors.Is(err, fsutil.ErrNoSpace) {
		t.Fatalf("Replicate: %v", err)
	}
	if left := w.partialFiles(t); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestACrashAtAnyOperationOnALargeFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		req := w.largeRequest(t)
		source := w.sourceDigests(t)
		for n := int64(1); ; n++ {
			w.dst = fsutil.NewMemory(mustURI("hdfs://dc-b/"))
			w.calm()
			if n%2 == 0 {
				w.interrupted(t, req) // so that there is something to take over
			}
			w.cutAt(1, 7300, fsutil.ErrUnavailable)
			w.slow()
			alive := w.dieAt(n)
			_, err := Replicate(t.Context(), w, req)
			w.calm()
			if alive() && n%2 == 0 {
				if err != nil || n < 30 {
					t.Fatalf("Replicate, after %d operations on the target: %v", n, err)
				}
				break
			}
			w.wholeReplicas(t, w.dst)
			switch killed := w.dst; n % 3 {
			case 1:
				w.dst = killed.CrashClone()
			case 2:
				w.dst = killed.CrashCloneRandom(rand.New(rand.NewPCG(5, uint64(n))))
			}
			w.resumeAfterCrash(t, req, n%8 == 0)
		}
		if !maps.Equal(source, w.sourceDigests(t)) {
			t.Fatal("the source was changed")
		}
	})
}

func TestARecordIsBounded(t *testing.T) {
	rule := partialRule{from: largeBytes, every: largeBytes}
	for _, size := range []int64{largeBytes, 1 << 30, 1 << 40, 1 << 45} {
		every := rule.spacing(size)
		if every%largeBytes != 0 || size/every > pointsMost {
			t.Errorf("a file of %d bytes has a point every %d", size, every)
		}
	}
	if path.Ext(recordName("x")) != ".json" {
		t.Error("a record is no .json")
	}
}
