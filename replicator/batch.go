package replicator

import (
	"context"
	"io"
	"strconv"

	"github.com/ckptferry/ckptferry/fsutil"
)

// Small files are copied some at a time by one worker, where the target can rename many at once: what is waited for
// there are the disk's answers to fsync, and a directory's is the same for all of its files. 10,000 files of 16 KiB
// take a third of the time on ext4. Every file is still synced, read back and compared before any is renamed.
const (
	smallBytes = 256 << 10
	batchMost  = 32
	// openMost bounds the files that all workers together have open: far below the 1024 that a process gets by default.
	openMost = 512
)

// batches groups the small ones of the given files, which come largest first; others are alone.
func (c *copier) batches(order []int) [][]int {
	size := 1
	if _, ok := c.dst.(fsutil.AllRenamer); ok {
		workers := c.plan.req.Parallel
		// Four batches a worker at least: the last ones should end at about the same time.
		size = max(1, min(batchMost, openMost/workers, len(order)/(4*workers)))
	}
	var out [][]int
	for len(order) > 0 {
		n := 1
		if c.plan.files[order[0]].bytes <= smallBytes {
			n = min(size, len(order))
		}
		out = append(out, order[:n])
		order = order[n:]
	}
	return out
}

// bringAll makes sure that the files of a batch are at the target. It knows no errors: a file that does not go smoothly
// is brought alone.
func (c *copier) bringAll(ctx context.Context, batch []int) error {
	target, ok := c.dst.(fsutil.AllRenamer)
	if len(batch) > 1 && ok {
		batch = c.bringTogether(ctx, target, batch)
	}
	for _, i := range batch {
		if err := c.bring(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// bringTogether gives back the files that did not go smoothly.
func (c *copier) bringTogether(ctx context.Context, target fsutil.AllRenamer, batch []int) (rest []int) {
	buf := c.buffers.get()
	defer c.buffers.put(buf)
	var copies []*fileCopy
	next := func(cp *fileCopy, err error) bool {
		if err != nil {
			rest = append(rest, cp.i)
		}
		if err != nil && mayPass(err) {
			c.plan.req.Meter.Retries.Add(1)
		}
		return err != nil
	}
	var missing []int
	for _, i := range batch {
		if _, ok := c.origins[i]; ok {
			rest = append(rest, i) // no link is waited for
		} else if there, err := c.isThere(ctx, i); err != nil {
			rest = append(rest, i)
		} else if there {
			c.brought(i, true)
		} else {
			missing = append(missing, i)
		}
	}
	sources := c.openInTurn(ctx, missing)
	for _, i := range missing {
		cp := &fileCopy{i: i, tmp: c.attempt.tmp(strconv.Itoa(i) + "-0")}
		if !next(cp, c.fill(ctx, cp, sources.opener(i), *buf)) {
			copies = append(copies, cp)
		}
	}
	sources.close()
	copies = without(copies, func(cp *fileCopy) bool { return next(cp, c.commit(ctx, cp)) })
	copies = without(copies, func(cp *fileCopy) bool { return next(cp, c.compare(ctx, cp, *buf)) })
	var moves []fsutil.Renaming
	for _, cp := range copies {
		moves = append(moves, fsutil.Renaming{From: cp.tmp, To: c.plan.files[cp.i].target})
	}
	err := target.RenameAll(ctx, moves)
	for _, cp := range copies {
		if next(cp, err) {
			c.uncount(cp)
			continue
		}
		c.plan.files[cp.i].crc = cp.crc
		c.brought(cp.i, false)
	}
	return rest
}

func without(copies []*fileCopy, failed func(*fileCopy) bool) []*fileCopy {
	kept := copies[:0]
	for _, cp := range copies {
		if !failed(cp) {
			kept = append(kept, cp)
		}
	}
	return kept
}

// inTurn opens the files of a batch at the source, one after the other.
type inTurn struct {
	files  []planFile
	opened fsutil.Opened // nil: each is opened by itself
	turn   []int         // the files that it gives next, in order
}

// openInTurn asks for the files together where their file system can do that: over a long link the answer to one
// question at a time is what is waited for.
func (c *copier) openInTurn(ctx context.Context, files []int) *inTurn {
	t := &inTurn{files: c.plan.files}
	var all fsutil.AllOpener
	var names []string
	for _, i := range files {
		f := &c.plan.files[i]
		opener, ok := f.from.fs.(fsutil.AllOpener)
		if !ok || f.segment || all != nil && all != opener {
			continue
		}
		all, names = opener, append(names, f.from.name)
		t.turn = append(t.turn, i)
	}
	if len(names) < 2 {
		return t
	}
	opened, err := all.OpenAll(ctx, names)
	if err == nil { // what is wrong with a name is told when it is opened by itself
		t.opened = opened
	}
	return t
}

// opener opens file i. One whose turn it is not is opened by itself: what comes next is never taken for another file.
func (t *inTurn) opener(i int) func(context.Context) (io.ReadCloser, error) {
	return func(ctx context.Context) (io.ReadCloser, error) {
		if t.opened != nil && len(t.turn) > 0 && t.turn[0] == i {
			t.turn = t.turn[1:]
			return t.opened.Next(ctx)
		}
		return t.files[i].open(ctx)
	}
}

func (t *inTurn) close() {
	if t.opened != nil {
		_ = t.opened.Close() // only read
	}
}
