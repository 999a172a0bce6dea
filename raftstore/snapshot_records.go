package raftstore

import (
	"fmt"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
)

// The parts of a snapshot that came after replicas and routes. One that was written before has none of them.

func encodePromotions(s State, snapshot *raftv1.Snapshot) {
	for name, p := range s.Promotions.all() {
		snapshot.Promotions = append(snapshot.Promotions, PromotionMessage(p.Promotion))
		snapshot.PromotionCounts = append(snapshot.PromotionCounts, &raftv1.PromotionCount{Route: name.Route, Job: name.Job, Count: p.Count})
	}
	for _, f := range s.Fences.all() {
		snapshot.Fences = append(snapshot.Fences, &raftv1.Fenced{Export: f.Export, Datacenter: f.Datacenter, Job: FencedJobMessage(f)})
	}
}

func encodeRecords(s State, snapshot *raftv1.Snapshot) {
	for d := range s.allDrills() {
		snapshot.Drills = append(snapshot.Drills, DrillMessage(d))
	}
	for _, m := range s.Migrations.all() {
		entry := &raftv1.MigrationState{Migration: MigrationMessage(m)}
		for _, j := range (View{state: s}).MigrationJobs(m.Name) {
			entry.Jobs = append(entry.Jobs, MigrationJobMessage(j))
		}
		snapshot.Migrations = append(snapshot.Migrations, entry)
	}
	for _, r := range s.AuditRecords.all() {
		snapshot.Audit = append(snapshot.Audit, AuditMessage(r))
	}
	for route := range s.Sweeps.all() {
		snapshot.Sweeps = append(snapshot.Sweeps, route)
	}
}

func (s *State) decodePromotions(snapshot *raftv1.Snapshot) error {
	counts := map[jobName]uint64{}
	for _, c := range snapshot.GetPromotionCounts() {
		counts[jobName{c.GetRoute(), c.GetJob()}] = c.GetCount()
	}
	if len(counts) != len(snapshot.GetPromotions()) || len(counts) != len(snapshot.GetPromotionCounts()) {
		return fmt.Errorf("it has %d promotions and %d counts of promotions", len(snapshot.GetPromotions()), len(snapshot.GetPromotionCounts()))
	}
	var promotions []*entry[jobName, promoted]
	for _, m := range snapshot.GetPromotions() {
		p := PromotionOf(m)
		name := jobName{p.Route, p.Job}
		promotions = append(promotions, &entry[jobName, promoted]{name, promoted{p, counts[name]}})
	}
	var fences []*entry[fenceKey, FencedJob]
	for _, m := range snapshot.GetFences() {
		f := FencedJobOf(m.GetExport(), m.GetDatacenter(), m.GetJob())
		fences = append(fences, &entry[fenceKey, FencedJob]{f.key(), f})
	}
	var once, fencedOnce bool
	s.Promotions, once = s.Promotions.filled(promotions)
	s.Fences, fencedOnce = s.Fences.filled(fences)
	if !once || !fencedOnce {
		return fmt.Errorf("it names a promotion or a fence twice")
	}
	return nil
}

func (s *State) decodeRecords(snapshot *raftv1.Snapshot) error {
	for _, m := range snapshot.GetDrills() {
		d := DrillOf(m)
		name := jobName{d.Key.Route, d.Job}
		kept, another := s.Drills.get(name)
		switch {
		case !another:
			kept.Newest = d
			if d.Passed {
				kept.Passed = d
			}
		case kept.Passed.Level > 0:
			return fmt.Errorf("it has more drills of job %s of route %s than are kept", d.Job, d.Key.Route)
		default:
			kept.Passed = d
		}
		s.Drills = s.Drills.with(name, kept)
	}
	var jobs []*entry[migrationJobKey, MigrationJob]
	for _, m := range snapshot.GetMigrations() {
		migration := MigrationOf(m.GetMigration())
		if s.Migrations.has(migration.Name) {
			return fmt.Errorf("it names the migration %s twice", migration.Name)
		}
		s.Migrations = s.Migrations.with(migration.Name, migration)
		for _, j := range m.GetJobs() {
			jobs = append(jobs, &entry[migrationJobKey, MigrationJob]{migrationJobKey{migration.Name, j.GetJob()}, MigrationJobOf(j)})
		}
	}
	var audit []*entry[uint64, AuditRecord]
	for _, m := range snapshot.GetAudit() {
		audit = append(audit, &entry[uint64, AuditRecord]{m.GetSeq(), AuditOf(m)})
	}
	var once, auditOnce bool
	s.MigrationJobs, once = s.MigrationJobs.filled(jobs)
	s.AuditRecords, auditOnce = s.AuditRecords.filled(audit)
	if !once || !auditOnce {
		return fmt.Errorf("it names a migration's job or an audit record twice")
	}
	for _, route := range snapshot.GetSweeps() {
		if s.Sweeps.has(route) {
			return fmt.Errorf("it names the sweep of route %s twice", route)
		}
		s.Sweeps = s.Sweeps.with(route, struct{}{})
	}
	return nil
}
