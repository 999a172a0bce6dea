package replicator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
)

// trashDir holds what a sweep took away, one directory a batch, in which each file keeps its name.
const trashDir = ownDir + "/trash"

// batchTime is how a batch is named: when it was begun, by the target's own clock.
const batchTime = "20060102T150405Z"

// batch is a directory of the trash.
type batch struct {
	dst fsutil.FS
	dir string
	at  time.Time
}

// newBatch is a new one. Nothing is written before something is taken.
func newBatch(ctx context.Context, dst fsutil.FS) (batch, error) {
	now, err := targetNow(ctx, dst)
	if err != nil {
		return batch{}, err
	}
	id := newAttempt(dst, "").id // two that begin in one second must not share a directory
	return batch{dst: dst, dir: path.Join(trashDir, now.UTC().Format(batchTime)+"-"+id), at: now}, nil
}

// targetNow is the target's own clock, read off a file that is written for it. The ages of files are told by it.
func targetNow(ctx context.Context, dst fsutil.FS) (time.Time, error) {
	a := newAttempt(dst, "clock")
	defer a.end(ctx)
	if err := writeFile(ctx, dst, written{tmp: a.tmp("mark"), name: a.tmp(a.working)}); err != nil {
		return time.Time{}, fmt.Errorf("read the target's clock: %w", err)
	}
	return a.now(ctx)
}

func (b batch) name(file string) string { return path.Join(b.dir, file) }

// take moves a file here; there is false when it is gone already.
func (b batch) take(ctx context.Context, file string) (there bool, err error) {
	err = b.dst.Rename(ctx, file, b.name(file))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) { // or a directory of that name
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("move %s to the trash: %w", b.dst.Root().Join(file), err)
	}
	return true, nil
}

// putBack moves a file to where it was, unless it is there again: then somebody has copied it anew.
func (b batch) putBack(ctx context.Context, file string) error {
	there, err := exists(ctx, b.dst, file)
	if err != nil || there {
		return err
	}
	err = b.dst.Rename(ctx, b.name(file), file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("put %s back from the trash: %w", b.dst.Root().Join(file), err)
	}
	return nil
}

// Trash is what the trash of a root holds, and what was done with it.
type Trash struct {
	Files   int // that are in it still
	Bytes   int64
	Emptied int // files that were deleted
	Freed   int64
	PutBack int // files that somebody needs
}

// EmptyTrash looks through everything in the trash. What a manifest needs and isn't at its place is put back, whatever
// a sweep had seen before: nothing that is needed is ever deleted. The rest is deleted once its batch is older than
// grace. It may be repeated.
func (s *Sweeper) EmptyTrash(ctx context.Context, grace time.Duration) (Trash, error) {
	return s.lookThroughTrash(ctx, func(b batch) disposal {
		if s.now.Sub(b.at) >= grace {
			return deleted
		}
		return kept
	})
}

// LookIntoTrash says what EmptyTrash would do, and does nothing.
func (s *Sweeper) LookIntoTrash(ctx context.Context, grace time.Duration) (Trash, error) {
	return s.lookThroughTrash(ctx, func(b batch) disposal {
		if s.now.Sub(b.at) >= grace {
			return wouldBeDeleted
		}
		return untouched
	})
}

// disposal is what becomes of the files of a batch that nobody needs.
type disposal int

const (
	kept           disposal = iota // needed ones are put back
	deleted                        // the same
	untouched                      // a look: nothing is put back either
	wouldBeDeleted                 // the same, but it is counted as if
)

// PutBack does what EmptyTrash does for files that are needed, and deletes nothing: a sweep that was cut short is over then.
func (s *Sweeper) PutBack(ctx context.Context) (Trash, error) {
	return s.lookThroughTrash(ctx, func(batch) disposal { return kept })
}

func (s *Sweeper) lookThroughTrash(ctx context.Context, of func(batch) disposal) (Trash, error) {
	var t Trash
	infos, err := s.dst.List(ctx, trashDir)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err != nil {
		return t, fmt.Errorf("list the trash: %w", err)
	}
	// By top, so that the record of each is read once.
	byTop := map[string][]batch{}
	var batches []batch
	for _, fi := range infos {
		b, ok := s.batchOf(fi)
		if !ok {
			continue
		}
		tops, err := s.dst.List(ctx, b.dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return t, fmt.Errorf("list the trash: %w", err)
		}
		batches = append(batches, b)
		for _, top := range tops {
			byTop[top.Name] = append(byTop[top.Name], b)
		}
	}
	var errs []error
	for top, in := range byTop {
		if err := s.lookThrough(ctx, top, in, &t, of); err != nil {
			if ctx.Err() != nil {
				return t, ctx.Err()
			}
			errs = append(errs, fmt.Errorf("trash of %s: %w", top, err))
		}
	}
	for _, b := range batches {
		if does := of(b); does == kept || does == deleted {
			errs = append(errs, removeEmptyBelow(ctx, s.dst, b.dir))
		}
	}
	return t, errors.Join(errs...)
}

// batchOf reads a batch off its name. What is not named so is not ours, and stays.
func (s *Sweeper) batchOf(fi fsutil.FileInfo) (batch, bool) {
	stamp, _, _ := strings.Cut(fi.Name, "-")
	at, err := time.Parse(batchTime, stamp)
	return batch{dst: s.dst, dir: path.Join(trashDir, fi.Name), at: at}, err == nil && fi.IsDir
}

func (s *Sweeper) lookThrough(ctx context.Context, top string, in []batch, t *Trash, of func(batch) disposal) error {
	live, err := liveFiles(ctx, s.dst, top, liveOf{})
	unsure := errors.Is(err, ErrUnsure)
	if err != nil && !unsure {
		return err
	}
	for _, b := range in {
		walkErr := walkInfos(ctx, s.dst, path.Join(b.dir, top), func(name string, fi fsutil.FileInfo) error {
			file := strings.TrimPrefix(name, b.dir+"/")
			does := of(b)
			if live.holds(file) {
				there, err := exists(ctx, s.dst, file)
				if err != nil {
					return err
				}
				if !there {
					t.PutBack++
					if does == kept || does == deleted {
						return b.putBack(ctx, file)
					}
					return nil
				}
			}
			if !unsure && (does == deleted || does == wouldBeDeleted) {
				t.Emptied++
				t.Freed += fi.Size
				if does == deleted {
					return s.dst.Remove(ctx, name)
				}
				return nil
			}
			t.Files++
			t.Bytes += fi.Size
			return nil
		})
		if walkErr != nil {
			return walkErr
		}
	}
	return err
}

// walkInfos is walkFiles with what is known of each file.
func walkInfos(ctx context.Context, dst fsutil.ReadFS, dir string, visit func(name string, fi fsutil.FileInfo) error) error {
	infos, err := dst.List(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", dst.Root().Join(dir), err)
	}
	for _, fi := range infos {
		name := path.Join(dir, fi.Name)
		if fi.IsDir {
			err = walkInfos(ctx, dst, name, visit)
		} else {
			err = visit(name, fi)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// removeEmptyBelow removes dir and the directories in it as far as no file is in them.
func removeEmptyBelow(ctx context.Context, dst fsutil.FS, dir string) error {
	infos, err := dst.List(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", dst.Root().Join(dir), err)
	}
	for _, fi := range infos {
		if fi.IsDir {
			if err := removeEmptyBelow(ctx, dst, path.Join(dir, fi.Name)); err != nil {
				return err
			}
		}
	}
	return removeEmpty(ctx, dst, dir)
}
