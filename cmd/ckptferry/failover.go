package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/replicator"
	"github.com/ckptferry/ckptferry/rpc"
)

func (a *app) failoverCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "failover",
		Short: "Have jobs go on in this datacenter when their source is gone",
		Long: `Plans which replica each job goes on from, and promotes the jobs: their replicas are kept, nothing is pulled for them any
more, and their old datacenter is fenced as soon as it can be told. It needs this datacenter's agents alone. It starts no
Flink: the plan prints how that is done, and docs/runbooks/failover.md has the whole way.`,
		Args: cobra.NoArgs, RunE: needSubcommand,
	}
	c.AddCommand(a.failoverPlanCommand(), a.failoverRunCommand(), a.failoverStatusCommand(), a.failoverAbortCommand())
	return c
}

// planFlags say what is planned.
type planFlags struct {
	clientFlags
	route, before, flink, mode string
	scrubWithin                time.Duration
}

func (f *planFlags) register(c *cobra.Command) {
	f.clientFlags.register(c)
	flags := c.Flags()
	flags.Lookup("output").Usage = "table, json (to be given to run) or script (a shell script that starts what is promoted)"
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "script"}, cobra.ShellCompDirectiveNoFileComp)) // known before: then it stays
	flags.StringVar(&f.before, "before", "", "only checkpoints completed before this: a time like 2026-03-01T12:00:00Z, or how long ago, like 2h")
	flags.StringVar(&f.flink, "flink", "", "the Flink version that will be started (default: 1.20, or what a replica needs)")
	flags.StringVar(&f.mode, "mode", "", "NO_CLAIM or CLAIM (default: what is right for each job)")
	flags.DurationVar(&f.scrubWithin, "scrub-within", 0, "warn when a replica's bytes were read last longer ago (default 7 days)")
}

// request reads the flags. The script form is the plan's alone, so the output is looked at here.
func (f *planFlags) request(jobs []string, now time.Time) (*ckptferryv1.PlanFailoverRequest, error) {
	req := &ckptferryv1.PlanFailoverRequest{Jobs: jobs, Route: f.route, FlinkVersion: f.flink}
	if f.flink != "" {
		if _, err := replicator.ParseFlinkVersion(f.flink); err != nil {
			return nil, usageError{fmt.Errorf("--flink: %w", err)}
		}
	}
	switch replicator.ClaimMode(f.mode) {
	case "":
	case replicator.Claim:
		req.ClaimMode = ckptferryv1.ClaimMode_CLAIM_MODE_CLAIM
	case replicator.NoClaim:
		req.ClaimMode = ckptferryv1.ClaimMode_CLAIM_MODE_NO_CLAIM
	default:
		return nil, usageError{fmt.Errorf("--mode %q: want NO_CLAIM or CLAIM", f.mode)}
	}
	if f.before != "" {
		before, err := time.Parse(time.RFC3339, f.before)
		if err != nil {
			ago, agoErr := time.ParseDuration(f.before)
			if agoErr != nil || ago < 0 {
				return nil, usageError{fmt.Errorf("--before %q: want a time like 2026-03-01T12:00:00Z, or how long ago, like 2h", f.before)}
			}
			before = now.Add(-ago)
		}
		req.Before = timestamppb.New(before)
	}
	if f.scrubWithin < 0 {
		return nil, usageError{fmt.Errorf("--scrub-within %s: want 0 or more", f.scrubWithin)}
	}
	if f.scrubWithin > 0 {
		req.ScrubWithin = durationpb.New(f.scrubWithin)
	}
	return req, nil
}

// ask asks for a plan. With the script form the clients' check of the output would be in its way.
func (f planFlags) ask(ctx context.Context, req *ckptferryv1.PlanFailoverRequest) (rpc.FailoverPlan, error) {
	client := f.clientFlags
	if client.output == "script" {
		client.output = "table"
	}
	var plan rpc.FailoverPlan
	err := client.ask(ctx, func(ctx context.Context, agent api) (err error) {
		plan, err = agent.PlanFailover(ctx, req)
		return err
	})
	return plan, err
}

func (a *app) failoverPlanCommand() *cobra.Command {
	var f planFlags
	c := &cobra.Command{
		Use:   "plan [JOB…]",
		Short: "Choose a replica for each job, and say what that costs; changes nothing",
		Long: `Chooses for each job (all, or those whose names match one of the patterns) its newest replica, and prints in the order of
the routes' priorities: its age, which is the RPO, the checkpoints that are lost, and what to know before. Any agent answers.

-o json is the plan as one document for failover run; -o script is a shell script that starts the jobs that are promoted: make it after failover run.`,
		Example: `  ckptferry failover plan
  ckptferry failover plan 'orders*' --route prod -o json > plan.json
  ckptferry failover plan -o script > start.sh`,
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := f.request(args, time.Now())
			if err != nil {
				return err
			}
			plan, err := f.ask(cmd.Context(), req)
			if err != nil {
				return err
			}
			return a.printPlan(f.output, plan)
		},
	}
	f.register(c)
	c.Flags().StringVar(&f.route, "route", "", "only this route")
	return c
}

// partialError says that a part of what was asked for was done; the exit code is 9.
type partialError struct{ err error }

func (e partialError) Error() string { return e.err.Error() }
func (e partialError) Unwrap() error { return e.err }

// errSomeRefused is told after the table that says which.
var errSomeRefused = errors.New("refused")
