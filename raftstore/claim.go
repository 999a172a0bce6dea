package raftstore

import "fmt"

// A claimed replica is Flink's for ever, also after its promotion has ended: the job that was started from it deletes shared
// files as it goes on. Nothing that may need such files is offered.

// sharesFiles says whether two replicas of one route may need the same files: those of one JobID lie below one shared/.
// Each savepoint without a JobID has a directory of its own.
func sharesFiles(a, b Replica) bool {
	return a.Key.JobID == b.Key.JobID && (a.Key.JobID != "" || !a.Savepoint && !b.Savepoint)
}

// claimedBeside finds a claimed replica that shares files with r.
func (s State) claimedBeside(r Replica) (Replica, bool) {
	for other := range s.ofJob(r.Key.Route, r.Job) {
		if other.Key != r.Key && other.Claimed && sharesFiles(other, r) {
			return other, true
		}
	}
	return Replica{}, false
}

// atRiskBeside says why a replica is AT_RISK from its first moment on, and what helps.
func atRiskBeside(claimed Replica) string {
	return fmt.Sprintf("AT_RISK, never offered: chk-%d of the same JobID was promoted with CLAIM, and Flink may delete shared files of it that this "+
		"one needs, now or later. A restart of the job at the source gives it a new JobID and replicas that are not at risk (unless its JobID is fixed); "+
		"so does a route with another root", claimed.Key.CheckpointID)
}

// recoverClaims is for replicas that were recovered, and are on record now. Nobody has looked after them since: they are at
// risk where anything of the job is Flink's. One that is Flink's itself endangers all that share files with it, but that
// which the job goes on from now.
func (s *State) recoverClaims(lost []Replica) {
	for _, r := range lost {
		p, active := s.activePromotion(r.Key.Route, r.Job)
		var risk []Replica
		for other := range s.ofJob(r.Key.Route, r.Job) {
			switch {
			case other.Key == r.Key:
			case other.Claimed && !r.Claimed && !r.AtRisk:
				r.AtRisk = true
				risk = append(risk, r)
			case r.Claimed && sharesFiles(r, other) && Offerable(other) && !other.Claimed && (!active || p.Key != other.Key):
				other.AtRisk = true
				risk = append(risk, other)
			}
		}
		for _, r := range risk {
			s.put(r)
		}
	}
}

// checkClaims returns what no sequence of commands can lead to: a replica that could be offered, and shares files with one
// that is Flink's.
func (s State) checkClaims() error {
	type family struct {
		route, job string
		id         JobID
	}
	of := func(r Replica) family { return family{r.Key.Route, r.Job, r.Key.JobID} }
	claims := map[family][]Replica{}
	for _, r := range s.Replicas.all() {
		if r.Claimed {
			claims[of(r)] = append(claims[of(r)], r)
		}
	}
	if len(claims) == 0 {
		return nil
	}
	for key, r := range s.Replicas.all() {
		if !Offerable(r) || r.Promoted { // one that a job went on from may have been recovered beside a claimed one
			continue
		}
		for _, claimed := range claims[of(r)] {
			if sharesFiles(claimed, r) {
				return fmt.Errorf("replica %s can be offered, and Flink may delete its files: it claimed %s", key, claimed.Key)
			}
		}
	}
	return nil
}
