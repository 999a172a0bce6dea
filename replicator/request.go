package replicator

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
)

// PathMode says how a replica's _metadata names the files outside of its own directory.
type PathMode string

// The path modes. Absolute is right in every combination that was tested with real Flink. Relative replicas can be
// moved as a directory, but are for NO_CLAIM restores only: after a CLAIM restore Flink carries the relative handle
// into its next checkpoint, where it points nowhere.
const (
	PathsAbsolute PathMode = "absolute"
	PathsRelative PathMode = "relative"
)

// VerifyMode says which bytes at the target are read back before a replica is READY.
type VerifyMode string

// The verify modes. What this run copied is always read back.
const (
	// VerifyAll reads back every file, also those that an earlier replica brought and that are not copied again.
	VerifyAll VerifyMode = "all"
	// VerifyCopied trusts, by their length, files that an earlier READY replica vouches for.
	VerifyCopied VerifyMode = "copied"
)

// Request is one checkpoint or savepoint to be replicated once.
type Request struct {
	Source fsutil.URI // the directory that holds _metadata, as reached from here
	Target fsutil.URI // the replica root, as reached from here
	As     fsutil.URI // the replica root as Flink at the target names it; zero: Target
	// SourceOpener opens the source's places where they are another datacenter's, which may give its places the same
	// names as this one. Nil: the Opener that opens the target opens them too.
	SourceOpener ReadOpener
	// Origins, if set, opens places of this datacenter's that the source's files may have been copied from, for reading: the
	// manifests beside the source's files name them. What is still there is not read at the source. It must open nothing but
	// what this datacenter lets others read, since the other one says the names. Nothing is ever written there.
	Origins ReadOpener
	Maps    PrefixMaps
	Paths   PathMode   // zero: PathsAbsolute
	Verify  VerifyMode // zero: VerifyAll
	// Share, if set, has the run copy and read back only its files, put them on record for whoever publishes, and end as
	// StatusCopied. Nothing is visible of it.
	Share *Share
	// TrustJournal takes the word of journals of this very checkpoint: what they have, unchanged by length, origin and
	// time, was read back before it was recorded, and is not read back again. For the run that publishes after shares.
	TrustJournal bool
	// Parallel is how many files are copied at a time; zero: DefaultParallel.
	Parallel int
	// BytesPerSecond bounds what is read from the source; zero: no bound.
	BytesPerSecond int64
	// Limits bound it too, each together with whatever else shares it, and may be changed while the copy runs.
	Limits      []*Limit
	partials    partialRule // zero: largeBytes
	originsFrom int64       // zero: originsFrom
	// Label goes into the manifest.
	Label Label
	// Meter, if set, is kept up to date for whoever shows progress.
	Meter *Meter
}

// DefaultParallel is how many files are copied at a time where nothing is said.
const DefaultParallel = 16

// Validate says what of a request can't be, before anything is opened.
func (r Request) Validate() error {
	_, err := r.withDefaults()
	return err
}

func (r Request) withDefaults() (Request, error) {
	if r.As == (fsutil.URI{}) {
		r.As = r.Target
	}
	if r.Paths == "" {
		r.Paths = PathsAbsolute
	}
	if r.Verify == "" {
		r.Verify = VerifyAll
	}
	if r.Parallel == 0 {
		r.Parallel = DefaultParallel
	}
	if r.partials == (partialRule{}) {
		r.partials = partialRule{from: largeBytes, every: largeBytes}
	}
	if r.originsFrom == 0 {
		r.originsFrom = originsFrom
	}
	if r.Meter == nil {
		r.Meter = &Meter{}
	}
	switch {
	case r.Paths != PathsAbsolute && r.Paths != PathsRelative:
		return r, fmt.Errorf("paths %q: want %s or %s", r.Paths, PathsAbsolute, PathsRelative)
	case r.Verify != VerifyAll && r.Verify != VerifyCopied:
		return r, fmt.Errorf("verify %q: want %s or %s", r.Verify, VerifyAll, VerifyCopied)
	case r.Parallel < 1 || r.Parallel > 1024:
		return r, fmt.Errorf("parallel %d: want 1 to 1024", r.Parallel)
	case r.Share != nil && r.Share.validate() != nil:
		return r, r.Share.validate()
	case r.BytesPerSecond < 0:
		return r, fmt.Errorf("bandwidth limit %d: want 0 (none) or more bytes per second", r.BytesPerSecond)
	}
	return r, nil
}

// Phase is what a run is doing.
type Phase int32

// The phases, in order.
const (
	PhasePlan Phase = iota
	PhaseCopy
	PhasePublish
	PhaseDone
)

func (p Phase) String() string {
	return [...]string{"planning", "copying", "publishing", "done"}[p]
}

// Meter counts what one run has done. It may be read while the run goes on; the next run begins at zero.
type Meter struct {
	phase atomic.Int32
	// Files and Bytes are the plan's totals, set when planning is done.
	Files, Bytes atomic.Int64
	// FilesDone are copied or found to be there; FilesSkipped is the part that was there, FilesCopied the other one.
	FilesDone, FilesSkipped, FilesCopied atomic.Int64
	// BytesDone counts towards Bytes; BytesCopied is the part that was read at the source in this run (a file that
	// is copied again after an error counts again).
	BytesDone, BytesCopied atomic.Int64
	// BytesLocal is the part that was read in this datacenter instead.
	BytesLocal atomic.Int64
	// Retries counts files that were started again after an error that may pass.
	Retries atomic.Int64

	marks marks
}

// reset begins a run: a meter counts one run, also when it is used for the next.
func (m *Meter) reset() {
	for _, n := range []*atomic.Int64{&m.Files, &m.Bytes, &m.FilesDone, &m.FilesSkipped, &m.FilesCopied, &m.BytesDone, &m.BytesCopied, &m.BytesLocal, &m.Retries} {
		n.Store(0)
	}
	m.marks.reset()
}

// Phase is what the run is doing now.
func (m *Meter) Phase() Phase { return Phase(m.phase.Load()) }

func (m *Meter) enter(p Phase) { m.phase.Store(int32(p)) }

// Status is how a run ended, in the words of the replica's state.
type Status string

// The states that a one-shot run ends in.
const (
	StatusReady      Status = "READY"
	StatusPlanned    Status = "PLANNED" // dry run
	StatusCopied     Status = "COPIED"  // a share is copied, read back and on record
	StatusSuperseded Status = "SUPERSEDED"
	StatusFailed     Status = "FAILED"
	// StatusInterrupted: the context ended. Running it again goes on.
	StatusInterrupted Status = "INTERRUPTED"
)

// Result is what a run did. Its JSON is what scripts rely on.
type Result struct {
	// Replica is the URI for `flink run -s`.
	Replica      string `json:"replica"`
	Status       Status `json:"status"`
	Job          string `json:"job,omitempty"`
	CheckpointID int64  `json:"checkpoint_id"`
	Files        int    `json:"files"` // _metadata included; of a share, its files alone
	FilesSkipped int    `json:"files_skipped"`
	Bytes        int64  `json:"bytes"`        // of all files, _metadata included
	BytesCopied  int64  `json:"bytes_copied"` // read at the source
	// BytesLocal were read where the source's files had been copied from, in this datacenter.
	BytesLocal int64 `json:"bytes_local,omitempty"`
	// BytesToCopy is what a dry run found missing at the target.
	BytesToCopy int64    `json:"bytes_to_copy,omitempty"`
	Warnings    []string `json:"warnings"`
	// Manifest is where the list of all files and their digests lies, as Flink at the target would name it.
	Manifest string `json:"manifest,omitempty"`
	// The manifest of a READY replica: its CRC32C, and the files and bytes that it lists (_metadata is not among them).
	ManifestCRC   CRC   `json:"-"`
	ManifestFiles int   `json:"-"`
	ManifestBytes int64 `json:"-"`
	// AtRisk says of a READY replica why nothing may be started from it all the same: Flink claimed it, or another one that
	// has files where this one has some, and deletes them. Empty when it doesn't. It is among Warnings too.
	AtRisk string `json:"at_risk,omitempty"`
	// Facts are what a restore from the replica depends on; known as soon as there is a plan.
	Facts    RestoreFacts  `json:"-"`
	Duration time.Duration `json:"-"`
	Seconds  float64       `json:"seconds"`
}
