package agent

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
)

// promote has dc2 go on with the job from a READY checkpoint.
func (w *world) promote(t *testing.T, checkpoint string) {
	t.Helper()
	w.promoteReplica(t, w.ready(checkpoint))
}

func (w *world) promoteReplica(t *testing.T, r raftstore.Replica) {
	t.Helper()
	c := &raftv1.PromoteJobs{Plan: "p", Actor: "me", Items: []*raftv1.Promote{{
		Key: keyMessage(r.Key), Job: r.Job, ClaimMode: ckptferryv1.ClaimMode_CLAIM_MODE_NO_CLAIM,
		Fence: fenceMessage(raftstore.Fence{Epoch: w.dc2.store.View().JobEpoch(r.Key.Route, r.Job), Attempt: r.Planned.Attempt}),
	}}}
	if err := w.dc2.group.Propose(t.Context(), &raftv1.Command{Op: &raftv1.Command_PromoteJobs{PromoteJobs: c}}); err != nil {
		t.Fatal(err)
	}
}

func (w *world) abort(t *testing.T) {
	t.Helper()
	c := &raftv1.EndPromotions{Route: "prod", Jobs: []string{"orders"}, Actor: "me"}
	if err := w.dc2.group.Propose(context.WithoutCancel(t.Context()), &raftv1.Command{Op: &raftv1.Command_EndPromotions{EndPromotions: c}}); err != nil {
		t.Fatal(err)
	}
}

// fence is what dc1 knows of dc2's promotion.
func (w *world) fence() (raftstore.FencedJob, bool) {
	return w.dc1.store.View().Fence("prod", "dc2", "orders")
}

func (w *world) acknowledged() bool {
	p, _ := w.dc2.store.View().Promotion("prod", "orders")
	return !p.FenceAcknowledgedAt.IsZero()
}

// A promoted job isn't pulled any more, also what was under way; the source is told, and again when that ends.
func TestAPromotedJobIsNotPulledAndItsSourceIsFenced(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.chk(1)
		w.until("chk-1 is READY", w.is("orders/chk-1 READY 1"))
		held, release := w.hold(orders + "/shared/s2")
		w.chk(2)
		w.until("chk-2 is copied", held)
		w.promote(t, "chk-1")
		release()
		w.until("dc1 is fenced, and dc2 knows that", func() bool {
			f, fenced := w.fence()
			return fenced && !f.Lifted && f.Epoch == 1 && w.acknowledged()
		})
		w.pass(10 * time.Second)
		if w.is("orders/chk-2 READY 1")() {
			t.Errorf("a copy of before the promotion became READY: %s", w.replicas())
		}
		lag := Lags(w.dc2.store.View(), time.Now(), time.Minute)
		if len(lag) != 1 || lag[0].State != Promoted || *lag[0].ReadyCheckpoint != 1 || lag[0].TimeLag != nil {
			t.Errorf("lag %+v", lag)
		}
		before := w.dc2.entries()
		w.chk(3)
		w.pass(10 * time.Second)
		if w.is("orders/chk-3 READY 1")() {
			t.Errorf("pulled after the promotion: %s", w.replicas())
		}
		if n := w.dc2.entries() - before; n > 8 {
			t.Errorf("a promoted job takes %d entries of the log in 10 s", n)
		}
		w.abort(t)
		w.until("dc1 is fenced no more", func() bool { f, _ := w.fence(); return f.Lifted })
		w.until("chk-3 is READY", w.is("orders/chk-3 READY 1"))
		w.whole()
	})
}

// A source that can't be reached is told when it can, and one that has lost its state is told again.
func TestASourceIsToldWheneverItIsHeardOf(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.chk(1)
		w.until("chk-1 is READY", w.is("orders/chk-1 READY 1"))
		w.link.down(fmt.Errorf("cut: %w", fsutil.ErrUnavailable))
		w.pass(time.Second)
		w.promote(t, "chk-1")
		w.pass(time.Minute)
		if _, fenced := w.fence(); fenced || w.acknowledged() {
			t.Error("fenced through a link that is down")
		}
		w.link.down(nil)
		w.until("dc1 is fenced, and dc2 knows that", func() bool { _, fenced := w.fence(); return fenced && w.acknowledged() })
		w.link.down(fmt.Errorf("cut: %w", fsutil.ErrUnavailable))
		w.pass(time.Second)
		fresh := newDC(t, "dc1")
		w.dc1.stop()
		w.link.to = fresh
		fresh.run(t)
		w.dc1 = fresh
		w.apply([]raftstore.Export{{Name: "prod", Bases: []string{cp}, To: []string{"dc2"}}}, nil)
		w.link.down(nil)
		w.until("the new dc1 is fenced", func() bool { _, fenced := w.fence(); return fenced })
		synctest.Wait()
	})
}

// A target that has lost its state counts its epochs anew. A source that remembers higher ones, or another promotion of
// the same one, is fenced all the same, and learns when that ends.
func TestASourceThatRemembersMoreThanTheTargetIsFenced(t *testing.T) {
	for name, remembered := range map[string]raftstore.FencedJob{
		"a higher epoch":             {Epoch: 3},
		"a higher one that is over":  {Epoch: 3, Lifted: true},
		"the same one":               {Epoch: 1},
		"the same one, that is over": {Epoch: 1, Lifted: true},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				remembered.Job, remembered.PromotedAt = "orders", time.Now().Add(-time.Hour)
				c := &raftv1.FenceJobs{Export: "prod", Datacenter: "dc2", Jobs: []*ckptferryv1.FencedJob{raftstore.FencedJobMessage(remembered)}}
				if err := w.dc1.group.Propose(t.Context(), &raftv1.Command{Op: &raftv1.Command_FenceJobs{FenceJobs: c}}); err != nil {
					t.Fatal(err)
				}
				w.chk(1)
				w.until("chk-1 is READY", w.is("orders/chk-1 READY 1"))
				w.promote(t, "chk-1")
				w.until("dc1 is fenced by this promotion, and dc2 knows that", func() bool {
					f, _ := w.fence()
					p, _ := w.dc2.store.View().Promotion("prod", "orders")
					return !f.Lifted && f.Epoch > remembered.Epoch && f.PromotedAt.Equal(p.PromotedAt) && f.Epoch == p.Epoch && w.acknowledged()
				})
				before := w.dc2.store.View().Epoch("prod")
				w.abort(t)
				w.until("dc1 is fenced no more", func() bool { f, _ := w.fence(); return f.Lifted })
				w.pass(10 * time.Second)
				if after := w.dc2.store.View().Epoch("prod"); before != remembered.Epoch || after != before {
					t.Errorf("the route is at epoch %d, and later at %d; want %d: raised once, as far as it must", before, after, remembered.Epoch)
				}
			})
		})
	}
}

// Two routes from one export don't outbid each other's promotions for ever.
func TestRoutesOfOneExportDoNotOutbidEachOther(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.chk(1)
		w.until("chk-1 is READY", w.is("orders/chk-1 READY 1"))
		w.promote(t, "chk-1")
		w.until("dc1 is fenced", w.acknowledged)
		w.abort(t)
		w.until("dc1 is fenced no more", func() bool { f, _ := w.fence(); return f.Lifted })
		w.apply(nil, []raftstore.Route{{Name: "second", FromDC: "dc1", FromExport: "prod", Root: "file:/second", Mode: raftstore.RouteContinuous}})
		promoted := func() raftstore.Promotion {
			p, _ := w.dc2.store.View().Promotion("second", "orders")
			return p
		}
		w.until("the second route's is READY", func() bool {
			for _, r := range w.dc2.store.View().Replicas() {
				if r.Key.Route == "second" && r.Status == raftstore.StatusReady {
					w.promoteReplica(t, r)
					return true
				}
			}
			return false
		})
		w.until("dc1 is fenced by the second route", func() bool { f, _ := w.fence(); return !f.Lifted && !promoted().FenceAcknowledgedAt.IsZero() })
		w.link.down(fmt.Errorf("cut: %w", fsutil.ErrUnavailable))
		w.pass(time.Second)
		w.link.down(nil) // all is told again
		w.pass(time.Minute)
		view := w.dc2.store.View()
		if f, _ := w.fence(); f.Lifted || f.Epoch != promoted().Epoch || view.Epoch("prod") != 0 || view.Epoch("second") != 1 {
			t.Errorf("fence %+v, promotion in epoch %d, routes at epochs %d and %d", f, promoted().Epoch, view.Epoch("prod"), view.Epoch("second"))
		}
	})
}
