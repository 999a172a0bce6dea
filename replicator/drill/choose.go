package drill

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// Choose is the replica that a failover of the job would go on from: the newest that may be offered and that is not
// Flink's already. The replicas are the job's, newest first within a route. ErrRefused when there is none, or when they
// are of several routes.
func Choose(job string, replicas []raftstore.Replica) (raftstore.Replica, error) {
	var routes []string
	var chosen raftstore.Replica
	for _, r := range replicas {
		if slices.Contains(routes, r.Key.Route) || !raftstore.Offerable(r) || r.Claimed {
			continue
		}
		if routes = append(routes, r.Key.Route); len(routes) == 1 {
			chosen = r
		}
	}
	switch len(routes) {
	case 0:
		return chosen, fmt.Errorf("%w: job %s has no replica that could be offered (READY, and not at risk or claimed): there is nothing to drill with", replicator.ErrRefused, job)
	case 1:
		return chosen, nil
	}
	return chosen, fmt.Errorf("%w: routes %s have replicas of job %s: say which route is meant", replicator.ErrRefused, strings.Join(routes, " and "), job)
}
