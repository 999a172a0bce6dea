package raftstore

import (
	"iter"
	"time"
)

// View is the state at one moment. It doesn't change, costs nothing to take, and may be kept. What it returns is the
// caller's, but for the slices inside an Export, a Route or a Replica: those are the state's and must not be changed.
type View struct {
	// AppliedIndex is the log index of the last command in it, 0 before the first.
	AppliedIndex uint64
	state        State
}

// Replica finds one replica.
func (v View) Replica(key Key) (Replica, bool) { return v.state.Replicas.get(key) }

// Replicas lists all replicas by route, job id, checkpoint id and checksum.
func (v View) Replicas() []Replica { return v.state.Replicas.values() }

// JobReplicas lists the replicas of one job name by job id, checkpoint id and checksum. It looks at no other job's.
func (v View) JobReplicas(route, job string) []Replica {
	var replicas []Replica
	for r := range v.state.ofJob(route, job) {
		replicas = append(replicas, r)
	}
	return replicas
}

// AllReplicas is Replicas without a copy of them all.
func (v View) AllReplicas() iter.Seq[Replica] { return v.ReplicasFrom(Key{}) }

// ReplicasFrom lists by key the replicas whose key is not below that one: what a page begins with.
func (v View) ReplicasFrom(key Key) iter.Seq[Replica] {
	return func(yield func(Replica) bool) {
		for _, r := range v.state.Replicas.from(key) {
			if !yield(r) {
				return
			}
		}
	}
}

// InFlight lists by key the replicas that are PLANNED or COPYING. It looks at no others.
func (v View) InFlight() iter.Seq[Replica] {
	return func(yield func(Replica) bool) {
		for key := range v.state.flying.all() {
			if !yield(v.state.Replicas.at(key)) {
				return
			}
		}
	}
}

// RouteReplicas lists the replicas of a route, also of one that was removed, by job name and key.
func (v View) RouteReplicas(route string) iter.Seq[Replica] { return v.state.ofRoute(route) }

// Sweeping says whether the route is swept: nothing of it becomes READY.
func (v View) Sweeping(route string) bool { return v.state.Sweeps.has(route) }

// Sweeps lists the routes that are being swept by name.
func (v View) Sweeps() []string {
	routes := make([]string, 0, v.state.Sweeps.len())
	for route := range v.state.Sweeps.all() {
		routes = append(routes, route)
	}
	return routes
}

// RemovedRoutes lists by name the routes that were removed, as they were: what is left of their replicas lies below their
// roots.
func (v View) RemovedRoutes() []Route { return v.state.Removed.values() }

// Epoch is a route's own epoch. What fences a replica is JobEpoch. It is 0 for a route that was never fenced.
func (v View) Epoch(route string) uint64 { return v.state.Epochs.at(route) }

// Exports lists the exports by name.
func (v View) Exports() []Export {
	exports := make([]Export, 0, v.state.Exports.len())
	for _, e := range v.state.Exports.all() {
		exports = append(exports, e.Export)
	}
	return exports
}

// Export finds an export.
func (v View) Export(name string) (Export, bool) {
	e, ok := v.state.Exports.get(name)
	return e.Export, ok
}

// Routes lists the routes by name, each with its epoch.
func (v View) Routes() []Route {
	routes := make([]Route, 0, v.state.Routes.len())
	for name := range v.state.Routes.all() {
		r, _ := v.Route(name)
		routes = append(routes, r)
	}
	return routes
}

// Route finds a route, with its epoch.
func (v View) Route(name string) (Route, bool) {
	r, ok := v.state.Routes.get(name)
	if ok {
		r.Epoch = v.Epoch(name)
	}
	return r.Route, ok
}

// Found lists by seq what was found below an export; nothing for an unknown one.
func (v View) Found(export string) []Found { return v.FoundAfter(export, 0) }

// FoundAfter lists by seq what was found below an export after that seq. It costs what it returns.
func (v View) FoundAfter(export string, seq uint64) []Found {
	return v.state.Exports.at(export).Found.after(seq)
}

// JobFound lists by seq what was found of one job below an export.
func (v View) JobFound(export, job string) []Found {
	return v.state.Exports.at(export).Found.ofJob(job)
}

// Known lists by the source's seq what a route's source said that it has; nothing for an unknown route.
func (v View) Known(route string) []Found { return v.state.Routes.at(route).Known.after(0) }

// JobKnown lists by the source's seq what is known of one job of a route.
func (v View) JobKnown(route, job string) []Found { return v.state.Routes.at(route).Known.ofJob(job) }

// ExportJobs lists the names of the jobs that were found below an export.
func (v View) ExportJobs(export string) []string { return v.state.Exports.at(export).Found.jobs() }

// RouteJobs lists the names of the jobs that are known of a route's source.
func (v View) RouteJobs(route string) []string { return v.state.Routes.at(route).Known.jobs() }

// SeenAt is when a route's source was last heard of, by this side's clock; the zero time before the first time.
func (v View) SeenAt(route string) time.Time { return v.state.Routes.at(route).SeenAt }
