package migrate

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/agent"
	"github.com/ckptferry/ckptferry/replicator/migrate/flinkrest"
)

// jobElement stands for the job's name in a request's address and directory.
const jobElement = "{job}"

// Request says what is to be moved.
type Request struct {
	Migration raftstore.Migration // its name, route, limits, hook and actor
	Jobs      []string            // patterns of job names (path.Match), the first to be moved first; none: all of the route
	WaveSize  int                 // how many jobs are stopped at a time; 0: 1
	// StopMode is how the jobs are stopped; 0: with a savepoint where there is a JobManager, and by the operator where not.
	StopMode           raftstore.StopMode
	JobManager         string // {job} stands for the job's name
	SavepointDirectory string // {job} stands for the job's name
}

// PlannedJob is a job with what is expected of it.
type PlannedJob struct {
	Job        raftstore.MigrationJob // WAITING; its wave is 0 when it is blocked
	Blocked    string                 // why it can't be moved, a sentence; empty when it can
	Prediction Prediction
}

// Planned is a plan.
type Planned struct {
	Jobs  []PlannedJob  // by wave; the blocked ones last
	Total time.Duration // all waves one after the other, without the time that starting the jobs takes
}

// Blocked lists why jobs can't be moved, a line each.
func (p Planned) Blocked() []string {
	var all []string
	for _, j := range p.Jobs {
		if j.Blocked != "" {
			all = append(all, j.Job.Job+": "+j.Blocked)
		}
	}
	return all
}

// Plan says what would be moved in which order, and how long each job would be away. It reads the view alone. The error
// is raftstore.ErrInvalid or raftstore.ErrUnknownRoute; what is wrong with one job is in its Blocked.
func Plan(v raftstore.View, req Request, m Measures) (Planned, error) {
	route, err := req.check(v)
	if err != nil {
		return Planned{}, err
	}
	names, err := req.jobs(v, route)
	if err != nil {
		return Planned{}, err
	}
	var plan Planned
	var blocked []PlannedJob
	for _, name := range names {
		p := PlannedJob{Job: raftstore.MigrationJob{
			Job: name, State: raftstore.MigrationJobWaiting, StopMode: req.mode(),
			JobManager: withJob(req.JobManager, name), SavepointDirectory: withJob(req.SavepointDirectory, name),
		}}
		if p.Job.StopMode == raftstore.StopManual {
			p.Job.JobManager = ""
		}
		if p.Job.StopMode != raftstore.StopSavepoint {
			p.Job.SavepointDirectory = ""
		}
		newest, known := newestCheckpoint(v, route.Name, name)
		if known {
			p.Job.JobID = newest.JobID
			if p.Job.StopMode == raftstore.StopSavepoint && p.Job.SavepointDirectory == "" {
				p.Job.SavepointDirectory = besideCheckpoints(newest)
			}
		}
		p.Prediction = Predict(v, p.Job, route.Name, m)
		if p.Blocked = blockedWhy(v, route, p.Job, req.Migration.Name); p.Blocked != "" {
			blocked = append(blocked, p)
			continue
		}
		p.Job.Wave = int32(len(plan.Jobs)/max(req.WaveSize, 1)) + 1
		plan.Jobs = append(plan.Jobs, p)
	}
	longest := map[int32]time.Duration{}
	for _, p := range plan.Jobs {
		longest[p.Job.Wave] = max(longest[p.Job.Wave], p.Prediction.Total)
	}
	for _, d := range longest {
		plan.Total += d
	}
	plan.Jobs = append(plan.Jobs, blocked...)
	return plan, nil
}

func (r Request) mode() raftstore.StopMode {
	switch {
	case r.StopMode != 0:
		return r.StopMode
	case r.JobManager != "":
		return raftstore.StopSavepoint
	}
	return raftstore.StopManual
}

func withJob(s, job string) string { return strings.ReplaceAll(s, jobElement, job) }

// check refuses a request that makes no sense for any job.
func (r Request) check(v raftstore.View) (raftstore.Route, error) {
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("plan migration: %w: "+format, append([]any{raftstore.ErrInvalid}, args...)...)
	}
	for _, pattern := range r.Jobs {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			return raftstore.Route{}, invalid("%q is no pattern of job names", pattern)
		}
	}
	switch mode := r.mode(); {
	case r.Migration.Route == "":
		return raftstore.Route{}, invalid("it needs a route")
	case r.WaveSize < 0 || r.Migration.MaxCutover < 0 || r.Migration.ReadyWithin < 0:
		return raftstore.Route{}, invalid("the size of a wave, and times, can't be negative")
	case mode != raftstore.StopManual && mode != raftstore.StopSavepoint && mode != raftstore.StopCancel:
		return raftstore.Route{}, invalid("stop mode %d is not known to this version", mode)
	case mode == raftstore.StopManual && r.JobManager != "":
		return raftstore.Route{}, invalid("a JobManager is given, and jobs are to be stopped by hand: leave one of them out")
	case mode != raftstore.StopSavepoint && r.SavepointDirectory != "":
		return raftstore.Route{}, invalid("a directory for savepoints is given, and jobs are not to be stopped with one")
	}
	if r.JobManager != "" {
		client, err := flinkrest.New(withJob(r.JobManager, "job"))
		if err != nil {
			return raftstore.Route{}, invalid("%v", err)
		}
		client.Close()
	}
	if r.SavepointDirectory != "" {
		if _, err := fsutil.ParseURI(withJob(r.SavepointDirectory, "job")); err != nil || !strings.Contains(r.SavepointDirectory, ":/") {
			return raftstore.Route{}, invalid("directory for savepoints %q: write it as Flink names it, hdfs://… or file:/…", r.SavepointDirectory)
		}
	}
	route, ok := v.Route(r.Migration.Route)
	if !ok {
		return route, fmt.Errorf("plan migration: %w: %s", raftstore.ErrUnknownRoute, r.Migration.Route)
	}
	return route, nil
}

// jobs lists by the first pattern that they match, and by name. A name that is nobody's is listed too, to be blocked.
func (r Request) jobs(v raftstore.View, route raftstore.Route) ([]string, error) {
	known := slices.DeleteFunc(v.RouteJobs(route.Name), func(job string) bool { return !agent.Takes(route, job) })
	patterns := r.Jobs
	if len(patterns) == 0 {
		patterns = []string{"*"}
	}
	var all []string
	for _, pattern := range patterns {
		matched := slices.DeleteFunc(slices.Clone(known), func(job string) bool {
			ok, _ := path.Match(pattern, job) // it was checked
			return !ok
		})
		switch {
		case len(matched) > 0:
		case strings.ContainsAny(pattern, `*?[\`):
			return nil, fmt.Errorf("plan migration: %w: no job that route %s pulls is known that matches %q; `ckptferry job list` shows them", raftstore.ErrInvalid, route.Name, pattern)
		default:
			matched = []string{pattern}
		}
		for _, job := range matched {
			if !slices.Contains(all, job) {
				all = append(all, job)
			}
		}
	}
	return all, nil
}

// blockedWhy is why a job can't be moved.
func blockedWhy(v raftstore.View, route raftstore.Route, j raftstore.MigrationJob, migration string) string {
	if !slices.Contains(v.RouteJobs(route.Name), j.Job) {
		return fmt.Sprintf("route %s knows no checkpoint of a job of this name: look for it with `ckptferry job list`", route.Name)
	}
	if p, ok := v.Promotion(route.Name, j.Job); ok && p.State == raftstore.PromotionActive {
		return fmt.Sprintf("it was promoted here already, at %s: start it from %s", p.PromotedAt.UTC().Format(time.RFC3339), p.Replica)
	}
	if other := otherMigration(v, route.Name, j.Job, migration); other != "" {
		return fmt.Sprintf("migration %s moves it: wait for its end, or abort it", other)
	}
	switch {
	case j.JobID == "":
		return "only savepoints of it are known: which Flink job it is follows from its checkpoints"
	case j.StopMode != raftstore.StopManual && j.JobManager == "":
		return "it is to be stopped through Flink's REST API, and nobody says where its JobManager answers: give one"
	case route.Mode == raftstore.RoutePaused:
		return fmt.Sprintf("route %s is paused, so nothing of it is copied: apply it with another mode", route.Name)
	}
	if _, ready := newestReady(v, route.Name, j.Job); !ready && route.Mode == raftstore.RouteContinuous {
		return "no replica of it is READY yet: `ckptferry job describe` says why"
	}
	return ""
}

// otherMigration is another migration that has not ended, and has not done with the job.
func otherMigration(v raftstore.View, route, job, migration string) string {
	for _, m := range v.Migrations() {
		if m.Name == migration || m.Route != route {
			continue
		}
		if j, ok := v.MigrationJob(m.Name, job); ok && !j.State.Ended() {
			return m.Name
		}
	}
	return ""
}

// newestReady is the newest checkpoint of a job at the source that is READY here, by what is known of the source; else
// the replica that became READY last.
func newestReady(v raftstore.View, route, job string) (raftstore.Replica, bool) {
	ready := slices.DeleteFunc(v.JobReplicas(route, job), func(r raftstore.Replica) bool { return !raftstore.Offerable(r) })
	if len(ready) == 0 {
		return raftstore.Replica{}, false
	}
	for _, f := range slices.Backward(v.JobKnown(route, job)) {
		if at := slices.IndexFunc(ready, func(r raftstore.Replica) bool { return r.Key == keyOf(route, f) }); at >= 0 {
			return ready[at], true
		}
	}
	return slices.MaxFunc(ready, func(a, b raftstore.Replica) int {
		return cmp.Or(a.ReadyAt.Compare(b.ReadyAt), cmp.Compare(a.Key.CheckpointID, b.Key.CheckpointID))
	}), true
}

// keyOf is the identity of a checkpoint's replica.
func keyOf(route string, f raftstore.Found) raftstore.Key {
	return raftstore.Key{Route: route, JobID: f.JobID, CheckpointID: f.CheckpointID, MetadataCRC: f.MetadataCRC}
}

// besideCheckpoints is the directory that has the directories of a job's JobIDs: there the source looks for savepoints.
func besideCheckpoints(f raftstore.Found) string {
	u, err := fsutil.ParseURI(f.URI)
	if err != nil {
		return ""
	}
	return u.Dir().Dir().String()
}
