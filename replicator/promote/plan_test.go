package promote

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

func TestTheNewestReplicaIsChosen(t *testing.T) {
	t.Parallel()
	of := func(job string, id int64, minute int) raftstore.Replica {
		f := checkpoint(job, id, minute)
		return raftstore.Replica{Key: keyOf("prod", f), Job: "orders", CompletedAt: f.CompletedAt}
	}
	savepoint := func(r raftstore.Replica) raftstore.Replica { r.Savepoint = true; return r }
	found := func(r raftstore.Replica, seq uint64) raftstore.Found {
		return raftstore.Found{Seq: seq, JobID: r.Key.JobID, CheckpointID: r.Key.CheckpointID, MetadataCRC: r.Key.MetadataCRC, Savepoint: r.Savepoint}
	}
	for what, c := range map[string]struct {
		replicas []raftstore.Replica
		known    []raftstore.Found
		want     int // of replicas; -1: none
	}{
		"none": {nil, nil, -1},
		"by id within a JobID, whatever small clocks say": {[]raftstore.Replica{of("a", 4, 10), of("a", 5, 10)}, nil, 1},
		"by time between JobIDs":                          {[]raftstore.Replica{of("a", 100, 10), of("bb", 2, 20)}, nil, 1},
		"a fixed JobID that counts anew":                  {[]raftstore.Replica{of("a", 100, 10), of("a", 3, 20)}, nil, 1},
		"by seq, against ids and times":                   {[]raftstore.Replica{of("a", 5, 20), of("a", 4, 10)}, []raftstore.Found{found(of("a", 5, 0), 7), found(of("a", 4, 0), 8)}, 1},
		"what the source names is newer than what it names no longer": {
			[]raftstore.Replica{of("a", 100, 50), of("a", 3, 20)}, []raftstore.Found{found(of("a", 3, 0), 9)}, 1},
		"a newer savepoint": {[]raftstore.Replica{of("a", 5, 10), savepoint(of("a", 6, 11))}, nil, 1},
		"an older savepoint that the source still names": {
			[]raftstore.Replica{of("a", 50, 50), savepoint(of("a", 6, 11))}, []raftstore.Found{found(savepoint(of("a", 6, 0)), 3)}, 0},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			for range 2 {
				var want *raftstore.Replica
				if c.want >= 0 {
					want = &c.replicas[c.want]
				}
				got := newest(c.replicas, c.known)
				if (got == nil) != (want == nil) || got != nil && got.Key != want.Key {
					t.Errorf("newest = %v; want %v", got, want)
				}
				if c.want >= 0 { // the order given doesn't matter
					c.want = len(c.replicas) - 1 - c.want
					slices.Reverse(c.replicas)
				}
			}
		})
	}
}

// Two lives of a job are the worst that a failover can do, so a source that was heard of a moment ago is told of.
func TestAPlanWarnsOfALiveSourceAndOfAFailedDrill(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	five := checkpoint("orders", 5, 5)
	g.known(five)
	key := g.ready(five)
	g.now = noon.Add(3 * time.Second)
	warns := func(want string, is bool) {
		t.Helper()
		if all := strings.Join(g.item(Request{}).Warnings, "\n"); strings.Contains(all, want) != is {
			t.Errorf("warnings %q; want %q: %t", all, want, is)
		}
	}
	const drill = "the last drill"
	warns("source dc1 was heard of 3 s ago: the job probably still runs there; stop it first, or two lives of it write to the same sinks", true)
	warns(drill, false)
	drilled := func(minute int, passed bool, detail string) {
		t.Helper()
		g.do(&raftv1.Command{Op: &raftv1.Command_RecordDrill{RecordDrill: &raftv1.RecordDrill{Drill: raftstore.DrillMessage(raftstore.Drill{
			Key: key, Job: "orders", Level: 1, Passed: passed, StartedAt: noon.Add(time.Duration(minute) * time.Minute), Actor: "ann", Detail: detail})}}})
	}
	drilled(1, true, "")
	warns(drill, false)
	drilled(2, false, "file x: other bytes.")
	warns("the last drill, level 1 with chk-5 at 2026-03-01T12:02:00Z, failed: file x: other bytes: `ckptferry replica scrub orders`", true)
	drilled(3, true, "")
	warns(drill, false)
	g.now = noon.Add(time.Minute)
	warns("was heard of", false)
}

func TestWhatAPlanSays(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	var found []raftstore.Found
	for id := int64(1); id <= 5; id++ {
		found = append(found, checkpoint("orders", id, int(id)))
	}
	g.known(found...)
	g.ready(found[1])
	key := g.ready(found[2])
	g.now = noon.Add(10 * time.Minute)
	i := g.item(Request{})
	if i.Key != key || *i.RPO != 7*time.Minute || !slices.Equal(i.Lost, []int64{4, 5}) || *i.SourceCheckpoint != 5 || i.Blocked != "" {
		t.Errorf("item %+v", i)
	}
	if i.Mode != raftstore.NoClaim || i.Start.Run != "flink run -s "+i.Replica+" -claimMode NO_CLAIM" {
		t.Errorf("start %q, mode %s", i.Start.Run, i.Mode)
	}
	if len(i.Warnings) != 1 || !strings.Contains(i.Warnings[0], "source dc1 has not been heard of since 2026-03-01T12:00:00Z") {
		t.Errorf("warnings %q", i.Warnings)
	}
	// An older one, as it was asked for; what is newer is lost with it.
	i = g.item(Request{Before: noon.Add(2*time.Minute + time.Second)})
	if i.Key.CheckpointID != 2 || i.Newest != key || !slices.Equal(i.Lost, []int64{3, 4, 5}) {
		t.Errorf("before: %+v", i)
	}
	i = g.item(Request{Before: noon})
	if i.Has() || !strings.Contains(i.Blocked, "no READY replica is of a checkpoint that was completed before") {
		t.Errorf("before all: %+v", i)
	}
}

func TestWarningsOfReplicas(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		facts func(*ckptferryv1.RestoreFacts)
		req   Request
		after time.Duration
		want  string
		mode  raftstore.ClaimMode
	}{
		"unaligned": {facts: func(f *ckptferryv1.RestoreFacts) { f.Unaligned = true }, want: "same job graph", mode: raftstore.NoClaim},
		"changelog": {facts: func(f *ckptferryv1.RestoreFacts) { f.Changelog = true }, want: "needs CLAIM", mode: raftstore.Claim},
		"relative":  {facts: func(f *ckptferryv1.RestoreFacts) { f.RelativeReused = true }, want: "NO_CLAIM only", mode: raftstore.NoClaim},
		"hidden":    {facts: func(f *ckptferryv1.RestoreFacts) { f.HiddenHandles = true }, want: "named by user state", mode: raftstore.NoClaim},
		"claim":     {req: Request{Mode: replicator.Claim}, want: "files are Flink's", mode: raftstore.Claim},
		"scrub":     {after: 8 * 24 * time.Hour, want: "never scrubbed", mode: raftstore.NoClaim},
		"no facts":  {facts: func(f *ckptferryv1.RestoreFacts) { *f = ckptferryv1.RestoreFacts{} }, want: "restore-command", mode: raftstore.NoClaim}, //nolint:govet // a fresh message
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t)
			f := checkpoint("orders", 1, 0)
			g.known(f)
			if c.facts == nil {
				c.facts = func(*ckptferryv1.RestoreFacts) {}
			}
			g.ready(f, c.facts)
			g.now = g.now.Add(c.after)
			i := g.item(c.req)
			if !strings.Contains(strings.Join(i.Warnings, "\n"), c.want) || i.Mode != c.mode || i.Blocked != "" {
				t.Errorf("%s, blocked %q, warnings %q; want %s and %q", i.Mode, i.Blocked, i.Warnings, c.mode, c.want)
			}
		})
	}
}

func TestWhatBlocksAJob(t *testing.T) {
	t.Parallel()
	t.Run("no replica", func(t *testing.T) {
		t.Parallel()
		g := newGroup(t)
		g.known(checkpoint("orders", 1, 0))
		if i := g.item(Request{}); i.Has() || !strings.Contains(i.Blocked, "no replica of it at all") || !slices.Equal(i.Lost, []int64{1}) {
			t.Errorf("%+v", i)
		}
	})
	t.Run("quarantined", func(t *testing.T) {
		t.Parallel()
		g := newGroup(t)
		g.quarantine(g.ready(checkpoint("orders", 1, 0)))
		if i := g.item(Request{}); i.Has() || !strings.Contains(i.Blocked, "chk-1, is QUARANTINED: rot") {
			t.Errorf("%+v", i)
		}
	})
	t.Run("what can't be started", func(t *testing.T) {
		t.Parallel()
		g := newGroup(t)
		g.ready(checkpoint("orders", 1, 0))
		i := g.item(Request{Flink: replicator.FlinkVersion{Major: 1, Minor: 15}})
		if i.Has() || !strings.Contains(i.Blocked, "can't read _metadata version 4") {
			t.Errorf("%+v", i)
		}
	})
	t.Run("promoted elsewhere", func(t *testing.T) {
		t.Parallel()
		g := newGroup(t)
		g.ready(checkpoint("orders", 1, 0))
		g.fenced("dc3", "orders", 1, noon.Add(-time.Hour))
		if i := g.item(Request{}); !i.Has() || !i.Forcible || !strings.Contains(i.Blocked, "dc3 has promoted the job") {
			t.Errorf("%+v", i)
		}
	})
	t.Run("promoted by the source, and nothing here is of the time since", func(t *testing.T) {
		t.Parallel()
		g := newGroup(t)
		g.ready(checkpoint("orders", 1, 0))
		g.fenced("dc1", "orders", 1, noon.Add(time.Second))
		if i := g.item(Request{}); !i.Forcible || i.Blocked == "" {
			t.Errorf("%+v", i)
		}
		// What it has made since is its own state.
		g.ready(checkpoint("orders", 2, 1))
		if i := g.item(Request{}); i.Blocked != "" || i.Key.CheckpointID != 2 {
			t.Errorf("%+v", i)
		}
	})
}

func TestAFailbackNeedsTheFenceAndACheckpointSince(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.ready(checkpoint("orders", 1, 0))
	g.ready(checkpoint("payments", 1, 0))
	back := Request{Failback: true}
	if plan := g.plan(back); len(plan.Items) != 0 {
		t.Errorf("without a fence: %+v", plan.Items)
	}
	back.Jobs = []string{"orders"}
	if i := g.item(back); i.Has() || !strings.Contains(i.Blocked, "dc1 has not told this datacenter") {
		t.Errorf("without a fence, asked by name: %+v", i)
	}
	g.fenced("dc1", "orders", 1, noon.Add(time.Second))
	if i := g.item(back); i.Has() || i.Forcible || !strings.Contains(i.Blocked, "wait for the next one") {
		t.Errorf("without a checkpoint since: %+v", i)
	}
	key := g.ready(checkpoint("orders", 7, 1))
	if i := g.item(Request{Failback: true}); i.Key != key || i.Blocked != "" {
		t.Errorf("%+v", i)
	}
}

// The route back may be older than the first checkpoint there: what is fenced is listed all the same, as what to wait for.
func TestAFailbackListsWhatIsFencedBeforeItsFirstCheckpoint(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.fenced("dc1", "orders", 1, noon.Add(time.Second))
	g.fenced("dc3", "payments", 1, noon.Add(time.Second)) // not from where the route pulls
	for name, req := range map[string]Request{
		"all":        {Failback: true},
		"its route":  {Failback: true, Route: "prod"},
		"by pattern": {Failback: true, Jobs: []string{"ord*"}},
	} {
		i := g.item(req)
		if i.Route != "prod" || i.Job != "orders" || i.Has() || i.Forcible || i.Blocked != "dc1 has completed no checkpoint of it below export prod yet" {
			t.Errorf("%s: %+v", name, i)
		}
	}
	if plan := g.plan(Request{}); len(plan.Items) != 0 {
		t.Errorf("a failover lists it too: %+v", plan.Items)
	}
	g.known(checkpoint("orders", 7, 1))
	if i := g.item(Request{Failback: true}); i.Has() || !strings.Contains(i.Blocked, "no replica of it at all") {
		t.Errorf("when the first one is known: %+v", i)
	}
	key := g.ready(checkpoint("orders", 7, 1))
	if i := g.item(Request{Failback: true}); i.Key != key || i.Blocked != "" {
		t.Errorf("when it is READY: %+v", i)
	}
}

func TestThePlanIsInTheOrderOfPrioritiesAndNamedByWhatItDecides(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.route(raftstore.Route{Name: "key", FromDC: "dc1", FromExport: "key", Root: "file:/key", Mode: raftstore.RouteContinuous, Priority: 10})
	g.ready(checkpoint("b", 1, 0))
	g.ready(checkpoint("aa", 1, 0))
	g.readyOn("key", checkpoint("zzz", 1, 0))
	first := g.plan(Request{})
	var order []string
	for _, i := range first.Items {
		order = append(order, i.Route+"/"+i.Job)
	}
	if want := []string{"key/zzz", "prod/aa", "prod/b"}; !slices.Equal(order, want) {
		t.Errorf("order %v; want %v", order, want)
	}
	g.now = g.now.Add(time.Hour) // older, not another
	if again := g.plan(Request{}); again.ID != first.ID || len(first.ID) != 32 {
		t.Errorf("an hour later: plan %s; want %s", again.ID, first.ID)
	}
	g.ready(checkpoint("b", 2, 1))
	if again := g.plan(Request{}); again.ID == first.ID {
		t.Error("another replica, the same plan")
	}
	if one := g.plan(Request{Jobs: []string{"z*"}}); len(one.Items) != 1 || one.Items[0].Job != "zzz" {
		t.Errorf("by pattern: %+v", one.Items)
	}
	for _, c := range []struct {
		req  Request
		want error
	}{
		{Request{Jobs: []string{"b", "typo*"}}, ErrNoJob}, {Request{Route: "nope"}, raftstore.ErrUnknownRoute}, {Request{Jobs: []string{"["}}, raftstore.ErrInvalid},
	} {
		if _, err := Plan(g.View(), g.now, c.req); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v; want %v", c.req, err, c.want)
		}
	}
}

func TestItemsSurviveTheWire(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	f := checkpoint("orders", 3, 1)
	g.known(f, checkpoint("orders", 4, 2))
	g.ready(f)
	items := g.plan(Request{}).Items
	back := ItemOf(items[0].Message())
	if Digest([]Item{back}) != Digest(items) || *back.RPO != *items[0].RPO || !slices.Equal(back.Lost, []int64{4}) {
		t.Errorf("%+v became %+v", items[0], back)
	}
}

func BenchmarkPlan(b *testing.B) {
	g := newGroup(b)
	for job := range 300 {
		for id := range int64(3) {
			g.ready(checkpoint(fmt.Sprintf("job-%04d", job), id, int(id)))
		}
	}
	view := g.View()
	for b.Loop() {
		if _, err := Plan(view, noon, Request{}); err != nil {
			b.Fatal(err)
		}
	}
}
