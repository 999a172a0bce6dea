package raftstore

import (
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
	default:
		return errUnknownCommand
	}
}

// raiseEpoch fences out every proposer of an older epoch. Raising to the current epoch is done already.
func (s *State) raiseEpoch(c *raftv1.RaiseEpoch) error {
	switch now := s.Epochs[c.GetRoute()]; {
	case c.GetRoute() == "" || c.GetEpoch() == 0:
		return fmt.Errorf("%w: raise epoch needs a route and an epoch", ErrInvalid)
	case c.GetEpoch() < now:
		return fmt.Errorf("%w: route %s is at epoch %d, not %d", ErrStale, c.GetRoute(), now, c.GetEpoch())
	}
	s.Epochs[c.GetRoute()] = c.GetEpoch()
	return nil
}

// planReplica starts a replica, or a new attempt at one that is in flight or was given up. The same plan again is
// done already, however far the replica has come since.
func (s *State) planReplica(at time.Time, c *raftv1.PlanReplica) error {
	key, fence := keyOf(c.GetKey()), fenceOf(c.GetFence())
	plan := Replica{
		Key: key, Job: c.GetJob(), Status: StatusPlanned, Planned: fence, URI: c.GetUri(), ManifestCRC: c.GetManifestCrc32C(),
		Files: c.GetFileCount(), Bytes: c.GetTotalBytes(), PlannedAt: at,
	}
	switch {
	case key.Route == "" || key.JobID == "" || key.CheckpointID < 0 || fence.Attempt == 0:
		return fmt.Errorf("%w: plan needs a route, a job id, a checkpoint id and an attempt", ErrInvalid)
	case plan.Job == "" || plan.URI == "" || plan.Files < 0 || plan.Bytes < 0:
		return fmt.Errorf("%w: plan of %s needs a job, a place and a size", ErrInvalid, key)
	case fence.Epoch != s.Epochs[key.Route]:
		return s.staleEpoch(key, fence)
	}
	old, known := s.Replicas[key]
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
	s.Replicas[key] = plan
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
	s.Replicas[r.Key] = r
	return nil
}

// markReady publishes a replica. Invariant: the proposer verified every file and renamed _metadata into place before.
func (s *State) markReady(at time.Time, c *raftv1.MarkReady) error {
	r, err := s.underWork(c)
	switch {
	case err != nil:
		return err
	case r.Status == StatusReady:
		return nil // proposed twice: the first proposer lost leadership after the commit
	case r.Status != StatusCopying:
		return badTransition(r, StatusReady)
	}
	r.Status, r.ReadyAt, r.Warnings = StatusReady, at, slices.Clone(c.GetWarnings())
	s.Replicas[r.Key] = r
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
	s.Replicas[r.Key] = r
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
	r.Pinned = c.GetPinned()
	s.Replicas[r.Key] = r
	return nil
}

// retireReplica allows the files to be deleted. A job's last READY replica stays, and so does a pinned one.
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
	case r.Status == StatusReady && !s.otherReady(r):
		return fmt.Errorf("%w: %s is the last READY replica of job %s", ErrKept, r.Key, r.Job)
	}
	r.Status = StatusRetiring
	s.Replicas[r.Key] = r
	return nil
}

// forgetReplica drops a retired replica. One that is gone already is done already.
func (s *State) forgetReplica(c *raftv1.ForgetReplica) error {
	if key, fence := keyOf(c.GetKey()), fenceOf(c.GetFence()); fence.Epoch == s.Epochs[key.Route] {
		if _, known := s.Replicas[key]; !known {
			return nil
		}
	}
	r, err := s.spokenOf(c)
	switch {
	case err != nil:
		return err
	case r.Status != StatusRetiring:
		return fmt.Errorf("%w: %s is %s, only a RETIRING replica is forgotten", ErrBadTransition, r.Key, r.Status)
	}
	delete(s.Replicas, r.Key)
	return nil
}

// replicaCommand is what all commands about one replica have.
type replicaCommand interface {
	GetKey() *ckptferryv1.CheckpointKey
	GetFence() *raftv1.Fence
}

// spokenOf finds the replica of a command and checks that the command speaks for the current epoch and attempt.
func (s *State) spokenOf(c replicaCommand) (Replica, error) {
	key, fence := keyOf(c.GetKey()), fenceOf(c.GetFence())
	r, known := s.Replicas[key]
	switch {
	case fence.Epoch != s.Epochs[key.Route]:
		return Replica{}, s.staleEpoch(key, fence)
	case !known:
		return Replica{}, fmt.Errorf("%w: %s", ErrUnknownReplica, key)
	case fence.Attempt != r.Planned.Attempt:
		return Replica{}, fmt.Errorf("%w: replica %s is at attempt %d, not %d", ErrStale, key, r.Planned.Attempt, fence.Attempt)
	}
	return r, nil
}

// underWork is spokenOf for a step of the work itself, which must have been planned in the current epoch: what a
// fenced-out group may have written meanwhile must not become READY without a new plan.
func (s *State) underWork(c replicaCommand) (Replica, error) {
	r, err := s.spokenOf(c)
	if err == nil && r.Planned.Epoch != s.Epochs[r.Key.Route] {
		err = fmt.Errorf("%w: replica %s was planned in epoch %d; plan it again with a higher attempt", ErrStale, r.Key, r.Planned.Epoch)
	}
	return r, err
}

func (s *State) staleEpoch(key Key, fence Fence) error {
	return fmt.Errorf("%w: route %s is at epoch %d, not %d", ErrStale, key.Route, s.Epochs[key.Route], fence.Epoch)
}

func badTransition(r Replica, to Status) error {
	return fmt.Errorf("%w: %s is %s and can't become %s", ErrBadTransition, r.Key, r.Status, to)
}

// samePlan compares what a plan says, not when it was proposed.
func samePlan(a, b Replica) bool {
	return a.Planned == b.Planned && a.Job == b.Job && a.URI == b.URI && a.ManifestCRC == b.ManifestCRC &&
		a.Files == b.Files && a.Bytes == b.Bytes
}

func keyOf(k *ckptferryv1.CheckpointKey) Key {
	return Key{Route: k.GetRoute(), JobID: JobID(k.GetJobId()), CheckpointID: k.GetCheckpointId(), MetadataCRC: k.GetMetadataCrc32C()}
}

func fenceOf(f *raftv1.Fence) Fence { return Fence{Epoch: f.GetEpoch(), Attempt: f.GetAttempt()} }
