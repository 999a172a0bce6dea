package main

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/rpc"
)

// routing is an agent with routes, which keeps what is applied.
type routing struct {
	api
	routes  []*ckptferryv1.Route
	applied []*ckptferryv1.ApplyRoutesRequest
	err     error
}

func (a *routing) Routes(context.Context) (*ckptferryv1.ListRoutesResponse, error) {
	answer := &ckptferryv1.ListRoutesResponse{Read: &ckptferryv1.ReadContext{Agent: "dc2-a"}}
	for _, r := range a.routes {
		answer.Routes = append(answer.Routes, proto.Clone(r).(*ckptferryv1.Route))
	}
	return answer, a.err
}

func (a *routing) ApplyRoutes(_ context.Context, req *ckptferryv1.ApplyRoutesRequest) (*ckptferryv1.ApplyRoutesResponse, error) {
	a.applied = append(a.applied, req)
	return &ckptferryv1.ApplyRoutesResponse{Changes: []string{"route prod: changed (rate)"}}, nil
}

func TestThrottlingChangesTheRateAndNothingElse(t *testing.T) {
	prod := &ckptferryv1.Route{
		Name: "prod", FromDatacenter: "dc1", FromExport: "e", Root: "file:/r", Include: []string{"a*"}, Exclude: []string{"*b"},
		Mode: ckptferryv1.RouteMode_ROUTE_MODE_PAUSED, Keep: 3, Priority: 7, RelativePaths: true, Epoch: 9, BytesPerSecond: 5,
	}
	for _, dryRun := range []bool{false, true} {
		agent := &routing{routes: []*ckptferryv1.Route{{Name: "other"}, prod}}
		before, answer, err := throttle(t.Context(), agent, "prod", 200<<20, dryRun)
		if err != nil || before != 5 || len(answer.GetChanges()) != 1 {
			t.Errorf("throttle = %d, %v, %v", before, answer, err)
		}
		want := proto.Clone(prod).(*ckptferryv1.Route)
		want.BytesPerSecond = 200 << 20
		if len(agent.applied) != 1 || !proto.Equal(agent.applied[0], &ckptferryv1.ApplyRoutesRequest{Routes: []*ckptferryv1.Route{want}, DryRun: dryRun}) {
			t.Errorf("applied %v, want %v, dry run %t", agent.applied, want, dryRun)
		}
	}
}

func TestThrottlingWhatIsNotThereAppliesNothing(t *testing.T) {
	agent := &routing{routes: []*ckptferryv1.Route{{Name: "other"}}}
	if _, _, err := throttle(t.Context(), agent, "prod", 1, false); !errors.Is(err, rpc.ErrNotFound) || len(agent.applied) > 0 {
		t.Errorf("throttle = %v, applied %v", err, agent.applied)
	}
	agent.err = rpc.ErrUnavailable
	if _, _, err := throttle(t.Context(), agent, "other", 1, false); !errors.Is(err, rpc.ErrUnavailable) || len(agent.applied) > 0 {
		t.Errorf("throttle = %v, applied %v", err, agent.applied)
	}
}
