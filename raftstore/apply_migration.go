package raftstore

import (
	"cmp"
	"fmt"
	"time"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
)

// putMigration makes a migration, or changes it as long as it has not ended. Who made it, when and of which route stays.
// The same again is done already.
func (s *State) putMigration(at time.Time, c *raftv1.PutMigration) error {
	m := MigrationOf(c.GetMigration())
	m.CreatedAt, m.EndedAt = at, time.Time{}
	if err := m.Valid(); err != nil {
		return err
	}
	by := m.Actor
	old, known := s.Migrations.get(m.Name)
	if known {
		m.Actor, m.CreatedAt, m.EndedAt = old.Actor, old.CreatedAt, old.EndedAt
	}
	switch {
	case !known && !s.Routes.has(m.Route):
		return fmt.Errorf("%w: %q of migration %s", ErrUnknownRoute, m.Route, m.Name)
	case !known && m.State.Ended():
		return fmt.Errorf("%w: migration %s begins as %s", ErrInvalid, m.Name, m.State)
	case known && m.Route != old.Route:
		return fmt.Errorf("%w: migration %s is of route %s, not of %s", ErrConflict, m.Name, old.Route, m.Route)
	case known && m == old:
		return nil
	case known && old.State.Ended():
		return fmt.Errorf("%w: %s is %s since %s", ErrMigrationEnded, m.Name, old.State, old.EndedAt.Format(time.RFC3339))
	}
	if m.State.Ended() {
		m.EndedAt = at
	}
	s.Migrations = s.Migrations.with(m.Name, m)
	s.audit(AuditRecord{
		Time: at, Actor: by, Action: AuditMigrate, Route: m.Route,
		Detail: fmt.Sprintf("migration %s is %s (max_cutover %s, ready_within %s, start_hook %q)", m.Name, m.State, m.MaxCutover, m.ReadyWithin, m.StartHook),
	})
	return nil
}

// putMigrationJobs adds jobs to a migration, or says how far they are. A job that has ended is passed over; only from READY
// it may still become STARTED, and what is known of its start may change, but not which agent ran its hook. A migration that has ended takes no further jobs, but those that it has stopped go on.
func (s *State) putMigrationJobs(c *raftv1.PutMigrationJobs) error {
	m, known := s.Migrations.get(c.GetMigration())
	switch {
	case !known:
		return fmt.Errorf("%w: %q", ErrUnknownMigration, c.GetMigration())
	case len(c.GetJobs()) == 0:
		return fmt.Errorf("%w: no jobs for migration %s", ErrInvalid, m.Name)
	}
	named := map[string]bool{}
	var puts []MigrationJob
	for _, message := range c.GetJobs() {
		j := MigrationJobOf(message)
		if err := j.Valid(); err != nil {
			return fmt.Errorf("migration %s: %w", m.Name, err)
		}
		if named[j.Job] {
			return fmt.Errorf("%w: job %s of migration %s is named twice", ErrInvalid, j.Job, m.Name)
		}
		named[j.Job] = true
		old, has := s.MigrationJobs.get(migrationJobKey{m.Name, j.Job})
		switch {
		case !has && m.State.Ended():
			return fmt.Errorf("%w: %s is %s and takes no further job, such as %s", ErrMigrationEnded, m.Name, m.State, j.Job)
		case old.State == MigrationJobReady && (j.State == MigrationJobStarted || j.State == MigrationJobReady):
			old.State, old.StartedAt, old.Problem, old.StartAgent = j.State, j.StartedAt, j.Problem, cmp.Or(old.StartAgent, j.StartAgent)
			puts = append(puts, old)
		case !old.State.Ended():
			puts = append(puts, j)
		}
	}
	for _, j := range puts {
		s.MigrationJobs = s.MigrationJobs.with(migrationJobKey{m.Name, j.Job}, j)
	}
	return nil
}

// Valid returns ErrInvalid with what is missing or contradicts itself, nil for a migration that the state accepts.
func (m Migration) Valid() error {
	if err := validName("migration", m.Name); err != nil {
		return err
	}
	if err := validName("route", m.Route); err != nil {
		return fmt.Errorf("migration %s: %w", m.Name, err)
	}
	switch {
	case migrationStateNames[m.State] == "":
		return fmt.Errorf("%w: migration %s has the unknown %s", ErrInvalid, m.Name, m.State)
	case m.MaxCutover < 0 || m.ReadyWithin < 0:
		return fmt.Errorf("%w: migration %s has a negative max_cutover %s or ready_within %s", ErrInvalid, m.Name, m.MaxCutover, m.ReadyWithin)
	case m.Actor == "":
		return fmt.Errorf("%w: migration %s needs an actor", ErrInvalid, m.Name)
	case len(m.StartHook) > maxURIBytes || !textual(m.StartHook):
		return fmt.Errorf("%w: the start hook of migration %s is longer than %d bytes or has control characters", ErrInvalid, m.Name, maxURIBytes)
	}
	if err := validWords(m.Actor); err != nil {
		return fmt.Errorf("migration %s: %w", m.Name, err)
	}
	return nil
}

// Valid returns ErrInvalid with what is missing or contradicts itself, nil for a migration's job that the state accepts.
func (j MigrationJob) Valid() error {
	if !validJob(j.Job) {
		return fmt.Errorf("%w: job name %.200q is not that of a directory", ErrInvalid, j.Job)
	}
	switch {
	case j.Wave < 0 || j.Bytes < 0 || j.PredictedCutover < 0:
		return fmt.Errorf("%w: job %s has a negative wave, size or cut-over", ErrInvalid, j.Job)
	case migrationJobStateNames[j.State] == "" || j.StopMode < StopManual || j.StopMode > StopCancel:
		return fmt.Errorf("%w: job %s has the unknown %s or stop mode %d", ErrInvalid, j.Job, j.State, int32(j.StopMode))
	case j.JobID != "" && !validJobID(j.JobID):
		return fmt.Errorf("%w: job %s: its job id %.200q is not 32 hexadecimal digits", ErrInvalid, j.Job, j.JobID)
	case j.Key != (Key{}) && !j.Key.whole() || j.Key == (Key{}) && j.Bytes != 0:
		return fmt.Errorf("%w: job %s goes on from no whole replica %s of %d bytes", ErrInvalid, j.Job, j.Key, j.Bytes)
	case j.State == MigrationJobFailed && j.Problem == "":
		return fmt.Errorf("%w: job %s FAILED for no reason", ErrInvalid, j.Job)
	}
	for _, t := range []time.Time{j.StoppingAt, j.StoppedAt, j.ReadyAt, j.StartedAt} {
		if !storable(t) {
			return fmt.Errorf("%w: job %s has a time that cannot be", ErrInvalid, j.Job)
		}
	}
	for _, text := range []string{j.JobManager, j.SavepointDirectory, j.StopRequest, j.Replica, j.StoppedURI, j.Problem, j.StartAgent} {
		if len(text) > maxURIBytes || !textual(text) {
			return fmt.Errorf("%w: job %s: %.100q is longer than %d bytes or has control characters", ErrInvalid, j.Job, text, maxURIBytes)
		}
	}
	return nil
}

// checkMigrations returns what no sequence of commands can lead to.
func (s State) checkMigrations() error {
	for name, m := range s.Migrations.all() {
		if err := m.Valid(); err != nil {
			return err
		}
		if name != m.Name || m.CreatedAt.IsZero() || m.State.Ended() == m.EndedAt.IsZero() {
			return fmt.Errorf("migration %s is filed under %s, or is %s without its times", m.Name, name, m.State)
		}
	}
	for key, j := range s.MigrationJobs.all() {
		if err := j.Valid(); err != nil {
			return err
		}
		if key.Job != j.Job || !s.Migrations.has(key.Migration) {
			return fmt.Errorf("job %s is filed under job %s of migration %s", j.Job, key.Job, key.Migration)
		}
	}
	return nil
}
