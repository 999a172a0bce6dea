package raftstore

import (
	"cmp"
	"fmt"
	"time"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
)

// MaxRecover is how many replicas one command recovers.
const MaxRecover = 100

// auditTwice is among how many of the newest audit records one is looked for that comes again.
const auditTwice = 100

// quarantineReplica takes a replica out of use. Even the last READY one of its job: a replica that looks whole and isn't
// is worse than none. Nobody waits for a pin on it, so the pin goes. Quarantined already is done already.
func (s *State) quarantineReplica(c *raftv1.QuarantineReplica) error {
	r, err := s.spokenOf(c)
	switch {
	case err != nil:
		return err
	case c.GetReason() == "":
		return fmt.Errorf("%w: quarantine of %s needs a reason", ErrInvalid, r.Key)
	case r.Status == StatusQuarantined:
		return nil
	case r.Promoted || r.Claimed:
		return fmt.Errorf("%w: a job goes on from %s, or did: it is not ours to take out of use", ErrPromoted, r.Key)
	case r.Status != StatusReady:
		return badTransition(r, StatusQuarantined)
	}
	if err := validWords(c.GetReason()); err != nil {
		return fmt.Errorf("quarantine of %s: %w", r.Key, err)
	}
	r.Status, r.Reason, r.Pinned = StatusQuarantined, c.GetReason(), false
	s.put(r)
	return nil
}

// recordScrub notes that every byte of a READY replica was read. Its time never goes back.
func (s *State) recordScrub(at time.Time, c *raftv1.RecordScrub) error {
	r, err := s.spokenOf(c)
	switch {
	case err != nil:
		return err
	case r.Status != StatusReady:
		return fmt.Errorf("%w: %s is %s, only a READY replica is scrubbed", ErrBadTransition, r.Key, r.Status)
	case at.After(r.ScrubbedAt):
		r.ScrubbedAt = at
		s.put(r)
	}
	return nil
}

// recordDrill keeps a job's newest drill and its newest that passed, by when they began.
func (s *State) recordDrill(c *raftv1.RecordDrill) error {
	d := DrillOf(c.GetDrill())
	if err := d.valid(); err != nil {
		return err
	}
	name := jobName{d.Key.Route, d.Job}
	kept := s.Drills.at(name)
	if kept.Newest.Level == 0 || !d.StartedAt.Before(kept.Newest.StartedAt) {
		kept.Newest = d
	}
	if d.Passed && (kept.Passed.Level == 0 || !d.StartedAt.Before(kept.Passed.StartedAt)) {
		kept.Passed = d
	}
	s.Drills = s.Drills.with(name, kept)
	return nil
}

func (d Drill) valid() error {
	switch {
	case !d.Key.whole() || !validJob(d.Job):
		return fmt.Errorf("%w: a drill needs a replica and a job", ErrInvalid)
	case d.Level < 1 || d.Level > 3 || d.StartedAt.IsZero() || !storable(d.StartedAt) || d.RPO < 0 || d.RTO < 0:
		return fmt.Errorf("%w: drill of job %s: its level %d, beginning or durations cannot be", ErrInvalid, d.Job, d.Level)
	case !d.Passed && d.Detail == "":
		return fmt.Errorf("%w: drill of job %s failed for no reason", ErrInvalid, d.Job)
	}
	if err := validWords(d.Actor, d.FlinkVersion, d.Detail); err != nil {
		return fmt.Errorf("drill of job %s: %w", d.Job, err)
	}
	return nil
}

// beginSweep keeps the route's replicas from becoming READY until endSweep. Begun twice is begun once.
func (s *State) beginSweep(c *raftv1.BeginSweep) error {
	if c.GetRoute() == "" || len(c.GetRoute()) > maxJobBytes || !printable(c.GetRoute()) {
		return fmt.Errorf("%w: a sweep needs a route", ErrInvalid)
	}
	s.Sweeps = s.Sweeps.with(c.GetRoute(), struct{}{})
	return nil
}

// endSweep ends a sweep. Ended twice is ended once.
func (s *State) endSweep(c *raftv1.EndSweep) error {
	if c.GetRoute() == "" {
		return fmt.Errorf("%w: a sweep needs a route", ErrInvalid)
	}
	s.Sweeps = s.Sweeps.without(c.GetRoute())
	return nil
}

// recoverReplicas puts READY replicas on record that only the storage knows. What is on record is passed over: the state
// knows better than a manifest how far a replica is. It is planned under the job's epoch now, so that it obeys commands.
func (s *State) recoverReplicas(at time.Time, c *raftv1.RecoverReplicas) error {
	if len(c.GetReplicas()) == 0 || len(c.GetReplicas()) > MaxRecover {
		return fmt.Errorf("%w: 1 to %d replicas are recovered at once, not %d", ErrInvalid, MaxRecover, len(c.GetReplicas()))
	}
	named := map[Key]bool{}
	var lost []Replica
	for _, m := range c.GetReplicas() {
		r := ReplicaOf(m)
		r.Planned = Fence{Epoch: s.jobEpoch(r.Key.Route, r.Job), Attempt: 1}
		r.Shards, r.FailureClass, r.Reason = nil, "", "" // of the way to READY, which is over
		r.PlannedAt, r.ReadyAt = cmp.Or(r.PlannedAt, at), cmp.Or(r.ReadyAt, at)
		switch {
		case r.Status != StatusReady || named[r.Key]:
			return fmt.Errorf("%w: %s is %s, or named twice: only READY replicas are recovered, each once", ErrInvalid, r.Key, r.Status)
		case !storable(r.PlannedAt) || !storable(r.ReadyAt) || !storable(r.CompletedAt) || !storable(r.ScrubbedAt):
			return fmt.Errorf("%w: %s has a time that cannot be", ErrInvalid, r.Key)
		}
		if err := r.check(); err != nil {
			return fmt.Errorf("%w: %v", ErrInvalid, err)
		}
		named[r.Key] = true
		if !s.Replicas.has(r.Key) {
			lost = append(lost, r)
		}
	}
	for _, r := range lost {
		if s.Sweeps.has(r.Key.Route) {
			return fmt.Errorf("%w: %s of route %s can't be recovered now", ErrSweeping, r.Key, r.Key.Route)
		}
	}
	for _, r := range lost {
		s.put(r)
	}
	s.recoverClaims(lost) // only now: a claimed one may come after those that it endangers
	return nil
}

// recordAudit appends to the record of who did what. A record that is there already, with its time, is done already.
func (s *State) recordAudit(at time.Time, c *raftv1.RecordAudit) error {
	r := AuditOf(c.GetRecord())
	r.Time, r.Seq = at, 0
	if r.Actor == "" || r.Action == "" {
		return fmt.Errorf("%w: an audit record needs an actor and an action", ErrInvalid)
	}
	if err := validWords(r.Actor, r.Action, r.Route, r.Job, r.Detail); err != nil {
		return fmt.Errorf("audit record: %w", err)
	}
	for _, known := range s.AuditRecords.from(s.lastAudit() - min(s.lastAudit(), auditTwice)) {
		known.Seq = 0
		if known == r {
			return nil
		}
	}
	s.audit(r)
	return nil
}

// checkRecords returns what no sequence of commands can lead to, of drills, sweeps and the audit.
func (s State) checkRecords() error {
	for name, d := range s.Drills.all() {
		if err := d.Newest.valid(); err != nil {
			return err
		}
		for _, its := range []Drill{d.Newest, d.Passed} {
			if its.Level > 0 && name != (jobName{its.Key.Route, its.Job}) {
				return fmt.Errorf("drill of job %s of route %s is filed under job %s of %s", its.Job, its.Key.Route, name.Job, name.Route)
			}
		}
		if d.Passed.Level > 0 && (!d.Passed.Passed || d.Passed.StartedAt.After(d.Newest.StartedAt)) {
			return fmt.Errorf("job %s of route %s has a drill that passed after its newest, or did not", name.Job, name.Route)
		}
	}
	for route := range s.Sweeps.all() {
		if route == "" {
			return fmt.Errorf("a route without a name is being swept")
		}
	}
	if s.AuditRecords.len() > KeepAudit {
		return fmt.Errorf("%d audit records are kept", s.AuditRecords.len())
	}
	next := s.lastAudit() - uint64(s.AuditRecords.len()) + 1
	for seq, r := range s.AuditRecords.all() {
		if seq != next || r.Seq != seq || r.Time.IsZero() || r.Actor == "" || r.Action == "" {
			return fmt.Errorf("audit record %d is filed under %d where %d comes, or lacks its time, actor or action", r.Seq, seq, next)
		}
		next++
	}
	return nil
}
