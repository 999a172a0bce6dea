package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/migrate/flinkrest"
)

// How often a JobManager is asked: while a job stops, each wait is a part of its absence.
const (
	askEvery       = 200 * time.Millisecond
	askEverySilent = 2 * time.Second
)

// stop has Flink stop a job and notes when it has. It may be the second agent that tries: what was asked before counts.
// It ends when the job is in another state, or ctx has ended. As long as nobody knows whether the job has stopped, it
// stays STOPPING with a problem; an operator who knows says so (Report).
func (r *Runner) stop(ctx context.Context, of jobOf) {
	r.mu.Lock()
	s := stopping{Runner: r, of: of, fresh: r.fresh[of]}
	r.mu.Unlock()
	for ctx.Err() == nil {
		_, j, ok := r.job(of)
		if !ok || j.State != raftstore.MigrationJobStopping || j.StopMode == raftstore.StopManual {
			return
		}
		wait := askEvery
		if err := s.once(ctx, j); err != nil && ctx.Err() == nil {
			s.waits(ctx, err)
			wait = askEverySilent
		}
		if sleep(ctx, wait) != nil {
			return
		}
	}
}

// stopping is the stop of one job.
type stopping struct {
	*Runner
	of     jobOf
	jm     JobManager
	fresh  bool // nobody has asked for it before this leadership
	asked  bool // by this agent, in this leadership
	checks bool // that a cancel leaves the checkpoints was asked
}

// once asks the JobManager once. Its error is what keeps the job from being stopped just now.
func (s *stopping) once(ctx context.Context, j raftstore.MigrationJob) error {
	if s.jm == nil {
		jm, err := s.cfg.Dial(j.JobManager)
		if err != nil {
			return s.failed(ctx, "it was not stopped, and goes on at the source: %v", err)
		}
		s.jm = jm
	}
	if j.StopMode == raftstore.StopSavepoint {
		sp, err := s.jm.Savepoint(ctx, string(j.JobID), j.StopRequest)
		switch {
		case errors.Is(err, flinkrest.ErrNotFound):
		case err != nil:
			return err
		case !sp.Done:
			return s.asks(ctx)
		case sp.Failure != "":
			return s.failed(ctx, "Flink could not stop it with a savepoint: %s. %s. Mend that and make a new migration of it", strings.TrimRight(sp.Failure, "."), s.stillRuns(ctx, j))
		default:
			return s.stopped(ctx, sp.Location)
		}
	}
	job, err := s.jm.Job(ctx, string(j.JobID))
	switch {
	case errors.Is(err, flinkrest.ErrNotFound) && s.fresh && !s.asked:
		return s.failed(ctx, "it was not stopped: %v; its newest checkpoint says that this is its JobID. Does it run elsewhere, or was it submitted anew and has no checkpoint yet?", err)
	case errors.Is(err, flinkrest.ErrNotFound):
		return fmt.Errorf("%w; whether it was stopped is not known. If it has stopped, say so: ckptferry migrate stopped %s %s; if it goes on: ckptferry migrate running %[2]s %[3]s", err, s.of.migration, s.of.job)
	case err != nil:
		return err
	case job.State.Ended():
		return s.ended(ctx, j, job)
	case job.State != flinkrest.Running:
		if !s.asked {
			return fmt.Errorf("job %s is %s: it is stopped when it is RUNNING", j.JobID, job.State)
		}
		return nil // on its way
	}
	return s.ask(ctx, j)
}

// ask asks for the stop that is written down.
func (s *stopping) ask(ctx context.Context, j raftstore.MigrationJob) error {
	if j.StopMode == raftstore.StopCancel {
		if !s.checks {
			retains, err := s.jm.Retains(ctx, string(j.JobID))
			if err != nil {
				return err
			}
			if !retains {
				return s.failed(ctx, "it was not stopped, and goes on at the source: Flink would delete its checkpoints when it is cancelled. Set execution.checkpointing.externalized-checkpoint-retention: RETAIN_ON_CANCELLATION, or move it with a savepoint (--stop savepoint)")
			}
			s.checks = true
		}
		if err := s.jm.Cancel(ctx, string(j.JobID)); err != nil {
			return s.refused(ctx, err)
		}
		s.asked = true
		return s.asks(ctx)
	}
	trigger, err := s.jm.StopWithSavepoint(ctx, flinkrest.Stop{JobID: string(j.JobID), Trigger: j.StopRequest, Directory: j.SavepointDirectory})
	if err != nil {
		return s.refused(ctx, err)
	}
	s.asked = true
	return s.update(ctx, s.of, func(j *raftstore.MigrationJob) bool {
		j.StopRequest, j.Problem = trigger, "" // a Flink before 1.15 has chosen one of its own
		return j.State == raftstore.MigrationJobStopping
	})
}

// refused is what Flink said to a stop: its refusal is the end, anything else is tried again.
func (s *stopping) refused(ctx context.Context, err error) error {
	if errors.Is(err, flinkrest.ErrRefused) || errors.Is(err, flinkrest.ErrNotFound) {
		if _, j, ok := s.job(s.of); ok {
			if job, asked := s.jm.Job(ctx, string(j.JobID)); asked == nil && job.State.Ended() {
				return nil // it ended by itself meanwhile: seen at the next look
			}
		}
		return s.failed(ctx, "it was not stopped, and goes on at the source: %v", err)
	}
	return err
}

// ended is a job that runs no more, and Flink doesn't say that it has stopped as it was asked to: the answer is too old
// by now, or somebody else ended it.
func (s *stopping) ended(ctx context.Context, j raftstore.MigrationJob, job flinkrest.Job) error {
	if job.State != flinkrest.Finished {
		return s.stopped(ctx, "") // its last checkpoint is asked for: confirm
	}
	latest, err := s.jm.Latest(ctx, string(j.JobID))
	switch {
	case err != nil:
		return err
	case j.StopMode == raftstore.StopSavepoint && latest.Savepoint != nil && !latest.Savepoint.Discarded:
		return s.stopped(ctx, latest.Savepoint.Path)
	}
	return s.failed(ctx, "it has finished by itself at the source, and Flink deletes the checkpoints of a job that does: there is nothing to go on from, and nothing to do if that was its end")
}

// stillRuns says what has become of a job whose savepoint failed.
func (s *stopping) stillRuns(ctx context.Context, j raftstore.MigrationJob) string {
	job, err := s.jm.Job(ctx, string(j.JobID))
	if err != nil {
		return fmt.Sprintf("Whether it still runs is not known (%v)", err)
	}
	return fmt.Sprintf("It is %s at the source", job.State)
}

func (s *stopping) stopped(ctx context.Context, at string) error {
	now := s.cfg.Now()
	return s.update(ctx, s.of, func(j *raftstore.MigrationJob) bool {
		if j.State != raftstore.MigrationJobStopping {
			return false
		}
		j.State, j.StoppedAt, j.StoppedURI, j.Problem = raftstore.MigrationJobCopying, now, at, ""
		if j.StopMode == raftstore.StopSavepoint && at == "" {
			j.StopMode = raftstore.StopCancel // that is what it came to: its last checkpoint counts
		}
		return true
	})
}

func (s *stopping) failed(ctx context.Context, format string, args ...any) error {
	problem := fmt.Sprintf(format, args...)
	return s.update(ctx, s.of, func(j *raftstore.MigrationJob) bool {
		if j.State != raftstore.MigrationJobStopping {
			return false
		}
		j.State, j.Problem = raftstore.MigrationJobFailed, problem
		return true
	})
}

// asks says that all goes well.
func (s *stopping) asks(ctx context.Context) error {
	return s.update(ctx, s.of, func(j *raftstore.MigrationJob) bool {
		j.Problem = ""
		return j.State == raftstore.MigrationJobStopping
	})
}

// waits says what keeps the job from being stopped; what can't be written is written at the next try.
func (s *stopping) waits(ctx context.Context, why error) {
	_ = s.update(ctx, s.of, func(j *raftstore.MigrationJob) bool {
		j.Problem = oneLine(why.Error())
		return j.State == raftstore.MigrationJobStopping
	})
}

// confirmWithin is how long a JobManager is asked for the last checkpoint of a job that it has cancelled. A cluster that
// ends with its job says nothing any more; then what the source's storage has counts.
const confirmWithin = 20 * time.Second

// confirm finds out which checkpoint of a cancelled job was its last. What Flink says may be as old as
// flinkrest.StaleFor, and a checkpoint that it completed in that time must not be missed: its job's sinks have
// committed what belongs to it.
func (r *Runner) confirm(ctx context.Context, of jobOf) {
	_, j, ok := r.job(of)
	if !ok || j.State != raftstore.MigrationJobCopying || j.StoppedURI != "" {
		return
	}
	if sleep(ctx, j.StoppedAt.Add(flinkrest.StaleFor).Sub(r.cfg.Now())) != nil {
		return
	}
	jm, err := r.cfg.Dial(j.JobManager)
	var latest flinkrest.Latest
	if err == nil {
		latest, err = jm.Latest(ctx, string(j.JobID))
	}
	change := func(set func(j *raftstore.MigrationJob)) {
		// What can't be written is asked again: the decision is made anew.
		_ = r.update(ctx, of, func(j *raftstore.MigrationJob) bool {
			set(j)
			return true
		})
	}
	switch {
	case ctx.Err() != nil:
	case err == nil && latest.Checkpoint != nil && !latest.Checkpoint.Discarded:
		change(func(j *raftstore.MigrationJob) { j.StoppedURI, j.Problem = latest.Checkpoint.Path, "" })
	case err == nil && latest.Checkpoint != nil:
		change(func(j *raftstore.MigrationJob) {
			j.State = raftstore.MigrationJobFailed
			j.Problem = fmt.Sprintf("the job is stopped, and Flink has deleted its last checkpoint %s: what is READY here is older. `ckptferry failover plan %s` says what there is", latest.Checkpoint.Path, j.Job)
		})
	case r.cfg.Now().Sub(j.StoppedAt) > confirmWithin || err == nil:
		// Nothing that Flink still knows: the storage says what was last, once it was looked at.
		change(func(j *raftstore.MigrationJob) { j.StopMode = raftstore.StopManual })
	default:
		change(func(j *raftstore.MigrationJob) {
			j.Problem = oneLine(fmt.Sprintf("it is stopped; which checkpoint was its last is not known yet: %v", err))
		})
		_ = sleep(ctx, time.Second)
	}
}
