package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"time"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// News is what a source datacenter says of one export: checkpoints, or a sign of life.
type News struct {
	Found    []raftstore.Found // by Seq; after the first ones all are new
	Complete bool              // everything that was known has been sent
	// PolledAt is when the source last looked at its storage and saw everything, by its own clock. Zero: not known to
	// the agent that answers. Whoever fills it reads it before it reads what was found.
	PolledAt time.Time
	Problem  string // why the source's storage can't be looked at just now, or not all of it; empty when it can
	// Gone are known jobs of which the storage had nothing any more at PolledAt; said with that alone.
	Gone []string
}

// ReadOpener opens places for reading, by their URI as Flink there names them.
type ReadOpener = replicator.ReadOpener

// SourceDC is another datacenter as this one pulls from it. All calls are safe for concurrent use.
type SourceDC interface {
	// Watch calls each with all checkpoints that are known of the export, then with each new one, and with signs of life
	// in between. It returns when ctx ends, when each fails (with its error), or when the stream breaks; calling it again
	// starts from nothing.
	Watch(ctx context.Context, export string, each func(News) error) error
	// Open gives the files of an export. A root may lie above what is exported, where several places have it in common;
	// what is asked below it does not.
	Open(export string) ReadOpener
	// TellFences says which jobs of the export are promoted here, or no longer are (Lifted), at most 500; their Export and
	// Datacenter are not read. It returns what the other group has recorded of them. Telling twice is telling once.
	TellFences(ctx context.Context, export string, jobs []raftstore.FencedJob) ([]raftstore.FencedJob, error)
}

// Group is the datacenter's replicated state; *raftstore.Store is the one of the product.
type Group interface {
	Propose(ctx context.Context, cmd *raftv1.Command) error
	View() raftstore.View
	WhileLeader(ctx context.Context, run func(ctx context.Context, term uint64) error) error
	// Changed is closed at the next applied command. Get it before View, so that no change is missed.
	Changed() <-chan struct{}
	Role() string // "leader" where it leads
	Peers() []raftstore.Peer
}

// Reporter reaches the leader of the group when that is another agent; *rpc.Voter is the one of the product.
type Reporter interface {
	// Report sends each sign of life to the agent that leads, for as long as that is so. It returns when reports end, when
	// ctx does, when another agent leads, or when the leader doesn't answer.
	Report(ctx context.Context, reports iter.Seq[Report]) error
}

// Config is what an agent works with. ID, Datacenter, Group and Stores are needed.
type Config struct {
	ID, Datacenter string
	Version        string // what others are told
	Group          Group
	Reporter       Reporter // nil in a group of one
	// Stores opens this datacenter's places: bases of exports for reading, roots of routes for writing.
	Stores replicator.Opener
	// Sources are the datacenters to pull from, by name.
	Sources map[string]SourceDC
	// Poll is the time between two looks at the exported storage; 0: 5 s.
	Poll time.Duration
	// SilentAfter is how long a source may say nothing before its jobs are SOURCE_SILENT; 0: 30 s.
	SilentAfter time.Duration
	// Parallel is how many checkpoints each agent copies at a time; 0: 4. The leader's counts for all. A copy of a higher priority doesn't wait for lower
	// ones: up to twice as many may run then.
	Parallel int
	// FilesParallel is how many files of one checkpoint are copied at a time; 0: replicator's own choice.
	FilesParallel int
	// LinkBytesPerSecond bounds what all copies of the group together read at their sources, whatever their routes allow:
	// each agent that copies takes an equal part of it. 0: no bound.
	LinkBytesPerSecond int64
	// ShardBytes is from how many bytes on the other agents of the group help with a copy; 0: they never do.
	ShardBytes int64
	// Verify says what is read back before READY; empty: replicator's own choice.
	Verify replicator.VerifyMode
	// WhileLeading are run whenever this agent leads, each in a goroutine of its own, until their ctx ends with the
	// leadership: retention, scrubs, migrations. Whoever ends before is not started again in the same leadership.
	WhileLeading []func(ctx context.Context)
	Observer     Observer         // nil: nobody
	Log          *slog.Logger     // nil discards
	Now          func() time.Time // nil: time.Now; what is written into the state and compared with it
}

// The defaults.
const (
	DefaultPoll        = 5 * time.Second
	DefaultSilentAfter = 30 * time.Second
	DefaultParallel    = 4
)

func (c Config) withDefaults() (Config, error) {
	var errs []error
	if c.ID == "" || c.Datacenter == "" {
		errs = append(errs, errors.New("an agent needs an id and a datacenter"))
	}
	if c.Group == nil || c.Stores == nil {
		errs = append(errs, errors.New("an agent needs a group and stores"))
	}
	for what, negative := range map[string]bool{
		"poll interval": c.Poll < 0, "time until a source is silent": c.SilentAfter < 0, "number of parallel copies": c.Parallel < 0,
		"number of files at a time": c.FilesParallel < 0, "rate of the link": c.LinkBytesPerSecond < 0,
	} {
		if negative {
			errs = append(errs, fmt.Errorf("the %s can't be negative", what))
		}
	}
	if c.Poll == 0 {
		c.Poll = DefaultPoll
	}
	if c.SilentAfter == 0 {
		c.SilentAfter = DefaultSilentAfter
	}
	if c.Parallel == 0 {
		c.Parallel = DefaultParallel
	}
	if c.Log == nil {
		c.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, errors.Join(errs...)
}
