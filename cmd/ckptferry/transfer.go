package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/explain"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

func (a *app) transferCommand() *cobra.Command {
	c := &cobra.Command{Use: "transfer", Short: "The copies under way", Args: cobra.NoArgs, RunE: needSubcommand}
	c.AddCommand(a.transferListCommand(), a.throttleCommand())
	return c
}

func (a *app) transferListCommand() *cobra.Command {
	var (
		f     clientFlags
		route string
	)
	c := &cobra.Command{
		Use:   "list [JOB]",
		Short: "List the copies under way, and how far each is",
		Long:  `Each agent of --endpoint is asked for the copies that it has under way. LEFT is a guess from the rate so far.`,
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			answers, err := a.statuses(cmd.Context(), f)
			if err != nil {
				return err
			}
			wanted := func(t *ckptferryv1.Transfer) bool {
				return (route == "" || t.GetRoute() == route) && (len(args) == 0 || t.GetJob() == args[0])
			}
			var (
				all  []*ckptferryv1.Transfer
				rows [][]string
			)
			for _, s := range answers {
				for _, t := range s.GetTransfers() {
					if wanted(t) {
						all = append(all, t)
						rows = append(rows, append([]string{s.GetAgent()}, transferRow(t, s.GetRead().GetReadTime().AsTime())...))
					}
				}
			}
			if f.output == "json" {
				raw, err := messagesJSON(all)
				if err != nil {
					return err
				}
				return printJSON(a.out, map[string]any{"transfers": raw})
			}
			if len(rows) == 0 {
				a.note("nothing is copied at the moment")
				return nil
			}
			slices.SortFunc(rows, slices.Compare)
			return a.printTable("AGENT ROUTE JOB CHECKPOINT PHASE FILES BYTES SINCE LEFT", rows)
		},
	}
	f.register(c)
	c.Flags().StringVar(&route, "route", "", "only this route")
	return c
}

func transferRow(t *ckptferryv1.Transfer, now time.Time) []string {
	files, bytes, left := "-", "-", "-"
	if t.GetFileCount() > 0 {
		files = fmt.Sprintf("%d/%d", t.GetFilesDone(), t.GetFileCount())
		bytes = fmt.Sprintf("%s/%s", humanBytes(t.GetBytesDone()), humanBytes(t.GetTotalBytes()))
	}
	if d, ok := explain.Left(t, now); ok {
		left = humanDuration(d)
	}
	return []string{
		t.GetRoute(), t.GetJob(), fmt.Sprint(t.GetCheckpointId()), orDash(t.GetPhase()), files, bytes,
		humanDuration(max(now.Sub(t.GetStartedTime().AsTime()), 0)), left,
	}
}
