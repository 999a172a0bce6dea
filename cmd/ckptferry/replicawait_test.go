package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/rpc"
)

// answering is an agent of which a test says what it answers.
type answering struct {
	api
	replicas []*ckptferryv1.Replica
	lag      *ckptferryv1.GetReplicaLagResponse
	lagErr   error
}

func (a *answering) Replicas(_ context.Context, req *ckptferryv1.ListReplicasRequest) (*ckptferryv1.ListReplicasResponse, error) {
	answer := &ckptferryv1.ListReplicasResponse{}
	for _, r := range a.replicas {
		if req.GetJob() == "" || req.GetJob() == r.GetJob() {
			answer.Replicas = append(answer.Replicas, r)
		}
	}
	return answer, nil
}

func (a *answering) Lag(context.Context, *ckptferryv1.GetReplicaLagRequest) (*ckptferryv1.GetReplicaLagResponse, error) {
	return a.lag, a.lagErr
}

// held is a replica of job orders: "READY a 7" is checkpoint 7 of life a.
func held(text string) *ckptferryv1.Replica {
	var (
		status, life string
		id           int64
	)
	if _, err := fmt.Sscan(text, &status, &life, &id); err != nil {
		panic(err)
	}
	if life == "savepoint" {
		life = ""
	}
	atRisk := status == "AT_RISK"
	if atRisk {
		status = "READY"
	}
	return &ckptferryv1.Replica{
		AtRisk: atRisk,
		Job:    "orders", Uri: "file:/r/" + text, Status: ckptferryv1.ReplicaStatus(ckptferryv1.ReplicaStatus_value[replicaStatusPrefix+status]),
		Key: &ckptferryv1.CheckpointKey{Route: "prod", JobId: life, CheckpointId: id},
	}
}

func TestAWaitTakesWhatWillDo(t *testing.T) {
	for name, tc := range map[string]struct {
		replicas   []string // newest first
		checkpoint int64
		want       string
	}{
		"nothing is there":                   {nil, 0, ""},
		"nothing is READY":                   {[]string{"COPYING a 7", "FAILED a 6"}, 0, ""},
		"any READY one":                      {[]string{"COPYING a 7", "READY a 6", "READY a 5"}, 0, "READY a 6"},
		"the one that was asked for":         {[]string{"COPYING a 8", "READY a 7"}, 7, "READY a 7"},
		"a newer one":                        {[]string{"READY a 9", "SUPERSEDED a 7", "READY a 6"}, 7, "READY a 9"},
		"one at risk will not do":            {[]string{"AT_RISK a 8", "READY a 6"}, 0, "READY a 6"},
		"only older ones":                    {[]string{"COPYING a 7", "READY a 6"}, 7, ""},
		"an earlier life counts for itself":  {[]string{"COPYING b 3", "READY a 40"}, 7, ""},
		"a savepoint tells no life":          {[]string{"READY savepoint 8", "COPYING a 7"}, 7, "READY savepoint 8"},
		"any READY one, of an earlier life":  {[]string{"COPYING b 1", "READY a 40"}, 0, "READY a 40"},
		"a life of which a savepoint is new": {[]string{"FAILED savepoint 9", "READY a 8"}, 8, "READY a 8"},
	} {
		var replicas []*ckptferryv1.Replica
		for _, r := range tc.replicas {
			replicas = append(replicas, held(r))
		}
		got := strings.TrimPrefix(pick{checkpoint: tc.checkpoint}.ready(replicas).GetUri(), "file:/r/")
		if got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func TestAWaitEndsWhenItIsReadyOrInTime(t *testing.T) {
	behind := &ckptferryv1.GetReplicaLagResponse{Jobs: []*ckptferryv1.JobLag{{Job: "orders", State: ckptferryv1.LagState_LAG_STATE_NO_REPLICA, Reason: "chk-7 is being copied"}}}
	waitFor := func(t *testing.T, answers func(n int, agent *answering) error) (*ckptferryv1.Replica, time.Duration, error) {
		began, n := time.Now(), 0
		r, err := waiting{job: "orders", within: time.Minute, ask: func(ctx context.Context, call func(ctx context.Context, agent api) error) error {
			agent := &answering{lag: behind}
			n++
			if err := answers(n, agent); err != nil {
				return err
			}
			return call(ctx, agent)
		}}.wait(t.Context())
		return r, time.Since(began), err
	}
	synctest.Test(t, func(t *testing.T) {
		r, took, err := waitFor(t, func(n int, agent *answering) error {
			switch {
			case n == 1: // nobody knows it yet
				agent.lag, agent.lagErr = nil, rpc.ErrNotFound
			case n < 4: // the group elects
				return rpc.ErrUnavailable
			default:
				agent.replicas = []*ckptferryv1.Replica{held("READY a 7")}
			}
			return nil
		})
		if err != nil || r.GetKey().GetCheckpointId() != 7 || took != 3*waitAgain {
			t.Errorf("%v after %s, %v; want checkpoint 7 at the fourth try", r, took, err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		_, took, err := waitFor(t, func(int, *answering) error { return nil })
		if exitCode(err) != exitTimeout || took != time.Minute || !strings.Contains(err.Error(), "orders is NO_REPLICA: chk-7 is being copied") {
			t.Errorf("%v after %s, want a time-out that says why", err, took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		if _, took, err := waitFor(t, func(int, *answering) error { return rpc.ErrUnavailable }); exitCode(err) != exitUnreachable || took != 0 {
			t.Errorf("%v after %s, want at once that nobody answers", err, took)
		}
		if _, took, err := waitFor(t, func(n int, _ *answering) error {
			if n > 1 {
				return rpc.ErrDenied
			}
			return nil
		}); !errors.Is(err, rpc.ErrDenied) || took != waitAgain {
			t.Errorf("%v after %s, want no further try", err, took)
		}
	})
}

func TestWhatIsKnownIsSortedToTheJobs(t *testing.T) {
	lag := &ckptferryv1.GetReplicaLagResponse{
		Jobs: []*ckptferryv1.JobLag{{Route: "prod", Job: "orders"}, {Route: "prod", Job: "pay"}, {Route: "test", Job: "orders"}},
		Read: &ckptferryv1.ReadContext{Stale: proto.Bool(true)},
	}
	jobs := joinJobs(lag, []*ckptferryv1.Replica{held("READY a 7"), held("FAILED a 6")}, []*ckptferryv1.GetStatusResponse{
		{Transfers: []*ckptferryv1.Transfer{{Route: "prod", Job: "pay", CheckpointId: 3}}},
		{Routes: []*ckptferryv1.RouteStatus{{Route: "test", Problem: "no link"}}, Transfers: []*ckptferryv1.Transfer{{Route: "test", Job: "gone"}}},
	})
	if len(jobs) != 3 || len(jobs[0].Replicas) != 2 || len(jobs[0].Transfers) != 0 || len(jobs[1].Transfers) != 1 || len(jobs[2].Replicas) != 0 ||
		jobs[0].Problem != "" || jobs[2].Problem != "no link" || !jobs[0].Stale {
		t.Errorf("jobs %+v", jobs)
	}
	rows := jobRows(jobs)
	if got, want := strings.Join(rows[0], " "), "prod orders UNSPECIFIED - - - - 1 1 -"; got != want {
		t.Errorf("row %q, want %q", got, want)
	}
	if got := rows[1][len(rows[1])-1]; got != "chk-3" {
		t.Errorf("copying %q, want chk-3", got)
	}
}
