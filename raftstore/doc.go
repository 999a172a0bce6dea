// Package raftstore keeps the replicated state of one datacenter: which replicas there are, how far each is, and who
// may change it. It owns the meaning of every command in the Raft log, and what a snapshot holds.
//
// The state is pure. Apply reads no clock, no random number and no disk, so that the same log gives the same bytes on
// every node; the only time it knows is the one that the proposer wrote into the command. A command that is refused
// changes nothing. Proposing a command twice is proposing it once. A command of an older epoch or attempt is refused.
// A command that a node does not know stops the node: going on would let it drift apart from the others in silence.
//
// Nothing but this package may import the Raft library. This package imports neither the file systems nor Flink's
// format: it remembers what the replicator decided and did, and touches no replica.
//
// The agents will be its users: their leader proposes, every one of them answers from a View. A one-shot
// `ckptferry replicate` needs no agreement and so does not use it. Between the voters runs plain TCP for now; the
// agents will hand in an encrypted transport.
//
// Start at State (state.go), then apply.go for what each command means, then Store.
package raftstore
