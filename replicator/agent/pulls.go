package agent

import "github.com/ckptferry/ckptferry/raftstore"

// pulls says which jobs of a route are copied as things are: none of a paused one, and of one on demand those that a
// migration has begun to move and has not moved yet. A migration that is paused stops no job, but its copies go on.
func pulls(view raftstore.View, route raftstore.Route) func(job string) bool {
	switch route.Mode {
	case raftstore.RouteContinuous:
		return func(job string) bool { return takes(route, job) }
	case raftstore.RouteOnDemand:
		moved := map[string]bool{}
		for _, m := range view.Migrations() {
			if m.Route != route.Name || m.State == raftstore.MigrationDone {
				continue
			}
			for _, j := range view.MigrationJobs(m.Name) {
				switch j.State {
				case raftstore.MigrationJobWarming:
					moved[j.Job] = moved[j.Job] || !m.State.Ended()
				case raftstore.MigrationJobStopping, raftstore.MigrationJobCopying:
					moved[j.Job] = true // it is stopped, or about to be, also when the migration was aborted since
				}
			}
		}
		return func(job string) bool { return moved[job] && takes(route, job) }
	}
	return func(string) bool { return false }
}
