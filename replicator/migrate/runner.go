package migrate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/agent"
	"github.com/ckptferry/ckptferry/replicator/migrate/flinkrest"
)

// Group is the datacenter's replicated state; *raftstore.Store is the one of the product.
type Group interface {
	Propose(ctx context.Context, cmd *raftv1.Command) error
	View() raftstore.View
	Changed() <-chan struct{}
}

// JobManager is Flink's REST API; *flinkrest.Client is the one of the product.
type JobManager interface {
	Job(ctx context.Context, id string) (flinkrest.Job, error)
	StopWithSavepoint(ctx context.Context, s flinkrest.Stop) (trigger string, err error)
	Savepoint(ctx context.Context, job, trigger string) (flinkrest.Savepoint, error)
	Cancel(ctx context.Context, id string) error
	Latest(ctx context.Context, id string) (flinkrest.Latest, error)
	Retains(ctx context.Context, id string) (bool, error)
}

// Promotion is what is asked of Config.Promote.
type Promotion struct {
	Migration raftstore.Migration
	Job       string
	Key       raftstore.Key
}

// ErrBlocked says that the request is right and the state does not allow it now.
var ErrBlocked = errors.New("not possible now")

// ErrNotPromoted says that a replica can't be promoted, and why; it stays so.
var ErrNotPromoted = errors.New("not promoted")

// Hook is a start hook that is to be run.
type Hook struct {
	Name string
	Argv []string
	Env  []string // name=value each, beside the agent's own
}

// Config is what a Runner works with. All but Log, Now, SilentAfter and Copies is needed.
type Config struct {
	ID    string // of this agent
	Group Group
	// Dial makes a client for a JobManager; nothing is asked yet.
	Dial func(address string) (JobManager, error)
	// Promote promotes a replica after it has looked at its files, as a failover does: idempotent; ErrNotPromoted when it
	// never will be.
	Promote func(ctx context.Context, p Promotion) error
	// Hooks are the commands that may be run, by name.
	Hooks map[string][]string
	// Run runs a hook until it ends; the error has what it said.
	Run func(ctx context.Context, h Hook) error
	// Poll is the time between two looks at the source's storage.
	Poll        time.Duration
	SilentAfter time.Duration // without news of a source, nothing is stopped; 0: agent.DefaultSilentAfter
	Copies      *Copies       // nil: nothing is measured
	Log         *slog.Logger  // nil discards
	Now         func() time.Time
}

// Runner carries migrations out while this agent leads, and changes them when it is asked to. It is safe for concurrent
// use.
type Runner struct {
	cfg Config

	mu    sync.Mutex // one change of a migration at a time: a change is made from what the state says of all its jobs
	busy  map[work]bool
	hooks map[jobOf]bool // this agent runs them, in this leadership
	fresh map[jobOf]bool // it was decided in this leadership that they are stopped
	woken chan struct{}
}

// jobOf is a job of a migration.
type jobOf struct{ migration, job string }

// work is something that is done for a job in a goroutine of its own.
type work struct {
	jobOf
	do task
}

// New checks the configuration.
func New(cfg Config) (*Runner, error) {
	if cfg.ID == "" || cfg.Group == nil || cfg.Dial == nil || cfg.Promote == nil || cfg.Run == nil || cfg.Poll <= 0 {
		return nil, errors.New("migrations need an agent, its group, Flink's REST API, a way to promote and to run hooks, and the poll interval")
	}
	if cfg.SilentAfter == 0 {
		cfg.SilentAfter = agent.DefaultSilentAfter
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Runner{cfg: cfg, busy: map[work]bool{}, hooks: map[jobOf]bool{}, fresh: map[jobOf]bool{}, woken: make(chan struct{}, 1)}, nil
}

// Measures are what predictions are made from.
func (r *Runner) Measures() Measures { return Measures{Poll: r.cfg.Poll, Copies: r.cfg.Copies} }

// The leader looks at its migrations whenever the state changes, and every so often for what only time brings.
const (
	lookEvery = time.Second
	lookLeast = 100 * time.Millisecond // between two looks: a busy group's state changes all the time
)

// WhileLeading carries migrations out until ctx ends, and returns when everything that it started has stopped. It is
// for agent.Config.WhileLeading.
func (r *Runner) WhileLeading(ctx context.Context) {
	var tasks sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		tasks.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		clear(r.hooks)
		clear(r.fresh)
	}()
	for ctx.Err() == nil {
		changed := r.cfg.Group.Changed()
		for _, m := range r.cfg.Group.View().Migrations() {
			for _, d := range r.look(ctx, m.Name) {
				r.begin(ctx, &tasks, m.Name, d)
			}
		}
		if sleep(ctx, lookLeast) != nil {
			return
		}
		timer := time.NewTimer(lookEvery)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-r.woken:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// look decides about all jobs of a migration, tells the state, and returns what is to be done then.
func (r *Runner) look(ctx context.Context, name string) []decision {
	r.mu.Lock()
	defer r.mu.Unlock()
	view := r.cfg.Group.View()
	m, ok := view.Migration(name)
	jobs := view.MigrationJobs(name)
	if !ok || m.State == raftstore.MigrationDone || len(jobs) == 0 {
		return nil
	}
	a := r.advance(view, m)
	wave := currentWave(jobs)
	var decisions []decision
	var changed []raftstore.MigrationJob
	for i, j := range jobs {
		d := a.next(j, wave)
		if d.job != j {
			changed = append(changed, d.job)
			r.tell(m, j, d.job)
		}
		if j.State == raftstore.MigrationJobWarming && d.job.State == raftstore.MigrationJobStopping {
			r.fresh[jobOf{name, j.Job}] = true
		}
		if d.do != taskNone {
			decisions = append(decisions, d)
		}
		jobs[i] = d.job
	}
	if err := r.put(ctx, m, jobs, changed); err != nil {
		if ctx.Err() == nil {
			r.cfg.Log.Warn("a migration does not go on just now", "migration", name, "err", err)
		}
		return nil // what is not written down is not done
	}
	return decisions
}

func (r *Runner) advance(view raftstore.View, m raftstore.Migration) advance {
	return advance{
		view: view, migration: m, now: r.cfg.Now(), agent: r.cfg.ID, measures: r.Measures(), silentAfter: r.cfg.SilentAfter,
		newTrigger: flinkrest.NewTrigger, hooked: func(job string) bool { return r.hooks[jobOf{m.Name, job}] },
	}
}

// put writes down what has changed of a migration's jobs, and what follows for it: a job that FAILED pauses it, so that
// what went wrong once doesn't happen to all; and when all is over it is DONE. jobs are all as they will be. r.mu is held.
func (r *Runner) put(ctx context.Context, m raftstore.Migration, jobs, changed []raftstore.MigrationJob) error {
	failed := slices.ContainsFunc(changed, func(j raftstore.MigrationJob) bool { return j.State == raftstore.MigrationJobFailed })
	waiting := slices.ContainsFunc(jobs, func(j raftstore.MigrationJob) bool {
		return j.State == raftstore.MigrationJobWaiting || j.State == raftstore.MigrationJobWarming
	})
	if failed && waiting && m.State == raftstore.MigrationRunning {
		// First of all: a leader that dies in between leaves a migration that is paused for a reason that comes again.
		m.State, m.Actor = raftstore.MigrationPaused, r.cfg.ID
		if err := r.putMigration(ctx, m); err != nil {
			return err
		}
		r.cfg.Log.Warn("a migration is paused, since a job failed", "migration", m.Name)
	}
	for part := range slices.Chunk(changed, jobsAtATime) {
		c := &raftv1.PutMigrationJobs{Migration: m.Name}
		for _, j := range part {
			c.Jobs = append(c.Jobs, jobMessage(j))
		}
		if err := r.propose(ctx, &raftv1.Command{Op: &raftv1.Command_PutMigrationJobs{PutMigrationJobs: c}}); err != nil {
			return fmt.Errorf("note how far jobs of migration %s are: %w", m.Name, err)
		}
	}
	if !m.State.Ended() && len(jobs) > 0 && !slices.ContainsFunc(jobs, func(j raftstore.MigrationJob) bool { return !over(j.State) }) {
		m.State, m.Actor = raftstore.MigrationDone, r.cfg.ID
		if err := r.putMigration(ctx, m); err != nil {
			return err
		}
		r.cfg.Log.Info("a migration is done", "migration", m.Name)
	}
	return nil
}

// jobsAtATime keeps a command within what the store takes: 64 KiB.
const jobsAtATime = 20

func (r *Runner) putMigration(ctx context.Context, m raftstore.Migration) error {
	c := &raftv1.PutMigration{Migration: raftstore.MigrationMessage(m)}
	if err := r.propose(ctx, &raftv1.Command{Op: &raftv1.Command_PutMigration{PutMigration: c}}); err != nil {
		return fmt.Errorf("set migration %s to %s: %w", m.Name, m.State, err)
	}
	return nil
}

// propose asks again when nobody can say whether the group agreed: the same again is done already.
func (r *Runner) propose(ctx context.Context, cmd *raftv1.Command) error {
	err := r.cfg.Group.Propose(ctx, cmd)
	for try := 0; try < 3 && errors.Is(err, raftstore.ErrOutcomeUnknown) && ctx.Err() == nil; try++ {
		if sleep(ctx, 50*time.Millisecond) == nil {
			err = r.cfg.Group.Propose(ctx, cmd)
		}
	}
	return err
}

// jobMessage is a job as it is written down: with sentences that the state takes.
func jobMessage(j raftstore.MigrationJob) *ckptferryv1.MigrationJob {
	j.Problem = oneLine(j.Problem)
	return raftstore.MigrationJobMessage(j)
}

// oneLine is a sentence that the state takes, also where it has what Flink or a hook said.
func oneLine(s string) string {
	const most = 1000
	s = strings.Join(strings.Fields(strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(s, "�"))), " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// begin does what a decision asks for, unless it is under way.
func (r *Runner) begin(ctx context.Context, tasks *sync.WaitGroup, migration string, d decision) {
	w := work{jobOf{migration, d.job.Job}, d.do}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy[w] {
		return
	}
	r.busy[w] = true
	tasks.Go(func() {
		defer r.ended(w)
		switch w.do {
		case taskStop:
			r.stop(ctx, w.jobOf)
		case taskConfirm:
			r.confirm(ctx, w.jobOf)
		case taskPromote:
			r.promote(ctx, w.jobOf, d.key)
		case taskHook:
			r.hook(ctx, w.jobOf)
		}
	})
	if w.do == taskHook {
		r.hooks[w.jobOf] = true
	}
}

func (r *Runner) ended(w work) {
	r.mu.Lock()
	delete(r.busy, w)
	r.mu.Unlock()
	r.wake()
}

func (r *Runner) wake() {
	select {
	case r.woken <- struct{}{}:
	default:
	}
}

// job is how far a job of a migration is now.
func (r *Runner) job(of jobOf) (raftstore.Migration, raftstore.MigrationJob, bool) {
	view := r.cfg.Group.View()
	m, known := view.Migration(of.migration)
	j, has := view.MigrationJob(of.migration, of.job)
	return m, j, known && has
}

// update changes one job as it is now. change says false when there is nothing to change, or no longer.
func (r *Runner) update(ctx context.Context, of jobOf, change func(j *raftstore.MigrationJob) bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, j, ok := r.job(of)
	if !ok {
		return fmt.Errorf("%w: %s, or it has no job %s", raftstore.ErrUnknownMigration, of.migration, of.job)
	}
	before := j
	if !change(&j) || j == before {
		return nil
	}
	jobs := r.cfg.Group.View().MigrationJobs(of.migration)
	for i := range jobs {
		if jobs[i].Job == j.Job {
			jobs[i] = j
		}
	}
	r.tell(m, before, j)
	return r.put(ctx, m, jobs, []raftstore.MigrationJob{j})
}

// tell logs a step of a job.
func (r *Runner) tell(m raftstore.Migration, before, after raftstore.MigrationJob) {
	log := r.cfg.Log.With("migration", m.Name, "route", m.Route, "job", after.Job)
	switch {
	case before.State == after.State && after.Problem != "":
		log.Info("a job of a migration waits", "state", after.State.String(), "for", after.Problem)
	case after.State == raftstore.MigrationJobFailed:
		log.Warn("a job of a migration failed", "was", before.State.String(), "problem", after.Problem)
	case before.State != after.State:
		log.Info("a job of a migration goes on", "was", before.State.String(), "state", after.State.String())
	}
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
