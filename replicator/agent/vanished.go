package agent

import (
	"maps"
	"slices"
	"time"

	"github.com/ckptferry/ckptferry/raftstore"
)

// goneMost bounds how many jobs that vanished are told.
const goneMost = 1000

// GoneJob is a job that vanished at its source: its directory, or all that it had in it. A job that FINISHED deletes its
// checkpoints. Its replicas stay.
type GoneJob struct {
	Job   string
	Since time.Time // when this leader heard of it first
}

// gone are the known jobs of which the poll saw nothing, by name. None when it could not look everywhere.
func (p poll) gone(known []string) []string {
	if p.present == nil {
		return nil
	}
	gone := slices.DeleteFunc(slices.Clone(known), func(job string) bool { return p.present[job] })
	slices.Sort(gone)
	return gone[:min(len(gone), goneMost)]
}

// Gone are known jobs of an export of which its storage had nothing any more when Polled says that it was looked at.
// None when this agent doesn't lead its group.
func (a *Agent) Gone(export string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.polls[export].gone
}

// vanished notes which of a route's jobs the source has nothing of any more.
func (a *Agent) vanished(route raftstore.Route, jobs []string, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.pulls[route.Name]
	gone := map[string]time.Time{}
	for _, job := range jobs[:min(len(jobs), goneMost)] {
		if !takes(route, job) {
			continue
		}
		since, before := s.gone[job]
		if !before {
			since = now
		}
		gone[job] = since
	}
	s.gone = gone
	a.pulls[route.Name] = s
}

func (s pullStatus) goneJobs() []GoneJob {
	var all []GoneJob
	for _, job := range slices.Sorted(maps.Keys(s.gone)) {
		all = append(all, GoneJob{job, s.gone[job]})
	}
	return all
}
