package promote

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/fsutil"
	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// marks are the marks of claimed replicas below a job's root.
func (s *site) marks(job string) []string {
	s.t.Helper()
	all, err := filepath.Glob(filepath.Join(s.dir, job, ".ckptferry", "claimed", "*", "*.json"))
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}

// asked is a group that tells of each proposal before it is made, and may answer instead.
type asked struct {
	*group
	before func(cmd *raftv1.Command) error
}

func (g *asked) Propose(ctx context.Context, cmd *raftv1.Command) error {
	if err := g.before(cmd); err != nil {
		return err
	}
	return g.group.Propose(ctx, cmd)
}

func TestStorageHearsOfAClaimBeforeTheGroup(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b")
	plan := s.plan(Request{Jobs: []string{"a"}, Mode: replicator.Claim})
	plan.Items = append(plan.Items, s.plan(Request{Jobs: []string{"b"}}).Items...)
	proposed := 0
	s.Group = &asked{s.group, func(*raftv1.Command) error {
		if proposed++; len(s.marks("a")) != 1 {
			t.Errorf("proposed with the marks %v", s.marks("a"))
		}
		return nil
	}}
	order := Order{Plan: "p1", Items: plan.Items, Actor: "ann", DryRun: true}
	s.run(order)
	if len(s.marks("a")) != 0 || proposed != 0 {
		t.Errorf("a dry run left %v, and proposed %d times", s.marks("a"), proposed)
	}
	order.DryRun = false
	for range 2 {
		for i, o := range s.run(order) {
			if o.Promotion == nil {
				t.Errorf("%s: %+v", plan.Items[i].Job, o)
			}
		}
	}
	if proposed != 1 || len(s.marks("b")) != 0 {
		t.Errorf("%d proposals, marks of what was promoted with NO_CLAIM: %v", proposed, s.marks("b"))
	}
	text, err := os.ReadFile(s.marks("a")[0])
	if err != nil || !strings.Contains(string(text), `"plan":"p1","actor":"ann"`) || !strings.HasSuffix(s.marks("a")[0], filepath.Join(realJobID, "chk-4.json")) {
		t.Errorf("%s: %s, %v", s.marks("a")[0], text, err)
	}
}

func TestMarkOfARefusedClaim(t *testing.T) {
	for name, tc := range map[string]struct {
		err   error // of the first proposal
		there bool  // a mark was there before
		want  int   // marks afterwards
	}{
		"refused":                     {raftstore.ErrBadTransition, false, 0},
		"refused, and it was there":   {raftstore.ErrBadTransition, true, 1},
		"nobody knows the outcome":    {raftstore.ErrOutcomeUnknown, false, 1},
		"another agent leads already": {raftstore.ErrNotLeader, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, "a")
			items := s.plan(Request{Mode: replicator.Claim}).Items
			if tc.there {
				if wrote, err := s.mark(t.Context(), Order{Plan: "p0"}, items[0]); err != nil || !wrote {
					t.Fatal(wrote, err)
				}
			}
			s.Group = &asked{s.group, func(*raftv1.Command) error { return tc.err }}
			outcomes, err := s.Run(t.Context(), Order{Plan: "p1", Items: items, Actor: "ann"})
			if refused := refusal(tc.err); refused != (err == nil) || refused && outcomes[0].Refused == "" {
				t.Errorf("Run = %+v, %v", outcomes, err)
			}
			if got := s.marks("a"); len(got) != tc.want {
				t.Errorf("marks: %v; want %d", got, tc.want)
			}
		})
	}
}

// The state refuses, since somebody else has promoted the replica in this moment: the mark is needed.
func TestMarkStaysWhereAnotherClaimsTheReplica(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a")
	items := s.plan(Request{Mode: replicator.Claim}).Items
	real := s.group
	s.Group = &asked{real, func(*raftv1.Command) error {
		return real.Propose(t.Context(), Order{Plan: "p0", Items: items, Actor: "bob"}.command([]int{0}))
	}}
	if outcomes := s.run(Order{Plan: "p1", Items: items, Actor: "ann"}); outcomes[0].Refused == "" {
		t.Errorf("Run = %+v", outcomes)
	}
	if got := s.marks("a"); len(got) != 1 {
		t.Errorf("marks: %v; want one", got)
	}
}

// unwritable can be read only.
type unwritable struct{ replicator.Opener }

var errDisk = errors.New("the disk is gone")

func (unwritable) Open(context.Context, fsutil.URI) (fsutil.FS, error) { return nil, errDisk }

func TestWhatCannotBeMarkedIsNotClaimed(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b")
	items := append(s.plan(Request{Jobs: []string{"a"}, Mode: replicator.Claim}).Items, s.plan(Request{Jobs: []string{"b"}}).Items...)
	s.Stores = unwritable{s.Stores}
	outcomes := s.run(Order{Plan: "p1", Items: items, Actor: "ann"})
	if !strings.Contains(outcomes[0].Refused, errDisk.Error()) || outcomes[1].Promotion == nil {
		t.Errorf("Run = %+v", outcomes)
	}
	if _, promoted := s.View().Promotion("prod", "a"); promoted {
		t.Error("it was promoted")
	}
}

// After the end of a claim the same JobID's next replica is not offered, and the plan says why and what helps.
func TestPlanSaysWhyNothingIsOfferedAfterAClaim(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a")
	item := s.plan(Request{Mode: replicator.Claim}).Items[0]
	if strings.Contains(strings.Join(item.Warnings, "\n"), "not offered") {
		t.Errorf("before: %q", item.Warnings)
	}
	s.run(Order{Plan: "p1", Items: []Item{item}, Actor: "ann"})
	if _, err := s.Abort(t.Context(), Ending{Route: "prod", Jobs: []string{"a"}, Actor: "ann"}); err != nil {
		t.Fatal(err)
	}
	key := s.replicate("a", 5)
	if r, _ := s.View().Replica(key); !r.AtRisk {
		t.Fatalf("chk-5: %+v", r)
	}
	plan := s.plan(Request{}).Items[0]
	if plan.Key != item.Key || !strings.Contains(strings.Join(plan.Warnings, "\n"), "the newest of them chk-5") {
		t.Errorf("the plan is %+v: want chk-4, and a word on chk-5", plan)
	}
}
