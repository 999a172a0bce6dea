package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// pick says which of a job's replicas are meant.
type pick struct {
	route      string
	checkpoint int64 // 0: the newest of each route
}

func (p *pick) register(c *cobra.Command, checkpoint string) {
	c.Flags().StringVar(&p.route, "route", "", "only this route")
	c.Flags().Int64Var(&p.checkpoint, "checkpoint", 0, checkpoint)
}

func (a *app) replicaDescribeCommand() *cobra.Command {
	var (
		f clientFlags
		p pick
	)
	c := &cobra.Command{
		Use:   "describe JOB",
		Short: "Everything that is on record about a job's newest replica, or that of --checkpoint",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var all *ckptferryv1.ListReplicasResponse
			err := f.ask(cmd.Context(), func(ctx context.Context, agent api) (err error) {
				all, err = allReplicas(ctx, agent, &ckptferryv1.ListReplicasRequest{Job: args[0], Route: p.route, PageSize: replicaPage})
				return err
			})
			if err != nil {
				return err
			}
			all.Replicas = p.from(all.GetReplicas())
			a.noteFreshness(all.GetRead())
			switch {
			case len(all.GetReplicas()) == 0 && p.checkpoint != 0:
				return fmt.Errorf("a replica of checkpoint %d of job %s: %w: `ckptferry replica list %[2]s` lists those that there are", p.checkpoint, args[0], errNotKnown)
			case len(all.GetReplicas()) == 0:
				return fmt.Errorf("a replica of job %s: %w: `ckptferry job describe %[1]s` says why, if the job is", args[0], errNotKnown)
			case f.output == "json":
				return a.printMessage(all)
			}
			return a.describe(all.GetReplicas())
		},
	}
	f.register(c)
	p.register(c, "this checkpoint's, of each life of the job")
	return c
}

// from picks among a job's replicas, which come by route and newest first.
func (p pick) from(replicas []*ckptferryv1.Replica) []*ckptferryv1.Replica {
	var picked []*ckptferryv1.Replica
	routes := map[string]bool{}
	for _, r := range replicas {
		route := r.GetKey().GetRoute()
		if p.checkpoint != 0 && r.GetKey().GetCheckpointId() != p.checkpoint || p.checkpoint == 0 && routes[route] {
			continue
		}
		routes[route] = true
		picked = append(picked, r)
	}
	return picked
}

func (a *app) describe(replicas []*ckptferryv1.Replica) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for i, r := range replicas {
		if i > 0 {
			fmt.Fprintln(w)
		}
		key := r.GetKey()
		size := "-"
		if r.TotalBytes != nil {
			size = fmt.Sprintf("%s in %s files", humanBytes(r.GetTotalBytes()), countCell(r.FileCount))
		}
		manifest := "-"
		if r.GetReadyTime() != nil {
			manifest = fmt.Sprintf("CRC32C %08x", r.GetManifestCrc32C())
		}
		for _, line := range [][2]string{
			{"replica", orDash(r.GetUri())},
			{"status", statusCell(r)},
			{"reason", orDash(r.GetReason())},
			{"job", r.GetJob()},
			{"route", key.GetRoute()},
			{"job id", orDash(key.GetJobId())},
			{"checkpoint", fmt.Sprint(key.GetCheckpointId())},
			{"completed", timeCell(r.GetCompletedTime())},
			{"planned", timeCell(r.GetPlannedTime())},
			{"ready", timeCell(r.GetReadyTime())},
			{"size", size},
			{"source's _metadata", fmt.Sprintf("CRC32C %08x", key.GetMetadataCrc32C())},
			{"manifest", manifest},
			{"pinned", fmt.Sprint(r.GetPinned())},
			{"scrubbed", timeCell(r.GetScrubbedTime())},
			{"warnings", orDash(strings.Join(r.GetWarnings(), "; "))},
		} {
			fmt.Fprintf(w, "%s\t%s\n", line[0], line[1])
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}
