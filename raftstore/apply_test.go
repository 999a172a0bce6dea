package raftstore

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

const testJob = "8fc5c1f5b9d04a1f8d8a1d3a7a1b2c3d"

// moment is the proposers' clock of these tests, in seconds.
func moment(s int64) time.Time { return time.Unix(1_790_000_000+s, 0).UTC() }

func checkpointKey(id int64) *ckptferryv1.CheckpointKey {
	return &ckptferryv1.CheckpointKey{Route: "prod", JobId: testJob, CheckpointId: id, MetadataCrc32C: 0xc0ffee}
}

func fence(epoch, attempt uint64) *raftv1.Fence { return &raftv1.Fence{Epoch: epoch, Attempt: attempt} }

// The commands that the tests write most often, about checkpoint id.
func plan(id int64, f *raftv1.Fence) *raftv1.Command {
	return &raftv1.Command{Op: &raftv1.Command_PlanReplica{PlanReplica: &raftv1.PlanReplica{
		Key: checkpointKey(id), Fence: f, Job: "orders", Uri: "hdfs://dc2/flink/replicas/prod/" + testJob, CompletedTime: timestamppb.New(moment(-60)),
	}}}
}

func startCopy(id int64, f *raftv1.Fence) *raftv1.Command {
	return &raftv1.Command{Op: &raftv1.Command_StartCopy{StartCopy: &raftv1.StartCopy{Key: checkpointKey(id), Fence: f}}}
}

func ready(id int64, f *raftv1.Fence) *raftv1.Command {
	return &raftv1.Command{Op: &raftv1.Command_MarkReady{MarkReady: &raftv1.MarkReady{
		Key: checkpointKey(id), Fence: f, ManifestCrc32C: 7, FileCount: 3, TotalBytes: 4096,
	}}}
}

func supersede(id int64, f *raftv1.Fence) *raftv1.Command {
	return &raftv1.Command{Op: &raftv1.Command_SupersedeReplica{SupersedeReplica: &raftv1.SupersedeReplica{
		Key: checkpointKey(id), Fence: f, Reason: "chk-9 is newer",
	}}}
}

func fail(id int64, f *raftv1.Fence) *raftv1.Command {
	return &raftv1.Command{Op: &raftv1.Command_FailReplica{FailReplica: &raftv1.FailReplica{
		Key: checkpointKey(id), Fence: f, Reason: "write shared/a: no space left",
	}}}
}

func pin(id int64, f *raftv1.Fence, pinned bool) *raftv1.Command {
	return &raftv1.Command{Op: &raftv1.Command_PinReplica{PinReplica: &raftv1.PinReplica{Key: checkpointKey(id), Fence: f, Pinned: pinned}}}
}

func retire(id int64, f *raftv1.Fence) *raftv1.Command {
	return &raftv1.Command{Op: &raftv1.Command_RetireReplica{RetireReplica: &raftv1.RetireReplica{Key: checkpointKey(id), Fence: f}}}
}

func forget(id int64, f *raftv1.Fence) *raftv1.Command {
	return &raftv1.Command{Op: &raftv1.Command_ForgetReplica{ForgetReplica: &raftv1.ForgetReplica{Key: checkpointKey(id), Fence: f}}}
}

func raise(epoch uint64) *raftv1.Command {
	return &raftv1.Command{Op: &raftv1.Command_RaiseEpoch{RaiseEpoch: &raftv1.RaiseEpoch{Route: "prod", Epoch: epoch}}}
}

func at(cmd *raftv1.Command, s int64) *raftv1.Command {
	stamped := proto.CloneOf(cmd)
	stamped.ProposedAt = timestamppb.New(moment(s))
	return stamped
}

// stateAfter applies commands at seconds 0, 1, … and expects each to be accepted.
func stateAfter(t *testing.T, cmds ...*raftv1.Command) State {
	t.Helper()
	s := newState()
	for i, cmd := range cmds {
		if err := s.apply(at(cmd, int64(i))); err != nil {
			t.Fatalf("command %d: %v", i, err)
		}
	}
	return s
}

func bytesOf(t *testing.T, s State) string {
	t.Helper()
	b, err := encodeSnapshot(s, 1)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

type commands []*raftv1.Command

func copied(id int64, f *raftv1.Fence) commands {
	return commands{plan(id, f), startCopy(id, f), ready(id, f)}
}

func (c commands) then(more ...*raftv1.Command) commands { return append(c[:len(c):len(c)], more...) }

func TestReplicaGoesFromPlannedToGone(t *testing.T) {
	f := fence(0, 1)
	s := newState()
	for i, step := range []struct {
		cmd  *raftv1.Command
		want Status
	}{
		{plan(4, f), StatusPlanned},
		{startCopy(4, f), StatusCopying},
		{ready(4, f), StatusReady},
	} {
		if err := s.apply(at(step.cmd, int64(i))); err != nil {
			t.Fatal(err)
		}
		if got := s.Replicas.at(KeyOf(checkpointKey(4))).Status; got != step.want {
			t.Fatalf("after command %d the replica is %s, want %s", i, got, step.want)
		}
	}
	r := s.Replicas.at(KeyOf(checkpointKey(4)))
	if !r.PlannedAt.Equal(moment(0)) || !r.ReadyAt.Equal(moment(2)) || !r.CompletedAt.Equal(moment(-60)) {
		t.Errorf("planned at %s, ready at %s: want the proposers' clocks; completed at %s", r.PlannedAt, r.ReadyAt, r.CompletedAt)
	}
	if r.Files != 3 || r.Bytes != 4096 || r.ManifestCRC != 7 {
		t.Errorf("%d files, %d bytes, manifest %d: want what MarkReady says", r.Files, r.Bytes, r.ManifestCRC)
	}
	s = stateAfter(t, copied(4, f).then(copied(5, f)...).then(retire(4, f), forget(4, f))...)
	if known := s.Replicas.has(KeyOf(checkpointKey(4))); known || s.Replicas.len() != 1 {
		t.Errorf("after forget: %v", s.Replicas)
	}
}

func TestRefusedCommandChangesNothing(t *testing.T) {
	f, next := fence(0, 1), fence(0, 2)
	otherPlan := plan(4, f)
	otherPlan.GetPlanReplica().Uri += "2"
	otherFiles := ready(4, f)
	otherFiles.GetMarkReady().TotalBytes++
	negative := ready(4, f)
	negative.GetMarkReady().FileCount = -1
	oddJobID := plan(4, f)
	oddJobID.GetPlanReplica().Key.JobId = "../8fc5c1f5b9d04a1f8d8a1d3a7a1b2"
	nameless := plan(4, f)
	nameless.GetPlanReplica().Job = ""
	noReason := fail(4, f)
	noReason.GetFailReplica().Reason = ""
	for name, tc := range map[string]struct {
		given commands
		cmd   *raftv1.Command
		want  error
	}{
		"unknown replica":                         {commands{}, startCopy(4, f), ErrUnknownReplica},
		"plan without a job":                      {commands{}, nameless, ErrInvalid},
		"plan without an attempt":                 {commands{}, plan(4, fence(0, 0)), ErrInvalid},
		"plan for an epoch that nobody raised":    {commands{}, plan(4, fence(1, 1)), ErrStale},
		"plan of an old epoch":                    {commands{raise(2)}, plan(4, fence(1, 1)), ErrStale},
		"same attempt with other contents":        {commands{plan(4, f)}, otherPlan, ErrConflict},
		"plan with a job id that is none":         {commands{}, oddJobID, ErrInvalid},
		"ready with fewer than no files":          {commands{plan(4, f), startCopy(4, f)}, negative, ErrInvalid},
		"ready again with other files":            {copied(4, f), otherFiles, ErrConflict},
		"lower attempt":                           {commands{plan(4, next)}, plan(4, f), ErrStale},
		"new attempt at a ready replica":          {copied(4, f), plan(4, next), ErrBadTransition},
		"ready before it was copied":              {commands{plan(4, f)}, ready(4, f), ErrBadTransition},
		"ready by a worker of an earlier attempt": {commands{plan(4, f), startCopy(4, f), plan(4, next), startCopy(4, next)}, ready(4, f), ErrStale},
		"ready by a worker of an earlier epoch":   {commands{plan(4, f), startCopy(4, f), raise(1)}, ready(4, f), ErrStale},
		"ready for what a fenced epoch copied":    {commands{plan(4, f), startCopy(4, f), raise(1)}, ready(4, fence(1, 1)), ErrStale},
		"ready after it was given up":             {commands{plan(4, f), startCopy(4, f), fail(4, f)}, ready(4, f), ErrBadTransition},
		"superseded after it was ready":           {copied(4, f), supersede(4, f), ErrBadTransition},
		"failed for no reason":                    {commands{plan(4, f)}, noReason, ErrInvalid},
		"failed after it was superseded":          {commands{plan(4, f), supersede(4, f)}, fail(4, f), ErrBadTransition},
		"pinned before it is ready":               {commands{plan(4, f)}, pin(4, f, true), ErrBadTransition},
		"last ready replica of the job":           {copied(4, f), retire(4, f), ErrKept},
		"pinned replica":                          {copied(4, f).then(copied(5, f)...).then(pin(4, f, true)), retire(4, f), ErrKept},
		"retired while it is copied":              {commands{plan(4, f), startCopy(4, f)}, retire(4, f), ErrBadTransition},
		"forgotten while it is ready":             {copied(4, f), forget(4, f), ErrBadTransition},
		"forgotten by an old epoch":               {commands{raise(1)}, forget(4, f), ErrStale},
		"epoch without room for promotions":       {commands{}, raise(1<<62 + 1), ErrInvalid},
		"lower epoch":                             {commands{raise(2)}, raise(1), ErrStale},
		"epoch of no route":                       {commands{}, &raftv1.Command{Op: &raftv1.Command_RaiseEpoch{RaiseEpoch: &raftv1.RaiseEpoch{Epoch: 1}}}, ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			s := stateAfter(t, tc.given...)
			before := bytesOf(t, s)
			if err := s.apply(at(tc.cmd, 100)); !errors.Is(err, tc.want) {
				t.Fatalf("apply = %v, want %v", err, tc.want)
			}
			if bytesOf(t, s) != before {
				t.Error("the refused command changed the state")
			}
		})
	}
}

func TestCommandWithoutAClockIsRefused(t *testing.T) {
	for name, when := range map[string]*timestamppb.Timestamp{
		"absent": nil, "out of range": {Nanos: -1}, "the zero time": timestamppb.New(time.Time{}),
	} {
		t.Run(name, func(t *testing.T) {
			cmd := plan(4, fence(0, 1))
			cmd.ProposedAt = when
			s := newState()
			if err := s.apply(cmd); !errors.Is(err, ErrInvalid) || s.Replicas.len() != 0 {
				t.Fatalf("apply = %v, %d replicas; want %v, none", err, s.Replicas.len(), ErrInvalid)
			}
		})
	}
}

func TestProposingTwiceIsProposingOnce(t *testing.T) {
	f := fence(0, 1)
	for name, log := range map[string]commands{
		"raise epoch":           {raise(3)},
		"plan":                  {plan(4, f)},
		"start":                 {plan(4, f), startCopy(4, f)},
		"ready":                 copied(4, f),
		"plan of what is ready": copied(4, f).then(plan(4, f)),
		"supersede":             {plan(4, f), supersede(4, f)},
		"fail":                  {plan(4, f), fail(4, f)},
		"pin":                   copied(4, f).then(pin(4, f, true)),
		"export":                {putExport(exportProd())},
		"route":                 {putRoute(routeProd())},
		"found":                 {putExport(exportProd()), record(checkpoint(4, 0), savepoint(4, 0))},
		"observed":              {putRoute(routeProd()), observe(9, checkpoint(4, 1))},
		"unpin":                 copied(4, f).then(pin(4, f, true), pin(4, f, false)),
		"retire":                copied(4, f).then(copied(5, f)...).then(retire(4, f)),
		"forget":                {plan(4, f), fail(4, f), retire(4, f), forget(4, f)},
		"promote":               twoReady().then(promote(Claim, promoteItem(5, f))),
		"end of a promotion":    twoReady().then(promote(Claim, promoteItem(5, f)), endPromotions("orders")),
		"fence":                 twoReady().then(promote(Claim, promoteItem(5, f)), fenceJobs("dc1", fenced(1, 500))),
		"acknowledge":           twoReady().then(promote(Claim, promoteItem(5, f)), acknowledge(fenced(1, 0))),
		"quarantine":            copied(4, f).then(quarantine(4, f)),
		"drill":                 {drill(4, true, 3)},
		"shares":                {plan(4, f), startCopy(4, f), assign(4, f, "a2")},
		"end of a share":        {plan(4, f), startCopy(4, f), assign(4, f, "a2"), endShard(4, f, "a2", true)},
		"migration":             {putRoute(routeProd()), putMigration("move", MigrationRunning)},
		"end of a migration":    {putRoute(routeProd()), putMigration("move", MigrationRunning), putMigration("move", MigrationDone)},
		"jobs of a migration":   {putRoute(routeProd()), putMigration("move", MigrationRunning), putMigrationJobs("move", migrationJob("orders", 1))},
		"sweep":                 {sweep(true)},
		"end of a sweep":        {sweep(true), sweep(false)},
		"recover":               {recovered(4)},
		"remove export":         {putExport(exportProd()), removeExport("prod")},
		"remove route":          {putRoute(routeProd()), removeRoute("prod")},
	} {
		t.Run(name, func(t *testing.T) {
			s := stateAfter(t, log...)
			once := bytesOf(t, s)
			if err := s.apply(at(log[len(log)-1], 1000)); err != nil {
				t.Fatalf("the second time: %v", err)
			}
			if bytesOf(t, s) != once {
				t.Error("the second time changed the state")
			}
		})
	}
}

func TestGivenUpReplicaIsPlannedAgainWithAHigherAttempt(t *testing.T) {
	f, next := fence(0, 1), fence(0, 2)
	s := stateAfter(t, plan(4, f), fail(4, f), plan(4, next), startCopy(4, next), ready(4, next))
	r := s.Replicas.at(KeyOf(checkpointKey(4)))
	if r.Status != StatusReady || r.Reason != "" || r.Planned != fenceOf(next) {
		t.Errorf("replica = %+v; want READY of attempt 2 without the reason of attempt 1", r)
	}
}

func TestReplicaMayBePlannedAgainForAnotherJobName(t *testing.T) {
	again := plan(4, fence(0, 2))
	again.GetPlanReplica().Job = "orders-v2"
	s := stateAfter(t, plan(4, fence(0, 1)), fail(4, fence(0, 1)), again)
	v := viewOf(s)
	if len(v.JobReplicas("prod", "orders")) != 0 || len(v.JobReplicas("prod", "orders-v2")) != 1 {
		t.Errorf("orders has %v, orders-v2 has %v", v.JobReplicas("prod", "orders"), v.JobReplicas("prod", "orders-v2"))
	}
	if err := s.check(); err != nil {
		t.Error(err)
	}
}

func TestReplicaOfAFencedEpochIsPlannedAgain(t *testing.T) {
	s := stateAfter(t, plan(4, fence(0, 1)), startCopy(4, fence(0, 1)), raise(1),
		plan(4, fence(1, 2)), startCopy(4, fence(1, 2)), ready(4, fence(1, 2)))
	if got := s.Replicas.at(KeyOf(checkpointKey(4))).Status; got != StatusReady {
		t.Errorf("replica is %s, want READY", got)
	}
}

func TestStatusNumbersAreThoseOfThePublicAPI(t *testing.T) {
	for status, name := range statusNames {
		if got := ckptferryv1.ReplicaStatus(status).String(); got != "REPLICA_STATUS_"+name {
			t.Errorf("%s is %s in the public API", name, got)
		}
	}
	if public := len(ckptferryv1.ReplicaStatus_name) - 1; public != len(statusNames) {
		t.Errorf("the public API has %d statuses, the state has %d", public, len(statusNames))
	}
}
