package agent

import (
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// throttle has the limits follow the state, so that copies under way do too. The bounds are the group's: each agent that
// has copies under way, of the route or at all, takes an equal part.
func (a *Agent) throttle(view raftstore.View) {
	any, of := map[string]bool{}, map[string]map[string]bool{}
	for r := range view.InFlight() {
		if of[r.Key.Route] == nil {
			of[r.Key.Route] = map[string]bool{}
		}
		for _, agent := range copiers(r) {
			any[agent], of[r.Key.Route][agent] = true, true
		}
	}
	for _, r := range view.Routes() {
		a.limitOf(r.Name).Set(partOf(r.BytesPerSecond, len(of[r.Name])))
	}
	a.link.Set(partOf(a.tuned.Load().LinkBytesPerSecond, len(any)))
}

// copiers are the agents that copy for a replica in flight.
func copiers(r raftstore.Replica) []string {
	agents := []string{r.Agent}
	for _, s := range r.Shards {
		if !s.Done && !s.Lost {
			agents = append(agents, s.Agent)
		}
	}
	return agents
}

// partOf is one of n equal parts of a rate; none of no bound.
func partOf(bytesPerSecond int64, n int) int64 {
	if bytesPerSecond <= 0 {
		return 0
	}
	return max(1, bytesPerSecond/int64(max(1, n)))
}

// limitOf is the limit that all copies of a route share.
func (a *Agent) limitOf(route string) *replicator.Limit {
	a.mu.Lock()
	defer a.mu.Unlock()
	limit := a.limits[route]
	if limit == nil {
		limit = replicator.NewLimit(0)
		a.limits[route] = limit
	}
	return limit
}

// limitsOf are the limits that a copy of a route keeps to.
func (a *Agent) limitsOf(route string) []*replicator.Limit {
	return []*replicator.Limit{a.limitOf(route), a.link}
}
