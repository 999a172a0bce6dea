package raftstore

import (
	"testing"
	"time"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

func TestRefusedMigrationChangesNothing(t *testing.T) {
	running := commands{putRoute(routeProd()), putMigration("move", MigrationRunning)}
	done := running.then(putMigrationJobs("move", migrationJob("orders", MigrationJobCopying)), putMigration("move", MigrationDone))
	of := func(change func(*ckptferryv1.Migration)) *raftv1.Command {
		return changing(putMigration("move", MigrationRunning), func(c *raftv1.Command) { change(c.GetPutMigration().GetMigration()) })
	}
	job := func(change func(*MigrationJob)) *raftv1.Command {
		return putMigrationJobs("move", changed(migrationJob("orders", MigrationJobWaiting), change))
	}
	refused(t, map[string]refusal{
		"of an unknown route":   {commands{}, putMigration("move", MigrationRunning), ErrUnknownRoute},
		"that begins as over":   {running[:1], putMigration("move", MigrationDone), ErrInvalid},
		"in an unknown state":   {running[:1], putMigration("move", 9), ErrInvalid},
		"by nobody":             {running[:1], of(func(m *ckptferryv1.Migration) { m.Actor = "" }), ErrInvalid},
		"without a name":        {running[:1], of(func(m *ckptferryv1.Migration) { m.Name = "" }), ErrInvalid},
		"with an odd hook":      {running[:1], of(func(m *ckptferryv1.Migration) { m.StartHook = "a\x00" }), ErrInvalid},
		"of another route":      {running, of(func(m *ckptferryv1.Migration) { m.Route = "test" }), ErrConflict},
		"that has ended":        {done, putMigration("move", MigrationRunning), ErrMigrationEnded},
		"that ended otherwise":  {done, putMigration("move", MigrationAborted), ErrMigrationEnded},
		"a job more":            {done, putMigrationJobs("move", migrationJob("pay", MigrationJobWaiting)), ErrMigrationEnded},
		"jobs of none":          {commands{}, putMigrationJobs("move", migrationJob("orders", MigrationJobWaiting)), ErrUnknownMigration},
		"no jobs":               {running, putMigrationJobs("move"), ErrInvalid},
		"a job twice":           {running, putMigrationJobs("move", migrationJob("orders", 1), migrationJob("orders", 2)), ErrInvalid},
		"a job without a name":  {running, job(func(j *MigrationJob) { j.Job = "" }), ErrInvalid},
		"a job's unknown state": {running, job(func(j *MigrationJob) { j.State = 9 }), ErrInvalid},
		"a job's unknown stop":  {running, job(func(j *MigrationJob) { j.StopMode = 0 }), ErrInvalid},
		"a job's odd JobID":     {running, job(func(j *MigrationJob) { j.JobID = "x" }), ErrInvalid},
		"a job before wave 0":   {running, job(func(j *MigrationJob) { j.Wave = -1 }), ErrInvalid},
		"a job's half replica":  {running, job(func(j *MigrationJob) { j.Key.Route = "" + "prod"; j.Key.JobID = "x" }), ErrInvalid},
		"FAILED for no reason":  {running, job(func(j *MigrationJob) { j.State, j.Problem = MigrationJobFailed, "" }), ErrInvalid},
	})
}

func TestMigrationIsMadeAndEnds(t *testing.T) {
	later := changing(putMigration("move", MigrationPaused), func(c *raftv1.Command) { c.GetPutMigration().GetMigration().Actor = "bob" })
	log := commands{putRoute(routeProd()), putMigration("move", MigrationRunning), putMigration("move", MigrationRunning), later}
	v := viewOf(stateAfter(t, log...))
	m, ok := v.Migration("move")
	if !ok || m.State != MigrationPaused || m.Actor != "ann" || !m.CreatedAt.Equal(moment(1)) || !m.EndedAt.IsZero() || m.MaxCutover != time.Minute || len(v.Migrations()) != 1 {
		t.Errorf("migration is %+v", m)
	}
	if records := v.Audit(0, 9); len(records) != 2 || records[0].Actor != "bob" || records[1].Actor != "ann" || records[0].Action != AuditMigrate {
		t.Errorf("audit is %+v", records)
	}
	m, _ = viewOf(stateAfter(t, log.then(putMigration("move", MigrationAborted), putMigration("move", MigrationAborted))...)).Migration("move")
	if m.State != MigrationAborted || !m.EndedAt.Equal(moment(4)) {
		t.Errorf("ended it is %+v", m)
	}
}

func TestMigrationJobThatHasEndedStaysAsItIs(t *testing.T) {
	key := KeyOf(checkpointKey(4))
	readyJob := changed(migrationJob("orders", MigrationJobReady), func(j *MigrationJob) { j.Key, j.Bytes, j.ReadyAt = key, 7, moment(3) })
	for name, tc := range map[string]struct {
		was, told MigrationJob
		want      MigrationJobState
	}{
		"onwards":               {migrationJob("orders", MigrationJobWaiting), migrationJob("orders", MigrationJobStopping), MigrationJobStopping},
		"back":                  {migrationJob("orders", MigrationJobStopping), migrationJob("orders", MigrationJobWarming), MigrationJobWarming},
		"READY starts":          {readyJob, migrationJob("orders", MigrationJobStarted), MigrationJobStarted},
		"READY does not fail":   {readyJob, migrationJob("orders", MigrationJobFailed), MigrationJobReady},
		"STARTED is over":       {migrationJob("orders", MigrationJobStarted), migrationJob("orders", MigrationJobReady), MigrationJobStarted},
		"FAILED is over":        {migrationJob("orders", MigrationJobFailed), migrationJob("orders", MigrationJobStarted), MigrationJobFailed},
		"ABORTED is over":       {migrationJob("orders", MigrationJobAborted), migrationJob("orders", MigrationJobWaiting), MigrationJobAborted},
		"others are not stayed": {migrationJob("pay", MigrationJobAborted), migrationJob("orders", MigrationJobWaiting), MigrationJobWaiting},
	} {
		t.Run(name, func(t *testing.T) {
			log := commands{putRoute(routeProd()), putMigration("move", MigrationRunning), putMigration("moves", MigrationRunning), putMigrationJobs("move", tc.was), putMigrationJobs("move", tc.told)}
			v := viewOf(stateAfter(t, log...))
			j, _ := v.MigrationJob("move", "orders")
			if j.State != tc.want || (tc.was.Key == key && (j.Key != key || j.Bytes != 7 || !j.ReadyAt.Equal(moment(3)))) {
				t.Errorf("job is %+v, want %s", j, tc.want)
			}
			if n := len(v.MigrationJobs("move")); n != map[bool]int{true: 1, false: 2}[tc.was.Job == "orders"] || len(v.MigrationJobs("moves")) != 0 {
				t.Errorf("%d jobs: %v", n, v.MigrationJobs("move"))
			}
		})
	}
	// What an aborted migration has stopped goes on to its end.
	stopped := commands{
		putRoute(routeProd()), putMigration("move", MigrationRunning), putMigrationJobs("move", migrationJob("orders", MigrationJobCopying)),
		putMigration("move", MigrationAborted), putMigrationJobs("move", readyJob),
	}
	if j, _ := viewOf(stateAfter(t, stopped...)).MigrationJob("move", "orders"); j.State != MigrationJobReady {
		t.Errorf("job is %s, want READY", j.State)
	}
}
