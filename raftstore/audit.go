package raftstore

import (
	"time"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// KeepAudit is how many audit records are kept: the newest.
const KeepAudit = 10_000

// What audit records say was done by the state's own commands.
const (
	AuditPromote    = "promote"
	AuditForce      = "force" // a promotion that was refused without force
	AuditAbort      = "abort" // a promotion was ended
	AuditFailedBack = "failed back"
	AuditMigrate    = "migrate"
)

// AuditRecord says who did what.
type AuditRecord struct {
	Seq        uint64 // counts from 1, without gaps, for ever
	Time       time.Time
	Actor      string // as the certificate says
	Action     string
	Route, Job string
	Detail     string // the rest, a sentence
}

// AuditMessage is an audit record as a message.
func AuditMessage(r AuditRecord) *ckptferryv1.AuditRecord {
	return &ckptferryv1.AuditRecord{
		Seq: r.Seq, Time: timestamp(r.Time), Actor: r.Actor, Action: r.Action, Route: r.Route, Job: r.Job, Detail: r.Detail,
	}
}

// AuditOf reads an audit record; nil is the zero AuditRecord.
func AuditOf(m *ckptferryv1.AuditRecord) AuditRecord {
	return AuditRecord{
		Seq: m.GetSeq(), Time: instant(m.GetTime()), Actor: m.GetActor(), Action: m.GetAction(), Route: m.GetRoute(), Job: m.GetJob(), Detail: m.GetDetail(),
	}
}

// lastAudit is the seq of the newest record, 0 before the first.
func (s State) lastAudit() uint64 {
	seq, _ := s.AuditRecords.last()
	return seq
}

// audit appends a record and drops what is then too old.
func (s *State) audit(r AuditRecord) {
	r.Seq = s.lastAudit() + 1
	s.AuditRecords = s.AuditRecords.with(r.Seq, r)
	if r.Seq > KeepAudit {
		s.AuditRecords = s.AuditRecords.without(r.Seq - KeepAudit)
	}
}

// Audit lists at most n audit records with a seq below before, newest first; before 0 begins at the newest.
func (v View) Audit(before uint64, n int) []AuditRecord {
	seq := v.state.lastAudit()
	if before > 0 {
		seq = min(seq, before-1)
	}
	var records []AuditRecord
	for ; seq > 0 && len(records) < n; seq-- {
		r, kept := v.state.AuditRecords.get(seq)
		if !kept {
			break // older ones are gone too
		}
		records = append(records, r)
	}
	return records
}
