package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// watcher keeps what it is told.
type watcher struct {
	mu     sync.Mutex
	copies []Copy
}

func (w *watcher) CopyEnded(c Copy) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.copies = append(w.copies, c)
}

func (w *watcher) all() []Copy {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.copies)
}

func TestAnObserverHearsOfEachStageInItsOrder(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		seen := &watcher{}
		w.dc2.stop()
		w.dc2.cfg.Observer = seen
		w.dc2.run(t)
		w.until("the source is heard of", func() bool { return !w.dc2.store.View().SeenAt("prod").IsZero() })
		w.chk(3)
		w.until("chk-3 is READY", w.is("orders/chk-3 READY 1"))
		w.until("the observer hears", func() bool { return len(seen.all()) == 1 })

		got := seen.all()[0]
		if got.Route != "prod" || got.Job != "orders" || got.Result != CopyReady || got.Reason != ReasonNone {
			t.Errorf("it heard of %+v", got)
		}
		order := []time.Time{got.Times.Completed, got.Times.Heard, got.Times.Started, got.Times.FirstByte, got.Times.LastByte, got.Times.Verified, got.Times.Ended}
		for i, at := range order {
			if at.IsZero() || i > 0 && at.Before(order[i-1]) {
				t.Errorf("moment %d of %v is missing, or before the one before", i, order)
			}
		}
		totals := w.dc2.agent.Totals()
		if len(totals) != 1 || totals[0].Route != "prod" || totals[0].Files == 0 || totals[0].Bytes == 0 {
			t.Errorf("totals %+v, want what was copied of route prod", totals)
		}

		// What it has copied is still told when it no longer leads, and doesn't count again.
		restore := w.dc2.group.depose()
		w.until("nobody works", func() bool { return len(w.dc2.agent.Status().Routes) == 0 })
		if again := w.dc2.agent.Totals(); !slices.Equal(again, totals) {
			t.Errorf("totals %+v after the leadership, %+v before", again, totals)
		}
		restore()
	})
}

func TestReasonsTellWhatTheDomainSaysBeforeTheFileSystem(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want CopyReason
	}{
		{fmt.Errorf("a: %w", fsutil.ErrNoSpace), ReasonNoSpace},
		{fmt.Errorf("%w: %w", replicator.ErrRefused, fs.ErrPermission), ReasonRefused},
		{fs.ErrPermission, ReasonPermission},
		{fsutil.ErrUnavailable, ReasonUnavailable},
		{replicator.ErrVerify, ReasonCorrupt},
		{replicator.ErrBroken, ReasonBroken},
		{raftstore.ErrStale, ReasonState},
		{errors.New("anything"), ReasonOther},
	} {
		if got := reasonOf(tc.err); got != tc.want {
			t.Errorf("%v: %s, want %s", tc.err, got, tc.want)
		}
		result, reason := outcome{kind: endedFailed, err: tc.err}.result()
		if !slices.Contains(CopyOutcomes()[result], reason) {
			t.Errorf("%s for %s is not among the outcomes that are counted from zero", result, reason)
		}
	}
	for kind := endedReady; kind <= endedStopped; kind++ {
		result, reason := outcome{kind: kind, err: errors.New("x")}.result()
		if !slices.Contains(CopyOutcomes()[result], reason) {
			t.Errorf("ending %d: %s for %s is not among the outcomes that are counted from zero", kind, result, reason)
		}
	}
}
