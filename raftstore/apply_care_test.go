package raftstore

import (
	"errors"
	"slices"
	"strings"
	"testing"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

func TestRefusedCareChangesNothing(t *testing.T) {
	f := fence(0, 1)
	copying := commands{plan(6, f), startCopy(6, f)}
	recover := func(change func(*ckptferryv1.Replica)) *raftv1.Command {
		return changing(recovered(8), func(c *raftv1.Command) { change(c.GetRecoverReplicas().GetReplicas()[0]) })
	}
	drilled := func(change func(*ckptferryv1.Drill)) *raftv1.Command {
		return changing(drill(4, true, 1), func(c *raftv1.Command) { change(c.GetRecordDrill().GetDrill()) })
	}
	agents := make([]string, maxShards+1)
	for i := range agents {
		agents[i] = string(rune('A' + i))
	}
	madeByA1 := changing(plan(6, f), func(c *raftv1.Command) { c.GetPlanReplica().Agent = "a1" })
	refused(t, map[string]refusal{
		"quarantine for no reason":    {copied(4, f), changing(quarantine(4, f), func(c *raftv1.Command) { c.GetQuarantineReplica().Reason = "" }), ErrInvalid},
		"quarantine of a copy":        {copying, quarantine(6, f), ErrBadTransition},
		"quarantine of an old epoch":  {copied(4, f).then(raise(1)), quarantine(4, f), ErrStale},
		"scrub of a copy":             {copying, scrub(6, f), ErrBadTransition},
		"ready of an attempt before":  {copied(4, f).then(quarantine(4, f)), ready(4, f), ErrBadTransition},
		"same attempt, quarantined":   {copied(4, f).then(quarantine(4, f)), changing(plan(4, f), func(c *raftv1.Command) { c.GetPlanReplica().Job = "pay" }), ErrConflict},
		"plan of another agent":       {commands{madeByA1}, changing(madeByA1, func(c *raftv1.Command) { c.GetPlanReplica().Agent = "a2" }), ErrConflict},
		"plan with a name, no kind":   {commands{}, changing(plan(6, f), func(c *raftv1.Command) { c.GetPlanReplica().SavepointName = "savepoint-1" }), ErrInvalid},
		"plan with an odd agent":      {commands{}, changing(plan(6, f), func(c *raftv1.Command) { c.GetPlanReplica().Agent = "a\x00" }), ErrInvalid},
		"ready while it is swept":     {copying.then(sweep(true)), ready(6, f), ErrSweeping},
		"recovered while it is swept": {commands{sweep(true)}, recovered(8), ErrSweeping},
		"recovered twice":             {commands{}, recovered(8, 8), ErrInvalid},
		"recovered nothing":           {commands{}, recovered(), ErrInvalid},
		"recovered too many":          {commands{}, recovered(make([]int64, MaxRecover+1)...), ErrInvalid},
		"recovered what is no job's":  {commands{}, recover(func(r *ckptferryv1.Replica) { r.Job = "" }), ErrInvalid},
		"recovered what is not READY": {commands{}, recover(func(r *ckptferryv1.Replica) { r.Status = 2 }), ErrInvalid},
		"recovered with a bad key":    {commands{}, recover(func(r *ckptferryv1.Replica) { r.Key.JobId = "x" }), ErrInvalid},
		"sweep of no route":           {commands{}, &raftv1.Command{Op: &raftv1.Command_BeginSweep{BeginSweep: &raftv1.BeginSweep{}}}, ErrInvalid},
		"drill of level 4":            {commands{}, drilled(func(d *ckptferryv1.Drill) { d.Level = 4 }), ErrInvalid},
		"drill at no time":            {commands{}, drilled(func(d *ckptferryv1.Drill) { d.StartedTime = nil }), ErrInvalid},
		"drill failed for no reason":  {commands{}, drilled(func(d *ckptferryv1.Drill) { d.Passed, d.Detail = false, "" }), ErrInvalid},
		"audit by nobody":             {commands{}, changing(audited("looked"), func(c *raftv1.Command) { c.GetRecordAudit().Record.Actor = "" }), ErrInvalid},
		"shares of a plan":            {commands{plan(6, f)}, assign(6, f, "a2"), ErrBadTransition},
		"shares for the maker":        {commands{madeByA1, startCopy(6, f)}, assign(6, f, "a1"), ErrInvalid},
		"two shares for one":          {copying, assign(6, f, "a2", "a2"), ErrInvalid},
		"a share for nobody":          {copying, assign(6, f, ""), ErrInvalid},
		"more shares than agents":     {copying, assign(6, f, agents...), ErrInvalid},
		"shares of an old epoch":      {copying.then(raise(1)), assign(6, fence(1, 1), "a2"), ErrStale},
		"end of no share":             {copying.then(assign(6, f, "a2")), endShard(6, f, "a3", true), ErrStale},
		"done after it was given up":  {copying.then(assign(6, f, "a2"), endShard(6, f, "a2", false)), endShard(6, f, "a2", true), ErrStale},
		"done after the end":          {copying.then(assign(6, f, "a2"), fail(6, f)), endShard(6, f, "a2", true), ErrBadTransition},
		"route in flight":             {copying.then(putRoute(routeProd())), removeRoute("prod"), ErrRouteBusy},
		"route that a job goes on from": {
			twoReady().then(putRoute(routeProd()), promote(NoClaim, promoteItem(5, f))), removeRoute("prod"), ErrRouteBusy,
		},
		"plan for a removed route": {commands{putRoute(routeProd()), removeRoute("prod")}, plan(6, f), ErrUnknownRoute},
		"back with another root": {
			commands{putRoute(routeProd())}.then(copied(4, f)...).then(removeRoute("prod")),
			putRoute(changed(routeProd(), func(r *Route) { r.Root += "2" })), ErrRouteHasReplicas,
		},
	})
}

func TestQuarantinedReplicaIsMadeAgain(t *testing.T) {
	f, next := fence(0, 1), fence(0, 2)
	log := copied(4, f).then(pin(4, f, true), scrub(4, f), quarantine(4, f))
	r := stateAfter(t, log...).Replicas.at(KeyOf(checkpointKey(4)))
	if r.Status != StatusQuarantined || r.Reason == "" || r.Pinned || Offerable(r) || r.ScrubbedAt.IsZero() || r.GivenUp() {
		t.Errorf("replica is %+v", r)
	}
	r = stateAfter(t, log.then(plan(4, next), startCopy(4, next), ready(4, next))...).Replicas.at(KeyOf(checkpointKey(4)))
	if r.Status != StatusReady || r.Reason != "" || !r.ScrubbedAt.IsZero() || !Offerable(r) {
		t.Errorf("made again it is %+v", r)
	}
	if s := stateAfter(t, log.then(retire(4, f), forget(4, f))...); s.Replicas.len() != 0 {
		t.Error("a quarantined replica can't be deleted")
	}
}

func TestFailureIsClassed(t *testing.T) {
	f := fence(0, 1)
	failed := changing(fail(4, f), func(c *raftv1.Command) {
		c.GetFailReplica().Class, c.GetFailReplica().TargetAtFault, c.GetFailReplica().CheckpointAtFault = "no_space", true, true
	})
	log := commands{plan(4, f), failed}
	if r := stateAfter(t, log...).Replicas.at(KeyOf(checkpointKey(4))); r.FailureClass != "no_space" || !r.TargetAtFault || !r.CheckpointAtFault {
		t.Errorf("replica is %+v", r)
	}
	if r := stateAfter(t, log.then(plan(4, fence(0, 2)))...).Replicas.at(KeyOf(checkpointKey(4))); r.FailureClass != "" || r.TargetAtFault || r.CheckpointAtFault {
		t.Errorf("planned again it is %+v", r)
	}
}

func TestReadyTellsWhatARestoreDependsOn(t *testing.T) {
	f := fence(0, 1)
	want := RestoreFacts{MetadataVersion: 4, OldestFlink: "1.20", Changelog: true}
	planned := changing(plan(4, f), func(c *raftv1.Command) {
		p := c.GetPlanReplica()
		p.Agent, p.Kind, p.SavepointName = "a1", ckptferryv1.CheckpointKind_CHECKPOINT_KIND_SAVEPOINT, "savepoint-8fc5c1-0"
	})
	marked := changing(ready(4, f), func(c *raftv1.Command) { c.GetMarkReady().Facts = FactsMessage(want) })
	s := stateAfter(t, planned, startCopy(4, f), marked)
	r := s.Replicas.at(KeyOf(checkpointKey(4)))
	if r.Facts != want || r.Agent != "a1" || !r.Savepoint || r.SavepointName != "savepoint-8fc5c1-0" {
		t.Errorf("replica is %+v", r)
	}
	back, _, err := decodeSnapshot([]byte(bytesOf(t, s)))
	if again := back.Replicas.at(r.Key); err != nil || again.Facts != want || again.SavepointName != r.SavepointName {
		t.Errorf("restored: %+v, %v", again, err)
	}
}

func TestSharesEndOnce(t *testing.T) {
	f := fence(0, 1)
	copying := commands{plan(6, f), startCopy(6, f), assign(6, f, "a2", "a3")}
	for name, tc := range map[string]struct {
		log  commands
		want []Shard
	}{
		"assigned":                     {nil, []Shard{{Agent: "a2"}, {Agent: "a3"}}},
		"done":                         {commands{endShard(6, f, "a2", true)}, []Shard{{Agent: "a2", Done: true}, {Agent: "a3"}}},
		"given up":                     {commands{endShard(6, f, "a3", false)}, []Shard{{Agent: "a2"}, {Agent: "a3", Lost: true}}},
		"given up after it was done":   {commands{endShard(6, f, "a2", true), endShard(6, f, "a2", false)}, []Shard{{Agent: "a2", Done: true}, {Agent: "a3"}}},
		"assigned again":               {commands{endShard(6, f, "a2", true), assign(6, f, "a2", "a3")}, []Shard{{Agent: "a2", Done: true}, {Agent: "a3"}}},
		"assigned to others":           {commands{endShard(6, f, "a2", true), assign(6, f, "a4")}, []Shard{{Agent: "a4"}}},
		"assigned to nobody":           {commands{assign(6, f)}, nil},
		"remembered when it was READY": {commands{endShard(6, f, "a2", true), ready(6, f)}, []Shard{{Agent: "a2", Done: true}, {Agent: "a3"}}},
		"gone with the next attempt":   {commands{plan(6, fence(0, 2))}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := stateAfter(t, copying.then(tc.log...)...).Replicas.at(KeyOf(checkpointKey(6))).Shards; !slices.Equal(got, tc.want) {
				t.Errorf("shards are %v, want %v", got, tc.want)
			}
		})
	}
}

func TestNewestDrillAndNewestThatPassedAreKept(t *testing.T) {
	for name, tc := range map[string]struct {
		log            commands
		newest, passed int64
	}{
		"one that failed":         {commands{drill(4, false, 5)}, 5, 0},
		"one that passed":         {commands{drill(4, true, 5)}, 5, 5},
		"failed after it":         {commands{drill(4, true, 5), drill(4, false, 6)}, 6, 5},
		"told in the wrong order": {commands{drill(4, false, 6), drill(4, true, 5), drill(4, true, 3)}, 6, 5},
		"passed again":            {commands{drill(4, true, 5), drill(4, false, 6), drill(4, true, 7)}, 7, 7},
	} {
		t.Run(name, func(t *testing.T) {
			s := stateAfter(t, tc.log...)
			back, _, err := decodeSnapshot([]byte(bytesOf(t, s)))
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range []State{s, back} {
				newest, passed, ok := viewOf(s).Drills("prod", "orders")
				if !ok || !newest.StartedAt.Equal(moment(tc.newest)) || (passed.Level > 0) != (tc.passed > 0) || (tc.passed > 0 && !passed.StartedAt.Equal(moment(tc.passed))) {
					t.Errorf("newest %+v, passed %+v; want %d and %d", newest, passed, tc.newest, tc.passed)
				}
			}
			if want := map[bool]int{true: 1, false: 2}[tc.passed == 0 || tc.passed == tc.newest]; len(slices.Collect(viewOf(s).AllDrills())) != want {
				t.Errorf("%d drills are listed, want %d", len(slices.Collect(viewOf(s).AllDrills())), want)
			}
		})
	}
}

func TestNothingBecomesReadyUntilTheSweepEnds(t *testing.T) {
	f := fence(0, 1)
	log := commands{plan(6, f), startCopy(6, f), sweep(true), sweep(true)}
	if v := viewOf(stateAfter(t, log...)); !v.Sweeping("prod") || v.Sweeping("other") || !slices.Equal(v.Sweeps(), []string{"prod"}) {
		t.Errorf("swept are %v", v.Sweeps())
	}
	s := stateAfter(t, log.then(sweep(false), sweep(false), ready(6, f))...)
	if viewOf(s).Sweeping("prod") {
		t.Error("the sweep goes on")
	}
	if err := s.apply(at(sweep(true), 50)); err != nil {
		t.Fatal(err)
	}
	if err := s.apply(at(ready(6, f), 51)); err != nil {
		t.Errorf("READY already, and refused during a sweep: %v", err)
	}
}

func TestRecoveredReplicaObeysCommands(t *testing.T) {
	f := fence(0, 1)
	s := stateAfter(t, plan(5, f), raise(2), recovered(4, 5, 6))
	if r := s.Replicas.at(KeyOf(checkpointKey(5))); r.Status != StatusPlanned {
		t.Errorf("what was on record is %s now", r.Status)
	}
	r := s.Replicas.at(KeyOf(checkpointKey(4)))
	if r.Status != StatusReady || r.Planned != (Fence{2, 1}) || !Offerable(r) || r.Files != 3 || r.ReadyAt.IsZero() {
		t.Errorf("recovered as %+v", r)
	}
	if err := s.apply(at(retire(4, fence(2, 1)), 9)); err != nil {
		t.Error(err)
	}
	if err := s.apply(at(retire(6, fence(2, 1)), 9)); !errors.Is(err, ErrKept) {
		t.Errorf("retire of the last one = %v, want %v", err, ErrKept)
	}
	s = stateAfter(t, copied(4, f).then(promote(Claim, promoteItem(4, f)), recovered(5))...)
	if r := s.Replicas.at(KeyOf(checkpointKey(5))); !r.AtRisk {
		t.Error("a replica that was recovered beside one that is Flink's is offered")
	}
}

func TestNewestAuditRecordsAreKept(t *testing.T) {
	s := newState()
	for i := range KeepAudit + 5 {
		if err := s.apply(at(audited("looked"), int64(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.check(), s.apply(at(audited("looked"), KeepAudit+4))); err != nil { // the last one again
		t.Fatal(err)
	}
	back, _, err := decodeSnapshot([]byte(bytesOf(t, s)))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []View{viewOf(s), viewOf(back)} {
		all := v.Audit(0, 2*KeepAudit)
		if len(all) != KeepAudit || all[0].Seq != KeepAudit+5 || all[KeepAudit-1].Seq != 6 {
			t.Errorf("%d records, from %d to %d", len(all), all[0].Seq, all[len(all)-1].Seq)
		}
		if page := v.Audit(8, 5); len(page) != 2 || page[0].Seq != 7 || page[1].Seq != 6 {
			t.Errorf("before 8 there are %v", page)
		}
		if page := v.Audit(100, 3); len(page) != 3 || page[2].Seq != 97 {
			t.Errorf("before 100 there are %v", page)
		}
	}
}

func TestRemovedRouteKeepsItsReplicasAndItsPlace(t *testing.T) {
	f := fence(0, 1)
	log := commands{putRoute(routeProd()), raise(2), observe(9, checkpoint(4, 1))}.then(copied(4, fence(2, 1))...).then(removeRoute("prod"), removeRoute("prod"))
	s := stateAfter(t, log...)
	v := viewOf(s)
	if _, ok := v.Route("prod"); ok || len(v.Routes()) != 0 || len(v.Replicas()) != 1 || v.Epoch("prod") != 2 || len(v.Known("prod")) != 0 {
		t.Errorf("routes %v, replicas %v, epoch %d", v.Routes(), v.Replicas(), v.Epoch("prod"))
	}
	if gone := v.RemovedRoutes(); len(gone) != 1 || gone[0].Root != routeProd().Root {
		t.Errorf("removed are %v", gone)
	}
	v = viewOf(stateAfter(t, log.then(putRoute(routeProd()))...))
	if r, ok := v.Route("prod"); !ok || r.Epoch != 2 || len(v.RemovedRoutes()) != 0 || len(v.Known("prod")) != 0 || !v.SeenAt("prod").IsZero() {
		t.Errorf("back again it is %+v, knows %v", r, v.Known("prod"))
	}
	moved := changed(routeProd(), func(r *Route) { r.Root += "2" })
	v = viewOf(stateAfter(t, putRoute(routeProd()), plan(4, f), fail(4, f), removeRoute("prod"), putRoute(moved)))
	if r, _ := v.Route("prod"); r.Root != moved.Root || len(v.Replicas()) != 0 {
		t.Errorf("route %+v with %v", r, v.Replicas())
	}
	v = viewOf(stateAfter(t, putExport(exportProd()), record(checkpoint(4, 0)), fenceJobs("dc2", fenced(1, 0)), removeExport("prod"), removeExport("prod")))
	if _, fencedStill := v.Fence("prod", "dc2", "orders"); len(v.Exports()) != 0 || len(v.Found("prod")) != 0 || !fencedStill {
		t.Errorf("exports %v, found %v, fence known %t", v.Exports(), v.Found("prod"), fencedStill)
	}
}

func TestARouteIsRemovedWhenNoJobGoesOnFromItAnyLonger(t *testing.T) {
	promoted := twoReady().then(putRoute(routeProd()), promote(NoClaim, promoteItem(5, fence(0, 1))))
	for name, tc := range map[string]struct {
		log  commands
		gone bool
	}{
		"promoted":                  {promoted, false},
		"ended":                     {promoted.then(endPromotions("orders")), true},
		"another route is promoted": {elsewhere().then(putRoute(routeProd())), true},
	} {
		s := stateAfter(t, tc.log...)
		err := s.removeRoute(removeRoute("prod").GetRemoveRoute())
		if tc.gone != (err == nil) || tc.gone == s.Routes.has("prod") {
			t.Errorf("%s: %v, the route is there: %t", name, err, s.Routes.has("prod"))
		}
		if want := "1 jobs go on here from it: end the promotions with failover abort first, or keep the route paused"; !tc.gone && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", name, err, want)
		}
	}
}
