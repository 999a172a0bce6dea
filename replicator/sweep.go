package replicator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
)

// sweepMost is how many files are moved away at a time, so that what is locked meanwhile is not locked for long.
const sweepMost = 1000

// Sweeper takes away what no replica below a root needs any more. It works on one top at a time (the directory of a job, or
// a savepoint's) and never holds more in memory than what is needed of that one.
//
// What makes it safe is on the storage alone. A sweep reads the manifests, moves, reads them again, and puts back. A run
// writes its manifest, and looks that all files are there before it renames _metadata in (publish.go). Whichever comes
// later sees the other.
type Sweeper struct {
	dst     fsutil.FS
	now     time.Time // by the target's clock
	grace   time.Duration
	working func(replica string) bool
	without func(replica string) bool
}

// SweepConfig says what a sweep leaves alone.
type SweepConfig struct {
	// Grace is how old a file must be, by the target's own clock, before it is taken away.
	Grace time.Duration
	// Working says of a replica, by its name below the root, whether an attempt may be at work on it. Nil: none is.
	Working func(replica string) bool
	// Without says of a replica that it is as good as removed: for a look at what would go with it, never for moving. Nil: none.
	Without func(replica string) bool
}

// NewSweeper begins a sweep of a root. ErrRefused where the root is no replica root but looks like Flink's own. ok is
// false where nothing was ever written: there is nothing to sweep.
func NewSweeper(ctx context.Context, dst fsutil.FS, cfg SweepConfig) (s *Sweeper, ok bool, err error) {
	if err := refuseForeignBase(ctx, dst); err != nil {
		return nil, false, err
	}
	if ours, err := exists(ctx, dst, ownDir); err != nil || !ours {
		return nil, false, err
	}
	now, err := targetNow(ctx, dst)
	if err != nil {
		return nil, false, err
	}
	if cfg.Working == nil {
		cfg.Working = func(string) bool { return false }
	}
	return &Sweeper{dst: dst, now: now, grace: cfg.Grace, working: cfg.Working, without: cfg.Without}, true, nil
}

// LookOnly is a Sweeper for Tops, LookAll and LookIntoTrash alone, of a file system that can't be written. now is a clock that
// goes as the target's does, more or less.
func LookOnly(ctx context.Context, from fsutil.ReadFS, now time.Time, cfg SweepConfig) (s *Sweeper, ok bool, err error) {
	if err := refuseForeignBase(ctx, from); err != nil {
		return nil, false, err
	}
	if ours, err := exists(ctx, from, ownDir); err != nil || !ours {
		return nil, false, err
	}
	if cfg.Working == nil {
		cfg.Working = func(string) bool { return false }
	}
	return &Sweeper{dst: unwritable{from}, now: now, grace: cfg.Grace, working: cfg.Working, without: cfg.Without}, true, nil
}

// unwritable is an FS that only reads.
type unwritable struct{ fsutil.ReadFS }

var errUnwritable = fmt.Errorf("it is only looked at: %w", fs.ErrPermission)

func (unwritable) Create(context.Context, string) (fsutil.File, error) { return nil, errUnwritable }
func (unwritable) Rename(context.Context, string, string) error        { return errUnwritable }
func (unwritable) Remove(context.Context, string) error                { return errUnwritable }

// With is the same sweep with other replicas that may be worked on.
func (s *Sweeper) With(working func(replica string) bool) *Sweeper {
	with := *s
	with.working = working
	return &with
}

// Tops lists the tops below the root that something is on record of, sorted. Other directories are nobody's that we know,
// and are left alone.
func (s *Sweeper) Tops(ctx context.Context) ([]string, error) {
	found := map[string]bool{}
	for _, kind := range []string{"manifest", "original", "journal", "borrowed", leftoverDir} {
		infos, err := s.dst.List(ctx, path.Join(ownDir, kind))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list what is on record below %s: %w", s.dst.Root(), err)
		}
		for _, fi := range infos {
			name := fi.Name
			if kind == "manifest" && !fi.IsDir {
				name = name[:max(0, len(name)-len(".jsonl"))] // a savepoint's
			}
			found[name] = true
		}
	}
	delete(found, "")
	tops := make([]string, 0, len(found))
	for top := range found {
		tops = append(tops, top)
	}
	slices.Sort(tops)
	return tops, nil
}

// Unneeded is a file that nobody needs.
type Unneeded struct {
	Name  string // below the root
	Bytes int64
}

// Look names files below a top that nobody needs and that are older than grace, at most some thousand; more says that
// there are others. Nothing is changed. ErrUnsure when it can't be told.
func (s *Sweeper) Look(ctx context.Context, top string) (found []Unneeded, more bool, err error) {
	return s.lookFor(ctx, top, sweepMost)
}

// LookAll is Look for all files, one after the other.
func (s *Sweeper) LookAll(ctx context.Context, top string, each func(Unneeded) error) error {
	return s.unneeded(ctx, top, each)
}

// errEnough ends a walk.
var errEnough = errors.New("enough")

func (s *Sweeper) lookFor(ctx context.Context, top string, most int) (found []Unneeded, more bool, err error) {
	err = s.unneeded(ctx, top, func(u Unneeded) error {
		if len(found) == most {
			return errEnough
		}
		found = append(found, u)
		return nil
	})
	if errors.Is(err, errEnough) {
		return found, true, nil
	}
	return found, false, err
}

func (s *Sweeper) unneeded(ctx context.Context, top string, each func(Unneeded) error) error {
	if err := validReplica(top); err != nil || Top(top) != top {
		return errors.Join(err, refuse("%q is not a directory right below a replica root", top))
	}
	live, err := liveFiles(ctx, s.dst, top, liveOf{journal: s.journalCounts, without: s.without})
	if err != nil {
		return err
	}
	return walkInfos(ctx, s.dst, top, func(name string, fi fsutil.FileInfo) error {
		switch {
		case live.holds(name):
			return nil
		case path.Base(name) == metadataName:
			if onRecord, err := exists(ctx, s.dst, own("manifest", path.Dir(name), ".jsonl")); err != nil || onRecord {
				return err // published since the record was read
			}
			// A replica, or a checkpoint of Flink's own: what it needs is on nobody's record.
			return fmt.Errorf("%w: %s is there, and there is no manifest of it", ErrUnsure, s.dst.Root().Join(name))
		case s.now.Sub(fi.ModTime) < s.grace || s.working(path.Dir(name)):
			return nil
		}
		return each(Unneeded{Name: name, Bytes: fi.Size})
	})
}

// journalCounts says whether an unfinished run's record of files still protects them.
func (s *Sweeper) journalCounts(replica string, at time.Time) bool {
	return s.working(replica) || s.now.Sub(at) < s.grace
}

// Swept is what a sweep did.
type Swept struct {
	Files   int // that were moved to the trash
	Bytes   int64
	PutBack int // files that somebody had put on record meanwhile
}

// Move moves files of a top that Look named to the trash, as far as still nobody needs them, and puts back what has become
// needed while it did. It may be repeated.
func (s *Sweeper) Move(ctx context.Context, top string, files []Unneeded) (Swept, error) {
	var done Swept
	live, err := liveFiles(ctx, s.dst, top, liveOf{journal: s.journalCounts})
	if err != nil {
		return done, err
	}
	b, err := newBatch(ctx, s.dst)
	if err != nil {
		return done, err
	}
	moved := make([]Unneeded, 0, len(files))
	for _, f := range files {
		if live.holds(f.Name) || Top(f.Name) != top {
			continue
		}
		there, err := b.take(ctx, f.Name)
		if err != nil {
			return done, errors.Join(err, s.putBackLive(ctx, top, b, moved, &done))
		}
		if there {
			moved = append(moved, f)
			done.Files++
			done.Bytes += f.Bytes
		}
	}
	return done, s.putBackLive(ctx, top, b, moved, &done)
}

// putBackFor bounds the end of a sweep, which is done also when it was interrupted.
const putBackFor = 30 * time.Second

func (s *Sweeper) putBackLive(ctx context.Context, top string, b batch, moved []Unneeded, done *Swept) error {
	if len(moved) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), putBackFor)
	defer cancel()
	live, err := liveFiles(ctx, s.dst, top, liveOf{})
	if err != nil && !errors.Is(err, ErrUnsure) {
		return err
	}
	for _, f := range moved {
		// With a record that can't be read any more, all of it goes back.
		if err == nil && !live.holds(f.Name) {
			continue
		}
		if err := b.putBack(ctx, f.Name); err != nil {
			return err
		}
		done.PutBack++
		done.Files--
		done.Bytes -= f.Bytes
	}
	return err
}

// leftoverDir names the tops that may hold files after everything else on record of them is gone.
const leftoverDir = "leftover"

func noteLeftover(ctx context.Context, dst fsutil.FS, top string) error {
	note := own(leftoverDir, top, "")
	if there, err := exists(ctx, dst, note); err != nil || there {
		return err
	}
	a := newAttempt(dst, note)
	defer a.end(ctx)
	return writeFile(ctx, dst, written{tmp: a.tmp("leftover"), name: note})
}

// TidyUp removes what is left of runs that died, old journals and empty directories of a top, and the top itself once
// nothing is in it. It takes no file of any replica.
func (s *Sweeper) TidyUp(ctx context.Context, top string) error {
	if err := validReplica(top); err != nil {
		return err
	}
	working := s.working(top)
	err := eachJournal(ctx, s.dst, top, func(j journalDir) error {
		if working = working || s.working(j.replica); s.journalCounts(j.replica, j.at) {
			working = true
			return nil
		}
		return removeTree(ctx, s.dst, j.dir)
	})
	if err != nil || working {
		return err
	}
	if err := s.removeOldEmpty(ctx, top); err != nil {
		return err
	}
	for _, kind := range []string{"manifest", "original", "journal", "borrowed", quarantineDir} {
		if err := removeEmptyBelow(ctx, s.dst, own(kind, top, "")); err != nil {
			return err
		}
	}
	if there, err := exists(ctx, s.dst, top); err != nil || there {
		return err
	}
	return s.dst.Remove(ctx, own(leftoverDir, top, ""))
}

// removeOldEmpty removes directories that are empty and that nobody has put anything in for a while.
func (s *Sweeper) removeOldEmpty(ctx context.Context, dir string) error {
	infos, err := s.dst.List(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", s.dst.Root().Join(dir), err)
	}
	for _, fi := range infos {
		if fi.IsDir {
			if err := s.removeOldEmpty(ctx, path.Join(dir, fi.Name)); err != nil {
				return err
			}
		}
	}
	if len(infos) > 0 {
		return nil // what was emptied just now goes the next time
	}
	fi, err := s.dst.Stat(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || s.now.Sub(fi.ModTime) < s.grace || s.working(dir) {
		return err
	}
	return removeEmpty(ctx, s.dst, dir)
}

// RemoveDeadAttempts removes the directories of runs that nothing was heard of for a day, and large files that were cut as
// long ago.
func (s *Sweeper) RemoveDeadAttempts(ctx context.Context) error {
	if err := removePartials(ctx, s.dst, s.now, nil); err != nil {
		return fmt.Errorf("remove partial files: %w", err)
	}
	infos, err := s.dst.List(ctx, path.Join(ownDir, "tmp"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", s.dst.Root().Join(path.Join(ownDir, "tmp")), err)
	}
	for _, fi := range infos {
		if fi.IsDir && s.now.Sub(fi.ModTime) >= staleAttempt {
			if err := removeTree(ctx, s.dst, tmpDir(fi.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}
