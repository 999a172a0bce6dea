package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/ckptferry/ckptferry/fsutil"
	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// ending is how one copy ended.
type ending int

const (
	endedReady      ending = iota
	endedSuperseded        // gone at the source
	endedFailed            // tried again later
	endedHeld              // the route's target takes nothing: no copy of the route is tried for a while
	endedStopped           // the agent stops, the route is paused, or the replica is another agent's
)

// outcome is what became of a copy.
type outcome struct {
	want   want
	kind   ending
	err    error // why it isn't READY
	itself bool  // the fault lies in the checkpoint
	denied bool  // somebody lacks a permission
}

// The state holds a reason and warnings, not a report. One command has some room for them.
const (
	reasonBytes  = 2 << 10
	warningsMost = 20
)

// copying is one task under way.
type copying struct {
	*Agent
	task    task
	replica raftstore.Replica // as it was when the task began

	want want
	tr   *transfer
	log  *slog.Logger
}

// begin finds out what is to be copied from where. An error is the end of it.
func (c *copying) begin(view raftstore.View) (req replicator.Request, err error) {
	r := c.replica
	c.want = want{lane: lane{r.Key.Route, r.Job, r.Savepoint}, key: r.Key, attempt: r.Planned.Attempt, found: raftstore.Found{Job: r.Job, JobID: r.Key.JobID,
		CheckpointID: r.Key.CheckpointID, MetadataCRC: r.Key.MetadataCRC, Savepoint: r.Savepoint, CompletedAt: r.CompletedAt, URI: r.URI}}
	c.want.route, _ = view.Route(r.Key.Route)
	known := view.JobKnown(r.Key.Route, r.Job)
	i := slices.IndexFunc(known, func(f raftstore.Found) bool { return keyOf(r.Key.Route, f) == r.Key })
	if i >= 0 {
		c.want.found = known[i]
	}
	c.log = c.cfg.Log.With("route", r.Key.Route, "job", r.Job, "checkpoint", label(c.want.found), "attempt", r.Planned.Attempt, "epoch", r.Planned.Epoch)
	c.tr = c.transferBegins(c.task, c.want, r)
	switch {
	case i < 0:
		return req, fmt.Errorf("%w: newer ones have pushed it out of what is known of the source", replicator.ErrSuperseded)
	case c.cfg.Sources[c.want.route.FromDC] == nil:
		return req, fmt.Errorf("agent %s's configuration has no datacenter %s to pull from: add it, or change the route", c.cfg.ID, c.want.route.FromDC)
	}
	return c.request(c.want, c.tr)
}

// make makes a replica READY, or has the state say why not. Between StartCopy and MarkReady it may be cut short anywhere:
// what is READY is what package replicator has published, and the next attempt goes on from what it recorded. life is the
// agent's: the end is proposed also when ctx has ended, but not after life.
func (c *copying) make(ctx, life context.Context, view raftstore.View) {
	req, err := c.begin(view)
	var o outcome
	defer func() { c.observe(c.tr, o) }()
	defer c.transferEnds(c.task)

	if c.replica.Status == raftstore.StatusPlanned {
		if err := c.tell(life, &raftv1.Command{Op: &raftv1.Command_StartCopy{StartCopy: &raftv1.StartCopy{Key: keyMessage(c.task.key), Fence: fenceMessage(c.task.planned)}}}); err != nil {
			o = c.unrecorded(life, err)
			return
		}
	}
	var res replicator.Result
	if err == nil {
		c.log.Info("copying", "source", c.want.found.URI, "replica", c.replica.URI)
		c.withHelp(ctx, life, &req)
		res, err = replicator.Replicate(ctx, c.cfg.Stores, req)
	}
	o = judge(ctx, c.want, res, err)
	if errors.Is(o.err, errTaken) || life.Err() != nil && o.kind == endedStopped {
		c.log.Info("given up", "status", "taken", "err", o.err)
		return
	}
	err = c.recordEnd(life, o.command(c.task.planned, res, c.cfg.Now()), res)
	if err != nil {
		o = c.unrecorded(life, err)
		return
	}
	switch o.kind {
	case endedReady:
		c.log.Info("ready", "replica", res.Replica, "files", res.ManifestFiles, "bytes", res.ManifestBytes, "bytes_copied", res.BytesCopied, "bytes_local", res.BytesLocal, "took", res.Duration)
	case endedSuperseded, endedStopped:
		c.log.Info("given up", "status", o.kind.status(), "err", o.err)
	default:
		c.log.Warn("not copied", "err", o.err)
	}
}

// tell proposes what this agent has to say of its task.
func (c *copying) tell(life context.Context, cmd *raftv1.Command) error {
	return raftstore.ProposeUntilKnown(life, c.cfg.Group, cmd)
}

// request says what is copied where.
func (a *Agent) request(w want, tr *transfer) (replicator.Request, error) {
	source, err := fsutil.ParseURI(w.found.URI)
	if err != nil {
		return replicator.Request{}, err
	}
	root, err := fsutil.ParseURI(w.route.Root)
	if err != nil {
		return replicator.Request{}, fmt.Errorf("root of route %s: %w", w.route.Name, err)
	}
	req := replicator.Request{
		Source: source, Target: root, SourceOpener: a.cfg.Sources[w.route.FromDC].Open(w.route.FromExport),
		Verify: a.cfg.Verify, Parallel: a.tuned.Load().FilesParallel, Meter: tr.meter,
		Limits: a.limitsOf(w.route.Name), Origins: newOrigins(a.cfg.Group.View(), a.cfg.Stores),
		Label: replicator.Label{Job: w.found.Job, Route: w.route.Name, Attempt: w.attempt, Completed: w.found.CompletedAt.UTC()},
	}
	if w.route.Relative {
		req.Paths = replicator.PathsRelative
	}
	if w.attempt > 1 {
		req.Verify = replicator.VerifyAll // it may be one that rotted after it was READY: what is there is looked at anew
	}
	return req, nil
}

// unrecorded is the end of a copy about which the state could not be told, since the agent is stopping, or refused to
// hear: somebody else speaks for the replica now. What it refuses for another reason is a failure, and is tried again.
func (c *copying) unrecorded(life context.Context, err error) outcome {
	if life.Err() != nil {
		return outcome{want: c.want, kind: endedStopped, err: life.Err()}
	}
	if errors.Is(err, raftstore.ErrStale) || errors.Is(err, raftstore.ErrUnknownReplica) {
		c.log.Info("the replica is somebody else's now", "err", err)
		return outcome{want: c.want, kind: endedStopped, err: err}
	}
	c.log.Warn("the state refuses what a copy has to say", "err", err)
	o := outcome{want: c.want, kind: endedFailed, err: err}
	if err := c.tell(life, o.command(c.task.planned, replicator.Result{}, c.cfg.Now())); err != nil && life.Err() == nil {
		c.log.Warn("the state doesn't hear of the failure either", "err", err)
	}
	return o
}

// judge says what the end of a run means.
func judge(ctx context.Context, w want, res replicator.Result, err error) outcome {
	o := outcome{want: w, err: err}
	var format *flinkmeta.FormatError
	switch {
	case err == nil:
		o.kind = endedReady
	case errors.Is(err, replicator.ErrSuperseded):
		o.kind = endedSuperseded
	case errors.Is(err, fs.ErrNotExist) && res.Files == 0: // it was found, so it was there
		o.kind = endedSuperseded
		o.err = fmt.Errorf("its _metadata was deleted at the source before the copy began: %w", err)
	case ctx.Err() != nil:
		o.kind, o.err = endedStopped, context.Cause(ctx)
	case errors.Is(err, fsutil.ErrNoSpace):
		o.kind = endedHeld
		o.err = fmt.Errorf("no room at the target %s (disk full, or quota used up): make room there, it goes on by itself: %w", w.route.Root, err)
	case errors.Is(err, fs.ErrPermission):
		o.kind, o.denied = endedFailed, true
		// The cause first: not only users lack permissions, but exports and configurations name too few places.
		o.err = fmt.Errorf("%w. Where that is a file's permission, the agent's user must be able to read the source's export and to write below %s. Once it is mended it goes on by itself", err, w.route.Root)
	default:
		o.kind = endedFailed
		o.itself = errors.Is(err, replicator.ErrBroken) || errors.As(err, &format)
	}
	return o
}

func (k ending) status() raftstore.Status {
	switch k {
	case endedReady:
		return raftstore.StatusReady
	case endedSuperseded:
		return raftstore.StatusSuperseded
	}
	return raftstore.StatusFailed
}

// command is what the state is told of the outcome.
func (o outcome) command(fence raftstore.Fence, res replicator.Result, now time.Time) *raftv1.Command {
	key, of := keyMessage(o.want.key), fenceMessage(fence)
	switch o.kind.status() {
	case raftstore.StatusReady:
		return &raftv1.Command{Op: &raftv1.Command_MarkReady{MarkReady: &raftv1.MarkReady{
			Key: key, Fence: of, Warnings: few(res.Warnings), ManifestCrc32C: uint32(res.ManifestCRC),
			FileCount: int64(res.ManifestFiles), TotalBytes: res.ManifestBytes, Uri: res.Replica,
			Facts: factsMessage(res.Facts), AtRisk: res.AtRisk != "",
		}}}
	case raftstore.StatusSuperseded:
		return &raftv1.Command{Op: &raftv1.Command_SupersedeReplica{SupersedeReplica: &raftv1.SupersedeReplica{Key: key, Fence: of, Reason: short(o.err.Error())}}}
	}
	return &raftv1.Command{Op: &raftv1.Command_FailReplica{FailReplica: &raftv1.FailReplica{
		Key: key, Fence: of, Reason: short(o.err.Error()) + o.again(now), Class: o.class(), CheckpointAtFault: o.itself, TargetAtFault: o.kind == endedHeld,
	}}}
}

// class is that of an error as metrics and the state have it; empty for what is no error.
func (o outcome) class() string {
	_, reason := o.result()
	return string(reason)
}

// again says when the checkpoint is tried next: the leader waits as long, or longer where the whole route is held; empty
// when that has no time.
func (o outcome) again(now time.Time) string {
	if o.kind != endedFailed && o.kind != endedHeld {
		return ""
	}
	return ". The next try is not before " + beforeAttempt(o.want.attempt).again(now).until.UTC().Format(time.RFC3339)
}

// beforeAttempt is how often a checkpoint has failed before an attempt at it, at most.
func beforeAttempt(attempt uint64) failure { return failure{times: int(min(max(attempt, 1)-1, 1000))} }

func factsMessage(f replicator.RestoreFacts) *ckptferryv1.RestoreFacts {
	return &ckptferryv1.RestoreFacts{MetadataVersion: f.MetadataVersion, OldestFlink: f.OldestFlink, OldestFlinkWhy: f.OldestFlinkWhy,
		Changelog: f.Changelog, Unaligned: f.Unaligned, RelativeReused: f.RelativeReused, HiddenHandles: f.HiddenHandles}
}

func few(warnings []string) []string {
	var out []string
	for i, w := range warnings {
		if i == warningsMost-1 && len(warnings) > warningsMost {
			return append(out, fmt.Sprintf("and %d more", len(warnings)-i))
		}
		out = append(out, short(w))
	}
	return out
}

// short makes one line of a text, and cuts it to what the state holds of it. What isn't UTF-8 could not be in a message.
func short(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "�")), " ")
	if len(s) <= reasonBytes {
		return s
	}
	s = s[:reasonBytes]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "…"
}

// transfer is a copy under way, for Status.
type transfer struct {
	want    want
	started time.Time
	// Guarded by Agent.mu:
	share   string
	meter   *replicator.Meter // of the run under way
	earlier replicator.Marks  // of the runs before it
}

func (a *Agent) transferBegins(t task, w want, r raftstore.Replica) *transfer {
	tr := &transfer{want: w, started: a.cfg.Now(), meter: &replicator.Meter{}}
	if t.share > 0 {
		tr.share = shareName(t.share, len(r.Shards)+1)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.transfers[t] = tr
	return tr
}

// shareName is a share, counted from 0, as people read it; empty for the whole, which is 0 of 0.
func shareName(i, of int) string {
	if of == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d", i+1, of)
}

// anotherRun is the meter of one more run for the same task. What the last one copied stays counted.
func (a *Agent) anotherRun(tr *transfer, share string) *replicator.Meter {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.copied[tr.want.key.Route] = a.copied[tr.want.key.Route].plus(tr)
	tr.earlier = tr.marks()
	tr.share, tr.meter = share, &replicator.Meter{}
	return tr.meter
}

// marks are those of all runs. The caller holds Agent.mu.
func (tr *transfer) marks() replicator.Marks {
	m := tr.meter.Marks()
	if !tr.earlier.FirstByte.IsZero() {
		m.FirstByte = tr.earlier.FirstByte
	}
	if m.LastByte.IsZero() {
		m.LastByte = tr.earlier.LastByte
	}
	return m
}

func (a *Agent) transferEnds(t task) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if tr := a.transfers[t]; tr != nil {
		a.copied[t.key.Route] = a.copied[t.key.Route].plus(tr)
	}
	delete(a.transfers, t)
}
