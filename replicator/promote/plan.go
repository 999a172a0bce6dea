package promote

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// Planned is a plan: what is chosen for each job.
type Planned struct {
	ID    string // Digest of the items
	Items []Item // by the route's priority (highest first), route, job
}

// Plan chooses a replica for each job and says what it costs. It reads nothing but the view, and no clock: now is this
// datacenter's. The same view and request decide the same, whenever they are asked. ErrNoJob when a pattern matches
// nothing; raftstore.ErrUnknownRoute, raftstore.ErrInvalid for a request that can't be.
func Plan(view raftstore.View, now time.Time, req Request) (Planned, error) {
	p, err := newPlanner(view, now, req)
	if err != nil {
		return Planned{}, err
	}
	jobs, err := p.jobs()
	if err != nil {
		return Planned{}, err
	}
	items := make([]Item, len(jobs))
	for i, j := range jobs {
		items[i] = p.item(j)
	}
	return Planned{ID: Digest(items), Items: items}, nil
}

// planner is one planning.
type planner struct {
	view   raftstore.View
	now    time.Time
	req    Request
	routes map[string]raftstore.Route
	fences fences
}

func newPlanner(view raftstore.View, now time.Time, req Request) (*planner, error) {
	for _, pattern := range req.Jobs {
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, fmt.Errorf("%w: pattern of job names %q: %w", raftstore.ErrInvalid, pattern, err)
		}
	}
	req.ScrubWithin, req.SilentAfter = cmp.Or(req.ScrubWithin, DefaultScrubWithin), cmp.Or(req.SilentAfter, 30*time.Second)
	p := &planner{view: view, now: now, req: req, routes: map[string]raftstore.Route{}, fences: fencesOf(view)}
	for _, r := range view.Routes() {
		p.routes[r.Name] = r
	}
	return p, nil
}

// ofRoute is a job of a route.
type ofRoute struct{ route, job string }

// jobs lists what is planned for: all jobs that are known of a source, or have a replica. A route that was removed keeps
// its replicas, and they are as good as ever.
func (p *planner) jobs() ([]ofRoute, error) {
	seen := map[ofRoute]bool{}
	matched := make([]bool, len(p.req.Jobs))
	routed := p.req.Route == "" || p.routes[p.req.Route].Name != ""
	add := func(j ofRoute) {
		if seen[j] || p.req.Route != "" && j.route != p.req.Route {
			return
		}
		routed = true
		asked := len(p.req.Jobs) == 0
		for i, pattern := range p.req.Jobs {
			if is, _ := path.Match(pattern, j.job); is { // it was checked
				asked, matched[i] = true, true
			}
		}
		if asked {
			seen[j] = true
		}
	}
	for name := range p.routes {
		for _, job := range p.view.RouteJobs(name) {
			add(ofRoute{name, job})
		}
	}
	for r := range p.view.AllReplicas() {
		add(ofRoute{r.Key.Route, r.Job})
	}
	if p.req.Failback { // also of what no checkpoint was found there yet: that is what it waits for
		for name, r := range p.routes {
			for job := range p.fences {
				if p.fences.has(r.FromDC, job) && covers(r, job) {
					add(ofRoute{name, job})
				}
			}
		}
	}
	if !routed {
		return nil, fmt.Errorf("%w: %s", raftstore.ErrUnknownRoute, p.req.Route)
	}
	var missing []string
	for i, pattern := range p.req.Jobs {
		if !matched[i] {
			missing = append(missing, fmt.Sprintf("%q", pattern))
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%w: %s: no route of this datacenter knows or replicates a job of this name", ErrNoJob, strings.Join(missing, ", "))
	}
	jobs := make([]ofRoute, 0, len(seen))
	for j := range seen {
		if p.req.Failback && len(p.req.Jobs) == 0 && !p.fences.has(p.routes[j.route].FromDC, j.job) {
			continue // nobody asked for it by name, and there is nothing to fail back
		}
		jobs = append(jobs, j)
	}
	slices.SortFunc(jobs, func(a, b ofRoute) int {
		return cmp.Or(
			cmp.Compare(p.routes[b.route].Priority, p.routes[a.route].Priority),
			strings.Compare(a.route, b.route),
			strings.Compare(a.job, b.job),
		)
	})
	return jobs, nil
}

// covers says whether a route pulls a job of this name.
func covers(r raftstore.Route, job string) bool {
	matches := func(pattern string) bool { is, _ := path.Match(pattern, job); return is } // it was checked when the route was put
	return (len(r.Include) == 0 || slices.ContainsFunc(r.Include, matches)) && !slices.ContainsFunc(r.Exclude, matches)
}

// item plans one job.
func (p *planner) item(j ofRoute) Item {
	i := Item{Route: j.route, Job: j.job, Priority: p.routes[j.route].Priority, Epoch: p.view.JobEpoch(j.route, j.job)}
	known := p.view.JobKnown(j.route, j.job)
	if n := len(known); n > 0 {
		i.SourceCheckpoint = &known[n-1].CheckpointID
	}
	c := p.choose(j, known)
	i.Blocked, i.Forcible = c.blocked, c.forcible
	for _, f := range lost(c.chosen, known) {
		i.Lost = append(i.Lost, f.CheckpointID)
	}
	if c.chosen == nil {
		return i
	}
	r := *c.chosen
	i.Key, i.Savepoint, i.Replica, i.Attempt, i.CompletedAt, i.Files, i.Bytes = r.Key, r.Savepoint, r.URI, r.Planned.Attempt, r.CompletedAt, r.Files, r.Bytes
	if i.SourceCheckpoint == nil {
		i.SourceCheckpoint = &r.Key.CheckpointID
	}
	if !r.CompletedAt.IsZero() {
		age := max(0, p.now.Sub(r.CompletedAt))
		i.RPO = &age
	}
	if c.newest != r.Key {
		i.Newest = c.newest
	}
	line, err := replicator.Start(replicator.StartRequest{Path: r.URI, Facts: factsOf(r), Flink: p.req.Flink, Mode: p.modeFor(c)})
	if err != nil {
		i.Key, i.Blocked, i.Forcible = raftstore.Key{}, fmt.Sprintf("Flink can't be started from %s as it was asked for: %v", checkpointName(r), err), false
		return i
	}
	i.Start, i.Mode, i.Promoted = line, claimMode(line.Mode), c.promotion != nil
	i.Warnings = p.warnings(c, line)
	return i
}

// factsOf are what starting from a replica depends on. Of one that an older ckptferry made nothing is on record: then any
// Flink is assumed to read it, and a warning says how to make sure.
func factsOf(r raftstore.Replica) replicator.RestoreFacts {
	if r.Facts == (raftstore.RestoreFacts{}) {
		return replicator.RestoreFacts{MetadataVersion: 2, OldestFlink: "1.3"}
	}
	return replicator.RestoreFacts(r.Facts)
}

// chosen is the choice for one job.
type chosen struct {
	chosen    *raftstore.Replica
	newest    raftstore.Key        // that could be offered, without regard to what was asked for
	atRisk    []raftstore.Replica  // READY, and not offered
	promotion *raftstore.Promotion // ACTIVE here already: then chosen is what it goes on from
	blocked   string
	forcible  bool
}

// choose picks the replica that a job goes on from.
func (p *planner) choose(j ofRoute, known []raftstore.Found) chosen {
	if promotion, ok := p.view.Promotion(j.route, j.job); ok && promotion.State == raftstore.PromotionActive {
		r, there := p.view.Replica(promotion.Key)
		if !there {
			return chosen{blocked: fmt.Sprintf("it was promoted here at %s from chk-%d, and that replica is gone", at(promotion.PromotedAt), promotion.Key.CheckpointID)}
		}
		return chosen{chosen: &r, newest: r.Key, promotion: &promotion}
	}
	all := p.view.JobReplicas(j.route, j.job)
	offered := slices.DeleteFunc(slices.Clone(all), func(r raftstore.Replica) bool { return !raftstore.Offerable(r) })
	best := newest(offered, known)
	if best == nil && p.req.Failback && len(known) == 0 && len(all) == 0 {
		if r := p.routes[j.route]; p.fences.has(r.FromDC, j.job) {
			return chosen{blocked: fmt.Sprintf("%s has completed no checkpoint of it below export %s yet", r.FromDC, r.FromExport)}
		}
	}
	if best == nil {
		return chosen{blocked: nothingReady(all)}
	}
	c := chosen{chosen: best, newest: best.Key}
	for _, r := range all {
		if r.Status == raftstore.StatusReady && r.AtRisk {
			c.atRisk = append(c.atRisk, r)
		}
	}
	if !p.req.Before.IsZero() {
		c.chosen = newest(slices.DeleteFunc(slices.Clone(offered), func(r raftstore.Replica) bool {
			return r.CompletedAt.IsZero() || !r.CompletedAt.Before(p.req.Before)
		}), known)
	}
	if c.chosen == nil {
		c.blocked = fmt.Sprintf("no READY replica is of a checkpoint that was completed before %s; the newest there is was completed at %s", at(p.req.Before), at(best.CompletedAt))
		return c
	}
	p.foreign(&c, j)
	return c
}

// foreign blocks what another datacenter has promoted: the job goes on there, and what is here of the time before would
// be a second life of it. A checkpoint that it completed since is its own state: that is what a failback goes on from.
func (p *planner) foreign(c *chosen, j ofRoute) {
	source := p.routes[j.route].FromDC
	fence, fenced := p.fences.of(j.job, source)
	switch {
	case p.req.Failback && (!fenced || fence.Datacenter != source):
		c.chosen, c.blocked = nil, fmt.Sprintf("%s has not told this datacenter that it promoted the job, so there is nothing to fail back: `ckptferry failover status %s` in %[1]s says whether it has, and its agents must reach the ones here", orUnknown(source), j.job)
	case !fenced, fence.Datacenter == source && c.chosen.CompletedAt.After(fence.PromotedAt):
	case p.req.Failback:
		c.chosen, c.blocked = nil, fmt.Sprintf("no READY replica is of a checkpoint that the job completed in %s after its promotion there at %s: wait for the next one (`ckptferry replica wait %s --ready`)", source, at(fence.PromotedAt), j.job)
	default:
		c.blocked, c.forcible = fmt.Sprintf("%s has promoted the job at %s, later than the newest replica here was made of: it runs there. Two lives of one job write to the same sinks; to promote it all the same, use --force, which is recorded", fence.Datacenter, at(fence.PromotedAt)), true
	}
}

func orUnknown(datacenter string) string { return cmp.Or(datacenter, "the other datacenter") }

// nothingReady says why no replica can be offered.
func nothingReady(all []raftstore.Replica) string {
	ready, atRisk := 0, 0
	var last *raftstore.Replica
	for i, r := range all {
		switch {
		case r.Status == raftstore.StatusReady && r.AtRisk:
			atRisk++
		case r.Status == raftstore.StatusReady:
			ready++
		}
		if last == nil || r.PlannedAt.After(last.PlannedAt) {
			last = &all[i]
		}
	}
	switch {
	case atRisk > 0 && ready == 0:
		return fmt.Sprintf("all %d READY replicas are AT_RISK: Flink claimed another one that shares files with them (a promotion with CLAIM, also one that has ended), and may delete what they need. A restart of the job at its source gives it a new JobID, and replicas that are not at risk; so does a route with another root", atRisk)
	case last == nil:
		return "there is no replica of it at all: nothing can be restored here"
	case last.Reason != "":
		return fmt.Sprintf("there is no READY replica: the last attempt, chk-%d, is %s: %s", last.Key.CheckpointID, last.Status, last.Reason)
	}
	return fmt.Sprintf("there is no READY replica: the last attempt, chk-%d, is %s", last.Key.CheckpointID, last.Status)
}

// at writes a moment as people compare it.
func at(t time.Time) string {
	if t.IsZero() {
		return "an unknown time"
	}
	return t.UTC().Format(time.RFC3339)
}
