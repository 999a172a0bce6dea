package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/fsutil/faultfs"
	"github.com/ckptferry/ckptferry/raftstore"
)

func TestFailuresAreTriedAgainAfterATimeThatGrows(t *testing.T) {
	for name, tc := range map[string]struct {
		at     func(w *world) *storage
		fault  faultfs.Fault
		reason string
	}{
		"the target's disk is full": {
			func(w *world) *storage { return w.dc2.storage },
			faultfs.Fault{Op: faultfs.Create, Do: faultfs.Fail(fsutil.ErrNoSpace)}, "no room at the target file:/replicas"},
		"the target may not be written": {
			func(w *world) *storage { return w.dc2.storage },
			faultfs.Fault{Op: faultfs.Create, Do: faultfs.Fail(fs.ErrPermission)}, "permission denied"},
		"the source reads with an error": {
			func(w *world) *storage { return w.dc1.storage },
			faultfs.Fault{Op: faultfs.Open, Name: orders + "/chk-1/own", Do: faultfs.Fail(errors.New("disk on fire"))}, "disk on fire"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				var tries []time.Time
				last := ""
				tc.fault.Last = faultfs.Forever
				tc.at(w).fault().Inject(tc.fault)
				w.chk(1)
				began := time.Now()
				for time.Since(began) < 40*time.Second {
					if r := fmt.Sprint(w.replicas()); r != last && strings.Contains(r, "FAILED") {
						tries, last = append(tries, time.Now()), r
					}
					w.pass(10 * time.Millisecond)
				}
				if n := len(tries); n < 4 || n > 7 || tries[n-1].Sub(tries[n-2]) < 4*time.Second {
					t.Errorf("tried at %v", tries)
				}
				for _, r := range w.dc2.store.View().Replicas() {
					if !strings.Contains(r.Reason, tc.reason) {
						t.Errorf("reason %q", r.Reason)
					}
				}
				if lags := Lags(w.dc2.store.View(), time.Now(), time.Minute); len(lags) != 1 || !strings.Contains(lags[0].Reason, tc.reason) {
					t.Errorf("lag %+v", lags)
				}
				tc.at(w).calm()
				w.until("it is READY when mended", func() bool { return strings.Contains(fmt.Sprint(w.replicas()), "READY") })
				w.whole()
			})
		})
	}
}

// A checkpoint that is itself broken doesn't stand in the way of the one before it.
func TestABrokenCheckpointIsSteppedOver(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.route(func(r *raftstore.Route) { r.Mode = raftstore.RoutePaused })
		w.chk(1)
		w.chk(2)
		w.dc1.storage.remove(t, orders+"/shared/s2")
		w.until("they are known", func() bool { return len(w.dc2.store.View().Known("prod")) == 2 })
		w.route(func(*raftstore.Route) {})
		w.until("chk-1 is READY", w.is("orders/chk-1 READY 1"))
		w.until("its lag says why", func() bool {
			lags := Lags(w.dc2.store.View(), time.Now(), time.Minute)
			return len(lags) == 1 && lags[0].State == Behind && *lags[0].ReadyCheckpoint == 1 && strings.Contains(lags[0].Reason, "shared/s2")
		})
		before := w.dc2.entries()
		w.pass(10 * time.Minute)
		if n := w.dc2.entries() - before; n > 120+3*20 { // signs of life, and three for each try
			t.Errorf("%d entries in ten minutes for one that can't be mended", n)
		}
		w.dc1.storage.put(t, orders+"/shared/s2", content(orders+"/shared/s2"))
		w.until("it is READY when mended", func() bool { return strings.Contains(fmt.Sprint(w.replicas()), "chk-2 READY") })
	})
}

func TestASourceThatIsSilentIsSaidAndComesBack(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.chk(1)
		w.until("chk-1 is READY", w.is("orders/chk-1 READY 1"))
		w.link.down(errors.New("no route to host"))
		w.pass(45 * time.Second)
		lags := Lags(w.dc2.store.View(), time.Now(), DefaultSilentAfter)
		if len(lags) != 1 || lags[0].State != SourceSilent || *lags[0].TimeLag < 40*time.Second || !strings.Contains(lags[0].Reason, "dc1 has not been heard of for") {
			t.Errorf("lag %+v", lags)
		}
		if s := w.dc2.agent.Status(); len(s.Routes) != 1 || !strings.Contains(s.Routes[0].Problem, "no route to host") {
			t.Errorf("status %+v", s)
		}
		w.link.down(nil)
		w.chk(2)
		w.until("it goes on by itself", w.is("orders/chk-2 READY 1"))
		w.until("and is heard of", func() bool {
			lags := Lags(w.dc2.store.View(), time.Now(), DefaultSilentAfter)
			return len(lags) == 1 && lags[0].State == CaughtUp && w.dc2.agent.Status().Routes[0].Problem == ""
		})
	})
}

// The target hears the source's agents, and these can't see their storage: that is silence too, with its reason.
func TestASourceWhoseStorageIsAwayIsSilent(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.chk(1)
		w.until("chk-1 is READY", w.is("orders/chk-1 READY 1"))
		w.dc1.storage.fault().Inject(faultfs.Fault{Op: faultfs.List, Last: faultfs.Forever, Do: faultfs.Fail(fmt.Errorf("namenode: %w", fsutil.ErrUnavailable))})
		w.pass(45 * time.Second)
		lags := Lags(w.dc2.store.View(), time.Now(), DefaultSilentAfter)
		if len(lags) != 1 || lags[0].State != SourceSilent {
			t.Errorf("lag %+v", lags)
		}
		if s := w.dc2.agent.Status(); len(s.Routes) != 1 || !strings.Contains(s.Routes[0].Problem, "dc1 says: list file:/cp: ") {
			t.Errorf("status %+v", s)
		}
		w.dc1.storage.calm()
		w.chk(2)
		w.until("it goes on by itself", w.is("orders/chk-2 READY 1"))
	})
}

func TestASourceWithoutALeaderIsSilent(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.chk(1)
		w.until("chk-1 is READY", w.is("orders/chk-1 READY 1"))
		restore := w.dc1.group.depose()
		w.pass(45 * time.Second)
		if lags := Lags(w.dc2.store.View(), time.Now(), DefaultSilentAfter); len(lags) != 1 || lags[0].State != SourceSilent {
			t.Errorf("lag %+v", lags)
		}
		if s := w.dc2.agent.Status(); len(s.Routes) != 1 || !strings.Contains(s.Routes[0].Problem, "has no leader") {
			t.Errorf("status %+v", s)
		}
		restore()
		w.chk(2)
		w.until("it goes on by itself", w.is("orders/chk-2 READY 1"))
	})
}

func TestARaisedEpochFencesTheCopyUnderWay(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		held, release := w.hold(orders + "/chk-1/own")
		w.chk(1)
		w.until("it is copied", held)
		w.raise(7)
		release()
		w.until("it is planned again, and READY", w.is("orders/chk-1 READY 2"))
		if r := w.ready("chk-1"); r.Planned.Epoch != 7 {
			t.Errorf("READY under epoch %d", r.Planned.Epoch)
		}
	})
}

func TestARouteFromADatacenterThatNobodyKnows(t *testing.T) {
	inWorld(t, func(_ *testing.T, w *world) {
		w.apply(nil, []raftstore.Route{{Name: "lost", FromDC: "dc9", FromExport: "prod", Root: "file:/lost"}})
		w.until("it is said", func() bool {
			s := w.dc2.agent.Status()
			return len(s.Routes) == 2 && strings.Contains(s.Routes[0].Problem, "no datacenter dc9")
		})
	})
}

// A job whose files can't be read costs only itself; when nobody gets through, the target is not tried by everybody.
func TestPermissionsThatLack(t *testing.T) {
	failed := func(w *world) (n int) {
		for _, r := range w.replicas() {
			if strings.Contains(r, "FAILED") {
				n++
			}
		}
		return n
	}
	inWorld(t, func(t *testing.T, w *world) {
		w.dc1.storage.fault().Inject(faultfs.Fault{Op: faultfs.Open, Name: orders + "/chk-1/own", Last: faultfs.Forever, Do: faultfs.Fail(fs.ErrPermission)})
		w.chk(1)
		w.until("it has failed", func() bool { return failed(w) == 1 })
		for i := range 6 {
			w.dc1.storage.checkpoint(t, fmt.Sprintf("cp/job-%d/%s/chk-1", i, jobB[:31]+fmt.Sprint(i)), []string{"own"}, nil)
			began := time.Now()
			w.until("another job is READY", w.is(fmt.Sprintf("job-%d/chk-1 READY 1", i)))
			if waited := time.Since(began); waited > 3*time.Second {
				t.Errorf("job-%d waited for %s", i, waited)
			}
		}
	})
	inWorld(t, func(t *testing.T, w *world) {
		w.dc2.storage.fault().Inject(faultfs.Fault{Op: faultfs.Create, Last: faultfs.Forever, Do: faultfs.Fail(fs.ErrPermission)})
		for i := range 50 {
			w.dc1.storage.checkpoint(t, fmt.Sprintf("cp/job-%d/%s/chk-1", i, jobB[:30]+fmt.Sprintf("%02d", i)), []string{"own"}, nil)
		}
		w.pass(20 * time.Second)
		if n := failed(w); n < 3 || n > 30 {
			t.Errorf("%d jobs have tried in 20 s", n)
		}
		w.dc2.storage.calm()
		w.until("all are READY", func() bool {
			return strings.Count(fmt.Sprint(w.replicas()), "READY") == 50
		})
	})
}
