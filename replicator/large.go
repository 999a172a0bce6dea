package replicator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
)

// isLarge says whether file i of the plan is copied in a way that it can be gone on with. A merged file grows, and its
// beginning is read through another call; what nothing refers to is not worth it.
func (c *copier) isLarge(i int) bool {
	f := &c.plan.files[i]
	return f.bytes >= c.plan.req.partials.from && !f.segment && !f.extra
}

// keepFor bounds what is done for a partial file when the run was interrupted.
const keepFor = 5 * time.Second

// largeCopy is one large file on its way, over all tries of a run.
type largeCopy struct {
	c    *copier
	i    int
	cp   *fileCopy // being written; nil: nothing is
	done func()    // ends the context that cp.w is bound to
	rec  partialRecord
	seen []partialRecord // what may be gone on from, in this run's eyes
	made int             // files created, for their names
	// writing is closed when the record that is being written is; nil: none is.
	writing chan struct{}
}

func (l *largeCopy) file() *planFile { return &l.c.plan.files[l.i] }

// moved is how many bytes are written; more of them than at the last try is progress.
func (l *largeCopy) moved() int64 {
	if l.cp == nil {
		return 0
	}
	return l.cp.counted
}

// copy is copyOnce of a large file. After an error the next call goes on from what is right.
func (l *largeCopy) copy(ctx context.Context) error {
	c, f := l.c, l.file()
	buf := c.buffers.get()
	defer c.buffers.put(buf)
	if l.cp == nil {
		if err := l.begin(ctx, *buf); err != nil {
			return err
		}
	}
	if l.cp.counted > 0 {
		same, err := l.sameSource(ctx)
		if err != nil {
			return err
		}
		if !same {
			l.forget(ctx)
			if err := l.create(ctx); err != nil {
				return err
			}
		}
	}
	if err := l.stream(ctx, *buf); err != nil {
		return l.failed(ctx, err)
	}
	l.recorded()
	if err := l.cp.w.Commit(ctx); err != nil {
		l.cp.broken = true
		return l.failed(ctx, fmt.Errorf("commit %s for %s: %w", c.dst.Root().Join(l.cp.tmp), f.source, err))
	}
	err := c.compare(ctx, l.cp, *buf)
	if err == nil {
		if err = c.dst.Rename(ctx, l.cp.tmp, f.target); err != nil {
			c.uncount(l.cp)
			err = fmt.Errorf("rename %s to %s: %w", l.cp.tmp, c.dst.Root().Join(f.target), err)
		}
	}
	l.done()
	cp := l.cp
	l.cp = nil
	if err != nil {
		l.remove(ctx, l.rec)
		return err
	}
	f.crc = cp.crc
	_ = c.dst.Remove(ctx, recordName(l.rec.data)) // one that stays names a file that is gone
	return nil
}

// sameSource says whether the source's file is the one that was planned, as far as length and time tell.
func (l *largeCopy) sameSource(ctx context.Context) (bool, error) {
	f := l.file()
	fi, err := f.from.fs.Stat(ctx, f.from.name)
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", f.source, f.sourceError(err))
	}
	return !fi.IsDir && fi.Size == f.bytes && fi.ModTime.Equal(f.modTime), nil
}

// stream reads the rest at the source.
func (l *largeCopy) stream(ctx context.Context, buf []byte) error {
	f := l.file()
	r, err := f.from.fs.Open(ctx, f.from.name, l.cp.counted)
	if err != nil {
		return fmt.Errorf("open %s: %w", f.source, f.sourceError(err))
	}
	defer func() { _ = r.Close() }() // only read
	return l.c.stream(ctx, l.cp, streamed{from: r, buf: buf, every: l.c.plan.req.partials.spacing(f.bytes), point: func() { l.point(ctx) }})
}

// failed decides what is left of a copy that was cut, and gives its error back.
func (l *largeCopy) failed(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, fsutil.ErrNoSpace), errors.Is(err, fsutil.ErrCorrupt), !l.cp.broken && !worthKeeping(err):
		l.forget(ctx) // it takes the room, or what was read can't be believed, or nobody will want it
	case l.cp.broken:
		l.leave(ctx)
	}
	return err // else it is gone on with as it is
}

// worthKeeping says whether a copy that ended so may be gone on with, by this run or another.
func worthKeeping(err error) bool {
	return errors.Is(err, fsutil.ErrUnavailable) || isContextError(err)
}

// end is called when no more tries follow.
func (l *largeCopy) end(ctx context.Context, err error) {
	switch {
	case l.cp == nil:
	case err != nil && (worthKeeping(err) || ctx.Err() != nil):
		l.leave(ctx)
	default:
		l.forget(ctx)
	}
}

// begin creates the file, and takes over what lies at the target of it.
func (l *largeCopy) begin(ctx context.Context, buf []byte) error {
	seen := slices.DeleteFunc(l.seen, func(r partialRecord) bool { return !r.is(l.file()) })
	l.seen = nil // each is tried once
	best, points := partialRecord{}, []partialPoint(nil)
	for _, r := range seen {
		if p := l.usable(ctx, r); len(p) > 0 && (points == nil || p[len(p)-1].Bytes > points[len(points)-1].Bytes) {
			best, points = r, p
		}
	}
	if err := l.create(ctx); err != nil {
		return err
	}
	for len(points) > 0 {
		right, err := l.takeOver(ctx, best.data, points, buf)
		if err == nil && len(right) == len(points) {
			break
		}
		broken := l.cp.broken
		l.forget(ctx)
		if err != nil && (broken || ctx.Err() != nil) {
			l.seen = []partialRecord{best} // nothing is said against what was to be taken over
			return err
		}
		points = right
		if err := l.create(ctx); err != nil {
			return err
		}
	}
	// Its own record first: a crash in between must not lose what was taken over.
	if len(points) > 0 && l.record(ctx, l.rec) == nil && best.Left {
		l.remove(ctx, best)
	}
	return nil
}

// usable are the points up to which the file may have its bytes. On HDFS the length of one that was not closed is that of
// its finished blocks.
func (l *largeCopy) usable(ctx context.Context, r partialRecord) []partialPoint {
	fi, err := l.c.dst.Stat(ctx, r.data)
	if err != nil || fi.IsDir {
		return nil
	}
	n := 0
	for n < len(r.Points) && r.Points[n].Bytes <= min(fi.Size, l.file().bytes) {
		n++
	}
	return r.Points[:n]
}

// create makes an empty file.
func (l *largeCopy) create(ctx context.Context) error {
	c, f := l.c, l.file()
	l.made++
	name := path.Join(ownDir, partialDir, shortDigest([]byte(f.target))+"-"+c.attempt.id+"-"+strconv.Itoa(l.made))
	// What was written is put aside also when the run is interrupted.
	wctx, done := outliving(ctx, keepFor)
	w, err := c.dst.Create(wctx, name)
	if err != nil {
		done()
		return fmt.Errorf("copy %s: %w", f.source, err)
	}
	l.cp, l.done = &fileCopy{i: l.i, tmp: name, w: w}, done
	l.rec = partialRecord{Format: partialFormat, Name: f.target, Source: f.source.String(), Bytes: f.bytes, ModTime: f.modTime.UTC(), data: name}
	return nil
}

// takeOver copies what lies in a partial file, as long as it is what was read at the source: right are the points that
// hold. With fewer than asked for, or an error, what was written is of no use.
func (l *largeCopy) takeOver(ctx context.Context, data string, points []partialPoint, buf []byte) (right []partialPoint, err error) {
	dst, end := l.c.dst, points[len(points)-1].Bytes
	open := func() (io.ReadCloser, error) { return dst.Open(ctx, data, 0) }
	if unfinished, ok := dst.(fsutil.PrefixOpener); ok {
		open = func() (io.ReadCloser, error) { return unfinished.OpenPrefix(ctx, data, 0, end) }
	}
	r, err := open()
	if err != nil {
		return nil, fmt.Errorf("read what was copied of %s: %w", l.file().source, err)
	}
	defer func() { _ = r.Close() }() // only read
	for n, p := range points {
		for l.cp.counted < p.Bytes {
			got, err := r.Read(buf[:min(int64(len(buf)), p.Bytes-l.cp.counted)])
			if got > 0 {
				if err := l.c.put(l.cp, buf[:got]); err != nil {
					return points[:n], err
				}
			}
			if err == io.EOF && l.cp.counted < p.Bytes {
				return points[:n], nil // shorter than it looked
			}
			if err != nil && err != io.EOF {
				return points[:n], fmt.Errorf("read what was copied of %s: %w", l.file().source, err)
			}
		}
		if l.cp.crc != p.CRC {
			return points[:n], nil
		}
	}
	l.rec.Points = slices.Clone(points)
	return points, nil
}

// point puts on record how far the copy has come, while it goes on: a record is synced, and on some disks that waits for
// all that was written before. An error costs work at most.
func (l *largeCopy) point(ctx context.Context) {
	l.rec.Points = append(l.rec.Points, partialPoint{l.cp.counted, l.cp.crc})
	l.recorded()
	now, written := l.rec, make(chan struct{})
	now.Points = slices.Clone(now.Points)
	l.writing = written
	go func() {
		defer close(written)
		_ = l.record(ctx, now)
	}()
}

// recorded waits for the record that is being written.
func (l *largeCopy) recorded() {
	if l.writing != nil {
		<-l.writing
		l.writing = nil
	}
}

func (l *largeCopy) record(ctx context.Context, r partialRecord) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode the record of %s: %w", r.data, err)
	}
	return writeFile(ctx, l.c.dst, written{tmp: l.c.attempt.tmp("partial-" + strconv.Itoa(l.i)), name: recordName(r.data), content: verbatim(b)})
}

// leave puts what was written aside for the next try, this run's or another's.
func (l *largeCopy) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepFor)
	defer cancel()
	l.recorded()
	keeper, ok := l.cp.w.(fsutil.Keeper)
	if !ok || len(l.rec.Points) == 0 {
		l.forget(ctx)
		return
	}
	if !l.cp.broken && l.rec.Points[len(l.rec.Points)-1].Bytes < l.cp.counted {
		l.rec.Points = append(l.rec.Points, partialPoint{l.cp.counted, l.cp.crc})
	}
	l.rec.Left = true
	err := keeper.Keep(ctx)
	l.c.uncount(l.cp)
	l.done()
	l.cp = nil
	if err = errors.Join(err, l.record(ctx, l.rec)); err == nil {
		l.seen = []partialRecord{l.rec}
	}
}

// forget gives up what was written.
func (l *largeCopy) forget(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepFor)
	defer cancel()
	l.recorded()
	_ = l.cp.w.Abort() // what stays is stale later
	l.c.uncount(l.cp)
	l.done()
	l.cp = nil
	l.remove(ctx, l.rec)
}

// remove takes a partial file away; what stays is stale later.
func (l *largeCopy) remove(ctx context.Context, r partialRecord) {
	_ = l.c.dst.Remove(ctx, recordName(r.data))
	_ = l.c.dst.Remove(ctx, r.data)
}

// outliving is a context that ends a while after ctx does.
func outliving(ctx context.Context, by time.Duration) (context.Context, func()) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		late := time.NewTimer(by)
		defer late.Stop()
		select {
		case <-late.C:
			cancel()
		case <-out.Done():
		}
	})
	return out, func() {
		stop()
		cancel()
	}
}
