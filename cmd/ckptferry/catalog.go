package main

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/replicator"
)

func (a *app) catalogCommand() *cobra.Command {
	c := &cobra.Command{Use: "catalog", Short: "What a group has on record of its storage", Args: cobra.NoArgs, RunE: needSubcommand}
	c.AddCommand(a.catalogRebuildCommand())
	return c
}

func (a *app) catalogRebuildCommand() *cobra.Command {
	var (
		f   clientFlags
		req ckptferryv1.RebuildCatalogRequest
	)
	c := &cobra.Command{
		Use:   "rebuild",
		Short: "Put replicas that the storage has and the group's record lacks back on record",
		Long: `For a group that has lost its state. Apply the routes first, as they were: below the root of each the manifests are read, and what is whole
becomes READY on record. What is not is told, and not recorded; then it exits 7, after all the rest was done. It may be repeated; what is on record stays as it is.

Not in the manifests, and so lost with the group: pins, promotions, what Flink has claimed, drills and the audit. Pin again what a job goes
on from before you set keep for its route.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var (
				rows   [][]string
				parts  []proto.Message
				counts map[string]int
			)
			err := f.ask(cmd.Context(), func(ctx context.Context, agent api) error {
				rows, parts, counts = nil, nil, map[string]int{}
				return agent.RebuildCatalog(ctx, &req, func(r *ckptferryv1.RebuildCatalogResponse) error {
					counts[r.GetOutcome()]++
					key := r.GetReplica().GetKey()
					parts = append(parts, r)
					rows = append(rows, []string{r.GetOutcome(), key.GetRoute(), orDash(r.GetReplica().GetJob()), fmt.Sprint(key.GetCheckpointId()), r.GetReplica().GetUri(), orDash(r.GetProblem())})
					return nil
				})
			})
			if err != nil {
				return err
			}
			var broken error
			if n := counts["broken"]; n > 0 {
				broken = fmt.Errorf("%w: %d of %d replicas on the storage are broken, and not on record; what is whole is", replicator.ErrVerify, n, len(rows))
				if req.GetDryRun() {
					broken = fmt.Errorf("%w: %d of %d replicas on the storage are broken", replicator.ErrVerify, n, len(rows))
				}
			}
			if f.output == "json" {
				return cmp.Or(a.printStream("replicas", parts), broken)
			}
			if len(rows) > 0 {
				if err := a.printTable("OUTCOME ROUTE JOB CHECKPOINT URI PROBLEM", rows); err != nil {
					return err
				}
			}
			done := "put back on record"
			if req.GetDryRun() {
				done = "not on record (dry run: nothing was changed)"
			}
			a.note("%d %s, %d known, %d broken", counts["recovered"], done, counts["known"], counts["broken"])
			return broken
		},
	}
	f.register(c)
	c.Flags().StringVar(&req.Route, "route", "", "only this route")
	c.Flags().BoolVar(&req.Deep, "deep", false, "read every byte; else lengths and _metadata are compared")
	c.Flags().BoolVar(&req.DryRun, "dry-run", false, "say what would be put on record and change nothing")
	return c
}
