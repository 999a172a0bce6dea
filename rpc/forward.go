package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
)

// forwarded are the methods that only the leader answers. Another agent passes a call on to it. The streams among them
// have one request and many answers.
var forwarded = map[string]bool{
	ckptferryv1.RouteService_ApplyRoutes_FullMethodName:            true,
	ckptferryv1.RouteService_RemoveRoutes_FullMethodName:           true,
	ckptferryv1.ReplicaService_PinReplica_FullMethodName:           true,
	ckptferryv1.FailoverService_RunFailover_FullMethodName:         true,
	ckptferryv1.FailoverService_AbortFailover_FullMethodName:       true,
	ckptferryv1.MigrationService_PlanMigration_FullMethodName:      true, // the leader has measured its copies
	ckptferryv1.MigrationService_StartMigration_FullMethodName:     true,
	ckptferryv1.MigrationService_SetMigrationState_FullMethodName:  true,
	ckptferryv1.MigrationService_ReportMigrationJob_FullMethodName: true,
	ckptferryv1.StorageService_RecordDrill_FullMethodName:          true,
	ckptferryv1.StorageService_PruneReplicas_FullMethodName:        true,
	ckptferryv1.StorageService_ScrubReplicas_FullMethodName:        true,
	ckptferryv1.StorageService_RebuildCatalog_FullMethodName:       true,
	ckptferryv1.AgentService_AddVoter_FullMethodName:               true,
	ckptferryv1.AgentService_RemoveVoter_FullMethodName:            true,
	ckptferryv1.AgentService_TransferLeadership_FullMethodName:     true,
}

// forwards says whether a call is passed on: another agent leads, and this one may ask it.
func (s *Server) forwards(method string) bool {
	return s.cfg.Forward != nil && forwarded[method] && s.cfg.Group.Role() != "leader"
}

// toLeader prepares a call to the leader with its caller's identity, and makes the answer's message.
func (s *Server) toLeader(ctx context.Context, method string) (context.Context, *grpc.ClientConn, func() proto.Message, error) {
	_, conn, err := s.cfg.Forward.leader()
	if err != nil {
		return nil, nil, nil, s.namesLeader(err)
	}
	who, err := callerOf(ctx, s.cfg.Datacenter)
	if err == nil {
		ctx, err = withCaller(ctx, who)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	answer, err := answerOf(method)
	return ctx, conn, answer, err
}

// pass is a unary call at the leader instead of here.
func (s *Server) pass(ctx context.Context, method string, req any) (any, error) {
	ctx, conn, answer, err := s.toLeader(ctx, method)
	if err != nil {
		return nil, err
	}
	m := answer()
	var trailer metadata.MD
	if err := conn.Invoke(ctx, method, req, m, grpc.Trailer(&trailer)); err != nil {
		return nil, passedError(ctx, err)
	}
	s.cfg.Forward.catchUp(ctx, appliedIndex(trailer))
	return m, nil
}

// appliedKey is where the leader says what it had applied when it had answered: the agent that passed the call on waits
// until it has that too, so that who asks it next reads what the call did.
const appliedKey = "ckptferry-applied-index"

// applied is what the answer of a call that was passed on ends with.
func (s *Server) applied() metadata.MD {
	return metadata.Pairs(appliedKey, strconv.FormatUint(s.cfg.Group.View().AppliedIndex, 10))
}

// appliedIndex is 0 when the leader said nothing: an older version.
func appliedIndex(trailer metadata.MD) uint64 {
	said := trailer.Get(appliedKey)
	if len(said) != 1 {
		return 0
	}
	index, _ := strconv.ParseUint(said[0], 10, 64) // nonsense is nothing
	return index
}

// passStream is a call with one request and a stream of answers at the leader instead of here.
func (s *Server) passStream(stream grpc.ServerStream, method string) error {
	request, err := requestOf(method)
	if err != nil {
		return err
	}
	req := request()
	if err := stream.RecvMsg(req); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	ctx, conn, answer, err := s.toLeader(ctx, method)
	if err != nil {
		return err
	}
	there, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
	if err != nil {
		return passedError(ctx, err)
	}
	if err := errors.Join(there.SendMsg(req), there.CloseSend()); err != nil && !errors.Is(err, io.EOF) {
		return passedError(ctx, err)
	}
	for {
		m := answer()
		if err := there.RecvMsg(m); errors.Is(err, io.EOF) {
			s.cfg.Forward.catchUp(ctx, appliedIndex(there.Trailer()))
			return nil
		} else if err != nil {
			return passedError(ctx, err)
		}
		if err := stream.SendMsg(m); err != nil {
			return err
		}
	}
}

// passedError is the leader's own error as it is, or that nobody knows what became of the call.
func passedError(ctx context.Context, err error) error {
	if s := status.Convert(err); reasonOf(s) != "" || (s.Code() != codes.Unavailable && ctx.Err() == nil) {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("pass the call on to the leader: %w: %s", raftstore.ErrOutcomeUnknown, clipped(status.Convert(err).Message()))
}

func answerOf(method string) (func() proto.Message, error) {
	return messageOf(method, protoreflect.MethodDescriptor.Output)
}

func requestOf(method string) (func() proto.Message, error) {
	return messageOf(method, protoreflect.MethodDescriptor.Input)
}

// messageOf makes messages of a method, /package.Service/Method, by their descriptor.
func messageOf(method string, which func(protoreflect.MethodDescriptor) protoreflect.MessageDescriptor) (func() proto.Message, error) {
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", "."))
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return nil, fmt.Errorf("pass %s on: %w", method, err)
	}
	of, ok := d.(protoreflect.MethodDescriptor)
	if !ok {
		return nil, fmt.Errorf("pass %s on: it is no method", method)
	}
	t, err := protoregistry.GlobalTypes.FindMessageByName(which(of).FullName())
	if err != nil {
		return nil, fmt.Errorf("pass %s on: %w", method, err)
	}
	return func() proto.Message { return t.New().Interface() }, nil
}
