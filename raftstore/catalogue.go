package raftstore

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// catalogue is what was found below one export, of each job name the newest. Like a tree it never changes.
type catalogue struct {
	bySeq tree[uint64, Found]
	byJob tree[string, []uint64] // seqs, ascending
}

func newCatalogue() catalogue {
	return catalogue{bySeq: newTree[uint64, Found](cmp.Compare[uint64]), byJob: newTree[string, []uint64](strings.Compare)}
}

// sameCheckpoint compares what tells one checkpoint from another: not the seq, which is given, nor what describes it.
func sameCheckpoint(a, b Found) bool {
	return a.Job == b.Job && a.JobID == b.JobID && a.CheckpointID == b.CheckpointID && a.MetadataCRC == b.MetadataCRC && a.URI == b.URI
}

func (c catalogue) knows(f Found) bool {
	return slices.ContainsFunc(c.byJob.at(f.Job), func(seq uint64) bool { return sameCheckpoint(c.bySeq.at(seq), f) })
}

// with adds what is not known yet, under a seq that is free, and drops what is then too old.
func (c catalogue) with(f Found) catalogue {
	seqs := slices.Clone(c.byJob.at(f.Job))
	at, _ := slices.BinarySearch(seqs, f.Seq)
	c.bySeq = c.bySeq.with(f.Seq, f)
	c.byJob = c.byJob.with(f.Job, slices.Insert(seqs, at, f.Seq))
	alike := 0
	oldest := uint64(0)
	for _, seq := range c.byJob.at(f.Job) {
		if c.bySeq.at(seq).Savepoint == f.Savepoint {
			if alike++; alike == 1 {
				oldest = seq
			}
		}
	}
	if alike > KeepFound {
		c = c.without(oldest)
	}
	return c
}

func (c catalogue) without(seq uint64) catalogue {
	f, known := c.bySeq.get(seq)
	if !known {
		return c
	}
	c.bySeq = c.bySeq.without(seq)
	if rest := slices.DeleteFunc(slices.Clone(c.byJob.at(f.Job)), func(other uint64) bool { return other == seq }); len(rest) > 0 {
		c.byJob = c.byJob.with(f.Job, rest)
	} else {
		c.byJob = c.byJob.without(f.Job)
	}
	return c
}

// withoutFrom drops what has this seq or a higher one.
func (c catalogue) withoutFrom(seq uint64) catalogue {
	for other := range c.bySeq.from(seq) { // of the tree as it is now
		c = c.without(other)
	}
	return c
}

// after lists by seq what has a higher one; 0 lists all.
func (c catalogue) after(seq uint64) []Found {
	var found []Found
	if seq == math.MaxUint64 {
		return nil
	}
	if seq == 0 {
		found = make([]Found, 0, c.bySeq.len())
	}
	for _, f := range c.bySeq.from(seq + 1) {
		found = append(found, f)
	}
	return found
}

// ofJob lists what is known of one job, by seq.
func (c catalogue) ofJob(job string) []Found {
	var found []Found
	for _, seq := range c.byJob.at(job) {
		found = append(found, c.bySeq.at(seq))
	}
	return found
}

func (c catalogue) jobs() []string {
	jobs := make([]string, 0, c.byJob.len())
	for job := range c.byJob.all() {
		jobs = append(jobs, job)
	}
	return jobs
}

// check returns what no sequence of commands can lead to.
func (c catalogue) check() error {
	filed := 0
	for job, seqs := range c.byJob.all() {
		filed += len(seqs)
		kept := map[bool]int{}
		for i, seq := range seqs {
			f, known := c.bySeq.get(seq)
			if !known || f.Job != job || f.Seq != seq || (i > 0 && seqs[i-1] >= seq) {
				return fmt.Errorf("seq %d is filed wrongly under job %s", seq, job)
			}
			if kept[f.Savepoint]++; kept[f.Savepoint] > KeepFound {
				return fmt.Errorf("job %s has more found checkpoints than are kept", job)
			}
			for _, other := range seqs[:i] {
				if sameCheckpoint(c.bySeq.at(other), f) {
					return fmt.Errorf("job %s has the same checkpoint as seq %d and %d", job, other, seq)
				}
			}
		}
	}
	if filed != c.bySeq.len() {
		return fmt.Errorf("%d checkpoints were found, and %d filed by job", c.bySeq.len(), filed)
	}
	for seq, f := range c.bySeq.all() {
		if err := f.Valid(); err != nil {
			return err
		}
		if seq == 0 {
			return fmt.Errorf("%s of job %s has no seq", f.URI, f.Job)
		}
	}
	return nil
}
