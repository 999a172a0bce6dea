package agent

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

func TestWhoIsNext(t *testing.T) {
	const a = "prod"
	chk := func(job string, n int64) raftstore.Found {
		f := chkAt(n, 0)
		f.Job, f.MetadataCRC = job, uint32(len(job))
		return f
	}
	key := func(f raftstore.Found) raftstore.Key { return keyOf(a, f) }
	for name, tc := range map[string]struct {
		known []raftstore.Found
		set   func(s *state, c *choice)
		wants string
		in    time.Duration // when to look again; 0: not by itself
	}{
		"the newest of each job, by name": {
			known: []raftstore.Found{chk("y", 1), chk("y", 2), chk("x", 3)}, wants: "[x/chk-3/1 y/chk-2/1]"},
		"who waits longest first": {
			known: []raftstore.Found{chk("x", 1), chk("y", 2), chk("z", 3)},
			set: func(_ *state, c *choice) {
				c.waiting = map[lane]time.Time{{a, "z", false}: noon.Add(-time.Hour), {a, "y", false}: noon.Add(-time.Minute)}
			},
			wants: "[z/chk-3/1 y/chk-2/1 x/chk-1/1]"},
		"the higher priority first": {
			known: []raftstore.Found{chk("x", 1), chk("y", 2)},
			set: func(s *state, _ *choice) {
				s.route(raftstore.Route{Name: "urgent", FromDC: "dc1", FromExport: "prod", Root: "file:/u", Mode: raftstore.RouteContinuous, Priority: 1})
				f := chk("z", 3)
				s.do(&raftv1.Command{Op: &raftv1.Command_ObserveSource{ObserveSource: &raftv1.ObserveSource{Route: "urgent", Found: []*ckptferryv1.FoundCheckpoint{raftstore.FoundMessage(f)}}}})
			}, wants: "[z/chk-3/1 x/chk-1/1 y/chk-2/1]"},
		"savepoints after checkpoints": {
			known: []raftstore.Found{saveAt(1, 0), chk("x", 2), chk("a", 3)}, wants: "[a/chk-3/1 x/chk-2/1 a/savepoint-aaaaaa-1/1]"},
		"nothing when the newest is there": {
			known: []raftstore.Found{chk("x", 1), chk("x", 2)},
			set:   func(s *state, _ *choice) { s.replica(chk("x", 2), raftstore.StatusReady) }, wants: "[]"},
		"nothing while one is copied": {
			known: []raftstore.Found{chk("x", 1), chk("x", 2)},
			set:   func(_ *state, c *choice) { c.running = map[lane]*running{{a, "x", false}: {}} }, wants: "[]"},
		"another attempt at what another leader had begun": {
			known: []raftstore.Found{chk("x", 1)},
			set:   func(s *state, _ *choice) { s.replica(chk("x", 1), raftstore.StatusCopying) }, wants: "[x/chk-1/2]"},
		"an older one when the newest is gone at the source": {
			known: []raftstore.Found{chk("x", 1), chk("x", 2), chk("x", 3)},
			set:   func(s *state, _ *choice) { s.replica(chk("x", 3), raftstore.StatusSuperseded) }, wants: "[x/chk-2/1]"},
		"none that is older than what is there": {
			known: []raftstore.Found{chk("x", 1), chk("x", 2), chk("x", 3)},
			set: func(s *state, _ *choice) {
				s.replica(chk("x", 3), raftstore.StatusSuperseded)
				s.replica(chk("x", 2), raftstore.StatusReady)
			}, wants: "[]"},
		"later after a failure": {
			known: []raftstore.Found{chk("x", 1), chk("x", 2), chk("y", 3)},
			set: func(_ *state, c *choice) {
				c.failures = map[raftstore.Key]failure{key(chk("x", 2)): {until: noon.Add(3 * time.Second)}}
			}, wants: "[y/chk-3/1]", in: 3 * time.Second},
		"an older one after a failure that is the checkpoint's own": {
			known: []raftstore.Found{chk("x", 1), chk("x", 2)},
			set: func(_ *state, c *choice) {
				c.failures = map[raftstore.Key]failure{key(chk("x", 2)): {until: noon.Add(3 * time.Second), itself: true}}
			}, wants: "[x/chk-1/1]", in: 3 * time.Second},
		"again when the time is over": {
			known: []raftstore.Found{chk("x", 2)},
			set: func(_ *state, c *choice) {
				c.failures = map[raftstore.Key]failure{key(chk("x", 2)): {until: noon}}
			}, wants: "[x/chk-2/1]"},
		"nothing of a route whose target takes nothing": {
			known: []raftstore.Found{chk("x", 2)},
			set: func(_ *state, c *choice) {
				c.held = map[string]failure{a: {until: noon.Add(time.Minute)}}
			}, wants: "[]", in: time.Minute},
		"nothing of a source that nobody knows": {
			known: []raftstore.Found{chk("x", 2)},
			set:   func(_ *state, c *choice) { c.pullable = func(raftstore.Route) bool { return false } }, wants: "[]"},
		"nothing of a route that is paused, or takes no such job": {
			known: []raftstore.Found{chk("x", 2)},
			set: func(s *state, _ *choice) {
				r, _ := s.store.View().Route(a)
				r.Exclude = []string{"x"}
				s.route(r)
			}, wants: "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newState(t)
				s.observe(noon, tc.known...)
				c := choice{now: noon, pullable: func(raftstore.Route) bool { return true }}
				if tc.set != nil {
					tc.set(s, &c)
				}
				c.view = s.store.View()
				wants, later := c.wants()
				got := []string{}
				for _, w := range wants {
					got = append(got, fmt.Sprintf("%s/%s/%d", w.found.Job, label(w.found), w.attempt))
				}
				if fmt.Sprint(got) != tc.wants {
					t.Errorf("wants %s, want %s", got, tc.wants)
				}
				if in := later.Sub(noon); later.IsZero() != (tc.in == 0) || tc.in != 0 && in != tc.in {
					t.Errorf("look again at %v", later)
				}
			})
		})
	}
}

func TestRoomForCopies(t *testing.T) {
	at := func(priorities ...int32) *term {
		tm := &term{agent: &Agent{link: replicator.NewLimit(0)}, running: map[lane]*running{}}
		tm.agent.Tune(Tunable{Parallel: 2})
		for i, p := range priorities {
			tm.running[lane{job: fmt.Sprint(i)}] = &running{want: want{route: raftstore.Route{Priority: p}}}
		}
		return tm
	}
	for _, tc := range []struct {
		running  []int32
		priority int32
		want     bool
	}{
		{nil, 0, true}, {[]int32{0}, 0, true}, {[]int32{0, 0}, 0, false}, {[]int32{0, 0}, 1, true}, {[]int32{1, 1}, 0, false},
		{[]int32{0, 0, 1}, 1, true}, {[]int32{0, 0, 1, 1}, 1, false}, {[]int32{0, 0, 1, 1}, 2, false},
	} {
		if got := at(tc.running...).room(tc.priority); got != tc.want {
			t.Errorf("beside %v, priority %d: %v", tc.running, tc.priority, got)
		}
	}
}

func TestASuccessEndsAHold(t *testing.T) {
	tm := &term{cfg: Config{Now: func() time.Time { return noon }}, running: map[lane]*running{}, failures: map[raftstore.Key]failure{},
		held: map[string]failure{}, denied: map[string]map[lane]bool{}}
	w := want{lane: lane{"prod", "a", false}, route: raftstore.Route{Name: "prod"}, key: keyOf("prod", chkAt(1, 0))}
	for range 4 {
		tm.ended(outcome{want: w, kind: endedHeld})
	}
	tm.ended(outcome{want: w, kind: endedFailed})
	if tm.held["prod"].until.Sub(noon) != 8*time.Second || len(tm.failures) != 1 {
		t.Errorf("held %v, failures %v", tm.held, tm.failures)
	}
	tm.ended(outcome{want: w, kind: endedReady})
	if len(tm.held) != 0 || len(tm.failures) != 0 {
		t.Errorf("held %v, failures %v", tm.held, tm.failures)
	}
}

func TestWhenALackOfPermissionIsTheTargets(t *testing.T) {
	tm := &term{cfg: Config{Now: func() time.Time { return noon }}, running: map[lane]*running{}, failures: map[raftstore.Key]failure{},
		held: map[string]failure{}, denied: map[string]map[lane]bool{}}
	end := func(job string, kind ending) bool {
		tm.ended(outcome{want: want{lane: lane{"prod", job, false}, route: raftstore.Route{Name: "prod"}}, kind: kind, denied: kind == endedFailed})
		return len(tm.held) > 0
	}
	for range 10 {
		for _, job := range []string{"x", "y"} {
			if end(job, endedFailed) {
				t.Fatal("two jobs that can't be read hold all others up")
			}
		}
		if end("z", endedReady) || end("w", endedFailed) {
			t.Fatal("held although one got through")
		}
		end("w", endedReady)
	}
	if end("x", endedFailed) || end("y", endedFailed) || !end("w", endedFailed) {
		t.Error("three in a row don't hold the route")
	}
}

func TestTheTimeBetweenTriesDoublesUpToAMinute(t *testing.T) {
	f := failure{}
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60} {
		if f = f.again(noon); f.until.Sub(noon) != want*time.Second {
			t.Errorf("after failure %d: %s", i+1, f.until.Sub(noon))
		}
	}
	f.times = 1 << 40
	if f = f.again(noon); f.until.Sub(noon) != time.Minute {
		t.Errorf("after very many: %s", f.until.Sub(noon))
	}
}

func BenchmarkChoice(bm *testing.B) {
	s := newState(bm)
	const jobs = 10_000
	for from := 0; from < jobs; from += 100 {
		var found []raftstore.Found
		for i := from; i < from+100; i++ {
			f := chkAt(1, time.Minute)
			f.Seq, f.Job, f.MetadataCRC = uint64(i+1), fmt.Sprintf("job-%d", i), uint32(i)
			found = append(found, f)
		}
		s.observe(noon, found...)
	}
	c := choice{now: noon, view: s.store.View(), pullable: func(raftstore.Route) bool { return true }}
	for bm.Loop() {
		if wants, _ := c.wants(); len(wants) != jobs {
			bm.Fatal(len(wants))
		}
	}
}
