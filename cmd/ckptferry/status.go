package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

func (a *app) statusCommand() *cobra.Command {
	var (
		f     clientFlags
		again bool
	)
	c := &cobra.Command{
		Use:   "status",
		Short: "What one agent knows: its group, the exports it watches, the routes it pulls, the copies under way",
		Long: `Asks one agent. Shows the newest drills too. Polls, copies and problems are said by the leader of the group alone: of another agent's answer
the leader's name is printed, ask that one.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.watched(cmd.Context(), again, func(ctx context.Context, a *app) error {
				status, err := f.status(ctx)
				if err != nil {
					return err
				}
				a.noteFreshness(status.GetRead())
				if leader := status.GetLeader(); leader != "" && leader != status.GetAgent() {
					a.note("agent %s leads: it alone knows of polls, copies and problems", leader)
				}
				if f.output == "json" {
					return a.printMessage(status)
				}
				drills, _ := f.drills(ctx, a, "") // that they are not known was noted
				return a.printStatus(status, drills)
			})
		},
	}
	f.register(c)
	watchFlag(c, &again)
	return c
}

func (f clientFlags) status(ctx context.Context) (*ckptferryv1.GetStatusResponse, error) {
	var status *ckptferryv1.GetStatusResponse
	err := f.ask(ctx, func(ctx context.Context, agent api) (err error) {
		status, err = agent.Status(ctx)
		return err
	})
	return status, err
}

func (a *app) printStatus(s *ckptferryv1.GetStatusResponse, drills []*ckptferryv1.JobDrills) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "agent\t%s in %s, version %s\n", s.GetAgent(), s.GetDatacenter(), orDash(s.GetVersion()))
	fmt.Fprintf(w, "group\t%d voters, leader %s, this one is %s\n", len(s.GetVoters()), orNone(s.GetLeader()), s.GetRaftState())
	now := s.GetRead().GetReadTime().AsTime()
	printFences(w, s.GetFences())
	err := errors.Join(
		section(w, "export\tjobs\tpolled\tproblem", s.GetExports(), func(e *ckptferryv1.ExportStatus) []any {
			polled := "-"
			if e.GetPolledTime() != nil {
				polled = ago(now, e.GetPolledTime().AsTime()) + ", took " + durationCell(e.GetPollDuration())
			}
			return []any{e.GetExport(), countCell(e.JobCount), polled, orDash(e.GetProblem())}
		}),
		section(w, "route\tjobs\tsource heard of\tproblem", s.GetRoutes(), func(r *ckptferryv1.RouteStatus) []any {
			seen := "never"
			if r.GetSourceSeenTime() != nil {
				seen = ago(now, r.GetSourceSeenTime().AsTime())
			}
			return []any{r.GetRoute(), countCell(r.JobCount), seen, orDash(routeProblem(r))}
		}),
		section(w, "copy\tcheckpoint\tagent\tfiles\tbytes", slices.Concat(s.GetTransfers(), s.GetGroupTransfers()), func(t *ckptferryv1.Transfer) []any {
			return []any{
				t.GetRoute() + "/" + t.GetJob(), fmt.Sprintf("%d (%s)", t.GetCheckpointId(), orDash(t.GetPhase())), copierCell(t),
				fmt.Sprintf("%d of %d", t.GetFilesDone(), t.GetFileCount()),
				fmt.Sprintf("%s of %s, for %s", humanBytes(t.GetBytesDone()), humanBytes(t.GetTotalBytes()), humanDuration(now.Sub(t.GetStartedTime().AsTime()))),
			}
		}),
		printDrills(w, drills, now),
		w.Flush(),
	)
	if err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// copierCell is the agent that copies, and its share of a large copy.
func copierCell(t *ckptferryv1.Transfer) string {
	if t.GetShare() == "" {
		return orDash(t.GetAgent())
	}
	return t.GetAgent() + ", share " + t.GetShare()
}

// printFences says loudly what must not run here.
func printFences(w *tabwriter.Writer, fences []*ckptferryv1.FencedExport) {
	for _, f := range fences {
		fmt.Fprintln(w)
		for _, j := range f.GetJobs() {
			fmt.Fprintf(w, "FENCED: job %s was promoted in %s at %s: it must not run here; `ckptferry failback plan` says how it comes back\n",
				j.GetJob(), f.GetDatacenter(), timeCell(j.GetPromotedTime()))
		}
		for _, problem := range f.GetProblems() {
			fmt.Fprintf(w, "DANGER: %s\n", problem)
		}
	}
}

// section prints rows under a head line after an empty one; nothing when there are none.
func section[T any](w io.Writer, head string, rows []T, cells func(T) []any) error {
	if len(rows) == 0 {
		return nil
	}
	if _, err := fmt.Fprintf(w, "\n%s\n", head); err != nil {
		return err
	}
	for _, row := range rows {
		for i, cell := range cells(row) {
			separator := "\t"
			if i == 0 {
				separator = ""
			}
			if _, err := fmt.Fprintf(w, "%s%v", separator, cell); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	return nil
}

// ago is how long before now something was; clocks of two machines may make it negative, which nobody wants to read.
func ago(now, then time.Time) string { return humanDuration(max(now.Sub(then), 0)) + " ago" }

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// routeProblem is all that keeps a route.
func routeProblem(r *ckptferryv1.RouteStatus) string {
	var parts []string
	for _, part := range []string{r.GetProblem(), r.GetFailing()} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if len(r.GetGoneJobs()) > 0 {
		parts = append(parts, fmt.Sprintf("gone at the source, with replicas kept here: %s", firstOf(r.GetGoneJobs())))
	}
	return strings.Join(parts, "; ")
}

// firstOf names jobs, not all of many.
func firstOf(gone []*ckptferryv1.GoneJob) string {
	const most = 3
	var names []string
	for _, g := range gone[:min(len(gone), most)] {
		names = append(names, g.GetJob())
	}
	text := strings.Join(names, ", ")
	if n := len(gone) - most; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}
