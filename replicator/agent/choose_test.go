package agent

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
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
			set:   func(_ *state, c *choice) { c.running = map[lane]bool{{a, "x", false}: true} }, wants: "[]"},
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
	for _, tc := range []struct {
		running  []int32
		priority int32
		want     bool
	}{
		{nil, 0, true}, {[]int32{0}, 0, true}, {[]int32{0, 0}, 0, false}, {[]int32{0, 0}, 1, true}, {[]int32{1, 1}, 0, false},
		{[]int32{0, 0, 1}, 1, true}, {[]int32{0, 0, 1, 1}, 1, false}, {[]int32{0, 0, 1, 1}, 2, false},
	} {
		l := newLoad([]string{"a"}, "a")
		l.copies["a"] = tc.running
		if got := l.pick(tc.priority, 2, "") == "a"; got != tc.want {
			t.Errorf("beside %v, priority %d: %v", tc.running, tc.priority, got)
		}
	}
}

func TestWhoIsGivenACopy(t *testing.T) {
	for name, tc := range map[string]struct {
		live   []string
		copies map[string][]int32
		failed string
		want   string
	}{
		"a leader alone":                          {[]string{"a"}, nil, "", "a"},
		"another one than the leader":             {[]string{"a", "b", "c"}, nil, "", "b"},
		"the least busy":                          {[]string{"a", "b", "c"}, map[string][]int32{"b": {0}}, "", "c"},
		"the leader when the others have as many": {[]string{"a", "b", "c"}, map[string][]int32{"b": {0, 0}, "c": {0, 0}}, "", "a"},
		"the leader when the others have no room": {[]string{"a", "b"}, map[string][]int32{"a": {0, 0}, "b": {0, 0, 0}}, "", "a"},
		"nobody when nobody has room":             {[]string{"a", "b"}, map[string][]int32{"a": {0, 0, 0}, "b": {0, 0, 0}}, "", ""},
		"not who has just failed":                 {[]string{"a", "b"}, map[string][]int32{"a": {0, 0}}, "b", "a"},
		"who has just failed if there is nobody":  {[]string{"a"}, nil, "a", "a"},
		"nobody who is not there":                 {[]string{"a"}, map[string][]int32{"a": {0, 0, 0}, "b": nil}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLoad(tc.live, "a")
			for agent, copies := range tc.copies {
				l.copies[agent] = copies
			}
			if got := l.pick(0, 3, tc.failed); got != tc.want {
				t.Errorf("given to %q, want %q", got, tc.want)
			}
		})
	}
}

// deciding is a leader that is told how copies end.
func deciding() *term { return newTerm(&Agent{cfg: Config{Now: func() time.Time { return noon }}}) }

func (t *term) ends(job string, as raftstore.Replica) bool {
	as.Key, as.Job = keyOf("prod", chkAt(1, 0)), job
	as.Key.MetadataCRC = uint32(job[0])
	t.ended(as, flight{lane: lane{"prod", job, false}, agent: "b"})
	return len(t.held) > 0
}

func TestASuccessEndsAHold(t *testing.T) {
	tm := deciding()
	for range 4 {
		tm.ends("a", raftstore.Replica{Status: raftstore.StatusFailed, FailureClass: string(ReasonNoSpace), TargetAtFault: true})
	}
	tm.ends("a", raftstore.Replica{Status: raftstore.StatusFailed, FailureClass: string(ReasonOther)})
	if tm.held["prod"].until.Sub(noon) != 8*time.Second || len(tm.failures) != 1 {
		t.Errorf("held %v, failures %v", tm.held, tm.failures)
	}
	tm.ends("a", raftstore.Replica{Status: raftstore.StatusReady})
	if len(tm.held) != 0 || len(tm.failures) != 0 {
		t.Errorf("held %v, failures %v", tm.held, tm.failures)
	}
}

// Who was stopped is not at fault, and is taken up again at once.
func TestAStoppedCopyIsNoFailure(t *testing.T) {
	tm := deciding()
	tm.ends("a", raftstore.Replica{Status: raftstore.StatusFailed, FailureClass: string(ReasonStopped)})
	if len(tm.failures) != 0 || len(tm.held) != 0 {
		t.Errorf("held %v, failures %v", tm.held, tm.failures)
	}
}

func TestWhenALackOfPermissionIsTheTargets(t *testing.T) {
	tm := deciding()
	ready := raftstore.Replica{Status: raftstore.StatusReady}
	denied := raftstore.Replica{Status: raftstore.StatusFailed, FailureClass: string(ReasonPermission)}
	for range 10 {
		for _, job := range []string{"x", "y"} {
			if tm.ends(job, denied) {
				t.Fatal("two jobs that can't be read hold all others up")
			}
		}
		if tm.ends("z", ready) || tm.ends("w", denied) {
			t.Fatal("held although one got through")
		}
		tm.ends("w", ready)
	}
	if tm.ends("x", denied) || tm.ends("y", denied) || !tm.ends("w", denied) {
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
