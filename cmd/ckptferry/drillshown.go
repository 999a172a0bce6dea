package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/explain"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// drillsShown is how many of a group's last drills `status` shows.
const drillsShown = 3

// drills asks for the last drills of a job, or of all jobs. That they can't be told is noted, and nothing is said of them: it
// keeps nobody from the rest of an answer.
func (f clientFlags) drills(ctx context.Context, a *app, job string) (all []*ckptferryv1.JobDrills, ok bool) {
	err := f.ask(ctx, func(ctx context.Context, agent api) error {
		all = nil
		req := &ckptferryv1.ListDrillsRequest{Job: job, PageSize: replicaPage}
		for {
			page, err := agent.Drills(ctx, req)
			if err != nil {
				return err
			}
			all = append(all, page.GetJobs()...)
			if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
				return nil
			}
		}
	})
	if err != nil {
		a.note("the last drills are not known: %v", err)
	}
	return all, err == nil
}

// addDrills puts their last drills to the jobs.
func addDrills(jobs []explain.Job, all []*ckptferryv1.JobDrills) {
	for i := range jobs {
		jobs[i].Drills = &ckptferryv1.JobDrills{}
		for _, d := range all {
			if d.GetNewest().GetJob() == jobs[i].Lag.GetJob() && d.GetNewest().GetKey().GetRoute() == jobs[i].Lag.GetRoute() {
				jobs[i].Drills = d
			}
		}
	}
}

// printDrills prints the newest of the last drills.
func printDrills(w io.Writer, all []*ckptferryv1.JobDrills, now time.Time) error {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b *ckptferryv1.JobDrills) int {
		return b.GetNewest().GetStartedTime().AsTime().Compare(a.GetNewest().GetStartedTime().AsTime())
	})
	shown := all[:min(len(all), drillsShown)]
	err := section(w, "drill", shown, func(d *ckptferryv1.JobDrills) []any {
		return []any{d.GetNewest().GetKey().GetRoute() + "/" + d.GetNewest().GetJob(), explain.Drill(d.GetNewest(), now)}
	})
	if more := len(all) - len(shown); err == nil && more > 0 {
		_, err = fmt.Fprintf(w, "and of %d more jobs: `ckptferry job describe JOB`\n", more)
	}
	return err
}
