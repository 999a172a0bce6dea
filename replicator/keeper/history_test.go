package keeper

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/ckptferry/ckptferry/fsutil/faultfs"
	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
)

// Random histories of checkpoints, copies, retirements, crashes, claims and sweeps, at the same time as far as they may
// be: no READY replica ever lacks a byte, and no orphan outlives two graces.
func TestNoHistoryTakesAFileFromAReadyReplicaOrKeepsAnOrphan(t *testing.T) {
	histories := uint64(60)
	if testing.Short() {
		histories = 10
	}
	for seed := range histories {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { history(t, rand.New(rand.NewPCG(18, seed))) })
		})
	}
}

func history(t *testing.T, r *rand.Rand) {
	const grace = 2 * time.Hour
	w := newWorld(t, &ckptferryv1.Route{Keep: int32(1 + r.IntN(3)), Grace: durationpb.New(grace)})
	jobs := []string{"orders", "payments"}
	for range 60 {
		job := jobs[r.IntN(len(jobs))]
		switch n := r.IntN(20); {
		case n < 9:
			w.atOnce(r, job)
		case n < 13:
			time.Sleep(time.Duration(r.IntN(100)) * time.Minute)
		case n < 14:
			if ready := w.ready(job); len(ready) > 0 {
				one := ready[r.IntN(len(ready))]
				// Refused for the one that the job goes on from.
				_ = w.group.Propose(t.Context(), &raftv1.Command{Op: &raftv1.Command_PinReplica{PinReplica: &raftv1.PinReplica{
					Key: raftstore.KeyMessage(one.Key), Fence: fenceOf(w.group.View(), one), Pinned: r.IntN(3) == 0}}})
			}
		case n < 15:
			w.claim(r, job)
		case n < 16:
			_ = w.group.Propose(t.Context(), &raftv1.Command{Op: &raftv1.Command_EndPromotions{EndPromotions: &raftv1.EndPromotions{
				Route: routeName, Jobs: []string{job}, Actor: "test", Reason: "it failed back"}}})
		default:
			w.pass(t.Context(), r.IntN(2) == 0)
		}
		w.whole()
	}
	// Then nothing happens any more but what the keeper does.
	w.calm()
	w.newKeeper()
	for range 8 {
		time.Sleep(grace / 4)
		w.pass(t.Context(), true)
		w.whole()
	}
	time.Sleep(grace / 4)
	w.pass(t.Context(), true)
	w.noOrphans()
}

// atOnce has a checkpoint copied while the keeper makes a pass, either slowed down at random. Sometimes the process that
// does both dies at some operation, and another goes on later.
func (w *world) atOnce(r *rand.Rand, job string) {
	f := w.checkpoint(job, r)
	dies, seed := int64(-1), r.Uint64()
	if r.IntN(3) == 0 {
		dies = r.Int64N(150)
	}
	all, withPass := r.IntN(2) == 0, r.IntN(3) > 0
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	disk := faultfs.New(w.dst)
	var calls atomic.Int64
	var mu sync.Mutex
	slow := rand.New(rand.NewPCG(seed, 1))
	disk.Inject(faultfs.Fault{Last: faultfs.Forever, Do: faultfs.Before(func(ctx context.Context, _ faultfs.Call) error {
		if n := calls.Add(1); dies >= 0 && n > dies {
			cancel()
			return faultfs.ErrStopped
		}
		mu.Lock()
		wait := time.Duration(slow.IntN(20)) * time.Millisecond
		mu.Unlock()
		return sleep(ctx, wait)
	})})
	w.faulty.Store(disk)
	var working sync.WaitGroup
	working.Go(func() { _ = w.copy(ctx, f) })
	if withPass {
		working.Go(func() {
			_ = sleep(ctx, time.Duration(seed%800)*time.Millisecond)
			w.pass(ctx, all)
		})
	}
	working.Wait()
	w.calm()
	if dies >= 0 && calls.Load() > dies {
		w.newKeeper()
		// Whoever leads next plans again, or gives up what nobody works on.
		for _, left := range w.group.View().JobReplicas(routeName, job) {
			if left.Status == raftstore.StatusPlanned || left.Status == raftstore.StatusCopying {
				w.must(&raftv1.Command{Op: &raftv1.Command_SupersedeReplica{SupersedeReplica: &raftv1.SupersedeReplica{
					Key: raftstore.KeyMessage(left.Key), Fence: fenceOf(w.group.View(), left), Reason: "another agent leads"}}})
			}
		}
	}
}

// claim has the job go on from its newest replica with CLAIM: Flink deletes of it, and of what its kin share, what it likes.
func (w *world) claim(r *rand.Rand, job string) {
	ready := w.ready(job)
	if len(ready) == 0 {
		return
	}
	one := ready[len(ready)-1]
	if !raftstore.Offerable(one) {
		return
	}
	err := w.group.Propose(context.Background(), &raftv1.Command{Op: &raftv1.Command_PromoteJobs{PromoteJobs: &raftv1.PromoteJobs{
		Plan: fmt.Sprint(r.Uint64()), Actor: "test", Items: []*raftv1.Promote{{Key: raftstore.KeyMessage(one.Key), Fence: fenceOf(w.group.View(), one), Job: job,
			ClaimMode: ckptferryv1.ClaimMode_CLAIM_MODE_CLAIM}}}}})
	if err != nil {
		return // it is promoted already
	}
	at := strings.TrimPrefix(mustURI(one.URI).Path, "/")
	gone := names(w.t, w.dst, at)
	for _, name := range names(w.t, w.dst, path.Join(path.Dir(at), "shared")) {
		if r.IntN(2) == 0 {
			gone = append(gone, name)
		}
	}
	for _, name := range gone {
		if err := w.dst.Remove(context.Background(), name); err != nil {
			w.t.Fatal(err)
		}
	}
}

// noOrphans holds that every file at the target belongs to a replica that is on record, be it one that was published and given
// up, since nobody lived to record that it is READY.
func (w *world) noOrphans() {
	w.t.Helper()
	needed := map[string]bool{}
	for r := range w.group.View().AllReplicas() {
		at := strings.TrimPrefix(mustURI(r.URI).Path, "/replicas/")
		needed["replicas/"+at+"/_metadata"] = true
		manifest := "replicas/.ckptferry/manifest/" + at + ".jsonl"
		if _, err := w.dst.Stat(context.Background(), manifest); err != nil {
			continue
		}
		for line := range strings.Lines(string(get(w.t, w.dst, manifest))) {
			if _, rest, ok := strings.Cut(line, `{"name":"`); ok {
				name, _, _ := strings.Cut(rest, `"`)
				needed["replicas/"+name] = true
			}
		}
	}
	for _, name := range names(w.t, w.dst, "replicas") {
		own := strings.HasPrefix(name, "replicas/.ckptferry/")
		if !own && !needed[name] || strings.Contains(name, ".ckptferry/trash/") || strings.Contains(name, ".ckptferry/journal/") {
			w.t.Errorf("an orphan is left: %s", name)
		}
	}
}
