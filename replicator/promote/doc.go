// Package promote decides which replica each job goes on from when its source is gone, and makes that the state of the
// group: a plan that a person reads (Plan, pure), what has moved since (Moved, pure), and the run of it (Promoter).
//
// It works from the target alone: nothing here asks the source, and the group's own quorum is enough. It must never
// start Flink, promote anything that nobody asked for, or offer a replica that is not READY or is AT_RISK.
//
// What another datacenter is told about promotions, and what this one notes when it is told, is in fence.go.
//
// Start at Plan in plan.go; Promoter.Run in run.go carries a plan out.
package promote
