package promote

import (
	"fmt"
	"strings"
	"time"

	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// modeFor is the claim mode that is asked for. A promoted job keeps the one that it was promoted with.
func (p *planner) modeFor(c chosen) replicator.ClaimMode {
	if c.promotion != nil && c.promotion.ClaimMode == raftstore.Claim {
		return replicator.Claim
	}
	return p.req.Mode
}

// claimMode is a start line's mode in the state's words. A Flink without claim modes deletes nothing.
func claimMode(mode replicator.ClaimMode) raftstore.ClaimMode {
	if mode == replicator.Claim {
		return raftstore.Claim
	}
	return raftstore.NoClaim
}

// warnings is what to know before Flink is started, a sentence each. What is the same for many jobs reads the same, so
// that it can be said once for all.
func (p *planner) warnings(c chosen, line replicator.StartLine) []string {
	var all []string
	warn := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	r := *c.chosen
	if c.promotion != nil {
		warn("the job was promoted here at %s from this replica: start it only if it does not run", at(c.promotion.PromotedAt))
	}
	if r.Claimed && c.promotion == nil {
		warn("it was started with CLAIM before: Flink may have deleted files of it; the run looks whether they are there")
	}
	if len(c.atRisk) > 0 {
		warn("%d READY replicas of it are AT_RISK and not offered, the newest of them %s: Flink claimed one that shares files with them. A restart of the job at its source gives it a new JobID and replicas that are not at risk; so does a route with another root",
			len(c.atRisk), checkpointName(*newest(c.atRisk, nil)))
	}
	facts := r.Facts
	switch {
	case facts == (raftstore.RestoreFacts{}):
		warn("what a restore depends on is not on record: `ckptferry restore-command %s` reads it from the replica", r.URI)
	case facts.Unaligned:
		warn("the checkpoint is unaligned: start the same Flink minor version, and the same job graph, that wrote it")
	}
	if facts.Changelog {
		warn("the job uses the changelog state backend: it needs CLAIM, after which its other replicas are AT_RISK")
	} else if line.Mode == replicator.Claim {
		warn("with CLAIM the replica's files are Flink's, and the job's other replicas are AT_RISK from the promotion on")
	}
	if facts.RelativeReused {
		warn("shared files have relative paths: NO_CLAIM only")
	}
	if facts.HiddenHandles {
		warn("files in taskowned/ are named by user state alone: they were copied, and the job looks for them where they were at the source")
	}
	if line.Mode == "" {
		warn("Flink %s has no claim modes: it reuses the replica's files for ever, so the replica must be kept", line.Flink)
	}
	if read := latest(r.ScrubbedAt, r.ReadyAt); p.now.Sub(read) > p.req.ScrubWithin {
		if r.ScrubbedAt.IsZero() {
			warn("it was never scrubbed: its bytes were read last when it became READY, more than %s ago; `failover run --deep` reads them", days(p.req.ScrubWithin))
		} else {
			warn("its last scrub is more than %s ago; `failover run --deep` reads its bytes", days(p.req.ScrubWithin))
		}
	}
	p.warnOfDrill(r.Key.Route, r.Job, warn)
	p.warnOfSource(r.Key.Route, c.promotion != nil, warn)
	return append(all, r.Warnings...)
}

// warnOfDrill tells when the newest rehearsal failed: the failover is about to do what went wrong there.
func (p *planner) warnOfDrill(route, job string, warn func(string, ...any)) {
	d, _, ok := p.view.Drills(route, job)
	if !ok || d.Level == 0 || d.Passed {
		return
	}
	warn("the last drill, level %d with chk-%d at %s, failed: %s: `ckptferry replica scrub %s`", d.Level, d.Key.CheckpointID, at(d.StartedAt), strings.TrimRight(d.Detail, ". "), job)
}

// warnOfSource tells what a source's silence means, and what it means that there is none. Of a job that is promoted here
// already its fence speaks.
func (p *planner) warnOfSource(name string, promoted bool, warn func(string, ...any)) {
	route, ok := p.routes[name]
	switch seen := p.view.SeenAt(name); {
	case !ok:
		warn("route %s was removed: what is newest at its source is not known", name)
	case seen.IsZero():
		warn("source %s has never been heard of: what is newest there is not known", route.FromDC)
	case p.now.Sub(seen) > p.req.SilentAfter:
		warn("source %s has not been heard of since %s: newer checkpoints may exist there", route.FromDC, at(seen))
	case !promoted:
		warn("source %s was heard of %d s ago: the job probably still runs there; stop it first, or two lives of it write to the same sinks",
			route.FromDC, max(0, p.now.Sub(seen))/time.Second)
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func days(d time.Duration) string {
	if d >= 48*time.Hour && d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
	return d.String()
}

// checkpointName is what people call the checkpoint of a replica.
func checkpointName(r raftstore.Replica) string {
	if r.Savepoint {
		return r.SavepointName
	}
	return fmt.Sprintf("chk-%d", r.Key.CheckpointID)
}
