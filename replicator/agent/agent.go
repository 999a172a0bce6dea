package agent

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// Agent copies what its group gives to it, and decides for the group while it leads it. Its methods are safe for concurrent use.
type Agent struct {
	cfg Config

	mu        sync.Mutex // guards what only the worker knows
	polls     map[string]pollStatus
	pulls     map[string]pullStatus
	transfers map[task]*transfer
	heard     map[[2]string]heardJob       // by route and job
	copied    map[string]Total             // by route, of copies that have ended; kept from one leadership to the next
	limits    map[string]*replicator.Limit // by route; as long as copied

	link  *replicator.Limit // of all routes together
	tuned atomic.Pointer[Tunable]
	// As a leader: see members.go.
	leading uint64 // the term; 0: it doesn't lead
	since   time.Time
	members map[string]member
	stirred chan struct{} // has one when somebody came or went
}

// New checks the configuration. Nothing runs before Run.
func New(cfg Config) (*Agent, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	a := &Agent{cfg: cfg, copied: map[string]Total{}, limits: map[string]*replicator.Limit{}, link: replicator.NewLimit(cfg.LinkBytesPerSecond),
		members: map[string]member{}, transfers: map[task]*transfer{}, stirred: make(chan struct{}, 1)}
	a.tune(Tunable{cfg.Poll, cfg.SilentAfter, cfg.Parallel, cfg.FilesParallel, cfg.LinkBytesPerSecond})
	a.forget()
	return a, nil
}

// forget drops what a leader knew when it no longer leads.
func (a *Agent) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.polls, a.pulls = map[string]pollStatus{}, map[string]pullStatus{}
	a.heard = map[[2]string]heardJob{}
}

// Run copies what the state gives to this agent, and works in both roles whenever it leads: it watches each export and
// pulls each route of the state, also as they change. It returns nil when ctx has ended and everything that it started has stopped, or the group's error.
// What it was doing then goes on where it was when some agent leads again.
func (a *Agent) Run(ctx context.Context) error {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tasks.Go(func() { a.report(ctx) })
	tasks.Go(func() { a.work(ctx) })
	err := a.cfg.Group.WhileLeader(ctx, func(ctx context.Context, number uint64) error {
		a.cfg.Log.Info("leading", "agent", a.cfg.ID, "term", number)
		t := newTerm(a)
		a.leadsNow(number)
		defer a.leadsNow(0)
		defer a.forget()
		t.lead(ctx)
		a.cfg.Log.Info("not leading any more", "agent", a.cfg.ID, "term", number)
		return nil
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func newTerm(a *Agent) *term {
	return &term{agent: a, cfg: a.cfg, workers: map[string]*worker{}, flying: map[raftstore.Key]flight{}, planned: map[lane]planning{},
		failures: map[raftstore.Key]failure{}, held: map[string]failure{}, denied: map[string]map[lane]bool{}, waiting: map[lane]time.Time{}, done: make(chan planning)}
}

// term is one leadership. Its fields belong to lead's goroutine.
type term struct {
	agent *Agent
	cfg   Config

	tasks   sync.WaitGroup
	workers map[string]*worker

	// The copies: see coordinate.go.
	flying   map[raftstore.Key]flight
	planned  map[lane]planning // that are being proposed
	failures map[raftstore.Key]failure
	held     map[string]failure       // by route: its target takes nothing at the moment
	denied   map[string]map[lane]bool // by route: who lacked a permission since a copy got through
	waiting  map[lane]time.Time       // since when
	done     chan planning
}

// worker watches one export or one route.
type worker struct {
	as     []string // what it was started for
	cancel context.CancelFunc
	ended  chan struct{}
}

// lead works until ctx ends, and then waits for everything that it started.
func (t *term) lead(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer t.tasks.Wait()
	defer cancel()
	t.takeOver(t.cfg.Group.View())
	for _, chore := range t.cfg.WhileLeading {
		t.tasks.Go(func() { chore(ctx) })
	}
	for {
		changed := t.cfg.Group.Changed()
		began := time.Now()
		view := t.cfg.Group.View()
		t.watch(ctx, view)
		again := t.coordinate(ctx, view)
		// A pass costs more the more jobs there are. Breathing in between bounds what it takes of a busy group's leader.
		if pause := min(4*time.Since(began), time.Second); pause > time.Millisecond {
			if sleep(ctx, pause) != nil {
				return
			}
		}
		timer := time.NewTimer(again)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-changed:
		case <-timer.C:
		case <-t.agent.stirred:
		case p := <-t.done:
			t.planEnded(p)
		}
		timer.Stop()
		t.planEndings()
	}
}

// planEndings takes note of all plans that have ended by now: a pass for each would be one too many.
func (t *term) planEndings() {
	for {
		select {
		case p := <-t.done:
			t.planEnded(p)
		default:
			return
		}
	}
}

// watch starts and stops the work on exports and routes as they change.
func (t *term) watch(ctx context.Context, view raftstore.View) {
	wanted := map[string]bool{}
	for _, e := range view.Exports() {
		key := "export " + e.Name
		wanted[key] = true
		t.keep(ctx, key, e.Bases, func(ctx context.Context) { t.watchExport(ctx, e) })
	}
	for _, r := range view.Routes() {
		key := "route " + r.Name
		wanted[key] = true
		t.keep(ctx, key, []string{r.FromDC, r.FromExport, fmt.Sprintf("%q", r.Include), fmt.Sprintf("%q", r.Exclude)},
			func(ctx context.Context) { t.pull(ctx, r) })
	}
	for key, w := range t.workers {
		if !wanted[key] {
			w.cancel()
			delete(t.workers, key)
		}
	}
}

// keep has a worker run as it is wanted: another one takes its place when that is something else, once it has ended.
func (t *term) keep(ctx context.Context, key string, as []string, run func(context.Context)) {
	before := make(chan struct{})
	if old := t.workers[key]; old == nil {
		close(before)
	} else if slices.Equal(old.as, as) {
		return
	} else {
		old.cancel()
		before = old.ended
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &worker{as: as, cancel: cancel, ended: make(chan struct{})}
	t.workers[key] = w
	t.tasks.Go(func() {
		defer close(w.ended)
		<-before
		if ctx.Err() == nil {
			run(ctx)
		}
	})
}

func (t *term) propose(ctx context.Context, cmd *raftv1.Command) error {
	return raftstore.ProposeUntilKnown(ctx, t.cfg.Group, cmd)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
