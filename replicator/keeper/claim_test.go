package keeper

import (
	"path"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// A group that was wiped learns from the storage what Flink owns: neither what shares files with it is offered, nor what is
// copied later.
func TestAClaimOutlivesTheGroup(t *testing.T) {
	for _, deleted := range []bool{false, true} { // whether Flink has deleted the claimed checkpoint meanwhile
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, &ckptferryv1.Route{Keep: 1})
			w.copies("orders", 3)
			w.copies("pay", 1)
			before := w.group.View()
			claimed := w.ready("orders")[1]
			dst, err := w.Open(t.Context(), mustURI(root))
			if err != nil {
				t.Fatal(err)
			}
			_, name := replicator.PlaceOf(mustURI(claimed.URI))
			if _, err := replicator.MarkClaimed(t.Context(), dst, replicator.ClaimMark{Replica: name}); err != nil {
				t.Fatal(err)
			}
			if deleted {
				for _, file := range names(t, w.dst, path.Join("replicas", name)) {
					if err := w.dst.Remove(t.Context(), file); err != nil {
						t.Fatal(err)
					}
				}
			}
			w.group.view = raftstore.EmptyView()
			w.must(&raftv1.Command{Op: &raftv1.Command_PutRoute{PutRoute: &raftv1.PutRoute{Route: raftstore.RouteMessage(before.Routes()[0])}}})
			told := map[string]string{}
			if err := w.keeper.Rebuild(t.Context(), RebuildRequest{}, func(f Found) error {
				told[f.Replica.GetUri()] = f.Problem
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			for was := range before.AllReplicas() {
				r, there := w.group.View().Replica(was.Key)
				own := was.Key == claimed.Key
				switch {
				case own && deleted:
					if there {
						t.Errorf("what Flink deleted is %+v", r)
					}
				case r.Claimed != own || r.Promoted != own || r.AtRisk == raftstore.Offerable(r) || r.AtRisk != (was.Job == "orders" && !own):
					t.Errorf("deleted %t: %s is claimed %t, at risk %t", deleted, r.Key, r.Claimed, r.AtRisk)
				case (own || r.AtRisk) && told[r.URI] == "":
					t.Errorf("nothing was said of %s", r.Key)
				}
			}
			// What is left of it is nobody's but Flink's: not to be scrubbed, retired or swept.
			left := names(t, w.dst, path.Join("replicas", path.Dir(name)))
			time.Sleep(100 * time.Hour)
			w.pass(t.Context(), true)
			if err := w.keeper.ScrubNow(t.Context(), Filter{Job: "orders"}, func(s Scrubbed) error {
				t.Errorf("scrubbed %s", s.Replica.Key)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if now := names(t, w.dst, path.Join("replicas", path.Dir(name))); !slices.Equal(left, now) {
				t.Errorf("deleted %t: of %v there is %v", deleted, left, now)
			}
		})
	}
}

// Rot in what Flink claimed is left where it is, also when a scrub under way finds it.
func TestRotInAClaimedReplicaIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &ckptferryv1.Route{})
		w.copies("orders", 1)
		r := w.ready("orders")[0]
		w.must(&raftv1.Command{Op: &raftv1.Command_PromoteJobs{PromoteJobs: &raftv1.PromoteJobs{Plan: "p", Actor: "ann", Items: []*raftv1.Promote{{
			Key: raftstore.KeyMessage(r.Key), Fence: fenceOf(w.group.View(), r), Job: "orders", ClaimMode: ckptferryv1.ClaimMode_CLAIM_MODE_CLAIM}}}}})
		_, name := replicator.PlaceOf(mustURI(r.URI))
		file := names(t, w.dst, path.Join("replicas", name))[1]
		put(t, w.dst, file, []byte("rot"))
		now, _ := w.group.View().Replica(r.Key)
		if _, rot, err := w.keeper.scrubOne(t.Context(), now, replicator.NewSeen()); err != nil || !rot {
			t.Fatalf("rot: %t, %v", rot, err)
		}
		if after, _ := w.group.View().Replica(r.Key); after.Status != raftstore.StatusReady {
			t.Errorf("it is %s", after.Status)
		}
		if _, err := w.dst.Stat(t.Context(), path.Join("replicas", name, "_metadata")); err != nil {
			t.Error(err)
		}
	})
}
