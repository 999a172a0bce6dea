package raftstore

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// MigrationState is how far a migration is. The numbers are those of ckptferry.v1.MigrationState, and never change.
type MigrationState int32

// The states of a migration. DONE and ABORTED are final.
const (
	MigrationRunning MigrationState = iota + 1
	MigrationPaused                 // no further job is stopped; copies go on
	MigrationDone                   // every job is moved, or has failed
	MigrationAborted                // given up: what is not stopped goes on where it is
)

var migrationStateNames = map[MigrationState]string{
	MigrationRunning: "RUNNING", MigrationPaused: "PAUSED", MigrationDone: "DONE", MigrationAborted: "ABORTED",
}

// String is the state as people write it.
func (s MigrationState) String() string {
	if name, ok := migrationStateNames[s]; ok {
		return name
	}
	return fmt.Sprintf("migration state %d", int32(s))
}

// Ended says that the state is final.
func (s MigrationState) Ended() bool { return s == MigrationDone || s == MigrationAborted }

// Migration moves jobs of a route to this datacenter.
type Migration struct {
	Name        string
	Route       string
	State       MigrationState
	MaxCutover  time.Duration // a job is stopped only when it is predicted to be away for less; 0: whenever its wave comes
	ReadyWithin time.Duration // how long a stopped job's last checkpoint may take to be READY; 0: 10 minutes
	Actor       string        // who made it
	CreatedAt   time.Time     // proposer's clock
	EndedAt     time.Time     // zero before
	StartHook   string        // the name of a hook of the agents' configuration that starts a job; empty: the start line is only printed
}

// MigrationJobState is how far a job of a migration is. The numbers are those of ckptferry.v1.MigrationJobState, and
// never change.
type MigrationJobState int32

// The states of a migration's job. READY may still become STARTED, and say how its start does; it and the three after it
// are final.
const (
	MigrationJobWaiting  MigrationJobState = iota + 1 // its wave has not come
	MigrationJobWarming                               // it runs at the source and is copied
	MigrationJobStopping                              // it is being stopped
	MigrationJobCopying                               // it is stopped, its last checkpoint is being copied
	MigrationJobReady                                 // its last replica is READY and promoted
	MigrationJobStarted                               // it runs here
	MigrationJobFailed                                // Problem says why
	MigrationJobAborted                               // the migration was aborted before it was stopped
)

var migrationJobStateNames = map[MigrationJobState]string{
	MigrationJobWaiting: "WAITING", MigrationJobWarming: "WARMING", MigrationJobStopping: "STOPPING", MigrationJobCopying: "COPYING",
	MigrationJobReady: "READY", MigrationJobStarted: "STARTED", MigrationJobFailed: "FAILED", MigrationJobAborted: "ABORTED",
}

// String is the state as people write it.
func (s MigrationJobState) String() string {
	if name, ok := migrationJobStateNames[s]; ok {
		return name
	}
	return fmt.Sprintf("migration job state %d", int32(s))
}

// Ended says that the migration has nothing left to do for the job but to see it start.
func (s MigrationJobState) Ended() bool { return s >= MigrationJobReady }

// StopMode is how a job is stopped. The numbers are those of ckptferry.v1.StopMode, and never change.
type StopMode int32

// The ways of stopping a job.
const (
	StopManual    StopMode = iota + 1 // by the operator, who says so
	StopSavepoint                     // through Flink's REST API, with a savepoint
	StopCancel                        // through Flink's REST API; its last retained checkpoint is used
)

// MigrationJob is one job of a migration.
type MigrationJob struct {
	Job                string
	Wave               int32 // waves are stopped in this order
	State              MigrationJobState
	StopMode           StopMode
	JobManager         string // http://host:port; empty when the operator stops the job
	SavepointDirectory string // empty when it is not stopped with one
	JobID              JobID  // while it runs; may be unknown
	StopRequest        string // Flink's id of the stop that was asked for
	PredictedCutover   time.Duration
	StoppingAt         time.Time // when it was told to stop
	StoppedAt          time.Time // when it had stopped
	ReadyAt            time.Time // when its last replica was READY and promoted
	StartedAt          time.Time // when it ran again
	Key                Key       // the replica that it goes on from; the zero Key before that is known
	Replica            string    // where that lies
	Bytes              int64     // the replica's; means something once Key is known
	Problem            string    // why it FAILED, or what it waits for
	StoppedURI         string    // where the savepoint was written, or the last checkpoint lies, at the source
	StartAgent         string    // the agent that runs the start hook, or ran it: set before, so that none runs it twice
}

// migrationJobKey orders the jobs of all migrations.
type migrationJobKey struct{ Migration, Job string }

func (k migrationJobKey) compare(other migrationJobKey) int {
	return cmp.Or(strings.Compare(k.Migration, other.Migration), strings.Compare(k.Job, other.Job))
}

// MigrationMessage is a migration as a message.
func MigrationMessage(m Migration) *ckptferryv1.Migration {
	return &ckptferryv1.Migration{
		Name: m.Name, Route: m.Route, State: ckptferryv1.MigrationState(m.State), MaxCutover: duration(m.MaxCutover),
		ReadyWithin: duration(m.ReadyWithin), Actor: m.Actor, CreatedTime: timestamp(m.CreatedAt), EndedTime: timestamp(m.EndedAt),
		StartHook: m.StartHook,
	}
}

// MigrationOf reads a migration; nil is the zero Migration.
func MigrationOf(m *ckptferryv1.Migration) Migration {
	return Migration{
		Name: m.GetName(), Route: m.GetRoute(), State: MigrationState(m.GetState()), MaxCutover: m.GetMaxCutover().AsDuration(),
		ReadyWithin: m.GetReadyWithin().AsDuration(), Actor: m.GetActor(), CreatedAt: instant(m.GetCreatedTime()), EndedAt: instant(m.GetEndedTime()),
		StartHook: m.GetStartHook(),
	}
}

// MigrationJobMessage is a migration's job as a message. Its replica is absent as long as it is not known.
func MigrationJobMessage(j MigrationJob) *ckptferryv1.MigrationJob {
	m := &ckptferryv1.MigrationJob{
		Job: j.Job, Wave: j.Wave, State: ckptferryv1.MigrationJobState(j.State), StopMode: ckptferryv1.StopMode(j.StopMode),
		Jobmanager: j.JobManager, SavepointDirectory: j.SavepointDirectory, JobId: string(j.JobID), StopRequest: j.StopRequest,
		PredictedCutover: duration(j.PredictedCutover), StoppingTime: timestamp(j.StoppingAt), StoppedTime: timestamp(j.StoppedAt),
		ReadyTime: timestamp(j.ReadyAt), StartedTime: timestamp(j.StartedAt), Replica: j.Replica, Problem: j.Problem, StoppedAt: j.StoppedURI,
		StartAgent: j.StartAgent,
	}
	if j.Key != (Key{}) {
		m.Key, m.TotalBytes = KeyMessage(j.Key), proto.Int64(j.Bytes)
	}
	return m
}

// MigrationJobOf reads a migration's job; nil is the zero MigrationJob.
func MigrationJobOf(m *ckptferryv1.MigrationJob) MigrationJob {
	return MigrationJob{
		Job: m.GetJob(), Wave: m.GetWave(), State: MigrationJobState(m.GetState()), StopMode: StopMode(m.GetStopMode()),
		JobManager: m.GetJobmanager(), SavepointDirectory: m.GetSavepointDirectory(), JobID: JobID(m.GetJobId()), StopRequest: m.GetStopRequest(),
		PredictedCutover: m.GetPredictedCutover().AsDuration(), StoppingAt: instant(m.GetStoppingTime()), StoppedAt: instant(m.GetStoppedTime()),
		ReadyAt: instant(m.GetReadyTime()), StartedAt: instant(m.GetStartedTime()), Key: KeyOf(m.GetKey()), Replica: m.GetReplica(),
		Bytes: m.GetTotalBytes(), Problem: m.GetProblem(), StoppedURI: m.GetStoppedAt(),
		StartAgent: m.GetStartAgent(),
	}
}

// Migration finds a migration.
func (v View) Migration(name string) (Migration, bool) { return v.state.Migrations.get(name) }

// Migrations lists the migrations by name.
func (v View) Migrations() []Migration { return v.state.Migrations.values() }

// MigrationJobs lists the jobs of a migration by name.
func (v View) MigrationJobs(name string) []MigrationJob {
	var jobs []MigrationJob
	for key, job := range v.state.MigrationJobs.from(migrationJobKey{Migration: name}) {
		if key.Migration != name {
			break
		}
		jobs = append(jobs, job)
	}
	return jobs
}

// MigrationJob finds one job of a migration.
func (v View) MigrationJob(name, job string) (MigrationJob, bool) {
	return v.state.MigrationJobs.get(migrationJobKey{name, job})
}
