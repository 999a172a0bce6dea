package migrate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// promote makes the job's last replica what it goes on from. That it did is seen in the state, by this leader's next look
// or another's.
func (r *Runner) promote(ctx context.Context, of jobOf, key raftstore.Key) {
	m, j, ok := r.job(of)
	if !ok || j.State != raftstore.MigrationJobCopying {
		return
	}
	err := r.cfg.Promote(ctx, Promotion{Migration: m, Job: of.job, Key: key})
	switch {
	case err == nil || ctx.Err() != nil:
		return
	case errors.Is(err, ErrNotPromoted) && r.cfg.Now().Sub(r.readyAt(key)) > promoteWithin:
		replica, _ := r.cfg.Group.View().Replica(key)
		// What can't be written is decided anew.
		_ = r.update(ctx, of, func(j *raftstore.MigrationJob) bool {
			j.State = raftstore.MigrationJobFailed
			j.Problem = fmt.Sprintf("the job is stopped, its last state is READY here at %s, and was not promoted: %v. Mend that and promote it (ckptferry failover plan %s), or start it again at the source", replica.URI, err, j.Job)
			return true
		})
	default:
		r.cfg.Log.Warn("a replica is not promoted just now", "migration", of.migration, "job", of.job, "replica", key.String(), "err", err)
		_ = r.update(ctx, of, func(j *raftstore.MigrationJob) bool {
			j.Problem = oneLine(fmt.Sprintf("its last state is READY here, and is not promoted yet: %v", err))
			return j.State == raftstore.MigrationJobCopying
		})
		_ = sleep(ctx, time.Second)
	}
}

// promoteWithin is how long a replica that is READY is tried to be promoted: storage that doesn't answer may come back.
const promoteWithin = time.Minute

func (r *Runner) readyAt(key raftstore.Key) time.Time {
	replica, _ := r.cfg.Group.View().Replica(key)
	return replica.ReadyAt
}

// hookWithin bounds a start hook: `flink run -d` of a large job takes a minute.
const hookWithin = 10 * time.Minute

// hook runs the start hook of a job that is READY, once. This agent is in the state as the one that does.
func (r *Runner) hook(ctx context.Context, of jobOf) {
	m, j, ok := r.job(of)
	if !ok || j.State != raftstore.MigrationJobReady || j.StartAgent != r.cfg.ID {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, hookWithin)
	defer cancel()
	h, err := r.hookOf(m, j)
	if err == nil {
		r.cfg.Log.Info("a start hook runs", "migration", m.Name, "job", j.Job, "hook", h.Name, "replica", j.Replica)
		err = r.cfg.Run(ctx, h)
	}
	now := r.cfg.Now()
	for {
		told := r.update(ctx, of, func(j *raftstore.MigrationJob) bool {
			switch {
			case j.State != raftstore.MigrationJobReady:
				return false // the operator was faster
			case err == nil:
				j.State, j.StartedAt, j.Problem = raftstore.MigrationJobStarted, now, ""
			default:
				j.Problem = oneLine(fmt.Sprintf("the hook %s failed on agent %s: %v. Start the job from %s, and say so: ckptferry migrate started %s %s", m.StartHook, r.cfg.ID, err, j.Replica, m.Name, j.Job))
			}
			return true
		})
		// The job may run: that must be written down, as long as this agent leads.
		if told == nil || sleep(ctx, time.Second) != nil {
			return
		}
	}
}

// hookOf is the command, with what it is told.
func (r *Runner) hookOf(m raftstore.Migration, j raftstore.MigrationJob) (Hook, error) {
	argv := r.cfg.Hooks[m.StartHook]
	if len(argv) == 0 {
		return Hook{}, fmt.Errorf("this agent's configuration has no hook of this name (migrate.hooks)")
	}
	line, err := StartLine(r.cfg.Group.View(), j)
	if err != nil {
		return Hook{}, err
	}
	return Hook{Name: m.StartHook, Argv: argv, Env: []string{
		"CKPTFERRY_MIGRATION=" + m.Name, "CKPTFERRY_ROUTE=" + m.Route, "CKPTFERRY_JOB=" + j.Job, "CKPTFERRY_REPLICA=" + j.Replica,
		"CKPTFERRY_START_LINE=" + line.Run, "CKPTFERRY_CLAIM_MODE=" + string(line.Mode),
	}}, nil
}

// StartLine is how Flink is started from what a job of a migration goes on from.
func StartLine(v raftstore.View, j raftstore.MigrationJob) (replicator.StartLine, error) {
	r, ok := v.Replica(j.Key)
	if !ok {
		return replicator.StartLine{}, fmt.Errorf("start line of job %s: %w: %s", j.Job, raftstore.ErrUnknownReplica, j.Key)
	}
	return replicator.Start(replicator.StartRequest{Path: j.Replica, Facts: factsOf(r.Facts)})
}

// factsOf are the facts that the state keeps of a replica.
func factsOf(f raftstore.RestoreFacts) replicator.RestoreFacts {
	return replicator.RestoreFacts(f)
}
