package replicator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/ckptferry/ckptferry/fsutil"
)

// copier brings the files of a plan to the target: what is not there, with the right digest, under its final name.
type copier struct {
	plan    *plan
	mine    []int // files of the plan to bring
	dst     fsutil.FS
	known   []known
	attempt *attempt
	journal *journal
	limits  []*Limit
	buffers *bufferPool
	// partials are what lies at the target of large files, by the name that they are to have.
	partials map[string][]partialRecord
	origins  map[int]origin // of files of the plan
	spent    []bool         // of files of the plan: the origin was no use
	mended   sync.Map       // file of the plan → the READY replica that it was missing or damaged in
}

// mendedWarning names the files that READY replicas had lost, empty when there were none.
func (c *copier) mendedWarning() string {
	var names []string
	c.mended.Range(func(i, replica any) bool {
		names = append(names, fmt.Sprintf("%s (of %s)", c.plan.files[i.(int)].target, replica))
		return true
	})
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	n := len(names)
	if n > 5 {
		names = append(names[:5], "…")
	}
	return fmt.Sprintf("%d file(s) of READY replicas were missing or damaged at the target and were copied again: %s. Find out why: the storage may be failing, or somebody deletes there", n, strings.Join(names, ", "))
}

var (
	// errSourceGone says that a file of the source that was there is not any more.
	errSourceGone = errors.New("gone at the source")
	// errChanged says that a file of the source has other bytes than an earlier READY replica took from it.
	errChanged = errors.New("changed at the source")
	// errExtra says that a file which nothing refers to can't be read as it was planned: somebody is writing it, say.
	errExtra = errors.New("not to be had")
)

// run brings every file. Largest first: a large file started last would be waited for alone.
func (c *copier) run(ctx context.Context) error {
	order := slices.Clone(c.mine)
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(c.plan.files[b].bytes, c.plan.files[a].bytes) })
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(c.plan.req.Parallel)
	for _, batch := range c.batches(order) {
		if gctx.Err() != nil {
			break
		}
		group.Go(func() error { return c.bringAll(gctx, batch) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// bring makes sure that one file is at the target.
func (c *copier) bring(ctx context.Context, i int) error {
	f, meter := &c.plan.files[i], c.plan.req.Meter
	there, looked := false, false
	large := &largeCopy{c: c, i: i, seen: c.partials[f.target]}
	err := retryingWhileMoving(ctx, meter, large.moved, func(try int) (err error) {
		if !looked {
			if there, err = c.isThere(ctx, i); err != nil {
				return err
			}
			looked = true
		}
		if there {
			return nil
		}
		if local, err := c.bringFromOrigin(ctx, i, try); local || err != nil {
			return err
		}
		if c.isLarge(i) {
			return large.copy(ctx)
		}
		return c.copyOnce(ctx, i, try)
	})
	large.end(ctx, err)
	switch {
	case errors.Is(err, errExtra):
		f.target = "" // left out of the replica
		return nil
	case errors.Is(err, errSourceGone):
		return &SupersededError{Checkpoint: c.plan.req.Source, File: f.source}
	case err != nil:
		return err
	}
	c.brought(i, there)
	return nil
}

// brought notes that a file is at the target: it was there, or it was copied now.
func (c *copier) brought(i int, there bool) {
	f, meter := &c.plan.files[i], c.plan.req.Meter
	if there {
		f.crc = c.known[i].crc
		meter.BytesDone.Add(f.bytes)
		meter.FilesSkipped.Add(1)
	} else {
		meter.FilesCopied.Add(1)
	}
	meter.FilesDone.Add(1)
	// What a READY replica vouches for needs no record, but in a share: whoever publishes must know that it was read back.
	readBack := !there || c.plan.req.Verify == VerifyAll
	if !there || c.known[i].replica == "" || c.plan.req.Share != nil && readBack {
		c.journal.record(i)
	}
}

// isThere says whether the file need not be copied: it is on record, unchanged at the source, at the target with the
// right length, and (but for what VerifyCopied trusts) reads back with the right digest.
func (c *copier) isThere(ctx context.Context, i int) (bool, error) {
	there, err := c.asRecorded(ctx, i)
	if k := c.known[i]; err == nil && !there && k.unchanged && k.replica != "" {
		c.mended.Store(i, k.replica)
	}
	return there, err
}

func (c *copier) asRecorded(ctx context.Context, i int) (bool, error) {
	f, k := &c.plan.files[i], c.known[i]
	journaled := c.plan.req.TrustJournal && k.trusted(f)
	if !k.unchanged && !journaled {
		return false, nil
	}
	fi, err := c.dst.Stat(ctx, f.target)
	if errors.Is(err, fs.ErrNotExist) || err == nil && (fi.IsDir || fi.Size != f.bytes) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", c.dst.Root().Join(f.target), err)
	}
	if journaled {
		c.known[i].crc = k.journal.crc
		return true, nil
	}
	if k.replica != "" && k.claimed == "" && c.plan.req.Verify == VerifyCopied {
		return true, nil
	}
	buf := c.buffers.get()
	defer c.buffers.put(buf)
	crc, n, err := readBack(ctx, c.dst, f.target, *buf)
	if errors.Is(err, fsutil.ErrCorrupt) || errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return crc == k.crc && n == f.bytes, nil
}

// fileCopy is a copy under its temporary name.
type fileCopy struct {
	i   int // which file of the plan
	tmp string
	w   fsutil.File // until commit
	crc CRC         // of the bytes read at the source
	// counted is how many bytes were written, and the meter has; given back when the copy fails.
	counted int64
	broken  bool // w has failed
}

// copyOnce writes the file under a temporary name, reads it back, and renames it to its own.
func (c *copier) copyOnce(ctx context.Context, i, try int) error {
	buf := c.buffers.get()
	defer c.buffers.put(buf)
	cp, err := c.write(ctx, i, c.attempt.tmp(strconv.Itoa(i)+"-"+strconv.Itoa(try)), *buf)
	if err != nil {
		return err
	}
	return c.settle(ctx, cp, *buf)
}

// settle makes a copy durable, reads it back, and gives it its own name.
func (c *copier) settle(ctx context.Context, cp *fileCopy, buf []byte) error {
	err := c.commit(ctx, cp)
	if err == nil {
		err = c.compare(ctx, cp, buf)
	}
	if err != nil {
		return err
	}
	f := &c.plan.files[cp.i]
	if err := c.dst.Rename(ctx, cp.tmp, f.target); err != nil {
		c.uncount(cp)
		return fmt.Errorf("rename %s to %s: %w", cp.tmp, c.dst.Root().Join(f.target), err)
	}
	f.crc = cp.crc
	return nil
}

func (f *planFile) open(ctx context.Context) (io.ReadCloser, error) {
	if f.segment {
		return f.from.openMerged(ctx, f.bytes)
	}
	return f.from.open(ctx)
}

// uncount takes a copy that failed off the meter.
func (c *copier) uncount(cp *fileCopy) { c.plan.req.Meter.BytesDone.Add(-cp.counted) }

// write writes a file of the plan to tmp. The fileCopy is of use without an error only.
func (c *copier) write(ctx context.Context, i int, tmp string, buf []byte) (*fileCopy, error) {
	cp := &fileCopy{i: i, tmp: tmp}
	return cp, c.fill(ctx, cp, c.plan.files[i].open, buf)
}

// fill writes a file of the plan, opened by open, to cp's temporary name.
func (c *copier) fill(ctx context.Context, cp *fileCopy, open func(context.Context) (io.ReadCloser, error), buf []byte) error {
	f := &c.plan.files[cp.i]
	r, err := open(ctx)
	if err != nil {
		return fmt.Errorf("open %s: %w", f.source, f.sourceError(err))
	}
	defer func() { _ = r.Close() }() // only read
	if cp.w, err = c.dst.Create(ctx, cp.tmp); err != nil {
		return fmt.Errorf("copy %s: %w", f.source, err)
	}
	if err = c.stream(ctx, cp, streamed{from: r, buf: buf}); err != nil {
		c.uncount(cp)
		return errors.Join(err, cp.w.Abort())
	}
	return nil
}

// commit makes the copy durable.
func (c *copier) commit(ctx context.Context, cp *fileCopy) error {
	if err := cp.w.Commit(ctx); err != nil {
		c.uncount(cp)
		return errors.Join(fmt.Errorf("commit %s for %s: %w", c.dst.Root().Join(cp.tmp), c.plan.files[cp.i].source, err), cp.w.Abort())
	}
	return nil
}

// compare reads the copy back, and looks whether it may take its place.
func (c *copier) compare(ctx context.Context, cp *fileCopy, buf []byte) error {
	f := &c.plan.files[cp.i]
	back, n, err := readBack(ctx, c.dst, cp.tmp, buf)
	if err == nil && (back != cp.crc || n != f.bytes) {
		err = fmt.Errorf("%w: the copy of %s gives %d bytes, CRC32C %s; %d bytes, %s were read at the source", errReadBack, f.source, n, back, f.bytes, cp.crc)
	}
	if err == nil {
		err = c.mayReplace(ctx, cp.i, cp.crc, buf)
	}
	if err != nil {
		c.uncount(cp)
		_ = c.dst.Remove(ctx, cp.tmp) // what stays goes with the attempt's directory
	}
	return err
}

// mayReplace refuses to put other bytes in the place of those that a READY replica needs.
func (c *copier) mayReplace(ctx context.Context, i int, crc CRC, buf []byte) error {
	f, k := &c.plan.files[i], c.known[i]
	replica := cmp.Or(k.replica, k.claimed)
	if replica == "" && k.unsure != "" {
		fi, err := c.dst.Stat(ctx, f.target)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			k.bytes = fi.Size
			k.crc, _, err = readBack(ctx, c.dst, f.target, buf)
		}
		if err != nil {
			return fmt.Errorf("look at what replica %s, whose manifest is damaged, may need: %w", k.unsure, err)
		}
		replica = k.unsure
	}
	if replica == "" || k.bytes == f.bytes && k.crc == crc {
		return nil
	}
	return fmt.Errorf("%w: %w: %s has %d bytes, CRC32C %s now, and replica %s has %d bytes, %s under its name %s. Choose another target",
		ErrRefused, errChanged, f.source, f.bytes, crc, replica, k.bytes, k.crc, f.target)
}

type streamed struct {
	from io.Reader // at byte counted of the file
	buf  []byte
	// point, if set, is called whenever another `every` bytes are written, counted from the file's start.
	every int64
	point func()
}

// stream copies the file's bytes and computes their CRC32C. It reads to the end of the file also where only the
// beginning is copied (a merged file): the file system says only there whether the bytes were right.
func (c *copier) stream(ctx context.Context, cp *fileCopy, s streamed) error {
	f, meter := &c.plan.files[cp.i], c.plan.req.Meter
	for {
		n, err := s.from.Read(s.buf)
		if err := takeAll(ctx, c.limits, n); err != nil {
			return err
		}
		if n > 0 {
			meter.marks.first.setFirst()
		}
		meter.BytesCopied.Add(int64(n))
		left := f.bytes - cp.counted
		if int64(n) > left && !f.segment {
			err := errors.New("it is longer than when the copy was planned, somebody writes to it: run again")
			return fmt.Errorf("read %s: %w", f.source, f.sourceError(err))
		}
		for part := s.buf[:min(int64(n), left)]; len(part) > 0; {
			piece := part
			if s.point != nil {
				piece = part[:min(int64(len(part)), s.every-cp.counted%s.every)]
			}
			if err := c.put(cp, piece); err != nil {
				return err
			}
			if s.point != nil && cp.counted%s.every == 0 {
				s.point()
			}
			part = part[len(piece):]
		}
		left = f.bytes - cp.counted
		switch {
		case err == io.EOF && left > 0:
			err := fmt.Errorf("it ended %d bytes before the %d that it had when the copy was planned: %w", left, f.bytes, fsutil.ErrCorrupt)
			return fmt.Errorf("read %s: %w", f.source, f.sourceError(err))
		case err == io.EOF:
			meter.marks.last.set()
			return nil
		case err != nil:
			return fmt.Errorf("read %s: %w", f.source, f.sourceError(err))
		}
	}
}

// put writes bytes of a copy.
func (c *copier) put(cp *fileCopy, b []byte) error {
	if _, err := cp.w.Write(b); err != nil {
		cp.broken = true
		return fmt.Errorf("write the copy of %s: %w", c.plan.files[cp.i].source, err)
	}
	cp.crc = CRC(crc32.Update(uint32(cp.crc), castagnoli, b))
	cp.counted += int64(len(b))
	c.plan.req.Meter.BytesDone.Add(int64(len(b)))
	return nil
}

// sourceError marks that a file is gone at the source (the same error at the target means something else), and that
// an extra is not worth an error.
func (f *planFile) sourceError(err error) error {
	gone := errors.Is(err, fs.ErrNotExist)
	switch {
	case f.extra && (gone || !errors.Is(err, fsutil.ErrUnavailable) && !isContextError(err)):
		return fmt.Errorf("%w: %w", errExtra, err)
	case gone:
		return fmt.Errorf("%w: %w", errSourceGone, err)
	}
	return err
}

func isContextError(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func (p *plan) manifestFile(i int) ManifestFile {
	f := p.files[i]
	return ManifestFile{Name: f.target, Source: f.source.String(), Bytes: f.bytes, CRC: f.crc,
		ModTime: f.modTime.UTC(), Role: string(f.role), References: f.refs}
}
