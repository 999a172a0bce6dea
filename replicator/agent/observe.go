package agent

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// Observer is told what an agent does, for metrics. It is called by several goroutines, and must return at once.
type Observer interface {
	// CopyEnded is told of each attempt to make a replica that has ended, once the group knows.
	CopyEnded(Copy)
}

// Copy is an attempt to make a replica that has ended.
type Copy struct {
	Route, Job string
	Result     CopyResult
	Reason     CopyReason // why it isn't READY
	Bytes      int64      // read at the source
	Times      CopyTimes
}

// CopyResult is what became of an attempt.
type CopyResult string

// The results.
const (
	CopyReady      CopyResult = "ready"
	CopySuperseded CopyResult = "superseded" // its files are gone at the source: normal
	CopyFailed     CopyResult = "failed"     // tried again later
	CopyStopped    CopyResult = "stopped"    // another agent leads now, or the route is paused: goes on from there
)

// CopyReason is the class of an error.
type CopyReason string

// The reasons.
const (
	ReasonNone        CopyReason = "none" // it is READY
	ReasonGone        CopyReason = "gone"
	ReasonStopped     CopyReason = "stopped"
	ReasonBroken      CopyReason = "broken"      // the checkpoint at the source isn't whole
	ReasonFormat      CopyReason = "format"      // its _metadata is not understood
	ReasonCorrupt     CopyReason = "corrupt"     // bytes differ from what was read, or from their checksum
	ReasonRefused     CopyReason = "refused"     // it would break a promise, or isn't supported
	ReasonNoSpace     CopyReason = "no_space"    // disk full, or quota used up
	ReasonPermission  CopyReason = "permission"  // at the source or at the target
	ReasonUnavailable CopyReason = "unavailable" // the source, its storage or the target's doesn't answer
	ReasonState       CopyReason = "state"       // the group's state refused what the copy had to say
	ReasonOther       CopyReason = "other"
)

// CopyOutcomes lists for each result its reasons, so that whoever counts them may begin at zero.
func CopyOutcomes() map[CopyResult][]CopyReason {
	return map[CopyResult][]CopyReason{
		CopyReady:      {ReasonNone},
		CopySuperseded: {ReasonGone},
		CopyStopped:    {ReasonStopped},
		CopyFailed: {ReasonBroken, ReasonFormat, ReasonCorrupt, ReasonRefused, ReasonNoSpace, ReasonPermission, ReasonUnavailable,
			ReasonState, ReasonOther},
	}
}

// reasons is the table from errors to their classes. The first row that fits decides: what a domain error means
// outweighs the file system's error inside of it.
var reasons = []struct {
	err    error
	reason CopyReason
}{
	{replicator.ErrBroken, ReasonBroken},
	{replicator.ErrVerify, ReasonCorrupt},
	{replicator.ErrRefused, ReasonRefused},
	{flinkmeta.ErrVersion, ReasonFormat},
	{fsutil.ErrUnsupported, ReasonRefused},
	{fsutil.ErrNoSpace, ReasonNoSpace},
	{fs.ErrPermission, ReasonPermission},
	{fsutil.ErrUnavailable, ReasonUnavailable},
	{context.DeadlineExceeded, ReasonUnavailable},
	{fsutil.ErrCorrupt, ReasonCorrupt},
	{raftstore.ErrStale, ReasonState},
	{raftstore.ErrConflict, ReasonState},
	{raftstore.ErrBadTransition, ReasonState},
	{raftstore.ErrUnknownReplica, ReasonState},
	{raftstore.ErrInvalid, ReasonState},
}

func reasonOf(err error) CopyReason {
	for _, row := range reasons {
		if errors.Is(err, row.err) {
			return row.reason
		}
	}
	var format *flinkmeta.FormatError
	if errors.As(err, &format) {
		return ReasonFormat
	}
	return ReasonOther
}

// result is the outcome in the words of an Observer.
func (o outcome) result() (CopyResult, CopyReason) {
	switch o.kind {
	case endedReady:
		return CopyReady, ReasonNone
	case endedSuperseded:
		return CopySuperseded, ReasonGone
	case endedStopped:
		return CopyStopped, ReasonStopped
	}
	return CopyFailed, reasonOf(o.err)
}

// CopyTimes are the moments of an attempt, in their order. The zero time: it didn't come to that, or nobody knows.
// Completed is by the source storage's clock, all others are by this agent's.
type CopyTimes struct {
	Completed time.Time // Flink completed the checkpoint
	Heard     time.Time // the group was told of it; unknown when another agent led then
	Started   time.Time // its turn came
	FirstByte time.Time // the first byte came from the source; not when all is at the target already
	LastByte  time.Time
	Verified  time.Time // all bytes are at the target and were read back
	Ended     time.Time // the group knows the outcome: READY
}

// observe tells the Observer how a copy ended.
func (a *Agent) observe(tr *transfer, o outcome) {
	heard := a.heardOf(o)
	if a.cfg.Observer == nil {
		return
	}
	c := Copy{Route: tr.want.route.Name, Job: tr.want.found.Job, Bytes: tr.meter.BytesCopied.Load()}
	c.Result, c.Reason = o.result()
	a.mu.Lock()
	marks := tr.marks()
	a.mu.Unlock()
	c.Times = CopyTimes{
		Completed: tr.want.found.CompletedAt, Heard: heard, Started: tr.started,
		FirstByte: marks.FirstByte, LastByte: marks.LastByte, Verified: marks.Verified, Ended: a.cfg.Now(),
	}
	a.cfg.Observer.CopyEnded(c)
}

// heardJob are the checkpoints of a job that a leader was told of, and when.
type heardJob map[raftstore.Key]time.Time

// hears notes when the group was told of checkpoints. What the state has forgotten of their jobs is forgotten here.
func (a *Agent) hears(route string, found []raftstore.Found) {
	if len(found) == 0 || a.cfg.Observer == nil {
		return
	}
	now, view := a.cfg.Now(), a.cfg.Group.View()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range found {
		job := [2]string{route, f.Job}
		heard := heardJob{keyOf(route, f): now}
		for _, known := range view.JobKnown(route, f.Job) {
			if at, ok := a.heard[job][keyOf(route, known)]; ok {
				heard[keyOf(route, known)] = at
			}
		}
		a.heard[job] = heard
	}
}

// heardOf is when the group was told of the checkpoint of a copy. One that is done with is forgotten.
func (a *Agent) heardOf(o outcome) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	job := [2]string{o.want.lane.route, o.want.lane.job}
	at := a.heard[job][o.want.key]
	if o.kind == endedReady || o.kind == endedSuperseded {
		delete(a.heard[job], o.want.key)
	}
	if len(a.heard[job]) == 0 {
		delete(a.heard, job)
	}
	return at
}

// Total is what this agent has copied of a route since it was started: read at the source, also when it was for
// nothing in the end.
type Total struct {
	Route        string
	Files, Bytes int64
	Retries      int64 // files that were begun again after an error that may pass
}

func (t Total) plus(tr *transfer) Total {
	m := tr.meter
	return Total{tr.want.route.Name, t.Files + m.FilesCopied.Load(), t.Bytes + m.BytesCopied.Load(), t.Retries + m.Retries.Load()}
}

// Totals lists them by route; it counts what is under way too, and never goes down.
func (a *Agent) Totals() []Total {
	a.mu.Lock()
	defer a.mu.Unlock()
	sums := maps.Clone(a.copied)
	for _, tr := range a.transfers {
		route := tr.want.route.Name
		sums[route] = sums[route].plus(tr)
	}
	var all []Total
	for _, route := range slices.Sorted(maps.Keys(sums)) {
		all = append(all, sums[route])
	}
	return all
}
