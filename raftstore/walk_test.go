package raftstore

import (
	"cmp"
	"slices"
	"testing"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
)

// anyCommand draws from few checkpoints, attempts and epochs, so that commands meet. Most speak for the epoch and
// attempt that s is at, or the walk would seldom leave its start.
func anyCommand(t *rapid.T, s State) *raftv1.Command {
	if rapid.IntRange(0, 2).Draw(t, "about routes") == 0 {
		return at(anyRouteCommand(t), rapid.Int64Range(-1000, 1000).Draw(t, "clock"))
	}
	id := rapid.Int64Range(1, 3).Draw(t, "checkpoint")
	current, known := s.Replicas.get(KeyOf(checkpointKey(id)))
	f := fence(s.Epochs.at("prod"), current.Planned.Attempt)
	switch {
	case rapid.IntRange(0, 3).Draw(t, "stale") == 0:
		f = fence(rapid.Uint64Range(0, 2).Draw(t, "epoch"), rapid.Uint64Range(0, 3).Draw(t, "attempt"))
	case !known:
		return at(plan(id, fence(f.GetEpoch(), 1)), rapid.Int64Range(0, 1000).Draw(t, "clock"))
	}
	cmd := rapid.OneOf(
		rapid.Just(plan(id, f)), rapid.Just(plan(id, f)), rapid.Just(startCopy(id, f)), rapid.Just(startCopy(id, f)),
		rapid.Just(ready(id, f)), rapid.Just(ready(id, f)), rapid.Just(supersede(id, f)), rapid.Just(fail(id, f)),
		rapid.Just(pin(id, f, true)), rapid.Just(pin(id, f, false)), rapid.Just(retire(id, f)), rapid.Just(forget(id, f)),
		rapid.Just(raise(f.GetEpoch())),
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

// allowed is the life of a replica; 0 is "there is none".
var allowed = map[[2]Status]bool{
	{0, StatusPlanned}:                   true,
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
	full, seen := false, false
	rapid.Check(t, func(t *rapid.T) {
		s := newState()
		for range rapid.IntRange(1, 60).Draw(t, "length") {
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
			compareRoutes(t, before, s)
			for _, e := range s.Exports.all() {
				full = full || e.Found.bySeq.len() > 2*KeepFound
			}
			for _, r := range s.Routes.all() {
				seen = seen || !r.SeenAt.IsZero() && r.Known.bySeq.len() > KeepFound
			}
			for _, r := range s.Replicas.all() {
				reached[r.Status]++
			}
		}
	})
	for status := range statusNames {
		if reached[status] == 0 && status != StatusQuarantined {
			t.Errorf("no walk reached %s: the walks prove nothing about it", status)
		}
	}
	if !full || !seen {
		t.Errorf("no walk filled an export (%t) or a route (%t)", full, seen)
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
	hadReady, hasReady := false, false
	for id := int64(1); id <= 3; id++ {
		key := KeyOf(checkpointKey(id))
		was, is := before.Replicas.at(key), after.Replicas.at(key)
		hadReady, hasReady = hadReady || was.Status == StatusReady, hasReady || is.Status == StatusReady
		switch {
		case !allowed[[2]Status{was.Status, is.Status}] && was.Status != is.Status:
			t.Fatalf("%s went from %s to %s", key, was.Status, is.Status)
		case is.Status != 0 && is.Planned.Attempt < was.Planned.Attempt:
			t.Fatalf("%s fell from attempt %d to %d", key, was.Planned.Attempt, is.Planned.Attempt)
		case was.Status != is.Status && is.Status == StatusPlanned && is.Planned.Attempt == was.Planned.Attempt:
			t.Fatalf("%s was planned again in the same attempt", key)
		case was.Pinned && is.Status != StatusReady:
			t.Fatalf("%s was pinned and is %s", key, is.Status)
		case is.Status == StatusReady && was.Status != StatusReady && is.Planned.Epoch != after.Epochs.at(key.Route):
			t.Fatalf("%s became READY under the fenced epoch %d", key, is.Planned.Epoch)
		}
	}
	if hadReady && !hasReady {
		t.Fatal("the job's last READY replica is gone")
	}
}

// compareRoutes checks one step of the walk: exports, routes and what was found.
func compareRoutes(t *rapid.T, before, after State) {
	t.Helper()
	for name, was := range before.Exports.all() {
		is, kept := after.Exports.get(name)
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
