package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ckptferry/ckptferry/fsutil"
	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// idle is how long a leader sleeps at most when nothing happens.
const idle = time.Minute

// flight is a replica in flight as the leader last saw it.
type flight struct {
	lane    lane
	attempt uint64
	agent   string
}

// overtook ends the reason of what was given up for a newer checkpoint, which is named before it.
const overtook = " overtook it while nobody made it"

// planning is a plan that is being proposed, and then what became of it.
type planning struct {
	want  want
	agent string
	err   error
}

// takeOver notes what is in flight. The copies of agents that live go on, whoever planned them.
func (t *term) takeOver(view raftstore.View) {
	for r := range view.InFlight() {
		t.flying[r.Key] = flightOf(r)
	}
}

func flightOf(r raftstore.Replica) flight {
	return flight{lane: laneOf(r), attempt: r.Planned.Attempt, agent: r.Agent}
}

func laneOf(r raftstore.Replica) lane { return lane{r.Key.Route, r.Job, r.Savepoint} }

// coordinate has the copies planned that are due, each by an agent with room, and says when it should be called again if
// nothing happens before.
func (t *term) coordinate(ctx context.Context, view raftstore.View) time.Duration {
	t.land(view)
	roster, again := t.agent.roster()
	load, running, orphans := t.survey(view, roster)
	now := t.cfg.Now()
	choice := choice{view: view, now: now, pullable: t.pullable, running: running, failures: t.failures, held: t.held, waiting: t.waiting}
	wants, later := choice.wants()
	waiting := make(map[lane]time.Time, len(wants))
	for _, w := range wants {
		waiting[w.lane] = choice.waitingSince(w.lane)
	}
	t.waiting = waiting
	most := t.agent.tuned.Load().Parallel
	for _, w := range wants {
		agent := load.pick(w.route.Priority, most, t.failures[w.key].agent)
		if agent == "" {
			continue // a lane of a higher priority has been asked before; one of the same may be lucky with another agent
		}
		load.add(agent, w.route.Priority)
		delete(t.waiting, w.lane)
		t.plan(ctx, w, agent)
	}
	t.closeOrphans(ctx, view, orphans, wants)
	t.giveUpHelpers(ctx, view, roster)
	if !later.IsZero() {
		again = min(again, later.Sub(now))
	}
	return max(again, time.Millisecond)
}

func (t *term) pullable(r raftstore.Route) bool { return t.cfg.Sources[r.FromDC] != nil }

// survey says who copies how much, and which lanes are busy. Orphans are replicas in flight that nobody works on, or may
// finish: their agent is dead, or the job's epoch is another one.
func (t *term) survey(view raftstore.View, roster roster) (l load, running map[lane]bool, orphans []raftstore.Replica) {
	l, running = newLoad(roster.live, t.cfg.ID), map[lane]bool{}
	for r := range view.InFlight() {
		if r.Agent == "" || roster.gone(r.Agent) || r.Planned.Epoch != view.JobEpoch(r.Key.Route, r.Job) {
			orphans = append(orphans, r)
			continue
		}
		running[laneOf(r)] = true
		route, _ := view.Route(r.Key.Route)
		for _, agent := range copiers(r) {
			l.add(agent, route.Priority)
		}
	}
	for _, p := range t.planned {
		if !running[p.want.lane] {
			running[p.want.lane] = true
			l.add(p.agent, p.want.route.Priority)
		}
	}
	return l, running, orphans
}

// load is what the agents that live have to do.
type load struct {
	live   []string // by id
	leader string
	copies map[string][]int32 // the priorities of an agent's copies
}

func newLoad(live []string, leader string) load {
	return load{live: live, leader: leader, copies: map[string][]int32{}}
}

func (l load) add(agent string, priority int32) {
	l.copies[agent] = append(l.copies[agent], priority)
}

// pick is the agent that is least busy among those with room for a copy of that priority; empty when there is none. Lower
// priorities don't take room, but for memory's sake not without a bound. The leader has more to do than to copy, so it
// counts for one more. Who has just failed at it is taken when there is nobody else.
func (l load) pick(priority int32, most int, failed string) string {
	var best string
	var least [2]int
	for _, agent := range l.live {
		alike := 0
		for _, p := range l.copies[agent] {
			if p >= priority {
				alike++
			}
		}
		all := len(l.copies[agent])
		if alike >= most || all >= 2*most {
			continue
		}
		cost := [2]int{0, all}
		if agent == failed {
			cost[0] = 1
		}
		if agent == l.leader && len(l.live) > 1 {
			cost[1]++
		}
		if best == "" || slices.Compare(cost[:], least[:]) < 0 {
			best, least = agent, cost
		}
	}
	return best
}

// plan has the state give a copy to an agent, in a goroutine of its own: plans don't wait for each other.
func (t *term) plan(ctx context.Context, w want, agent string) {
	t.planned[w.lane] = planning{want: w, agent: agent}
	epoch := t.cfg.Group.View().JobEpoch(w.key.Route, w.found.Job)
	t.tasks.Go(func() {
		p := planning{want: w, agent: agent}
		var uri string
		if uri, p.err = placeOf(w); p.err == nil {
			p.err = t.propose(ctx, planCommand(w, raftstore.Fence{Epoch: epoch, Attempt: w.attempt}, uri, agent))
		}
		select {
		case t.done <- p:
		case <-ctx.Done():
		}
	})
}

// placeOf is where the replica will lie.
func placeOf(w want) (string, error) {
	source, err := fsutil.ParseURI(w.found.URI)
	if err != nil {
		return "", err
	}
	root, err := fsutil.ParseURI(w.route.Root)
	if err != nil {
		return "", fmt.Errorf("root of route %s: %w", w.route.Name, err)
	}
	return replicator.ReplicaURI(root, source).String(), nil
}

func planCommand(w want, fence raftstore.Fence, uri, agent string) *raftv1.Command {
	plan := &raftv1.PlanReplica{Key: keyMessage(w.key), Fence: fenceMessage(fence), Job: w.found.Job, Uri: uri,
		CompletedTime: timestamppb.New(w.found.CompletedAt), Agent: agent, Kind: raftstore.FoundMessage(w.found).GetKind()}
	if w.found.Savepoint {
		plan.SavepointName = label(w.found)
	}
	return &raftv1.Command{Op: &raftv1.Command_PlanReplica{PlanReplica: plan}}
}

// planEnded takes note of what became of a plan.
func (t *term) planEnded(p planning) {
	delete(t.planned, p.want.lane)
	if p.err == nil {
		t.flying[p.want.key] = flight{p.want.lane, p.want.attempt, p.agent}
		return
	}
	t.cfg.Log.Warn("a copy can't be planned", "replica", p.want.key.String(), "attempt", p.want.attempt, "err", p.err)
	t.failed(p.want.key, 1, p.want.lane, "", false)
}

// land takes note of the copies that have ended since it was last called.
func (t *term) land(view raftstore.View) {
	for key, f := range t.flying {
		r, ok := view.Replica(key)
		switch {
		case ok && r.Planned.Attempt == f.attempt && inFlight(r):
			continue
		case ok && r.Planned.Attempt == f.attempt:
			t.ended(r, f)
		}
		delete(t.flying, key)
	}
}

func inFlight(r raftstore.Replica) bool {
	return r.Status == raftstore.StatusPlanned || r.Status == raftstore.StatusCopying
}

// ended takes note of how a copy ended, as the state has it.
func (t *term) ended(r raftstore.Replica, f flight) {
	route := r.Key.Route
	switch {
	case r.Status == raftstore.StatusFailed && r.TargetAtFault:
		t.held[route] = t.held[route].again(t.cfg.Now())
	case r.Status == raftstore.StatusFailed && r.FailureClass != string(ReasonStopped):
		t.failed(r.Key, f.attempt, f.lane, f.agent, r.CheckpointAtFault)
		if r.FailureClass == string(ReasonPermission) {
			t.deniedTo(f.lane)
		}
		return
	case r.Status == raftstore.StatusReady:
		delete(t.held, route)
		delete(t.denied, route)
	}
	// Once a checkpoint of the lane is done with, or gone, nobody asks for the failures of those before it.
	for key, failure := range t.failures {
		if failure.lane == f.lane && (r.Status == raftstore.StatusReady || key == r.Key) {
			delete(t.failures, key)
		}
	}
}

func (t *term) failed(key raftstore.Key, attempt uint64, l lane, agent string, itself bool) {
	f := t.failures[key]
	f.times = max(f.times, beforeAttempt(attempt).times) // as whoever made it has said
	f = f.again(t.cfg.Now())
	f.itself, f.lane, f.agent = itself, l, agent
	t.failures[key] = f
}

// deniedTo notes that a permission was lacking. One job whose files can't be read costs only itself; when it is one
// after the other and none gets through, it is the target, and the others needn't try.
func (t *term) deniedTo(l lane) {
	const alike = 3
	if t.denied[l.route] == nil {
		t.denied[l.route] = map[lane]bool{}
	}
	t.denied[l.route][l] = true
	if len(t.denied[l.route]) >= alike {
		t.held[l.route] = t.held[l.route].again(t.cfg.Now())
	}
}

// errPromoted ends what is still in flight for a job that goes on at this side.
var errPromoted = errors.New("the job was promoted: nothing that its source still writes comes over it")

// closeOrphans closes what nobody works on and nobody will go on with: a newer checkpoint is there, or the route wants
// nothing of the job. What is still wanted gets a new attempt in its turn.
func (t *term) closeOrphans(ctx context.Context, view raftstore.View, orphans []raftstore.Replica, wants []want) {
	for _, r := range orphans {
		if t.planned[laneOf(r)].want.key == r.Key || slices.ContainsFunc(wants, func(w want) bool { return w.key == r.Key }) {
			continue
		}
		o := outcome{want: want{key: r.Key}, kind: endedSuperseded}
		newer := newerThan(view, r)
		switch {
		case promoted(view, r.Key.Route, r.Job):
			o.kind, o.err = endedStopped, errPromoted
		case !pullsJob(view, r.Key.Route, r.Job):
			o.kind, o.err = endedStopped, errPaused
		case newer != "":
			o.err = errors.New(newer + overtook)
		default:
			continue // it waits after a failure: it stays what it is
		}
		fence := raftstore.Fence{Epoch: view.JobEpoch(r.Key.Route, r.Job), Attempt: r.Planned.Attempt}
		if err := t.propose(ctx, o.command(fence, replicator.Result{}, t.cfg.Now())); err != nil && ctx.Err() == nil {
			t.cfg.Log.Warn("an unfinished replica that nobody works on can't be closed", "replica", r.Key.String(), "err", err)
		}
	}
}

// newerThan names a newer checkpoint of the replica's lane; empty when there is none.
func newerThan(view raftstore.View, r raftstore.Replica) string {
	known := view.JobKnown(r.Key.Route, r.Job)
	i := slices.IndexFunc(known, func(f raftstore.Found) bool { return keyOf(r.Key.Route, f) == r.Key })
	for _, f := range slices.Backward(known[i+1:]) {
		if f.Savepoint == r.Savepoint {
			return label(f)
		}
	}
	return ""
}
