// Package drill rehearses a failover of one job, with the replica that a failover would choose: level 1 reads every byte
// of it, level 2 has a command of the operator's start Flink from it, level 3 has the job complete a checkpoint too.
//
// A drill must leave a replica as it was. It is pinned meanwhile, Flink starts with NO_CLAIM, and every byte is read and
// compared after Flink has run. What can only be started with CLAIM is drilled on a copy of its own (copy.go).
//
// Start at Run. What the operator's command is told and has to say is at Command.
package drill
