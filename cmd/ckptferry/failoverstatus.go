package main

import (
	"context"
	"fmt"
	"io/fs"
	"path"

	"github.com/spf13/cobra"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/replicator/promote"
)

func (a *app) failoverStatusCommand() *cobra.Command {
	var (
		f     clientFlags
		route string
		all   bool
	)
	c := &cobra.Command{
		Use:   "status [JOB]",
		Short: "What is promoted here, by whom and when, and whether its old datacenter knows",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &ckptferryv1.ListPromotionsRequest{Route: route, All: all, PageSize: 1000}
			if len(args) == 1 {
				req.Job = args[0]
			}
			answer, err := f.promotions(cmd.Context(), req)
			if err != nil {
				return err
			}
			a.noteFreshness(answer.GetRead())
			switch {
			case f.output == "json":
				return a.printMessage(answer)
			case len(answer.GetPromotions()) == 0 && req.Job != "":
				return fmt.Errorf("job %s: %w (%w): `ckptferry failover plan %[1]s` says what it would go on from, --all shows what is over", req.Job, errNoPromotion, fs.ErrNotExist)
			case len(answer.GetPromotions()) == 0:
				a.note("nothing is promoted here")
				return nil
			}
			return a.printTable("ROUTE JOB STATE CHECKPOINT MODE PROMOTED BY FENCED EPOCH PLAN", promotionRows(answer.GetPromotions()))
		},
	}
	f.register(c)
	c.Flags().StringVar(&route, "route", "", "only this route")
	c.Flags().BoolVar(&all, "all", false, "also those that are over")
	return c
}

// promotions asks for all pages.
func (f clientFlags) promotions(ctx context.Context, req *ckptferryv1.ListPromotionsRequest) (*ckptferryv1.ListPromotionsResponse, error) {
	all := &ckptferryv1.ListPromotionsResponse{}
	for {
		var page *ckptferryv1.ListPromotionsResponse
		err := f.ask(ctx, func(ctx context.Context, agent api) (err error) {
			page, err = agent.Promotions(ctx, req)
			return err
		})
		if err != nil {
			return nil, err
		}
		all.Promotions, all.Read = append(all.Promotions, page.GetPromotions()...), page.GetRead()
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			return all, nil
		}
	}
}

func promotionRows(promotions []*ckptferryv1.Promotion) [][]string {
	var rows [][]string
	for _, p := range promotions {
		state := enumName(p.GetState().String(), "PROMOTION_STATE_")
		if p.GetForced() {
			state += " (forced)"
		}
		fenced := "not yet"
		if p.GetFenceAcknowledgedTime() != nil {
			fenced = timeCell(p.GetFenceAcknowledgedTime())
		}
		rows = append(rows, []string{
			p.GetRoute(), p.GetJob(), state, fmt.Sprintf("chk-%d", p.GetKey().GetCheckpointId()), enumName(p.GetClaimMode().String(), "CLAIM_MODE_"),
			timeCell(p.GetPromotedTime()), p.GetActor(), fenced, fmt.Sprint(p.GetEpoch()), p.GetPlan(),
		})
	}
	return rows
}

func (a *app) failoverAbortCommand() *cobra.Command {
	var (
		f             clientFlags
		route, reason string
	)
	c := &cobra.Command{
		Use:   "abort JOB…",
		Short: "End promotions: the routes pull for these jobs again",
		Long: `Ends the promotions of the jobs whose names match one of the patterns. Their routes pull again, and their old datacenter is
told that it is fenced no more. Make sure first that no Flink runs them here. What Flink did to a replica with CLAIM stays so.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			active, err := f.promotions(cmd.Context(), &ckptferryv1.ListPromotionsRequest{Route: route, PageSize: 1000})
			if err != nil {
				return err
			}
			byRoute, err := jobsToAbort(active.GetPromotions(), args)
			if err != nil {
				return err
			}
			ended := &ckptferryv1.AbortFailoverResponse{}
			for _, part := range byRoute {
				part.Reason = reason
				err := f.ask(cmd.Context(), func(ctx context.Context, agent api) error {
					answer, err := agent.AbortFailover(ctx, part)
					ended.Promotions = append(ended.Promotions, answer.GetPromotions()...)
					return err
				})
				if err != nil {
					return err
				}
			}
			if f.output == "json" {
				return a.printMessage(ended)
			}
			return a.printTable("ROUTE JOB STATE CHECKPOINT MODE PROMOTED BY FENCED EPOCH PLAN", promotionRows(ended.GetPromotions()))
		},
	}
	f.register(c)
	c.Flags().StringVar(&route, "route", "", "only this route")
	c.Flags().StringVar(&reason, "reason", "", "why, for the record")
	return c
}

// jobsToAbort are the requests that end what the patterns name, in parts.
func jobsToAbort(active []*ckptferryv1.Promotion, patterns []string) ([]*ckptferryv1.AbortFailoverRequest, error) {
	var parts []*ckptferryv1.AbortFailoverRequest
	matched := make([]bool, len(patterns))
	for _, p := range active { // by route and job
		wanted := false
		for n, pattern := range patterns {
			is, err := path.Match(pattern, p.GetJob())
			if err != nil {
				return nil, usageError{fmt.Errorf("JOB %q: %w", pattern, err)}
			}
			matched[n], wanted = matched[n] || is, wanted || is
		}
		if !wanted {
			continue
		}
		if n := len(parts); n == 0 || parts[n-1].GetRoute() != p.GetRoute() || len(parts[n-1].GetJobs()) == promote.MostItems {
			parts = append(parts, &ckptferryv1.AbortFailoverRequest{Route: p.GetRoute()})
		}
		last := parts[len(parts)-1]
		last.Jobs = append(last.Jobs, p.GetJob())
	}
	for n, pattern := range patterns {
		if !matched[n] {
			return nil, fmt.Errorf("job %s: %w (%w): `ckptferry failover status` lists what is", pattern, errNoPromotion, fs.ErrNotExist)
		}
	}
	return parts, nil
}
