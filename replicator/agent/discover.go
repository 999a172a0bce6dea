package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/raftstore"
)

// lookParallel is how many jobs of a base are looked at at a time.
const lookParallel = 8

// A directory's modification time has the precision of its file system (milliseconds on HDFS, and a second on some
// others), so what changed twice within that looks as if it had changed once. So a directory whose time is new is
// looked at again until the time has been the same in settlePolls polls and for settleFor.
const (
	settlePolls = 2
	settleFor   = 2 * time.Second
)

// discovery finds the completed checkpoints and savepoints of one export. It remembers what it saw, so that a poll
// asks only for what may have changed. What a poll costs when nothing has: for each base one listing of the directory
// above {job}, and for each job one of its own directory, since what a job writes shows in the times of its JobID
// directories alone. Those, however many there are, are listed when their time changes; shared/ and taskowned/ never.
// It is used by one goroutine.
type discovery struct {
	stores ReadOpener
	bases  []*baseDir
	look   looker
	health *health
	now    func() time.Time // of this machine: tells how long something has been seen, never compared with a file's time
}

// newDiscovery begins with what the group has on record of the export, so that a new leader doesn't read it all again.
func newDiscovery(export raftstore.Export, recorded []raftstore.Found, stores ReadOpener, now func() time.Time) (*discovery, error) {
	h := &health{}
	d := &discovery{stores: stores, look: looker{recorded: newRecord(recorded), reading: make(chan struct{}, readParallel), health: h}, health: h, now: now}
	for _, s := range export.Bases {
		b, err := parseBase(s)
		if err != nil {
			return nil, err
		}
		d.bases = append(d.bases, &baseDir{base: b, jobs: map[string]*jobDir{}, used: slices.ContainsFunc(recorded, func(f raftstore.Found) bool {
			u, err := fsutil.ParseURI(f.URI)
			_, below := b.above.Rel(u)
			return err == nil && below
		})})
	}
	return d, nil
}

// poll is what one look at the storage gave.
type poll struct {
	found    []*checkpoint   // complete and not recorded yet, in the order in which they are to be numbered
	jobs     int             // that are there
	problems []string        // a sentence each: what could not be looked at, and why
	whole    bool            // nothing was missed because of an error that may pass
	present  map[string]bool // jobs that have a checkpoint or savepoint, or of which nobody can tell; nil: not known
}

// problem is all problems as one text, empty when there is none.
func (p poll) problem() string {
	const most = 3
	if n := len(p.problems); n > most {
		return fmt.Sprintf("%s; and %d more", strings.Join(p.problems[:most], "; "), n-most)
	}
	return strings.Join(p.problems, "; ")
}

func (p *poll) failed(err error) {
	p.problems = append(p.problems, err.Error())
	p.whole = p.whole && definite(err)
}

// poll looks once. What can't be looked at costs only itself: it is a problem, and is looked at again in the next poll.
func (d *discovery) poll(ctx context.Context) poll {
	p := poll{whole: true, present: map[string]bool{}}
	unseen := false // a base, and so jobs
	for _, b := range d.bases {
		if err := b.list(ctx, d.stores); err != nil {
			p.failed(err)
			unseen = true
			if !definite(err) {
				p.jobs += len(b.jobs)
				continue // nothing else is asked below it now
			}
		}
		d.look.now = d.now()
		b.lookAtJobs(ctx, d.look)
		for _, job := range b.sorted() {
			p.jobs++
			for _, err := range job.problems {
				p.failedAt(err, d.health)
			}
			if len(job.problems) > 0 {
				p.present[job.name] = true
			}
			for c := range job.checkpoints {
				if c.found != nil {
					p.present[job.name] = true
				}
				if c.found != nil && !c.recorded {
					p.found = append(p.found, c)
				}
			}
		}
	}
	slices.SortFunc(p.found, func(a, b *checkpoint) int {
		return cmp.Or(
			strings.Compare(a.job, b.job),
			a.life.Compare(b.life),
			strings.Compare(string(a.jobID), string(b.jobID)),
			cmp.Compare(a.found.CheckpointID, b.found.CheckpointID),
			strings.Compare(a.found.URI, b.found.URI),
		)
	})
	if ctx.Err() != nil {
		p.whole = false
	}
	if unseen {
		p.present = nil
	}
	return p
}

// baseDir is what was seen of a base.
type baseDir struct {
	base
	fs   fsutil.ReadFS // of above; nil until it could be opened
	jobs map[string]*jobDir
	used bool // there was a job once
}

func (b *baseDir) sorted() []*jobDir {
	jobs := make([]*jobDir, 0, len(b.jobs))
	for _, j := range b.jobs {
		jobs = append(jobs, j)
	}
	slices.SortFunc(jobs, func(a, b *jobDir) int { return strings.Compare(a.name, b.name) })
	return jobs
}

// list finds the jobs that are there. Those that vanished are forgotten.
func (b *baseDir) list(ctx context.Context, stores ReadOpener) error {
	if b.fs == nil {
		opened, err := stores.OpenRead(ctx, b.above)
		if err != nil {
			return fmt.Errorf("open %s: %w", b.above, err)
		}
		b.fs = opened
	}
	infos, err := b.fs.List(ctx, ".")
	if errors.Is(err, fs.ErrNotExist) && b.used {
		return fmt.Errorf("%s was there and is not any more, so nobody knows what is new below it; is its file system mounted? %w", b.above, fsutil.ErrUnavailable)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is not there: no job has written below it yet, or the export names another place than the jobs: %w", b.above, err)
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", b.above, err)
	}
	there := make(map[string]bool, len(infos))
	for _, fi := range infos {
		if !fi.IsDir || !jobName(fi.Name) {
			continue
		}
		there[fi.Name], b.used = true, true
		if b.jobs[fi.Name] == nil {
			b.jobs[fi.Name] = &jobDir{name: fi.Name, dir: b.dir(fi.Name), ids: map[string]*idDir{}, savepoints: map[string]*checkpoint{}}
		}
	}
	for name := range b.jobs {
		if !there[name] {
			delete(b.jobs, name)
		}
	}
	return nil
}

// lookAtJobs looks at all jobs, some at a time. Each keeps its own problems.
func (b *baseDir) lookAtJobs(ctx context.Context, look looker) {
	var group errgroup.Group
	group.SetLimit(lookParallel)
	for _, j := range b.jobs {
		group.Go(func() error {
			j.problems = nil
			j.poll(ctx, b.fs, look)
			return nil
		})
	}
	_ = group.Wait() // nobody returns an error
}

// jobDir is what was seen of the directory of one job of one base.
type jobDir struct {
	name, dir  string
	ids        map[string]*idDir
	savepoints map[string]*checkpoint
	problems   []error // of the last poll
	failing    failing
}

// checkpoints goes through all that are there.
func (j *jobDir) checkpoints(yield func(*checkpoint) bool) {
	for _, c := range j.savepoints {
		if !yield(c) {
			return
		}
	}
	for _, id := range j.ids {
		for _, c := range id.checkpoints {
			if !yield(c) {
				return
			}
		}
	}
}

func (j *jobDir) poll(ctx context.Context, from fsutil.ReadFS, look looker) {
	infos, err := from.List(ctx, j.dir)
	if errors.Is(err, fs.ErrNotExist) { // vanished since, or has written nothing yet
		clear(j.ids)
		clear(j.savepoints)
		return
	}
	if err := j.failing.problem(wrapped(err, "list", from.Root().Join(j.dir)), false, look.now, look.health); err != nil {
		j.problems = append(j.problems, err)
		return
	}
	there, flat := make(map[string]bool, len(infos)), false
	for _, fi := range infos {
		if !fi.IsDir {
			continue
		}
		there[fi.Name] = true
		switch {
		case jobIDName.MatchString(fi.Name):
			id := j.ids[fi.Name]
			if id == nil {
				id = &idDir{job: j.name, id: raftstore.JobID(fi.Name), dir: path.Join(j.dir, fi.Name), checkpoints: map[string]*checkpoint{}}
				j.ids[fi.Name] = id
			}
			j.problems = append(j.problems, id.poll(ctx, from, look, seenDir{fi.ModTime, look.now})...)
		case strings.HasPrefix(fi.Name, savepointPrefix):
			c := j.savepoints[fi.Name]
			if c == nil {
				dir := path.Join(j.dir, fi.Name)
				c = &checkpoint{job: j.name, dir: dir, uri: from.Root().Join(dir)}
				j.savepoints[fi.Name] = c
			}
			c.life = fi.ModTime
			j.problems = append(j.problems, c.poll(ctx, from, look, seenDir{fi.ModTime, look.now})...)
		default:
			if _, chk := checkpointID(fi.Name); chk && !flat {
				flat = true
				j.problems = append(j.problems, fmt.Errorf("%s lies directly below the job's directory and is not replicated: Flink wrote it with execution.checkpointing.create-subdir "+
					"(state.checkpoints.create-subdir before 2.0) set to false, and then nothing tells what one life of the job wrote from what the next did; set it to true, or leave it out: %w",
					from.Root().Join(path.Join(j.dir, fi.Name)), fsutil.ErrUnsupported))
			}
		}
	}
	for name := range j.ids {
		if !there[name] {
			delete(j.ids, name)
		}
	}
	for name := range j.savepoints {
		if !there[name] {
			delete(j.savepoints, name)
		}
	}
}

// idDir is what was seen of a JobID directory.
type idDir struct {
	job         string
	id          raftstore.JobID
	dir         string
	settled     settle
	failing     failing
	checkpoints map[string]*checkpoint
}

// poll lists the directory if its time says that something came or went; else it looks again at what isn't complete.
func (d *idDir) poll(ctx context.Context, from fsutil.ReadFS, look looker, seen seenDir) (problems []error) {
	if !d.settled.due(seen) {
		for _, c := range d.checkpoints {
			if c.found == nil {
				problems = append(problems, look.look(ctx, from, c)...)
			}
		}
		return problems
	}
	infos, err := from.List(ctx, d.dir)
	if errors.Is(err, fs.ErrNotExist) {
		clear(d.checkpoints)
		return nil
	}
	if err := d.failing.problem(wrapped(err, "list", from.Root().Join(d.dir)), false, seen.now, look.health); err != nil {
		return []error{err}
	}
	there := make(map[string]bool, len(infos))
	for _, fi := range infos {
		n, ok := checkpointID(fi.Name)
		if !ok || !fi.IsDir {
			continue // shared/ and taskowned/ among them
		}
		there[fi.Name] = true
		c := d.checkpoints[fi.Name]
		if c == nil {
			dir := path.Join(d.dir, fi.Name)
			c = &checkpoint{job: d.job, jobID: d.id, id: n, dir: dir, uri: from.Root().Join(dir)}
			d.checkpoints[fi.Name] = c
		}
		c.life = seen.modTime
		problems = append(problems, c.poll(ctx, from, look, seenDir{fi.ModTime, seen.now})...)
	}
	for name := range d.checkpoints {
		if !there[name] {
			delete(d.checkpoints, name)
		}
	}
	if !slices.ContainsFunc(problems, passing) {
		d.settled.looked(seen)
	}
	return problems
}

// seenDir is a directory's modification time as its parent's listing has it, and when that was seen.
type seenDir struct{ modTime, now time.Time }

// settle knows for how long a directory has had the same modification time.
type settle struct {
	modTime time.Time
	since   time.Time // zero: never looked at
	polls   int
}

// due says whether the directory may hold something new.
func (s *settle) due(seen seenDir) bool {
	return s.since.IsZero() || !seen.modTime.Equal(s.modTime) || s.polls < settlePolls || seen.now.Sub(s.since) < settleFor
}

// looked notes that the directory was looked at without an error.
func (s *settle) looked(seen seenDir) {
	if s.since.IsZero() || !seen.modTime.Equal(s.modTime) {
		*s = settle{modTime: seen.modTime, since: seen.now}
	}
	s.polls++
}
