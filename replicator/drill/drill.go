package drill

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// ErrFailed says that a job could not be relied on to go on from the replica. The drill is on record as failed.
var ErrFailed = errors.New("the drill failed")

// The levels; each holds what the one before does.
const (
	LevelBytes      = 1 // every byte is readable and equal to the manifest
	LevelRunning    = 2 // and Flink runs from it
	LevelCheckpoint = 3 // and completes a checkpoint
)

// Group is what a drill changes of the group's record.
type Group interface {
	// Pin keeps a replica, or stops keeping it. Idempotent.
	Pin(ctx context.Context, key raftstore.Key, pinned bool) error
	// Record keeps the result. Idempotent.
	Record(ctx context.Context, d raftstore.Drill) error
}

// Starter starts Flink in a sandbox.
type Starter interface {
	// Start returns when Flink has run and is gone again, and says how long it took. An error that is ErrFailed says that
	// Flink did not do what the level asks.
	Start(ctx context.Context, s Sandbox) (Started, error)
}

// Sandbox is what is started.
type Sandbox struct {
	Replica raftstore.Replica
	Line    replicator.StartLine // from the replica, or from its copy
	Level   int
}

// Started is what Flink did.
type Started struct {
	FlinkVersion string        // as the command says; empty: it said nothing
	RunningAfter time.Duration // from the start of the command until the job ran
}

// Request is one drill.
type Request struct {
	// Replica is what a failover of the job would go on from now.
	Replica raftstore.Replica
	Level   int
	// Starter is for level 2 and above.
	Starter Starter
	// Flink is the version that it starts; zero: the one that a start line is for where nothing is said.
	Flink replicator.FlinkVersion
	// Scratch is a root for a copy that Flink starts from instead of the replica, so that it may have it; zero: no copy.
	Scratch fsutil.URI
	// Parallel is how many files are read at a time; zero: replicator.DefaultParallel.
	Parallel int
	// Tell, if set, hears what is done next, for a person who waits.
	Tell func(what string)
}

func (r Request) check() error {
	switch {
	case r.Level < LevelBytes || r.Level > LevelCheckpoint:
		return fmt.Errorf("level %d: want %d to %d", r.Level, LevelBytes, LevelCheckpoint)
	case r.Level > LevelBytes && r.Starter == nil:
		return fmt.Errorf("level %d starts Flink: say by which command", r.Level)
	case r.Level == LevelBytes && r.Scratch != (fsutil.URI{}):
		return fmt.Errorf("level %d only reads the replica: there is nothing to copy it for", r.Level)
	case !raftstore.Offerable(r.Replica):
		return fmt.Errorf("%w: replica %s is %s (at risk: %t): no failover would go on from it", replicator.ErrRefused, r.Replica.URI, r.Replica.Status, r.Replica.AtRisk)
	case r.Replica.Claimed:
		return fmt.Errorf("%w: replica %s was promoted with CLAIM: its files are Flink's, which may change them at any time", replicator.ErrRefused, r.Replica.URI)
	}
	return nil
}

// Run makes the drill and has it put on record, also when it failed: then the error is ErrFailed, and the drill's Detail
// says why. Any other error kept the drill from being made to its end, and nothing is on record of it. However it ends, the
// replica is unpinned unless it was pinned before. The drill's clock (RTO) stands still while the replica is copied.
func Run(ctx context.Context, opener replicator.Opener, group Group, req Request) (d raftstore.Drill, err error) {
	if err := req.check(); err != nil {
		return d, err
	}
	if req.Tell == nil {
		req.Tell = func(string) {}
	}
	if !req.Replica.Pinned {
		defer func() { err = errors.Join(err, unpin(ctx, group, req.Replica.Key)) }()
		if err := group.Pin(ctx, req.Replica.Key, true); err != nil {
			return d, fmt.Errorf("pin the replica: %w", err)
		}
	}
	r := rehearsal{Request: req, opener: opener}
	d, err = r.make(ctx)
	if err != nil && (ctx.Err() != nil || !errors.Is(err, ErrFailed)) {
		return d, err
	}
	if recorded := group.Record(ctx, d); recorded != nil {
		return d, errors.Join(err, fmt.Errorf("put the drill on record: %w", recorded))
	}
	return d, err
}

// unpinWithin bounds how long an interrupted drill waits for the group.
const unpinWithin = 10 * time.Second

// unpin lets the replica go, also when ctx has ended.
func unpin(ctx context.Context, group Group, key raftstore.Key) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unpinWithin)
	defer cancel()
	if err := group.Pin(ctx, key, false); err != nil {
		return fmt.Errorf("unpin the replica, which stays pinned until somebody does: %w", err)
	}
	return nil
}

// rehearsal is one drill under way.
type rehearsal struct {
	Request
	opener replicator.Opener
	dir    fsutil.URI // of the replica
	said   []string   // for the record
}

// make makes the drill; the error is ErrFailed when that is its result.
func (r *rehearsal) make(ctx context.Context) (raftstore.Drill, error) {
	began := time.Now()
	d := raftstore.Drill{Key: r.Replica.Key, Job: r.Replica.Job, Level: int32(r.Level), StartedAt: began.UTC()} // 1 to 3
	if completed := r.Replica.CompletedAt; !completed.IsZero() {
		d.RPO = max(began.Sub(completed), 0)
	}
	err := r.rehearse(ctx, began, &d)
	if err != nil && !errors.Is(err, ErrFailed) {
		return d, err
	}
	d.Passed = err == nil
	if err != nil {
		r.said = append([]string{err.Error()}, r.said...)
	}
	d.Detail = clip(strings.Join(r.said, "; "))
	return d, err
}

// rehearse does what a failover does, until Flink runs, and reads every byte then: reading them is no part of a failover,
// and what Flink did to the replica shows.
func (r *rehearsal) rehearse(ctx context.Context, began time.Time, d *raftstore.Drill) error {
	var err error
	if r.dir, err = fsutil.ParseURI(r.Replica.URI); err != nil {
		return fmt.Errorf("understand where the replica lies: %w", err)
	}
	manifest := replicator.CRC(r.Replica.ManifestCRC)
	if err := failedIf(replicator.CheckLengths(ctx, r.opener, replicator.LengthsRequest{Dir: r.dir, Manifest: &manifest})); err != nil {
		return err
	}
	if r.Level > LevelBytes {
		if err := r.start(ctx, began, d); err != nil {
			return err
		}
	}
	r.Tell("reading every byte of " + r.dir.String())
	report, err := replicator.Check(ctx, r.opener, replicator.CheckRequest{Dir: r.dir, Parallel: r.Parallel})
	switch {
	case errors.Is(err, replicator.ErrVerify) && len(report.Problems) > 0:
		return fmt.Errorf("%w: %w, the first of them %s", ErrFailed, err, report.Problems[0])
	case err != nil:
		return failedIf(err)
	case !report.Digests:
		return fmt.Errorf("%w: there is no manifest to compare the bytes with", ErrFailed)
	}
	if r.Level == LevelBytes {
		d.RTO = time.Since(began)
	}
	r.said = append(r.said, fmt.Sprintf("%d files, %d bytes read and equal", report.Files, report.Bytes))
	return nil
}

// start has Flink started from the replica or its copy.
func (r *rehearsal) start(ctx context.Context, began time.Time, d *raftstore.Drill) error {
	line, err := r.line(ctx, r.dir)
	if err != nil {
		return err
	}
	var copying time.Duration
	if r.Scratch != (fsutil.URI{}) {
		copied := time.Now()
		dir, err := r.copy(ctx)
		if err != nil {
			return err
		}
		copying = time.Since(copied)
		if line, err = r.line(ctx, dir); err != nil {
			return err
		}
		r.said = append(r.said, "started from a copy at "+line.Path)
	}
	r.Tell(fmt.Sprintf("starting Flink %s from %s", line.Flink, line.Path))
	before := time.Since(began) - copying
	started, err := r.Starter.Start(ctx, Sandbox{Replica: r.Replica, Line: line, Level: r.Level})
	d.FlinkVersion = started.FlinkVersion
	if err != nil {
		return err
	}
	d.RTO = before + started.RunningAfter
	r.said = append(r.said, string(line.Mode))
	return nil
}

// line is how Flink is started from a replica. Off a copy that is with NO_CLAIM or not at all.
func (r *rehearsal) line(ctx context.Context, dir fsutil.URI) (replicator.StartLine, error) {
	root, err := r.opener.OpenRead(ctx, dir)
	if err != nil {
		return replicator.StartLine{}, fmt.Errorf("open %s: %w", dir, err)
	}
	raw, err := replicator.ReadMetadata(ctx, root, ".")
	if err != nil {
		return replicator.StartLine{}, err
	}
	meta, err := flinkmeta.Scan(raw)
	if err != nil {
		return replicator.StartLine{}, fmt.Errorf("scan %s: %w", dir, err)
	}
	found, err := replicator.LookUp(ctx, r.opener, replicator.LookupRequest{Dir: dir, Raw: raw})
	if err != nil {
		return replicator.StartLine{}, failedIf(err)
	}
	req := replicator.StartRequest{Path: found.Path, Facts: replicator.FactsOf(meta), Flink: r.Flink}
	if r.Scratch == (fsutil.URI{}) {
		if req.Facts.Changelog {
			return replicator.StartLine{}, fmt.Errorf("%w: the job uses the changelog state backend, and Flink starts it with CLAIM alone: that would hand the replica to the drill's Flink. Drill it on a copy", replicator.ErrRefused)
		}
		if line, err := replicator.Start(req); err != nil || line.Mode == "" { // a Flink without claim modes, which deletes nothing
			return line, err
		}
		req.Mode = replicator.NoClaim
	}
	return replicator.Start(req)
}

// failedIf makes damage the drill's result; any other error stays what it is.
func failedIf(err error) error {
	if err != nil && (errors.Is(err, replicator.ErrVerify) || errors.Is(err, fsutil.ErrCorrupt)) {
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	return err
}

// maxDetailBytes is how much of what was seen is kept on record.
const maxDetailBytes = 1000

// clip makes one line of what anybody may have said, not longer than the record takes.
func clip(s string) string {
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "?"), unicode.IsControl), " ")
	if len(s) <= maxDetailBytes {
		return s
	}
	return strings.ToValidUTF8(s[:maxDetailBytes-len("…")], "") + "…"
}
