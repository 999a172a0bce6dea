package agent

import (
	"io/fs"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/fsutil/faultfs"
)

func TestAJobThatVanishesAtItsSourceIsSaid(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.dc1.storage.checkpoint(t, "cp/pay/"+jobB+"/chk-1", []string{"own"}, nil)
		w.chk(1)
		w.until("both are READY", func() bool { return w.is("orders/chk-1 READY 1")() && w.is("pay/chk-1 READY 1")() })
		gone := func() []GoneJob { return w.dc2.agent.Status().Routes[0].Gone }
		if len(gone()) > 0 {
			t.Errorf("gone before: %v", gone())
		}
		w.dc1.storage.remove(t, orders+"/chk-1")
		w.until("it is gone", func() bool { return len(gone()) == 1 })
		g := gone()[0]
		if g.Job != "orders" || time.Since(g.Since) > time.Minute {
			t.Errorf("gone: %+v", g)
		}
		w.pass(time.Minute)
		if again := gone(); len(again) != 1 || !again[0].Since.Equal(g.Since) {
			t.Errorf("a minute later: %+v, was %+v", again, g)
		}
		w.whole() // what is READY stays
		if !w.is("orders/chk-1 READY 1")() {
			t.Errorf("replicas %s", w.replicas())
		}
		w.chk(2)
		w.until("it is back", func() bool { return len(gone()) == 0 && w.is("orders/chk-2 READY 1")() })

		// Where nobody can look, nothing is gone.
		w.dc1.storage.fault().Inject(faultfs.Fault{Op: faultfs.List, Last: faultfs.Forever, Do: faultfs.Fail(fs.ErrPermission)})
		w.pass(time.Minute)
		if len(gone()) > 0 {
			t.Errorf("gone because it may not be listed: %v", gone())
		}
	})
}
