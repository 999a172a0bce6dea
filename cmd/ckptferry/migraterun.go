package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/rpc"
)

// followEvery is how often a migration that is followed is looked at.
const followEvery = 500 * time.Millisecond

func (a *app) migrateRunCommand() *cobra.Command {
	var (
		f      clientFlags
		m      migrateFlags
		detach bool
	)
	c := &cobra.Command{
		Use:   "run NAME [JOB…]",
		Short: "Begin a migration and follow it until every job is moved, or has failed",
		Long: `Begins the migration NAME of these jobs, as ` + "`migrate plan`" + ` with the same flags says, and follows it: each step of a job is a
line on stderr, and at the end the report is printed. The group carries it out: Ctrl-C ends the following alone, and the same
command follows again (begun twice is begun once).

It ends when all jobs are STARTED, FAILED or ABORTED, or READY and nothing is left to wait for. A job that fails pauses the
migration, so that what went wrong once doesn't happen to all: ` + "`migrate resume NAME`" + `, or abort.

Exit code 0 when every job is READY or STARTED, 9 when one is not.`,
		Example: `  ckptferry migrate run spring 'orders*' --jobmanager http://jm.dc1:8081 --hook flink`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var begun *ckptferryv1.StartMigrationResponse
			err := f.ask(cmd.Context(), migrating(func(ctx context.Context, agent migrations) error {
				req, err := m.request(ctx, agent, args[0], args[1:])
				if err == nil {
					begun, err = agent.StartMigration(ctx, &ckptferryv1.StartMigrationRequest{Plan: req})
				}
				return err
			}))
			if err != nil {
				return err
			}
			if detach {
				a.note("migration %s runs; look at it: ckptferry migrate status %[1]s", args[0])
				if f.output == "json" {
					return a.printMessage(begun)
				}
				return nil
			}
			return a.followMigration(cmd.Context(), f, args[0])
		},
	}
	f.register(c)
	m.register(c)
	c.Flags().BoolVar(&detach, "detach", false, "begin it and don't follow")
	return c
}

// followMigration tells each step until nothing is left to wait for, and then reports.
func (a *app) followMigration(ctx context.Context, f clientFlags, name string) error {
	told := map[string]string{}
	silent := false
	for {
		one, err := migrationNamed(ctx, f, name)
		switch {
		case ctx.Err() != nil:
			a.note("migration %s goes on without you; look at it: ckptferry migrate status %[1]s; end it: ckptferry migrate abort %[1]s", name)
			return ctx.Err()
		case wraps(rpc.ErrUnavailable, rpc.ErrNotLeader)(err):
			if !silent {
				a.note("no agent answers just now (%v); asking on", err)
			}
			silent = true
		case err != nil:
			return err
		default:
			silent = false
			a.tellSteps(one, told)
			if followed(one) {
				return a.migrationEnd(f.output, one)
			}
		}
		timer := time.NewTimer(followEvery)
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
	}
}

// tellSteps says what is another than it was, a line each.
func (a *app) tellSteps(one *ckptferryv1.GetMigrationResponse, told map[string]string) {
	m := one.GetMigration()
	if state := migrationStateName(m.GetState()); told[""] != state {
		told[""] = state
		a.note("migration %s is %s", m.GetName(), state)
	}
	for _, j := range one.GetJobs() {
		step := jobStateName(j.GetState())
		switch j.GetState() {
		case ckptferryv1.MigrationJobState_MIGRATION_JOB_STATE_STOPPING, ckptferryv1.MigrationJobState_MIGRATION_JOB_STATE_COPYING:
			if j.GetPredictedCutover() != nil {
				step += ", predicted to be away for " + humanDuration(j.GetPredictedCutover().AsDuration())
			}
		case ckptferryv1.MigrationJobState_MIGRATION_JOB_STATE_READY:
			step += " after " + took(j.GetStoppingTime(), j.GetReadyTime())
			if m.GetStartHook() == "" || j.GetProblem() != "" {
				step += ": start it: " + j.GetStartLine()
				step += fmt.Sprintf(" and say so: ckptferry migrate started %s %s", m.GetName(), j.GetJob())
			}
		}
		if p := j.GetProblem(); p != "" {
			step += ": " + p
		}
		if told[j.GetJob()] != step {
			told[j.GetJob()] = step
			a.note("%s  wave %d  %s: %s", time.Now().Format("15:04:05"), j.GetWave(), j.GetJob(), step)
		}
	}
}

// followed says that nothing is left that the agents do, now or once somebody has said that a job was started.
func followed(one *ckptferryv1.GetMigrationResponse) bool {
	switch one.GetMigration().GetState() {
	case ckptferryv1.MigrationState_MIGRATION_STATE_DONE:
		return true
	case ckptferryv1.MigrationState_MIGRATION_STATE_ABORTED, ckptferryv1.MigrationState_MIGRATION_STATE_RUNNING, ckptferryv1.MigrationState_MIGRATION_STATE_PAUSED:
	}
	awaited := false // somebody's word that a job was started
	for _, j := range one.GetJobs() {
		if j.GetState() < ckptferryv1.MigrationJobState_MIGRATION_JOB_STATE_READY || awaitsHook(one.GetMigration(), j) {
			return false
		}
		awaited = awaited || j.GetState() == ckptferryv1.MigrationJobState_MIGRATION_JOB_STATE_READY
	}
	return awaited || one.GetMigration().GetState() == ckptferryv1.MigrationState_MIGRATION_STATE_ABORTED // else it is DONE in a moment
}

// awaitsHook says that a hook runs for the job, or will.
func awaitsHook(m *ckptferryv1.Migration, j *ckptferryv1.MigrationJob) bool {
	return j.GetState() == ckptferryv1.MigrationJobState_MIGRATION_JOB_STATE_READY && m.GetStartHook() != "" && j.GetProblem() == "" &&
		(m.GetState() != ckptferryv1.MigrationState_MIGRATION_STATE_ABORTED || j.GetStartAgent() != "")
}

// migrationEnd reports, and says by the exit code whether all were moved.
func (a *app) migrationEnd(output string, one *ckptferryv1.GetMigrationResponse) error {
	var err error
	if output == "json" {
		err = a.printMessage(one)
	} else {
		err = a.printMigrationReport(one)
	}
	if err != nil {
		return err
	}
	missed := 0
	for _, j := range one.GetJobs() {
		if s := j.GetState(); s != ckptferryv1.MigrationJobState_MIGRATION_JOB_STATE_READY && s != ckptferryv1.MigrationJobState_MIGRATION_JOB_STATE_STARTED {
			missed++
		}
	}
	if missed > 0 {
		a.note("%d of %d jobs were not moved: ckptferry migrate report %s says why", missed, len(one.GetJobs()), one.GetMigration().GetName())
		return silentError{exitPartial, nil}
	}
	return nil
}
