package keeper

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/ckptferry/ckptferry/raftstore"
)

// DefaultGrace is what a route has that says none.
const DefaultGrace = 24 * time.Hour

// graceOf is how long the files of a route lie before they go to the trash, and how long they lie there.
func graceOf(r raftstore.Route) time.Duration { return cmp.Or(r.Grace, DefaultGrace) }

// job is what is decided over together: all replicas of one job of a route.
type job struct {
	replicas []raftstore.Replica
	known    []raftstore.Found // by seq, what the source said that it has
}

// verdict is a replica that goes, and by which rule.
type verdict struct {
	replica raftstore.Replica
	reason  string
}

// retire says which replicas of a job go. It reads no clock. What it never names: the newest READY one that a job may be
// started from, the last one, what is pinned, promoted, claimed or at risk (Flink owns or owned it), what is in flight, and
// the newest failure, so that its reason can be read. The state refuses most of these itself once more.
func retire(j job, rules raftstore.Route, now time.Time) []verdict {
	order := orderOf(j.known)
	replicas := slices.SortedFunc(slices.Values(j.replicas), func(a, b raftstore.Replica) int { return order.newestFirst(a, b) })
	var checkpoints, savepoints []raftstore.Replica
	for _, r := range replicas {
		switch {
		case !raftstore.Offerable(r):
		case isSavepoint(r):
			savepoints = append(savepoints, r)
		default:
			checkpoints = append(checkpoints, r)
		}
	}
	verdicts := retireCheckpoints(checkpoints, rules, now)
	if n := int(rules.KeepSavepoints); n > 0 && len(savepoints) > n {
		for _, r := range savepoints[n:] {
			verdicts = append(verdicts, verdict{r, fmt.Sprintf("%d newer savepoints are READY (keep_savepoints: %d)", n, n)})
		}
	}
	verdicts = slices.DeleteFunc(verdicts, func(v verdict) bool { return mustStay(v.replica) })
	// Whatever the rules and the clocks say, one that a job may be started from stays.
	if offerable := len(checkpoints) + len(savepoints); len(verdicts) == offerable && offerable > 0 {
		verdicts = verdicts[1:]
	}
	return append(verdicts, retireGivenUp(replicas, order, rules, now)...)
}

// retireCheckpoints judges READY checkpoints, newest first.
func retireCheckpoints(ready []raftstore.Replica, rules raftstore.Route, now time.Time) []verdict {
	if rules.Keep <= 0 {
		return nil
	}
	var (
		verdicts []verdict
		days     = map[int64]bool{}
		today    = dayOf(now)
	)
	for i, r := range ready {
		day := dayOf(ageFrom(r))
		last := !days[day]
		days[day] = true
		switch {
		case i < int(rules.Keep):
		case now.Sub(ageFrom(r)) < rules.KeepFor:
		case last && today-day < int64(rules.KeepDaily):
		case i == newestByClock(ready):
		default:
			verdicts = append(verdicts, verdict{r, fmt.Sprintf("%d newer checkpoints are READY (keep: %d)%s", i, rules.Keep, otherRules(rules))})
		}
	}
	return verdicts
}

func otherRules(rules raftstore.Route) string {
	s := ""
	if rules.KeepFor > 0 {
		s += fmt.Sprintf(", it is older than %s (keep_for)", rules.KeepFor)
	}
	if rules.KeepDaily > 0 {
		s += fmt.Sprintf(", and not the last of one of the last %d days (keep_daily)", rules.KeepDaily)
	}
	return s
}

// newestByClock is kept as well where the clock of the source's storage and its own order contradict each other: nobody
// can tell then which of the two is the newest.
func newestByClock(ready []raftstore.Replica) int {
	newest := 0
	for i, r := range ready {
		if ageFrom(r).After(ageFrom(ready[newest])) {
			newest = i
		}
	}
	return newest
}

// retireGivenUp judges the records of what did not become READY, or is not any more, newest first. One that the source may still
// have is kept as long as it could be tried again: its attempts count on.
func retireGivenUp(replicas []raftstore.Replica, order order, rules raftstore.Route, now time.Time) []verdict {
	var verdicts []verdict
	newer, failure := false, false // whether there is a newer READY one, and was a newer failure
	for _, r := range replicas {
		switch r.Status {
		case raftstore.StatusReady:
			newer = newer || raftstore.Offerable(r)
			continue
		case raftstore.StatusFailed, raftstore.StatusQuarantined:
			first := !failure
			failure = true
			if first {
				continue
			}
		case raftstore.StatusSuperseded:
		default:
			continue
		}
		switch {
		case mustStay(r):
		case newer:
			verdicts = append(verdicts, verdict{r, fmt.Sprintf("it is %s, and a newer one is READY", r.Status)})
		case !order.knows(r) && r.Status != raftstore.StatusQuarantined && now.Sub(r.PlannedAt) > graceOf(rules):
			verdicts = append(verdicts, verdict{r, fmt.Sprintf("it is %s for longer than %s", r.Status, graceOf(rules))})
		}
	}
	return verdicts
}

// mustStay says that a replica is somebody's, or may be read just now.
func mustStay(r raftstore.Replica) bool { return r.Pinned || r.Promoted || r.Claimed || r.AtRisk }

func isSavepoint(r raftstore.Replica) bool { return r.Savepoint || r.Key.JobID == "" }

// ageFrom is when the work was done that is in a replica; for one that doesn't say, when its copy was planned.
func ageFrom(r raftstore.Replica) time.Time {
	if r.CompletedAt.IsZero() {
		return r.PlannedAt
	}
	return r.CompletedAt
}

// dayOf counts days of UTC.
func dayOf(at time.Time) int64 {
	const seconds = 24 * 60 * 60
	unix := at.Unix()
	if unix < 0 {
		unix -= seconds - 1
	}
	return unix / seconds
}

// order is the source's own order of what it still remembers: clocks may jump, its numbers don't.
type order map[raftstore.Key]uint64

func orderOf(known []raftstore.Found) order {
	o := order{}
	for _, f := range known {
		// A route's name is not in what its source says.
		o[raftstore.Key{JobID: f.JobID, CheckpointID: f.CheckpointID, MetadataCRC: f.MetadataCRC}] = f.Seq
	}
	return o
}

func (o order) seq(r raftstore.Replica) uint64 {
	key := r.Key
	key.Route = ""
	return o[key]
}

func (o order) knows(r raftstore.Replica) bool { return o.seq(r) > 0 }

// newestFirst orders replicas; what the source remembers is newer than what it doesn't.
func (o order) newestFirst(a, b raftstore.Replica) int {
	return cmp.Or(
		cmp.Compare(o.seq(b), o.seq(a)),
		ageFrom(b).Compare(ageFrom(a)),
		cmp.Compare(b.Key.CheckpointID, a.Key.CheckpointID),
		cmp.Compare(b.Key.MetadataCRC, a.Key.MetadataCRC),
		cmp.Compare(b.Key.JobID, a.Key.JobID),
	)
}
