package keeper

import (
	"context"
	"math/rand/v2"
	"path"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/ckptferry/ckptferry/fsutil/faultfs"
	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// copies has Flink complete so many checkpoints of a job, an hour apart, and each copied.
func (w *world) copies(job string, n int) []raftstore.Found {
	w.t.Helper()
	r := rand.New(rand.NewPCG(1, 1))
	var all []raftstore.Found
	for range n {
		f := w.checkpoint(job, r)
		if err := w.copy(w.t.Context(), f); err != nil {
			w.t.Fatal(err)
		}
		all = append(all, f)
		time.Sleep(time.Hour)
	}
	return all
}

// promote has a job go on from a replica with NO_CLAIM.
func (w *world) promote(r raftstore.Replica) {
	w.t.Helper()
	w.must(&raftv1.Command{Op: &raftv1.Command_PromoteJobs{PromoteJobs: &raftv1.PromoteJobs{Plan: "p", Actor: "test", Items: []*raftv1.Promote{{
		Key: raftstore.KeyMessage(r.Key), Fence: fenceOf(w.group.View(), r), Job: r.Job, ClaimMode: ckptferryv1.ClaimMode_CLAIM_MODE_NO_CLAIM}}}}})
}

func TestTheChoreRetiresSweepsAndEmptiesTheTrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &ckptferryv1.Route{Keep: 1, Grace: durationpb.New(time.Hour)})
		w.copies("orders", 3)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.keeper.Retention(ctx)
		}()
		time.Sleep(4 * time.Hour)
		synctest.Wait()
		if ready := w.ready("orders"); len(ready) != 1 || ready[0].Key.CheckpointID != 3 {
			t.Errorf("READY: %v", ready)
		}
		if all := w.group.View().JobReplicas(routeName, "orders"); len(all) != 1 {
			t.Errorf("on record: %v", all)
		}
		w.whole()
		w.noOrphans()
		s := w.keeper.Stats()
		if len(s) != 1 || s[0].Retired != 2 || s[0].Freed == 0 || s[0].Problem != "" || s[0].TrashFiles != 0 {
			t.Errorf("stats %+v", s)
		}
		cancel()
		<-done
	})
}

func TestALeaderEndsTheSweepOfTheOneBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &ckptferryv1.Route{Keep: 1})
		f := w.copies("orders", 1)
		w.must(&raftv1.Command{Op: &raftv1.Command_BeginSweep{BeginSweep: &raftv1.BeginSweep{Route: routeName}}})
		// It had moved a file away that a replica needs, as one may for a moment.
		victim := names(t, w.dst, path.Join("replicas", string(f[0].JobID), "shared"))[0]
		if err := w.dst.Rename(t.Context(), victim, "replicas/.ckptferry/trash/20000101T000000Z-0/"+strings.TrimPrefix(victim, "replicas/")); err != nil {
			t.Fatal(err)
		}
		w.newKeeper()
		w.pass(t.Context(), false)
		if w.group.View().Sweeping(routeName) {
			t.Error("the route is swept still")
		}
		w.whole()
	})
}

func TestAPreviewSaysWhatGoesAndChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &ckptferryv1.Route{Keep: 1, Grace: durationpb.New(time.Hour)})
		w.copies("orders", 4)
		time.Sleep(2 * time.Hour)
		before := strings.Join(names(t, w.dst, "."), "\n")
		index := w.group.View().AppliedIndex
		collect := func(run func(context.Context, Filter, func(Gone) error) error, only Filter) map[string][3]int64 {
			sums := map[string][3]int64{}
			if err := run(t.Context(), only, func(g Gone) error {
				s := sums[g.Action]
				sums[g.Action] = [3]int64{s[0] + 1, s[1] + g.Files, s[2] + g.Bytes}
				if g.Reason == "" || g.URI == "" || (g.Action == "retire") != (g.Key != nil) {
					t.Errorf("told of %+v", g)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			return sums
		}
		if none := collect(w.keeper.Preview, Filter{Job: "payments"}); len(none) > 0 {
			t.Errorf("of another job: %v", none)
		}
		would := collect(w.keeper.Preview, Filter{})
		if now := strings.Join(names(t, w.dst, "."), "\n"); now != before || w.group.View().AppliedIndex != index {
			t.Error("a preview changed something")
		}
		if would["retire"] != [3]int64{3, 6, 600} {
			t.Errorf("would retire %v", would)
		}
		did := collect(w.keeper.Prune, Filter{})
		if did["retire"] != would["retire"] || did["trash"][1] != would["trash"][1] {
			t.Errorf("did %v, said %v", did, would)
		}
		w.whole()
	})
}

func TestScrubFindsRotOnceForAllReplicasThatNeedTheFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &ckptferryv1.Route{})
		f := w.copies("orders", 3)
		time.Sleep(24 * time.Hour)
		w.copies("payments", 1)
		var all []Scrubbed
		if due := w.keeper.dueJob(); len(due) != 3 || !w.keeper.scrubJob(t.Context(), due, func(s Scrubbed) { all = append(all, s) }) {
			t.Fatalf("due: %v", due)
		}
		if read := all[0].Read + all[1].Read + all[2].Read; len(all) != 3 || read != sharedOnce(t, w, "orders") {
			t.Errorf("%d bytes were read for %d replicas", read, len(all))
		}
		for _, s := range all {
			if s.Problem != "" || s.Replica.ScrubbedAt.IsZero() {
				t.Errorf("scrubbed %+v", s)
			}
		}
		if due := w.keeper.dueJob(); len(due) != 0 {
			t.Errorf("due again: %v", due)
		}
		time.Sleep(25 * time.Hour)
		w.promote(w.ready("payments")[0])
		// The newest shared file is needed by the newest replica alone; the first by those that came after.
		shared := path.Join("replicas", string(f[0].JobID), "shared", "sst-3")
		raw := append([]byte(nil), get(t, w.dst, shared)...)
		raw[50] ^= 1
		put(t, w.dst, shared, raw)
		if err := w.keeper.ScrubNow(t.Context(), Filter{Job: "orders"}, func(s Scrubbed) error {
			rotten := s.Replica.Key.CheckpointID == 3
			if rotten != (s.Problem != "") || rotten != (s.Replica.Status == raftstore.StatusQuarantined) {
				t.Errorf("scrubbed %+v", s)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		w.whole()
		if there := w.has(path.Join("replicas", string(f[0].JobID), "chk-3", "_metadata")); there {
			t.Error("a quarantined replica is visible")
		}
		// The source has it: a higher attempt makes it whole.
		if err := w.copy(t.Context(), f[2]); err != nil {
			t.Fatal(err)
		}
		if ready := w.ready("orders"); len(ready) != 3 {
			t.Errorf("READY: %v", ready)
		}
		w.whole()
		// A promoted one is left alone.
		victim := w.ready("payments")[0]
		put(t, w.dst, path.Join(strings.TrimPrefix(mustURI(victim.URI).Path, "/"), path.Base(names(t, w.dst, strings.TrimPrefix(mustURI(victim.URI).Path, "/"))[1])), []byte("rot"))
		if err := w.keeper.ScrubNow(t.Context(), Filter{Job: "payments"}, func(s Scrubbed) error {
			if s.Problem == "" || s.Replica.Status != raftstore.StatusReady {
				t.Errorf("scrubbed %+v", s)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if s := w.keeper.Stats(); s[0].Quarantined != 1 || s[0].ScrubProblems != 1 {
			t.Errorf("stats %+v", s)
		}
	})
}

// sharedOnce is the size of all files of a job at the target, but for _metadata, and with the originals.
func sharedOnce(t testing.TB, w *world, job string) int64 {
	var sum int64
	for _, name := range names(t, w.dst, path.Join("replicas", path.Base(jobDir(job)))) {
		if path.Base(name) != "_metadata" {
			sum += int64(len(get(t, w.dst, name)))
		}
	}
	for _, name := range names(t, w.dst, path.Join("replicas/.ckptferry/original", path.Base(jobDir(job)))) {
		sum += int64(len(get(t, w.dst, name)))
	}
	return sum
}

func (w *world) has(name string) bool {
	_, err := w.dst.Stat(context.Background(), name)
	return err == nil
}

func TestAStorageThatIsAwayIsNoRot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, away := range map[string]func(w *world){
			"it answers nothing": func(w *world) {
				w.faulty.Load().Inject(faultfs.Fault{Last: faultfs.Forever, Do: faultfs.Before(func(context.Context, faultfs.Call) error { return faultfs.ErrStopped })})
			},
			"another, empty one is mounted": func(w *world) {
				w.faulty.Store(faultfs.New(w.src))
			},
		} {
			w := newWorld(t, &ckptferryv1.Route{})
			w.copies("orders", 1)
			away(w)
			if err := w.keeper.ScrubNow(t.Context(), Filter{}, func(s Scrubbed) error {
				if s.Problem == "" || s.Replica.Status != raftstore.StatusReady {
					t.Errorf("%s: scrubbed %+v", name, s)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if ready := w.ready("orders"); len(ready) != 1 || !ready[0].ScrubbedAt.IsZero() {
				t.Errorf("%s: READY: %+v", name, ready)
			}
		}
	})
}

func TestALeaderGoesOnWithTheQuarantineOfTheOneBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &ckptferryv1.Route{})
		w.copies("orders", 2)
		r := w.ready("orders")[1]
		_, name := replicator.PlaceOf(mustURI(r.URI))
		dst, _ := w.Open(t.Context(), mustURI(root))
		if err := replicator.Quarantine(t.Context(), dst, name); err != nil {
			t.Fatal(err)
		}
		w.newKeeper()
		w.keeper.endQuarantines(t.Context())
		if now, _ := w.group.View().Replica(r.Key); now.Status != raftstore.StatusQuarantined || now.Reason == "" {
			t.Errorf("it is %+v", now)
		}
	})
}

func TestARecordThatWasLostIsMadeAnewFromTheStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &ckptferryv1.Route{})
		w.copies("orders", 3)
		before := w.group.View()
		if err := w.dst.Remove(t.Context(), names(t, w.dst, path.Join("replicas", path.Base(jobDir("orders")), "chk-1"))[1]); err != nil {
			t.Fatal(err)
		}
		w.group.view = raftstore.EmptyView()
		w.must(&raftv1.Command{Op: &raftv1.Command_PutRoute{PutRoute: &raftv1.PutRoute{Route: raftstore.RouteMessage(before.Routes()[0])}}})
		for _, step := range []struct {
			req  RebuildRequest
			want map[string]int
			left int // READY afterwards
		}{
			{RebuildRequest{DryRun: true}, map[string]int{Recovered: 2, Broken: 1}, 0},
			{RebuildRequest{Deep: true}, map[string]int{Recovered: 2, Broken: 1}, 2},
			{RebuildRequest{Route: routeName}, map[string]int{Known: 2, Broken: 1}, 2},
		} {
			got := map[string]int{}
			err := w.keeper.Rebuild(t.Context(), step.req, func(f Found) error {
				got[f.Outcome]++
				if (f.Outcome == Broken) != (f.Replica.GetJob() == "") || f.Outcome == Broken && f.Problem == "" {
					t.Errorf("found %+v", f)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			for outcome, n := range step.want {
				if got[outcome] != n {
					t.Errorf("%+v: %v, want %v", step.req, got, step.want)
				}
			}
			ready := w.ready("orders")
			if len(ready) != step.left {
				t.Fatalf("%+v: READY %v", step.req, ready)
			}
			for _, r := range ready {
				was, ok := before.Replica(r.Key)
				if !ok || r.URI != was.URI || r.ManifestCRC != was.ManifestCRC || r.Files != was.Files || r.Bytes != was.Bytes || !r.CompletedAt.Equal(was.CompletedAt) {
					t.Errorf("recovered %+v\nit was %+v", r, was)
				}
			}
		}
		w.whole()
	})
}
