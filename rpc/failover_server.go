package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
	"github.com/ckptferry/ckptferry/replicator/promote"
)

// Failover plans and carries out promotions; *promote.Promoter is the one of the product.
type Failover interface {
	Plan(view raftstore.View, req promote.Request) (promote.Planned, error)
	Run(ctx context.Context, o promote.Order) ([]promote.Outcome, error)
	Abort(ctx context.Context, e promote.Ending) ([]raftstore.Promotion, error)
}

// planPart is how many items of a plan are in one message.
const planPart = 500

// failover answers FailoverService.
type failover struct {
	ckptferryv1.UnimplementedFailoverServiceServer
	*Server
}

// PlanFailover implements ckptferryv1.FailoverServiceServer. Any agent answers, from its own view.
func (s *failover) PlanFailover(req *ckptferryv1.PlanFailoverRequest, out grpc.ServerStreamingServer[ckptferryv1.PlanFailoverResponse]) error {
	if s.cfg.Failover == nil {
		return s.UnimplementedFailoverServiceServer.PlanFailover(req, out)
	}
	asked, err := planRequest(req)
	if err != nil {
		return err
	}
	view := s.cfg.Group.View()
	if err := s.hasApplied(view.AppliedIndex); err != nil {
		return err
	}
	plan, err := s.cfg.Failover.Plan(view, asked)
	if err != nil {
		return fmt.Errorf("plan failover: %w", err)
	}
	read := s.readContext(snapshot{index: view.AppliedIndex})
	for items := plan.Items; ; {
		part := items[:min(len(items), planPart)]
		items = items[len(part):]
		answer := &ckptferryv1.PlanFailoverResponse{Read: read, Datacenter: s.cfg.Datacenter}
		for _, i := range part {
			answer.Items = append(answer.Items, i.Message())
		}
		if len(items) == 0 {
			answer.Plan = plan.ID
		}
		if err := out.Send(answer); err != nil || len(items) == 0 {
			return err
		}
	}
}

func planRequest(req *ckptferryv1.PlanFailoverRequest) (promote.Request, error) {
	asked := promote.Request{
		Jobs: req.GetJobs(), Route: req.GetRoute(), Before: timeOf(req.GetBefore()), Failback: req.GetFailback(), ScrubWithin: req.GetScrubWithin().AsDuration(),
	}
	if req.GetBefore() != nil && asked.Before.IsZero() || asked.ScrubWithin < 0 {
		return asked, fmt.Errorf("plan failover: %w: before and scrub_within must make sense", ErrInvalid)
	}
	if v := req.GetFlinkVersion(); v != "" {
		var err error
		if asked.Flink, err = replicator.ParseFlinkVersion(v); err != nil {
			return asked, fmt.Errorf("plan failover: %w: %w", ErrInvalid, err)
		}
	}
	switch req.GetClaimMode() {
	case ckptferryv1.ClaimMode_CLAIM_MODE_UNSPECIFIED:
	case ckptferryv1.ClaimMode_CLAIM_MODE_CLAIM:
		asked.Mode = replicator.Claim
	case ckptferryv1.ClaimMode_CLAIM_MODE_NO_CLAIM:
		asked.Mode = replicator.NoClaim
	default:
		return asked, fmt.Errorf("plan failover: %w: claim_mode %d is not known", ErrInvalid, req.GetClaimMode())
	}
	return asked, nil
}

// RunFailover implements ckptferryv1.FailoverServiceServer. Only the leader can say that nothing has moved.
func (s *failover) RunFailover(ctx context.Context, req *ckptferryv1.RunFailoverRequest) (*ckptferryv1.RunFailoverResponse, error) {
	if s.cfg.Failover == nil {
		return s.UnimplementedFailoverServiceServer.RunFailover(ctx, req)
	}
	actor, err := actorOf(ctx)
	if err != nil {
		return nil, err
	}
	o := promote.Order{Plan: req.GetPlan(), Deep: req.GetDeep(), Force: req.GetForce(), DryRun: req.GetDryRun(), Reason: req.GetReason(), Actor: actor}
	for _, m := range req.GetItems() {
		o.Items = append(o.Items, promote.ItemOf(m))
	}
	outcomes, err := s.cfg.Failover.Run(ctx, o)
	if err != nil {
		return nil, s.namesLeader(fmt.Errorf("run failover: %w", err))
	}
	answer := &ckptferryv1.RunFailoverResponse{Read: s.readContext(s.read())}
	for i, of := range outcomes {
		result := &ckptferryv1.FailoverResult{Route: o.Items[i].Route, Job: o.Items[i].Job, Refused: of.Refused, Done: of.Done}
		if of.Promotion != nil {
			result.Promotion = raftstore.PromotionMessage(*of.Promotion)
		}
		answer.Results = append(answer.Results, result)
	}
	return answer, nil
}

// AbortFailover implements ckptferryv1.FailoverServiceServer.
func (s *failover) AbortFailover(ctx context.Context, req *ckptferryv1.AbortFailoverRequest) (*ckptferryv1.AbortFailoverResponse, error) {
	if s.cfg.Failover == nil {
		return s.UnimplementedFailoverServiceServer.AbortFailover(ctx, req)
	}
	actor, err := actorOf(ctx)
	if err != nil {
		return nil, err
	}
	promotions, err := s.cfg.Failover.Abort(ctx, promote.Ending{Route: req.GetRoute(), Jobs: req.GetJobs(), Actor: actor, Reason: req.GetReason()})
	if err != nil {
		return nil, s.namesLeader(err)
	}
	answer := &ckptferryv1.AbortFailoverResponse{}
	for _, p := range promotions {
		answer.Promotions = append(answer.Promotions, raftstore.PromotionMessage(p))
	}
	return answer, nil
}

// namesLeader adds to an error that says that another agent leads which one that is.
func (s *Server) namesLeader(err error) error {
	if !errors.Is(err, raftstore.ErrNotLeader) {
		return err
	}
	leader, _ := s.cfg.Group.Leader()
	if leader == s.cfg.ID {
		leader = "" // it was, and is not any more
	}
	return &withLeader{err, leader}
}

// promotionsOf are the promotions that a request asks for, by route and job, after a page token.
func promotionsOf(view raftstore.View, req *ckptferryv1.ListPromotionsRequest, after *promotionPosition) []raftstore.Promotion {
	var all []raftstore.Promotion
	for p := range view.Promotions() {
		if asks(req.GetRoute(), p.Route) && asks(req.GetJob(), p.Job) && (req.GetAll() || p.State == raftstore.PromotionActive) &&
			(after == nil || after.before(p)) {
			all = append(all, p)
		}
	}
	return all
}

// promotionPosition is a promotion's place in the list, for page tokens.
type promotionPosition struct{ Route, Job string }

func (at promotionPosition) before(p raftstore.Promotion) bool {
	if c := strings.Compare(at.Route, p.Route); c != 0 {
		return c < 0
	}
	return at.Job < p.Job
}

// ListPromotions implements ckptferryv1.FailoverServiceServer.
func (s *failover) ListPromotions(_ context.Context, req *ckptferryv1.ListPromotionsRequest) (*ckptferryv1.ListPromotionsResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := tokenOf[promotionPosition](req.GetPageToken())
	if err != nil {
		return nil, err
	}
	view := s.cfg.Group.View()
	if err := s.hasApplied(view.AppliedIndex); err != nil {
		return nil, err
	}
	all := promotionsOf(view, req, after)
	answer := &ckptferryv1.ListPromotionsResponse{Read: s.readContext(snapshot{index: view.AppliedIndex})}
	if len(all) > size {
		all = all[:size]
		answer.NextPageToken = tokenFor(promotionPosition{all[size-1].Route, all[size-1].Job})
	}
	for _, p := range all {
		answer.Promotions = append(answer.Promotions, raftstore.PromotionMessage(p))
	}
	return answer, nil
}
