package rpc

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/migrate"
	"github.com/ckptferry/ckptferry/replicator/promote"
)

// What a caller of the public API decides by. The servers of this package say them too.
var (
	// ErrUnavailable says that nobody answered, or nobody who could. Asking again later may work.
	ErrUnavailable = errors.New("unavailable")
	// ErrNotLeader says that the agent does not lead its group; nothing was changed. Ask another one.
	ErrNotLeader = errors.New("not the leader")
	// ErrDenied says that the caller may not do this, or did not say who it is.
	ErrDenied = errors.New("denied")
	// ErrInvalid says that the request contradicts itself or lacks something. Repeating it never helps.
	ErrInvalid = errors.New("invalid request")
	// ErrNotFound says that there is nothing of that name.
	ErrNotFound = errors.New("not found")
	// ErrRefused says that the request is right, and the state does not allow it now.
	ErrRefused = errors.New("refused")
)

// errStopping is ErrUnavailable of an agent that shuts down.
var errStopping = errors.New("the agent is stopping")

// errNotApplied is ErrUnavailable of an agent whose state is empty only because it has just started.
var errNotApplied = errors.New("this agent has not applied its group's log yet: no leader is known")

// stoppingReason tells callers to go to another agent at once.
const stoppingReason = "STOPPING"

// errorDomain is the domain of every ErrorInfo.
const errorDomain = "ckptferry"

// errorRow is what an error becomes on the wire.
type errorRow struct {
	err    error
	code   codes.Code
	reason string
	next   string // what to do, the end of the message; empty where the error says it itself
}

// errorTable is tried from its top: an error that wraps two is told as the first of them. What is not in it is
// Internal.
var errorTable = []errorRow{
	{raftstore.ErrOutcomeUnknown, codes.Unavailable, "OUTCOME_UNKNOWN", "send it again: applying it twice is applying it once"},
	{raftstore.ErrNotLeader, codes.Unavailable, "NOT_LEADER", "send it to the leader, or to each agent of the group in turn"},
	{raftstore.ErrInvalid, codes.InvalidArgument, "INVALID", "mend what it names and send it again"},
	{raftstore.ErrUnknownReplica, codes.NotFound, "REPLICA_UNKNOWN", "list the replicas to see which there are"},
	{raftstore.ErrUnknownExport, codes.NotFound, "EXPORT_UNKNOWN", "list the exports to see which there are"},
	{raftstore.ErrUnknownRoute, codes.NotFound, "ROUTE_UNKNOWN", "list the routes to see which there are"},
	{raftstore.ErrRouteHasReplicas, codes.FailedPrecondition, "ROUTE_HAS_REPLICAS", "make a route of another name, and pause this one"},
	{raftstore.ErrStale, codes.FailedPrecondition, "STALE", "read the state again and decide anew"},
	{raftstore.ErrConflict, codes.FailedPrecondition, "CONFLICT", "read the state again and decide anew"},
	{raftstore.ErrBadTransition, codes.FailedPrecondition, "REPLICA_STATUS", "list the replicas to see how far it is"},
	{raftstore.ErrKept, codes.FailedPrecondition, "REPLICA_KEPT", "unpin it, or wait until a newer one is READY"},
	{raftstore.ErrPromoted, codes.FailedPrecondition, "JOB_PROMOTED", "ask `ckptferry failover status` what it goes on from; `ckptferry failover abort` ends that"},
	{raftstore.ErrNotPromoted, codes.FailedPrecondition, "JOB_NOT_PROMOTED", "ask `ckptferry failover status` for what is promoted"},
	{raftstore.ErrForeignPromotion, codes.FailedPrecondition, "JOB_PROMOTED_ELSEWHERE", "make sure that it runs nowhere else, and use --force, which is recorded"},
	{raftstore.ErrSweeping, codes.FailedPrecondition, "ROUTE_SWEPT", "send it again when the sweep is over"},
	{raftstore.ErrRouteBusy, codes.FailedPrecondition, "ROUTE_BUSY", "see what uses it with `ckptferry transfer list` and `ckptferry failover status`"},
	{raftstore.ErrUnknownMigration, codes.NotFound, "MIGRATION_UNKNOWN", "list the migrations to see which there are"},
	{raftstore.ErrMigrationEnded, codes.FailedPrecondition, "MIGRATION_ENDED", "make one of another name"},
	{raftstore.ErrLastVoter, codes.FailedPrecondition, "LAST_VOTER", "add another voter first"},
	{raftstore.ErrUnreachable, codes.FailedPrecondition, "VOTER_UNREACHABLE", "start it with raft.join, and make sure that its address can be reached from here"},
	{raftstore.ErrForeign, codes.FailedPrecondition, "RAFT_DIRECTORY_FOREIGN", ""},
	{raftstore.ErrNewer, codes.FailedPrecondition, "RAFT_DIRECTORY_NEWER", ""},
	{raftstore.ErrDamaged, codes.FailedPrecondition, "RAFT_DIRECTORY_DAMAGED", ""},
	{raftstore.ErrInUse, codes.FailedPrecondition, "RAFT_DIRECTORY_IN_USE", ""},

	{migrate.ErrBlocked, codes.FailedPrecondition, "MIGRATION_BLOCKED", "`ckptferry migrate status` says how far its jobs are"},
	{migrate.ErrNotPromoted, codes.FailedPrecondition, "REPLICA_NOT_PROMOTED", "mend that, and promote it with `ckptferry failover plan`"},
	{promote.ErrNoJob, codes.NotFound, "JOB_UNKNOWN", "ask for the lag to see which jobs there are"},

	{errStopping, codes.Unavailable, stoppingReason, "ask another agent of the datacenter"},
	{errNotApplied, codes.Unavailable, "NOT_APPLIED", "ask another agent, or wait"},
	{ErrNotLeader, codes.Unavailable, "NOT_LEADER", "send it to the leader, or to each agent of the group in turn"},
	{ErrDenied, codes.PermissionDenied, "DENIED", ""},
	{ErrInvalid, codes.InvalidArgument, "INVALID", ""},
	{ErrNotFound, codes.NotFound, "NOT_FOUND", ""},
	{ErrRefused, codes.FailedPrecondition, "REFUSED", ""},
	{ErrUnavailable, codes.Unavailable, "UNAVAILABLE", "try again"},

	{fsutil.ErrCorrupt, codes.DataLoss, "STORAGE_CORRUPT", "check the storage that it names"},
	{fsutil.ErrUnavailable, codes.Unavailable, "STORAGE_UNAVAILABLE", "try again; if it stays, check the storage that it names"},
	{fsutil.ErrUnsupported, codes.FailedPrecondition, "STORAGE_UNSUPPORTED", "use another place"},
	{fsutil.ErrNoSpace, codes.ResourceExhausted, "STORAGE_FULL", "make room or raise the quota"},
	{fs.ErrPermission, codes.PermissionDenied, "STORAGE_PERMISSION", "let the agent's user read it"},
	{fs.ErrInvalid, codes.InvalidArgument, "STORAGE_INVALID", "mend the name"},
	{fs.ErrExist, codes.AlreadyExists, "STORAGE_EXISTS", "use another name"},
	{fs.ErrNotExist, codes.NotFound, "STORAGE_NOT_FOUND", "check the name"},

	{context.Canceled, codes.Canceled, "CANCELED", "send it again if it is still wanted"},
	{context.DeadlineExceeded, codes.DeadlineExceeded, "DEADLINE_EXCEEDED", "give it more time"},
}

// internalRow is for what the table does not know: a mistake of ours.
var internalRow = errorRow{code: codes.Internal, reason: "INTERNAL", next: "look into the agent's log; this is a mistake in ckptferry"}

func rowOf(err error) errorRow {
	for _, row := range errorTable {
		if errors.Is(err, row.err) {
			return row
		}
	}
	return internalRow
}

// withLeader adds who leads to an error that says that somebody else does.
type withLeader struct {
	error
	leader string // an agent's id; empty when there is none
}

func (e *withLeader) Unwrap() error { return e.error }

// toStatus is what a handler's error becomes. A status stays as it is: it came from gRPC itself.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	if s, ok := err.(interface{ GRPCStatus() *status.Status }); ok {
		return s.GRPCStatus().Err()
	}
	row := rowOf(err)
	info := &errdetails.ErrorInfo{Reason: row.reason, Domain: errorDomain}
	message := err.Error()
	var led *withLeader
	if errors.As(err, &led) {
		info.Metadata = map[string]string{"leader": led.leader}
		if led.leader != "" {
			message += "; the leader is " + led.leader
		} else {
			message += "; there is no leader now"
		}
	}
	if row.next != "" {
		message += "; " + row.next
	}
	s := status.New(row.code, message)
	if detailed, err := s.WithDetails(info); err == nil {
		s = detailed
	}
	return s.Err()
}

// codeErrors is what the API's client makes of a code; codes that are not in it are errors that wrap nothing of ours.
var codeErrors = map[codes.Code]error{
	codes.Unavailable:        ErrUnavailable,
	codes.DeadlineExceeded:   ErrUnavailable,
	codes.Canceled:           ErrUnavailable,
	codes.ResourceExhausted:  ErrUnavailable,
	codes.PermissionDenied:   ErrDenied,
	codes.Unauthenticated:    ErrDenied,
	codes.InvalidArgument:    ErrInvalid,
	codes.OutOfRange:         ErrInvalid,
	codes.NotFound:           ErrNotFound,
	codes.FailedPrecondition: ErrRefused,
	codes.AlreadyExists:      ErrRefused,
	codes.Aborted:            ErrRefused,
}

// apiError is what a call's error tells the caller of the public API. The reason ends the message in brackets.
func apiError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s := status.Convert(err)
	reason := reasonOf(s)
	sentinel := codeErrors[s.Code()]
	if reason == "NOT_LEADER" {
		sentinel = ErrNotLeader
	}
	message := s.Message()
	if reason != "" {
		message += " [" + reason + "]"
	}
	return &remoteError{message: message, is: sentinel}
}

func reasonOf(s *status.Status) string {
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == errorDomain {
			return info.GetReason()
		}
	}
	return ""
}

// remoteError is an error that the other side told. Its message is the other side's own, which names the sentinel
// already.
type remoteError struct {
	message string
	is      error // may be nil
}

func (e *remoteError) Error() string { return e.message }
func (e *remoteError) Unwrap() error { return e.is }

// maxMessageBytes is how much is kept of a message that the other side wrote.
const maxMessageBytes = 2 << 10

// clipped is a message cut to what a log can bear.
func clipped(message string) string {
	if len(message) > maxMessageBytes {
		return strings.ToValidUTF8(message[:maxMessageBytes], "") + "…"
	}
	return message
}
