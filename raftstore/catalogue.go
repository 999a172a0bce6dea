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

// identity is what tells one checkpoint from another: not the seq, which is given, nor what describes it.
func (f Found) identity() Found {
	return Found{Job: f.Job, JobID: f.JobID, CheckpointID: f.CheckpointID, MetadataCRC: f.MetadataCRC, URI: f.URI}
}

func sameCheckpoint(a, b Found) bool { return a.identity() == b.identity() }

// find returns what is known of a checkpoint.
func (c catalogue) find(f Found) (Found, bool) {
	for _, seq := range c.byJob.at(f.Job) {
		if its := c.bySeq.at(seq); sameCheckpoint(its, f) {
			return its, true
		}
	}
	return Found{}, false
}

// jobKind is what KeepFound counts.
type jobKind struct {
	job       string
	savepoint bool
}

func (f Found) jobKind() jobKind { return jobKind{f.Job, f.Savepoint} }

// news returns what is newer than all that is known, of a list that is sorted oldest first: what stands before a known
// one is older, and was known before the newer ones pushed it out. So a source may list all that it sees, again and
// again.
func (c catalogue) news(found []Found) []Found {
	full := map[jobKind]int{}
	var news []Found
	for _, f := range slices.Backward(found) {
		g := f.jobKind()
		if full[g] == KeepFound {
			continue
		}
		if _, known := c.find(f); known {
			full[g] = KeepFound
			continue
		}
		full[g]++
		news = append(news, f)
	}
	slices.Reverse(news)
	return news
}

// with adds what is not known yet, under a seq that is free, and drops what is then too old.
func (c catalogue) with(f Found) catalogue {
	seqs := slices.Clone(c.byJob.at(f.Job))
	at, _ := slices.BinarySearch(seqs, f.Seq)
	seqs = slices.Insert(seqs, at, f.Seq)
	c.bySeq, c.byJob = c.bySeq.with(f.Seq, f), c.byJob.with(f.Job, seqs)
	alike := slices.DeleteFunc(slices.Clone(seqs), func(seq uint64) bool { return c.bySeq.at(seq).Savepoint != f.Savepoint })
	if len(alike) > KeepFound {
		c = c.without(alike[0])
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
	switch seq {
	case 0:
		return c.bySeq.values()
	case math.MaxUint64:
		return nil
	}
	var found []Found
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
