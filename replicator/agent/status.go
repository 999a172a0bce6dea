package agent

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// Status is what only the agent itself knows: what it has under way, and what keeps it. Exports and routes are watched by
// the leader alone.
type Status struct {
	Exports   []ExportStatus // by name
	Routes    []RouteStatus  // by name
	Transfers []Transfer     // by start; its own

	// Of the leader alone:
	Members        []Member   // by id, itself too
	GroupTransfers []Transfer // of the others, as they reported
}

// ExportStatus is how watching an export does.
type ExportStatus struct {
	Export   string
	Jobs     int           // that are there
	PolledAt time.Time     // when the last poll ended that saw everything; zero before
	Took     time.Duration // the last poll
	Problem  string        // why it failed, or failed in part; empty when all is well
}

// RouteStatus is how watching a route's source does.
type RouteStatus struct {
	Route   string
	Problem string    // why the source can't be heard of, or read; empty when all is well
	Gone    []GoneJob // by name
}

// Transfer is a copy under way.
type Transfer struct {
	Route, Job       string
	Key              raftstore.Key
	Savepoint        bool
	Attempt          uint64
	Phase            string // plan, copy, publish
	FilesDone, Files int64  // 0 while it is planned
	BytesDone, Bytes int64
	StartedAt        time.Time
	Agent            string // that copies
	Share            string // of a large copy, "2 of 3"; empty: the whole
}

// Status says what the agent is doing.
func (a *Agent) Status() Status {
	voters := a.cfg.Group.Peers()
	a.mu.Lock()
	defer a.mu.Unlock()
	var s Status
	s.Members, s.GroupTransfers = a.membersNow(voters)
	for _, name := range slices.Sorted(maps.Keys(a.polls)) {
		p := a.polls[name]
		s.Exports = append(s.Exports, ExportStatus{Export: name, Jobs: p.jobs, PolledAt: p.seen, Took: p.took, Problem: a.pollProblem(p)})
	}
	for _, name := range slices.Sorted(maps.Keys(a.pulls)) {
		s.Routes = append(s.Routes, RouteStatus{Route: name, Problem: a.pulls[name].problem, Gone: a.pulls[name].goneJobs()})
	}
	for t, tr := range a.transfers {
		m := tr.meter
		s.Transfers = append(s.Transfers, Transfer{
			Route: t.key.Route, Job: tr.want.found.Job, Key: t.key, Savepoint: tr.want.found.Savepoint, Attempt: tr.want.attempt, Phase: phaseName(m.Phase()),
			FilesDone: m.FilesDone.Load(), Files: m.Files.Load(), BytesDone: m.BytesDone.Load(), Bytes: m.Bytes.Load(), StartedAt: tr.started, Agent: a.cfg.ID, Share: tr.share,
		})
	}
	slices.SortFunc(s.Transfers, func(a, b Transfer) int {
		return cmp.Or(a.StartedAt.Compare(b.StartedAt), strings.Compare(a.Key.String(), b.Key.String()))
	})
	return s
}

// phaseName is a phase as ckptferry.v1.Transfer has it. A copy that is done is being recorded.
func phaseName(p replicator.Phase) string {
	switch p {
	case replicator.PhasePlan:
		return "plan"
	case replicator.PhaseCopy:
		return "copy"
	}
	return "publish"
}
