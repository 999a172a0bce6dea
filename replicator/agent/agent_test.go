package agent

import (
	"context"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/fsutil/faultfs"
	"github.com/ckptferry/ckptferry/raftstore"
)

const orders = "cp/orders/" + jobA

// chk makes checkpoint n of the job orders at dc1, with a file of its own and one shared with the checkpoint before.
func (w *world) chk(n int) {
	w.t.Helper()
	w.dc1.storage.checkpoint(w.t, fmt.Sprintf("%s/chk-%d", orders, n), []string{"own"}, []string{fmt.Sprintf("s%d", n-1), fmt.Sprintf("s%d", n)})
}

func TestAFoundCheckpointBecomesReady(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.dc1.storage.load(t, "1.20.0-rocksdb-incremental") // whose base is not exported yet
		w.chk(1)
		w.until("chk-1 is READY", w.is("orders/chk-1 READY 1"))
		w.whole()
		before := w.dc2.entries()
		w.chk(2)
		w.until("chk-2 is READY", w.is("orders/chk-2 READY 1"))
		if n := w.dc2.entries() - before; n > 6 {
			t.Errorf("one checkpoint takes %d entries of the log", n)
		}
		r := w.ready("chk-2")
		manifest := w.dc2.storage.get(t, "replicas/.ckptferry/manifest/"+jobA+"/chk-2.jsonl")
		if r.ManifestCRC != crc32.Checksum(manifest, castagnoli) || r.Files != 3 || r.Bytes != 300 || r.CompletedAt.IsZero() {
			t.Errorf("the replica is on record as %+v", r)
		}

		w.apply([]raftstore.Export{{Name: "prod", Bases: []string{cp, "file:/dc-a/flink/checkpoints/{job}"}, To: []string{"dc2"}}}, nil)
		w.until("a real one is READY", w.is("1.20.0-rocksdb-incremental/chk-5 READY 1"))
		w.whole()
		if slices.ContainsFunc(w.replicas(), func(s string) bool { return strings.Contains(s, "chk-4") }) {
			t.Errorf("an older checkpoint than the newest is copied: %s", w.replicas())
		}
		w.until("the lag is zero", func() bool {
			lags := Lags(w.dc2.store.View(), time.Now(), w.dc2.agent.SilentAfter())
			return len(lags) == 2 && lags[0].State == CaughtUp && lags[1].State == CaughtUp && *lags[0].TimeLag == 0
		})
		if s := w.dc2.agent.Status(); len(s.Transfers) != 0 || len(s.Routes) != 1 || s.Routes[0].Problem != "" {
			t.Errorf("status %+v", s)
		}
		if s := w.dc1.agent.Status(); len(s.Exports) != 1 || s.Exports[0].Jobs != 2 || s.Exports[0].Problem != "" || time.Since(s.Exports[0].PolledAt) > 5*time.Second {
			t.Errorf("status %+v", s)
		}
	})
}

func (w *world) ready(dir string) raftstore.Replica {
	w.t.Helper()
	for _, r := range w.dc2.store.View().Replicas() {
		if strings.HasSuffix(r.URI, "/"+dir) && r.Status == raftstore.StatusReady {
			return r
		}
	}
	w.t.Fatalf("%s is not READY: %s", dir, w.replicas())
	return raftstore.Replica{}
}

func TestTheSourceIsOnlyRead(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.chk(1)
		w.until("chk-1 is READY", w.is("orders/chk-1 READY 1"))
		for _, c := range w.dc1.storage.fault().Calls() {
			switch c.Op {
			case faultfs.Create, faultfs.Write, faultfs.Rename, faultfs.Remove, faultfs.Commit, faultfs.Abort:
				t.Errorf("at the source: %s", c)
			}
			if strings.Contains(c.Name, "replicas") {
				t.Errorf("the target's place is looked for at the source: %s", c)
			}
		}
		for _, c := range w.dc2.storage.fault().Calls() {
			if strings.HasPrefix(c.Name, "cp") {
				t.Errorf("the source's place is looked for at the target: %s", c)
			}
		}
	})
}

// hold freezes the reading of a file at dc1 until release. held says that somebody is there.
func (w *world) hold(name string) (held func() bool, release func()) {
	var there atomic.Bool
	free := make(chan struct{})
	w.dc1.storage.fault().Inject(faultfs.Fault{Op: faultfs.Open, Name: name, Last: faultfs.Forever, Do: faultfs.Before(func(ctx context.Context, _ faultfs.Call) error {
		there.Store(true)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-free:
			return nil
		}
	})})
	return there.Load, func() { close(free) }
}

func TestACopyGoesOnAfterTheAgentIsRestarted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		held, release := w.hold(orders + "/shared/s1")
		w.chk(1)
		w.until("it is copied", held)
		if s := w.dc2.agent.Status(); len(s.Transfers) != 1 || s.Transfers[0].Job != "orders" || s.Transfers[0].Key.CheckpointID != 1 || s.Transfers[0].Phase != "copy" || s.Transfers[0].Files != 3 {
			t.Errorf("status %+v", s)
		}
		w.dc2.stop()
		if !w.is("orders/chk-1 COPYING 1")() {
			t.Errorf("after the stop: %s", w.replicas())
		}
		release()
		w.dc2.run(t)
		w.until("chk-1 is READY", w.is("orders/chk-1 READY 1")) // it is still the one that was to make it
		w.whole()
	})
}

func TestLeadershipLostInTheMiddleOfACopy(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		held, release := w.hold(orders + "/shared/s1")
		w.chk(1)
		w.until("it is copied", held)
		w.chk(2)
		w.until("a newer one is known", func() bool { return len(w.dc2.store.View().Known("prod")) == 2 })
		restore := w.dc2.group.depose()
		w.until("it leads no more", func() bool { return len(w.dc2.agent.Status().Routes) == 0 })
		if at, problem := w.dc2.agent.Polled("prod"); !at.IsZero() || problem != "" {
			t.Errorf("Polled = %v, %q", at, problem)
		}
		release()
		w.until("what it had begun is READY", w.is("orders/chk-1 READY 1"))
		entries := w.dc2.entries()
		w.chk(3) // while nobody leads
		w.pass(10 * time.Second)
		if w.dc2.entries() != entries {
			t.Error("somebody who doesn't lead decided something")
		}
		restore()
		w.until("the newest is READY", w.is("orders/chk-3 READY 1"))
		w.whole()
	})
}

func TestAFileThatVanishesMakesItSupersededAndTheNextReady(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		held, release := w.hold(orders + "/chk-1/own")
		w.chk(1)
		w.until("it is copied", held)
		w.chk(2)
		w.chk(3)
		w.dc1.storage.remove(t, orders+"/chk-1") // as Flink does with num-retained 2
		w.dc1.storage.remove(t, orders+"/shared/s0")
		release()
		w.until("the newest is READY", w.is("orders/chk-3 READY 1"))
		if got := fmt.Sprint(w.replicas()); got != "[orders/chk-1 SUPERSEDED 1 orders/chk-3 READY 1]" {
			t.Errorf("replicas %s", got)
		}
		w.whole()
	})
}

func TestWhenTheNewestIsGoneTheOneBeforeItIsTaken(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.route(func(r *raftstore.Route) { r.Mode = raftstore.RoutePaused })
		w.chk(1)
		w.chk(2)
		w.until("they are known", func() bool { return len(w.dc2.store.View().Known("prod")) == 2 })
		w.dc1.storage.remove(t, orders+"/chk-2")
		w.route(func(*raftstore.Route) {})
		w.until("chk-1 is READY", w.is("orders/chk-1 READY 1"))
		if !w.is("orders/chk-2 SUPERSEDED 1")() {
			t.Errorf("replicas %s", w.replicas())
		}
	})
}

// With one copy at a time, a newer checkpoint takes the place of one that has not begun.
func TestANewerCheckpointOvertakesOneThatIsQueued(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.dc2.stop()
		w.dc2.cfg.Parallel = 1
		w.dc2.run(t)
		held, release := w.hold("cp/busy/" + jobB + "/chk-1/own")
		w.dc1.storage.checkpoint(t, "cp/busy/"+jobB+"/chk-1", []string{"own"}, nil)
		w.until("the only copy is taken", held)
		for n := 1; n <= 3; n++ {
			w.chk(n)
			w.until("it is known", func() bool { return len(w.dc2.store.View().JobKnown("prod", "orders")) == n })
		}
		w.until("its lag says why", func() bool {
			lags := Lags(w.dc2.store.View(), time.Now(), time.Hour)
			return len(lags) == 2 && strings.Contains(lags[1].Reason, "chk-3 (300 B) waits for its turn")
		})
		release()
		w.until("the newest is READY", w.is("orders/chk-3 READY 1"))
		if got := fmt.Sprint(w.replicas()); got != "[orders/chk-3 READY 1 busy/chk-1 READY 1]" {
			t.Errorf("replicas %s", got)
		}
	})
}

func TestAHigherPriorityDoesNotWaitForLowerOnes(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.dc2.stop()
		w.dc2.cfg.Parallel = 1
		w.dc2.run(t)
		w.route(func(r *raftstore.Route) { r.Exclude = []string{"key-*"} })
		w.apply(nil, []raftstore.Route{{Name: "key", FromDC: "dc1", FromExport: "prod", Root: "file:/key", Include: []string{"key-*"}, Priority: 10}})
		held, release := w.hold(orders + "/chk-1/own")
		w.chk(1)
		w.until("the only copy is taken", held)
		w.dc1.storage.checkpoint(t, "cp/key-job/"+jobB+"/chk-1", []string{"own"}, nil)
		w.dc1.storage.checkpoint(t, "cp/later/"+jobB+"/chk-1", []string{"own"}, nil)
		w.until("the key job is READY", w.is("key-job/chk-1 READY 1"))
		w.pass(5 * time.Second)
		if got := fmt.Sprint(w.replicas()); got != "[key-job/chk-1 READY 1 orders/chk-1 COPYING 1]" {
			t.Errorf("replicas %s", got)
		}
		release()
		w.until("the others are READY", w.is("later/chk-1 READY 1"))
	})
}

func TestASavepointDoesNotKeepTheCheckpointsWaiting(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		held, release := w.hold("cp/orders/savepoint-aaaaaa-1/own")
		w.dc1.storage.checkpoint(t, "cp/orders/savepoint-aaaaaa-1", []string{"own"}, nil)
		w.until("it is copied", held)
		w.chk(1)
		w.until("chk-1 is READY", w.is("orders/chk-1 READY 1"))
		release()
		w.until("the savepoint is READY", w.is("orders/savepoint-aaaaaa-1 READY 1"))
		w.whole()
	})
}

func TestAPausedRoutePullsNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		held, release := w.hold(orders + "/chk-1/own")
		w.chk(1)
		w.until("it is copied", held)
		w.route(func(r *raftstore.Route) { r.Mode = raftstore.RoutePaused })
		w.until("the copy has ended", w.is("orders/chk-1 FAILED 1"))
		release()
		w.chk(2)
		w.pass(10 * time.Second)
		lags := Lags(w.dc2.store.View(), time.Now(), time.Minute)
		if len(lags) != 1 || lags[0].State != NoReplica || *lags[0].Checkpoints != 2 || !strings.Contains(lags[0].Reason, "route prod is paused") {
			t.Errorf("lag %+v", lags)
		}
		if got := fmt.Sprint(w.replicas()); got != "[orders/chk-1 FAILED 1]" {
			t.Errorf("replicas %s", got)
		}
		w.route(func(*raftstore.Route) {})
		w.until("it goes on", w.is("orders/chk-2 READY 1"))
	})
}

func TestJobsThatARouteDoesNotTakeAreUnknownToIt(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.route(func(r *raftstore.Route) { r.Exclude = []string{"*-test"} })
		w.dc1.storage.checkpoint(t, "cp/a-test/"+jobB+"/chk-1", []string{"own"}, nil)
		w.chk(1)
		w.until("chk-1 is READY", w.is("orders/chk-1 READY 1"))
		w.pass(5 * time.Second)
		if known := w.dc2.store.View().RouteJobs("prod"); fmt.Sprint(known) != "[orders]" {
			t.Errorf("known: %v", known)
		}
		w.route(func(r *raftstore.Route) { r.Include = []string{"a-*"} })
		w.until("what it takes now is READY", w.is("a-test/chk-1 READY 1"))
		if lags := Lags(w.dc2.store.View(), time.Now(), time.Minute); len(lags) != 1 || lags[0].Job != "a-test" {
			t.Errorf("lag %+v", lags)
		}
	})
}
