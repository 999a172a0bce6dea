package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

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
	endedStopped           // the leadership is over, or the route is paused
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

// copyOne makes one replica READY, or has the state say why not. Between StartCopy and MarkReady it may be cut short
// anywhere: what is READY is what package replicator has published, and the next attempt goes on from what it recorded.
func (t *term) copyOne(ctx, term context.Context, w want) (o outcome) {
	view := t.cfg.Group.View()
	fence := raftstore.Fence{Epoch: view.JobEpoch(w.key.Route, w.found.Job), Attempt: w.attempt}
	log := t.cfg.Log.With("route", w.route.Name, "job", w.found.Job, "checkpoint", label(w.found), "attempt", fence.Attempt, "epoch", fence.Epoch)
	tr := t.agent.transferBegins(w, t.cfg.Now())
	defer func() { t.observe(tr, o) }()
	defer t.agent.transferEnds(w.key)

	req, err := t.request(w, tr)
	if err != nil {
		return outcome{want: w, kind: endedFailed, err: err, itself: true}
	}
	uri := replicator.ReplicaURI(req.Target, req.Source).String()
	for _, cmd := range []*raftv1.Command{
		{Op: &raftv1.Command_PlanReplica{PlanReplica: &raftv1.PlanReplica{Key: keyMessage(w.key), Fence: fenceMessage(fence), Job: w.found.Job, Uri: uri,
			CompletedTime: timestamppb.New(w.found.CompletedAt)}}},
		{Op: &raftv1.Command_StartCopy{StartCopy: &raftv1.StartCopy{Key: keyMessage(w.key), Fence: fenceMessage(fence)}}},
	} {
		if err := t.propose(term, cmd); err != nil {
			return t.unrecorded(term, w, err)
		}
	}
	log.Info("copying", "source", w.found.URI, "replica", uri)
	res, err := replicator.Replicate(ctx, t.cfg.Stores, req)
	o = judge(ctx, w, res, err)
	if err := t.recordEnd(term, o.command(fence, res, t.cfg.Now()), res); err != nil {
		return t.unrecorded(term, w, err)
	}
	switch o.kind {
	case endedReady:
		log.Info("ready", "replica", res.Replica, "files", res.ManifestFiles, "bytes", res.ManifestBytes, "bytes_copied", res.BytesCopied, "bytes_local", res.BytesLocal, "took", res.Duration)
	case endedSuperseded, endedStopped:
		log.Info("given up", "status", o.kind.status(), "err", o.err)
	default:
		log.Warn("not copied", "err", o.err)
	}
	return o
}

// request says what is copied where.
func (t *term) request(w want, tr *transfer) (replicator.Request, error) {
	source, err := fsutil.ParseURI(w.found.URI)
	if err != nil {
		return replicator.Request{}, err
	}
	root, err := fsutil.ParseURI(w.route.Root)
	if err != nil {
		return replicator.Request{}, fmt.Errorf("root of route %s: %w", w.route.Name, err)
	}
	req := replicator.Request{
		Source: source, Target: root, SourceOpener: t.cfg.Sources[w.route.FromDC].Open(w.route.FromExport),
		Verify: t.cfg.Verify, Parallel: t.agent.tuned.Load().FilesParallel, Meter: &tr.meter,
		Limits: t.agent.limitsOf(w.route.Name), Origins: newOrigins(t.cfg.Group.View(), t.cfg.Stores),
		Label: replicator.Label{Job: w.found.Job, Route: w.route.Name, Attempt: w.attempt, Completed: w.found.CompletedAt.UTC()},
	}
	if w.route.Relative {
		req.Paths = replicator.PathsRelative
	}
	if r, known := t.cfg.Group.View().Replica(w.key); known && r.Status == raftstore.StatusQuarantined {
		req.Verify = replicator.VerifyAll // some of what is there rotted, and is mended by this
	}
	return req, nil
}

// unrecorded is the end of a copy about which the state could not be told, since the leadership is over (whoever leads
// next says what becomes of it), or refused to hear: somebody else speaks for the replica now. It is looked at again.
func (t *term) unrecorded(term context.Context, w want, err error) outcome {
	if term.Err() != nil {
		return outcome{want: w, kind: endedStopped, err: term.Err()}
	}
	t.cfg.Log.Warn("the state refuses what a copy has to say", "replica", w.key.String(), "attempt", w.attempt, "err", err)
	return outcome{want: w, kind: endedFailed, err: err}
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
			Facts: factsMessage(res.Facts),
		}}}
	case raftstore.StatusSuperseded:
		return &raftv1.Command{Op: &raftv1.Command_SupersedeReplica{SupersedeReplica: &raftv1.SupersedeReplica{Key: key, Fence: of, Reason: short(o.err.Error())}}}
	}
	return &raftv1.Command{Op: &raftv1.Command_FailReplica{FailReplica: &raftv1.FailReplica{Key: key, Fence: of, Reason: short(o.err.Error()) + o.again(now)}}}
}

// again says when the checkpoint is tried next, as ended will decide; empty when that has no time.
func (o outcome) again(now time.Time) string {
	var next failure
	switch o.kind {
	case endedFailed:
		next = o.want.failed.again(now)
	case endedHeld:
		next = o.want.held.again(now)
	default:
		return ""
	}
	return ". The next try is not before " + next.until.UTC().Format(time.RFC3339)
}

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
	meter   replicator.Meter
}

func (a *Agent) transferBegins(w want, now time.Time) *transfer {
	a.mu.Lock()
	defer a.mu.Unlock()
	tr := &transfer{want: w, started: now}
	a.transfers[w.key] = tr
	return tr
}

func (a *Agent) transferEnds(key raftstore.Key) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if tr := a.transfers[key]; tr != nil {
		a.copied[key.Route] = a.copied[key.Route].plus(tr)
	}
	delete(a.transfers, key)
}
