// Package keeper keeps a target's storage in order while its agent leads: it retires replicas by the rules of their route
// (keep.go, pure), deletes them and sweeps away what nobody needs (retention.go, sweep.go), reads the bytes of READY
// replicas again (scrub.go), and makes the group's record anew from the storage (rebuild.go).
//
// It must never delete what the state has not let go of: RetireReplica first, then the files, then ForgetReplica. What the
// state can't know, such as which files two replicas share, package replicator tells from the storage. Start at Keeper.
package keeper
