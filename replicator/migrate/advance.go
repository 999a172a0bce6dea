package migrate

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/ckptferry/ckptferry/raftstore"
)

// DefaultReadyWithin is how long a stopped job's last checkpoint may take to be READY.
const DefaultReadyWithin = 10 * time.Minute

// task is what is to be done outside of the state for a job.
type task int

const (
	taskNone    task = iota
	taskStop         // have Flink stop it
	taskConfirm      // ask Flink for the last checkpoint of a job that was cancelled
	taskPromote      // promote its last replica
	taskHook         // run the start hook
)

// advance decides about the jobs of one migration from what the state says. It is pure; now is this agent's clock.
type advance struct {
	view        raftstore.View
	migration   raftstore.Migration
	now         time.Time
	agent       string // this one
	measures    Measures
	silentAfter time.Duration
	newTrigger  func() string
	hooked      func(job string) bool // this agent runs the job's hook just now, in this leadership
}

// decision is what becomes of a job.
type decision struct {
	job raftstore.MigrationJob // as it shall be in the state
	do  task                   // once it is
	key raftstore.Key          // for taskPromote
}

// over says that nothing more will happen to a job, as far as waves are concerned: one that is READY may be nowhere.
func over(s raftstore.MigrationJobState) bool {
	return s == raftstore.MigrationJobStarted || s == raftstore.MigrationJobFailed || s == raftstore.MigrationJobAborted
}

// currentWave is the lowest that is not over; 0: all are.
func currentWave(jobs []raftstore.MigrationJob) int32 {
	var wave int32
	for _, j := range jobs {
		if !over(j.State) && (wave == 0 || j.Wave < wave) {
			wave = j.Wave
		}
	}
	return wave
}

// next is the decision about one job.
func (a advance) next(j raftstore.MigrationJob, wave int32) decision {
	aborted := a.migration.State == raftstore.MigrationAborted
	switch j.State {
	case raftstore.MigrationJobWaiting:
		switch {
		case aborted:
			return a.abort(j)
		case j.Wave <= wave+1: // the next wave is made warm while the current one moves
			j.State, j.Problem = raftstore.MigrationJobWarming, ""
		}
	case raftstore.MigrationJobWarming:
		if aborted {
			return a.abort(j)
		}
		return a.warming(j, wave)
	case raftstore.MigrationJobStopping:
		switch {
		case j.StopMode != raftstore.StopManual:
			return decision{job: j, do: taskStop}
		case aborted:
			return a.abort(j)
		}
	case raftstore.MigrationJobCopying:
		return a.copying(j)
	case raftstore.MigrationJobReady:
		return a.ready(j, aborted)
	}
	return decision{job: j}
}

func (a advance) abort(j raftstore.MigrationJob) decision {
	j.State, j.Problem = raftstore.MigrationJobAborted, ""
	return decision{job: j}
}

func (a advance) fail(j raftstore.MigrationJob, format string, args ...any) decision {
	j.State, j.Problem = raftstore.MigrationJobFailed, fmt.Sprintf(format, args...)
	return decision{job: j}
}

// warming waits until the job may be stopped, and says what it waits for. The sentence has no number that changes, so
// that waiting writes nothing to the log.
func (a advance) warming(j raftstore.MigrationJob, wave int32) decision {
	route, ok := a.view.Route(a.migration.Route)
	if !ok {
		return a.fail(j, "route %s was removed: the job goes on at the source; apply the route again and make a new migration", a.migration.Route)
	}
	if p, ok := a.view.Promotion(route.Name, j.Job); ok && p.State == raftstore.PromotionActive {
		return a.fail(j, "it was promoted by somebody else meanwhile, from %s; it was not stopped by this migration: see to it that it does not run twice", p.Replica)
	}
	j.Problem = a.cold(route, j)
	prediction := Predict(a.view, j, route.Name, a.measures)
	switch {
	case j.Problem != "":
	case a.migration.State == raftstore.MigrationPaused:
		j.Problem = "it is warm, and the migration is paused"
	case j.Wave > wave:
		j.Problem = fmt.Sprintf("it is warm, and waits for the end of wave %d", wave)
	case a.migration.MaxCutover > 0 && prediction.Total > a.migration.MaxCutover:
		j.Problem = fmt.Sprintf("its predicted cut-over is longer than %s (--max-cutover): it is stopped when there is less to copy", a.migration.MaxCutover)
	default:
		return a.stopping(j, prediction)
	}
	return decision{job: j}
}

// stopping is written down before anybody is asked, so that whoever leads next asks for the same stop.
func (a advance) stopping(j raftstore.MigrationJob, p Prediction) decision {
	newest, ok := newestCheckpoint(a.view, a.migration.Route, j.Job)
	if ok {
		j.JobID = newest.JobID // it may have been submitted anew since it was planned
	}
	j.State, j.PredictedCutover, j.Problem = raftstore.MigrationJobStopping, p.Total, ""
	if j.StopMode == raftstore.StopManual {
		j.Problem = fmt.Sprintf("stop it at the source now, with a savepoint or so that its checkpoints stay, and say so: ckptferry migrate stopped %s %s", a.migration.Name, j.Job)
		return decision{job: j}
	}
	j.StoppingAt, j.StopRequest = a.now, a.newTrigger()
	return decision{job: j, do: taskStop}
}

// cold is why a job's replica is not near enough to what the source has; empty: it is warm.
func (a advance) cold(route raftstore.Route, j raftstore.MigrationJob) string {
	seen := a.view.SeenAt(route.Name)
	switch {
	case route.Mode == raftstore.RoutePaused:
		return fmt.Sprintf("route %s is paused, so nothing of it is copied: apply it with another mode", route.Name)
	case seen.IsZero() || a.now.Sub(seen) > a.silentAfter:
		return fmt.Sprintf("source %s is silent: look at its agents, and at the link to them", route.FromDC)
	}
	ready, ok := newestReady(a.view, route.Name, j.Job)
	if !ok {
		return "no replica of it is READY yet"
	}
	known := slices.DeleteFunc(a.view.JobKnown(route.Name, j.Job), func(f raftstore.Found) bool { return f.Savepoint })
	at := slices.IndexFunc(known, func(f raftstore.Found) bool { return keyOf(route.Name, f) == ready.Key })
	// The newest one may be on its way: copying it is what takes a job's time between two checkpoints.
	if at < 0 || at < len(known)-2 {
		return "its newest READY replica is more than one checkpoint behind"
	}
	return ""
}

// copying waits for the last state of a job that has stopped.
func (a advance) copying(j raftstore.MigrationJob) decision {
	route := a.migration.Route
	var wait string
	switch found, ok := a.lastState(j); {
	case j.StoppedURI == "" && j.StopMode != raftstore.StopManual:
		return decision{job: j, do: taskConfirm}
	case !ok && j.StopMode == raftstore.StopManual && j.StoppedURI == "":
		wait = "the source's storage was not looked at since it was stopped, or it has no checkpoint of the job"
	case !ok:
		wait = fmt.Sprintf("the source has not found %s: does it lie below a base of the export?", j.StoppedURI)
	default:
		if j.StoppedURI == "" {
			j.StoppedURI = found.URI
		}
		key := keyOf(route, found)
		if p, ok := a.view.Promotion(route, j.Job); ok && p.State == raftstore.PromotionActive {
			if p.Key == key {
				return decision{job: a.isReady(j, p)}
			}
			return a.fail(j, "it is stopped, and was promoted by somebody else from %s, which is not its last state (%s): start it from there, or end that promotion", p.Replica, j.StoppedURI)
		}
		r, planned := a.view.Replica(key)
		switch {
		case planned && raftstore.Offerable(r):
			return decision{job: j, do: taskPromote, key: key}
		case !planned:
			wait = "its copy has not begun"
		case r.Reason != "":
			wait = fmt.Sprintf("its replica is %s: %s", r.Status, r.Reason)
		default:
			wait = fmt.Sprintf("its replica is %s", r.Status)
		}
	}
	if within := a.readyWithin(); a.now.Sub(j.StoppedAt) > within {
		return a.fail(j, "%s", notReady(j, within, wait))
	}
	return decision{job: j}
}

func (a advance) readyWithin() time.Duration {
	if a.migration.ReadyWithin > 0 {
		return a.migration.ReadyWithin
	}
	return DefaultReadyWithin
}

// notReady says what has become of a job that is stopped and could not be moved in time.
func notReady(j raftstore.MigrationJob, within time.Duration, why string) string {
	if j.StoppedURI == "" {
		return fmt.Sprintf("the job is stopped, and its last checkpoint is not READY here after %s: %s. It can be started again at the source from its last checkpoint there", within, why)
	}
	return fmt.Sprintf("the job is stopped, its last state is %s at the source, and not READY here after %s: %s. It can be started again at the source: flink run -s %s; or, once it is READY here: ckptferry failover plan %s",
		j.StoppedURI, within, why, j.StoppedURI, j.Job)
}

// isReady is a job whose promotion is in the state.
func (a advance) isReady(j raftstore.MigrationJob, p raftstore.Promotion) raftstore.MigrationJob {
	j.State, j.ReadyAt, j.Key, j.Replica, j.Problem = raftstore.MigrationJobReady, p.PromotedAt, p.Key, p.Replica, ""
	if r, ok := a.view.Replica(p.Key); ok {
		j.Bytes = r.Bytes
	}
	return j
}

// settled says when, after a job was stopped by hand, a look at its storage counts as one that saw all of it: one that was
// under way, and one that began before, are over by then.
func settled(poll time.Duration) time.Duration { return max(3*poll, 3*time.Second) }

// lastState finds what a stopped job goes on from among what the source has found. URIs are not compared whole: the JobManager
// and the export may name one place in two ways.
func (a advance) lastState(j raftstore.MigrationJob) (raftstore.Found, bool) {
	known := a.view.JobKnown(a.migration.Route, j.Job)
	if j.StoppedURI == "" {
		if j.StopMode != raftstore.StopManual || a.view.SeenAt(a.migration.Route).Before(j.StoppedAt.Add(settled(a.measures.Poll))) {
			return raftstore.Found{}, false
		}
		return lastOf(known)
	}
	name := path.Base(j.StoppedURI)
	for _, f := range slices.Backward(known) {
		if path.Base(f.URI) == name && (f.Savepoint || f.JobID == j.JobID) {
			return f, true
		}
	}
	return raftstore.Found{}, false
}

// lastOf is what a job that was stopped by hand goes on from: its newest checkpoint, or its newest savepoint where that is
// newer. Flink counts both of one JobID together; a savepoint of another JobID is compared by when it was found.
func lastOf(known []raftstore.Found) (raftstore.Found, bool) {
	var checkpoint, savepoint *raftstore.Found
	for i := range known {
		if known[i].Savepoint {
			savepoint = &known[i]
		} else {
			checkpoint = &known[i]
		}
	}
	switch {
	case checkpoint == nil && savepoint == nil:
		return raftstore.Found{}, false
	case checkpoint == nil:
		return *savepoint, true
	case savepoint == nil:
		return *checkpoint, true
	}
	newer := savepoint.Seq > checkpoint.Seq
	// Flink names a savepoint after the first six digits of the JobID.
	if id := string(checkpoint.JobID); len(id) >= 6 && strings.HasPrefix(path.Base(savepoint.URI), "savepoint-"+id[:6]+"-") {
		newer = savepoint.CheckpointID > checkpoint.CheckpointID
	}
	if newer {
		return *savepoint, true
	}
	return *checkpoint, true
}

// ready runs the start hook once. An agent that died over it, or lost its leadership, may have started the job: nobody
// runs it again.
func (a advance) ready(j raftstore.MigrationJob, aborted bool) decision {
	if a.migration.StartHook == "" || aborted || j.Problem != "" || a.hooked(j.Job) {
		return decision{job: j}
	}
	if j.StartAgent != "" {
		j.Problem = fmt.Sprintf("agent %s began to run the hook %s and could not say what became of it: look whether the job runs, start it where it doesn't, and say so: ckptferry migrate started %s %s",
			j.StartAgent, a.migration.StartHook, a.migration.Name, j.Job)
		return decision{job: j}
	}
	j.StartAgent = a.agent
	return decision{job: j, do: taskHook}
}
