package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/replicator"
)

func (a *app) replicaScrubCommand() *cobra.Command {
	var (
		f   clientFlags
		req ckptferryv1.ScrubReplicasRequest
	)
	c := &cobra.Command{
		Use:   "scrub [JOB]",
		Short: "Have the agents read READY replicas again now, every byte",
		Long: `The agents do this by themselves (verify.scrub_every), at the rate of limits.scrub_rate, which holds here too: give --timeout as
long as that takes. A replica that is not what its manifest says is QUARANTINED: nobody may start from it, and it is made again while the
source has it. Exits 7 when something is wrong.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				req.Job = args[0]
			}
			if err := f.knowsJob(cmd.Context(), req.GetJob(), req.GetRoute()); err != nil {
				return err
			}
			var seen []*ckptferryv1.ScrubReplicasResponse
			err := f.ask(cmd.Context(), func(ctx context.Context, agent api) error {
				seen = nil
				return agent.Scrub(ctx, &req, func(r *ckptferryv1.ScrubReplicasResponse) error {
					seen = append(seen, r)
					return nil
				})
			})
			if err != nil {
				return err
			}
			wrong := 0
			var rows [][]string
			var parts []proto.Message
			for _, r := range seen {
				if r.GetProblem() != "" {
					wrong++
				}
				key := r.GetReplica().GetKey()
				parts = append(parts, r)
				rows = append(rows, []string{key.GetRoute(), r.GetReplica().GetJob(), fmt.Sprint(key.GetCheckpointId()), enumName(r.GetReplica().GetStatus().String(), replicaStatusPrefix),
					humanBytes(r.GetBytesRead()), orDash(r.GetProblem())})
			}
			switch {
			case f.output == "json":
				err = a.printStream("replicas", parts)
			case len(rows) == 0:
				a.note("there is nothing READY to read")
			default:
				err = a.printTable("ROUTE JOB CHECKPOINT STATUS READ PROBLEM", rows)
			}
			if err == nil && wrong > 0 {
				err = fmt.Errorf("%w: %d of %d replicas are not what they were, or can't be read", replicator.ErrVerify, wrong, len(seen))
			}
			return err
		},
	}
	f.register(c)
	c.Flags().StringVar(&req.Route, "route", "", "only this route")
	return c
}
