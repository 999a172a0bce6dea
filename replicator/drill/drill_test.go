package drill

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

const (
	plain     = "1.20.0-rocksdb-incremental"
	changelog = "1.20.0-changelog-materialized"
)

// world is a replica of what a real Flink wrote, and the group that has it on record.
type world struct {
	stores  *fsutil.Stores
	root    string // of the replicas
	replica raftstore.Replica
	group   *group
}

// newWorld replicates the newest checkpoint of a fixture.
func newWorld(t *testing.T, fixture string) *world {
	t.Helper()
	w := &world{stores: fsutil.NewStores(fsutil.StoresConfig{}), root: filepath.Join(t.TempDir(), "replicas"), group: &group{}}
	t.Cleanup(func() { w.stores.Close() })
	written, err := filepath.Abs("../../flinkmeta/fixtures/" + fixture + "/dc-a")
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(written + "/flink/checkpoints/" + fixture + "/*/chk-*/_metadata")
	if err != nil || len(found) == 0 {
		t.Fatalf("no checkpoint in %s: %v", written, err)
	}
	res, err := replicator.Replicate(t.Context(), w.stores, replicator.Request{
		Source: uri(t, filepath.Dir(slices.Max(found))), Target: uri(t, w.root), // ids of one digit
		Maps: replicator.PrefixMaps{{From: uri(t, "/dc-a"), To: uri(t, written)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.replica = raftstore.Replica{
		Key: raftstore.Key{Route: "prod", JobID: raftstore.JobID(res.Job), CheckpointID: res.CheckpointID, MetadataCRC: 1}, Job: "orders",
		Status: raftstore.StatusReady, URI: res.Replica, ManifestCRC: uint32(res.ManifestCRC), CompletedAt: time.Now().Add(-time.Minute),
	}
	return w
}

func uri(t *testing.T, s string) fsutil.URI {
	t.Helper()
	u, err := fsutil.ParseURI(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// group notes what is asked of it.
type group struct {
	asked   []string
	drills  []raftstore.Drill
	pinning error
}

func (g *group) Pin(ctx context.Context, _ raftstore.Key, pinned bool) error {
	g.asked = append(g.asked, map[bool]string{true: "pin", false: "unpin"}[pinned])
	return errors.Join(g.pinning, ctx.Err())
}

func (g *group) Record(ctx context.Context, d raftstore.Drill) error {
	g.asked = append(g.asked, "record")
	g.drills = append(g.drills, d)
	return ctx.Err()
}

// starter is a Flink.
type starter func(ctx context.Context, s Sandbox) (Started, error)

func (f starter) Start(ctx context.Context, s Sandbox) (Started, error) { return f(ctx, s) }

// spoil changes a byte of a file of the replica that is not _metadata, and leaves its length.
func (w *world) spoil(t *testing.T) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(w.root, "*", "shared", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no shared file: %v", err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if err := os.WriteFile(files[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLevelOneReadsEveryByte(t *testing.T) {
	w := newWorld(t, plain)
	d, err := Run(t.Context(), w.stores, w.group, Request{Replica: w.replica, Level: LevelBytes})
	if err != nil || !d.Passed || d.RTO <= 0 || d.RPO < time.Minute || d.RPO > 2*time.Minute || d.Job != "orders" || d.Key != w.replica.Key || !strings.Contains(d.Detail, "read and equal") {
		t.Errorf("Run = %+v, %v", d, err)
	}
	if want := []string{"pin", "record", "unpin"}; !slices.Equal(w.group.asked, want) || w.group.drills[0] != d {
		t.Errorf("the group was asked to %v, and has %+v on record", w.group.asked, w.group.drills)
	}
}

func TestDamageFailsTheDrillAndIsOnRecord(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, w *world){
		"a byte":                    func(t *testing.T, w *world) { w.spoil(t) },
		"another manifest":          func(_ *testing.T, w *world) { w.replica.ManifestCRC++ },
		"no manifest":               func(t *testing.T, w *world) { remove(t, filepath.Join(w.root, ".ckptferry", "manifest")) },
		"no _metadata":              func(t *testing.T, w *world) { remove(t, filepath.Join(uri(t, w.replica.URI).Path, "_metadata")) },
		"no shared file is there":   func(t *testing.T, w *world) { remove(t, filepath.Join(w.root, string(w.replica.Key.JobID), "shared")) },
		"nothing is there at all":   func(t *testing.T, w *world) { remove(t, w.root) },
		"pinned before, and a byte": func(t *testing.T, w *world) { w.spoil(t); w.replica.Pinned = true },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, plain)
			damage(t, w)
			d, err := Run(t.Context(), w.stores, w.group, Request{Replica: w.replica, Level: LevelBytes})
			if !errors.Is(err, ErrFailed) || d.Passed || d.Detail == "" || len(w.group.drills) != 1 || w.group.drills[0] != d {
				t.Errorf("Run = %+v, %v; on record %+v", d, err, w.group.drills)
			}
			if pins := slices.Contains(w.group.asked, "pin") || slices.Contains(w.group.asked, "unpin"); pins == w.replica.Pinned {
				t.Errorf("pinned before: %t, and the group was asked to %v", w.replica.Pinned, w.group.asked)
			}
		})
	}
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.RemoveAll(name); err != nil {
		t.Fatal(err)
	}
}

func TestFlinkIsStartedWithNoClaimFromTheReplica(t *testing.T) {
	w := newWorld(t, plain)
	var got Sandbox
	d, err := Run(t.Context(), w.stores, w.group, Request{
		Replica: w.replica, Level: LevelCheckpoint, Flink: replicator.FlinkVersion{Major: 1, Minor: 17},
		Starter: starter(func(_ context.Context, s Sandbox) (Started, error) {
			got = s
			return Started{FlinkVersion: "1.17.2", RunningAfter: time.Hour}, nil
		}),
	})
	if err != nil || !d.Passed || d.FlinkVersion != "1.17.2" || d.RTO < time.Hour || d.RTO > time.Hour+time.Minute || !strings.HasPrefix(d.Detail, "NO_CLAIM; ") {
		t.Errorf("Run = %+v, %v", d, err)
	}
	if want := "flink run -s " + w.replica.URI + " -restoreMode NO_CLAIM"; got.Line.Run != want || got.Level != LevelCheckpoint {
		t.Errorf("started %+v; want %s", got, want)
	}
}

// What Flink, or whoever, did to the replica while it was drilled shows.
func TestAReplicaThatTheStartHasChangedFails(t *testing.T) {
	w := newWorld(t, plain)
	d, err := Run(t.Context(), w.stores, w.group, Request{
		Replica: w.replica, Level: LevelRunning,
		Starter: starter(func(context.Context, Sandbox) (Started, error) {
			w.spoil(t)
			return Started{RunningAfter: time.Second}, nil
		}),
	})
	if !errors.Is(err, ErrFailed) || d.Passed || !strings.Contains(d.Detail, "different: ") {
		t.Errorf("Run = %+v, %v", d, err)
	}
}

func TestAReplicaThatNeedsClaimIsDrilledOnACopyAlone(t *testing.T) {
	w := newWorld(t, changelog)
	var got Sandbox
	req := Request{Replica: w.replica, Level: LevelRunning, Starter: starter(func(_ context.Context, s Sandbox) (Started, error) {
		got = s
		return Started{RunningAfter: time.Millisecond}, nil
	})}
	if _, err := Run(t.Context(), w.stores, w.group, req); !errors.Is(err, replicator.ErrRefused) || got.Level != 0 {
		t.Fatalf("Run = %v, started %+v; want it refused", err, got)
	}
	if want := []string{"pin", "unpin"}; !slices.Equal(w.group.asked, want) {
		t.Errorf("the group was asked to %v; want %v", w.group.asked, want)
	}

	scratch := filepath.Join(t.TempDir(), "scratch")
	req.Scratch = uri(t, scratch)
	d, err := Run(t.Context(), w.stores, w.group, req)
	if err != nil || !d.Passed || got.Line.Mode != replicator.Claim || !strings.HasPrefix(got.Line.Path, "file:"+scratch+"/") || !strings.Contains(d.Detail, "from a copy at "+got.Line.Path) {
		t.Errorf("Run = %+v, %v; started %+v", d, err, got)
	}
	if _, err := replicator.Check(t.Context(), w.stores, replicator.CheckRequest{Dir: uri(t, got.Line.Path)}); err != nil {
		t.Errorf("the copy: %v", err)
	}
}

func TestWhatIsNoResultIsNotOnRecord(t *testing.T) {
	w := newWorld(t, plain)
	broken := errors.New("no such shell")
	_, err := Run(t.Context(), w.stores, w.group, Request{Replica: w.replica, Level: LevelRunning, Starter: starter(func(context.Context, Sandbox) (Started, error) {
		return Started{}, broken
	})})
	if want := []string{"pin", "unpin"}; !errors.Is(err, broken) || errors.Is(err, ErrFailed) || !slices.Equal(w.group.asked, want) {
		t.Errorf("Run = %v, the group was asked to %v; want %v", err, w.group.asked, want)
	}

	w.group.asked = nil
	ctx, interrupt := context.WithCancel(t.Context())
	_, err = Run(ctx, w.stores, w.group, Request{Replica: w.replica, Level: LevelRunning, Starter: starter(func(context.Context, Sandbox) (Started, error) {
		interrupt()
		return Started{}, ctx.Err()
	})})
	if want := []string{"pin", "unpin"}; !errors.Is(err, context.Canceled) || !slices.Equal(w.group.asked, want) || strings.Contains(err.Error(), "stays pinned") {
		t.Errorf("interrupted: Run = %v, the group was asked to %v; want %v", err, w.group.asked, want)
	}

	w.group.pinning = errors.New("no quorum")
	started := false
	_, err = Run(t.Context(), w.stores, w.group, Request{Replica: w.replica, Level: LevelRunning, Starter: starter(func(context.Context, Sandbox) (Started, error) {
		started = true
		return Started{}, nil
	})})
	if !errors.Is(err, w.group.pinning) || started {
		t.Errorf("not pinned: Run = %v, started %t", err, started)
	}
}

func TestRequestsThatCanNotBe(t *testing.T) {
	w := newWorld(t, plain)
	changes := map[string]func(*raftstore.Replica){
		"not READY": func(r *raftstore.Replica) { r.Status = raftstore.StatusQuarantined },
		"at risk":   func(r *raftstore.Replica) { r.AtRisk = true },
		"claimed":   func(r *raftstore.Replica) { r.Claimed = true },
	}
	nothing := starter(func(context.Context, Sandbox) (Started, error) { return Started{}, nil })
	for name, req := range map[string]Request{
		"level 0":                  {Level: 0, Starter: nothing},
		"level 4":                  {Level: 4, Starter: nothing},
		"no command":               {Level: LevelRunning},
		"a copy that nobody needs": {Level: LevelBytes, Scratch: uri(t, "/scratch")},
		"not READY":                {Level: LevelBytes},
		"at risk":                  {Level: LevelBytes},
		"claimed":                  {Level: LevelBytes},
	} {
		req.Replica = w.replica
		if change := changes[name]; change != nil {
			change(&req.Replica)
		}
		if _, err := Run(t.Context(), w.stores, w.group, req); err == nil || len(w.group.asked) > 0 {
			t.Errorf("%s: Run = %v, the group was asked to %v", name, err, w.group.asked)
		}
	}
}
