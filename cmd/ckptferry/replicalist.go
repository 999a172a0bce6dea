package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// replicaPage is how many replicas are asked for at a time: the most that an agent gives.
const replicaPage = 1000

func (a *app) replicaCommand() *cobra.Command {
	c := &cobra.Command{Use: "replica", Short: "The replicas that a datacenter holds", Args: cobra.NoArgs, RunE: needSubcommand}
	c.AddCommand(a.replicaListCommand(), a.replicaDescribeCommand(), a.replicaWaitCommand(), a.replicaVerifyCommand(), a.replicaPinCommand(), a.replicaUnpinCommand())
	c.AddCommand(a.replicaPruneCommand(), a.replicaScrubCommand())
	return c
}

// needSubcommand is for a command that does nothing alone.
func needSubcommand(cmd *cobra.Command, _ []string) error {
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return usageError{fmt.Errorf("%s: want one of %s", cmd.CommandPath(), strings.Join(names, ", "))}
}

func (a *app) replicaListCommand() *cobra.Command {
	var (
		f        clientFlags
		route    string
		statuses []string
	)
	c := &cobra.Command{
		Use:   "list [JOB]",
		Short: "List replicas, newest first within a job",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &ckptferryv1.ListReplicasRequest{Route: route, PageSize: replicaPage}
			if len(args) == 1 {
				req.Job = args[0]
			}
			var err error
			if req.Statuses, err = parseStatuses(statuses); err != nil {
				return err
			}
			var all *ckptferryv1.ListReplicasResponse
			err = f.ask(cmd.Context(), func(ctx context.Context, agent api) (err error) {
				all, err = allReplicas(ctx, agent, req)
				return err
			})
			if err != nil {
				return err
			}
			a.noteFreshness(all.GetRead())
			if f.output == "json" {
				return a.printMessage(all)
			}
			return a.printTable(replicaColumns, replicaRows(all.GetReplicas()))
		},
	}
	f.register(c)
	c.Flags().StringVar(&route, "route", "", "only this route")
	c.Flags().StringSliceVar(&statuses, "status", nil, "only these: "+strings.Join(replicaStatusNames(), ", "))
	_ = c.RegisterFlagCompletionFunc("status", cobra.FixedCompletions(replicaStatusNames(), cobra.ShellCompDirectiveNoFileComp))
	return c
}

// allReplicas asks for page after page and puts them together, as one answer.
func allReplicas(ctx context.Context, agent api, req *ckptferryv1.ListReplicasRequest) (*ckptferryv1.ListReplicasResponse, error) {
	all := &ckptferryv1.ListReplicasResponse{}
	for {
		page, err := agent.Replicas(ctx, req)
		if err != nil {
			return nil, err
		}
		all.Replicas = append(all.Replicas, page.GetReplicas()...)
		all.Read = page.GetRead()
		if page.GetNextPageToken() == "" {
			return all, nil
		}
		req.PageToken = page.GetNextPageToken()
	}
}

const replicaStatusPrefix = "REPLICA_STATUS_"

// replicaStatusNames are the statuses as people write them, in the order of a replica's life.
func replicaStatusNames() []string {
	var names []string
	for i := int32(1); ; i++ {
		name, ok := ckptferryv1.ReplicaStatus_name[i]
		if !ok {
			return names
		}
		names = append(names, enumName(name, replicaStatusPrefix))
	}
}

func parseStatuses(words []string) ([]ckptferryv1.ReplicaStatus, error) {
	var all []ckptferryv1.ReplicaStatus
	for _, word := range words {
		i := slices.Index(replicaStatusNames(), strings.ToUpper(word))
		if i < 0 {
			return nil, usageError{fmt.Errorf("--status %q: want one of %s", word, strings.Join(replicaStatusNames(), ", "))}
		}
		all = append(all, ckptferryv1.ReplicaStatus(i+1))
	}
	return all, nil
}

const replicaColumns = "ROUTE JOB CHECKPOINT STATUS FILES SIZE COMPLETED READY URI REASON"

func replicaRows(replicas []*ckptferryv1.Replica) [][]string {
	var rows [][]string
	for _, r := range replicas {
		size := "-"
		if r.TotalBytes != nil {
			size = humanBytes(r.GetTotalBytes())
		}
		rows = append(rows, []string{
			r.GetKey().GetRoute(), r.GetJob(), fmt.Sprint(r.GetKey().GetCheckpointId()), statusCell(r),
			countCell(r.FileCount), size, timeCell(r.GetCompletedTime()), timeCell(r.GetReadyTime()), orDash(r.GetUri()), orDash(r.GetReason()),
		})
	}
	return rows
}

// statusCell is how far a replica is, and what else decides over it.
func statusCell(r *ckptferryv1.Replica) string {
	marks := []string{enumName(r.GetStatus().String(), replicaStatusPrefix)}
	for _, mark := range []struct {
		is   bool
		name string
	}{{r.GetAtRisk(), "AT_RISK"}, {r.GetPromoted(), "promoted"}, {r.GetClaimed(), "claimed"}, {r.GetPinned(), "pinned"}} {
		if mark.is {
			marks = append(marks, mark.name)
		}
	}
	return strings.Join(marks, ",")
}

func timeCell(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return t.AsTime().UTC().Format(time.RFC3339)
}
