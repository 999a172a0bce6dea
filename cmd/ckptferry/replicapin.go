package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

func (a *app) replicaPinCommand() *cobra.Command {
	return a.pinCommand(true, "pin JOB", "Keep a job's newest READY replica, or that of --checkpoint, until it is unpinned")
}

func (a *app) replicaUnpinCommand() *cobra.Command {
	return a.pinCommand(false, "unpin JOB", "Stop keeping a job's replicas that are pinned, or that of --checkpoint")
}

func (a *app) pinCommand(pinned bool, use, short string) *cobra.Command {
	var (
		f clientFlags
		p pick
	)
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(1),
		Long: short + `. What is pinned is never retired, whatever the route keeps.
Doing it twice is doing it once.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			changed := &ckptferryv1.ListReplicasResponse{}
			err := f.ask(cmd.Context(), func(ctx context.Context, agent api) error {
				all, err := allReplicas(ctx, agent, &ckptferryv1.ListReplicasRequest{
					Job: args[0], Route: p.route, PageSize: replicaPage, Statuses: []ckptferryv1.ReplicaStatus{ckptferryv1.ReplicaStatus_REPLICA_STATUS_READY},
				})
				if err != nil {
					return err
				}
				changed = &ckptferryv1.ListReplicasResponse{Read: all.GetRead()}
				for _, r := range p.pinnable(all.GetReplicas(), pinned) {
					answer, err := agent.PinReplica(ctx, &ckptferryv1.PinReplicaRequest{Key: r.GetKey(), Pinned: pinned})
					if err != nil {
						return err
					}
					changed.Replicas = append(changed.Replicas, answer.GetReplica())
				}
				return nil
			})
			if err != nil {
				return err
			}
			switch {
			case f.output == "json":
				return a.printMessage(changed)
			case len(changed.GetReplicas()) == 0 && p.checkpoint != 0:
				return fmt.Errorf("a READY replica of checkpoint %d of job %s: %w: `ckptferry replica list %[2]s` lists those that there are", p.checkpoint, args[0], errNotKnown)
			case len(changed.GetReplicas()) == 0 && pinned:
				return fmt.Errorf("a READY replica of job %s: %w: `ckptferry replica list %[1]s` lists those that there are", args[0], errNotKnown)
			case len(changed.GetReplicas()) == 0:
				a.note("no replica of job %s is pinned", args[0])
				return nil
			}
			return a.printTable(replicaColumns, replicaRows(changed.GetReplicas()))
		},
	}
	f.register(c)
	p.register(c, "that of this checkpoint")
	return c
}

// pinnable are the replicas that are meant; they come by route and newest first. Without a checkpoint, all that are pinned
// are unpinned.
func (p pick) pinnable(replicas []*ckptferryv1.Replica, pin bool) []*ckptferryv1.Replica {
	if pin || p.checkpoint != 0 {
		return p.from(replicas)
	}
	var pinned []*ckptferryv1.Replica
	for _, r := range replicas {
		if r.GetPinned() {
			pinned = append(pinned, r)
		}
	}
	return pinned
}
