package agent

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	"github.com/ckptferry/ckptferry/raftstore"
)

// trio is dc2 with three agents: one state, a real one, and a leader that the test appoints.
type trio struct {
	*world
	agents map[string]*dc // a, b, c
	nodes  map[string]*node
	mu     sync.Mutex
	leader string
	turned chan struct{} // closed when another one leads
}

// node is one agent's access to the group.
type node struct {
	*trio
	id   string
	gate *gate // of what it reads at the source

	// While frozen it sees the state as it was, says nothing and hears nothing, as a process that is stopped.
	frozen bool
	seen   raftstore.View
	thawed chan struct{}
}

var (
	_ Group    = (*node)(nil)
	_ Reporter = (*node)(nil)
)

func (t *trio) leads(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.leader == id
}

// appoint has another agent lead; nobody is "".
func (t *trio) appoint(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leader = id
	close(t.turned)
	t.turned = make(chan struct{})
}

func (t *trio) turn() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.turned
}

// freeze stops an agent as SIGSTOP does, as far as the group can tell.
func (n *node) freeze() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.frozen, n.seen, n.thawed = true, n.dc2.store.View(), make(chan struct{})
}

func (n *node) thaw() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.frozen = false
	close(n.thawed)
}

// awake waits for a frozen node.
func (n *node) awake(ctx context.Context) error {
	n.mu.Lock()
	thawed := n.thawed
	n.mu.Unlock()
	select {
	case <-thawed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (n *node) isFrozen() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.frozen
}

func (n *node) Propose(ctx context.Context, cmd *raftv1.Command) error {
	if err := n.awake(ctx); err != nil {
		return fmt.Errorf("%w: %w", raftstore.ErrOutcomeUnknown, err)
	}
	n.mu.Lock()
	leader := n.leader
	n.mu.Unlock()
	if leader == "" {
		return raftstore.ErrNotLeader
	}
	return n.dc2.store.Propose(ctx, cmd)
}

func (n *node) View() raftstore.View {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.frozen {
		return n.seen
	}
	return n.dc2.store.View()
}

func (n *node) Changed() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.frozen {
		return n.thawed
	}
	return n.dc2.store.Changed()
}

func (n *node) Role() string {
	if n.leads(n.id) {
		return "leader"
	}
	return "follower"
}

func (n *node) Peers() []raftstore.Peer { return []raftstore.Peer{{ID: "a"}, {ID: "b"}, {ID: "c"}} }

func (n *node) WhileLeader(ctx context.Context, run func(ctx context.Context, term uint64) error) error {
	for term := uint64(1); ; term++ {
		turned := n.turn()
		if n.leads(n.id) {
			leading, over := context.WithCancel(ctx)
			stop := context.AfterFunc(ctx, over)
			go func() {
				select {
				case <-turned:
					over()
				case <-leading.Done():
				}
			}()
			err := run(leading, term)
			stop()
			over()
			if err != nil {
				return err
			}
		}
		select {
		case <-turned:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (n *node) Report(ctx context.Context, reports iter.Seq[Report]) error {
	for r := range reports {
		if err := n.awake(ctx); err != nil {
			return err
		}
		n.mu.Lock()
		leader := n.agents[n.leader]
		n.mu.Unlock()
		if leader == nil || n.nodes[leader.cfg.ID].isFrozen() {
			return raftstore.ErrNotLeader
		}
		if _, err := leader.agent.Heard(r); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// gate keeps an agent from opening files at the source while it is shut, and counts those that wait.
type gate struct {
	*link
	mu      sync.Mutex
	shut    chan struct{} // nil: open
	waiting int
	opened  int
}

func (g *gate) close() (open func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	shut := make(chan struct{})
	g.shut = shut
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.shut = nil
		close(shut)
	}
}

func (g *gate) waits() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.waiting > 0
}

func (g *gate) Open(string) ReadOpener { return gateOpener{g} }

type gateOpener struct{ *gate }

func (g gateOpener) OpenRead(ctx context.Context, root fsutil.URI) (fsutil.ReadFS, error) {
	g.mu.Lock()
	shut := g.shut
	g.opened++
	if shut != nil {
		g.waiting++
	}
	g.mu.Unlock()
	if shut != nil {
		defer func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.waiting--
		}()
		select {
		case <-shut:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return linkOpener{g.link}.OpenRead(ctx, root)
}

// inTrio runs a test with three agents at the target, a leading. change is for their configurations.
func inTrio(t *testing.T, change func(*Config), test func(t *testing.T, g *trio)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, dc1: newDC(t, "dc1"), dc2: newDC(t, "dc2")}
		w.link = &link{to: w.dc1}
		w.dc1.run(t)
		w.apply([]raftstore.Export{{Name: "prod", Bases: []string{cp}, To: []string{"dc2"}}}, nil)
		w.route(func(*raftstore.Route) {})
		g := &trio{world: w, agents: map[string]*dc{}, nodes: map[string]*node{}, turned: make(chan struct{})}
		for _, id := range []string{"a", "b", "c"} {
			n := &node{trio: g, id: id, gate: &gate{link: w.link}, thawed: make(chan struct{})}
			close(n.thawed)
			d := &dc{name: id, storage: w.dc2.storage, store: w.dc2.store}
			d.cfg = Config{ID: id, Datacenter: "dc2", Version: "v1", Group: n, Reporter: n, Stores: w.dc2.storage, Poll: time.Second,
				Sources: map[string]SourceDC{"dc1": n.gate}, Log: slog.New(slog.NewTextHandler(t.Output(), nil)).With("at", id)}
			if change != nil {
				change(&d.cfg)
			}
			g.agents[id], g.nodes[id] = d, n
		}
		for _, id := range []string{"a", "b", "c"} {
			g.agents[id].run(t)
		}
		g.appoint("a")
		g.until("all are heard of", func() bool { return g.live() == "a b c" })
		test(t, g)
	})
}

// live are the agents that the leader gives work to.
func (t *trio) live() string {
	var live []string
	for _, d := range t.agents {
		for _, m := range d.agent.Status().Members {
			if m.Live {
				live = append(live, m.Agent)
			}
		}
	}
	slices.Sort(live)
	return strings.Join(live, " ")
}

// of is the only replica of the job orders.
func (t *trio) of(n int64) raftstore.Replica {
	for r := range t.dc2.store.View().AllReplicas() {
		if r.Job == "orders" && r.Key.CheckpointID == n {
			return r
		}
	}
	return raftstore.Replica{}
}

func TestAllAgentsOfAGroupCopy(t *testing.T) {
	inTrio(t, nil, func(t *testing.T, g *trio) {
		before := g.dc2.entries()
		const jobs = 24
		for i := range jobs {
			g.dc1.storage.checkpoint(t, fmt.Sprintf("cp/job-%02d/%s/chk-1", i, jobB[:30]+fmt.Sprintf("%02d", i)), []string{"own"}, nil)
		}
		g.until("all are READY", func() bool { return strings.Count(fmt.Sprint(g.replicas()), "READY 1") == jobs })
		by := map[string]int{}
		for r := range g.dc2.store.View().AllReplicas() {
			by[r.Agent]++
		}
		if by["a"] < 4 || by["b"] < 4 || by["c"] < 4 {
			t.Errorf("copied by %v", by)
		}
		if n := g.dc2.entries() - before; n > 4*jobs {
			t.Errorf("%d entries of the log for %d checkpoints", n, jobs)
		}
		g.whole()
	})
}

func TestTheCopyOfADeadAgentIsAnothers(t *testing.T) {
	for name, tc := range map[string]struct {
		die    func(n *node, d *dc)
		within time.Duration
	}{
		"killed":  {func(n *node, d *dc) { n.freeze(); n.gate.link = &link{to: n.dc1, err: errors.New("killed")}; d.stop() }, 10 * time.Second},
		"stopped": {func(_ *node, d *dc) { d.stop() }, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inTrio(t, nil, func(t *testing.T, g *trio) {
				open := g.nodes["b"].gate.close()
				defer open()
				g.chk(1)
				g.until("b copies it", func() bool { return g.nodes["b"].gate.waits() && g.of(1).Status == raftstore.StatusCopying })
				began := time.Now()
				tc.die(g.nodes["b"], g.agents["b"])
				g.until("another one has made it", g.is("orders/chk-1 READY 2"))
				if took := time.Since(began); took > tc.within {
					t.Errorf("it took %s", took)
				}
				if r := g.of(1); r.Agent == "b" {
					t.Errorf("made by %s", r.Agent)
				}
				g.whole()
				// What is left of the group goes on.
				g.chk(2)
				g.until("the next is READY", g.is("orders/chk-2 READY 1"))
			})
		})
	}
}

func TestCopiesGoOnWhenAnotherAgentLeads(t *testing.T) {
	inTrio(t, nil, func(t *testing.T, g *trio) {
		open := g.nodes["b"].gate.close()
		g.chk(1)
		g.until("b copies it", g.nodes["b"].gate.waits)
		g.appoint("c")
		g.pass(10 * time.Second) // c has heard of all, and would have taken it away
		if r := g.of(1); r.Agent != "b" || r.Planned.Attempt != 1 {
			t.Errorf("given to %s in attempt %d", r.Agent, r.Planned.Attempt)
		}
		open()
		g.until("it is READY in the same attempt", g.is("orders/chk-1 READY 1"))
		g.chk(2)
		g.until("the new leader has the next one copied", g.is("orders/chk-2 READY 1"))
		g.whole()
	})
}

// The leader dies while it copies itself.
func TestTheCopyOfADeadLeaderIsAnothers(t *testing.T) {
	inTrio(t, func(c *Config) { c.Parallel = 1 }, func(t *testing.T, g *trio) {
		var open []func()
		for _, n := range g.nodes {
			open = append(open, n.gate.close())
		}
		for i := range 3 {
			g.dc1.storage.checkpoint(t, fmt.Sprintf("cp/job-%d/%s/chk-1", i, jobB[:31]+fmt.Sprint(i)), []string{"own"}, nil)
		}
		g.until("each copies one", func() bool {
			return g.nodes["a"].gate.waits() && g.nodes["b"].gate.waits() && g.nodes["c"].gate.waits()
		})
		g.nodes["a"].freeze()
		g.appoint("b")
		for _, o := range open {
			o()
		}
		began := time.Now()
		g.until("all are READY", func() bool { return strings.Count(fmt.Sprint(g.replicas()), "READY") == 3 })
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %s", took)
		}
		again := 0
		for r := range g.dc2.store.View().AllReplicas() {
			if r.Agent == "a" {
				t.Errorf("%s is still the dead one's", r.Key)
			}
			again += int(r.Planned.Attempt) - 1
		}
		if again != 1 {
			t.Errorf("%d copies were begun again, want only the dead one's", again)
		}
		g.nodes["a"].thaw()
		g.whole()
	})
}

// An agent that was stopped and goes on finds that it was given up, and changes nothing.
func TestAStaleWorkerChangesNothing(t *testing.T) {
	inTrio(t, nil, func(t *testing.T, g *trio) {
		open := g.nodes["b"].gate.close()
		g.chk(1)
		g.until("b copies it", g.nodes["b"].gate.waits)
		g.nodes["b"].freeze()
		g.until("another one has made it", g.is("orders/chk-1 READY 2"))
		made := g.of(1)
		open() // b goes on as if nothing had happened, and comes to its end
		g.pass(10 * time.Second)
		if manifest := g.dc2.storage.get(t, "replicas/.ckptferry/manifest/"+jobA+"/chk-1.jsonl"); crc32.Checksum(manifest, castagnoli) != made.ManifestCRC {
			t.Error("the manifest is another one than the group knows")
		}
		before := g.dc2.entries()
		g.nodes["b"].thaw()
		g.until("b has let go of it", func() bool { return len(g.agents["b"].agent.Status().Transfers) == 0 })
		g.pass(3 * time.Second)
		if r := g.of(1); fmt.Sprint(r) != fmt.Sprint(made) {
			t.Errorf("the replica was %+v, and is %+v", made, r)
		}
		if n := g.dc2.entries() - before; n > 3 {
			t.Errorf("%d entries of the log from one that was given up", n)
		}
		g.whole()
		g.until("b is given work again", func() bool { return g.live() == "a b c" })
	})
}

func TestAPausedRouteStopsTheCopiesOfAllAgents(t *testing.T) {
	inTrio(t, nil, func(t *testing.T, g *trio) {
		open := g.nodes["b"].gate.close()
		defer open()
		g.chk(1)
		g.until("b copies it", g.nodes["b"].gate.waits)
		g.route(func(r *raftstore.Route) { r.Mode = raftstore.RoutePaused })
		g.until("the copy has ended", g.is("orders/chk-1 FAILED 1"))
		if r := g.of(1); r.FailureClass != string(ReasonStopped) {
			t.Errorf("it ended as %q", r.FailureClass)
		}
	})
}

// Nobody works on it, and nobody will: it must not stay in the way of removing the route.
func TestWhatADeadAgentLeavesOfAPausedRouteIsClosed(t *testing.T) {
	inTrio(t, nil, func(_ *testing.T, g *trio) {
		open := g.nodes["b"].gate.close()
		defer open()
		g.chk(1)
		g.until("b copies it", g.nodes["b"].gate.waits)
		g.nodes["b"].freeze()
		g.route(func(r *raftstore.Route) { r.Mode = raftstore.RoutePaused })
		g.until("it is closed", g.is("orders/chk-1 FAILED 1"))
		g.nodes["b"].thaw()
	})
}

func TestAnAgentThatFailsIsNotGivenTheSameAgain(t *testing.T) {
	inTrio(t, nil, func(t *testing.T, g *trio) {
		g.nodes["b"].gate.link = &link{to: g.dc1, err: errors.New("no route to host")}
		g.chk(1)
		g.until("another one has made it", g.is("orders/chk-1 READY 2"))
		if r := g.of(1); r.Agent == "b" {
			t.Errorf("made by %s", r.Agent)
		}
	})
}

func TestStatusOfTheLeaderHasTheGroup(t *testing.T) {
	inTrio(t, nil, func(t *testing.T, g *trio) {
		open := g.nodes["b"].gate.close()
		g.chk(1)
		g.until("b copies it", g.nodes["b"].gate.waits)
		g.until("it is reported", func() bool {
			s := g.agents["a"].agent.Status()
			return len(s.Transfers) == 0 && len(s.GroupTransfers) == 1 && s.GroupTransfers[0].Agent == "b" && s.GroupTransfers[0].Job == "orders"
		})
		if s := g.agents["b"].agent.Status(); len(s.Transfers) != 1 || len(s.Members) != 0 || len(s.GroupTransfers) != 0 {
			t.Errorf("the follower says %+v", s)
		}
		g.nodes["c"].freeze()
		g.until("c is missed", func() bool { return g.live() == "a b" })
		for _, m := range g.agents["a"].agent.Status().Members {
			if age := time.Since(m.HeardAt); m.Agent == "c" && (m.Live || age < deadAfter) || m.Agent == "b" && (!m.Live || age > 2*reportEvery || m.Version != "v1") {
				t.Errorf("%+v, heard %s ago", m, age)
			}
		}
		g.nodes["c"].thaw()
		open()
	})
}

// big is a checkpoint with more bytes than one agent copies alone.
func (t *trio) big() {
	var own []string
	for i := range 30 {
		own = append(own, fmt.Sprintf("f%02d", i))
	}
	t.dc1.storage.checkpoint(t.t, orders+"/chk-1", own, nil)
}

func sharing(c *Config) { c.ShardBytes = 1000 }

func TestALargeCopyIsSharedOut(t *testing.T) {
	inTrio(t, sharing, func(t *testing.T, g *trio) {
		g.chk(7) // small
		g.until("it is READY", g.is("orders/chk-7 READY 1"))
		if r := g.of(7); len(r.Shards) != 0 {
			t.Errorf("a small one is shared out: %v", r.Shards)
		}
		g.dc1.storage.checkpoint(t, "cp/large/"+jobB+"/chk-1", slices.Collect(names(30)), nil)
		g.until("the large one is READY", g.is("large/chk-1 READY 1"))
		r := g.dc2.store.View().JobReplicas("prod", "large")[0]
		if len(r.Shards) != 2 || !r.Shards[0].Done || !r.Shards[1].Done {
			t.Errorf("shares %+v", r.Shards)
		}
		for id, d := range g.agents {
			if n := totalFiles(d.agent); n < 8 || n > 14 { // of 30, and the four of the small one
				t.Errorf("%s copied %d files", id, n)
			}
		}
		g.whole()
	})
}

func names(n int) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range n {
			if !yield(fmt.Sprintf("f%02d", i)) {
				return
			}
		}
	}
}

func totalFiles(a *Agent) (n int64) {
	for _, t := range a.Totals() {
		n += t.Files
	}
	return n
}

func TestAHelperThatDiesIsNotWaitedFor(t *testing.T) {
	inTrio(t, sharing, func(t *testing.T, g *trio) {
		// b makes it, being the first of the least busy; c helps, and dies.
		open := g.nodes["c"].gate.close()
		defer open()
		g.big()
		g.until("c helps", g.nodes["c"].gate.waits)
		g.nodes["c"].freeze()
		began := time.Now()
		g.until("it is READY", g.is("orders/chk-1 READY 1"))
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %s", took)
		}
		for _, s := range g.of(1).Shards {
			if s.Agent == "c" && !s.Lost || s.Agent == "a" && !s.Done {
				t.Errorf("shares %+v", g.of(1).Shards)
			}
		}
		g.whole()
		g.nodes["c"].thaw()
	})
}

func TestTheMakerOfASharedCopyDies(t *testing.T) {
	inTrio(t, sharing, func(t *testing.T, g *trio) {
		openB, openC := g.nodes["b"].gate.close(), g.nodes["c"].gate.close()
		defer openB()
		g.big()
		g.until("c helps b", func() bool { return g.nodes["c"].gate.waits() && g.nodes["b"].gate.waits() })
		g.nodes["b"].freeze()
		openC()
		g.until("another one has made it", g.is("orders/chk-1 READY 2"))
		if r := g.of(1); r.Agent == "b" {
			t.Errorf("made by %s", r.Agent)
		}
		g.whole()
		g.nodes["b"].thaw()
		g.until("nobody is at it any more", func() bool {
			return len(g.agents["b"].agent.Status().Transfers)+len(g.agents["c"].agent.Status().Transfers) == 0
		})
	})
}

func TestAnAgentsPartOfARate(t *testing.T) {
	for _, tc := range []struct {
		rate   int64
		agents int
		want   int64
	}{{0, 3, 0}, {90, 0, 90}, {90, 1, 90}, {90, 3, 30}, {1, 3, 1}} {
		if got := partOf(tc.rate, tc.agents); got != tc.want {
			t.Errorf("%d bytes per second over %d agents: %d, want %d", tc.rate, tc.agents, got, tc.want)
		}
	}
	busy := raftstore.Replica{Agent: "a", Shards: []raftstore.Shard{{Agent: "b"}, {Agent: "c", Done: true}, {Agent: "d", Lost: true}}}
	if got := fmt.Sprint(copiers(busy)); got != "[a b]" {
		t.Errorf("who copies: %s", got)
	}
}

// Two agents that copy of one route take half of its rate each.
func TestTheRateOfARouteIsTheGroups(t *testing.T) {
	inTrio(t, nil, func(t *testing.T, g *trio) {
		g.route(func(r *raftstore.Route) { r.BytesPerSecond = slow })
		for i := range 2 {
			g.dc1.storage.checkpoint(t, fmt.Sprintf("cp/job-%d/%s/chk-1", i, jobB[:31]+fmt.Sprint(i)), []string{"x", "y"}, nil)
		}
		began := time.Now()
		g.until("both are READY", func() bool { return strings.Count(fmt.Sprint(g.replicas()), "READY 1") == 2 })
		if took := time.Since(began); took < 25*time.Second { // 400 bytes, and a burst
			t.Errorf("400 bytes at %d per second took %s with two agents", slow, took)
		}
		by := map[string]bool{}
		for r := range g.dc2.store.View().AllReplicas() {
			by[r.Agent] = true
		}
		if len(by) != 2 {
			t.Errorf("copied by %v", by)
		}
	})
}
