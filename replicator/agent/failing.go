package agent

import (
	"fmt"

	"github.com/ckptferry/ckptferry/raftstore"
)

// Failing says of a route how many of its jobs are not copied for an error, with the reason of one; empty when none is.
// Any agent knows, also one that doesn't copy.
func Failing(v raftstore.View, route raftstore.Route) string {
	pulled := pulls(v, route)
	n, first := 0, ""
	for _, job := range v.RouteJobs(route.Name) {
		known := v.JobKnown(route.Name, job)
		if len(known) == 0 || !pulled(job) {
			continue
		}
		newest := known[len(known)-1]
		if r, planned := v.Replica(keyOf(route.Name, newest)); planned && r.Status == raftstore.StatusFailed {
			if n++; n == 1 {
				first = fmt.Sprintf("%s of job %s is not copied: %s", label(newest), job, r.Reason)
			}
		}
	}
	if n > 1 {
		first += fmt.Sprintf("; and the newest of %d more jobs is not either", n-1)
	}
	return first
}
