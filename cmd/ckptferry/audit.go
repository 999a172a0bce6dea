package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

func (a *app) auditCommand() *cobra.Command {
	var (
		f     clientFlags
		limit int
	)
	c := &cobra.Command{
		Use:   "audit [JOB]",
		Short: "Who did what to jobs, newest first: promotions, their ends, what was forced, migrations",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 1 {
				return usageError{fmt.Errorf("--limit %d: want 1 or more", limit)}
			}
			req := &ckptferryv1.ListAuditRequest{}
			if len(args) == 1 {
				req.Job = args[0]
			}
			all := &ckptferryv1.ListAuditResponse{}
			for {
				req.PageSize = int32(min(limit-len(all.GetRecords()), 1000))
				var page *ckptferryv1.ListAuditResponse
				err := f.ask(cmd.Context(), func(ctx context.Context, agent api) (err error) {
					page, err = agent.Audit(ctx, req)
					return err
				})
				if err != nil {
					return err
				}
				all.Records, all.Read, all.NextPageToken = append(all.Records, page.GetRecords()...), page.GetRead(), page.GetNextPageToken()
				if req.PageToken = page.GetNextPageToken(); req.PageToken == "" || len(all.GetRecords()) >= limit {
					break
				}
			}
			a.noteFreshness(all.GetRead())
			if f.output == "json" {
				return a.printMessage(all)
			}
			var rows [][]string
			for _, r := range all.GetRecords() {
				rows = append(rows, []string{timeCell(r.GetTime()), r.GetActor(), r.GetAction(), orDash(r.GetRoute()), orDash(r.GetJob()), orDash(r.GetDetail())})
			}
			if len(rows) == 0 {
				a.note("nothing is on record")
				return nil
			}
			return a.printTable("TIME ACTOR ACTION ROUTE JOB DETAIL", rows)
		},
	}
	f.register(c)
	c.Flags().IntVar(&limit, "limit", 100, "at most so many records")
	return c
}
