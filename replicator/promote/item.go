package promote

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// ErrNoJob says that a pattern of a request matches no job that is known here.
var ErrNoJob = errors.New("no such job")

// Request says what to plan for.
type Request struct {
	Jobs   []string  // patterns of job names (path.Match); none: all
	Route  string    // empty: all
	Before time.Time // only checkpoints that were completed before; zero: any
	// Flink is the version that will be started; zero: 1.20, or what a replica needs.
	Flink replicator.FlinkVersion
	Mode  replicator.ClaimMode // empty: what is right for each job
	// ScrubWithin is how long ago a replica's bytes may have been read last without a warning; 0: DefaultScrubWithin.
	ScrubWithin time.Duration
	// SilentAfter is how long a source may say nothing before that is a warning; 0: agent.DefaultSilentAfter's 30 s.
	SilentAfter time.Duration
	// Failback asks only for jobs that the route's source has promoted, and for checkpoints that it completed since.
	Failback bool
}

// DefaultScrubWithin is how long ago a replica's bytes may have been read last without a warning.
const DefaultScrubWithin = 7 * 24 * time.Hour

// Item is what is planned for one job. It is a value; its slices are not changed.
type Item struct {
	Route, Job string
	Priority   int32 // the route's
	// Key names the replica that was chosen, its Route is empty when there is none; then Blocked says why.
	Key       raftstore.Key
	Savepoint bool
	Replica   string // where it lies
	Epoch     uint64 // the job's, as the plan saw it
	Attempt   uint64 // the replica's, as the plan saw it
	// Newest is the newest replica that could be offered, when an older one was chosen as it was asked for.
	Newest           raftstore.Key
	RPO              *time.Duration // age of the chosen checkpoint; nil when nobody knows when it was completed
	CompletedAt      time.Time
	Lost             []int64 // checkpoints known at the source that are newer than the chosen one, newest last
	SourceCheckpoint *int64  // the newest of these, or the chosen one; nil: nothing is known of the source
	Mode             raftstore.ClaimMode
	Warnings         []string // a sentence each
	Blocked          string   // why nothing can be promoted, a sentence; empty when it can
	Forcible         bool     // Blocked is about the other datacenter's promotion alone
	Start            replicator.StartLine
	Files, Bytes     int64
	Promoted         bool // already, from this very replica
}

// Has says whether a replica was chosen.
func (i Item) Has() bool { return i.Key.Route != "" }

// Digest names a plan by what it decides: for each job in order the replica, its attempt, the epoch and how Flink will
// restore. Ages and warnings are not in it, so planning again on unmoved ground gives the same plan.
func Digest(items []Item) string {
	sum := sha256.New()
	for _, i := range items {
		i.write(sum)
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

func (i Item) write(to io.Writer) {
	_, _ = fmt.Fprintf(to, "%q %q %q %d %08x %q %d %d %d %t %t\n", // a hash takes everything
		i.Route, i.Job, i.Key.JobID, i.Key.CheckpointID, i.Key.MetadataCRC, i.Replica, i.Epoch, i.Attempt, i.Mode, i.Blocked != "", i.Promoted)
}
