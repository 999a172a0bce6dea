// Package agent is what a running agent does on its own: it finds completed checkpoints below what its datacenter
// exports (discover.go, source.go), pulls what other datacenters export and its routes want (pull.go), makes replicas
// of them, newest first (choose.go, coordinate.go, copy.go), and says how far behind they are (lag.go).
//
// Only the leader of the group works; what it did is in the group's state (raftstore), so whoever leads next goes on
// from there. A copy that was cut short goes on from what the target's storage has on record (package replicator).
// Everything that is answered comes from the state, or from Agent.Status for what only the worker itself knows.
//
// It must never write at a source: there it is handed fsutil.ReadFS. It orders checkpoints by the source's count of
// what it found (Seq), never by a clock.
//
// Start at Agent in agent.go.
package agent
