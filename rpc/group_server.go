package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	groupv1 "github.com/ckptferry/ckptferry/proto/ckptferry/group/v1"
	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/agent"
)

// GroupBackend is what the other agents of the group ask of this one.
type GroupBackend interface {
	// Propose commits a command here: ErrNotLeader when this node doesn't lead. *raftstore.Store has it.
	Propose(ctx context.Context, cmd *raftv1.Command) error
	// Heard notes another agent's sign of life, and says in which term: ErrNotLeader when this agent doesn't lead.
	// *agent.Agent has it.
	Heard(agent.Report) (term uint64, err error)
}

// groupServer answers the other agents of the group.
type groupServer struct {
	groupv1.UnimplementedGroupServiceServer
	*Server
}

// NewGroupServer serves ckptferry.group.v1 and, for calls that the other agents of the group pass on, what NewAPI serves.
// It is for raftstore.Store.Others alone: it trusts what a caller says about for whom it calls, and the listener has
// verified that each is an agent of the group. It needs of the configuration what NewAPI needs, and Backend.
func NewGroupServer(cfg ServerConfig) *Server {
	cfg.TLS, cfg.Forward = nil, nil // the connections have TLS where the group has; what was passed on goes no further
	s := newServer(cfg, grpc.Creds(groupCredentials{insecure.NewCredentials()}))
	s.serveAPI()
	s.identify, s.forGroup = trustedCaller, true
	s.allow = func(ctx context.Context, method string) error {
		if strings.HasPrefix(method, "/"+groupv1.GroupService_ServiceDesc.ServiceName+"/") {
			return nil // every agent of the group
		}
		return mayCall(ctx, method, s.cfg.Datacenter)
	}
	groupv1.RegisterGroupServiceServer(s.grpc, &groupServer{Server: s})
	return s
}

// Propose implements groupv1.GroupServiceServer.
func (s *groupServer) Propose(ctx context.Context, req *groupv1.ProposeRequest) (*groupv1.ProposeResponse, error) {
	var cmd raftv1.Command
	if err := proto.Unmarshal(req.GetCommand(), &cmd); err != nil {
		return nil, fmt.Errorf("propose: %w: the command does not decode: %v", raftstore.ErrInvalid, err)
	}
	if err := s.cfg.Backend.Propose(ctx, &cmd); err != nil {
		return nil, s.namesLeader(err)
	}
	return &groupv1.ProposeResponse{AppliedIndex: s.cfg.Group.View().AppliedIndex}, nil
}

// Report implements groupv1.GroupServiceServer. It ends with Stop too: a stream that stays would hold it up.
func (s *groupServer) Report(stream grpc.BidiStreamingServer[groupv1.ReportRequest, groupv1.ReportResponse]) error {
	ended := make(chan error, 1)
	go func() { ended <- s.reports(stream) }() // Recv ends with the stream, and that with this call
	select {
	case err := <-ended:
		return err
	case <-s.stopping:
		return errStopping
	}
}

func (s *groupServer) reports(stream grpc.BidiStreamingServer[groupv1.ReportRequest, groupv1.ReportResponse]) (err error) {
	panicked := s.guarded(func() {
		var req *groupv1.ReportRequest
		for {
			if req, err = stream.Recv(); err != nil {
				return
			}
			report := reportOf(req)
			if err = mustBeItself(stream.Context(), report.Agent); err != nil {
				return
			}
			var term uint64
			if term, err = s.cfg.Backend.Heard(report); err != nil {
				err = s.namesLeader(err)
				return
			}
			if err = stream.Send(&groupv1.ReportResponse{Term: term}); err != nil {
				return
			}
		}
	})
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if panicked != nil {
		return panicked
	}
	return err
}

// mustBeItself refuses an agent that speaks for another one.
func mustBeItself(ctx context.Context, id string) error {
	cert, err := certificateOf(ctx)
	if err != nil || cert == nil {
		return err
	}
	if is, err := agentOf(cert); err != nil || is.agent != id {
		return fmt.Errorf("%w: a report of agent %q comes with the certificate of %s", ErrDenied, id, is)
	}
	return nil
}

func reportMessage(r agent.Report) *groupv1.ReportRequest {
	m := &groupv1.ReportRequest{Agent: r.Agent, Version: r.Version, Draining: r.Draining}
	for _, t := range r.Transfers {
		m.Transfers = append(m.Transfers, transferMessage(t))
	}
	return m
}

func reportOf(m *groupv1.ReportRequest) agent.Report {
	r := agent.Report{Agent: m.GetAgent(), Version: m.GetVersion(), Draining: m.GetDraining()}
	for _, t := range m.GetTransfers() {
		r.Transfers = append(r.Transfers, transferOf(t))
	}
	return r
}

func transferMessage(t agent.Transfer) *ckptferryv1.Transfer {
	return &ckptferryv1.Transfer{
		Route: t.Route, Job: t.Job, CheckpointId: t.Key.CheckpointID, Phase: t.Phase, StartedTime: timeMessage(t.StartedAt),
		FilesDone: proto.Int64(t.FilesDone), FileCount: proto.Int64(t.Files), BytesDone: proto.Int64(t.BytesDone), TotalBytes: proto.Int64(t.Bytes),
		Agent: t.Agent, Share: t.Share,
	}
}

// transferOf is a transfer as another agent reports it: its identity beyond the checkpoint's number stays there.
func transferOf(m *ckptferryv1.Transfer) agent.Transfer {
	t := agent.Transfer{
		Route: m.GetRoute(), Job: m.GetJob(), Key: raftstore.Key{Route: m.GetRoute(), CheckpointID: m.GetCheckpointId()}, Phase: m.GetPhase(),
		FilesDone: m.GetFilesDone(), Files: m.GetFileCount(), BytesDone: m.GetBytesDone(), Bytes: m.GetTotalBytes(), Agent: m.GetAgent(), Share: m.GetShare(),
	}
	if m.GetStartedTime() != nil {
		t.StartedAt = m.GetStartedTime().AsTime()
	}
	return t
}

// groupCredentials take over who a caller is from a connection that has shaken hands already.
type groupCredentials struct {
	credentials.TransportCredentials
}

// ServerHandshake implements credentials.TransportCredentials.
func (g groupCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if secure, ok := raw.(interface {
		ConnectionState() (tls.ConnectionState, bool)
	}); ok {
		if state, is := secure.ConnectionState(); is {
			return raw, credentials.TLSInfo{State: state, CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
		}
	}
	return g.TransportCredentials.ServerHandshake(raw)
}

// Clone implements credentials.TransportCredentials.
func (g groupCredentials) Clone() credentials.TransportCredentials {
	return groupCredentials{g.TransportCredentials.Clone()}
}
