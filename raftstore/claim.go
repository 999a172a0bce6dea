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

// recoverClaims is for replicas that were recovered: nobody knows what Flink deleted since the claim, so all others of the job
// are at risk, but the one that the job goes on from now.
func (s *State) recoverClaims(route, job string) {
	all := make([]Replica, 0, 8)
	claims := map[Key]bool{}
	for r := range s.ofJob(route, job) {
		all = append(all, r)
		if r.Claimed {
			claims[r.Key] = true
		}
	}
	p, active := s.activePromotion(route, job)
	for _, r := range all {
		others := len(claims)
		if claims[r.Key] {
			others--
		}
		if others > 0 && r.Status == StatusReady && !r.Claimed && !r.AtRisk && !(active && p.Key == r.Key) {
			r.AtRisk = true
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
