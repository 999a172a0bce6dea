package agent

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/ckptferry/ckptferry/raftstore"
)

// Every agent of a group copies what the state has given to it, whoever leads: the plan of a replica names the agent that
// makes it. Nothing in the state runs out by a clock. Who is given up for dead is the leader's to say, by giving the
// replica to another agent under a higher attempt; from then on the state refuses what the first one still says.

// task is what the state has given to this agent: a replica to make, or a share of one.
type task struct {
	key     raftstore.Key
	planned raftstore.Fence
	share   int // 1 and up: the share that it helps with; 0: it makes the replica
}

// taskOf is what of a replica is this agent's.
func taskOf(r raftstore.Replica, id string) (task, bool) {
	if r.Agent == id {
		return task{r.Key, r.Planned, 0}, true
	}
	i := slices.IndexFunc(r.Shards, func(s raftstore.Shard) bool { return s.Agent == id && !s.Done && !s.Lost })
	return task{r.Key, r.Planned, i + 1}, i >= 0 && r.Status == raftstore.StatusCopying
}

// againAfter is how long a task rests whose end the state didn't want to hear of, and which is still this agent's.
const againAfter = 10 * time.Second

var (
	// errPaused ends the copies of a route that pulls nothing any more.
	errPaused = errors.New("the route is paused, or takes this job no longer: what was copied is kept, and used when it goes on")
	// errTaken ends a copy that is not this agent's any more. The state isn't told: it knows.
	errTaken = errors.New("the replica is another agent's now, or nobody's")
)

// runner runs the tasks of this agent. Its fields belong to work's goroutine.
type runner struct {
	*Agent
	running map[task]context.CancelCauseFunc
	rests   map[task]time.Time // not begun again before
	done    chan task
	tasks   sync.WaitGroup
}

// work runs what the state gives to this agent until ctx ends, and then waits for all of it to stop.
func (a *Agent) work(ctx context.Context) {
	w := &runner{Agent: a, running: map[task]context.CancelCauseFunc{}, rests: map[task]time.Time{}, done: make(chan task)}
	defer w.tasks.Wait()
	for {
		changed := a.cfg.Group.Changed()
		view := a.cfg.Group.View()
		a.throttle(view)
		timer := time.NewTimer(w.follow(ctx, view))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-changed:
		case <-timer.C:
		case t := <-w.done:
			delete(w.running, t)
			w.rests[t] = time.Now().Add(againAfter)
		}
		timer.Stop()
	}
}

// follow starts and stops tasks as the state says, and returns when to look again if it doesn't change.
func (w *runner) follow(ctx context.Context, view raftstore.View) time.Duration {
	given := map[task]raftstore.Replica{}
	for r := range view.InFlight() {
		if t, mine := taskOf(r, w.cfg.ID); mine && r.Planned.Epoch == view.JobEpoch(r.Key.Route, r.Job) {
			given[t] = r
		}
	}
	for t, cancel := range w.running {
		if r, still := given[t]; !still {
			cancel(errTaken)
		} else if !pullsJob(view, r.Key.Route, r.Job) {
			cancel(errPaused)
		}
	}
	for t := range w.rests {
		if _, still := given[t]; !still {
			delete(w.rests, t)
		}
	}
	var due []task
	again := idle
	for t := range given {
		rest := time.Until(w.rests[t])
		switch {
		case w.running[t] != nil:
		case rest > 0:
			again = min(again, rest)
		default:
			due = append(due, t)
		}
	}
	slices.SortFunc(due, func(a, b task) int {
		return cmp.Or(given[a].PlannedAt.Compare(given[b].PlannedAt), cmp.Compare(a.key.String(), b.key.String()))
	})
	for _, t := range due {
		w.start(ctx, view, given[t], t)
	}
	return again
}

func (w *runner) start(life context.Context, view raftstore.View, r raftstore.Replica, t task) {
	ctx, cancel := context.WithCancelCause(life)
	w.running[t] = cancel
	if !pullsJob(view, r.Key.Route, r.Job) {
		cancel(errPaused) // it has only to be said: this agent was away when the route was paused
	}
	w.tasks.Go(func() {
		defer cancel(nil)
		c := &copying{Agent: w.Agent, task: t, replica: r}
		if t.share == 0 {
			c.make(ctx, life, view)
		} else {
			c.help(ctx, life, view)
		}
		select {
		case w.done <- t:
		case <-life.Done():
		}
	})
}

// pullsJob says whether a route wants copies of a job now.
func pullsJob(view raftstore.View, route, job string) bool {
	r, _ := view.Route(route) // one that is gone pulls nothing
	return pulls(view, r)(job) && !promoted(view, route, job)
}

// promoted says whether the job goes on at this side: what its source still writes must not come over it.
func promoted(view raftstore.View, route, job string) bool {
	p, ok := view.Promotion(route, job)
	return ok && p.State == raftstore.PromotionActive
}
