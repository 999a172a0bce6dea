package migrate_test

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/migrate"
	"github.com/ckptferry/ckptferry/replicator/migrate/flinkrest"
)

const (
	poll     = time.Second
	copyTime = 400 * time.Millisecond
)

// world is a target datacenter: a real group of one, a source and a copier that are no more than what they tell the
// state, and a Flink with its jobs.
type world struct {
	t     *testing.T
	store *raftstore.Store
	flink *flink
	cfg   migrate.Config
	run   *migrate.Runner
	stop  func() // the leadership

	mu       sync.Mutex
	seq      uint64
	promoted []string      // job and checkpoint, in order
	hooked   []string      // the hook's environment
	hook     func() error  // nil: it succeeds
	blockers chan struct{} // closed: copies go on
	refuse   error         // what Promote says
	breaks   func(cmd *raftv1.Command) error
}

// inWorld runs a test on the fake clock. Jobs of these names run at the source, and have completed checkpoints 1 to 3.
func inWorld(t *testing.T, jobs []string, test func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		store, err := raftstore.Open(raftstore.Config{Group: "dc2", ID: "dc2-a", Dir: t.TempDir(), Peers: []raftstore.Peer{{ID: "dc2-a"}}, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
		w := &world{t: t, store: store}
		w.flink = &flink{world: w, jobs: map[string]*job{}}
		w.cfg = migrate.Config{
			ID: "dc2-a", Group: w, Poll: poll, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Copies: &migrate.Copies{},
			Dial: func(address string) (migrate.JobManager, error) {
				if address != "http://jm" {
					return nil, fmt.Errorf("nobody is %s", address)
				}
				return w.flink, nil
			},
			Promote: w.promote, Hooks: map[string][]string{"flink": {"/usr/bin/start"}},
			Run: func(_ context.Context, h migrate.Hook) error {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.hooked = append(w.hooked, h.Argv[0]+" "+strings.Join(h.Env, " "))
				if w.hook != nil {
					return w.hook()
				}
				return nil
			},
		}
		w.until("the group leads", func() bool {
			return w.Propose(t.Context(), &raftv1.Command{Op: &raftv1.Command_PutRoute{PutRoute: &raftv1.PutRoute{Route: &ckptferryv1.Route{
				Name: "prod", FromDatacenter: "dc1", FromExport: "prod", Root: "file:/replicas", Mode: ckptferryv1.RouteMode_ROUTE_MODE_CONTINUOUS,
			}}}}) == nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		var sides sync.WaitGroup
		t.Cleanup(func() {
			cancel()
			sides.Wait()
		})
		for _, name := range jobs {
			w.flink.jobs[idOf(name)] = &job{name: name, state: flinkrest.Running, retains: true}
			for range 3 {
				w.checkpoint(name)
			}
		}
		sides.Go(func() { w.copies(ctx) })
		sides.Go(func() {
			for ctx.Err() == nil {
				w.observe(nil)
				sleepFor(ctx, poll)
			}
		})
		for _, name := range jobs {
			w.until("a replica of "+name, func() bool { return w.hasReady(name, 3) })
		}
		w.lead()
		test(t, w)
		w.stop()
		w.flink.tasks.Wait()
	})
}

func sleepFor(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// lead begins a leadership of a runner that knows nothing but the state.
func (w *world) lead() {
	r, err := migrate.New(w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.run = r
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.WhileLeading(ctx)
	}()
	w.stop = func() {
		cancel()
		<-ended
	}
}

// succeed is the death of a leader, and the next one.
func (w *world) succeed(id string) {
	w.stop()
	w.cfg.ID = id
	w.lead()
}

// idOf is a job's JobID.
func idOf(job string) string { return fmt.Sprintf("%x", md5.Sum([]byte(job))) }

func (w *world) View() raftstore.View     { return w.store.View() }
func (w *world) Changed() <-chan struct{} { return w.store.Changed() }
func (w *world) Propose(ctx context.Context, cmd *raftv1.Command) error {
	w.mu.Lock()
	breaks := w.breaks
	w.mu.Unlock()
	if breaks != nil {
		if err := breaks(cmd); err != nil {
			return err
		}
	}
	return w.store.Propose(ctx, cmd)
}

func (w *world) propose(cmd *raftv1.Command) {
	w.t.Helper()
	if err := w.store.Propose(w.t.Context(), cmd); err != nil && w.t.Context().Err() == nil {
		w.t.Error(err)
	}
}

// observe is what the target hears of its source.
func (w *world) observe(found *ckptferryv1.FoundCheckpoint) {
	c := &raftv1.ObserveSource{Route: "prod", SeenTime: timestamppb.Now()}
	if found != nil {
		w.mu.Lock()
		w.seq++
		found.Seq = w.seq
		w.mu.Unlock()
		c.Found = append(c.Found, found)
	}
	w.propose(&raftv1.Command{Op: &raftv1.Command_ObserveSource{ObserveSource: c}})
}

// checkpoint has a running job complete its next checkpoint, and the source find it.
func (w *world) checkpoint(name string) {
	j := w.flink.jobs[idOf(name)]
	w.flink.mu.Lock()
	j.last++
	id := j.last
	w.flink.mu.Unlock()
	w.observe(&ckptferryv1.FoundCheckpoint{
		Job: name, JobId: idOf(name), CheckpointId: id, MetadataCrc32C: crcOf(name, id), Kind: ckptferryv1.CheckpointKind_CHECKPOINT_KIND_CHECKPOINT,
		Uri: chk(name, id), CompletedTime: timestamppb.Now(), FileCount: 2, TotalBytes: 10 << 20,
	})
}

// crcOf is what tells the _metadata of one job from that of another.
func crcOf(name string, id int64) uint32 { return crc32.ChecksumIEEE([]byte(chk(name, id))) }

func chk(name string, id int64) string {
	return fmt.Sprintf("file:/cp/%s/%s/chk-%d", name, idOf(name), id)
}

// copies makes a replica of the newest of each kind of each job that is not promoted, as agents do.
func (w *world) copies(ctx context.Context) {
	for ctx.Err() == nil {
		changed := w.store.Changed()
		w.mu.Lock()
		blocked := w.blockers
		w.mu.Unlock()
		if blocked != nil {
			select {
			case <-blocked:
			case <-ctx.Done():
				return
			}
		}
		for _, f := range w.View().Known("prod") {
			if p, ok := w.View().Promotion("prod", f.Job); ok && p.State == raftstore.PromotionActive {
				continue
			}
			key := raftstore.Key{Route: "prod", JobID: f.JobID, CheckpointID: f.CheckpointID, MetadataCRC: f.MetadataCRC}
			if _, ok := w.View().Replica(key); ok || f.CheckpointID < 3 {
				continue
			}
			w.replicate(ctx, f, key)
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

func (w *world) replicate(ctx context.Context, f raftstore.Found, key raftstore.Key) {
	fence := &raftv1.Fence{Epoch: w.View().JobEpoch("prod", f.Job), Attempt: 1}
	k := raftstore.KeyMessage(key)
	plan := &raftv1.PlanReplica{Key: k, Fence: fence, Job: f.Job, Uri: strings.Replace(f.URI, "file:/cp/"+f.Job, "file:/replicas", 1), CompletedTime: timestamppb.New(f.CompletedAt)}
	if f.Savepoint {
		plan.Kind = ckptferryv1.CheckpointKind_CHECKPOINT_KIND_SAVEPOINT
	}
	for _, cmd := range []*raftv1.Command{{Op: &raftv1.Command_PlanReplica{PlanReplica: plan}}, {Op: &raftv1.Command_StartCopy{StartCopy: &raftv1.StartCopy{Key: k, Fence: fence}}}} {
		if err := w.store.Propose(ctx, cmd); err != nil {
			return // promoted meanwhile
		}
	}
	sleepFor(ctx, copyTime)
	_ = w.store.Propose(ctx, &raftv1.Command{Op: &raftv1.Command_MarkReady{MarkReady: &raftv1.MarkReady{
		Key: k, Fence: fence, ManifestCrc32C: 7, FileCount: 2, TotalBytes: f.Bytes,
		Facts: &ckptferryv1.RestoreFacts{MetadataVersion: 4, OldestFlink: "1.16", OldestFlinkWhy: "_metadata version 4"},
	}}})
}

// promote is what package promote does.
func (w *world) promote(ctx context.Context, p migrate.Promotion) error {
	w.mu.Lock()
	refuse := w.refuse
	w.mu.Unlock()
	if refuse != nil {
		return refuse
	}
	view := w.View()
	r, _ := view.Replica(p.Key)
	err := w.store.Propose(ctx, &raftv1.Command{Op: &raftv1.Command_PromoteJobs{PromoteJobs: &raftv1.PromoteJobs{
		Plan: "migration " + p.Migration.Name, Actor: p.Migration.Actor, Reason: "test",
		Items: []*raftv1.Promote{{
			Key: raftstore.KeyMessage(p.Key), Job: p.Job, Fence: &raftv1.Fence{Epoch: view.JobEpoch("prod", p.Job), Attempt: r.Planned.Attempt},
			ClaimMode: ckptferryv1.ClaimMode_CLAIM_MODE_NO_CLAIM,
		}},
	}}})
	if err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.promoted = append(w.promoted, fmt.Sprintf("%s %s", p.Job, r.URI[strings.LastIndexByte(r.URI, '/')+1:]))
	}
	return err
}

func (w *world) hasReady(job string, id int64) bool {
	return slices.ContainsFunc(w.View().JobReplicas("prod", job), func(r raftstore.Replica) bool {
		return r.Status == raftstore.StatusReady && r.Key.CheckpointID == id
	})
}

// until waits for a condition, fifteen minutes of the fake clock at most.
func (w *world) until(what string, is func() bool) {
	w.t.Helper()
	for range 90_000 {
		if is() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.t.Fatalf("not in time: %s; jobs: %+v", what, w.View().MigrationJobs("m"))
}

func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// start begins migration m of these jobs.
func (w *world) start(change func(*migrate.Request), jobs ...string) {
	w.t.Helper()
	if err := w.run.Start(w.t.Context(), request(change, jobs...)); err != nil {
		w.t.Fatal(err)
	}
}

func request(change func(*migrate.Request), jobs ...string) migrate.Request {
	req := migrate.Request{Migration: raftstore.Migration{Name: "m", Route: "prod", Actor: "ops"}, Jobs: jobs, JobManager: "http://jm"}
	if change != nil {
		change(&req)
	}
	return req
}

func (w *world) job(name string) raftstore.MigrationJob {
	j, _ := w.View().MigrationJob("m", name)
	return j
}

func (w *world) is(name string, state raftstore.MigrationJobState) func() bool {
	return func() bool { return w.job(name).State == state }
}

func (w *world) state() raftstore.MigrationState {
	m, _ := w.View().Migration("m")
	return m.State
}

// flink is a JobManager.
type flink struct {
	world *world

	tasks  sync.WaitGroup
	mu     sync.Mutex
	silent bool
	forget bool // of stops
	jobs   map[string]*job
	stops  []string // job, trigger: each stop that was begun
}

type job struct {
	name      string
	state     flinkrest.State
	retains   bool
	last      int64 // checkpoint
	late      bool  // completes one more checkpoint while it is cancelled, which Latest does not tell for a while
	told      int64 // what Latest tells until it is fresh
	freshAt   time.Time
	trigger   string
	savepoint string
	failure   string
}

var errSilent = fmt.Errorf("ask: %w: connection refused", flinkrest.ErrUnreachable)

func (f *flink) find(id string) (*job, error) {
	switch j, ok := f.jobs[id]; {
	case f.silent:
		return nil, errSilent
	case !ok:
		return nil, fmt.Errorf("find job %s: %w", id, flinkrest.ErrNotFound)
	default:
		return j, nil
	}
}

func (f *flink) Job(_ context.Context, id string) (flinkrest.Job, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	j, err := f.find(id)
	if err != nil {
		return flinkrest.Job{}, err
	}
	return flinkrest.Job{ID: id, Name: j.name, State: j.state}, nil
}

func (f *flink) StopWithSavepoint(_ context.Context, s flinkrest.Stop) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	j, err := f.find(s.JobID)
	if err != nil || j.trigger == s.Trigger {
		return s.Trigger, err
	}
	if j.trigger != "" {
		return "", fmt.Errorf("stop: %w: it is being stopped", flinkrest.ErrRefused)
	}
	j.trigger = s.Trigger
	f.stops = append(f.stops, j.name)
	f.tasks.Go(func() {
		time.Sleep(700 * time.Millisecond)
		f.mu.Lock()
		if j.failure != "" {
			f.mu.Unlock()
			return
		}
		j.last++
		id, name := j.last, fmt.Sprintf("%s/savepoint-%s-0123456789ab", s.Directory, s.JobID[:6])
		j.state, j.savepoint = flinkrest.Finished, name
		f.mu.Unlock()
		f.world.observe(&ckptferryv1.FoundCheckpoint{
			Job: j.name, CheckpointId: id, MetadataCrc32C: crcOf(j.name, id), Kind: ckptferryv1.CheckpointKind_CHECKPOINT_KIND_SAVEPOINT,
			Uri: name, CompletedTime: timestamppb.Now(), FileCount: 1, TotalBytes: 9 << 20,
		})
	})
	return s.Trigger, nil
}

func (f *flink) Savepoint(_ context.Context, id, trigger string) (flinkrest.Savepoint, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	j, err := f.find(id)
	switch {
	case err != nil:
		return flinkrest.Savepoint{}, err
	case j.trigger != trigger || f.forget:
		return flinkrest.Savepoint{}, fmt.Errorf("savepoint: %w", flinkrest.ErrNotFound)
	}
	return flinkrest.Savepoint{Done: j.savepoint != "" || j.failure != "", Location: j.savepoint, Failure: j.failure}, nil
}

func (f *flink) Cancel(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	j, err := f.find(id)
	if err != nil || j.state != flinkrest.Running {
		return err
	}
	f.stops = append(f.stops, j.name)
	j.state, j.told = "CANCELLING", j.last
	f.tasks.Go(func() {
		time.Sleep(300 * time.Millisecond)
		if j.late {
			f.world.checkpoint(j.name)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		j.state, j.freshAt = flinkrest.Canceled, time.Now().Add(3*time.Second)
	})
	return nil
}

func (f *flink) Latest(_ context.Context, id string) (flinkrest.Latest, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	j, err := f.find(id)
	if err != nil {
		return flinkrest.Latest{}, err
	}
	last := j.last
	if time.Now().Before(j.freshAt) {
		last = j.told
	}
	var latest flinkrest.Latest
	if j.savepoint != "" {
		latest.Savepoint = &flinkrest.Checkpoint{ID: last, Path: j.savepoint}
		last--
	}
	latest.Checkpoint = &flinkrest.Checkpoint{ID: last, Path: chk(j.name, last)}
	return latest, nil
}

func (f *flink) Retains(_ context.Context, id string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	j, err := f.find(id)
	if err != nil {
		return false, err
	}
	return j.retains, nil
}

func (f *flink) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *flink) stopped() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.stops)
}

var errHook = errors.New("exit status 1: no cluster")
