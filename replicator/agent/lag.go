package agent

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ckptferry/ckptferry/raftstore"
)

// LagState is the one word about a job. The numbers are those of ckptferry.v1.LagState, and never change.
type LagState int32

// The states.
const (
	CaughtUp     LagState = iota + 1 // the newest checkpoint known at the source is READY here
	Behind                           // a newer one than the newest READY is known
	NoReplica                        // nothing is READY
	SourceSilent                     // the source was not heard of for a while: nobody knows what is newest there
	Promoted                         // the job goes on here: nothing is pulled, and nothing lags
)

// JobLag is how far one job's replicas are behind its source. What isn't known is nil; a zero is a zero. Nothing is
// negative: a clock of the source's that is ahead counts as now.
type JobLag struct {
	// Job is empty in the one line of a route that knows no job because its source is silent.
	Route, Job string
	State      LagState
	// TimeLag is for how long the newest READY replica has not been the newest: since the oldest checkpoint that it lacks
	// was completed, or, with a source that is silent, since it was heard of when that is longer. Where the state doesn't
	// remember all that it lacks, the replica's own age: never less than the truth. nil without a READY replica.
	TimeLag *time.Duration
	// RPO is how much work would be lost with the source now: the age of the newest READY replica's checkpoint.
	RPO         *time.Duration
	Checkpoints *int64 // known at the source and newer than the newest READY replica
	Bytes       *int64 // of the newest of them
	// The checkpoint ids of the newest at the source and of the newest READY.
	SourceCheckpoint, ReadyCheckpoint *int64
	Replica                           string    // where the newest READY replica lies, for `flink run -s`
	SourceSeen                        time.Time // when the source was last heard of; zero: never
	Reason                            string    // why the job isn't caught up and what to do; empty when it is
}

// Lags computes the lag of all jobs of all routes, by route and job. It reads no clock: now is this datacenter's, as
// the times in the state are, and silentAfter is how long a source may say nothing.
func Lags(v raftstore.View, now time.Time, silentAfter time.Duration) []JobLag {
	ready := map[[2]string][]raftstore.Replica{} // by route and job
	for _, r := range v.Replicas() {
		if raftstore.Offerable(r) { // one that is at risk is no use: with the source now, its work would be lost
			of := [2]string{r.Key.Route, r.Job}
			ready[of] = append(ready[of], r)
		}
	}
	var lags []JobLag
	for _, route := range v.Routes() {
		jobs := v.RouteJobs(route.Name)
		for of := range ready {
			if of[0] == route.Name {
				jobs = append(jobs, of[1])
			}
		}
		slices.Sort(jobs)
		if l := (lagging{view: v, now: now, route: route, seenAt: v.SeenAt(route.Name), silentAfter: silentAfter}); len(jobs) == 0 && l.silent() {
			// Without this line nobody would miss jobs that were never heard of.
			lags = append(lags, JobLag{Route: route.Name, State: SourceSilent, SourceSeen: l.seenAt, Reason: l.sentence(nil)})
		}
		for _, job := range slices.Compact(jobs) {
			if takes(route, job) {
				l := lagging{view: v, now: now, route: route, job: job, known: v.JobKnown(route.Name, job), seenAt: v.SeenAt(route.Name), silentAfter: silentAfter}
				lags = append(lags, l.lag(ready[[2]string{route.Name, job}]))
			}
		}
	}
	return lags
}

// lagging is one job whose lag is computed.
type lagging struct {
	view        raftstore.View
	now         time.Time
	route       raftstore.Route
	job         string
	known       []raftstore.Found // by seq
	seenAt      time.Time
	silentAfter time.Duration
}

// since is the time from then to now, never negative.
func (l lagging) since(then time.Time) time.Duration { return max(0, l.now.Sub(then)) }

func (l lagging) silent() bool { return l.seenAt.IsZero() || l.since(l.seenAt) > l.silentAfter }

func (l lagging) lag(ready []raftstore.Replica) JobLag {
	out := JobLag{Route: l.route.Name, Job: l.job, SourceSeen: l.seenAt}
	if p, ok := l.view.Promotion(l.route.Name, l.job); ok && p.State == raftstore.PromotionActive {
		out.State, out.ReadyCheckpoint, out.Replica = Promoted, &p.Key.CheckpointID, p.Replica
		out.Reason = fmt.Sprintf("promoted here at %s from chk-%d; nothing is pulled", p.PromotedAt.UTC().Format(time.RFC3339), p.Key.CheckpointID)
		return out
	}
	if n := len(l.known); n > 0 {
		out.SourceCheckpoint = &l.known[n-1].CheckpointID
	}
	newest, lacking, all := l.newest(ready)
	count := int64(len(lacking))
	out.Checkpoints, out.Bytes = &count, new(int64)
	if count > 0 {
		*out.Bytes = lacking[count-1].Bytes
	}
	if newest == nil {
		out.State = NoReplica
		out.Reason = l.sentence(lacking)
		return out
	}
	out.ReadyCheckpoint, out.Replica = &newest.Key.CheckpointID, newest.URI
	rpo := l.since(newest.CompletedAt)
	out.RPO, out.TimeLag = &rpo, new(time.Duration)
	out.State = CaughtUp
	if count > 0 {
		out.State = Behind
		*out.TimeLag = l.since(lacking[0].CompletedAt)
		if !all {
			*out.TimeLag = max(*out.TimeLag, rpo)
		}
	}
	if l.silent() {
		out.State = SourceSilent
		heard := l.seenAt
		if heard.IsZero() {
			heard = newest.CompletedAt
		}
		*out.TimeLag = max(*out.TimeLag, l.since(heard))
	}
	if out.State != CaughtUp {
		out.Reason = l.sentence(lacking)
	}
	return out
}

// newest picks the newest READY replica and lists, by seq, what is known and newer than it. all says that the list
// reaches back to the replica: the state remembers the newest of each job alone.
func (l lagging) newest(ready []raftstore.Replica) (newest *raftstore.Replica, lacking []raftstore.Found, all bool) {
	for i := len(l.known) - 1; i >= 0; i-- {
		key := keyOf(l.route.Name, l.known[i])
		if at := slices.IndexFunc(ready, func(r raftstore.Replica) bool { return r.Key == key }); at >= 0 {
			return &ready[at], l.known[i+1:], true
		}
	}
	if len(ready) == 0 {
		return nil, l.known, true
	}
	last := slices.MaxFunc(ready, func(a, b raftstore.Replica) int { return a.ReadyAt.Compare(b.ReadyAt) })
	// Of its kind everything that is known is newer; of the other kind, what came after that.
	savepoint := last.Key.JobID == ""
	first := slices.IndexFunc(l.known, func(f raftstore.Found) bool { return f.Savepoint == savepoint })
	if first < 0 {
		first = 0
	}
	return &last, l.known[first:], false
}

// sentence says why the job isn't caught up, and what to do.
func (l lagging) sentence(lacking []raftstore.Found) string {
	var parts []string
	if l.silent() {
		parts = append(parts, l.silence())
	}
	switch n := len(lacking); {
	case l.route.Mode == raftstore.RouteOnDemand && !pulls(l.view, l.route)(l.job):
		parts = append(parts, fmt.Sprintf("route %s is on demand: it copies a job while a migration moves it; plan one, or apply the route with mode continuous", l.route.Name))
	case l.route.Mode == raftstore.RoutePaused:
		parts = append(parts, fmt.Sprintf("route %s is paused: `ckptferry route resume %s` to go on", l.route.Name, l.route.Name))
	case n > 0:
		parts = append(parts, l.work(lacking[n-1], lacking))
	case len(l.known) == 0 && !l.silent():
		parts = append(parts, "the source has no checkpoint of this job")
	}
	if warning := l.overtaken(); warning != "" {
		parts = append(parts, warning)
	}
	return strings.Join(parts, "; ")
}

func (l lagging) silence() string {
	todo := fmt.Sprintf("look at the status of the agents in %s, and at the link to them", l.route.FromDC)
	if l.seenAt.IsZero() {
		return fmt.Sprintf("source %s has never been heard of: %s", l.route.FromDC, todo)
	}
	return fmt.Sprintf("source %s has not been heard of for %s: %s", l.route.FromDC, rounded(l.since(l.seenAt)), todo)
}

// work says how the newest of what lacks is doing, or an older one that is in its way.
func (l lagging) work(newest raftstore.Found, lacking []raftstore.Found) string {
	for _, f := range slices.Backward(lacking) {
		r, planned := l.view.Replica(keyOf(l.route.Name, f))
		if !planned || !inFlight(r) {
			continue
		}
		s := fmt.Sprintf("%s (%s) has been copied for %s, attempt %d", label(f), bytesText(f.Bytes), rounded(l.since(r.PlannedAt)), r.Planned.Attempt)
		if f.Seq != newest.Seq {
			s += fmt.Sprintf("; %s comes after it", label(newest))
		}
		return s
	}
	r, planned := l.view.Replica(keyOf(l.route.Name, newest))
	switch {
	case planned && r.Status == raftstore.StatusReady && r.AtRisk:
		return fmt.Sprintf("%s was copied and is AT_RISK, never offered: Flink claimed a replica that shares files with it (a promotion with CLAIM), and may delete what it needs. "+
			"A restart of the job at its source gives it a new JobID and replicas that are not at risk; so does a route with another root", label(newest))
	case !planned:
		return fmt.Sprintf("%s (%s) waits for its turn, found %s ago: other copies of the same or a higher priority go first", label(newest), bytesText(newest.Bytes), rounded(l.since(newest.CompletedAt)))
	case r.Status == raftstore.StatusFailed:
		return fmt.Sprintf("%s failed, attempt %d: %s. It is tried again by itself", label(newest), r.Planned.Attempt, strings.TrimSuffix(r.Reason, "."))
	case r.Status == raftstore.StatusSuperseded:
		return fmt.Sprintf("%s was given up: %s. The next checkpoint is taken when it is found; if this repeats, raise Flink's state.checkpoints.num-retained", label(newest), r.Reason)
	}
	return fmt.Sprintf("%s is %s", label(newest), r.Status)
}

func rounded(d time.Duration) time.Duration {
	if d >= time.Second {
		return d.Round(time.Second)
	}
	return d.Round(time.Millisecond)
}

// bytesText writes a size as people read it.
func bytesText(n int64) string {
	const units = "KMGTPE"
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	size, unit := float64(n)/(1<<10), 0
	for size >= 1<<10 && unit < len(units)-1 {
		size /= 1 << 10
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", size, units[unit])
}
