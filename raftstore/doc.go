// Package raftstore keeps the replicated state of one datacenter: what it exports and what was found there, what it
// pulls and what is known of the sources, which replicas there are, how far each is, and who may change it. It owns the
// meaning of every command in the Raft log, and what a snapshot holds.
//
// The state is pure. Apply reads no clock, no random number and no disk, so that the same log gives the same bytes on
// every node; the only time it knows is the one that the proposer wrote into the command. A command that is refused
// changes nothing. Proposing a command twice is proposing it once. A command of an older epoch or attempt is refused.
// A command that a node does not know stops the node: going on would let it drift apart from the others in silence.
//
// The state's maps are trees that never change (tree.go). A View shares them: it is taken for nothing, also with
// 10,000 jobs, so ask for one whenever you want to know something, and wait for news with Store.Changed.
//
// Checkpoints are ordered by Seq, which the source's state gives when one is found, and by nothing else. Of each job
// name the newest KeepFound checkpoints and KeepFound savepoints are remembered.
//
// Nothing but this package may import the Raft library. This package imports neither the file systems nor Flink's
// format: it remembers what the replicator decided and did, and touches no replica. It accepts a URI by its form alone.
//
// The agents are its users: their leader proposes, every one of them answers from a View. A one-shot `ckptferry
// replicate` needs no agreement and so does not use it. The voters of a group speak TLS with each other and both sides
// verify, or plain TCP when the configuration says so (transport.go).
//
// Start at State (state.go), then apply.go and apply_route.go for what each command means, then Store.
package raftstore
