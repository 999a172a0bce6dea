package agent

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckptferry/ckptferry/fsutil/faultfs"
	"github.com/ckptferry/ckptferry/raftstore"
)

var errBadDisk = errors.New("disk on fire")

func TestTooFewRetainedCheckpointsAreSaid(t *testing.T) {
	for name, tc := range map[string]struct {
		gone []int64 // of 8, completed each 10 s; the first one is READY, which took no time by the test's clock
		says string
	}{
		"one now and then is normal": {[]int64{4, 8}, ""},
		"most of them":               {[]int64{3, 4, 6, 7, 8}, "Flink deleted 5 of the last 6 checkpoints that were begun before they were copied: raise its state.checkpoints.num-retained (10, say)"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newState(t)
				for n := int64(1); n <= 8; n++ {
					s.observe(noon, chkAt(n, time.Duration(90-10*n)*time.Second))
				}
				s.replica(chkAt(1, 80*time.Second), raftstore.StatusReady)
				for _, n := range tc.gone {
					s.replica(chkAt(n, time.Duration(90-10*n)*time.Second), raftstore.StatusSuperseded)
				}
				l := Lags(s.store.View(), noon, time.Minute)[0]
				if !strings.Contains(l.Reason, tc.says) || strings.Contains(l.Reason, "Flink deleted") != (tc.says != "") {
					t.Errorf("reason %q, want %q", l.Reason, tc.says)
				}
			})
		})
	}
}

func TestNumRetainedIsSaidFromTheTimeOfCopies(t *testing.T) {
	at := []time.Time{noon, noon.Add(-10 * time.Second), noon.Add(-20 * time.Second), noon.Add(-time.Hour)}
	if got := apart(at); got != 10*time.Second {
		t.Errorf("apart %s", got)
	}
	if got := median([]time.Duration{9, 1, 5}); got != 5 {
		t.Errorf("median %s", got)
	}
	if apart(nil) != 0 || apart(at[:1]) != 0 || median(nil) != 0 {
		t.Error("what is not known is not 0")
	}
}

func TestAFailedCopySaysWhenItIsTriedNext(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.dc1.storage.fault().Inject(faultfs.Fault{Op: faultfs.Open, Name: orders + "/shared/s1", Last: faultfs.Forever, Do: faultfs.Fail(errBadDisk)})
		w.chk(1)
		w.until("the third attempt failed", w.is("orders/chk-1 FAILED 3"))
		r := w.dc2.store.View().Replicas()[0]
		_, next, said := strings.Cut(r.Reason, "The next try is not before ")
		at, err := time.Parse(time.RFC3339, next)
		// The third failure waits 4 s; the time has whole seconds.
		if !said || err != nil || time.Until(at) < 2*time.Second || time.Until(at) > 5*time.Second {
			t.Errorf("reason %q, at %s", r.Reason, time.Now().UTC())
		}
		route, _ := w.dc2.store.View().Route("prod")
		if says := Failing(w.dc2.store.View(), route); !strings.Contains(says, "chk-1 of job orders is not copied: ") || !strings.Contains(says, errBadDisk.Error()) {
			t.Errorf("of the route: %q", says)
		}
		route.Mode = raftstore.RoutePaused
		if says := Failing(w.dc2.store.View(), route); says != "" {
			t.Errorf("of a paused route: %q", says)
		}
	})
}

func TestCheckpointsWithoutAJobIDDirectoryAreSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStorage()
		s.checkpoint(t, "cp/flat/chk-7", []string{"own"}, nil)
		s.checkpoint(t, orders+"/chk-1", []string{"own"}, nil)
		d := mustDiscover(t, s, nil, cp)
		p := d.poll(t.Context())
		wantNames(t, "found beside it", taken(p), orders+"/chk-1")
		if !p.whole || !strings.Contains(p.problem(), "file:/cp/flat/chk-7 lies directly below the job's directory and is not replicated") || !strings.Contains(p.problem(), "create-subdir") {
			t.Errorf("whole %t: %s", p.whole, p.problem())
		}
	})
}
