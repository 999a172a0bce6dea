package agent

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// readParallel is how many _metadata files are in memory at a time. Most have some kilobytes; of a large job it is
// 15 MB for 100,000 handles.
const readParallel = 2

// errUnreadable says that a _metadata is there and no Flink can read it, or none that this version knows.
var errUnreadable = errors.New("not a checkpoint that can be read")

// checkpoint is what was seen of a directory that holds a checkpoint or savepoint, or will.
type checkpoint struct {
	job     string
	jobID   raftstore.JobID // empty: a savepoint
	id      int64           // of chk-N
	dir     string          // below the root of the base's file system
	uri     fsutil.URI
	life    time.Time // of the JobID directory that holds it when it was last listed; a savepoint's own
	settled settle

	// _metadata as it was last read.
	size    int64
	modTime time.Time
	failing failing
	unread  error // it doesn't parse
	reads   int   // how often it didn't

	found    *raftstore.Found // complete; nil: not yet, or gone
	recorded bool             // the group has it
}

// poll looks at the checkpoint as long as it isn't complete, and when its directory has changed: a job that was
// started again with a fixed JobID may have written another one under the same name.
func (c *checkpoint) poll(ctx context.Context, from fsutil.ReadFS, l looker, seen seenDir) []error {
	if c.found != nil && !c.settled.due(seen) {
		return nil
	}
	problems := l.look(ctx, from, c)
	if !slices.ContainsFunc(problems, passing) {
		c.settled.looked(seen)
	}
	return problems
}

// looker looks whether checkpoints are complete.
type looker struct {
	recorded record
	reading  chan struct{}
	health   *health
	now      time.Time // when the poll began
}

// look asks for _metadata and reads it if it is another one than was read last. A checkpoint is complete when its
// _metadata parses to the very end: Flink renames it into place when everything else is there, and where it can't
// rename, a part of it doesn't parse.
func (l looker) look(ctx context.Context, from fsutil.ReadFS, c *checkpoint) []error {
	fi, err := from.Stat(ctx, path.Join(c.dir, metadataName))
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && (fi.IsDir || fi.Size == 0):
		c.found, c.recorded, c.unread, c.reads = nil, false, nil, 0
		return nil
	case err != nil:
		return []error{c.failing.problem(wrapped(err, "look at", c.uri.Join(metadataName)), true, l.now, l.health)}
	}
	same := fi.Size == c.size && fi.ModTime.Equal(c.modTime)
	if same && c.found != nil {
		return nil
	}
	if f, known := l.recorded.has(c, fi.ModTime); known {
		c.size, c.modTime, c.found, c.recorded = fi.Size, fi.ModTime, f, true
		return nil
	}
	if !same || c.unread == nil || c.reads < settlePolls {
		if err := c.failing.problem(l.read(ctx, from, c, fi), true, l.now, l.health); err != nil {
			return []error{err}
		}
	}
	if c.unread != nil && c.reads >= settlePolls { // the first time it may have been half written
		return []error{c.unread}
	}
	return nil
}

// read reads _metadata. That it doesn't parse is no error, but noted.
func (l looker) read(ctx context.Context, from fsutil.ReadFS, c *checkpoint, fi fsutil.FileInfo) error {
	l.reading <- struct{}{}
	defer func() { <-l.reading }()
	raw, err := replicator.ReadMetadata(ctx, from, c.dir)
	if errors.Is(err, fs.ErrNotExist) {
		c.found, c.recorded = nil, false
		return nil
	}
	if err != nil {
		return err
	}
	if fi.Size != c.size || !fi.ModTime.Equal(c.modTime) {
		c.reads = 0
	}
	c.size, c.modTime, c.found, c.recorded = fi.Size, fi.ModTime, nil, false
	found, err := c.describe(raw)
	if err != nil {
		c.reads++
		c.unread = fmt.Errorf("%s is %w: %w", c.uri.Join(metadataName), errUnreadable, err)
		return nil
	}
	c.found, c.unread, c.reads = found, nil, 0
	return nil
}

func (c *checkpoint) describe(raw []byte) (*raftstore.Found, error) {
	meta, err := flinkmeta.Scan(raw)
	if err != nil {
		return nil, err
	}
	refs, err := meta.Refs(c.uri.String())
	if err != nil {
		return nil, err
	}
	f := &raftstore.Found{
		Job: c.job, JobID: c.jobID, CheckpointID: c.id, MetadataCRC: crc32.Checksum(raw, castagnoli), URI: c.uri.String(),
		CompletedAt: c.modTime.UTC(), Files: int64(len(refs)),
	}
	if c.jobID == "" {
		f.Savepoint, f.CheckpointID = true, meta.CheckpointID
	}
	for _, ref := range refs {
		f.Bytes += ref.Need
	}
	return f, nil
}

// record is what the group had on record when a discovery began.
type record struct {
	byURI map[string]raftstore.Found
	// oldest is for the jobs of which the group keeps no more (raftstore.KeepFound): when the oldest one that it has was
	// completed. What is older was dropped from the record. It must not come in again: it would be numbered as the newest.
	oldest map[kindOfJob]time.Time
}

type kindOfJob struct {
	job       string
	savepoint bool
}

func newRecord(recorded []raftstore.Found) record {
	r := record{byURI: make(map[string]raftstore.Found, len(recorded)), oldest: map[kindOfJob]time.Time{}}
	count := map[kindOfJob]int{}
	first := map[kindOfJob]time.Time{}
	for _, f := range recorded { // by Seq: of two with one name the later counts
		r.byURI[f.URI] = f
		kind := kindOfJob{f.Job, f.Savepoint}
		if at, ok := first[kind]; !ok || f.CompletedAt.Before(at) {
			first[kind] = f.CompletedAt
		}
		if count[kind]++; count[kind] >= raftstore.KeepFound {
			r.oldest[kind] = first[kind]
		}
	}
	for kind := range r.oldest {
		r.oldest[kind] = first[kind]
	}
	return r
}

// has says whether the group has or had the checkpoint whose _metadata has this modification time: both times are of
// one storage's clock.
func (r record) has(c *checkpoint, modTime time.Time) (*raftstore.Found, bool) {
	f, ok := r.byURI[c.uri.String()]
	if ok && f.CompletedAt.Equal(modTime) {
		return &f, true
	}
	oldest, full := r.oldest[kindOfJob{c.job, c.jobID == ""}]
	if full && modTime.Before(oldest) {
		return &raftstore.Found{Job: c.job, JobID: c.jobID, CheckpointID: c.id, URI: c.uri.String(), CompletedAt: modTime}, true
	}
	return nil, false
}
