package replicator

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"path"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
)

// ErrUnsure says that nobody can tell which files of a job are needed, since a record of it is lost or damaged. Nothing
// of the job is moved or deleted until that is mended: scrub it, or replicate again.
var ErrUnsure = errors.New("what is needed can't be told")

// quarantineDir is where the _metadata of replicas lies in which rot was found.
const quarantineDir = "quarantine"

// names is a set of names as hashes, which a million files cost a few tens of megabytes. Two names with one hash make a
// file look needed that isn't, never the other way.
type nameSet struct {
	seed maphash.Seed
	has  map[uint64]struct{}
}

func newNameSet() nameSet { return nameSet{seed: maphash.MakeSeed(), has: map[uint64]struct{}{}} }

func (s nameSet) add(name string) { s.has[maphash.String(s.seed, name)] = struct{}{} }

func (s nameSet) holds(name string) bool {
	_, ok := s.has[maphash.String(s.seed, name)]
	return ok
}

// liveOf says what counts.
type liveOf struct {
	// journal says of an unfinished run's journal, by its replica and the time of its newest segment, whether it counts.
	// Nil: none does.
	journal func(replica string, at time.Time) bool
	// without says of a replica that it doesn't count, as if it were removed. Nil: each does.
	without func(replica string) bool
}

// liveFiles collects the files below one top (the directory of a job, or of a savepoint) that somebody needs: those in
// the manifest of a replica of this job or of one that borrowed from it, and those that journals of unfinished runs
// vouch for.
// ErrUnsure when a manifest can't be believed, or a _metadata is there that no manifest describes.
func liveFiles(ctx context.Context, dst fsutil.ReadFS, top string, of liveOf) (nameSet, error) {
	live := newNameSet()
	replicas, err := manifestsOf(ctx, dst, map[string]bool{top: true})
	if err != nil {
		return live, err
	}
	for _, replica := range replicas {
		if of.without != nil && of.without(replica) {
			continue
		}
		// What is handed out of a damaged manifest does no harm here: the set is not used then.
		_, err := readManifest(ctx, dst, replica, func(f ManifestFile) error {
			live.add(f.Name)
			return nil
		})
		switch {
		case errors.Is(err, fs.ErrNotExist): // its replica was removed just now
			continue
		case errors.Is(err, errManifest) || errors.Is(err, fsutil.ErrCorrupt):
			return live, fmt.Errorf("%w: %w", ErrUnsure, err)
		case err != nil:
			return live, err
		}
		live.add(path.Join(replica, metadataName))
	}
	if of.journal == nil {
		return live, nil
	}
	return live, eachJournal(ctx, dst, top, func(j journalDir) error {
		if !of.journal(j.replica, j.at) {
			return nil
		}
		return readJournals(ctx, dst, j.dir, func(_ string, f ManifestFile) { live.add(f.Name) })
	})
}

// journalDir is the journal of one replica, and when its newest segment was written.
type journalDir struct {
	replica, dir string
	at           time.Time
}

// eachJournal visits the journals of the replicas of a job, or that of a savepoint.
func eachJournal(ctx context.Context, dst fsutil.ReadFS, top string, each func(journalDir) error) error {
	var visit func(dir, replica string) error
	visit = func(dir, replica string) error {
		infos, err := dst.List(ctx, dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list %s: %w", dst.Root().Join(dir), err)
		}
		j := journalDir{replica: replica, dir: dir}
		for _, fi := range infos {
			if fi.IsDir {
				if err := visit(path.Join(dir, fi.Name), path.Join(replica, fi.Name)); err != nil {
					return err
				}
			} else if fi.ModTime.After(j.at) {
				j.at = fi.ModTime
			}
		}
		if j.at.IsZero() {
			return nil
		}
		return each(j)
	}
	return visit(own("journal", top, ""), top)
}
