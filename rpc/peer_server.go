package rpc

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	peerv1 "github.com/ckptferry/ckptferry/proto/ckptferry/peer/v1"
	"github.com/ckptferry/ckptferry/raftstore"
)

// protocol is what agents of two datacenters speak.
const protocol = 1

// peerServer answers other datacenters. It only reads.
type peerServer struct {
	peerv1.UnimplementedPeerServiceServer
	*Server
	jail    *jail
	buffers sync.Pool // of *[pieceBytes]byte
}

// NewPeerServer serves ckptferry.peer.v1. It needs of the configuration: ID, Datacenter, Group, Agent, Stores.
func NewPeerServer(cfg ServerConfig) *Server {
	s := newServer(cfg)
	s.servePeers()
	return s
}

// servePeers adds the services for peers.
func (s *Server) servePeers() {
	peerv1.RegisterPeerServiceServer(s.grpc, &peerServer{Server: s, jail: newJail(s.cfg.Stores, s.cfg.Reached)})
}

// Handshake implements peerv1.PeerServiceServer.
func (s *peerServer) Handshake(ctx context.Context, req *peerv1.HandshakeRequest) (*peerv1.HandshakeResponse, error) {
	datacenter, err := datacenterOf(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case req.GetProtocol() != protocol:
		return nil, fmt.Errorf("handshake: %w: the caller speaks protocol %d, agent %s of %s speaks %d: run the same release of ckptferry on both sides",
			ErrRefused, req.GetProtocol(), s.cfg.ID, s.cfg.Datacenter, protocol)
	case req.GetDatacenter() != datacenter:
		return nil, fmt.Errorf("handshake: %w: the caller says that it is of datacenter %q, and its connection says %q", ErrDenied, req.GetDatacenter(), datacenter)
	case req.GetExpectedDatacenter() != s.cfg.Datacenter:
		return nil, fmt.Errorf("handshake: %w: this is agent %s of datacenter %s, and %q was meant: mend the endpoints of that datacenter in the caller's configuration",
			ErrRefused, s.cfg.ID, s.cfg.Datacenter, req.GetExpectedDatacenter())
	}
	return &peerv1.HandshakeResponse{Protocol: protocol, Datacenter: s.cfg.Datacenter, Agent: s.cfg.ID}, nil
}

// export is the one that the caller names, if the caller's datacenter may read it.
func (s *peerServer) export(ctx context.Context, name string) (raftstore.Export, error) {
	datacenter, err := datacenterOf(ctx)
	if err != nil {
		return raftstore.Export{}, err
	}
	return allowed(s.read().view, datacenter, name)
}

const (
	// signEvery is how often a watch shows that it lives, and looks whether it is still allowed.
	signEvery = 2 * time.Second
	// newsApart is how long after news the next wait: more of it goes in one message then.
	newsApart = 10 * time.Millisecond
	// newsMost is how many checkpoints are in one message: with paths of 4 KiB it is far below maxCallBytes.
	newsMost = 500
)

// metadataAnyAgent says that a watch is content with an agent that does not lead.
const metadataAnyAgent = "ckptferry-any-agent"

// Watch implements peerv1.PeerServiceServer. Only the leader of a group looks at the storage, so it alone knows when
// that was. An agent that knows another leader says so instead of answering, unless the caller could not find it.
func (s *peerServer) Watch(req *peerv1.WatchRequest, out grpc.ServerStreamingServer[peerv1.WatchResponse]) error {
	ctx := out.Context()
	anyAgent := len(metadata.ValueFromIncomingContext(ctx, metadataAnyAgent)) > 0
	sign := time.NewTicker(signEvery)
	defer sign.Stop()
	var sent uint64 // the highest seq
	for {
		e, err := s.export(ctx, req.GetExport())
		if err != nil {
			return err
		}
		if leader, _ := s.cfg.Group.Leader(); leader != s.cfg.ID && leader != "" && !anyAgent {
			return &withLeader{fmt.Errorf("watch export %s at agent %s: %w", e.Name, s.cfg.ID, ErrNotLeader), leader}
		}
		// In this order: what was polled has been found, and a change after this look is told by the channel.
		says := said{gone: s.cfg.Agent.Gone(e.Name)} // of this poll or one before: what comes back is told with the next
		says.polledAt, says.problem = s.cfg.Agent.Polled(e.Name)
		changed := s.cfg.Group.Changed()
		news := s.read().view.FoundAfter(e.Name, sent)
		if len(news) > 0 {
			sent = news[len(news)-1].Seq
		}
		if err := sendNews(out, news, says); err != nil {
			return err
		}
		if err := s.untilNews(ctx, changed, sign.C, e.Name, sent); err != nil {
			return err
		}
	}
}

// said is what the leader knows of an export's storage.
type said struct {
	polledAt time.Time
	problem  string
	gone     []string // jobs
}

// sendNews sends the checkpoints, or a sign of life when there are none. The last message says that these were all.
func sendNews(out grpc.ServerStreamingServer[peerv1.WatchResponse], news []raftstore.Found, says said) error {
	for {
		part := news[:min(len(news), newsMost)]
		news = news[len(part):]
		answer := &peerv1.WatchResponse{}
		for _, f := range part {
			answer.Found = append(answer.Found, raftstore.FoundMessage(f))
		}
		if len(news) == 0 {
			answer.Complete, answer.Problem, answer.PolledTime = true, says.problem, timeMessage(says.polledAt)
			if !says.polledAt.IsZero() {
				answer.GoneJobs = says.gone
			}
		}
		if err := out.Send(answer); err != nil || len(news) == 0 {
			return err
		}
	}
}

// untilNews returns when there are checkpoints after seq, or it is time for a sign of life.
func (s *peerServer) untilNews(ctx context.Context, changed <-chan struct{}, sign <-chan time.Time, export string, seq uint64) error {
	rest := time.NewTimer(newsApart)
	defer rest.Stop()
	for {
		select {
		case <-rest.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stopping:
			return s.stopError()
		}
		select {
		case <-changed:
		case <-sign:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stopping:
			return s.stopError()
		}
		changed = s.cfg.Group.Changed()
		if len(s.read().view.FoundAfter(export, seq)) > 0 {
			return nil
		}
		rest.Reset(newsApart)
	}
}

func (s *Server) stopError() error {
	return fmt.Errorf("agent %s: %w", s.cfg.ID, errStopping)
}

// timeMessage is a time for the wire; the zero time is absent.
func timeMessage(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// timeOf is timeMessage's opposite. A time that makes no sense is the zero time.
func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil || t.CheckValid() != nil {
		return time.Time{}
	}
	return t.AsTime()
}
