package main

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/rpc"
)

func TestPausingChangesTheModeAndNothingElse(t *testing.T) {
	prod := &ckptferryv1.Route{
		Name: "prod", FromDatacenter: "dc1", FromExport: "e", Root: "file:/r", Include: []string{"a*"}, Mode: ckptferryv1.RouteMode_ROUTE_MODE_CONTINUOUS,
		Keep: 3, Priority: 7, RelativePaths: true, Epoch: 9, BytesPerSecond: 5, KeepDaily: 2,
	}
	other := &ckptferryv1.Route{Name: "other"}
	agent := &routing{routes: []*ckptferryv1.Route{other, prod}}
	if _, err := setMode(t.Context(), agent, []string{"prod", "other"}, ckptferryv1.RouteMode_ROUTE_MODE_PAUSED, true); err != nil {
		t.Fatal(err)
	}
	want := &ckptferryv1.ApplyRoutesRequest{DryRun: true}
	for _, r := range []*ckptferryv1.Route{prod, other} {
		paused := proto.Clone(r).(*ckptferryv1.Route)
		paused.Mode = ckptferryv1.RouteMode_ROUTE_MODE_PAUSED
		want.Routes = append(want.Routes, paused)
	}
	if len(agent.applied) != 1 || !proto.Equal(agent.applied[0], want) {
		t.Errorf("applied %v, want %v", agent.applied, want)
	}
	_, err := setMode(t.Context(), agent, []string{"prod", "nope"}, ckptferryv1.RouteMode_ROUTE_MODE_PAUSED, false)
	if !errors.Is(err, rpc.ErrNotFound) || len(agent.applied) != 1 {
		t.Errorf("with one that is not there: %v, applied %v", err, agent.applied[1:])
	}
}
