package migrate

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ckptferry/ckptferry/raftstore"
)

// Start begins a migration as Plan says it. A job that is blocked keeps all of it from beginning: an operator who
// leaves it out knows that. It is idempotent: the same request again is done already; another one of the same name is
// raftstore.ErrConflict. Only the leader can; others say raftstore.ErrNotLeader.
func (r *Runner) Start(ctx context.Context, req Request) error {
	if name := req.Migration.StartHook; name != "" && len(r.cfg.Hooks[name]) == 0 {
		return fmt.Errorf("start migration %s: %w: no hook %q is in the agent's configuration (migrate.hooks)", req.Migration.Name, raftstore.ErrInvalid, name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.wake()
	view := r.cfg.Group.View()
	m := req.Migration
	if old, ok := view.Migration(m.Name); ok && len(view.MigrationJobs(m.Name)) > 0 {
		return req.same(view, old)
	}
	plan, err := Plan(view, req, r.Measures())
	if err != nil {
		return err
	}
	if blocked := plan.Blocked(); len(blocked) > 0 {
		more := ""
		if n := len(blocked); n > 5 {
			blocked, more = blocked[:5], fmt.Sprintf("; and %d more", n-5)
		}
		return fmt.Errorf("start migration %s: %w: not all of its jobs can be moved: %s%s; leave them out, or mend that", m.Name, ErrBlocked, strings.Join(blocked, "; "), more)
	}
	// A migration that has only some of its jobs must not move them: it begins when all are there.
	m.State = raftstore.MigrationPaused
	if err := r.putMigration(ctx, m); err != nil {
		return err
	}
	var jobs []raftstore.MigrationJob
	for _, p := range plan.Jobs {
		jobs = append(jobs, p.Job)
	}
	if err := r.put(ctx, m, jobs, jobs); err != nil {
		return err
	}
	m.State = raftstore.MigrationRunning
	if err := r.putMigration(ctx, m); err != nil {
		return err
	}
	r.cfg.Log.Info("a migration begins", "migration", m.Name, "route", m.Route, "jobs", len(jobs), "actor", m.Actor)
	return nil
}

// same says whether a request asks for the migration that is there.
func (r Request) same(v raftstore.View, old raftstore.Migration) error {
	differs := func(what string) error {
		return fmt.Errorf("start migration %s: %w: it exists since %s, with other %s; choose another name, or look at it: ckptferry migrate status %s",
			old.Name, raftstore.ErrConflict, old.CreatedAt.UTC().Format("2006-01-02T15:04:05Z"), what, old.Name)
	}
	m := r.Migration
	if m.Route != old.Route || m.MaxCutover != old.MaxCutover || m.ReadyWithin != old.ReadyWithin || m.StartHook != old.StartHook {
		return differs("settings")
	}
	route, err := r.check(v)
	if err != nil {
		return err
	}
	names, err := r.jobs(v, route)
	if err != nil {
		return err
	}
	jobs := v.MigrationJobs(old.Name)
	for _, j := range jobs {
		if !slices.Contains(names, j.Job) || r.JobManager != "" && j.JobManager != withJob(r.JobManager, j.Job) {
			return differs("jobs")
		}
	}
	if len(names) != len(jobs) {
		return differs("jobs")
	}
	return nil
}

// SetState pauses, resumes or aborts a migration. The same again is done already.
func (r *Runner) SetState(ctx context.Context, name string, to raftstore.MigrationState, actor string) error {
	if to != raftstore.MigrationRunning && to != raftstore.MigrationPaused && to != raftstore.MigrationAborted {
		return fmt.Errorf("set migration %s: %w: it can be made RUNNING, PAUSED or ABORTED, and not %s", name, raftstore.ErrInvalid, to)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.wake()
	m, ok := r.cfg.Group.View().Migration(name)
	switch {
	case !ok:
		return fmt.Errorf("%w: %q", raftstore.ErrUnknownMigration, name)
	case m.State == to:
		return nil
	case m.State.Ended():
		return fmt.Errorf("set migration %s to %s: %w: it is %s", name, to, raftstore.ErrMigrationEnded, m.State)
	}
	m.State, m.Actor = to, actor
	return r.putMigration(ctx, m)
}

// Report takes an operator's word for a job: COPYING says that it was stopped at the source, STARTED that it runs here,
// and ABORTED that it was not stopped although a stop was asked for, and goes on at the source. The same again is done
// already.
func (r *Runner) Report(ctx context.Context, name, job string, to raftstore.MigrationJobState) error {
	refused := func(j raftstore.MigrationJob, why string) error {
		return fmt.Errorf("report job %s of migration %s: %w: it is %s; %s", job, name, ErrBlocked, j.State, why)
	}
	defer r.wake()
	now := r.cfg.Now()
	var refusal error
	err := r.update(ctx, jobOf{name, job}, func(j *raftstore.MigrationJob) bool {
		is := j.State
		switch {
		case is == to:
			return false
		case to == raftstore.MigrationJobCopying && is == raftstore.MigrationJobStopping:
			if j.StoppingAt.IsZero() {
				j.StoppingAt = now
			}
			// Nobody but the operator knows how it stopped, so the storage says what was last.
			j.State, j.StopMode, j.StoppedAt, j.Problem = to, raftstore.StopManual, now, ""
		case to == raftstore.MigrationJobCopying && (is == raftstore.MigrationJobReady || is == raftstore.MigrationJobStarted):
			return false // it was stopped, and has come further since
		case to == raftstore.MigrationJobCopying:
			refusal = refused(*j, "only a job whose turn has come is stopped: migrate status says what it waits for")
		case to == raftstore.MigrationJobStarted && is == raftstore.MigrationJobReady:
			j.State, j.StartedAt, j.Problem = to, now, ""
		case to == raftstore.MigrationJobStarted:
			refusal = refused(*j, "only a job that is READY can have been started from its replica")
		case to == raftstore.MigrationJobAborted && is == raftstore.MigrationJobStopping:
			j.State, j.Problem = to, "an operator said that it was not stopped"
		case to == raftstore.MigrationJobAborted:
			refusal = refused(*j, "only of a job that is being stopped can it be said that it goes on")
		default:
			refusal = fmt.Errorf("report job %s: %w: say COPYING, STARTED or ABORTED, not %s", job, raftstore.ErrInvalid, to)
		}
		return refusal == nil
	})
	if refusal != nil {
		return refusal
	}
	return err
}
