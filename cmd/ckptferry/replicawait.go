package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/rpc"
)

// How long a wait takes at most, how often it asks, and how long one answer may take.
const (
	waitUsual  = 10 * time.Minute
	waitAgain  = 500 * time.Millisecond
	waitAnswer = 10 * time.Second
)

// timeoutError says that what was waited for did not come in time; the exit code is 10.
type timeoutError struct {
	waited time.Duration
	last   error // why not, as it was when the time was up
}

// Error says nothing of the kind of last: that it could not be asked any more is not why the wait is over.
func (e timeoutError) Error() string {
	return fmt.Sprintf("not READY within %s (--timeout): %v", humanDuration(e.waited), e.last)
}

func (a *app) replicaWaitCommand() *cobra.Command {
	var (
		f     clientFlags
		p     pick
		ready bool
	)
	c := &cobra.Command{
		Use:   "wait --ready JOB",
		Short: "Wait until a job has a READY replica, or one of --checkpoint or newer",
		Long: `Waits until a replica of the job is READY, and prints where it lies. Any one will do, also one that is READY already; with
--checkpoint, one of that checkpoint or of a newer one of the same life of the job (the life that has the newest replica).

Exit code 10 when that is not so within --timeout; what keeps it is said. An agent that can't be reached is an error at the first
try only: later ones are part of the wait. A job that nobody knows yet may still come.`,
		Example: `  ckptferry replica wait --ready orders --timeout 5m
  flink run -s "$(ckptferry replica wait --ready orders --checkpoint 42 -q)" …`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !ready {
				return usageError{errors.New("say what to wait for: --ready")}
			}
			if _, _, err := f.check(); err != nil {
				return err
			}
			one := f
			one.timeout = min(f.timeout, waitAnswer)
			replica, err := waiting{job: args[0], pick: p, ask: one.ask, within: f.timeout}.wait(cmd.Context())
			if err != nil {
				return err
			}
			if f.output == "json" {
				return a.printMessage(replica)
			}
			_, err = fmt.Fprintln(a.out, replica.GetUri())
			return err
		},
	}
	f.register(c)
	p.register(c, "wait for this checkpoint, or a newer one")
	c.Flags().BoolVar(&ready, "ready", false, "wait for READY (required)")
	f.timeout = waitUsual
	timeout := c.Flags().Lookup("timeout")
	timeout.Usage, timeout.DefValue = "how long to wait in all", waitUsual.String()
	return c
}

// waiting is one wait.
type waiting struct {
	job    string
	pick   pick
	ask    func(ctx context.Context, call func(ctx context.Context, agent api) error) error
	within time.Duration
}

// wait returns the replica that was waited for. It asks again each half second, until ctx ends or the time is up.
func (w waiting) wait(ctx context.Context) (*ckptferryv1.Replica, error) {
	began := time.Now()
	for first := true; ; first = false {
		replica, err := w.look(ctx)
		switch {
		case replica != nil:
			return replica, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !isA[notYet](err) && (first || !wraps(rpc.ErrUnavailable, rpc.ErrNotLeader)(err)):
			return nil, err
		}
		left := w.within - time.Since(began)
		if left <= 0 {
			return nil, timeoutError{w.within, err}
		}
		timer := time.NewTimer(min(waitAgain, left))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C:
		}
	}
}

// notYet says why it is not so yet.
type notYet struct{ reason string }

func (e notYet) Error() string { return e.reason }

// look finds the replica, or says why there is none.
func (w waiting) look(ctx context.Context) (*ckptferryv1.Replica, error) {
	var (
		all *ckptferryv1.ListReplicasResponse
		lag *ckptferryv1.GetReplicaLagResponse
	)
	err := w.ask(ctx, func(ctx context.Context, agent api) (err error) {
		if all, err = allReplicas(ctx, agent, &ckptferryv1.ListReplicasRequest{Job: w.job, Route: w.pick.route, PageSize: replicaPage}); err != nil {
			return err
		}
		// Why it isn't there yet; that the job is not known is a reason too.
		lag, err = agent.Lag(ctx, &ckptferryv1.GetReplicaLagRequest{Job: w.job, Route: w.pick.route})
		if errors.Is(err, rpc.ErrNotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if r := w.pick.ready(all.GetReplicas()); r != nil {
		return r, nil
	}
	jobs := lag.GetJobs()
	if len(jobs) == 0 {
		return nil, notYet{fmt.Sprintf("job %s is not known on the routes of this datacenter: `ckptferry job list` lists those that are", w.job)}
	}
	reason := jobs[0].GetReason()
	if reason == "" {
		reason = fmt.Sprintf("it is caught up with chk-%d", jobs[0].GetReadyCheckpointId())
	}
	return nil, notYet{fmt.Sprintf("%s is %s: %s", w.job, lagStateName(jobs[0].GetState()), reason)}
}

// ready is the newest READY replica of those that will do; nil when there is none. They come by route and newest first.
func (p pick) ready(replicas []*ckptferryv1.Replica) *ckptferryv1.Replica {
	life, route := "", ""
	for _, r := range replicas {
		key := r.GetKey()
		if key.GetRoute() != route {
			life, route = "", key.GetRoute()
		}
		if life == "" {
			life = key.GetJobId() // of the newest; a savepoint's doesn't tell
		}
		if r.GetStatus() != ckptferryv1.ReplicaStatus_REPLICA_STATUS_READY || r.GetAtRisk() {
			continue
		}
		sameLife := key.GetJobId() == "" || key.GetJobId() == life
		if p.checkpoint == 0 || sameLife && key.GetCheckpointId() >= p.checkpoint {
			return r
		}
	}
	return nil
}
