package demo

import (
	"context"
	"fmt"
	"strings"

	"github.com/ckptferry/ckptferry/fsutil"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/replicator"
	"github.com/ckptferry/ckptferry/rpc"
)

// failover is what an operator does now: plan, run, start Flink. It asks the target alone.
func (s *show) failover(ctx context.Context) error {
	var plan rpc.FailoverPlan
	err := s.ask(ctx, target, func(ctx context.Context, api *rpc.Client) (err error) {
		plan, err = api.PlanFailover(ctx, &ckptferryv1.PlanFailoverRequest{Route: s.route()})
		return err
	})
	if err != nil {
		return fmt.Errorf("plan the failover: %w", err)
	}
	s.say("ckptferry failover plan: plan %s", plan.ID)
	for _, i := range plan.Items {
		if i.GetBlocked() != "" {
			return fmt.Errorf("plan the failover: job %s is blocked: %s", i.GetJob(), i.GetBlocked())
		}
		s.say("  %s", planLine(i))
	}
	var done *ckptferryv1.RunFailoverResponse
	// Twice is once, so it is simply asked again while the group has no leader.
	err = until(ctx, patience, "the failover to be run", func(ctx context.Context) (bool, error) {
		err := s.ask(ctx, target, func(ctx context.Context, api *rpc.Client) (err error) {
			done, err = api.RunFailover(ctx, &ckptferryv1.RunFailoverRequest{Plan: plan.ID, Items: plan.Items, Reason: source + " is lost"})
			return err
		})
		return err == nil, err
	})
	if err != nil {
		return err
	}
	s.say("ckptferry failover run: the replicas are verified, the jobs are promoted, and %s is fenced when it comes back", source)
	for n, r := range done.GetResults() {
		if r.GetPromotion() == nil {
			return fmt.Errorf("run the failover: job %s: %s", r.GetJob(), r.GetRefused())
		}
		s.say("  %s PROMOTED by %s, epoch %d\n     Flink %s: %s YOUR-JOB.jar", r.GetJob(), r.GetPromotion().GetActor(), r.GetPromotion().GetEpoch(),
			plan.Items[n].GetStart().GetFlinkVersion(), plan.Items[n].GetStart().GetRun())
	}
	return nil
}

func planLine(i *ckptferryv1.FailoverItem) string {
	lost := "nothing known is lost"
	if n := len(i.GetLostCheckpoints()); n > 0 {
		lost = fmt.Sprintf("%d known checkpoints are lost", n)
	}
	return fmt.Sprintf("%-28s chk-%d  RPO %-8s %s; %s", i.GetJob(), i.GetKey().GetCheckpointId(), seconds(i.GetRpo().AsDuration()), lost, strings.Join(i.GetWarnings(), "; "))
}

// verify compares a replica with its manifest as `metadata verify` does.
func (s *show) verify(ctx context.Context, replica string) error {
	dir, err := fsutil.ParseURI(replica)
	if err != nil {
		return fmt.Errorf("verify replica %q: %w", replica, err)
	}
	report, err := replicator.Check(ctx, s.cfg.Stores, replicator.CheckRequest{Dir: dir})
	if err != nil {
		return fmt.Errorf("verify replica %s: %w", dir, err)
	}
	s.say("  OK %s: %d files, %.0f KiB", dir, report.Files, float64(report.Bytes)/1024)
	return nil
}
