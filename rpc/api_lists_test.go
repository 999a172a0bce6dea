package rpc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/agent"
)

func TestLagComesInPagesWhenItIsAskedTo(t *testing.T) {
	g := newGroup()
	g.routes = []raftstore.Route{{Name: "prod"}, {Name: "test"}}
	var want []string
	for _, route := range []string{"prod", "test"} {
		for i := range 5 {
			g.lags = append(g.lags, agent.JobLag{Route: route, Job: fmt.Sprint("job", i), State: agent.CaughtUp})
			want = append(want, fmt.Sprintf("%s/job%d", route, i))
		}
	}
	c := dialAPI(t, serveAPI(t, sourceConfig(g, nil)))
	for _, size := range []int32{0, 1, 3, 10, 20_000} {
		var got []string
		req := &ckptferryv1.GetReplicaLagRequest{PageSize: size}
		for {
			answer, err := c.Lag(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			if size > 0 && len(answer.GetJobs()) > int(size) {
				t.Errorf("a page of %d has %d jobs", size, len(answer.GetJobs()))
			}
			for _, l := range answer.GetJobs() {
				got = append(got, l.GetRoute()+"/"+l.GetJob())
			}
			if req.PageToken = answer.GetNextPageToken(); req.PageToken == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %d: %v", size, got)
		}
	}
	last, err := c.Lag(t.Context(), &ckptferryv1.GetReplicaLagRequest{PageSize: 9})
	if err != nil {
		t.Fatal(err)
	}
	g.change(func() { g.lags = g.lags[:9] })
	if answer, err := c.Lag(t.Context(), &ckptferryv1.GetReplicaLagRequest{PageToken: last.GetNextPageToken(), Job: "job3"}); err != nil || len(answer.GetJobs()) != 0 {
		t.Errorf("the page after the last one that is left = %v, %v", answer, err)
	}
	for _, req := range []*ckptferryv1.GetReplicaLagRequest{{PageSize: -1}, {PageToken: "?"}, {PageToken: tokenFor(foundPosition{"orders", 1})}} {
		if _, err := c.Lag(t.Context(), req); !errors.Is(err, ErrInvalid) {
			t.Errorf("%v: %v", req, err)
		}
	}
}

func TestCheckpointsOfAnExportAndOfARoute(t *testing.T) {
	g := newGroup(raftstore.Export{Name: "prod"})
	g.routes = []raftstore.Route{{Name: "in"}}
	found := func(job string, seqs ...uint64) (all []raftstore.Found) {
		for _, seq := range seqs {
			all = append(all, raftstore.Found{Job: job, Seq: seq, CheckpointID: int64(seq)})
		}
		return all
	}
	g.found["prod"] = append(found("pay", 1, 4, 6), found("orders", 2, 3, 5)...)
	g.known["in"] = found("far", 7)
	c := dialAPI(t, serveAPI(t, sourceConfig(g, nil)))
	for _, tc := range []struct {
		req  *ckptferryv1.ListCheckpointsRequest
		want string
		err  error
	}{
		{&ckptferryv1.ListCheckpointsRequest{Export: "prod"}, "[orders 5 orders 3 orders 2 pay 6 pay 4 pay 1]", nil},
		{&ckptferryv1.ListCheckpointsRequest{Export: "prod", PageSize: 1}, "[orders 5 orders 3 orders 2 pay 6 pay 4 pay 1]", nil},
		{&ckptferryv1.ListCheckpointsRequest{Export: "prod", PageSize: 4}, "[orders 5 orders 3 orders 2 pay 6 pay 4 pay 1]", nil},
		{&ckptferryv1.ListCheckpointsRequest{Export: "prod", Job: "pay", PageSize: 2}, "[pay 6 pay 4 pay 1]", nil},
		{&ckptferryv1.ListCheckpointsRequest{Export: "prod", Job: "none"}, "[]", nil},
		{&ckptferryv1.ListCheckpointsRequest{Route: "in"}, "[far 7]", nil},
		{&ckptferryv1.ListCheckpointsRequest{}, "[]", ErrInvalid},
		{&ckptferryv1.ListCheckpointsRequest{Export: "prod", Route: "in"}, "[]", ErrInvalid},
		{&ckptferryv1.ListCheckpointsRequest{Export: "in"}, "[]", ErrNotFound},
		{&ckptferryv1.ListCheckpointsRequest{Route: "prod"}, "[]", ErrNotFound},
		{&ckptferryv1.ListCheckpointsRequest{Export: "prod", PageToken: "AAAA"}, "[]", ErrInvalid},
	} {
		got := []string{}
		var err error
		for {
			var page *ckptferryv1.ListCheckpointsResponse
			if page, err = c.Checkpoints(t.Context(), tc.req); err != nil {
				break
			}
			for _, f := range page.GetCheckpoints() {
				got = append(got, fmt.Sprint(f.GetJob(), " ", f.GetSeq()))
			}
			if tc.req.PageToken = page.GetNextPageToken(); tc.req.PageToken == "" {
				break
			}
		}
		if fmt.Sprint(got) != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%v: %v, %v; want %s, %v", tc.req, got, err, tc.want, tc.err)
		}
	}
}

func TestPinNamesOneReplicaAndTheLeader(t *testing.T) {
	g := newGroup()
	cfg := sourceConfig(g, nil)
	pinned := map[raftstore.Key]bool{}
	var fails error
	cfg.Pin = func(_ context.Context, key raftstore.Key, keep bool) (raftstore.Replica, error) {
		pinned[key] = keep
		return raftstore.Replica{Key: key, Job: "orders", Pinned: keep}, fails
	}
	c := dialAPI(t, serveAPI(t, cfg))
	key := &ckptferryv1.CheckpointKey{Route: "prod", JobId: "j", CheckpointId: 7, MetadataCrc32C: 9}
	answer, err := c.PinReplica(t.Context(), &ckptferryv1.PinReplicaRequest{Key: key, Pinned: true})
	if err != nil || !answer.GetReplica().GetPinned() || !pinned[raftstore.Key{Route: "prod", JobID: "j", CheckpointID: 7, MetadataCRC: 9}] {
		t.Errorf("PinReplica = %v, %v; pinned %v", answer, err, pinned)
	}
	for _, tc := range []struct {
		key  *ckptferryv1.CheckpointKey
		says error
		want error
	}{
		{nil, nil, ErrInvalid}, {key, raftstore.ErrNotLeader, ErrNotLeader}, {key, raftstore.ErrUnknownReplica, ErrNotFound},
		{key, raftstore.ErrBadTransition, ErrRefused},
	} {
		fails = tc.says
		if _, err := c.PinReplica(t.Context(), &ckptferryv1.PinReplicaRequest{Key: tc.key}); !errors.Is(err, tc.want) {
			t.Errorf("PinReplica(%v) = %v, want %v", tc.key, err, tc.want)
		}
	}
}

func TestRemovingNamesWhatIsForgotten(t *testing.T) {
	cfg := sourceConfig(newGroup(), nil)
	var fails error
	cfg.Remove = func(_ context.Context, exports, routes []string, dryRun bool) ([]string, error) {
		return []string{fmt.Sprint(exports, routes, dryRun)}, fails
	}
	c := dialAPI(t, serveAPI(t, cfg))
	req := &ckptferryv1.RemoveRoutesRequest{Exports: []string{"e"}, Routes: []string{"r", "s"}, DryRun: true}
	answer, err := c.RemoveRoutes(t.Context(), req)
	if err != nil || !slices.Equal(answer.GetChanges(), []string{"[e] [r s] true"}) {
		t.Errorf("RemoveRoutes = %v, %v", answer, err)
	}
	if _, err := c.RemoveRoutes(t.Context(), &ckptferryv1.RemoveRoutesRequest{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("RemoveRoutes of nothing = %v", err)
	}
	for says, want := range map[error]error{raftstore.ErrNotLeader: ErrNotLeader, raftstore.ErrRouteBusy: ErrRefused} {
		fails = says
		if _, err := c.RemoveRoutes(t.Context(), req); !errors.Is(err, want) {
			t.Errorf("RemoveRoutes = %v, want %v", err, want)
		}
	}
}
