package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ckptferry/ckptferry/flinkmeta/metadatatest"
	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/fsutil/faultfs"
	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

func mustURI(s string) fsutil.URI {
	u, err := fsutil.ParseURI(s)
	if err != nil {
		panic(err)
	}
	return u
}

// group is a group whose commands mean what they mean, without a log.
type group struct {
	mu   sync.Mutex
	view raftstore.View
}

func (g *group) View() raftstore.View {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.view
}

func (g *group) Propose(_ context.Context, cmd *raftv1.Command) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	cmd = proto.CloneOf(cmd)
	cmd.ProposedAt = timestamppb.Now()
	after, err := g.view.After(cmd)
	g.view = after
	return err
}

// world is a source and a target in memory, and the target's group. It is the Opener of the code under test, which sees the
// target with faults.
type world struct {
	t      testing.TB
	src    *fsutil.Memory
	dst    *fsutil.Memory
	faulty atomic.Pointer[faultfs.FS]
	group  *group
	keeper *Keeper
	flink  map[string][]int64 // by job: the ids that the source has, oldest first
	shared map[string][]string
	count  int
}

const (
	routeName = "prod"
	root      = "hdfs://dc-b/replicas"
	base      = "file:/cp"
)

func newWorld(t testing.TB, rules *ckptferryv1.Route) *world {
	w := &world{t: t, src: fsutil.NewMemory(mustURI("file:/")), dst: fsutil.NewMemory(mustURI("hdfs://dc-b/")), group: &group{view: raftstore.EmptyView()},
		flink: map[string][]int64{}, shared: map[string][]string{}}
	w.calm()
	rules.Name, rules.FromDatacenter, rules.FromExport, rules.Root, rules.Mode = routeName, "dc-a", "prod", root, ckptferryv1.RouteMode_ROUTE_MODE_CONTINUOUS
	w.must(&raftv1.Command{Op: &raftv1.Command_PutRoute{PutRoute: &raftv1.PutRoute{Route: rules}}})
	w.newKeeper()
	return w
}

// newKeeper is that of an agent which leads from now on.
func (w *world) newKeeper() {
	k, err := New(Config{Group: w.group, Stores: w, ScrubEvery: 24 * time.Hour, Log: slog.New(slog.NewTextHandler(w.t.Output(), nil))})
	if err != nil {
		w.t.Fatal(err)
	}
	w.keeper = k
}

func (w *world) must(cmd *raftv1.Command) {
	w.t.Helper()
	if err := w.group.Propose(context.Background(), cmd); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) calm() { w.faulty.Store(faultfs.New(w.dst)) }

func (w *world) Open(_ context.Context, u fsutil.URI) (fsutil.FS, error) {
	if u.Scheme != "hdfs" {
		return nil, fmt.Errorf("open %s: %w", u, fs.ErrPermission)
	}
	return subtree{u, w.faulty.Load()}, nil
}

func (w *world) OpenRead(_ context.Context, u fsutil.URI) (fsutil.ReadFS, error) {
	if u.Scheme == "hdfs" {
		return fsutil.ReadOnly(subtree{u, w.faulty.Load()}), nil
	}
	return fsutil.ReadOnly(subtree{u, w.src}), nil
}

// subtree is a file system as seen from a directory in it.
type subtree struct {
	at  fsutil.URI
	all fsutil.FS
}

func (v subtree) full(name string) string {
	if !fs.ValidPath(name) {
		return name
	}
	return path.Join(".", strings.TrimPrefix(v.at.Path, "/"), name)
}

func (v subtree) Root() fsutil.URI { return v.at }
func (v subtree) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	return v.all.Open(ctx, v.full(name), offset)
}
func (v subtree) Stat(ctx context.Context, name string) (fsutil.FileInfo, error) {
	return v.all.Stat(ctx, v.full(name))
}
func (v subtree) List(ctx context.Context, dir string) ([]fsutil.FileInfo, error) {
	return v.all.List(ctx, v.full(dir))
}
func (v subtree) Create(ctx context.Context, name string) (fsutil.File, error) {
	return v.all.Create(ctx, v.full(name))
}
func (v subtree) Rename(ctx context.Context, from, to string) error {
	return v.all.Rename(ctx, v.full(from), v.full(to))
}
func (v subtree) Remove(ctx context.Context, name string) error {
	return v.all.Remove(ctx, v.full(name))
}

func put(t testing.TB, m *fsutil.Memory, name string, b []byte) {
	t.Helper()
	f, err := m.Create(context.Background(), ".put")
	if err == nil {
		if _, err = f.Write(b); err == nil {
			err = f.Commit(context.Background())
		}
	}
	if err == nil {
		err = m.Rename(context.Background(), ".put", name)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, m *fsutil.Memory, name string) []byte {
	t.Helper()
	r, err := m.Open(context.Background(), name, 0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func names(t testing.TB, m *fsutil.Memory, dir string) []string {
	t.Helper()
	infos, err := m.List(context.Background(), dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var out []string
	for _, fi := range infos {
		if name := path.Join(dir, fi.Name); fi.IsDir {
			out = append(out, names(t, m, name)...)
		} else {
			out = append(out, name)
		}
	}
	return out
}

func content(name string) []byte { return []byte(strings.Repeat(name+"\n", 100/len(name)+1)[:100]) }

// jobDir is where Flink keeps the checkpoints of a job, below the root of src.
func jobDir(job string) string {
	return path.Join("cp", job, fmt.Sprintf("%032x", crc32.ChecksumIEEE([]byte(job))))
}

// checkpoint has Flink complete one more checkpoint of a job: files of its own, some of the shared files of before and a new
// one. The source remembers it, and the target hears of it. Flink keeps the newest three.
func (w *world) checkpoint(job string, r *rand.Rand) raftstore.Found {
	w.t.Helper()
	w.count++
	id := int64(1)
	if ids := w.flink[job]; len(ids) > 0 {
		id = ids[len(ids)-1] + 1
	}
	dir := path.Join(jobDir(job), fmt.Sprintf("chk-%d", id))
	before := w.shared[job]
	if len(before) > 0 && r.IntN(2) == 0 {
		before = before[r.IntN(len(before)):]
	}
	shared := append(slices.Clone(before), fmt.Sprintf("sst-%d", w.count))
	w.shared[job] = shared
	own := []string{fmt.Sprintf("own-%d-1", w.count), fmt.Sprintf("own-%d-2", w.count)}
	for _, name := range own {
		put(w.t, w.src, path.Join(dir, name), content(path.Join(dir, name)))
	}
	for _, name := range shared {
		at := path.Join(path.Dir(dir), "shared", name)
		put(w.t, w.src, at, content(at))
	}
	raw := metadataOf(dir, id, own, shared)
	put(w.t, w.src, path.Join(dir, "_metadata"), raw)
	w.flink[job] = append(w.flink[job], id)
	found := raftstore.Found{
		Seq: uint64(w.count), Job: job, JobID: raftstore.JobID(path.Base(path.Dir(dir))), CheckpointID: id, URI: "file:/" + dir,
		MetadataCRC: crc32.Checksum(raw, crc32.MakeTable(crc32.Castagnoli)), CompletedAt: time.Now(), Files: int64(len(own) + len(shared)), Bytes: 100,
	}
	w.must(&raftv1.Command{Op: &raftv1.Command_ObserveSource{ObserveSource: &raftv1.ObserveSource{
		Route: routeName, Found: []*ckptferryv1.FoundCheckpoint{raftstore.FoundMessage(found)}, SeenTime: timestamppb.Now()}}})
	if ids := w.flink[job]; len(ids) > 3 {
		w.subsume(job, ids[0])
		w.flink[job] = ids[1:]
	}
	return found
}

// subsume has Flink delete a checkpoint, but for shared files, which other tests delete.
func (w *world) subsume(job string, id int64) {
	dir := path.Join(jobDir(job), fmt.Sprintf("chk-%d", id))
	for _, name := range names(w.t, w.src, dir) {
		if err := w.src.Remove(context.Background(), name); err != nil {
			w.t.Fatal(err)
		}
	}
}

func metadataOf(dir string, id int64, own, shared []string) []byte {
	m := &metadatatest.Writer{}
	m.Header(3, id)
	for _, n := range []int{0, 1} { // master states, operators
		m.I32(n)
	}
	m.I64(1)
	m.I64(2)
	m.I32(1) // parallelism
	m.I32(128)
	m.Null() // coordinator
	m.I32(1) // subtasks
	m.I32(0)
	m.I32(0) // managed, raw operator state
	m.I32(0)
	m.U8(5) // IncrementalRemoteKeyedStateHandle
	m.I64(1)
	m.UTF("11111111-2222-3333-4444-555555555555")
	m.I32(0)
	m.I32(128)
	m.Inline("meta", []byte("meta of "+dir))
	m.I32(len(own) + len(shared))
	for _, name := range own {
		m.UTF(name)
		m.Relative(name, 100)
	}
	for _, name := range shared {
		m.UTF(name)
		m.File("file:/"+path.Join(path.Dir(dir), "shared", name), 100)
	}
	m.I32(0) // private
	m.Null() // raw keyed state
	m.I32(0) // channel state
	m.I32(0)
	return m.B
}

// copy makes a replica as the coordinator does: as far as ctx and the target let it.
func (w *world) copy(ctx context.Context, f raftstore.Found) error {
	key := raftstore.Key{Route: routeName, JobID: f.JobID, CheckpointID: f.CheckpointID, MetadataCRC: f.MetadataCRC}
	view := w.group.View()
	old, _ := view.Replica(key)
	fence := &raftv1.Fence{Epoch: view.JobEpoch(routeName, f.Job), Attempt: old.Planned.Attempt + 1}
	req := replicator.Request{Source: mustURI(f.URI), Target: mustURI(root), Label: replicator.Label{Job: f.Job, Route: routeName, Completed: f.CompletedAt.UTC()}}
	for _, cmd := range []*raftv1.Command{
		{Op: &raftv1.Command_PlanReplica{PlanReplica: &raftv1.PlanReplica{Key: raftstore.KeyMessage(key), Fence: fence, Job: f.Job,
			Uri: replicator.ReplicaURI(req.Target, req.Source).String(), CompletedTime: timestamppb.New(f.CompletedAt), Agent: "dc-b-a",
			Kind: ckptferryv1.CheckpointKind_CHECKPOINT_KIND_CHECKPOINT}}},
		{Op: &raftv1.Command_StartCopy{StartCopy: &raftv1.StartCopy{Key: raftstore.KeyMessage(key), Fence: fence}}},
	} {
		if err := w.group.Propose(ctx, cmd); err != nil {
			return err
		}
	}
	res, err := replicator.Replicate(ctx, w, req)
	if errors.Is(err, faultfs.ErrStopped) || ctx.Err() != nil {
		return err // dead: nobody says how it ended
	}
	if err != nil {
		_ = w.group.Propose(ctx, &raftv1.Command{Op: &raftv1.Command_FailReplica{FailReplica: &raftv1.FailReplica{
			Key: raftstore.KeyMessage(key), Fence: fence, Reason: reason(err)}}})
		return err
	}
	for {
		err := w.group.Propose(ctx, &raftv1.Command{Op: &raftv1.Command_MarkReady{MarkReady: &raftv1.MarkReady{
			Key: raftstore.KeyMessage(key), Fence: fence, ManifestCrc32C: uint32(res.ManifestCRC), FileCount: int64(res.ManifestFiles), TotalBytes: res.ManifestBytes}}})
		if !errors.Is(err, raftstore.ErrSweeping) {
			return err
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
		if err := replicator.CheckLengths(ctx, w, replicator.LengthsRequest{Dir: mustURI(res.Replica)}); err != nil {
			return err
		}
	}
}

// ready lists the READY replicas of a job, oldest first.
func (w *world) ready(job string) []raftstore.Replica {
	all := slices.DeleteFunc(w.group.View().JobReplicas(routeName, job), func(r raftstore.Replica) bool { return r.Status != raftstore.StatusReady })
	slices.SortFunc(all, func(a, b raftstore.Replica) int { return int(a.Key.CheckpointID - b.Key.CheckpointID) })
	return all
}

// whole holds that every READY replica that a job may be started from has all of its bytes, by the checker of the product and by
// a look of the test's own.
func (w *world) whole() {
	w.t.Helper()
	for r := range w.group.View().AllReplicas() {
		if !raftstore.Offerable(r) || r.Claimed {
			continue
		}
		at := strings.TrimPrefix(mustURI(r.URI).Path, "/")
		if _, err := w.dst.Stat(context.Background(), path.Join(at, "_metadata")); err != nil {
			w.t.Fatalf("READY replica %s has no _metadata: %v", r.Key, err)
		}
		report, err := replicator.Check(context.Background(), &still{w}, replicator.CheckRequest{Dir: mustURI(r.URI)})
		if err != nil || !report.Digests {
			w.t.Fatalf("READY replica %s: %+v, %v", r.Key, report, err)
		}
		for _, p := range names(w.t, w.dst, at) {
			source := path.Join("cp", r.Job, strings.TrimPrefix(p, "replicas/"))
			if path.Base(p) != "_metadata" && !bytes.Equal(get(w.t, w.dst, p), content(source)) {
				w.t.Fatalf("READY replica %s: %s holds something else", r.Key, p)
			}
		}
	}
}

// still sees the target without faults.
type still struct{ *world }

func (w *still) OpenRead(_ context.Context, u fsutil.URI) (fsutil.ReadFS, error) {
	return fsutil.ReadOnly(subtree{u, w.dst}), nil
}

// pass is what Retention does each time; all: with a sweep of everything.
func (w *world) pass(ctx context.Context, all bool) {
	k := w.keeper
	k.endSweeps(ctx)
	touched := k.retireAll(ctx, Filter{}, nil)
	k.sweepAll(ctx, touched, all, Filter{}, nil)
}
