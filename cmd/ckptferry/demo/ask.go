package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/rpc"
)

// askWithin bounds one question to one agent.
const askWithin = 2 * time.Second

// ask lets call talk to a datacenter's agents in turn until one answers. One that can't be reached, or that knows no
// leader, is passed over; the last of these errors is returned when all are.
func (s *site) ask(ctx context.Context, dc string, call func(ctx context.Context, api *rpc.Client) error) error {
	var last error
	for _, a := range s.of(dc) {
		err := s.askOne(ctx, a, call)
		if err == nil || ctx.Err() != nil {
			return cmp.Or(ctx.Err(), err)
		}
		last = fmt.Errorf("ask agent %s: %w", a.ID, err)
		if !errors.Is(err, rpc.ErrUnavailable) && !errors.Is(err, rpc.ErrNotLeader) && !errors.Is(err, context.DeadlineExceeded) {
			return last
		}
	}
	return last
}

func (s *site) askOne(ctx context.Context, a *agent, call func(ctx context.Context, api *rpc.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	api, err := rpc.DialAPI(ctx, a.API, s.tls())
	if err != nil {
		return err
	}
	defer func() { _ = api.Close() }() // every answer has been read
	return call(ctx, api)
}

// leader is the agent of a datacenter that itself says that it leads.
func (s *site) leader(ctx context.Context, dc string) (*agent, error) {
	for _, a := range s.of(dc) {
		leads := false
		err := s.askOne(ctx, a, func(ctx context.Context, api *rpc.Client) error {
			status, err := api.Status(ctx)
			leads = status.GetRaftState() == "leader"
			return err
		})
		if err == nil && leads {
			return a, nil
		}
	}
	return nil, cmp.Or(ctx.Err(), fmt.Errorf("%s has no leader: %w", dc, rpc.ErrUnavailable))
}

// lag is how far the target is behind, by job, on one route.
func (s *site) lag(ctx context.Context, route string) ([]*ckptferryv1.JobLag, error) {
	var jobs []*ckptferryv1.JobLag
	err := s.ask(ctx, target, func(ctx context.Context, api *rpc.Client) error {
		answer, err := api.Lag(ctx, &ckptferryv1.GetReplicaLagRequest{Route: route})
		// A route that was applied a moment ago knows no job, and has a line that says so.
		jobs = slices.DeleteFunc(answer.GetJobs(), func(l *ckptferryv1.JobLag) bool { return l.GetJob() == "" })
		return err
	})
	return jobs, err
}

// apply sets exports and routes in a datacenter's group.
func (s *site) apply(ctx context.Context, dc string, req *ckptferryv1.ApplyRoutesRequest) error {
	return s.ask(ctx, dc, func(ctx context.Context, api *rpc.Client) error {
		_, err := api.ApplyRoutes(ctx, req)
		return err
	})
}

// exported lets the target read what the source's jobs keep.
func exported(name string) *ckptferryv1.ApplyRoutesRequest {
	return &ckptferryv1.ApplyRoutesRequest{Exports: []*ckptferryv1.Export{{
		Name: name, Bases: []string{"file:" + writtenBelow + "/flink/checkpoints/{job}"}, To: []string{target},
	}}}
}

// routed pulls an export into a directory of its own, or no longer does.
func (s *site) routed(name string, mode ckptferryv1.RouteMode) *ckptferryv1.ApplyRoutesRequest {
	return &ckptferryv1.ApplyRoutesRequest{Routes: []*ckptferryv1.Route{{
		Name: name, FromDatacenter: source, FromExport: name, Root: fileURI(s.storage(target)) + "/replicas/" + name, Mode: mode,
	}}}
}

// errEnded says that an agent has ended that nobody ended.
var errEnded = errors.New("agent has ended by itself")

// until asks again and again until holds says yes, for at most within; what is what was waited for. An error is asked
// about again, and is the reason given when the time is up; only errEnded is final.
func until(ctx context.Context, within time.Duration, what string, holds func(ctx context.Context) (bool, error)) error {
	waiting, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	var last error
	for {
		ok, err := holds(waiting)
		switch {
		case errors.Is(err, errEnded):
			return fmt.Errorf("wait for %s: %w", what, err)
		case err != nil && waiting.Err() == nil:
			last = err
		case ok && err == nil:
			return nil
		}
		select {
		case <-again.C:
		case <-waiting.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return errors.Join(fmt.Errorf("waited %s for %s in vain", within, what), last)
		}
	}
}
