package raftstore

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// apply changes the state as a command says, or refuses it with one of the sentinels and changes nothing. It depends
// on nothing but the state and the command. errUnknownCommand is not a refusal: the caller must stop.
func (s *State) apply(cmd *raftv1.Command) error {
	at := cmd.GetProposedAt().AsTime()
	if cmd.GetOp() != nil && (!cmd.GetProposedAt().IsValid() || at.IsZero()) {
		return fmt.Errorf("%w: proposed_at is missing or out of range", ErrInvalid)
	}
	switch op := cmd.GetOp().(type) {
	case *raftv1.Command_RaiseEpoch:
		return s.raiseEpoch(op.RaiseEpoch)
	case *raftv1.Command_PlanReplica:
		return s.planReplica(at, op.PlanReplica)
	case *raftv1.Command_StartCopy:
		return s.startCopy(op.StartCopy)
	case *raftv1.Command_MarkReady:
		return s.markReady(at, op.MarkReady)
	case *raftv1.Command_SupersedeReplica:
		return s.giveUp(op.SupersedeReplica, StatusSuperseded)
	case *raftv1.Command_FailReplica:
		return s.giveUp(op.FailReplica, StatusFailed)
	case *raftv1.Command_PinReplica:
		return s.pinReplica(op.PinReplica)
	case *raftv1.Command_RetireReplica:
		return s.retireReplica(op.RetireReplica)
	case *raftv1.Command_ForgetReplica:
		return s.forgetReplica(op.ForgetReplica)
	case *raftv1.Command_PutExport:
		return s.putExport(op.PutExport)
	case *raftv1.Command_PutRoute:
		return s.putRoute(op.PutRoute)
	case *raftv1.Command_RecordFound:
		return s.recordFound(at, op.RecordFound)
	case *raftv1.Command_ObserveSource:
		return s.observeSource(op.ObserveSource)
	case *raftv1.Command_RemoveExport:
		return s.removeExport(op.RemoveExport)
	case *raftv1.Command_RemoveRoute:
		return s.removeRoute(op.RemoveRoute)
	case *raftv1.Command_AssignShards:
		return s.assignShards(op.AssignShards)
	case *raftv1.Command_EndShard:
		return s.endShard(op.EndShard)
	default:
		return s.applyLater(at, cmd)
	}
}

// applyLater is apply for what is done once a replica is READY.
func (s *State) applyLater(at time.Time, cmd *raftv1.Command) error {
	switch op := cmd.GetOp().(type) {
	case *raftv1.Command_QuarantineReplica:
		return s.quarantineReplica(op.QuarantineReplica)
	case *raftv1.Command_RecordScrub:
		return s.recordScrub(at, op.RecordScrub)
	case *raftv1.Command_RecordDrill:
		return s.recordDrill(op.RecordDrill)
	case *raftv1.Command_PromoteJobs:
		return s.promoteJobs(at, op.PromoteJobs)
	case *raftv1.Command_EndPromotions:
		return s.endPromotions(at, op.EndPromotions)
	case *raftv1.Command_FenceJobs:
		return s.fenceJobs(at, op.FenceJobs)
	case *raftv1.Command_AcknowledgeFences:
		return s.acknowledgeFences(at, op.AcknowledgeFences)
	case *raftv1.Command_PutMigration:
		return s.putMigration(at, op.PutMigration)
	case *raftv1.Command_PutMigrationJobs:
		return s.putMigrationJobs(op.PutMigrationJobs)
	case *raftv1.Command_BeginSweep:
		return s.beginSweep(op.BeginSweep)
	case *raftv1.Command_EndSweep:
		return s.endSweep(op.EndSweep)
	case *raftv1.Command_RecoverReplicas:
		return s.recoverReplicas(at, op.RecoverReplicas)
	case *raftv1.Command_RecordAudit:
		return s.recordAudit(at, op.RecordAudit)
	default:
		return errUnknownCommand
	}
}

// maxEpoch leaves room for the promotions that a job's epoch counts beside it.
const maxEpoch = 1 << 62

// raiseEpoch fences out every proposer of an older epoch. Raising to the current epoch is done already. What the source
// is told of the route's promotions is of the new epoch then, or it would be passed over there as older than what it knows.
func (s *State) raiseEpoch(c *raftv1.RaiseEpoch) error {
	switch now := s.Epochs.at(c.GetRoute()); {
	case c.GetRoute() == "" || c.GetEpoch() == 0:
		return fmt.Errorf("%w: raise epoch needs a route and an epoch", ErrInvalid)
	case c.GetEpoch() > maxEpoch:
		return fmt.Errorf("%w: epoch %d of route %s is higher than any that is counted to", ErrInvalid, c.GetEpoch(), c.GetRoute())
	case c.GetEpoch() < now:
		return fmt.Errorf("%w: route %s is at epoch %d, not %d", ErrStale, c.GetRoute(), now, c.GetEpoch())
	case c.GetEpoch() == now:
		return nil
	}
	s.Epochs = s.Epochs.with(c.GetRoute(), c.GetEpoch())
	s.liftPromotions(c.GetRoute())
	return nil
}

// planReplica starts a replica, or a new attempt at one that is in flight or was given up. The same plan again is
// done already, however far the replica has come since.
func (s *State) planReplica(at time.Time, c *raftv1.PlanReplica) error {
	key, fence := KeyOf(c.GetKey()), fenceOf(c.GetFence())
	plan := Replica{
		Key: key, Job: c.GetJob(), Status: StatusPlanned, Planned: fence, URI: c.GetUri(), PlannedAt: at,
		CompletedAt: instant(c.GetCompletedTime()), Agent: c.GetAgent(),
		Savepoint: c.GetKind() == ckptferryv1.CheckpointKind_CHECKPOINT_KIND_SAVEPOINT, SavepointName: c.GetSavepointName(),
	}
	switch {
	case !key.whole() || fence.Attempt == 0:
		return fmt.Errorf("%w: plan needs a route, a job id of 32 hexadecimal digits (or none), a checkpoint id and an attempt", ErrInvalid)
	case plan.Job == "" || plan.URI == "" || !storable(plan.CompletedAt):
		return fmt.Errorf("%w: plan of %s needs a job, a place and a completed time that can be", ErrInvalid, key)
	case plan.Agent != "" && !validAgent(plan.Agent):
		return fmt.Errorf("%w: plan of %s by an agent whose id %.100q cannot be", ErrInvalid, key, plan.Agent)
	case plan.SavepointName != "" && (!plan.Savepoint || !validJob(plan.SavepointName)):
		return fmt.Errorf("%w: plan of %s: %.200q is not the name of a savepoint's directory, or it is none", ErrInvalid, key, plan.SavepointName)
	case s.Removed.has(key.Route):
		return fmt.Errorf("%w: %s was removed, nothing is planned for it", ErrUnknownRoute, key.Route)
	case fence.Epoch != s.jobEpoch(key.Route, plan.Job):
		return s.staleEpoch(key.Route, plan.Job, fence)
	}
	if _, promoted := s.activePromotion(key.Route, plan.Job); promoted {
		return fmt.Errorf("%w: job %s of route %s goes on here; nothing is planned for it", ErrPromoted, plan.Job, key.Route)
	}
	old, known := s.Replicas.get(key)
	switch {
	case !known:
	case fence.Attempt < old.Planned.Attempt:
		return fmt.Errorf("%w: replica %s is at attempt %d, not %d", ErrStale, key, old.Planned.Attempt, fence.Attempt)
	case fence.Attempt == old.Planned.Attempt && !samePlan(old, plan):
		return fmt.Errorf("%w: replica %s, attempt %d of epoch %d", ErrConflict, key, old.Planned.Attempt, old.Planned.Epoch)
	case fence.Attempt == old.Planned.Attempt:
		return nil
	case old.Status == StatusReady || old.Status == StatusRetiring:
		return badTransition(old, StatusPlanned)
	}
	s.put(plan)
	return nil
}

// startCopy says that the attempt writes from now on.
func (s *State) startCopy(c *raftv1.StartCopy) error {
	r, err := s.underWork(c)
	switch {
	case err != nil:
		return err
	case r.Status == StatusCopying:
		return nil
	case r.Status != StatusPlanned:
		return badTransition(r, StatusCopying)
	}
	r.Status = StatusCopying
	s.put(r)
	return nil
}

// markReady publishes a replica. Invariant: the proposer verified every file and renamed _metadata into place before.
func (s *State) markReady(at time.Time, c *raftv1.MarkReady) error {
	r, err := s.underWork(c)
	switch {
	case err != nil:
		return err
	case c.GetFileCount() < 0 || c.GetTotalBytes() < 0:
		return fmt.Errorf("%w: %s has %d files of %d bytes", ErrInvalid, r.Key, c.GetFileCount(), c.GetTotalBytes())
	case r.Status == StatusReady && !sameReady(r, c):
		return fmt.Errorf("%w: %s is READY already, with other files", ErrConflict, r.Key)
	case r.Status == StatusReady:
		return nil // proposed twice: the first proposer lost leadership after the commit
	case r.Status != StatusCopying:
		return badTransition(r, StatusReady)
	case s.Sweeps.has(r.Key.Route): // files that it was to share may be moved away at this moment
		return fmt.Errorf("%w: %s can't become READY now; look again that all its files are there, and propose it again", ErrSweeping, r.Key)
	}
	r.Status, r.ReadyAt, r.Warnings = StatusReady, at, slices.Clone(c.GetWarnings())
	r.ManifestCRC, r.Files, r.Bytes, r.URI = c.GetManifestCrc32C(), c.GetFileCount(), c.GetTotalBytes(), cmp.Or(c.GetUri(), r.URI)
	r.Facts = FactsOf(c.GetFacts())
	r.AtRisk = c.GetAtRisk() // with a warning that says why
	if claimed, ok := s.claimedBeside(r); ok && !r.AtRisk {
		r.AtRisk, r.Warnings = true, append(r.Warnings, atRiskBeside(claimed))
	}
	s.put(r)
	return nil
}

// giveUp ends an attempt without a replica. An attempt of an older epoch may be given up too: nobody works on it.
func (s *State) giveUp(c interface {
	replicaCommand
	GetReason() string
}, as Status) error {
	r, err := s.spokenOf(c)
	switch {
	case err != nil:
		return err
	case c.GetReason() == "":
		return fmt.Errorf("%w: %s of %s needs a reason", ErrInvalid, as, r.Key)
	case r.Status == as:
		return nil
	case !r.inFlight():
		return badTransition(r, as)
	}
	r.Status, r.Reason = as, c.GetReason()
	if f, failed := c.(*raftv1.FailReplica); failed {
		r.FailureClass, r.CheckpointAtFault, r.TargetAtFault = f.GetClass(), f.GetCheckpointAtFault(), f.GetTargetAtFault()
	}
	s.put(r)
	return nil
}

// pinReplica keeps a READY replica from being retired, or lets it go.
func (s *State) pinReplica(c *raftv1.PinReplica) error {
	r, err := s.spokenOf(c)
	switch {
	case err != nil:
		return err
	case r.Status != StatusReady:
		return fmt.Errorf("%w: %s is %s, only a READY replica is pinned or unpinned", ErrBadTransition, r.Key, r.Status)
	}
	if p, active := s.activePromotion(r.Key.Route, r.Job); active && p.Key == r.Key && !c.GetPinned() {
		return fmt.Errorf("%w: job %s goes on from %s, which stays pinned until the promotion ends", ErrPromoted, r.Job, r.Key)
	}
	r.Pinned, r.pinnedByPromotion = c.GetPinned(), false
	s.put(r)
	return nil
}

// retireReplica allows the files to be deleted. A job's last READY replica stays, and so does one that is
// pinned, or was promoted.
func (s *State) retireReplica(c *raftv1.RetireReplica) error {
	r, err := s.spokenOf(c)
	switch {
	case err != nil:
		return err
	case r.Status == StatusRetiring:
		return nil
	case r.inFlight():
		return badTransition(r, StatusRetiring)
	case r.Pinned:
		return fmt.Errorf("%w: %s is pinned", ErrKept, r.Key)
	case r.Promoted || r.Claimed:
		return fmt.Errorf("%w: a job goes on from %s, or did", ErrKept, r.Key)
	case r.Status == StatusReady && !s.otherOfferable(r):
		return fmt.Errorf("%w: %s is the last READY replica of job %s that can be offered", ErrKept, r.Key, r.Job)
	}
	r.Status = StatusRetiring
	s.put(r)
	return nil
}

// forgetReplica drops a retired replica. One that is gone already is done already.
func (s *State) forgetReplica(c *raftv1.ForgetReplica) error {
	if key, fence := KeyOf(c.GetKey()), fenceOf(c.GetFence()); !s.Replicas.has(key) && fence.Epoch >= s.Epochs.at(key.Route) {
		return nil
	}
	r, err := s.spokenOf(c)
	switch {
	case err != nil:
		return err
	case r.Status != StatusRetiring:
		return fmt.Errorf("%w: %s is %s, only a RETIRING replica is forgotten", ErrBadTransition, r.Key, r.Status)
	}
	s.drop(r)
	return nil
}

// replicaCommand is what all commands about one replica have.
type replicaCommand interface {
	GetKey() *ckptferryv1.CheckpointKey
	GetFence() *raftv1.Fence
}

// spokenOf finds the replica of a command and checks that the command speaks for the current epoch and attempt.
func (s *State) spokenOf(c replicaCommand) (Replica, error) {
	key, fence := KeyOf(c.GetKey()), fenceOf(c.GetFence())
	r, known := s.Replicas.get(key)
	switch {
	case !known && fence.Epoch < s.Epochs.at(key.Route): // of a replica that isn't there, the job isn't known either
		return Replica{}, fmt.Errorf("%w: route %s is at epoch %d, not %d", ErrStale, key.Route, s.Epochs.at(key.Route), fence.Epoch)
	case !known:
		return Replica{}, fmt.Errorf("%w: %s", ErrUnknownReplica, key)
	case fence.Epoch != s.jobEpoch(key.Route, r.Job):
		return Replica{}, s.staleEpoch(key.Route, r.Job, fence)
	case fence.Attempt != r.Planned.Attempt:
		return Replica{}, fmt.Errorf("%w: replica %s is at attempt %d, not %d", ErrStale, key, r.Planned.Attempt, fence.Attempt)
	}
	return r, nil
}

// underWork is spokenOf for a step of the work itself, which must have been planned in the current epoch: what a
// fenced-out group may have written meanwhile must not become READY without a new plan.
func (s *State) underWork(c replicaCommand) (Replica, error) {
	r, err := s.spokenOf(c)
	if err == nil && r.Planned.Epoch != s.jobEpoch(r.Key.Route, r.Job) {
		err = fmt.Errorf("%w: replica %s was planned in epoch %d; plan it again with a higher attempt", ErrStale, r.Key, r.Planned.Epoch)
	}
	return r, err
}

func (s *State) staleEpoch(route, job string, fence Fence) error {
	return fmt.Errorf("%w: job %s of route %s is at epoch %d, not %d", ErrStale, job, route, s.jobEpoch(route, job), fence.Epoch)
}

func badTransition(r Replica, to Status) error {
	return fmt.Errorf("%w: %s is %s and can't become %s", ErrBadTransition, r.Key, r.Status, to)
}

// samePlan compares what a plan says, not when it was proposed. A replica that is READY may lie elsewhere since.
func samePlan(old, plan Replica) bool {
	return old.Planned == plan.Planned && old.Job == plan.Job && old.CompletedAt.Equal(plan.CompletedAt) &&
		old.Agent == plan.Agent && old.Savepoint == plan.Savepoint && old.SavepointName == plan.SavepointName &&
		(old.URI == plan.URI || !old.ReadyAt.IsZero())
}

// sameReady compares what makes up a replica.
func sameReady(r Replica, c *raftv1.MarkReady) bool {
	return r.ManifestCRC == c.GetManifestCrc32C() && r.Files == c.GetFileCount() && r.Bytes == c.GetTotalBytes() &&
		(c.GetUri() == "" || c.GetUri() == r.URI)
}
