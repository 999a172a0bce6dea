package agent

import (
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/raftstore"
)

// copied is how far the only copy under way is; -1: there is none, or there are more.
func (w *world) copied() int64 {
	if s := w.dc2.agent.Status(); len(s.Transfers) == 1 {
		return s.Transfers[0].BytesDone
	}
	return -1
}

// slow is a rate at which the 300 bytes of a checkpoint take half a minute.
const slow = 10

func TestARoutesRateIsFollowedByTheCopyUnderWay(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		rate := func(bytesPerSecond int64) {
			w.route(func(r *raftstore.Route) { r.BytesPerSecond = bytesPerSecond })
		}
		rate(slow)
		w.chk(1)
		w.until("it is copied", w.is("orders/chk-1 COPYING 1"))
		w.pass(20 * time.Second)
		if n := w.copied(); n < 0 || n > 250 {
			t.Errorf("after 20 s at %d bytes per second, %d bytes are copied", slow, n)
		}
		rate(1) // the rest would take minutes
		w.pass(20 * time.Second)
		if n := w.copied(); n < 0 || n > 250 {
			t.Errorf("after 20 s more at a tenth of it, %d bytes are copied", n)
		}
		before := time.Now()
		rate(0)
		w.until("it is READY, in the same attempt", w.is("orders/chk-1 READY 1"))
		if took := time.Since(before); took > 3*time.Second {
			t.Errorf("without a limit the rest took %s", took)
		}
		w.whole()
	})
}

func TestARoutesRateHoldsAfterTheAgentIsRestarted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.route(func(r *raftstore.Route) { r.BytesPerSecond = slow })
		w.dc2.stop()
		w.dc2.run(t)
		began := time.Now()
		w.chk(1)
		w.until("it is READY", w.is("orders/chk-1 READY 1"))
		if took := time.Since(began); took < 25*time.Second {
			t.Errorf("300 bytes at %d per second took %s", slow, took)
		}
	})
}

func TestTheLinksRateHoldsForAllRoutesTogether(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.dc2.stop()
		w.dc2.cfg.LinkBytesPerSecond = 2 * slow
		w.dc2.run(t)
		w.route(func(r *raftstore.Route) { r.Include = []string{"orders"} })
		w.apply(nil, []raftstore.Route{{Name: "other", FromDC: "dc1", FromExport: "prod", Root: "file:/other", Exclude: []string{"orders"}, BytesPerSecond: 1 << 30}})
		began := time.Now()
		w.chk(1)
		w.dc1.storage.checkpoint(t, "cp/other/"+jobB+"/chk-1", []string{"a", "b", "c"}, nil)
		w.until("both are READY", func() bool { return w.is("orders/chk-1 READY 1")() && w.is("other/chk-1 READY 1")() })
		if took := time.Since(began); took < 25*time.Second || took > 40*time.Second {
			t.Errorf("600 bytes at %d per second took %s", 2*slow, took)
		}
		w.chk(2)
		w.until("it is copied", w.is("orders/chk-2 COPYING 1"))
		began = time.Now()
		w.dc2.agent.Tune(Tunable{})
		w.until("it is READY", w.is("orders/chk-2 READY 1"))
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("without a limit the rest took %s", took)
		}
	})
}
