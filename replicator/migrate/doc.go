// Package migrate moves jobs to this datacenter while both datacenters are well: it plans which and in which order, and
// how long each will be away (Plan, Predict, pure), and then, for as long as this agent leads, it waits until a job's
// replica is warm, has Flink stop the job, waits until the last state is READY here, promotes it, and starts the job
// where there is a hook for that (Runner).
//
// Everything that is decided is in the group's state before it is done, so whoever leads next goes on: a stop is asked
// for under an id that was written down before, and a hook runs at most once. It must never stop a job whose state could
// be lost by that (a cancel without retained checkpoints), promote anything but the last state of a job that is known to
// have stopped, or run a command that the agent's own configuration doesn't name.
//
// How a job goes from one state to the next is in advance.go (pure). Start at Runner in runner.go.
package migrate
