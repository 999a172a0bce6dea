package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/explain"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

func (a *app) jobCommand() *cobra.Command {
	c := &cobra.Command{Use: "job", Short: "The jobs that a datacenter's routes know", Args: cobra.NoArgs, RunE: needSubcommand}
	c.AddCommand(a.jobListCommand(), a.jobDescribeCommand())
	return c
}

func (a *app) jobListCommand() *cobra.Command {
	var (
		f     clientFlags
		route string
	)
	c := &cobra.Command{
		Use:   "list",
		Short: "List the jobs: how far each is behind, its replicas, and what is copied of it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			jobs, err := a.jobs(cmd.Context(), f, &ckptferryv1.GetReplicaLagRequest{Route: route})
			if err != nil {
				return err
			}
			if f.output == "json" {
				return a.printJobs(jobs)
			}
			if len(jobs) == 0 {
				a.note("no job is known yet: `ckptferry status` says whether the sources are heard of, `ckptferry route list` what is pulled")
				return nil
			}
			return a.printTable("ROUTE JOB STATE TIME RPO SOURCE READY REPLICAS FAILED COPYING", jobRows(jobs))
		},
	}
	f.register(c)
	c.Flags().StringVar(&route, "route", "", "only this route")
	return c
}

func jobRows(jobs []explain.Job) [][]string {
	var rows [][]string
	for _, j := range jobs {
		ready, failed := 0, 0
		for _, r := range j.Replicas {
			switch r.GetStatus() {
			case ckptferryv1.ReplicaStatus_REPLICA_STATUS_READY:
				ready++
			case ckptferryv1.ReplicaStatus_REPLICA_STATUS_FAILED:
				failed++
			}
		}
		var copying []string
		for _, t := range j.Transfers {
			copying = append(copying, fmt.Sprintf("chk-%d", t.GetCheckpointId()))
		}
		l := j.Lag
		rows = append(rows, []string{
			l.GetRoute(), l.GetJob(), lagStateName(l.GetState()), durationCell(l.GetTimeLag()), durationCell(l.GetRpo()),
			countCell(l.SourceCheckpointId), countCell(l.ReadyCheckpointId), fmt.Sprint(ready), fmt.Sprint(failed), orDash(strings.Join(copying, ",")),
		})
	}
	return rows
}

func (a *app) jobDescribeCommand() *cobra.Command {
	var (
		f     clientFlags
		route string
	)
	c := &cobra.Command{
		Use:   "describe JOB",
		Short: "Say in a paragraph how a job is, why its newest checkpoint isn't READY, and what to do",
		Long: `Says how far a job is behind, why, what failed last, how its last drill went, and what to do, and then lists its newest replicas. Copies under way
and problems of a route are said by the leader of the group alone: name all agents in --endpoint, and each is asked.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			jobs, err := a.jobs(cmd.Context(), f, &ckptferryv1.GetReplicaLagRequest{Job: args[0], Route: route})
			if err != nil {
				return err
			}
			if drills, ok := f.drills(cmd.Context(), a, args[0]); ok {
				addDrills(jobs, drills)
			}
			if f.output == "json" {
				return a.printJobs(jobs)
			}
			for i, j := range jobs {
				if i > 0 {
					if _, err := fmt.Fprintln(a.out); err != nil {
						return fmt.Errorf("write the result: %w", err)
					}
				}
				if err := a.printJob(j); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f.register(c)
	c.Flags().StringVar(&route, "route", "", "only this route")
	return c
}

// replicasShown is how many replicas of a job are listed beside its paragraph.
const replicasShown = 5

func (a *app) printJob(j explain.Job) error {
	if _, err := fmt.Fprintf(a.out, "%s\n", j.Paragraph()); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	if len(j.Replicas) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(a.out); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	shown := j.Replicas[:min(len(j.Replicas), replicasShown)]
	if err := a.printTable(replicaColumns, replicaRows(shown)); err != nil {
		return err
	}
	if more := len(j.Replicas) - len(shown); more > 0 {
		a.note("%d older ones: `ckptferry replica list %s`", more, j.Lag.GetJob())
	}
	return nil
}

// jobs asks for everything that is known of the jobs that req names. A job that is not known is not found.
func (a *app) jobs(ctx context.Context, f clientFlags, req *ckptferryv1.GetReplicaLagRequest) ([]explain.Job, error) {
	var (
		lag      *ckptferryv1.GetReplicaLagResponse
		replicas *ckptferryv1.ListReplicasResponse
	)
	err := f.ask(ctx, func(ctx context.Context, agent api) (err error) {
		if lag, err = agent.Lag(ctx, req); err != nil {
			return err
		}
		replicas, err = allReplicas(ctx, agent, &ckptferryv1.ListReplicasRequest{Job: req.GetJob(), Route: req.GetRoute(), PageSize: replicaPage})
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(lag.GetJobs()) == 0 && req.GetJob() != "" {
		return nil, fmt.Errorf("job %s: %w on the routes of this datacenter: `ckptferry job list` lists the jobs that are", req.GetJob(), errNotKnown)
	}
	a.noteFreshness(lag.GetRead())
	does, err := a.statuses(ctx, f)
	if err != nil {
		return nil, err
	}
	return joinJobs(lag, replicas.GetReplicas(), does), nil
}

// joinJobs sorts what is known to the jobs.
func joinJobs(lag *ckptferryv1.GetReplicaLagResponse, replicas []*ckptferryv1.Replica, does []*ckptferryv1.GetStatusResponse) []explain.Job {
	var jobs []explain.Job
	at := map[[2]string]*explain.Job{}
	for _, l := range lag.GetJobs() {
		if l.GetJob() == "" {
			continue // a route that knows no job
		}
		jobs = append(jobs, explain.Job{Lag: l, Now: lag.GetRead().GetReadTime().AsTime(), Stale: lag.GetRead().GetStale()})
	}
	for i := range jobs {
		at[[2]string{jobs[i].Lag.GetRoute(), jobs[i].Lag.GetJob()}] = &jobs[i]
	}
	for _, r := range replicas {
		if j := at[[2]string{r.GetKey().GetRoute(), r.GetJob()}]; j != nil {
			j.Replicas = append(j.Replicas, r)
		}
	}
	for _, s := range does {
		for _, t := range s.GetTransfers() {
			if j := at[[2]string{t.GetRoute(), t.GetJob()}]; j != nil {
				j.Transfers = append(j.Transfers, t)
			}
		}
		for _, r := range s.GetRoutes() {
			for i := range jobs {
				if r.GetProblem() != "" && jobs[i].Lag.GetRoute() == r.GetRoute() {
					jobs[i].Problem = r.GetProblem()
				}
				for _, g := range r.GetGoneJobs() {
					if jobs[i].Lag.GetRoute() == r.GetRoute() && jobs[i].Lag.GetJob() == g.GetJob() {
						jobs[i].Gone = g
					}
				}
			}
		}
	}
	return jobs
}

// statuses asks every agent of --endpoint what it is doing, at the same time. One that answers is enough; of the others,
// and of a leader that is not among them, it is noted what is missing.
func (a *app) statuses(ctx context.Context, f clientFlags) ([]*ckptferryv1.GetStatusResponse, error) {
	endpoints, _, err := f.check()
	if err != nil {
		return nil, err
	}
	answers, errs := make([]*ckptferryv1.GetStatusResponse, len(endpoints)), make([]error, len(endpoints))
	var asked sync.WaitGroup
	for i, endpoint := range endpoints {
		one := f
		one.endpoints = endpoint
		asked.Go(func() { answers[i], errs[i] = one.status(ctx) })
	}
	asked.Wait()
	var all []*ckptferryv1.GetStatusResponse
	leader, there := "", map[string]bool{}
	for i, s := range answers {
		switch {
		case errs[i] != nil:
			continue
		case !there[s.GetAgent()]:
			all = append(all, s)
		}
		there[s.GetAgent()] = true
		if s.GetLeader() != "" {
			leader = s.GetLeader()
		}
	}
	if len(all) == 0 {
		return nil, errors.Join(errs...)
	}
	if leader != "" && !there[leader] {
		a.note("agent %s leads and was not asked: it alone knows of copies under way and of problems. Name its address in --endpoint too", leader)
	}
	return all, nil
}

// jobJSON is a job as scripts read it: what the agents answered, and the paragraph.
type jobJSON struct {
	Lag         json.RawMessage   `json:"lag"`
	Replicas    []json.RawMessage `json:"replicas"`
	Transfers   []json.RawMessage `json:"transfers"`
	Drills      json.RawMessage   `json:"drills,omitempty"`
	Explanation string            `json:"explanation"`
}

func (a *app) printJobs(jobs []explain.Job) error {
	out := struct {
		Jobs []jobJSON `json:"jobs"`
	}{Jobs: []jobJSON{}}
	for _, j := range jobs {
		lag, err := messageJSON(j.Lag)
		if err != nil {
			return err
		}
		replicas, err := messagesJSON(j.Replicas)
		if err != nil {
			return err
		}
		transfers, err := messagesJSON(j.Transfers)
		if err != nil {
			return err
		}
		var drills json.RawMessage
		if j.Drills != nil {
			if drills, err = messageJSON(j.Drills); err != nil {
				return err
			}
		}
		out.Jobs = append(out.Jobs, jobJSON{lag, replicas, transfers, drills, j.Paragraph()})
	}
	return printJSON(a.out, out)
}

func messageJSON(m proto.Message) (json.RawMessage, error) {
	raw, err := protojson.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode the answer: %w", err)
	}
	return raw, nil
}

func messagesJSON[M proto.Message](all []M) ([]json.RawMessage, error) {
	out := []json.RawMessage{}
	for _, m := range all {
		raw, err := messageJSON(m)
		if err != nil {
			return nil, err
		}
		out = append(out, raw)
	}
	return out, nil
}
