package rpc

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	groupv1 "github.com/ckptferry/ckptferry/proto/ckptferry/group/v1"
	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/agent"
)

// Replicated is this node of its Raft group, as *raftstore.Store is. Its Propose works at the leader alone.
type Replicated interface {
	Group
	Propose(ctx context.Context, cmd *raftv1.Command) error
	WhileLeader(ctx context.Context, run func(ctx context.Context, term uint64) error) error
	// DialMember connects to another voter, for whoever serves there with NewGroupServer.
	DialMember(ctx context.Context, id string) (net.Conn, error)
}

// Voter is a node of the group whose Propose works wherever the leader is: it sends the command there, over the group's
// own connections. It is safe for concurrent use. Close it.
type Voter struct {
	Replicated
	id string

	mu    sync.Mutex
	conns map[string]*grpc.ClientConn // by voter; kept
}

var (
	_ agent.Group    = (*Voter)(nil)
	_ agent.Reporter = (*Voter)(nil)
)

// How long is waited for the leader: what takes longer has lost it.
const (
	caughtUpWithin   = 2 * time.Second         // for the own view, after the leader's answer
	reportAnswered   = 1500 * time.Millisecond // or the connection is given up: less than an election needs to be noticed
	redialMost       = time.Second
	groupPingEvery   = 10 * time.Second
	groupPingTimeout = 3 * time.Second
)

// NewVoter makes one of the node with that id.
func NewVoter(id string, node Replicated) *Voter {
	return &Voter{Replicated: node, id: id, conns: map[string]*grpc.ClientConn{}}
}

// Close ends the connections to the other voters, not the node.
func (v *Voter) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	var errs []error
	for _, conn := range v.conns {
		errs = append(errs, conn.Close())
	}
	v.conns = nil
	return errors.Join(errs...)
}

// leader is a connection to the leader. It is ErrNotLeader when there is none, or this node is it: then it may just have
// become it, or is about to lose it, and asking again helps.
func (v *Voter) leader() (id string, conn *grpc.ClientConn, err error) {
	id, _ = v.Leader()
	if id == "" || id == v.id {
		return id, nil, raftstore.ErrNotLeader
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.conns == nil {
		return id, nil, fmt.Errorf("%w: this agent is stopping", raftstore.ErrNotLeader)
	}
	if conn := v.conns[id]; conn != nil {
		return id, conn, nil
	}
	conn, err = grpc.NewClient("passthrough:///"+id,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // DialMember's connections are TLS where the group has it
		grpc.WithContextDialer(v.DialMember),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswerBytes), grpc.MaxCallSendMsgSize(maxCallBytes)),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: redialMost}, MinConnectTimeout: handshakeWithin,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: groupPingEvery, Timeout: groupPingTimeout}),
	)
	if err != nil {
		return id, nil, fmt.Errorf("connect to the leader %s: %w", id, err)
	}
	v.conns[id] = conn
	return id, conn, nil
}

// Propose has the group agree on a command, here or at the leader. Its errors are those of raftstore.Store.Propose; a
// leader that doesn't answer is ErrOutcomeUnknown. After it View holds the command, unless this node is far behind.
func (v *Voter) Propose(ctx context.Context, cmd *raftv1.Command) error {
	err := v.Replicated.Propose(ctx, cmd)
	if !errors.Is(err, raftstore.ErrNotLeader) {
		return err
	}
	id, conn, noLeader := v.leader()
	if noLeader != nil {
		return errors.Join(err, noLeader)
	}
	data, err := proto.Marshal(cmd)
	if err != nil {
		return fmt.Errorf("propose: encode: %w", err)
	}
	answer, err := groupv1.NewGroupServiceClient(conn).Propose(ctx, &groupv1.ProposeRequest{Command: data})
	if err != nil {
		return fmt.Errorf("propose at %s: %w", id, groupError(ctx, err))
	}
	v.catchUp(ctx, answer.GetAppliedIndex())
	return nil
}

// catchUp waits until this node has applied what the leader had, so that who proposed reads it. The command is committed
// in any case.
func (v *Voter) catchUp(ctx context.Context, index uint64) {
	late := time.NewTimer(caughtUpWithin)
	defer late.Stop()
	for {
		changed := v.Changed()
		if v.View().AppliedIndex >= index {
			return
		}
		select {
		case <-changed:
		case <-late.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// groupError turns the error of a call to the leader into raftstore's: what the leader said itself is that, and all
// else an outcome that nobody knows.
func groupError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", raftstore.ErrOutcomeUnknown, ctx.Err())
	}
	s := status.Convert(err)
	reason := reasonOf(s)
	i := slices.IndexFunc(errorTable, func(row errorRow) bool { return row.reason == reason })
	switch {
	case reason != "" && i >= 0:
		return &remoteError{message: clipped(s.Message()), is: errorTable[i].err}
	case reason != "":
		return &remoteError{message: clipped(s.Message())}
	case s.Code() == codes.Unimplemented: // an older version leads; another may soon
		return fmt.Errorf("%w that takes commands from others: %s", raftstore.ErrNotLeader, clipped(s.Message()))
	default:
		return fmt.Errorf("%w: %s", raftstore.ErrOutcomeUnknown, clipped(s.Message()))
	}
}

// Report implements agent.Reporter.
func (v *Voter) Report(ctx context.Context, reports iter.Seq[agent.Report]) error {
	id, conn, err := v.leader()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := groupv1.NewGroupServiceClient(conn).Report(ctx)
	if err != nil {
		return fmt.Errorf("report to %s: %w", id, groupError(ctx, err))
	}
	for report := range reports {
		if leader, _ := v.Leader(); leader != id {
			return fmt.Errorf("report to %s: %w", id, raftstore.ErrNotLeader)
		}
		late := time.AfterFunc(reportAnswered, cancel)
		_ = stream.Send(reportMessage(report)) // Recv says why it could not
		_, err := stream.Recv()
		late.Stop()
		if err != nil {
			return fmt.Errorf("report to %s: %w", id, groupError(ctx, err))
		}
	}
	return ctx.Err()
}
