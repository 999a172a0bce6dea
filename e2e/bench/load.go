package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/agent"
	"github.com/ckptferry/ckptferry/rpc"
)

const (
	loadRoute   = "bench"
	loadWorkers = 8   // twice what an agent copies at a time
	fillWorkers = 128 // before anything is measured
	loadBatch   = 150 // checkpoints in one ObserveSource
	loadKeep    = 3   // replicas of a job
)

// load is what 10,000 jobs bring to a group, from the node that leads it.
type load struct {
	plan    loadPlan
	store   *raftstore.Store
	figures loadFigures
}

func perSecond(jobs int) int { return (jobs + 59) / 60 }

// lead opens the node, and returns, with the node closed, when it has made the load as the leader, or ctx ends.
func (l *load) lead(ctx context.Context) (err error) {
	if l.store, err = raftstore.Open(l.plan.config()); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.store.Close()) }()
	working, done := context.WithCancel(ctx)
	defer done()
	err = l.store.WhileLeader(working, func(term context.Context, _ uint64) error {
		if len(l.store.View().Routes()) > 0 {
			<-term.Done() // another node has made it
			return nil
		}
		if err := l.run(term); err != nil {
			return err
		}
		done()
		return nil
	})
	if working.Err() != nil {
		return nil
	}
	return err
}

// restart opens the node again, and takes the time until it holds what it held.
func (l *load) restart(ctx context.Context) (*raftstore.Store, error) {
	before := l.store.View().AppliedIndex
	began := time.Now()
	store, err := raftstore.Open(l.plan.config())
	if err != nil {
		return nil, err
	}
	err = eventually(ctx, 30*time.Second, time.Millisecond, func() (bool, error) { return store.View().AppliedIndex >= before, nil })
	l.figures.RestartMS = time.Since(began).Seconds() * 1000
	if err != nil && ctx.Err() == nil {
		return nil, errors.Join(fmt.Errorf("restart node %s: %w", l.plan.ID, err), store.Close())
	}
	return store, nil
}

func (l *load) run(ctx context.Context) error {
	route := &ckptferryv1.Route{Name: loadRoute, FromDatacenter: "dc1", FromExport: "bench", Root: "hdfs://dc2/flink/replicas/prod", Mode: ckptferryv1.RouteMode_ROUTE_MODE_CONTINUOUS, Keep: loadKeep}
	if err := l.propose(ctx, &raftv1.Command{Op: &raftv1.Command_PutRoute{PutRoute: &raftv1.PutRoute{Route: route}}}); err != nil {
		return err
	}
	// As many checkpoints as the state remembers of each job, and replicas of the newest of them.
	for number := int64(1); number <= raftstore.KeepFound; number++ {
		if err := l.round(ctx, number, number > raftstore.KeepFound-loadKeep); err != nil {
			return fmt.Errorf("fill the state: %w", err)
		}
	}
	if err := l.underLoad(ctx); err != nil {
		return err
	}
	return l.questions(ctx)
}

// round lets all jobs complete a checkpoint at once.
func (l *load) round(ctx context.Context, number int64, replicate bool) error {
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(fillWorkers)
	for from := 0; from < l.plan.Jobs; from += loadBatch {
		to := min(from+loadBatch, l.plan.Jobs)
		if err := l.observe(ctx, number, from, to); err != nil {
			return errors.Join(err, group.Wait())
		}
		for job := from; job < to && replicate; job++ {
			group.Go(func() error { return l.replica(gctx, job, number) })
		}
	}
	return group.Wait()
}

// underLoad lets the jobs complete checkpoints evenly over each minute.
func (l *load) underLoad(ctx context.Context) error {
	index, cpu, began := l.store.View().AppliedIndex, processTime(), time.Now()
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(loadWorkers)
	step := perSecond(l.plan.Jobs)
	at, number := 0, int64(raftstore.KeepFound+1)
	seconds := int(l.plan.LoadFor / time.Second)
	for second := range seconds {
		if err := wait(ctx, time.Until(began.Add(time.Duration(second)*time.Second))); err != nil {
			return errors.Join(err, group.Wait())
		}
		from, to := at, min(at+step, l.plan.Jobs)
		for part := from; part < to; part += loadBatch {
			if err := l.observe(ctx, number, part, min(part+loadBatch, to)); err != nil {
				return errors.Join(err, group.Wait())
			}
		}
		for job := from; job < to; job++ {
			group.Go(func() error {
				if err := l.replica(gctx, job, number); err != nil {
					return err
				}
				return l.retire(gctx, job, number-loadKeep)
			})
		}
		l.figures.Checkpoints += to - from
		if at = to; at == l.plan.Jobs {
			at, number = 0, number+1
		}
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("under load: %w", err)
	}
	if err := wait(ctx, time.Until(began.Add(l.plan.LoadFor))); err != nil {
		return err
	}
	took := time.Since(began)
	f := &l.figures
	f.Share, f.Seconds, f.Late = (processTime()-cpu).Seconds()/took.Seconds(), took.Seconds(), (took - l.plan.LoadFor).Seconds()
	f.Entries = l.store.View().AppliedIndex - index
	return nil
}

// processTime is the user and system time of this process.
func processTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // of a process's own it can't fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// questions measures what is asked of the full state.
func (l *load) questions(ctx context.Context) error {
	view, f := l.store.View(), &l.figures
	f.Known, f.Replicas, f.SnapshotBytes = len(view.Known(loadRoute)), len(view.Replicas()), snapshotBytes(view)
	var computed, called []float64
	for range 5 {
		began := time.Now()
		if n := len(agent.Lags(view, time.Now(), 30*time.Second)); n != l.plan.Jobs {
			return fmt.Errorf("the lag of %d jobs; want %d", n, l.plan.Jobs)
		}
		computed = append(computed, time.Since(began).Seconds()*1000)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := rpc.NewAPI(rpc.ServerConfig{ID: l.plan.ID, Datacenter: "dc2", Version: "bench", Group: l.store, Agent: noAgent{}, SilentAfter: func() time.Duration { return 30 * time.Second }})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer server.Stop()
	client, err := rpc.DialAPI(ctx, listener.Addr().String(), nil)
	if err != nil {
		return err
	}
	defer client.Close()
	for range 5 {
		began := time.Now()
		lag, err := client.Lag(ctx, &ckptferryv1.GetReplicaLagRequest{})
		if err != nil {
			return err
		}
		called = append(called, time.Since(began).Seconds()*1000)
		f.CallBytes = proto.Size(lag)
		if n := len(lag.GetJobs()); n != l.plan.Jobs {
			return fmt.Errorf("the lag of %d jobs over the API; want %d", n, l.plan.Jobs)
		}
	}
	f.LagsMS, f.CallMS = median(computed), median(called)
	f.LogBytes, err = bytesBelow(l.plan.Dir)
	if errors.Is(err, fs.ErrNotExist) { // a snapshot has been renamed meanwhile
		f.LogBytes, err = bytesBelow(l.plan.Dir)
	}
	return err
}

// noAgent is an agent that has nothing under way.
type noAgent struct{}

func (noAgent) Status() agent.Status              { return agent.Status{} }
func (noAgent) Gone(string) []string              { return nil }
func (noAgent) Polled(string) (time.Time, string) { return time.Time{}, "" }

// snapshotBytes is the size of the view as a snapshot has it.
func snapshotBytes(view raftstore.View) int {
	s := &raftv1.Snapshot{FormatVersion: 1, AppliedIndex: view.AppliedIndex}
	for _, r := range view.Routes() {
		m := &raftv1.Route{Name: r.Name, Config: raftstore.RouteMessage(r)}
		for _, f := range view.Known(r.Name) {
			m.Known = append(m.Known, raftstore.FoundMessage(f))
		}
		s.Routes = append(s.Routes, m)
	}
	for _, r := range view.Replicas() {
		s.Replicas = append(s.Replicas, &raftv1.ReplicaState{Replica: raftstore.ReplicaMessage(r), PlannedUnder: &raftv1.Fence{Epoch: r.Planned.Epoch, Attempt: r.Planned.Attempt}})
	}
	return proto.Size(s)
}

func (l *load) propose(ctx context.Context, cmd *raftv1.Command) error {
	return l.store.Propose(ctx, cmd)
}

func loadJob(job int) (name, id string) {
	return fmt.Sprintf("orders-enrichment-%05d", job), fmt.Sprintf("%032x", job+1)
}

func loadURI(job int, number int64) string {
	name, id := loadJob(job)
	return fmt.Sprintf("hdfs://dc1/flink/checkpoints/%s/%s/chk-%d", name, id, number)
}

// observe tells the state that some jobs have completed a checkpoint.
func (l *load) observe(ctx context.Context, number int64, from, to int) error {
	now := time.Now()
	c := &raftv1.ObserveSource{Route: loadRoute, SeenTime: timestamppb.New(now)}
	for job := from; job < to; job++ {
		name, id := loadJob(job)
		c.Found = append(c.Found, raftstore.FoundMessage(raftstore.Found{Seq: uint64(number)*uint64(l.plan.Jobs) + uint64(job) + 1, Job: name, JobID: raftstore.JobID(id), CheckpointID: number,
			MetadataCRC: uint32(job)*31 + uint32(number), URI: loadURI(job, number), CompletedAt: now, Files: 400, Bytes: 100 * gib}))
	}
	return l.propose(ctx, &raftv1.Command{Op: &raftv1.Command_ObserveSource{ObserveSource: c}})
}

func loadKey(job int, number int64) *ckptferryv1.CheckpointKey {
	_, id := loadJob(job)
	return &ckptferryv1.CheckpointKey{Route: loadRoute, JobId: id, CheckpointId: number, MetadataCrc32C: uint32(job)*31 + uint32(number)}
}

// replica tells the state of one that is planned, copied, and READY.
func (l *load) replica(ctx context.Context, job int, number int64) error {
	name, id := loadJob(job)
	key, fence := loadKey(job, number), &raftv1.Fence{Attempt: 1}
	uri := fmt.Sprintf("hdfs://dc2/flink/replicas/prod/%s/chk-%d", id, number)
	for _, cmd := range []*raftv1.Command{
		{Op: &raftv1.Command_PlanReplica{PlanReplica: &raftv1.PlanReplica{Key: key, Fence: fence, Job: name, Uri: uri, CompletedTime: timestamppb.Now()}}},
		{Op: &raftv1.Command_StartCopy{StartCopy: &raftv1.StartCopy{Key: key, Fence: fence}}},
		{Op: &raftv1.Command_MarkReady{MarkReady: &raftv1.MarkReady{Key: key, Fence: fence, ManifestCrc32C: uint32(number), FileCount: 401, TotalBytes: 100 * gib, Uri: uri}}},
	} {
		if err := l.propose(ctx, cmd); err != nil {
			return err
		}
	}
	return nil
}

// retire tells the state that a replica was deleted.
func (l *load) retire(ctx context.Context, job int, number int64) error {
	key, fence := loadKey(job, number), &raftv1.Fence{Attempt: 1}
	for _, cmd := range []*raftv1.Command{
		{Op: &raftv1.Command_RetireReplica{RetireReplica: &raftv1.RetireReplica{Key: key, Fence: fence}}},
		{Op: &raftv1.Command_ForgetReplica{ForgetReplica: &raftv1.ForgetReplica{Key: key, Fence: fence}}},
	} {
		if err := l.propose(ctx, cmd); err != nil {
			return err
		}
	}
	return nil
}
