package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ckptferry/ckptferry/fsutil"
	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
	"github.com/ckptferry/ckptferry/replicator/promote"
	"github.com/ckptferry/ckptferry/rpc"
)

const (
	failoverJobs = 10_000
	// failoverCheckpoint is what each job's replica is made of.
	failoverCheckpoint = "flinkmeta/fixtures/1.20.0-hashmap/dc-a/flink/checkpoints/1.20.0-hashmap/9ef16000717b254bf903b4ed12b81777/chk-4"
	failoverJobID      = "9ef16000717b254bf903b4ed12b81777"
)

// disaster is a target datacenter whose source is gone: a group of three, one of which is down, and a small replica on the
// local disk for each job.
type disaster struct {
	dir     string
	stores  *fsutil.Stores
	nodes   []*raftstore.Store
	ids     []string
	leader  *raftstore.Store
	made    replicator.Result // of the one replica that all are copies of
	client  *rpc.Client
	closing []func()
}

// measureFailover takes the times that a person waits for on the day that it is needed.
func measureFailover(ctx context.Context, b *bench) (err error) {
	d := &disaster{dir: filepath.Join(b.dir, "failover"), stores: fsutil.NewStores(fsutil.StoresConfig{})}
	defer os.RemoveAll(d.dir)
	defer d.close()
	if err := d.replicas(ctx); err != nil {
		return err
	}
	b.logf("%d replicas on the disk; filling a group of three", failoverJobs)
	if err := d.group(ctx); err != nil {
		return err
	}
	b.logf("one of the three is down; plan and run")

	began := time.Now()
	one, err := d.client.PlanFailover(ctx, &ckptferryv1.PlanFailoverRequest{Jobs: []string{failoverJob(0)}})
	if err == nil {
		err = d.run(ctx, one)
	}
	if err != nil {
		return fmt.Errorf("one job: %w", err)
	}
	single := time.Since(began)

	began = time.Now()
	plan, err := d.client.PlanFailover(ctx, &ckptferryv1.PlanFailoverRequest{})
	if err != nil || len(plan.Items) != failoverJobs {
		return fmt.Errorf("a plan of %d jobs, want %d: %w", len(plan.Items), failoverJobs, err)
	}
	planned := time.Since(began)
	began = time.Now()
	if err := d.run(ctx, plan); err != nil {
		return fmt.Errorf("all jobs: %w", err)
	}
	ran := time.Since(began)

	note := fmt.Sprintf("three nodes on loopback and one disk in one process, one of them stopped, no source; the API over loopback; each job has a replica of %d files on the local disk", d.made.Files)
	for _, r := range []row{
		{What: fmt.Sprintf("plan for %d jobs", failoverJobs), Value: planned.Seconds(), Most: 2, Note: note},
		{What: fmt.Sprintf("run for %d jobs, each replica's lengths verified", failoverJobs), Value: ran.Seconds(), Most: 10, Note: "in parts of 200, each linearized, verified and committed; one job was promoted before"},
		{What: "plan and run for one job", Value: single.Seconds(), Most: 2, Note: "our part of the RTO, with 10,000 jobs in the state"},
	} {
		r.Section, r.Unit, r.Low, r.High, r.Runs = "failover", "s", r.Value, r.Value, 1
		b.add(r)
	}
	return nil
}

// replicas makes one replica of what real Flink wrote, as the agents do, and copies it for each job.
func (d *disaster) replicas(ctx context.Context) error {
	source, err := fsutil.ParseURI(mustAbs(failoverCheckpoint))
	if err != nil {
		return err
	}
	target, err := fsutil.ParseURI(filepath.Join(d.dir, "template"))
	if err != nil {
		return err
	}
	if d.made, err = replicator.Replicate(ctx, d.stores, replicator.Request{Source: source, Target: target}); err != nil {
		return err
	}
	template := os.DirFS(filepath.Join(d.dir, "template"))
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for job := range failoverJobs {
		group.Go(func() error {
			if gctx.Err() != nil {
				return gctx.Err()
			}
			return os.CopyFS(d.root(job), template)
		})
	}
	return group.Wait()
}

func mustAbs(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		panic(err) // no working directory
	}
	return abs
}

func failoverJob(job int) string { return fmt.Sprintf("orders-enrichment-%05d", job) }

func (d *disaster) root(job int) string {
	return filepath.Join(d.dir, "replicas", fmt.Sprintf("%02d", job%100), failoverJob(job))
}

// group starts three nodes, makes the replicas known, and stops one that doesn't lead.
func (d *disaster) group(ctx context.Context) error {
	addrs, err := freePorts(3)
	if err != nil {
		return err
	}
	var peers []raftstore.Peer
	for i, id := range []string{"a", "b", "c"} {
		d.ids, peers = append(d.ids, id), append(peers, raftstore.Peer{ID: id, Addr: addrs[i]})
	}
	for _, id := range d.ids {
		node, err := raftstore.Open(raftstore.Config{Group: "bench", ID: id, Dir: filepath.Join(d.dir, "raft-"+id), Peers: peers})
		if err != nil {
			return err
		}
		d.nodes, d.closing = append(d.nodes, node), append(d.closing, func() { _ = node.Close() })
	}
	if err := d.elected(ctx); err != nil {
		return err
	}
	if err := d.fill(ctx); err != nil {
		return fmt.Errorf("fill the state: %w", err)
	}
	for _, node := range d.nodes {
		if node != d.leader {
			if err := node.Close(); err != nil {
				return err
			}
			break
		}
	}
	return d.serve(ctx)
}

func (d *disaster) elected(ctx context.Context) error {
	return eventually(ctx, 30*time.Second, 10*time.Millisecond, func() (bool, error) {
		for _, node := range d.nodes {
			if node.Role() == "leader" {
				d.leader = node
				return true, nil
			}
		}
		return false, nil
	})
}

func (d *disaster) fill(ctx context.Context) error {
	route := &ckptferryv1.Route{Name: loadRoute, FromDatacenter: "dc1", FromExport: "bench", Root: "file:" + filepath.Join(d.dir, "replicas"), Mode: ckptferryv1.RouteMode_ROUTE_MODE_CONTINUOUS}
	if err := d.leader.Propose(ctx, &raftv1.Command{Op: &raftv1.Command_PutRoute{PutRoute: &raftv1.PutRoute{Route: route}}}); err != nil {
		return err
	}
	now := time.Now()
	for from := 0; from < failoverJobs; from += loadBatch {
		c := &raftv1.ObserveSource{Route: loadRoute, SeenTime: timestamppb.New(now)}
		for job := from; job < min(from+loadBatch, failoverJobs); job++ {
			c.Found = append(c.Found, raftstore.FoundMessage(raftstore.Found{Seq: uint64(job) + 1, Job: failoverJob(job), JobID: failoverJobID, CheckpointID: 4,
				MetadataCRC: uint32(job), URI: "file:/cp/" + failoverJob(job) + "/" + failoverJobID + "/chk-4", CompletedAt: now, Files: 5, Bytes: 1}))
		}
		if err := d.leader.Propose(ctx, &raftv1.Command{Op: &raftv1.Command_ObserveSource{ObserveSource: c}}); err != nil {
			return err
		}
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(fillWorkers)
	for job := range failoverJobs {
		group.Go(func() error { return d.ready(gctx, job, now) })
	}
	return group.Wait()
}

func (d *disaster) ready(ctx context.Context, job int, completed time.Time) error {
	key := &ckptferryv1.CheckpointKey{Route: loadRoute, JobId: failoverJobID, CheckpointId: 4, MetadataCrc32C: uint32(job)}
	fence := &raftv1.Fence{Attempt: 1}
	uri := "file:" + filepath.Join(d.root(job), failoverJobID, "chk-4")
	for _, cmd := range []*raftv1.Command{
		{Op: &raftv1.Command_PlanReplica{PlanReplica: &raftv1.PlanReplica{Key: key, Fence: fence, Job: failoverJob(job), Uri: uri, CompletedTime: timestamppb.New(completed)}}},
		{Op: &raftv1.Command_StartCopy{StartCopy: &raftv1.StartCopy{Key: key, Fence: fence}}},
		{Op: &raftv1.Command_MarkReady{MarkReady: &raftv1.MarkReady{Key: key, Fence: fence, ManifestCrc32C: uint32(d.made.ManifestCRC), FileCount: int64(d.made.ManifestFiles),
			TotalBytes: d.made.ManifestBytes, Facts: raftstore.FactsMessage(raftstore.RestoreFacts(d.made.Facts))}}},
	} {
		if err := d.leader.Propose(ctx, cmd); err != nil {
			return err
		}
	}
	return nil
}

// serve answers at the leader as an agent does.
func (d *disaster) serve(ctx context.Context) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := rpc.NewAPI(rpc.ServerConfig{ID: "a", Datacenter: "dc2", Version: "bench", Group: d.leader, Agent: noAgent{},
		Failover: &promote.Promoter{Group: d.leader, Stores: d.stores}})
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // whoever asks is told
	}()
	d.closing = append(d.closing, func() {
		server.Stop()
		<-served
	})
	d.client, err = rpc.DialAPI(ctx, listener.Addr().String(), nil)
	if err == nil {
		d.closing = append(d.closing, func() { _ = d.client.Close() })
	}
	return err
}

// run carries out a plan in parts, as `failover run` does.
func (d *disaster) run(ctx context.Context, plan rpc.FailoverPlan) error {
	for items := plan.Items; len(items) > 0; {
		part := items[:min(len(items), promote.MostItems)]
		items = items[len(part):]
		answer, err := d.client.RunFailover(ctx, &ckptferryv1.RunFailoverRequest{Plan: plan.ID, Items: part})
		if err != nil {
			return err
		}
		for _, r := range answer.GetResults() {
			if r.GetPromotion() == nil {
				return errors.New(r.GetJob() + ": " + r.GetRefused())
			}
		}
	}
	return nil
}

func (d *disaster) close() {
	for i := len(d.closing) - 1; i >= 0; i-- {
		d.closing[i]()
	}
	_ = d.stores.Close() // local files only
}
