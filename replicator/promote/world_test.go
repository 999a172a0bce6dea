package promote

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// group is a real group of one at dc2, whose clock the test sets. Its route prod pulls from dc1.
type group struct {
	*raftstore.Store
	t   testing.TB
	now time.Time
	seq uint64
}

func newGroup(t testing.TB) *group {
	t.Helper()
	g := &group{t: t, now: noon}
	var err error
	g.Store, err = raftstore.Open(raftstore.Config{Group: "dc2", ID: "a", Dir: t.TempDir(), Peers: []raftstore.Peer{{ID: "a"}}, Now: func() time.Time { return g.now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for began := time.Now(); g.Role() != "leader"; <-look.C { // until one voter has elected itself
		if time.Since(began) > time.Minute {
			t.Fatal("no leader")
		}
	}
	g.route(raftstore.Route{Name: "prod", FromDC: "dc1", FromExport: "prod", Root: "file:/replicas", Mode: raftstore.RouteContinuous})
	return g
}

func (g *group) do(cmd *raftv1.Command) {
	g.t.Helper()
	if err := g.Propose(context.Background(), cmd); err != nil {
		g.t.Fatal(err)
	}
}

func (g *group) route(r raftstore.Route) {
	g.t.Helper()
	g.do(&raftv1.Command{Op: &raftv1.Command_PutRoute{PutRoute: &raftv1.PutRoute{Route: raftstore.RouteMessage(r)}}})
}

// checkpoint is one that the source completed at noon plus so many minutes.
func checkpoint(job string, id int64, minute int) raftstore.Found {
	return raftstore.Found{Job: job, JobID: raftstore.JobID(fmt.Sprintf("%032x", len(job))), CheckpointID: id, MetadataCRC: uint32(id),
		URI: fmt.Sprintf("file:/cp/%s/%032x/chk-%d", job, len(job), id), CompletedAt: noon.Add(time.Duration(minute) * time.Minute), Files: 1, Bytes: 1}
}

// known makes checkpoints known, in this order, and the source seen now.
func (g *group) known(found ...raftstore.Found) {
	g.t.Helper()
	c := &raftv1.ObserveSource{Route: "prod", SeenTime: timestamppb.New(g.now)}
	for _, f := range found {
		g.seq++
		f.Seq = g.seq
		c.Found = append(c.Found, raftstore.FoundMessage(f))
	}
	g.do(&raftv1.Command{Op: &raftv1.Command_ObserveSource{ObserveSource: c}})
}

// ready makes a READY replica. Its facts are those of a plain checkpoint unless with changes them.
func (g *group) ready(f raftstore.Found, with ...func(*ckptferryv1.RestoreFacts)) raftstore.Key {
	g.t.Helper()
	return g.readyOn("prod", f, with...)
}

func (g *group) readyOn(route string, f raftstore.Found, with ...func(*ckptferryv1.RestoreFacts)) raftstore.Key {
	g.t.Helper()
	key := keyOf(route, f)
	facts := &ckptferryv1.RestoreFacts{MetadataVersion: 4, OldestFlink: "1.16", OldestFlinkWhy: "_metadata version 4"}
	for _, change := range with {
		change(facts)
	}
	old, _ := g.View().Replica(key)
	m, fence := raftstore.KeyMessage(key), &raftv1.Fence{Epoch: g.View().JobEpoch(route, f.Job), Attempt: old.Planned.Attempt + 1}
	kind := ckptferryv1.CheckpointKind_CHECKPOINT_KIND_CHECKPOINT
	if f.Savepoint {
		kind = ckptferryv1.CheckpointKind_CHECKPOINT_KIND_SAVEPOINT
	}
	g.do(&raftv1.Command{Op: &raftv1.Command_PlanReplica{PlanReplica: &raftv1.PlanReplica{Key: m, Fence: fence, Job: f.Job, Kind: kind,
		Uri: fmt.Sprintf("file:/replicas/%s/chk-%d", f.JobID, f.CheckpointID), CompletedTime: timestamppb.New(f.CompletedAt)}}})
	g.do(&raftv1.Command{Op: &raftv1.Command_StartCopy{StartCopy: &raftv1.StartCopy{Key: m, Fence: fence}}})
	g.do(&raftv1.Command{Op: &raftv1.Command_MarkReady{MarkReady: &raftv1.MarkReady{Key: m, Fence: fence, FileCount: 1, TotalBytes: 1, Facts: facts}}})
	return key
}

func (g *group) quarantine(key raftstore.Key) {
	g.t.Helper()
	r, _ := g.View().Replica(key)
	g.do(&raftv1.Command{Op: &raftv1.Command_QuarantineReplica{QuarantineReplica: &raftv1.QuarantineReplica{
		Key: raftstore.KeyMessage(key), Fence: &raftv1.Fence{Epoch: g.View().JobEpoch(key.Route, r.Job), Attempt: r.Planned.Attempt}, Reason: "rot"}}})
}

// fenced has another datacenter promote a job of export "out".
func (g *group) fenced(datacenter, job string, epoch uint64, at time.Time) {
	g.t.Helper()
	g.do(&raftv1.Command{Op: &raftv1.Command_PutExport{PutExport: &raftv1.PutExport{Export: raftstore.ExportMessage(
		raftstore.Export{Name: "out", Bases: []string{"file:/cp/{job}"}, To: []string{datacenter}})}}})
	if _, err := RecordFences(context.Background(), g, Told{Export: "out", Datacenter: datacenter, Jobs: []raftstore.FencedJob{{Job: job, Epoch: epoch, PromotedAt: at}}}); err != nil {
		g.t.Fatal(err)
	}
}

func (g *group) plan(req Request) Planned {
	g.t.Helper()
	plan, err := Plan(g.View(), g.now, req)
	if err != nil {
		g.t.Fatal(err)
	}
	return plan
}

// item is the plan of the one job that there is.
func (g *group) item(req Request) Item {
	g.t.Helper()
	plan := g.plan(req)
	if len(plan.Items) != 1 {
		g.t.Fatalf("%d items; want one", len(plan.Items))
	}
	return plan.Items[0]
}
