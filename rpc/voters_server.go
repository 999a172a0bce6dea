package rpc

import (
	"context"
	"fmt"
	"time"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// Membership changes who belongs to the group, at its leader. *raftstore.Store has it.
type Membership interface {
	AddVoter(ctx context.Context, id, addr string) error
	RemoveVoter(ctx context.Context, id string) error
	TransferLeadership(ctx context.Context, id string) error
}

// ledWithin is how long is waited for another leader, who was told to lead already.
const ledWithin = 5 * time.Second

// AddVoter implements ckptferryv1.AgentServiceServer.
func (s *api) AddVoter(ctx context.Context, req *ckptferryv1.AddVoterRequest) (*ckptferryv1.AddVoterResponse, error) {
	if s.cfg.Membership == nil {
		return s.UnimplementedAgentServiceServer.AddVoter(ctx, req)
	}
	if err := s.cfg.Membership.AddVoter(ctx, req.GetId(), req.GetAddress()); err != nil {
		return nil, s.namesLeader(err)
	}
	s.cfg.Log.Info("a voter was added", "agent", req.GetId(), "address", req.GetAddress(), "by", s.caller(ctx))
	return &ckptferryv1.AddVoterResponse{Voters: s.voters()}, nil
}

// RemoveVoter implements ckptferryv1.AgentServiceServer.
func (s *api) RemoveVoter(ctx context.Context, req *ckptferryv1.RemoveVoterRequest) (*ckptferryv1.RemoveVoterResponse, error) {
	if s.cfg.Membership == nil {
		return s.UnimplementedAgentServiceServer.RemoveVoter(ctx, req)
	}
	if err := s.cfg.Membership.RemoveVoter(ctx, req.GetId()); err != nil {
		return nil, s.namesLeader(err)
	}
	s.cfg.Log.Info("a voter was removed", "agent", req.GetId(), "by", s.caller(ctx))
	return &ckptferryv1.RemoveVoterResponse{Voters: s.voters()}, nil
}

// TransferLeadership implements ckptferryv1.AgentServiceServer.
func (s *api) TransferLeadership(ctx context.Context, req *ckptferryv1.TransferLeadershipRequest) (*ckptferryv1.TransferLeadershipResponse, error) {
	if s.cfg.Membership == nil {
		return s.UnimplementedAgentServiceServer.TransferLeadership(ctx, req)
	}
	before := s.cfg.Group.Term()
	if err := s.cfg.Membership.TransferLeadership(ctx, req.GetId()); err != nil {
		return nil, s.namesLeader(err)
	}
	late := time.NewTimer(ledWithin)
	defer late.Stop()
	again := time.NewTicker(leaderEvery)
	defer again.Stop()
	for {
		leader, _ := s.cfg.Group.Leader()
		if leader != "" && (s.cfg.Group.Term() != before || leader == req.GetId()) {
			s.cfg.Log.Info("leadership was transferred", "to", leader, "by", s.caller(ctx))
			return &ckptferryv1.TransferLeadershipResponse{Leader: leader}, nil
		}
		select {
		case <-again.C:
		case <-late.C:
			return nil, fmt.Errorf("transfer leadership: %w: it was handed over, and nobody leads yet after %s; ask for the status", ErrUnavailable, ledWithin)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// caller is who calls, for the log.
func (s *Server) caller(ctx context.Context) string {
	who, err := callerOf(ctx, s.cfg.Datacenter)
	if err != nil {
		return "unknown"
	}
	return who.Name
}

// voters lists the group's voters.
func (s *Server) voters() []*ckptferryv1.Voter {
	leader, _ := s.cfg.Group.Leader()
	var voters []*ckptferryv1.Voter
	for _, p := range s.cfg.Group.Peers() {
		voters = append(voters, &ckptferryv1.Voter{Id: p.ID, Address: p.Addr, Leader: p.ID == leader && leader != ""})
	}
	return voters
}
