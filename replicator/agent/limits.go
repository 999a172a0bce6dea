package agent

import (
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// throttle has the routes' limits follow the state, so that copies under way do too.
func (a *Agent) throttle(view raftstore.View) {
	for _, r := range view.Routes() {
		a.limitOf(r.Name).Set(r.BytesPerSecond)
	}
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
