package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
)

// recorder is a Group that notes what is proposed.
type recorder struct {
	*raftstore.Store
	proposed []*raftv1.Command
	fail     []error // what the next calls return
}

func (r *recorder) Propose(ctx context.Context, cmd *raftv1.Command) error {
	if len(r.fail) > 0 {
		err := r.fail[0]
		r.fail = r.fail[1:]
		return err
	}
	r.proposed = append(r.proposed, cmd)
	return r.Store.Propose(ctx, cmd)
}

// said is what was proposed of a source: how many checkpoints, and whether it was seen.
func (r *recorder) said() []string {
	out := []string{}
	for _, cmd := range r.proposed {
		c := cmd.GetObserveSource()
		out = append(out, fmt.Sprintf("%d %v", len(c.GetFound()), c.GetSeenTime() != nil))
	}
	r.proposed = nil
	return out
}

func inPull(t *testing.T, test func(t *testing.T, p *puller, r *recorder)) {
	synctest.Test(t, func(t *testing.T) {
		s := newState(t)
		r := &recorder{Store: s.store}
		a, err := New(Config{ID: "a", Datacenter: "dc2", Group: r, Stores: newStorage()})
		if err != nil {
			t.Fatal(err)
		}
		route, _ := s.store.View().Route("prod")
		p := &puller{term: &term{agent: a, cfg: a.cfg}, route: route}
		p.connect(time.Now())
		test(t, p, r)
	})
}

func (p *puller) must(t *testing.T, n News) {
	t.Helper()
	if err := p.hear(t.Context(), n); err != nil {
		t.Errorf("hear(%+v) = %v", n, err)
	}
}

func TestWhenASourceCountsAsSeen(t *testing.T) {
	inPull(t, func(t *testing.T, p *puller, r *recorder) {
		step := func(what string, n News, want ...string) {
			t.Helper()
			p.must(t, n)
			wantNames(t, what, r.said(), want...)
			time.Sleep(seenEvery)
		}
		at := time.Now().Add(-time.Hour) // its clock is behind
		step("the first part of all that is known", News{Found: []raftstore.Found{chkAt(1, 0)}}, "1 false")
		step("and not all yet", News{PolledAt: at})
		step("all", News{Found: []raftstore.Found{chkAt(2, 0)}, Complete: true, PolledAt: at}, "1 true")
		step("a sign of life, but it has not looked since", News{Complete: true, PolledAt: at})
		step("it has looked", News{Complete: true, PolledAt: at.Add(time.Second)}, "0 true")
		step("it can't look", News{Complete: true, PolledAt: at.Add(time.Second), Problem: "away"})
		step("what is known already, and it has looked at what it may", News{Found: []raftstore.Found{chkAt(2, 0)}, Complete: true, PolledAt: at.Add(2 * time.Second), Problem: "one job is not for us"}, "0 true")
		p.connect(time.Now())
		step("another agent, that hasn't looked for long", News{Complete: true, PolledAt: at.Add(3 * time.Second), Problem: "away"})
		step("until it does", News{Complete: true, PolledAt: at.Add(4 * time.Second), Problem: ""}, "0 true")
		p.connect(time.Now())
		step("another one, with an earlier clock", News{Complete: true, PolledAt: at.Add(-time.Minute)}, "0 true")
		step("it does not lead", News{Complete: true})
	})
}

func TestBeingSeenIsSaidAtMostEveryFiveSeconds(t *testing.T) {
	inPull(t, func(t *testing.T, p *puller, r *recorder) {
		for i := range 100 {
			n := News{Complete: true, PolledAt: time.Now()}
			if i == 50 {
				n.Found = []raftstore.Found{chkAt(1, 0)}
			}
			p.must(t, n)
			time.Sleep(200 * time.Millisecond)
		}
		got := r.said()
		if n := len(got); n < 4 || n > 6 || !slices.Contains(got, "1 true") {
			t.Errorf("in 20 s: %q", got)
		}
	})
}

// Every agent of the other group may answer, but only its leader knows when the storage was looked at.
func TestAnAgentThatKnowsNothingIsLeftForAnother(t *testing.T) {
	inPull(t, func(t *testing.T, p *puller, _ *recorder) {
		for connection := range 2 {
			began := time.Now()
			for time.Since(began) < DefaultSilentAfter/2 {
				p.must(t, News{Complete: true})
				time.Sleep(time.Second)
			}
			time.Sleep(time.Second)
			if err := p.hear(t.Context(), News{Complete: true}); !errors.Is(err, errUninformed) {
				t.Errorf("hear = %v on connection %d", err, connection)
			}
			p.connect(time.Now())
		}
		for range 100 { // one that says why is worth staying with
			p.must(t, News{Complete: true, Problem: "away"})
			time.Sleep(time.Second)
		}
	})
}

func TestManyFoundGoInSeveralCommands(t *testing.T) {
	inPull(t, func(t *testing.T, p *puller, r *recorder) {
		var found []raftstore.Found
		for i := range 450 {
			f := chkAt(1, 0)
			f.Seq, f.Job = uint64(i+1), fmt.Sprintf("job-%d", i)
			found = append(found, f)
		}
		p.must(t, News{Found: found, Complete: true, PolledAt: time.Now()})
		wantNames(t, "450 small ones", r.said(), "200 false", "200 false", "50 true")
		for i := range found {
			found[i].Seq += 1000
			found[i].URI = "file:/" + strings.Repeat("long/", 700) + jobA + "/chk-1"
		}
		p.must(t, News{Found: found[:100], Complete: true})
		for _, cmd := range r.proposed {
			if n := len(cmd.GetObserveSource().GetFound()); n > 13 {
				t.Errorf("%d of 3.5 KB in one command", n)
			}
		}
		if known := len(p.cfg.Group.View().Known("prod")); known != 550 {
			t.Errorf("%d are known", known)
		}
	})
}

func TestNonsenseFromASourceIsLeftOutAndSaid(t *testing.T) {
	inPull(t, func(t *testing.T, p *puller, r *recorder) {
		bad := chkAt(1, 0)
		bad.URI = "file:/etc"
		p.must(t, News{Found: []raftstore.Found{bad, chkAt(2, 0)}, Complete: true, PolledAt: time.Now()})
		wantNames(t, "beside it", r.said(), "1 true")
		if s := p.agent.Status(); len(s.Routes) != 1 || !strings.Contains(s.Routes[0].Problem, "file:/etc is not checkpoint 1") {
			t.Errorf("status %+v", s)
		}
	})
}

func TestACommandWhoseFateIsUnknownIsProposedAgain(t *testing.T) {
	inPull(t, func(t *testing.T, p *puller, r *recorder) {
		r.fail = []error{raftstore.ErrOutcomeUnknown, raftstore.ErrNotLeader}
		p.must(t, News{Found: []raftstore.Found{chkAt(1, 0)}})
		wantNames(t, "in the end", r.said(), "1 false")
		r.fail = []error{raftstore.ErrUnknownRoute}
		if err := p.hear(t.Context(), News{Found: []raftstore.Found{chkAt(2, 0)}}); !errors.Is(err, raftstore.ErrUnknownRoute) {
			t.Errorf("hear = %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r.fail = slices.Repeat([]error{raftstore.ErrNotLeader}, 100)
		if err := p.hear(ctx, News{Found: []raftstore.Found{chkAt(2, 0)}}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("hear = %v", err)
		}
	})
}

func TestBatchesHoldEverythingOnce(t *testing.T) {
	for _, n := range []int{0, 1, 199, 200, 201, 1000} {
		found := make([]*ckptferryv1.FoundCheckpoint, n)
		next := 0
		for from, to := range batches(found) {
			if from != next || to <= from || to-from > batchFound {
				t.Errorf("of %d: %d to %d after %d", n, from, to, next)
			}
			next = to
		}
		if next != n {
			t.Errorf("of %d: %d", n, next)
		}
	}
}
