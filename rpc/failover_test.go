package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
	"github.com/ckptferry/ckptferry/replicator/promote"
)

// planner answers for a Promoter, and keeps what it was asked.
type planner struct {
	items []promote.Item
	err   error

	asked promote.Request
	order promote.Order
	ended promote.Ending
}

func (p *planner) Plan(_ raftstore.View, req promote.Request) (promote.Planned, error) {
	p.asked = req
	return promote.Planned{ID: promote.Digest(p.items), Items: p.items}, p.err
}

func (p *planner) Run(_ context.Context, o promote.Order) ([]promote.Outcome, error) {
	p.order = o
	return []promote.Outcome{{Promotion: &raftstore.Promotion{Route: "prod", Job: "a", State: raftstore.PromotionActive}}, {Refused: "it has moved"}}, p.err
}

func (p *planner) Abort(_ context.Context, e promote.Ending) ([]raftstore.Promotion, error) {
	p.ended = e
	return []raftstore.Promotion{{Route: e.Route, Job: e.Jobs[0], State: raftstore.PromotionAborted}}, p.err
}

func TestAPlanComesInPartsAndWhole(t *testing.T) {
	p := &planner{}
	for n := range 2*planPart + 1 {
		p.items = append(p.items, promote.Item{Route: "prod", Job: fmt.Sprintf("job-%05d", n), Key: raftstore.Key{Route: "prod", CheckpointID: int64(n)}})
	}
	cfg := sourceConfig(newGroup(), nil)
	cfg.Failover = p
	c := dialAPI(t, serveAPI(t, cfg))
	plan, err := c.PlanFailover(t.Context(), &ckptferryv1.PlanFailoverRequest{
		Jobs: []string{"job-*"}, Route: "prod", FlinkVersion: "2.0", ClaimMode: ckptferryv1.ClaimMode_CLAIM_MODE_CLAIM, Failback: true, Before: timeMessage(time.Unix(1, 0)),
	})
	if err != nil || plan.ID != promote.Digest(p.items) || len(plan.Items) != len(p.items) || plan.Read.GetAgent() != "a1" {
		t.Fatalf("a plan of %d items, %q, %v; want %d", len(plan.Items), plan.ID, err, len(p.items))
	}
	if last := plan.Items[2*planPart]; last.GetJob() != "job-01000" || last.GetKey().GetCheckpointId() != 1000 {
		t.Errorf("the last item is %v", last)
	}
	if a := p.asked; !slices.Equal(a.Jobs, []string{"job-*"}) || a.Route != "prod" || a.Flink.Major != 2 || a.Mode != replicator.Claim || !a.Failback || !a.Before.Equal(time.Unix(1, 0)) {
		t.Errorf("asked %+v", a)
	}
	for what, req := range map[string]*ckptferryv1.PlanFailoverRequest{"flink": {FlinkVersion: "3"}, "mode": {ClaimMode: 9}} {
		_, err := c.PlanFailover(t.Context(), req)
		wantErr(t, what, err, ErrInvalid)
	}
	p.err = fmt.Errorf("%w: \"x\"", promote.ErrNoJob)
	_, err = c.PlanFailover(t.Context(), &ckptferryv1.PlanFailoverRequest{})
	wantErr(t, "an unknown job", err, ErrNotFound)
}

func TestARunSaysWhoAsksAndWhatBecameOfEachJob(t *testing.T) {
	p := &planner{items: []promote.Item{{Route: "prod", Job: "a"}, {Route: "prod", Job: "b"}}}
	g := newGroup()
	cfg := sourceConfig(g, nil)
	cfg.Failover = p
	c := dialAPI(t, serveAPI(t, cfg))
	req := &ckptferryv1.RunFailoverRequest{Plan: "p", Items: []*ckptferryv1.FailoverItem{p.items[0].Message(), p.items[1].Message()}, Deep: true, Force: true, DryRun: true, Reason: "why"}
	answer, err := c.RunFailover(t.Context(), req)
	if err != nil || answer.GetResults()[0].GetPromotion().GetState() != ckptferryv1.PromotionState_PROMOTION_STATE_ACTIVE || answer.GetResults()[1].GetRefused() != "it has moved" || answer.GetResults()[1].GetJob() != "b" {
		t.Errorf("%v, %v", answer, err)
	}
	if o := p.order; o.Plan != "p" || o.Actor != "plaintext" || o.Reason != "why" || !o.Deep || !o.Force || !o.DryRun || len(o.Items) != 2 {
		t.Errorf("order %+v", o)
	}
	ended, err := c.AbortFailover(t.Context(), &ckptferryv1.AbortFailoverRequest{Route: "prod", Jobs: []string{"a"}, Reason: "over"})
	if err != nil || ended.GetPromotions()[0].GetState() != ckptferryv1.PromotionState_PROMOTION_STATE_ABORTED || p.ended.Actor != "plaintext" || p.ended.Reason != "over" {
		t.Errorf("%v, %v, %+v", ended, err, p.ended)
	}
	g.change(func() { g.leader = "a2" })
	p.err = raftstore.ErrNotLeader
	_, err = c.RunFailover(t.Context(), req)
	wantErr(t, "a follower", err, ErrNotLeader)
	wantSays(t, "a follower", err, "the leader is a2")
}

// Fences are told to whoever can have them recorded, and only of what the teller may read.
func TestFencesGoToAnAgentThatCanRecordThem(t *testing.T) {
	n := newNetwork()
	export := raftstore.Export{Name: "prod", Bases: []string{"file:/cp/{job}"}, To: []string{"dc2"}}
	var told promote.Told
	record := func(err error) FenceFunc {
		return func(_ context.Context, t promote.Told) ([]raftstore.FencedJob, error) {
			if err == nil {
				told = t
			}
			return t.Jobs, err
		}
	}
	for endpoint, err := range map[string]error{"a1": raftstore.ErrNotLeader, "a2": nil} {
		g := newGroup(export)
		g.leader = "a2"
		cfg := sourceConfig(g, nil)
		cfg.Fence = record(err)
		servePeers(t, n, endpoint, cfg)
	}
	peer := dialPeer(t, n, "nowhere", "a1", "a2")
	job := raftstore.FencedJob{Job: "orders", Epoch: 3, PromotedAt: time.Unix(7, 0).UTC(), Lifted: true}
	known, err := peer.TellFences(t.Context(), "prod", []raftstore.FencedJob{job})
	if err != nil || len(known) != 1 || known[0] != job {
		t.Errorf("known %+v, %v", known, err)
	}
	job.Export, job.Datacenter = "prod", "dc2"
	if told.Export != "prod" || told.Datacenter != "dc2" || !slices.Equal(told.Jobs, []raftstore.FencedJob{job}) {
		t.Errorf("told %+v", told)
	}
	if _, err := peer.TellFences(t.Context(), "other", []raftstore.FencedJob{job}); err == nil {
		t.Error("told of an export that is not there")
	}
	_, err = dialPeer(t, n, "a1").TellFences(t.Context(), "prod", []raftstore.FencedJob{job})
	wantSays(t, "followers alone", err, "does not lead")
}

// startedGroup is a group whose log was applied up to an index.
type startedGroup struct {
	*group
	index uint64
}

func (g startedGroup) View() raftstore.View { return raftstore.View{AppliedIndex: g.index} }

// An agent that has just started must not say that there is nothing; one that has applied something says how stale that is.
func TestAnAgentThatHasAppliedNothingAndKnowsNoLeaderDoesNotAnswer(t *testing.T) {
	for _, tc := range []struct {
		leader  string
		index   uint64
		answers bool
	}{{"", 0, false}, {"a1", 0, true}, {"", 5, true}} {
		g := newGroup()
		g.leader = tc.leader
		cfg := sourceConfig(g, nil)
		cfg.Group, cfg.Failover = startedGroup{g, tc.index}, &planner{}
		s := newServer(cfg)
		s.read = func() snapshot {
			from := g.snapshot()
			from.index = tc.index
			return from
		}
		s.serveAPI()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		serve(t, s, l)
		c := dialAPI(t, l.Addr().String())
		for name, read := range map[string]func() (*ckptferryv1.ReadContext, error){
			"PlanFailover": func() (*ckptferryv1.ReadContext, error) {
				plan, err := c.PlanFailover(t.Context(), &ckptferryv1.PlanFailoverRequest{})
				return plan.Read, err
			},
			"ListPromotions": func() (*ckptferryv1.ReadContext, error) {
				answer, err := c.Promotions(t.Context(), &ckptferryv1.ListPromotionsRequest{})
				return answer.GetRead(), err
			},
			"ListAudit": func() (*ckptferryv1.ReadContext, error) {
				answer, err := c.Audit(t.Context(), &ckptferryv1.ListAuditRequest{})
				return answer.GetRead(), err
			},
			"ListDrills": func() (*ckptferryv1.ReadContext, error) {
				answer, err := c.Drills(t.Context(), &ckptferryv1.ListDrillsRequest{})
				return answer.GetRead(), err
			},
			"ListReplicas": func() (*ckptferryv1.ReadContext, error) {
				answer, err := c.Replicas(t.Context(), &ckptferryv1.ListReplicasRequest{})
				return answer.GetRead(), err
			},
			"GetReplicaLag": func() (*ckptferryv1.ReadContext, error) {
				answer, err := c.Lag(t.Context(), &ckptferryv1.GetReplicaLagRequest{})
				return answer.GetRead(), err
			},
		} {
			from, err := read()
			switch {
			case !tc.answers && (!errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "ask another agent, or wait [NOT_APPLIED]")):
				t.Errorf("%s of an agent that has applied nothing: %v", name, err)
			case tc.answers && (err != nil || from.GetRaftIndex() != tc.index || from.GetStale() != (tc.leader == "")):
				t.Errorf("%s with leader %q at index %d: %v, %v", name, tc.leader, tc.index, from, err)
			}
		}
	}
}
