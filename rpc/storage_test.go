package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/keeper"
)

// agreed is a group that leads, has one route, and agrees on everything that its state allows.
type agreed struct {
	*group
	view raftstore.View
	role string
}

func newAgreed(t *testing.T) *agreed {
	t.Helper()
	g := &agreed{group: newGroup(), view: raftstore.EmptyView(), role: "leader"}
	route := &ckptferryv1.Route{Name: "prod", FromDatacenter: "dc1", FromExport: "prod", Root: "hdfs://dc2/r", Mode: ckptferryv1.RouteMode_ROUTE_MODE_CONTINUOUS}
	if err := g.propose(t.Context(), &raftv1.Command{Op: &raftv1.Command_PutRoute{PutRoute: &raftv1.PutRoute{Route: route}}}); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *agreed) View() raftstore.View { return g.view }
func (g *agreed) Role() string         { return g.role }
func (g *agreed) propose(_ context.Context, cmd *raftv1.Command) (err error) {
	cmd.ProposedAt = timestamppb.Now()
	g.view, err = g.view.After(cmd)
	return err
}

func serveStorage(t *testing.T, g *agreed, s Storage) *Client {
	t.Helper()
	cfg := sourceConfig(g.group, nil)
	cfg.Group, cfg.Storage, cfg.Propose = g, s, g.propose
	server := NewAPI(cfg)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, server, l)
	return dialAPI(t, l.Addr().String())
}

// kept is a storage of which everything is told once.
type kept struct {
	Storage
	asked []string
}

func (k *kept) Preview(_ context.Context, only keeper.Filter, each func(keeper.Gone) error) error {
	k.asked = append(k.asked, fmt.Sprint("preview ", only))
	key := raftstore.Key{Route: "prod", CheckpointID: 7}
	return errors.Join(each(keeper.Gone{Route: "prod", Job: "orders", Key: &key, Action: "retire", URI: "u", Files: 3, Bytes: 30, Reason: "old"}),
		each(keeper.Gone{Route: "prod", Action: "trash", Files: 1, Bytes: 5}))
}

func (k *kept) ScrubNow(_ context.Context, only keeper.Filter, each func(keeper.Scrubbed) error) error {
	k.asked = append(k.asked, fmt.Sprint("scrub ", only))
	return each(keeper.Scrubbed{Replica: raftstore.Replica{Job: "orders"}, Problem: "rot", Read: 9})
}

func (k *kept) Rebuild(_ context.Context, req keeper.RebuildRequest, each func(keeper.Found) error) error {
	k.asked = append(k.asked, fmt.Sprintf("rebuild %+v", req))
	return each(keeper.Found{Outcome: keeper.Broken, Problem: "short", Replica: &ckptferryv1.Replica{Uri: "u"}})
}

func TestStorageIsKeptThroughTheAPI(t *testing.T) {
	g, k := newAgreed(t), &kept{}
	c := serveStorage(t, g, k)
	var gone []*ckptferryv1.Pruned
	total, err := c.Prune(t.Context(), &ckptferryv1.PruneReplicasRequest{Route: "prod", Job: "orders", DryRun: true}, func(p *ckptferryv1.Pruned) error {
		gone = append(gone, p)
		return nil
	})
	if err != nil || len(gone) != 2 || gone[0].GetKey().GetCheckpointId() != 7 || gone[1].GetKey() != nil ||
		total.GetReplicaCount() != 1 || total.GetFileCount() != 4 || total.GetTotalBytes() != 35 {
		t.Errorf("Prune = %v, %v, %v", gone, total, err)
	}
	_, err = c.Prune(t.Context(), &ckptferryv1.PruneReplicasRequest{Route: "none", DryRun: true}, nil)
	wantErr(t, "an unknown route", err, ErrNotFound)
	if err := c.Scrub(t.Context(), &ckptferryv1.ScrubReplicasRequest{Job: "orders"}, func(r *ckptferryv1.ScrubReplicasResponse) error {
		if r.GetProblem() != "rot" || r.GetBytesRead() != 9 || r.GetReplica().GetJob() != "orders" {
			t.Errorf("scrubbed %v", r)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if err := c.RebuildCatalog(t.Context(), &ckptferryv1.RebuildCatalogRequest{Deep: true}, func(r *ckptferryv1.RebuildCatalogResponse) error {
		if r.GetOutcome() != "broken" || r.GetProblem() != "short" || r.GetReplica().GetUri() != "u" {
			t.Errorf("found %v", r)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if got, want := fmt.Sprint(k.asked), "[preview {prod orders} scrub { orders} rebuild {Route: Deep:true DryRun:false}]"; got != want {
		t.Errorf("asked %s, want %s", got, want)
	}
	// Who doesn't lead changes nothing, and may look.
	g.role = "follower"
	_, err = c.Prune(t.Context(), &ckptferryv1.PruneReplicasRequest{}, nil)
	wantErr(t, "prune at a follower", err, ErrNotLeader)
	wantErr(t, "scrub at a follower", c.Scrub(t.Context(), &ckptferryv1.ScrubReplicasRequest{}, nil), ErrNotLeader)
	wantErr(t, "rebuild at a follower", c.RebuildCatalog(t.Context(), &ckptferryv1.RebuildCatalogRequest{}, nil), ErrNotLeader)
	if _, err := c.Prune(t.Context(), &ckptferryv1.PruneReplicasRequest{DryRun: true}, func(*ckptferryv1.Pruned) error { return nil }); err != nil {
		t.Errorf("a look at a follower: %v", err)
	}
}

func TestDrillsAreRecordedAndListedInPages(t *testing.T) {
	g := newAgreed(t)
	c := serveStorage(t, g, nil)
	drill := func(job string, passed bool, at time.Time) *ckptferryv1.Drill {
		return &ckptferryv1.Drill{Key: &ckptferryv1.CheckpointKey{Route: "prod", JobId: "0123456789abcdef0123456789abcdef", CheckpointId: 7}, Job: job, Level: 1, Passed: passed,
			StartedTime: timestamppb.New(at), Actor: "somebody else", Detail: "it went so"}
	}
	at := time.Unix(1e9, 0)
	for _, d := range []*ckptferryv1.Drill{drill("a", true, at), drill("a", false, at.Add(time.Hour)), drill("b", true, at), drill("c", false, at)} {
		if err := c.RecordDrill(t.Context(), &ckptferryv1.RecordDrillRequest{Drill: d}); err != nil {
			t.Fatal(err)
		}
	}
	wantErr(t, "no drill", c.RecordDrill(t.Context(), &ckptferryv1.RecordDrillRequest{}), ErrInvalid)
	var jobs []string
	for token := ""; ; {
		page, err := c.Drills(t.Context(), &ckptferryv1.ListDrillsRequest{PageSize: 2, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range page.GetJobs() {
			jobs = append(jobs, d.GetNewest().GetJob())
			if passed := d.GetNewestPassed() != nil; passed != (d.GetNewest().GetJob() != "c") || passed != (d.GetPassedTime() != nil) || d.GetNewest().GetActor() == "somebody else" {
				t.Errorf("drills %v", d)
			}
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	if fmt.Sprint(jobs) != "[a b c]" {
		t.Errorf("jobs %v", jobs)
	}
	if one, err := c.Drills(t.Context(), &ckptferryv1.ListDrillsRequest{Job: "a"}); err != nil || len(one.GetJobs()) != 1 || one.GetJobs()[0].GetNewest().GetPassed() {
		t.Errorf("of one job: %v, %v", one, err)
	}
}
