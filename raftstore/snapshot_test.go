package raftstore

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// everything is a state that has something of all that a snapshot holds.
func everything(t *testing.T) State {
	f := fence(0, 1)
	return stateAfter(t, twoReady().then(
		plan(6, f), startCopy(6, f), assign(6, f, "a2", "a3"), endShard(6, f, "a2", true), drill(5, true, 3), drill(5, false, 4),
		fenceJobs("dc1", fenced(1, -1000)), promote(Claim, promoteItem(5, f)), acknowledge(fenced(1, 0)),
		putMigration("move", MigrationRunning), putMigrationJobs("move", migrationJob("orders", MigrationJobWaiting), migrationJob("pay", MigrationJobFailed)),
		sweep(true), audited("looked"), putRoute(changed(routeProd(), func(r *Route) { r.Name = "gone" })), removeRoute("gone"),
	)...)
}

func snapshotOf(t *testing.T, s State) *raftv1.Snapshot {
	t.Helper()
	var snapshot raftv1.Snapshot
	if err := proto.Unmarshal([]byte(bytesOf(t, s)), &snapshot); err != nil {
		t.Fatal(err)
	}
	return &snapshot
}

func TestSnapshotHoldsEverything(t *testing.T) {
	s := everything(t)
	if err := s.check(); err != nil {
		t.Fatal(err)
	}
	snapshot := snapshotOf(t, s)
	fields := snapshot.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		if !snapshot.ProtoReflect().Has(fields.Get(i)) {
			t.Errorf("the snapshot has no %s: the test proves nothing about it", fields.Get(i).Name())
		}
	}
	back, _, err := decodeSnapshot([]byte(bytesOf(t, s)))
	if err != nil || bytesOf(t, back) != bytesOf(t, s) {
		t.Errorf("it comes back as another: %v", err)
	}
}

// A snapshot that was written before there were promotions has none of their fields, and no kind of replica.
func TestOldSnapshotIsRead(t *testing.T) {
	s := stateAfter(t, twoReady()...)
	snapshot := snapshotOf(t, s)
	for _, r := range snapshot.GetReplicas() {
		r.Replica.Kind = 0
	}
	old, err := proto.Marshal(snapshot)
	if err != nil {
		t.Fatal(err)
	}
	back, _, err := decodeSnapshot(old)
	if err != nil || bytesOf(t, back) != bytesOf(t, s) {
		t.Errorf("it comes back as another: %v", err)
	}
}

func TestSnapshotOfPromotionsThatCannotBeIsRefused(t *testing.T) {
	for name, change := range map[string]func(*raftv1.Snapshot){
		"no count of a promotion":       func(s *raftv1.Snapshot) { s.PromotionCounts = nil },
		"a count of no promotion":       func(s *raftv1.Snapshot) { s.PromotionCounts[0].Job = "pay" },
		"a promotion twice":             func(s *raftv1.Snapshot) { s.Promotions = append(s.Promotions, s.Promotions[0]) },
		"a promotion of no state":       func(s *raftv1.Snapshot) { s.Promotions[0].State = 0 },
		"a promotion in no epoch":       func(s *raftv1.Snapshot) { s.Promotions[0].Epoch = 0 },
		"a promotion in a later epoch":  func(s *raftv1.Snapshot) { s.Promotions[0].Epoch = 2 },
		"a promotion of what isn't":     func(s *raftv1.Snapshot) { s.Promotions[0].Key.CheckpointId = 99 },
		"an active promotion that ends": func(s *raftv1.Snapshot) { s.Promotions[0].EndedTime = timestamp(moment(1)) },
		"a promoted replica unpinned":   func(s *raftv1.Snapshot) { s.Replicas[1].Replica.Pinned = false },
		"a claimed one that isn't":      func(s *raftv1.Snapshot) { s.Replicas[1].Replica.Claimed = false },
		"a copy at risk":                func(s *raftv1.Snapshot) { s.Replicas[2].Replica.AtRisk = true },
		"a copy that is promoted":       func(s *raftv1.Snapshot) { s.Replicas[2].Replica.Promoted = true },
		"two shares for one":            func(s *raftv1.Snapshot) { s.Replicas[2].Replica.Shards[1].Agent = "a2" },
		"a share done and lost":         func(s *raftv1.Snapshot) { s.Replicas[2].Replica.Shards[0].Lost = true },
		"a READY one that failed":       func(s *raftv1.Snapshot) { s.Replicas[0].TargetAtFault = true },
		"a quarantine for no reason":    func(s *raftv1.Snapshot) { s.Replicas[0].Replica.Status = 7 },
		"a fence twice":                 func(s *raftv1.Snapshot) { s.Fences = append(s.Fences, s.Fences[0]) },
		"a fence in no epoch":           func(s *raftv1.Snapshot) { s.Fences[0].Job.Epoch = 0 },
		"a third drill":                 func(s *raftv1.Snapshot) { s.Drills = append(s.Drills, s.Drills[1]) },
		"drills in the wrong order":     func(s *raftv1.Snapshot) { s.Drills[0], s.Drills[1] = s.Drills[1], s.Drills[0] },
		"a drill of level 0":            func(s *raftv1.Snapshot) { s.Drills[0].Level = 0 },
		"a migration twice":             func(s *raftv1.Snapshot) { s.Migrations = append(s.Migrations, s.Migrations[0]) },
		"a migration over since never":  func(s *raftv1.Snapshot) { s.Migrations[0].Migration.State = 3 },
		"a migration's job twice":       func(s *raftv1.Snapshot) { s.Migrations[0].Jobs[0].Job = "pay" },
		"a job of an unknown state":     func(s *raftv1.Snapshot) { s.Migrations[0].Jobs[0].State = 0 },
		"a gap in the audit":            func(s *raftv1.Snapshot) { s.Audit[2].Seq = 9 },
		"an audit record of nobody":     func(s *raftv1.Snapshot) { s.Audit[0].Actor = "" },
		"a sweep twice":                 func(s *raftv1.Snapshot) { s.Sweeps = append(s.Sweeps, s.Sweeps[0]) },
		"a sweep of no route":           func(s *raftv1.Snapshot) { s.Sweeps[0] = "" },
		"a removed route that is seen":  func(s *raftv1.Snapshot) { s.Routes[0].SeenTime = timestamp(moment(1)) },
		"a removed route of no config":  func(s *raftv1.Snapshot) { s.Routes[0].Config = nil },
		"a removed route with a copy":   func(s *raftv1.Snapshot) { s.Routes[1].Removed = true },
	} {
		t.Run(name, func(t *testing.T) {
			snapshot := snapshotOf(t, everything(t))
			if snapshot.GetRoutes()[0].GetName() != "gone" || snapshot.GetReplicas()[2].GetReplica().GetStatus() != ckptferryv1.ReplicaStatus_REPLICA_STATUS_COPYING {
				t.Fatalf("the test's state is another: %v", snapshot)
			}
			change(snapshot)
			b, err := proto.Marshal(snapshot)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := decodeSnapshot(b); !errors.Is(err, ErrDamaged) {
				t.Errorf("decode = %v, want %v", err, ErrDamaged)
			}
		})
	}
}
