package agent

import (
	"cmp"
	"slices"
	"strings"
	"time"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
)

// lane is what is copied one after the other: the checkpoints of a job, or its savepoints. A large savepoint doesn't
// keep the job's checkpoints waiting.
type lane struct {
	route, job string
	savepoint  bool
}

func (l lane) compare(other lane) int {
	savepoint := func(l lane) int {
		if l.savepoint {
			return 1
		}
		return 0
	}
	return cmp.Or(strings.Compare(l.route, other.route), strings.Compare(l.job, other.job), cmp.Compare(savepoint(l), savepoint(other)))
}

// want is a checkpoint that is to be copied next in its lane.
type want struct {
	lane    lane
	route   raftstore.Route
	found   raftstore.Found
	key     raftstore.Key
	attempt uint64
}

// keyOf is the identity of a checkpoint's replica.
func keyOf(route string, f raftstore.Found) raftstore.Key {
	return raftstore.Key{Route: route, JobID: f.JobID, CheckpointID: f.CheckpointID, MetadataCRC: f.MetadataCRC}
}

func keyMessage(k raftstore.Key) *ckptferryv1.CheckpointKey {
	return &ckptferryv1.CheckpointKey{Route: k.Route, JobId: string(k.JobID), CheckpointId: k.CheckpointID, MetadataCrc32C: k.MetadataCRC}
}

func fenceMessage(f raftstore.Fence) *raftv1.Fence {
	return &raftv1.Fence{Epoch: f.Epoch, Attempt: f.Attempt}
}

// failure is a checkpoint that could not be copied, or a route whose target takes nothing.
type failure struct {
	times  int
	until  time.Time // not tried before
	itself bool      // the fault lies in the checkpoint, so another one of the job may do
	lane   lane
	agent  string // that failed
}

// Failures are tried again after a time that doubles.
const (
	againFirst = time.Second
	againMost  = time.Minute
)

// again is the next failure after this one.
func (f failure) again(now time.Time) failure {
	f.times++
	f.until = now.Add(min(againFirst<<min(f.times-1, 10), againMost))
	return f
}

// choice is what decides over what is copied next.
type choice struct {
	view     raftstore.View
	now      time.Time
	pullable func(raftstore.Route) bool // false: nobody to pull from
	running  map[lane]bool
	failures map[raftstore.Key]failure
	held     map[string]failure
	waiting  map[lane]time.Time
}

// wants lists what each lane wants copied next, most urgent first: by the route's priority, checkpoints before
// savepoints, and who waits longest. later is when a lane that waits after a failure may be tried, zero if none does.
func (c choice) wants() (wants []want, later time.Time) {
	soonest := func(at time.Time) {
		if later.IsZero() || at.Before(later) {
			later = at
		}
	}
	for _, route := range c.view.Routes() {
		if !c.pullable(route) {
			continue
		}
		pulled := pulls(c.view, route)
		if held, is := c.held[route.Name]; is && c.now.Before(held.until) {
			soonest(held.until)
			continue
		}
		for _, job := range c.view.RouteJobs(route.Name) {
			if !pulled(job) || promoted(c.view, route.Name, job) {
				continue
			}
			known := c.view.JobKnown(route.Name, job)
			for _, savepoint := range []bool{false, true} {
				l := lane{route.Name, job, savepoint}
				if c.running[l] {
					continue
				}
				w, again := c.next(l, known)
				if w != nil {
					w.route = route
					wants = append(wants, *w)
				}
				if !again.IsZero() {
					soonest(again)
				}
			}
		}
	}
	slices.SortFunc(wants, func(a, b want) int {
		return cmp.Or(
			cmp.Compare(b.route.Priority, a.route.Priority),
			boolCompare(a.lane.savepoint, b.lane.savepoint),
			c.waitingSince(a.lane).Compare(c.waitingSince(b.lane)),
			a.lane.compare(b.lane),
		)
	})
	return wants, later
}

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// waitingSince is now for a lane that has just begun to wait.
func (c choice) waitingSince(l lane) time.Time {
	if at, ok := c.waiting[l]; ok {
		return at
	}
	return c.now
}

// next is the newest checkpoint of a lane that can still become a replica and is newer than its newest replica. An
// older one is taken only when the newer ones are gone at the source, or are themselves at fault. later is when one that
// failed may be tried again, zero if none did.
func (c choice) next(l lane, known []raftstore.Found) (w *want, later time.Time) {
	for _, f := range slices.Backward(known) {
		if f.Savepoint != l.savepoint {
			continue
		}
		key := keyOf(l.route, f)
		r, planned := c.view.Replica(key)
		switch {
		case planned && (r.Status == raftstore.StatusReady || r.Status == raftstore.StatusRetiring):
			return nil, later
		case planned && r.Status == raftstore.StatusSuperseded:
			continue
		}
		if failed, is := c.failures[key]; is && c.now.Before(failed.until) {
			if later.IsZero() || failed.until.Before(later) {
				later = failed.until
			}
			if failed.itself {
				continue
			}
			return nil, later
		}
		return &want{lane: l, found: f, key: key, attempt: r.Planned.Attempt + 1}, later
	}
	return nil, later
}
