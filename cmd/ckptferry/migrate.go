package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/rpc"
)

// migrations is what the migrate commands ask of an agent; *rpc.Client is the product's.
type migrations interface {
	api
	PlanMigration(ctx context.Context, req *ckptferryv1.PlanMigrationRequest) (*ckptferryv1.PlanMigrationResponse, error)
	StartMigration(ctx context.Context, req *ckptferryv1.StartMigrationRequest) (*ckptferryv1.StartMigrationResponse, error)
	SetMigrationState(ctx context.Context, req *ckptferryv1.SetMigrationStateRequest) (*ckptferryv1.SetMigrationStateResponse, error)
	ReportMigrationJob(ctx context.Context, req *ckptferryv1.ReportMigrationJobRequest) (*ckptferryv1.ReportMigrationJobResponse, error)
	Migration(ctx context.Context, req *ckptferryv1.GetMigrationRequest) (*ckptferryv1.GetMigrationResponse, error)
	Migrations(ctx context.Context) (*ckptferryv1.ListMigrationsResponse, error)
}

var _ migrations = (*rpc.Client)(nil)

// migrating lets call talk to an agent that knows migrations, as every product's does.
func migrating(call func(ctx context.Context, agent migrations) error) func(ctx context.Context, agent api) error {
	return func(ctx context.Context, agent api) error {
		m, ok := agent.(migrations)
		if !ok {
			return errors.New("this agent's client knows no migrations")
		}
		return call(ctx, m)
	}
}

func (a *app) migrateCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "migrate",
		Short: "Move running jobs to the target datacenter, planned and in waves",
		Long: `Moves jobs of a route to the route's datacenter while both are well. Ask an agent of the target. A job is copied while it
runs, then stopped, its last state copied and promoted, and started here: by a hook of the agents' configuration
(migrate.hooks), or by you from the start line. The group keeps how far it is, whoever leads: nothing is lost when an agent dies.

A job is stopped
  --stop savepoint   through Flink's REST API, with a savepoint: all of its state is copied while it is away
  --stop cancel      through Flink's REST API, cancelled: only what its last retained checkpoint lacks is copied while it is away
  --stop manual      by you, who then say so: ckptferry migrate stopped NAME JOB`,
		Args: cobra.NoArgs, RunE: needSubcommand,
	}
	c.AddCommand(a.migratePlanCommand(), a.migrateRunCommand(), a.migrateStatusCommand(), a.migrateReportCommand())
	c.AddCommand(
		a.migrateStateCommand("pause", "Stop no further job; what is stopped is moved", ckptferryv1.MigrationState_MIGRATION_STATE_PAUSED),
		a.migrateStateCommand("resume", "Go on with a migration that is paused", ckptferryv1.MigrationState_MIGRATION_STATE_RUNNING),
		a.migrateStateCommand("abort", "Give a migration up: what is not stopped goes on where it is, what is stopped is made READY", ckptferryv1.MigrationState_MIGRATION_STATE_ABORTED),
		a.migrateSaysCommand("stopped", "Say that you have stopped a job at the source", ckptferryv1.MigrationJobState_MIGRATION_JOB_STATE_COPYING),
		a.migrateSaysCommand("started", "Say that you have started a job here", ckptferryv1.MigrationJobState_MIGRATION_JOB_STATE_STARTED),
		a.migrateSaysCommand("running", "Say that a job whose stop is in doubt was not stopped, and goes on at the source", ckptferryv1.MigrationJobState_MIGRATION_JOB_STATE_ABORTED),
	)
	return c
}

// migrateFlags say what is to be moved, and how.
type migrateFlags struct {
	route, stop, jobManager, savepoints, hook string
	wave                                      int32
	maxCutover, readyWithin                   time.Duration
}

func (f *migrateFlags) register(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.route, "route", "", "the route; needed where the datacenter has several")
	flags.StringVar(&f.stop, "stop", "", "savepoint, cancel or manual; savepoint where --jobmanager is given, else manual")
	flags.StringVar(&f.jobManager, "jobmanager", "", "where Flink's REST API answers, http://HOST:PORT; {job} stands for the job's name")
	flags.StringVar(&f.savepoints, "savepoint-dir", "", "URI below which savepoints are written, below a base of the export; {job} stands for the job's name (default: where the job's checkpoints lie)")
	flags.Int32Var(&f.wave, "wave", 1, "how many jobs are stopped at a time")
	flags.DurationVar(&f.maxCutover, "max-cutover", 0, "stop a job only when it is predicted to be away for less; 0: whenever its wave comes")
	flags.DurationVar(&f.readyWithin, "ready-within", 10*time.Minute, "how long a stopped job's last state may take to be READY before the job counts as failed")
	flags.StringVar(&f.hook, "hook", "", "name of a hook in the agents' configuration that starts each job; empty: you do")
	_ = c.RegisterFlagCompletionFunc("stop", cobra.FixedCompletions([]string{"savepoint", "cancel", "manual"}, cobra.ShellCompDirectiveNoFileComp))
}

// request is what the flags say. An unnamed route is the only one that the agent has.
func (f migrateFlags) request(ctx context.Context, agent migrations, name string, jobs []string) (*ckptferryv1.PlanMigrationRequest, error) {
	modes := map[string]ckptferryv1.StopMode{
		"": ckptferryv1.StopMode_STOP_MODE_UNSPECIFIED, "savepoint": ckptferryv1.StopMode_STOP_MODE_SAVEPOINT,
		"cancel": ckptferryv1.StopMode_STOP_MODE_CANCEL, "manual": ckptferryv1.StopMode_STOP_MODE_MANUAL,
	}
	mode, ok := modes[f.stop]
	if !ok {
		return nil, usageError{fmt.Errorf("--stop %q: want savepoint, cancel or manual", f.stop)}
	}
	route := f.route
	if route == "" {
		all, err := agent.Routes(ctx)
		if err != nil {
			return nil, err
		}
		if n := len(all.GetRoutes()); n != 1 {
			return nil, usageError{fmt.Errorf("--route is missing: agent %s has %d routes (`ckptferry route list`)", all.GetRead().GetAgent(), n)}
		}
		route = all.GetRoutes()[0].GetName()
	}
	m := &ckptferryv1.Migration{Name: name, Route: route, StartHook: f.hook, ReadyWithin: durationpb.New(f.readyWithin)}
	if f.maxCutover != 0 {
		m.MaxCutover = durationpb.New(f.maxCutover)
	}
	return &ckptferryv1.PlanMigrationRequest{
		Migration: m, Jobs: jobs, WaveSize: f.wave, StopMode: mode, Jobmanager: f.jobManager, SavepointDirectory: f.savepoints,
	}, nil
}

func (a *app) migratePlanCommand() *cobra.Command {
	var (
		f clientFlags
		m migrateFlags
	)
	c := &cobra.Command{
		Use:   "plan [JOB…]",
		Short: "Say what would be moved in which order, and how long each job would be away",
		Long: `Says what would be moved in which order, and how long each job would be away: from when it is told to stop until its last
replica is READY and promoted; the time that starting it takes comes on top. JOB may be a pattern (orders*); none is all of the
route. The first pattern's jobs come first. Changes nothing.

Exit code 6 when a job can't be moved: it says why.`,
		Example: `  ckptferry migrate plan 'orders*' --jobmanager http://jm.dc1:8081 --wave 2`,
		RunE: func(cmd *cobra.Command, jobs []string) error {
			var plan *ckptferryv1.PlanMigrationResponse
			err := f.ask(cmd.Context(), migrating(func(ctx context.Context, agent migrations) error {
				req, err := m.request(ctx, agent, "", jobs)
				if err == nil {
					plan, err = agent.PlanMigration(ctx, req)
				}
				return err
			}))
			if err != nil {
				return err
			}
			return a.printMigrationPlan(f.output, plan)
		},
	}
	f.register(c)
	m.register(c)
	return c
}

func (a *app) printMigrationPlan(output string, plan *ckptferryv1.PlanMigrationResponse) error {
	var rows [][]string
	var blocked int
	for _, p := range plan.GetJobs() {
		j := p.GetJob()
		wave, away, how := fmt.Sprint(j.GetWave()), humanDuration(j.GetPredictedCutover().AsDuration()), p.GetPrediction()
		if p.GetBlocked() != "" {
			blocked++
			wave, away, how = "-", "-", "BLOCKED: "+p.GetBlocked()
		}
		delta := "-"
		if p.DeltaBytes != nil {
			delta = humanBytes(p.GetDeltaBytes())
		}
		rows = append(rows, []string{wave, j.GetJob(), stopName(j.GetStopMode()), delta, away, how})
	}
	var err error
	if output == "json" {
		err = a.printMessage(plan)
	} else {
		err = a.printTable("WAVE JOB STOP DELTA AWAY HOW-IT-IS-PREDICTED", rows)
	}
	if err != nil {
		return err
	}
	a.note("%d jobs, about %s in all, without the time that starting them takes", len(plan.GetJobs())-blocked, humanDuration(plan.GetTotal().AsDuration()))
	a.noteFreshness(plan.GetRead())
	if blocked > 0 {
		return fmt.Errorf("%d of %d jobs can't be moved: leave them out, or mend what is said of them: %w", blocked, len(plan.GetJobs()), rpc.ErrRefused)
	}
	return nil
}

func stopName(m ckptferryv1.StopMode) string {
	return strings.ToLower(strings.TrimPrefix(m.String(), "STOP_MODE_"))
}

func jobStateName(s ckptferryv1.MigrationJobState) string {
	return strings.TrimPrefix(s.String(), "MIGRATION_JOB_STATE_")
}

func migrationStateName(s ckptferryv1.MigrationState) string {
	return strings.TrimPrefix(s.String(), "MIGRATION_STATE_")
}

func (a *app) migrateStateCommand(verb, short string, to ckptferryv1.MigrationState) *cobra.Command {
	var f clientFlags
	c := &cobra.Command{
		Use: verb + " NAME", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var answer *ckptferryv1.SetMigrationStateResponse
			err := f.ask(cmd.Context(), migrating(func(ctx context.Context, agent migrations) (err error) {
				answer, err = agent.SetMigrationState(ctx, &ckptferryv1.SetMigrationStateRequest{Name: args[0], State: to})
				return err
			}))
			if err != nil {
				return err
			}
			if f.output == "json" {
				return a.printMessage(answer)
			}
			_, err = fmt.Fprintf(a.out, "migration %s is %s\n", args[0], migrationStateName(answer.GetMigration().GetState()))
			return err
		},
	}
	f.register(c)
	return c
}

func (a *app) migrateSaysCommand(verb, short string, to ckptferryv1.MigrationJobState) *cobra.Command {
	var f clientFlags
	c := &cobra.Command{
		Use: verb + " NAME JOB", Short: short, Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var answer *ckptferryv1.ReportMigrationJobResponse
			err := f.ask(cmd.Context(), migrating(func(ctx context.Context, agent migrations) (err error) {
				answer, err = agent.ReportMigrationJob(ctx, &ckptferryv1.ReportMigrationJobRequest{Name: args[0], Job: args[1], State: to})
				return err
			}))
			if err != nil {
				return err
			}
			if f.output == "json" {
				return a.printMessage(answer)
			}
			_, err = fmt.Fprintf(a.out, "job %s of migration %s is %s\n", args[1], args[0], jobStateName(answer.GetJob().GetState()))
			return err
		},
	}
	f.register(c)
	return c
}
