package raftstore

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// anyCommand draws from few checkpoints, attempts and epochs, so that commands meet. Most speak for the epoch and
// attempt that s is at, or the walk would seldom leave its start.
func anyCommand(t *rapid.T, s State) *raftv1.Command {
	switch rapid.IntRange(0, 5).Draw(t, "about") {
	case 0, 1:
		return at(anyRouteCommand(t), rapid.Int64Range(-1000, 1000).Draw(t, "clock"))
	case 2:
		return at(anyLaterCommand(t, s), rapid.Int64Range(-1000, 1000).Draw(t, "clock"))
	}
	id := rapid.Int64Range(1, 3).Draw(t, "checkpoint")
	current, known := s.Replicas.get(KeyOf(checkpointKey(id)))
	f := fence(s.jobEpoch("prod", "orders"), current.Planned.Attempt)
	next := fence(f.GetEpoch(), f.GetAttempt()+1)
	switch {
	case rapid.IntRange(0, 3).Draw(t, "stale") == 0:
		f = fence(rapid.Uint64Range(0, 2).Draw(t, "epoch"), rapid.Uint64Range(0, 3).Draw(t, "attempt"))
	case !known:
		return at(plan(id, fence(f.GetEpoch(), 1)), rapid.Int64Range(0, 1000).Draw(t, "clock"))
	}
	if rapid.IntRange(0, 3).Draw(t, "onwards") > 0 {
		switch current.Status { // or too few walks would come far
		case StatusPlanned:
			return at(startCopy(id, f), rapid.Int64Range(0, 1000).Draw(t, "clock"))
		case StatusCopying:
			return at(rapid.OneOf(rapid.Just(ready(id, f)), rapid.Just(ready(id, f)), rapid.Just(assign(id, f, "a2", "a3")),
				rapid.Just(endShard(id, f, "a2", true))).Draw(t, "copying"), rapid.Int64Range(0, 1000).Draw(t, "clock"))
		}
	}
	cmd := rapid.OneOf(
		rapid.Just(plan(id, f)), rapid.Just(plan(id, f)), rapid.Just(startCopy(id, f)), rapid.Just(startCopy(id, f)),
		rapid.Just(ready(id, f)), rapid.Just(ready(id, f)), rapid.Just(supersede(id, f)), rapid.Just(fail(id, f)),
		rapid.Just(pin(id, f, true)), rapid.Just(pin(id, f, false)), rapid.Just(retire(id, f)), rapid.Just(forget(id, f)),
		rapid.Just(raise(f.GetEpoch())), rapid.Just(plan(id, next)), rapid.Just(quarantine(id, f)), rapid.Just(scrub(id, f)),
		rapid.Just(assign(id, f, "a2", "a3")), rapid.Just(assign(id, f)), rapid.Just(endShard(id, f, "a2", true)), rapid.Just(endShard(id, f, "a2", false)),
		rapid.Just(promote(NoClaim, promoteItem(id, f))), rapid.Just(promote(Claim, promoteItem(id, f))),
	).Draw(t, "command")
	return at(cmd, rapid.Int64Range(0, 1000).Draw(t, "clock")) // clocks of proposers differ, and step back
}

// anyRouteCommand draws from two exports and two routes, of which one pair is seldom used.
func anyRouteCommand(t *rapid.T) *raftv1.Command {
	name := rapid.SampledFrom([]string{"prod", "prod", "prod", "test"}).Draw(t, "name")
	var found []Found
	named := map[Found]bool{}
	for range rapid.IntRange(1, 2*KeepFound).Draw(t, "found") {
		f := checkpoint(rapid.Int64Range(1, 30).Draw(t, "id"), rapid.Uint64Range(1, 40).Draw(t, "seq"))
		if rapid.IntRange(0, 3).Draw(t, "savepoint") == 0 {
			f = savepoint(f.CheckpointID, f.Seq)
		}
		f.Job = rapid.SampledFrom([]string{"orders", "orders", "pay"}).Draw(t, "job")
		if !named[f.identity()] {
			found = append(found, f)
		}
		named[f.identity()] = true
	}
	if rapid.IntRange(0, 9).Draw(t, "remove") == 0 {
		if rapid.Bool().Draw(t, "export") {
			return removeExport(name)
		}
		return removeRoute(name)
	}
	switch rapid.IntRange(0, 5).Draw(t, "op") {
	case 0:
		e := exportProd()
		e.Name = name
		e.To = rapid.SliceOfN(rapid.SampledFrom([]string{"dc2", "dc3"}), 0, 2).Draw(t, "to")
		return putExport(e)
	case 1:
		r := routeProd()
		r.Name = name
		r.FromDC = rapid.SampledFrom([]string{"dc1", "dc1", "dc3"}).Draw(t, "from")
		r.Root = rapid.SampledFrom([]string{"file:/a", "file:/a", "file:/b"}).Draw(t, "root")
		r.Mode = rapid.SampledFrom([]RouteMode{RouteContinuous, RoutePaused, 0}).Draw(t, "mode")
		return putRoute(r)
	case 2, 3:
		cmd := record(found...)
		cmd.GetRecordFound().Export = name
		return cmd
	default:
		slices.SortFunc(found, func(a, b Found) int { return cmp.Compare(a.Seq, b.Seq) })
		found = slices.CompactFunc(found, func(a, b Found) bool { return a.Seq == b.Seq })
		cmd := observe(rapid.Int64Range(0, 100).Draw(t, "seen"), found...)
		cmd.GetObserveSource().Route = name
		return cmd
	}
}

// anyLaterCommand draws from what is done once replicas are READY.
func anyLaterCommand(t *rapid.T, s State) *raftv1.Command {
	id := rapid.Int64Range(1, 3).Draw(t, "checkpoint")
	epoch := rapid.Uint64Range(1, 3).Draw(t, "epoch")
	fenced := &ckptferryv1.FencedJob{
		Job: "orders", Epoch: epoch, PromotedTime: timestamp(moment(rapid.Int64Range(-1000, 1000).Draw(t, "promoted"))),
		Lifted: rapid.IntRange(0, 4).Draw(t, "lifted") == 0,
	}
	move := MigrationJob{
		Job: rapid.SampledFrom([]string{"orders", "pay"}).Draw(t, "job"), StopMode: StopManual, Problem: "none",
		State: MigrationJobState(rapid.Int32Range(1, 8).Draw(t, "job state")),
	}
	if p, active := s.activePromotion("prod", "orders"); active && rapid.IntRange(0, 9).Draw(t, "failback") == 0 {
		// The other side's answer, which of all fences few are.
		return fenceJobs("dc1", &ckptferryv1.FencedJob{
			Job: "orders", Epoch: s.Fences.at(fenceKey{"prod", "dc1", "orders"}).Epoch + 1, PromotedTime: timestamp(p.PromotedAt.Add(time.Second)),
		})
	}
	if rapid.IntRange(0, 49).Draw(t, "claim") == 0 { // seldom: what is at risk is never promoted
		return changing(recovered(id), func(c *raftv1.Command) {
			c.GetRecoverReplicas().GetReplicas()[0].Promoted, c.GetRecoverReplicas().GetReplicas()[0].Claimed = true, true
		})
	}
	if p := s.Promotions.at(jobName{"prod", "orders"}); p.Count > 0 && p.State != PromotionActive && rapid.IntRange(0, 7).Draw(t, "once more") == 0 {
		// What was promoted once is most likely to be offered still.
		return promote(NoClaim, promoteItem(p.Key.CheckpointID, fence(s.jobEpoch("prod", "orders"), s.Replicas.at(p.Key).Planned.Attempt)))
	}
	state := MigrationState(rapid.SampledFrom([]int32{1, 1, 1, 2, 2, 3, 4}).Draw(t, "migration state"))
	return rapid.OneOf(
		rapid.Just(endPromotions("orders")), rapid.Just(fenceJobs("dc1", fenced)), rapid.Just(fenceJobs("dc1", fenced)),
		rapid.Just(acknowledge(&ckptferryv1.FencedJob{Job: "orders", Epoch: s.jobEpoch("prod", "orders")})),
		rapid.Just(drill(id, rapid.Bool().Draw(t, "passed"), rapid.Int64Range(0, 9).Draw(t, "began"))),
		rapid.Just(putMigration("move", state)), rapid.Just(putMigration("move", MigrationAborted)), rapid.Just(putMigrationJobs("move", move)),
		rapid.Just(sweep(true)), rapid.Just(sweep(false)), rapid.Just(sweep(false)), rapid.Just(recovered(id)), rapid.Just(audited("looked")),
	).Draw(t, "later")
}

// allowed is the life of a replica; 0 is "there is none".
var allowed = map[[2]Status]bool{
	{0, StatusPlanned}:                   true,
	{0, StatusReady}:                     true, // recovered
	{StatusPlanned, StatusCopying}:       true,
	{StatusCopying, StatusReady}:         true,
	{StatusPlanned, StatusSuperseded}:    true,
	{StatusCopying, StatusSuperseded}:    true,
	{StatusPlanned, StatusFailed}:        true,
	{StatusCopying, StatusFailed}:        true,
	{StatusCopying, StatusPlanned}:       true, // these three with a higher attempt
	{StatusSuperseded, StatusPlanned}:    true,
	{StatusFailed, StatusPlanned}:        true,
	{StatusReady, StatusRetiring}:        true,
	{StatusReady, StatusQuarantined}:     true,
	{StatusQuarantined, StatusPlanned}:   true,
	{StatusQuarantined, StatusRetiring}:  true,
	{StatusSuperseded, StatusRetiring}:   true,
	{StatusFailed, StatusRetiring}:       true,
	{StatusRetiring, 0}:                  true,
	{StatusSuperseded, 0}:                true, // these two with the route's old place
	{StatusFailed, 0}:                    true,
	{StatusPlanned, StatusPlanned}:       true,
	{StatusCopying, StatusCopying}:       true,
	{StatusReady, StatusReady}:           true,
	{StatusRetiring, StatusRetiring}:     true,
	{StatusSuperseded, StatusSuperseded}: true,
	{StatusFailed, StatusFailed}:         true,
}

func TestAnySequenceOfCommandsKeepsTheInvariants(t *testing.T) {
	reached := map[Status]int{}
	seenStates := map[string]bool{}
	full, seen := false, false
	walk := func(t *rapid.T) {
		s := newState()
		for range rapid.SampledFrom([]int{3, 30, 100, 250}).Draw(t, "length") {
			cmd := anyCommand(t, s)
			before, beforeBytes := s, snapshotBytes(t, s)

			err := s.apply(cmd)
			after := snapshotBytes(t, s)
			if err != nil && after != beforeBytes {
				t.Fatalf("refused with %v, but changed the state", err)
			}
			if err == nil {
				if again := s.apply(cmd); again != nil || snapshotBytes(t, s) != after {
					t.Fatalf("the same command again: %v; state changed %t", again, snapshotBytes(t, s) != after)
				}
			}
			if err := s.check(); err != nil {
				t.Fatal(err)
			}
			if snapshotBytes(t, before) != beforeBytes {
				t.Fatal("the command changed a view of the state before it")
			}
			if back, _, err := decodeSnapshot([]byte(after)); err != nil || snapshotBytes(t, back) != after {
				t.Fatalf("the snapshot does not come back as it was: %v", err)
			}
			compareStates(t, before, s)
			comparePromotions(t, before, s)
			compareRoutes(t, cmd, before, s)
			for _, e := range s.Exports.all() {
				full = full || e.Found.bySeq.len() > 2*KeepFound
			}
			for _, r := range s.Routes.all() {
				seen = seen || !r.SeenAt.IsZero() && r.Known.bySeq.len() > KeepFound
			}
			for _, r := range s.Replicas.all() {
				reached[r.Status]++
			}
			for what, is := range sights(s) {
				if is {
					seenStates[what] = true
				}
			}
		}
	}
	missing := func() (what []string) {
		for status := range statusNames {
			if reached[status] == 0 {
				what = append(what, status.String())
			}
		}
		for sight := range sights(newState()) {
			if !seenStates[sight] {
				what = append(what, sight)
			}
		}
		if !full || !seen {
			what = append(what, fmt.Sprintf("a full export (%t) or route (%t)", full, seen))
		}
		return what
	}
	// What a walk comes by is left to chance, so a rare sight may need more walks than one check has.
	const most = 5
	for range most {
		rapid.Check(t, walk)
		if t.Failed() || len(missing()) == 0 {
			return
		}
	}
	t.Errorf("no walk saw %q: the walks prove nothing about it", missing())
}

// sights are what a walk must come by.
func sights(s State) map[string]bool {
	p := s.Promotions.at(jobName{"prod", "orders"})
	fence := s.Fences.at(fenceKey{"prod", "dc1", "orders"})
	atRisk, shared, recorded, born := false, false, s.AuditRecords.len() > 3, false
	for _, r := range s.Replicas.all() {
		born = born || r.AtRisk && r.Warnings != nil // nothing else warns in these walks
		atRisk, shared = atRisk || r.AtRisk, shared || len(r.Shards) > 0 && r.Shards[0].Done
	}
	m := s.Migrations.at("move")
	return map[string]bool{
		"an active promotion": p.State == PromotionActive, "an ended promotion": p.State == PromotionAborted,
		"a failed back promotion": p.State == PromotionFailedBack, "a second promotion": p.Count > 1,
		"an acknowledged fence": !p.FenceAcknowledgedAt.IsZero(), "a fence": fence.Epoch > 0 && !fence.Lifted, "a lifted fence": fence.Lifted,
		"a replica at risk": atRisk, "one at risk from its first moment on": born, "a share that is done": shared, "audit records": recorded,
		"a sweep": s.Sweeps.len() > 0, "a removed route": s.Removed.len() > 0, "a drill": s.Drills.len() > 0,
		"a migration": m.State == MigrationRunning, "an aborted migration": m.State == MigrationAborted, "a migration's job": s.MigrationJobs.len() > 0,
	}
}

// compareStates checks one step of the walk.
func compareStates(t *rapid.T, before, after State) {
	t.Helper()
	for route, epoch := range before.Epochs.all() {
		if after.Epochs.at(route) < epoch {
			t.Fatalf("route %s fell from epoch %d to %d", route, epoch, after.Epochs.at(route))
		}
	}
	hadReady, hasReady, rotten := false, false, false
	for id := int64(1); id <= 3; id++ {
		key := KeyOf(checkpointKey(id))
		was, is := before.Replicas.at(key), after.Replicas.at(key)
		hadReady, hasReady = hadReady || was.Status == StatusReady, hasReady || is.Status == StatusReady
		rotten = rotten || was.Status == StatusReady && is.Status == StatusQuarantined
		switch {
		case !allowed[[2]Status{was.Status, is.Status}] && was.Status != is.Status:
			t.Fatalf("%s went from %s to %s", key, was.Status, is.Status)
		case is.Status != 0 && is.Planned.Attempt < was.Planned.Attempt:
			t.Fatalf("%s fell from attempt %d to %d", key, was.Planned.Attempt, is.Planned.Attempt)
		case was.Status != is.Status && is.Status == StatusPlanned && is.Planned.Attempt == was.Planned.Attempt:
			t.Fatalf("%s was planned again in the same attempt", key)
		case was.Pinned && is.Status != StatusReady && is.Status != StatusQuarantined:
			t.Fatalf("%s was pinned and is %s", key, is.Status)
		case is.Status == StatusReady && was.Status != StatusReady && is.Planned.Epoch != after.jobEpoch(key.Route, is.Job):
			t.Fatalf("%s became READY under the fenced epoch %d", key, is.Planned.Epoch)
		}
	}
	if hadReady && !hasReady && !rotten {
		t.Fatal("the job's last READY replica is gone")
	}
}

// comparePromotions checks one step of the walk: what was promoted, fenced, swept and recorded.
func comparePromotions(t *rapid.T, before, after State) {
	t.Helper()
	job := jobName{"prod", "orders"}
	was, is := before.Promotions.at(job), after.Promotions.at(job)
	switch {
	case after.jobEpoch("prod", "orders") < before.jobEpoch("prod", "orders"):
		t.Fatal("the job's epoch fell")
	case is.Count == was.Count && was.State != PromotionActive && is.State != was.State:
		t.Fatalf("a promotion that was %s is %s", was.State, is.State)
	case is.Count > was.Count && is.Epoch <= before.jobEpoch("prod", "orders"):
		t.Fatalf("promotion %d has epoch %d, the job was at %d", is.Count, is.Epoch, before.jobEpoch("prod", "orders"))
	case before.lastAudit() > after.lastAudit():
		t.Fatalf("the audit went back from %d to %d", before.lastAudit(), after.lastAudit())
	case (is.State != was.State || is.Count > was.Count) && before.lastAudit() == after.lastAudit():
		t.Fatalf("the promotion %+v became %+v and nobody knows by whom", was, is)
	}
	for id := int64(1); id <= 3; id++ {
		key := KeyOf(checkpointKey(id))
		was, is := before.Replicas.at(key), after.Replicas.at(key)
		samePlan := was.Planned.Attempt == is.Planned.Attempt && is.Status != 0
		switch {
		case was.Promoted && !is.Promoted || was.Claimed && !is.Claimed:
			t.Fatalf("%s was promoted (claimed %t), and nobody knows it any more", key, was.Claimed)
		case was.AtRisk && !is.AtRisk && samePlan:
			t.Fatalf("%s was at risk, and is as it was", key)
		case was.Status != StatusReady && is.Status == StatusReady && before.Sweeps.has("prod"):
			t.Fatalf("%s became READY while its route was swept", key)
		case is.Status == StatusPlanned && !samePlan && before.Promotions.at(job).State == PromotionActive:
			t.Fatalf("%s was planned while its job goes on here", key)
		}
	}
	for key, was := range before.Fences.all() {
		if is := after.Fences.at(key); is.Epoch < was.Epoch || (is.Epoch == was.Epoch && was.Lifted && !is.Lifted) {
			t.Fatalf("the fence %+v became %+v", was, is)
		}
	}
	for name, was := range before.Migrations.all() {
		if is := after.Migrations.at(name); was.State.Ended() && is != was {
			t.Fatalf("the ended migration %+v became %+v", was, is)
		}
	}
	for key, was := range before.MigrationJobs.all() {
		is := after.MigrationJobs.at(key)
		if was.State.Ended() && is.State != was.State && (was.State != MigrationJobReady || is.State != MigrationJobStarted) {
			t.Fatalf("the job %s went from %s to %s", key.Job, was.State, is.State)
		}
	}
}

// compareRoutes checks one step of the walk: exports, routes and what was found.
func compareRoutes(t *rapid.T, cmd *raftv1.Command, before, after State) {
	t.Helper()
	for name, was := range before.Exports.all() {
		is, kept := after.Exports.get(name)
		if !kept && cmd.GetRemoveExport().GetExport() == name {
			continue
		}
		if !kept || is.LastSeq < was.LastSeq {
			t.Fatalf("export %s is gone, or fell from seq %d to %d", name, was.LastSeq, is.LastSeq)
		}
		for seq, f := range is.Found.bySeq.all() {
			if seq <= was.LastSeq && was.Found.bySeq.at(seq) != f {
				t.Fatalf("export %s: seq %d was %v and is %v", name, seq, was.Found.bySeq.at(seq), f)
			}
		}
	}
	for name, was := range before.Routes.all() {
		is, kept := after.Routes.get(name)
		if !kept && cmd.GetRemoveRoute().GetRoute() == name && after.Removed.has(name) {
			continue
		}
		moved := is.FromDC != was.FromDC || is.FromExport != was.FromExport
		switch {
		case !kept:
			t.Fatalf("route %s is gone", name)
		case keepsItsPlace(before, name) && (moved || is.Root != was.Root):
			t.Fatalf("route %s has replicas and moved from %+v to %+v", name, was.Route, is.Route)
		case !moved && is.SeenAt.Before(was.SeenAt):
			t.Fatalf("route %s was seen at %s and then at %s", name, was.SeenAt, is.SeenAt)
		}
	}
	for name, was := range before.Removed.all() {
		if is, back := after.Routes.get(name); back && keepsItsPlace(before, name) && (is.FromDC != was.FromDC || is.Root != was.Root) {
			t.Fatalf("route %s was removed with replicas as %+v and came back as %+v", name, was, is.Route)
		}
	}
	count := 0
	for r := range after.ofJob("prod", "orders") {
		if count++; after.Replicas.at(r.Key).Status != r.Status {
			t.Fatalf("replica %s is filed twice, differently", r.Key)
		}
	}
	if count != after.Replicas.len() || len(slices.Collect(after.ofRoute("prod"))) != count || len(slices.Collect(after.ofRoute("pro"))) > 0 {
		t.Fatalf("%d replicas of %d are filed under their job", count, after.Replicas.len())
	}
}

// keepsItsPlace says whether a route has replicas that were not given up.
func keepsItsPlace(s State, route string) bool {
	return slices.ContainsFunc(slices.Collect(s.ofRoute(route)), func(r Replica) bool { return !r.GivenUp() })
}

func TestTheSameLogTwiceGivesEqualSnapshots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one, two := newFSM(), newFSM()
		length := rapid.IntRange(1, 80).Draw(t, "length")
		cut := rapid.IntRange(0, length).Draw(t, "cut")
		for i := range length {
			data, err := proto.Marshal(anyCommand(t, one.state))
			if err != nil {
				t.Fatal(err)
			}
			one.Apply(&raft.Log{Index: uint64(i + 1), Data: data})
			if i == cut { // the second node restarts here, from its snapshot
				two = restarted(t, two)
			}
			two.Apply(&raft.Log{Index: uint64(i + 1), Data: data})
		}
		first, err := encodeSnapshot(one.state, one.applied)
		if err != nil {
			t.Fatal(err)
		}
		second, err := encodeSnapshot(two.state, two.applied)
		if err != nil {
			t.Fatal(err)
		}
		if string(first) != string(second) {
			t.Fatalf("snapshots differ:\n%x\n%x", first, second)
		}
	})
}

func restarted(t *rapid.T, f *fsm) *fsm {
	b, err := encodeSnapshot(f.state, f.applied)
	if err != nil {
		t.Fatal(err)
	}
	state, applied, err := decodeSnapshot(b)
	if err != nil {
		t.Fatal(err)
	}
	return &fsm{state: state, applied: applied}
}

func snapshotBytes(t *rapid.T, s State) string {
	b, err := encodeSnapshot(s, 1)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
