package raftstore

import "errors"

// What Store says of the group and of a command's fate.
var (
	// ErrNotLeader says that another node leads, or none. Nothing was written; ask the leader.
	ErrNotLeader = errors.New("not the leader")
	// ErrOutcomeUnknown says that the command may or may not be committed: leadership was lost, the context ended or
	// the node was closed while it was on its way. Propose it again, to whoever leads; twice is once.
	ErrOutcomeUnknown = errors.New("outcome unknown")
)

// Why a change of the group's voters is refused. Nothing was changed.
var (
	// ErrLastVoter says that a group without a voter is none.
	ErrLastVoter = errors.New("the last voter can't be removed")
	// ErrUnreachable says that the node which is to be a voter doesn't answer.
	ErrUnreachable = errors.New("the new voter can't be reached")
)

// Why the state refuses a command. Nothing was changed.
var (
	// ErrInvalid says that the command lacks something or contradicts itself. Proposing it again never helps.
	ErrInvalid = errors.New("invalid command")
	// ErrUnknownReplica says that no replica has this key: it was never planned, or is forgotten.
	ErrUnknownReplica = errors.New("unknown replica")
	// ErrUnknownExport says that no export has this name.
	ErrUnknownExport = errors.New("unknown export")
	// ErrUnknownRoute says that no route has this name.
	ErrUnknownRoute = errors.New("unknown route")
	// ErrRouteHasReplicas says that the route has replicas, and so can't change its source or root.
	ErrRouteHasReplicas = errors.New("route has replicas")
	// ErrStale says that the command speaks for another epoch or attempt than the state's: somebody took over.
	ErrStale = errors.New("stale epoch or attempt")
	// ErrConflict says that the same attempt was planned or made READY before with other contents.
	ErrConflict = errors.New("attempt contradicts what is recorded of it")
	// ErrBadTransition says that the replica's status doesn't allow it.
	ErrBadTransition = errors.New("status does not allow it")
	// ErrKept says that the replica is pinned, promoted, Flink's, or the last READY one of its job, and so may not be deleted.
	ErrKept = errors.New("replica must be kept")
	// ErrPromoted says that the job goes on here: its promotion is ACTIVE, or the replica is the one that it goes on from.
	ErrPromoted = errors.New("job is promoted")
	// ErrNotPromoted says that the job was never promoted on this route.
	ErrNotPromoted = errors.New("job is not promoted")
	// ErrForeignPromotion says that the job goes on elsewhere already, by another promotion. Force overrides it.
	ErrForeignPromotion = errors.New("job is promoted elsewhere")
	// ErrSweeping says that the route is swept. Nothing becomes READY meanwhile: look again that all files are there, and
	// propose it again.
	ErrSweeping = errors.New("route is being swept")
	// ErrRouteBusy says that replicas of the route are in flight, or jobs go on from it, so it can't be removed.
	ErrRouteBusy = errors.New("route is in use")
	// ErrUnknownMigration says that no migration has this name.
	ErrUnknownMigration = errors.New("unknown migration")
	// ErrMigrationEnded says that the migration is DONE or ABORTED, which is final.
	ErrMigrationEnded = errors.New("migration has ended")
)

// Why a Raft directory is refused. The node must not start on it.
var (
	// ErrForeign says that the directory belongs to another node or group.
	ErrForeign = errors.New("raft directory belongs to another node")
	// ErrNewer says that a newer ckptferry wrote it.
	ErrNewer = errors.New("raft directory was written by a newer ckptferry")
	// ErrDamaged says that what is in it can't be read. A node that lost its log must not vote.
	ErrDamaged = errors.New("raft directory is damaged")
	// ErrInUse says that another process has it open.
	ErrInUse = errors.New("raft directory is in use")
)

// errClosed is what a call after Close meets; its callers say ErrNotLeader.
var errClosed = errors.New("store is closed")

// errUnknownCommand is for the FSM alone, which stops the node on it.
var errUnknownCommand = errors.New("unknown command")
