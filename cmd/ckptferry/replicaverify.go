package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ckptferry/ckptferry/fsutil"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/replicator"
)

func (a *app) replicaVerifyCommand() *cobra.Command {
	var (
		f        clientFlags
		p        pick
		maps     []string
		parallel int
	)
	c := &cobra.Command{
		Use:   "verify [JOB|URI]",
		Short: "Read a replica's every byte from here and compare it with its manifest",
		Long: `Checks as ` + "`ckptferry metadata verify`" + ` does, from where this command runs, which must reach the storage: the newest READY
replica of the job on each route, that of --checkpoint, or the one at a URI. Without an argument, the newest READY replica of
every job. Exits 0 when all are whole, or 7 with the names of the files that are missing, short or different.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(f.output); err != nil {
				return err
			}
			req, err := checkRequest(maps, parallel)
			if err != nil {
				return err
			}
			dirs, err := a.replicaDirs(cmd.Context(), f, p, args)
			if err != nil {
				return err
			}
			stores := a.stores()
			defer func() { _ = stores.Close() }() // nothing was written
			return a.verifyAll(cmd.Context(), stores, dirs, req, f.output)
		},
	}
	f.register(c)
	p.register(c, "that of this checkpoint, not the newest")
	c.Flags().IntVar(&parallel, "parallel", replicator.DefaultParallel, "files read at a time")
	mapsFlag(c, &maps)
	return c
}

// replicaDirs are the replicas that the argument names: a URI or path itself, else what the group has READY.
func (a *app) replicaDirs(ctx context.Context, f clientFlags, p pick, args []string) ([]fsutil.URI, error) {
	req := &ckptferryv1.ListReplicasRequest{Route: p.route, PageSize: replicaPage, Statuses: []ckptferryv1.ReplicaStatus{ckptferryv1.ReplicaStatus_REPLICA_STATUS_READY}}
	what := "any job"
	if len(args) == 1 {
		if strings.Contains(args[0], "/") { // which no job's name does
			dir, err := checkpointDir(args[0])
			return []fsutil.URI{dir}, err
		}
		req.Job, what = args[0], "job "+args[0]
	} else if p.checkpoint != 0 {
		return nil, usageError{errors.New("--checkpoint needs a JOB")}
	}
	var all *ckptferryv1.ListReplicasResponse
	err := f.ask(ctx, func(ctx context.Context, agent api) (err error) {
		all, err = allReplicas(ctx, agent, req)
		return err
	})
	if err != nil {
		return nil, err
	}
	a.noteFreshness(all.GetRead())
	var dirs []fsutil.URI
	for _, job := range byJob(all.GetReplicas()) {
		for _, r := range p.from(job) {
			dir, err := checkpointDir(r.GetUri())
			if err != nil {
				return nil, fmt.Errorf("replica %s: %w", r.GetUri(), err)
			}
			dirs = append(dirs, dir)
		}
	}
	if len(dirs) == 0 {
		return nil, fmt.Errorf("a READY replica of %s: %w: `ckptferry replica list` lists all replicas", what, errNotKnown)
	}
	return dirs, nil
}

// byJob parts replicas, which come by route and job.
func byJob(replicas []*ckptferryv1.Replica) [][]*ckptferryv1.Replica {
	var parts [][]*ckptferryv1.Replica
	for i, r := range replicas {
		if i == 0 || r.GetJob() != replicas[i-1].GetJob() || r.GetKey().GetRoute() != replicas[i-1].GetKey().GetRoute() {
			parts = append(parts, nil)
		}
		parts[len(parts)-1] = append(parts[len(parts)-1], r)
	}
	return parts
}

// verifyAll checks one after the other. One that is damaged keeps none of the others from being checked.
func (a *app) verifyAll(ctx context.Context, stores *fsutil.Stores, dirs []fsutil.URI, req replicator.CheckRequest, output string) error {
	var (
		reports []replicator.CheckReport
		errs    []error
	)
	for _, dir := range dirs {
		req.Dir = dir
		report, err := replicator.Check(ctx, stores, req)
		if err != nil && ctx.Err() != nil {
			return err
		}
		reports = append(reports, report)
		if output != "json" {
			err = a.printReport(report, output, err)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", dir, err))
		}
	}
	if output == "json" {
		errs = append(errs, printJSON(a.out, map[string]any{"replicas": reports}))
	}
	return errors.Join(errs...)
}
