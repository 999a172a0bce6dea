package replicator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
)

// large makes a checkpoint of shared files of 1 MiB.
func (w *world) large(t *testing.T, dir string, files int) fsutil.URI {
	t.Helper()
	var made []stateFile
	for i := range files {
		made = append(made, stateFile{path: fmt.Sprintf("file:/%s/shared/%d", dir, i), size: 1 << 20})
	}
	return w.checkpoint(t, dir+"/chk-5", made...)
}

func TestACopyFollowsALimitThatChangesInItsMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		req := w.request(w.large(t, "dc-a/cp/"+jobA, 32))
		limit := NewLimit(1 << 20)
		req.Parallel, req.Meter, req.Limits = 4, &Meter{}, []*Limit{nil, limit}
		ended := make(chan error, 1)
		go func() {
			_, err := Replicate(t.Context(), w, req)
			ended <- err
		}()
		synctest.Wait()
		for _, step := range []struct {
			bytesPerSecond int64
			during         time.Duration
		}{{1 << 20, 4 * time.Second}, {4 << 20, 4 * time.Second}, {100 << 10, 20 * time.Second}, {1, time.Hour}, {2 << 20, time.Second}} {
			limit.Set(step.bytesPerSecond)
			before := req.Meter.BytesCopied.Load()
			time.Sleep(step.during)
			synctest.Wait()
			got, want := req.Meter.BytesCopied.Load()-before, step.bytesPerSecond*int64(step.during/time.Second)
			// Each file that is copied may have read a buffer that has not passed yet.
			if tolerance := int64(req.Parallel+1) * copyBufferBytes; got < want-tolerance || got > want+tolerance {
				t.Errorf("at %d bytes per second, %d in %s: want %d", step.bytesPerSecond, got, step.during, want)
			}
		}
		limit.Set(0)
		before := time.Now()
		if err := <-ended; err != nil || time.Since(before) > time.Second {
			t.Errorf("Replicate without the limit = %v, after %s", err, time.Since(before))
		}
		w.calm()
		w.checkAll(t, 1)
	})
}

func TestCopiesShareALimitAndTheNarrowestOfTwoDecides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		link, route := NewLimit(1<<20), NewLimit(1<<18)
		began := time.Now()
		took := make([]time.Duration, 3)
		var all sync.WaitGroup
		for i, dir := range []string{"dc-a/x/" + jobA, "dc-a/y/" + jobB, "dc-a/z/" + "cccccccccccccccccccccccccccccccc"} {
			req := w.request(w.large(t, dir, 4))
			req.Limits = []*Limit{link}
			if i == 2 {
				req.Limits = []*Limit{route, link}
			}
			all.Go(func() {
				if _, err := Replicate(t.Context(), w, req); err != nil {
					t.Error(err)
				}
				took[i] = time.Since(began)
			})
		}
		all.Wait()
		// 4 MiB through the route's quarter; beside it 8 MiB through what that leaves of the link, in whatever order.
		for what, tc := range map[string]struct{ took, want time.Duration }{
			"the copies of the link alone":     {max(took[0], took[1]), 32 * time.Second / 3},
			"the copy that has a limit beside": {took[2], 16 * time.Second},
		} {
			if tc.took < tc.want-time.Second || tc.took > tc.want+time.Second {
				t.Errorf("%s took %s, want %s", what, tc.took, tc.want)
			}
		}
	})
}

func TestWhoWaitsForALimitHearsOfItsChangeAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := NewLimit(8)
		began := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() { gone <- limit.take(ctx, 1<<30) }()
		synctest.Wait()
		stays := make(chan error, 1)
		go func() { stays <- limit.take(t.Context(), 1<<20) }()
		time.Sleep(time.Second)
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) || time.Since(began) > time.Second {
			t.Errorf("take = %v after %s", err, time.Since(began))
		}
		limit.Set(8) // the same again: who waits goes on waiting
		limit.Set(1 << 20)
		if err := <-stays; err != nil || time.Since(began) > 2*time.Second+time.Second/8 {
			t.Errorf("take = %v after %s: it has slept at the rate before", err, time.Since(began))
		}
	})
}

func TestWhoIsStoppedLeavesItsShareToTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := NewLimit(8) // a byte each 125 ms
		if err := limit.take(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Millisecond)
		defer cancel()
		if err := limit.take(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("take = %v", err)
		}
		if err := limit.take(t.Context(), 1); err != nil || time.Since(began) != 125*time.Millisecond {
			t.Errorf("take = %v after %s", err, time.Since(began))
		}
	})
}

func TestNoLimitIsNoWaiting(t *testing.T) {
	for name, limit := range map[string]*Limit{"nil": nil, "zero": {}, "of none": NewLimit(0), "less than none": NewLimit(-5)} {
		if err := limit.take(t.Context(), 1<<40); err != nil || limit.BytesPerSecond() != 0 {
			t.Errorf("%s: take = %v at %d bytes per second", name, err, limit.BytesPerSecond())
		}
	}
	limit := NewLimit(7)
	if limit.BytesPerSecond() != 7 {
		t.Errorf("the limit is %d, want 7", limit.BytesPerSecond())
	}
	limit.Set(-1)
	if err := limit.take(t.Context(), 1<<40); err != nil || limit.BytesPerSecond() != 0 {
		t.Errorf("taken away: take = %v at %d bytes per second", err, limit.BytesPerSecond())
	}
}
