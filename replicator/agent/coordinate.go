package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	"github.com/ckptferry/ckptferry/raftstore"
)

// idle is how long a leader sleeps at most when nothing happens.
const idle = time.Minute

// running is a copy under way.
type running struct {
	want   want
	cancel context.CancelCauseFunc
}

// overtook ends the reason of what was given up for a newer checkpoint, which is named before it.
const overtook = " overtook it when another agent became the leader"

// errPaused ends the copies of a route that pulls nothing any more.
var errPaused = errors.New("the route is paused, or takes this job no longer: what was copied is kept, and used when it goes on")

// takeOver notes what a leader before this one had begun. Nobody works on it any more.
func (t *term) takeOver(view raftstore.View) {
	t.leftover = map[raftstore.Key]bool{}
	for _, r := range view.Replicas() {
		if inFlight(r) {
			t.leftover[r.Key] = true
		}
	}
}

func inFlight(r raftstore.Replica) bool {
	return r.Status == raftstore.StatusPlanned || r.Status == raftstore.StatusCopying
}

// coordinate starts the copies that are due, and says when it should be called again if nothing happens before.
func (t *term) coordinate(ctx context.Context, view raftstore.View) time.Duration {
	t.stopPaused(view)
	now := t.cfg.Now()
	choice := choice{view: view, now: now, pullable: t.pullable, running: t.running, failures: t.failures, held: t.held, waiting: t.waiting}
	wants, later := choice.wants()
	waiting := make(map[lane]time.Time, len(wants))
	for _, w := range wants {
		waiting[w.lane] = choice.waitingSince(w.lane)
	}
	t.waiting = waiting
	for _, w := range wants {
		if t.room(w.route.Priority) {
			delete(t.waiting, w.lane)
			delete(t.leftover, w.key)
			t.start(ctx, w)
		}
	}
	t.clearLeftover(ctx, view, wants)
	if later.IsZero() {
		return idle
	}
	return max(later.Sub(now), time.Millisecond)
}

func (t *term) pullable(r raftstore.Route) bool { return t.cfg.Sources[r.FromDC] != nil }

// room says whether another copy of this priority may start: lower ones don't count against it, but for memory's sake
// not without a bound.
func (t *term) room(priority int32) bool {
	alike := 0
	for _, r := range t.running {
		if r.want.route.Priority >= priority {
			alike++
		}
	}
	most := t.agent.tuned.Load().Parallel
	return alike < most && len(t.running) < 2*most
}

// stopPaused ends the copies that their route doesn't want any more.
func (t *term) stopPaused(view raftstore.View) {
	pulled := map[string]func(job string) bool{}
	for l, r := range t.running {
		if pulled[l.route] == nil {
			route, _ := view.Route(l.route) // one that is gone pulls nothing
			pulled[l.route] = pulls(view, route)
		}
		if !pulled[l.route](l.job) {
			r.cancel(errPaused)
		}
	}
}

func (t *term) start(term context.Context, w want) {
	ctx, cancel := context.WithCancelCause(term)
	t.running[w.lane] = &running{want: w, cancel: cancel}
	t.tasks.Go(func() {
		defer cancel(nil)
		o := t.copyOne(ctx, term, w)
		select {
		case t.done <- o:
		case <-term.Done():
		}
	})
}

// ended takes note of how a copy ended.
func (t *term) ended(o outcome) {
	delete(t.running, o.want.lane)
	route := o.want.route.Name
	switch o.kind {
	case endedReady:
		delete(t.held, route)
		delete(t.denied, route)
	case endedHeld:
		t.held[route] = t.held[route].again(t.cfg.Now())
	case endedFailed:
		f := t.failures[o.want.key].again(t.cfg.Now())
		f.itself, f.lane = o.itself, o.want.lane
		t.failures[o.want.key] = f
		if o.denied {
			t.deniedTo(o.want.lane)
		}
		return
	}
	// Once a checkpoint of the lane is done with, or gone, nobody asks for the failures of those before it.
	for key, f := range t.failures {
		if f.lane == o.want.lane && (o.kind == endedReady || key == o.want.key) {
			delete(t.failures, key)
		}
	}
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

// clearLeftover closes what another leader had begun and nobody will go on with, since a newer checkpoint is there.
// What is still wanted gets a new attempt in its turn.
func (t *term) clearLeftover(ctx context.Context, view raftstore.View, wants []want) {
	for key := range t.leftover {
		r, ok := view.Replica(key)
		if !ok || !inFlight(r) {
			delete(t.leftover, key)
			continue
		}
		if slices.ContainsFunc(wants, func(w want) bool { return w.key == key }) {
			continue
		}
		of, fence := keyMessage(key), fenceMessage(raftstore.Fence{Epoch: view.JobEpoch(key.Route, r.Job), Attempt: r.Planned.Attempt})
		var cmd *raftv1.Command
		route, _ := view.Route(key.Route)
		switch newer := newerThan(view, r); {
		case newer != "":
			cmd = &raftv1.Command{Op: &raftv1.Command_SupersedeReplica{SupersedeReplica: &raftv1.SupersedeReplica{
				Key: of, Fence: fence, Reason: newer + overtook}}}
		case !pulls(view, route)(r.Job): // or the route could not be removed
			cmd = &raftv1.Command{Op: &raftv1.Command_FailReplica{FailReplica: &raftv1.FailReplica{Key: of, Fence: fence, Reason: errPaused.Error()}}}
		default:
			continue // it waits after a failure: it stays what it is
		}
		err := t.propose(ctx, cmd)
		if err != nil && ctx.Err() == nil {
			t.cfg.Log.Warn("an unfinished replica of an earlier leader can't be closed", "replica", key.String(), "err", err)
		}
		delete(t.leftover, key)
	}
}

// newerThan names a newer checkpoint of the replica's lane; empty when there is none.
func newerThan(view raftstore.View, r raftstore.Replica) string {
	known := view.JobKnown(r.Key.Route, r.Job)
	i := slices.IndexFunc(known, func(f raftstore.Found) bool { return keyOf(r.Key.Route, f) == r.Key })
	savepoint := r.Key.JobID == ""
	for _, f := range slices.Backward(known[i+1:]) {
		if f.Savepoint == savepoint {
			return label(f)
		}
	}
	return ""
}
