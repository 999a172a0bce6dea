package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// keepAPI is what is asked about replicas that are there.
type keepAPI interface {
	drillAPI
	storageAPI
}

// storageAPI is what the upkeep of a target's storage asks of an agent.
type storageAPI interface {
	Prune(ctx context.Context, req *ckptferryv1.PruneReplicasRequest, each func(*ckptferryv1.Pruned) error) (*ckptferryv1.PruneTotal, error)
	Scrub(ctx context.Context, req *ckptferryv1.ScrubReplicasRequest, each func(*ckptferryv1.ScrubReplicasResponse) error) error
	RebuildCatalog(ctx context.Context, req *ckptferryv1.RebuildCatalogRequest, each func(*ckptferryv1.RebuildCatalogResponse) error) error
}

func (a *app) replicaPruneCommand() *cobra.Command {
	var (
		f   clientFlags
		req ckptferryv1.PruneReplicasRequest
	)
	c := &cobra.Command{
		Use:   "prune [JOB]",
		Short: "Delete now what the routes' rules don't keep, or say what goes",
		Long: `The agents do this by themselves, once a minute: replicas that keep, keep_for, keep_daily and keep_savepoints of their route
don't keep are deleted, and files that no replica needs go to the trash once they are older than the route's grace, where they
lie for that long once more. What is never deleted: a job's last READY replica, a pinned one, a promoted one, and what Flink has claimed.

With --dry-run nothing changes: each line says what goes, how many files and bytes are its own, and why.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				req.Job = args[0]
			}
			if err := f.knowsJob(cmd.Context(), req.GetJob(), req.GetRoute()); err != nil {
				return err
			}
			var (
				gone  []*ckptferryv1.Pruned
				total *ckptferryv1.PruneTotal
			)
			err := f.ask(cmd.Context(), func(ctx context.Context, agent api) (err error) {
				gone = nil
				total, err = agent.Prune(ctx, &req, func(p *ckptferryv1.Pruned) error {
					gone = append(gone, p)
					return nil
				})
				return err
			})
			if err != nil {
				return err
			}
			if f.output == "json" {
				var parts []proto.Message
				for _, p := range gone {
					parts = append(parts, &ckptferryv1.PruneReplicasResponse{Part: &ckptferryv1.PruneReplicasResponse_Pruned{Pruned: p}})
				}
				return a.printStream("parts", append(parts, &ckptferryv1.PruneReplicasResponse{Part: &ckptferryv1.PruneReplicasResponse_Total{Total: total}}))
			}
			what := "went"
			if req.GetDryRun() {
				what = "would go"
			}
			if len(gone) == 0 {
				a.note("nothing %s", what)
				return nil
			}
			if err := a.printTable("ACTION ROUTE JOB CHECKPOINT FILES SIZE URI REASON", prunedRows(gone)); err != nil {
				return err
			}
			a.note("%d replicas and %d files of %s %s", total.GetReplicaCount(), total.GetFileCount(), humanBytes(total.GetTotalBytes()), what)
			return nil
		},
	}
	f.register(c)
	c.Flags().StringVar(&req.Route, "route", "", "only this route")
	c.Flags().BoolVar(&req.DryRun, "dry-run", false, "say what would go and change nothing")
	return c
}

func prunedRows(gone []*ckptferryv1.Pruned) [][]string {
	var rows [][]string
	for _, p := range gone {
		checkpoint := "-"
		if p.GetKey() != nil {
			checkpoint = fmt.Sprint(p.GetKey().GetCheckpointId())
		}
		rows = append(rows, []string{p.GetAction(), orDash(p.GetRoute()), orDash(p.GetJob()), checkpoint, fmt.Sprint(p.GetFileCount()), humanBytes(p.GetTotalBytes()), p.GetUri(), p.GetReason()})
	}
	return rows
}

// printStream prints the messages of a stream as a list.
func (a *app) printStream(name string, parts []proto.Message) error {
	raw, err := messagesJSON(parts)
	if err != nil {
		return err
	}
	return printJSON(a.out, map[string]any{name: raw})
}

// knowsJob is an error when the group has no replica of a job and its routes don't know it either: for calls that find
// nothing to do then. No name is all jobs, which is right.
func (f clientFlags) knowsJob(ctx context.Context, job, route string) error {
	if job == "" {
		return nil
	}
	return f.ask(ctx, func(ctx context.Context, agent api) error {
		page, err := agent.Replicas(ctx, &ckptferryv1.ListReplicasRequest{Job: job, Route: route, PageSize: 1})
		if err != nil || len(page.GetReplicas()) > 0 {
			return err
		}
		_, err = agent.Lag(ctx, &ckptferryv1.GetReplicaLagRequest{Job: job, Route: route}) // it refuses one that it doesn't know
		return err
	})
}
