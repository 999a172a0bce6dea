package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

func (a *app) migrateStatusCommand() *cobra.Command {
	var f clientFlags
	c := &cobra.Command{
		Use:   "status [NAME]",
		Short: "List the migrations, or show how far the jobs of one are",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				one, err := migrationNamed(cmd.Context(), f, args[0])
				if err != nil {
					return err
				}
				return a.printMigration(f.output, one)
			}
			var all *ckptferryv1.ListMigrationsResponse
			err := f.ask(cmd.Context(), migrating(func(ctx context.Context, agent migrations) (err error) {
				all, err = agent.Migrations(ctx)
				return err
			}))
			if err != nil {
				return err
			}
			a.noteFreshness(all.GetRead())
			if f.output == "json" {
				return a.printMessage(all)
			}
			var rows [][]string
			for _, m := range all.GetMigrations() {
				rows = append(rows, []string{m.GetName(), m.GetRoute(), migrationStateName(m.GetState()), moment(m.GetCreatedTime()), moment(m.GetEndedTime()), m.GetActor(), orDash(m.GetStartHook())})
			}
			return a.printTable("MIGRATION ROUTE STATE BEGAN ENDED BY HOOK", rows)
		},
	}
	f.register(c)
	return c
}

// migrationNamed asks for one migration.
func migrationNamed(ctx context.Context, f clientFlags, name string) (one *ckptferryv1.GetMigrationResponse, err error) {
	err = f.ask(ctx, migrating(func(ctx context.Context, agent migrations) error {
		one, err = agent.Migration(ctx, &ckptferryv1.GetMigrationRequest{Name: name})
		return err
	}))
	return one, err
}

func moment(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return t.AsTime().UTC().Format(time.RFC3339)
}

func (a *app) printMigration(output string, one *ckptferryv1.GetMigrationResponse) error {
	a.noteFreshness(one.GetRead())
	if output == "json" {
		return a.printMessage(one)
	}
	m := one.GetMigration()
	if _, err := fmt.Fprintf(a.out, "migration %s of route %s: %s\n", m.GetName(), m.GetRoute(), migrationStateName(m.GetState())); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	var rows [][]string
	for _, j := range one.GetJobs() {
		what := j.GetProblem()
		if j.GetState() == ckptferryv1.MigrationJobState_MIGRATION_JOB_STATE_READY {
			what = joined(what, "start it: "+j.GetStartLine())
		}
		rows = append(rows, []string{fmt.Sprint(j.GetWave()), j.GetJob(), jobStateName(j.GetState()), stopName(j.GetStopMode()), took(j.GetStoppingTime(), j.GetReadyTime()), orDash(what)})
	}
	return a.printTable("WAVE JOB STATE STOP AWAY PROBLEM-OR-NEXT", rows)
}

func joined(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// took is the time between two moments; "-" when one of them has not been.
func took(from, to *timestamppb.Timestamp) string {
	if from == nil || to == nil {
		return "-"
	}
	return humanDuration(max(to.AsTime().Sub(from.AsTime()), 0))
}

func (a *app) migrateReportCommand() *cobra.Command {
	var f clientFlags
	c := &cobra.Command{
		Use:   "report NAME",
		Short: "Say for each job of a migration how long it was away, how long it was expected to be, and what became of it",
		Long: `Says for each job what became of it, how long it was expected to be away, and how long it was: until its last replica was
READY and promoted, and until it had started. Where nobody runs a hook, a job has started when you say so (migrate started).`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			one, err := migrationNamed(cmd.Context(), f, args[0])
			if err != nil {
				return err
			}
			if f.output == "json" {
				a.noteFreshness(one.GetRead())
				return a.printMessage(one)
			}
			return a.printMigrationReport(one)
		},
	}
	f.register(c)
	return c
}

func (a *app) printMigrationReport(one *ckptferryv1.GetMigrationResponse) error {
	a.noteFreshness(one.GetRead())
	var rows [][]string
	for _, j := range one.GetJobs() {
		predicted, bytes := "-", "-"
		if j.GetPredictedCutover() != nil {
			predicted = humanDuration(j.GetPredictedCutover().AsDuration())
		}
		if j.TotalBytes != nil {
			bytes = humanBytes(j.GetTotalBytes())
		}
		rows = append(rows, []string{
			fmt.Sprint(j.GetWave()), j.GetJob(), jobStateName(j.GetState()), predicted, took(j.GetStoppingTime(), j.GetReadyTime()),
			took(j.GetStoppingTime(), j.GetStartedTime()), took(j.GetStoppingTime(), j.GetStoppedTime()), bytes, orDash(j.GetReplica()), orDash(j.GetProblem()),
		})
	}
	m := one.GetMigration()
	if _, err := fmt.Fprintf(a.out, "migration %s of route %s: %s, began %s, ended %s\n",
		m.GetName(), m.GetRoute(), migrationStateName(m.GetState()), moment(m.GetCreatedTime()), moment(m.GetEndedTime())); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return a.printTable("WAVE JOB RESULT PREDICTED TO-READY TO-STARTED TO-STOP BYTES REPLICA PROBLEM", rows)
}
