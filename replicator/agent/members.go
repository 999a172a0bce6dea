package agent

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ckptferry/ckptferry/raftstore"
)

const (
	reportEvery = time.Second
	reportAgain = 250 * time.Millisecond // after a report that did not reach the leader
	// deadAfter is how long an agent may be silent before its work is given to others. Its elections are Raft's.
	deadAfter = 4 * time.Second
)

// Report is an agent's sign of life, for the leader of its group.
type Report struct {
	Agent, Version string
	Transfers      []Transfer // that it has under way
	Draining       bool       // it is shutting down: it takes no more work, and what it has is given to others
}

// Member is an agent of the group as the leader hears of it.
type Member struct {
	Agent, Version string
	HeardAt        time.Time // zero: never in this leadership
	Live           bool      // it gets work
}

// member is what the leader has heard of another agent.
type member struct {
	report Report
	heard  time.Time
}

// Heard notes another agent's sign of life, and says in which term this agent leads. It is raftstore.ErrNotLeader when it
// doesn't: the other one has to look for its leader again.
func (a *Agent) Heard(r Report) (term uint64, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.leading == 0 {
		return 0, fmt.Errorf("hear of agent %s: %w", r.Agent, raftstore.ErrNotLeader)
	}
	before, known := a.members[r.Agent]
	now := time.Now()
	a.members[r.Agent] = member{report: r, heard: now}
	if !known || !before.live(now) || r.Draining {
		select {
		case a.stirred <- struct{}{}:
		default: // the leader hasn't looked since it was stirred
		}
	}
	return a.leading, nil
}

func (m member) live(now time.Time) bool { return !m.report.Draining && now.Sub(m.heard) < deadAfter }

// leadsNow begins or ends, with term 0, what is known as a leader.
func (a *Agent) leadsNow(term uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.leading, a.since, a.members = term, time.Now(), map[string]member{}
}

// roster is who may be given work.
type roster struct {
	live  []string // by id
	maybe []string // not heard of yet, by a leader that is new: they may be at work, and get none
}

// gone says that nobody works as this agent.
func (r roster) gone(agent string) bool {
	return !slices.Contains(r.live, agent) && !slices.Contains(r.maybe, agent)
}

// roster lists the voters that live. soon is when that may be another one although nobody says anything.
func (a *Agent) roster() (r roster, soon time.Duration) {
	voters := a.cfg.Group.Peers()
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	r.live, soon = []string{a.cfg.ID}, idle
	for _, v := range voters {
		m, heard := a.members[v.ID]
		switch {
		case v.ID == a.cfg.ID:
		case heard && m.live(now):
			r.live = append(r.live, v.ID)
			soon = min(soon, deadAfter-now.Sub(m.heard))
		case !heard && now.Sub(a.since) < deadAfter:
			r.maybe = append(r.maybe, v.ID)
			soon = min(soon, deadAfter-now.Sub(a.since))
		}
	}
	slices.Sort(r.live)
	return r, max(soon, time.Millisecond)
}

// membersNow is the group for Status: nothing of an agent that doesn't lead. The caller holds a.mu.
func (a *Agent) membersNow(voters []raftstore.Peer) (members []Member, transfers []Transfer) {
	if a.leading == 0 {
		return nil, nil
	}
	now := time.Now()
	for _, v := range voters {
		if v.ID == a.cfg.ID {
			members = append(members, Member{Agent: v.ID, Version: a.cfg.Version, HeardAt: a.cfg.Now(), Live: true})
			continue
		}
		m, heard := a.members[v.ID]
		is := Member{Agent: v.ID, Version: m.report.Version, Live: heard && m.live(now)}
		if heard {
			is.HeardAt = a.cfg.Now().Add(-now.Sub(m.heard))
		}
		members = append(members, is)
	}
	for _, id := range slices.Sorted(maps.Keys(a.members)) {
		if m := a.members[id]; m.live(now) {
			transfers = append(transfers, m.report.Transfers...)
		}
	}
	slices.SortStableFunc(transfers, func(a, b Transfer) int {
		return cmp.Or(a.StartedAt.Compare(b.StartedAt), strings.Compare(a.Agent, b.Agent))
	})
	return members, transfers
}

// report tells the leader of this agent until ctx ends, whoever leads, and at the end that it goes.
func (a *Agent) report(ctx context.Context) {
	if a.cfg.Reporter == nil {
		return
	}
	for ctx.Err() == nil {
		if a.cfg.Group.Role() != "leader" {
			_ = a.cfg.Reporter.Report(ctx, func(yield func(Report) bool) { // why it failed doesn't matter: it is tried again
				for yield(a.lifeSign()) && sleep(ctx, reportEvery) == nil {
				}
			})
		}
		_ = sleep(ctx, reportAgain)
	}
	if a.cfg.Group.Role() == "leader" {
		return // who leads next hears nothing of it
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), reportEvery)
	defer cancel()
	_ = a.cfg.Reporter.Report(last, func(yield func(Report) bool) { // else its silence says it
		sign := a.lifeSign()
		sign.Draining = true
		yield(sign)
	})
}

func (a *Agent) lifeSign() Report {
	return Report{Agent: a.cfg.ID, Version: a.cfg.Version, Transfers: a.Status().Transfers}
}
