package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

type lagFlags struct {
	clientFlags
	route string
	max   time.Duration
	again bool
}

func (a *app) lagCommand() *cobra.Command {
	var f lagFlags
	c := &cobra.Command{
		Use:   "lag [JOB]",
		Short: "How far each job's newest READY replica is behind its source",
		Long: `Asks an agent of the target datacenter. TIME is for how long the newest READY replica has not been the newest; it
grows while the source is silent. RPO is the age of that replica's checkpoint: what would be lost if the source were lost now.

With --max, for cron and Nagios: exit code 8 when the time lag of any job is over it or unknown (no READY replica, no job,
or an answer that may be old).`,
		Example: `  ckptferry lag
  ckptferry lag orders --max 5m -q`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &ckptferryv1.GetReplicaLagRequest{Route: f.route}
			if len(args) == 1 {
				req.Job = args[0]
			}
			if cmd.Flags().Changed("max") && f.max <= 0 {
				return usageError{fmt.Errorf("--max %s: want more than 0", f.max)}
			}
			if f.again && f.max > 0 {
				return usageError{errors.New("--watch and --max: want one of them, an exit code is for who asks once")}
			}
			return a.watched(cmd.Context(), f.again, func(ctx context.Context, a *app) error {
				var answer *ckptferryv1.GetReplicaLagResponse
				err := f.ask(ctx, func(ctx context.Context, agent api) (err error) {
					answer, err = agent.Lag(ctx, req)
					return err
				})
				if err != nil {
					return err
				}
				return a.lag(f, req, answer)
			})
		},
	}
	f.register(c)
	c.Flags().StringVar(&f.route, "route", "", "only this route")
	c.Flags().DurationVar(&f.max, "max", 0, "exit with 8 when the time lag is over this, or unknown")
	watchFlag(c, &f.again)
	return c
}

func (a *app) lag(f lagFlags, req *ckptferryv1.GetReplicaLagRequest, answer *ckptferryv1.GetReplicaLagResponse) error {
	var err error
	switch {
	case f.output == "json":
		err = a.printMessage(answer)
	case len(answer.GetJobs()) > 0:
		err = a.printTable("ROUTE JOB STATE TIME CHECKPOINTS BYTES RPO SOURCE READY REASON", lagRows(answer.GetJobs()))
	}
	if err != nil {
		return err
	}
	a.noteFreshness(answer.GetRead())
	if len(answer.GetJobs()) == 0 && req.GetJob() != "" {
		return fmt.Errorf("job %s: %w on the routes of this datacenter: `ckptferry lag` lists the jobs that are", req.GetJob(), errNotKnown)
	}
	if f.max <= 0 {
		if len(answer.GetJobs()) == 0 {
			a.note("no job is known yet: `ckptferry status` says whether the sources are heard of, `ckptferry route list` what is pulled")
		}
		return nil
	}
	if over := lagOver(answer, f.max); len(over) > 0 {
		return lagError{f.max, over}
	}
	return nil
}

// errNotKnown is something that the group has never heard of.
var errNotKnown error = absentError("not known")

// absentError is fs.ErrNotExist of something that is no file, and does not say that it were one.
type absentError string

func (e absentError) Error() string { return string(e) }
func (e absentError) Unwrap() error { return fs.ErrNotExist }

// lagError says which jobs are over a limit; the exit code is 8.
type lagError struct {
	limit time.Duration
	over  []string
}

func (e lagError) Error() string {
	return fmt.Sprintf("the lag is over %s or unknown:\n  %s", e.limit, strings.Join(e.over, "\n  "))
}

// lagOver lists what keeps an answer from saying that all jobs are within limit.
func lagOver(answer *ckptferryv1.GetReplicaLagResponse, limit time.Duration) []string {
	var over []string
	if answer.GetRead().GetStale() {
		over = append(over, fmt.Sprintf("agent %s knows no leader of its group, so its answer may be old", answer.GetRead().GetAgent()))
	}
	if len(answer.GetJobs()) == 0 {
		over = append(over, "no job is known")
	}
	for _, job := range answer.GetJobs() {
		name := job.GetRoute() + "/" + orDash(job.GetJob())
		switch lag := job.GetTimeLag(); {
		case job.GetState() == ckptferryv1.LagState_LAG_STATE_PROMOTED: // it goes on here
		case lag == nil:
			over = append(over, fmt.Sprintf("%s: unknown: %s: %s", name, lagStateName(job.GetState()), job.GetReason()))
		case lag.AsDuration() > limit:
			over = append(over, fmt.Sprintf("%s: %s: %s: %s", name, humanDuration(lag.AsDuration()), lagStateName(job.GetState()), job.GetReason()))
		}
	}
	return over
}

func lagRows(jobs []*ckptferryv1.JobLag) [][]string {
	var rows [][]string
	for _, j := range jobs {
		bytes := "-"
		if j.BytesLag != nil {
			bytes = humanBytes(j.GetBytesLag())
		}
		rows = append(rows, []string{
			j.GetRoute(), orDash(j.GetJob()), lagStateName(j.GetState()), durationCell(j.GetTimeLag()), countCell(j.CheckpointLag), bytes,
			durationCell(j.GetRpo()), countCell(j.SourceCheckpointId), countCell(j.ReadyCheckpointId), orDash(j.GetReason()),
		})
	}
	return rows
}

// lagStateName is the word without its prefix; a number that this version doesn't know stays a number.
func lagStateName(s ckptferryv1.LagState) string { return enumName(s.String(), "LAG_STATE_") }

func enumName(name, prefix string) string { return strings.TrimPrefix(name, prefix) }

func durationCell(d *durationpb.Duration) string {
	if d == nil {
		return "-"
	}
	return humanDuration(d.AsDuration())
}

func countCell(n *int64) string {
	if n == nil {
		return "-"
	}
	return strconv.FormatInt(*n, 10)
}
