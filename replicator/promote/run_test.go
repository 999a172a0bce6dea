package promote

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ckptferry/ckptferry/fsutil"
	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// site is a group with a real replica on a local disk for each job, made of a checkpoint that real Flink wrote.
type site struct {
	*group
	*Promoter
	dir string
}

const (
	realCheckpoint = "../../flinkmeta/fixtures/1.20.0-hashmap/dc-a/flink/checkpoints/1.20.0-hashmap/9ef16000717b254bf903b4ed12b81777"
	realJobID      = "9ef16000717b254bf903b4ed12b81777"
)

func newSite(t *testing.T, jobs ...string) *site {
	stores := fsutil.NewStores(fsutil.StoresConfig{})
	t.Cleanup(func() { _ = stores.Close() })
	s := &site{group: newGroup(t), dir: t.TempDir()}
	s.Promoter = &Promoter{Group: s.group, Stores: stores, Now: func() time.Time { return s.now }}
	for _, job := range jobs {
		s.replicate(job, 4)
	}
	return s
}

// replicate makes a replica of chk-4 or chk-5 as the agents do, below a root of the job's own.
func (s *site) replicate(job string, id int64) raftstore.Key {
	s.t.Helper()
	name := "chk-" + string(rune('0'+id))
	source, err := filepath.Abs(filepath.Join(realCheckpoint, name))
	if err != nil {
		s.t.Fatal(err)
	}
	from, to := mustURI(s.t, source), mustURI(s.t, filepath.Join(s.dir, job))
	res, err := replicator.Replicate(s.t.Context(), s.Stores, replicator.Request{Source: from, Target: to})
	if err != nil {
		s.t.Fatal(err)
	}
	key := raftstore.Key{Route: "prod", JobID: realJobID, CheckpointID: id, MetadataCRC: uint32(len(s.dir)) + uint32(job[0])}
	m, fence := raftstore.KeyMessage(key), &raftv1.Fence{Epoch: s.View().JobEpoch("prod", job), Attempt: 1}
	s.do(&raftv1.Command{Op: &raftv1.Command_PlanReplica{PlanReplica: &raftv1.PlanReplica{Key: m, Fence: fence, Job: job, Uri: res.Replica, CompletedTime: timestamppb.New(noon)}}})
	s.do(&raftv1.Command{Op: &raftv1.Command_StartCopy{StartCopy: &raftv1.StartCopy{Key: m, Fence: fence}}})
	s.do(&raftv1.Command{Op: &raftv1.Command_MarkReady{MarkReady: &raftv1.MarkReady{Key: m, Fence: fence, ManifestCrc32C: uint32(res.ManifestCRC),
		FileCount: int64(res.ManifestFiles), TotalBytes: res.ManifestBytes, Facts: raftstore.FactsMessage(raftstore.RestoreFacts(res.Facts))}}})
	return key
}

func mustURI(t testing.TB, s string) fsutil.URI {
	t.Helper()
	u, err := fsutil.ParseURI(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// exclusive is a file of the job's chk-4 replica.
func (s *site) exclusive(job string) string {
	all, err := filepath.Glob(filepath.Join(s.dir, job, realJobID, "chk-4", "*-*"))
	if err != nil || len(all) == 0 {
		s.t.Fatal(all, err)
	}
	return all[0]
}

func (s *site) run(o Order) []Outcome {
	s.t.Helper()
	outcomes, err := s.Run(s.t.Context(), o)
	if err != nil {
		s.t.Fatal(err)
	}
	return outcomes
}

func TestARunPromotesWhatIsWholeAndRefusesTheRest(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b", "c", "d")
	plan := s.plan(Request{})
	rot, err := os.ReadFile(s.exclusive("b"))
	if err != nil {
		t.Fatal(err)
	}
	rot[0]++
	if err := errors.Join(os.WriteFile(s.exclusive("b"), rot, 0o600), os.Remove(s.exclusive("c"))); err != nil {
		t.Fatal(err)
	}
	moved := s.replicate("d", 5)
	order := Order{Plan: plan.ID, Items: plan.Items, Deep: true, Actor: "me", Reason: "dc1 burns", DryRun: true}
	for _, dry := range []bool{true, false} {
		order.DryRun = dry
		got := s.run(order)
		if got[0].Refused != "" || (got[0].Promotion == nil) != dry || got[0].Done {
			t.Errorf("dry %t: a: %+v", dry, got[0])
		}
		for i, want := range map[int]string{1: "CRC32C", 2: "missing", 3: "chk-5 became READY"} {
			if !strings.Contains(got[i].Refused, want) || got[i].Promotion != nil {
				t.Errorf("dry %t: %s: %+v; want a refusal that says %q", dry, plan.Items[i].Job, got[i], want)
			}
		}
		if _, promoted := s.View().Promotion("prod", "a"); promoted == dry {
			t.Errorf("dry %t, promoted %t", dry, promoted)
		}
	}
	p, _ := s.View().Promotion("prod", "a")
	if p.State != raftstore.PromotionActive || p.Actor != "me" || p.Reason != "dc1 burns" || p.Plan != plan.ID || p.Epoch != plan.Items[0].Epoch+1 {
		t.Errorf("promotion %+v", p)
	}
	// The same again is done; without --deep rot isn't seen, and a fresh plan has what moved.
	if again := s.run(Order{Plan: plan.ID, Items: plan.Items[:1], Actor: "me"}); !again[0].Done || again[0].Promotion.Epoch != p.Epoch {
		t.Errorf("again: %+v", again)
	}
	fresh := s.plan(Request{Jobs: []string{"a", "d"}})
	if !fresh.Items[0].Promoted || fresh.Items[1].Key != moved {
		t.Errorf("a fresh plan: %+v", fresh.Items)
	}
	if got := s.run(Order{Plan: fresh.ID, Items: fresh.Items, Actor: "me"}); !got[0].Done || got[1].Promotion == nil {
		t.Errorf("a fresh plan: %+v", got)
	}
}

func TestWhatTheStateRefusesCostsOnlyItself(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b")
	plan := s.plan(Request{})
	// The fence comes between the plan and the run: only the state's own check sees it.
	s.fenced("dc1", "b", 1, noon.Add(time.Hour))
	got := s.run(Order{Plan: plan.ID, Items: plan.Items, Actor: "me"})
	if got[0].Promotion == nil || got[1].Promotion != nil || !strings.Contains(got[1].Refused, "dc1 has promoted job b") {
		t.Errorf("%+v", got)
	}
	got = s.run(Order{Plan: plan.ID, Items: plan.Items[1:], Actor: "me", Force: true})
	if got[0].Promotion == nil || !got[0].Promotion.Forced {
		t.Errorf("forced: %+v", got)
	}
	if audit := s.View().Audit(0, 1); len(audit) != 1 || audit[0].Action != raftstore.AuditForce || audit[0].Job != "b" {
		t.Errorf("the record says %+v", audit)
	}
}

func TestWhatAnAbortedPromotionLeaves(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a")
	plan := s.plan(Request{Mode: replicator.Claim})
	s.run(Order{Plan: plan.ID, Items: plan.Items, Actor: "me"})
	ended, err := s.Abort(t.Context(), Ending{Route: "prod", Jobs: []string{"a"}, Actor: "me", Reason: "a drill"})
	if err != nil || len(ended) != 1 || ended[0].State != raftstore.PromotionAborted {
		t.Fatalf("abort: %+v, %v", ended, err)
	}
	got := s.run(Order{Plan: plan.ID, Items: plan.Items, Actor: "me"})
	if !strings.Contains(got[0].Refused, "the job is in epoch 1, and the plan saw 0") {
		t.Errorf("the old plan: %+v", got)
	}
	tell := ToTell(s.View(), "prod")
	if len(tell) != 1 || !tell[0].Lifted || tell[0].Epoch != 1 {
		t.Errorf("the source is told %+v", tell)
	}
	if _, err := s.Abort(t.Context(), Ending{Route: "prod", Jobs: []string{"b"}, Actor: "me"}); !errors.Is(err, raftstore.ErrNotPromoted) {
		t.Errorf("abort of what was never promoted: %v", err)
	}
}

func TestAFollowerDoesNotRun(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a")
	plan := s.plan(Request{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Run(t.Context(), Order{Plan: plan.ID, Items: plan.Items, Actor: "me"}); !errors.Is(err, raftstore.ErrNotLeader) {
		t.Errorf("run: %v; want ErrNotLeader", err)
	}
}

func TestOrdersThatCannotBe(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := Item{Route: "prod", Job: "a", Key: raftstore.Key{Route: "prod"}}
	other := Item{Route: "other", Job: "b", Key: raftstore.Key{Route: "other"}}
	for what, o := range map[string]Order{
		"no items": {Plan: "p"}, "no plan": {Items: []Item{a}}, "twice": {Plan: "p", Items: []Item{a, a}}, "two routes": {Plan: "p", Items: []Item{a, other}},
		"another route's replica": {Plan: "p", Items: []Item{{Route: "prod", Job: "a", Key: raftstore.Key{Route: "other"}}}},
		"too many":                {Plan: "p", Items: make([]Item, MostItems+1)},
	} {
		if _, err := s.Run(t.Context(), o); !errors.Is(err, raftstore.ErrInvalid) {
			t.Errorf("%s: %v; want ErrInvalid", what, err)
		}
	}
}

func TestAFencedJobThatStillRunsIsSaid(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.fenced("dc9", "orders", 3, noon)
	if f := FencedHere(g.View()); len(f) != 1 || len(f[0].Jobs) != 1 || len(f[0].Running) != 0 {
		t.Errorf("%+v", f)
	}
	late := checkpoint("orders", 9, 5)
	g.do(&raftv1.Command{Op: &raftv1.Command_RecordFound{RecordFound: &raftv1.RecordFound{Export: "out", Found: []*ckptferryv1.FoundCheckpoint{raftstore.FoundMessage(late)}}}})
	f := FencedHere(g.View())
	if len(f) != 1 || len(f[0].Running) != 1 || !strings.Contains(f[0].Running[0], "job orders still runs here") {
		t.Errorf("%+v", f)
	}
	if m := f[0].Message(); len(m.GetProblems()) != 1 || m.GetJobs()[0].GetEpoch() != 3 {
		t.Errorf("%v", m)
	}
	// A lower epoch is passed over; the end of the promotion lifts the fence.
	if known, err := RecordFences(t.Context(), g, Told{Export: "out", Datacenter: "dc9", Jobs: []raftstore.FencedJob{{Job: "orders", Epoch: 2, PromotedAt: noon}}}); err != nil || known[0].Epoch != 3 {
		t.Errorf("%+v, %v", known, err)
	}
	if known, err := RecordFences(t.Context(), g, Told{Export: "out", Datacenter: "dc9", Jobs: []raftstore.FencedJob{{Job: "orders", Epoch: 3, PromotedAt: noon, Lifted: true}}}); err != nil || !known[0].Lifted {
		t.Errorf("%+v, %v", known, err)
	}
	if f := FencedHere(g.View()); len(f) != 0 {
		t.Errorf("after the end: %+v", f)
	}
}
