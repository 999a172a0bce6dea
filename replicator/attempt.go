package replicator

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
)

// staleAttempt is how long nothing must have happened in a dead attempt's directory before it is removed.
const staleAttempt = 24 * time.Hour

// cleanupFor bounds the removal of an attempt's directory, also after an interrupt.
const cleanupFor = 5 * time.Second

// hideFor bounds the removal of what a superseded checkpoint left.
const hideFor = 30 * time.Second

// attempt is one run's directory below .ckptferry/tmp. Files being written lie there, and marks that say which
// replica is worked on. Two runs may work on one replica at the same time, since each renames in whole files that are
// the same. There are two things that must not meet: one gives the checkpoint up and takes files away while another
// counts on them, and two publish different checkpoints under one name (of two clusters with one fixed job id). So
// each first makes its mark and then looks for the marks of others: whichever is later sees the other.
type attempt struct {
	dst      fsutil.FS
	id       string
	replica  string // a digest of its name, which the marks end in
	working  string // name of the mark
	givingUp string // what it becomes
}

func newAttempt(dst fsutil.FS, replica string) *attempt {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	of := shortDigest([]byte(replica))
	return &attempt{dst: dst, id: hex.EncodeToString(b[:]), replica: of, working: "working-" + of, givingUp: "giving-up-" + of}
}

func shortDigest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

func (a *attempt) dir() string { return tmpDir(a.id) }

// tmp is the name of a file while this attempt writes it.
func (a *attempt) tmp(name string) string { return path.Join(a.dir(), name) }

// tmpDir is where an attempt's files are while they are written.
func tmpDir(id string) string { return path.Join(ownDir, "tmp", id) }

// begin makes the mark, and removes the directories of attempts that died long ago. ErrSuperseded when another run is
// about to give this very checkpoint up. Repeating it does no harm.
func (a *attempt) begin(ctx context.Context) error {
	if err := writeFile(ctx, a.dst, written{tmp: a.tmp("mark"), name: a.tmp(a.working)}); err != nil {
		return err
	}
	now, err := a.now(ctx)
	if err == nil {
		err = removePartials(ctx, a.dst, now, nil)
	}
	if err != nil {
		return err
	}
	other, err := a.other(ctx, func(mark string) bool { return mark == a.givingUp })
	if err != nil {
		return err
	}
	if other != "" {
		return fmt.Errorf("%w: another run has just seen that a file of this checkpoint is gone at the source", ErrSuperseded)
	}
	return nil
}

// giveUp changes the mark, and says whether this is the only run that works on the replica.
func (a *attempt) giveUp(ctx context.Context) (alone bool, err error) {
	if err := a.dst.Rename(ctx, a.tmp(a.working), a.tmp(a.givingUp)); err != nil {
		return false, err
	}
	other, err := a.other(ctx, func(mark string) bool { return mark == a.working })
	return other == "" && err == nil, err
}

// claim makes sure that nobody else publishes another _metadata under the replica's name from now on. ErrRefused when
// somebody is at it. Repeating it does no harm.
func (a *attempt) claim(ctx context.Context, rewrite []byte) error {
	of := "publishing-" + a.replica + "-"
	mine := of + shortDigest(rewrite)
	if err := writeFile(ctx, a.dst, written{tmp: a.tmp("mark"), name: a.tmp(mine)}); err != nil {
		return err
	}
	other, err := a.other(ctx, func(mark string) bool { return strings.HasPrefix(mark, of) && mark != mine })
	if err != nil {
		return err
	}
	if other != "" {
		return refuse("another run publishes another checkpoint with the same job id and number, or one for another place, at this moment (if it died: its mark %s is believed for %s)",
			a.dst.Root().Join(path.Join(tmpDir(other), of+"…")), staleAttempt)
	}
	return nil
}

// other finds another attempt that may be alive and has such a mark. Stale ones are removed. Ages are told by the
// target's own clock: that of the file which this attempt wrote as its mark.
func (a *attempt) other(ctx context.Context, is func(mark string) bool) (id string, err error) {
	now, err := a.now(ctx)
	if err != nil {
		return "", err
	}
	infos, err := a.dst.List(ctx, path.Join(ownDir, "tmp"))
	if err != nil {
		return "", err
	}
	for _, fi := range infos {
		if fi.Name == a.id {
			continue
		}
		if now.Sub(fi.ModTime) >= staleAttempt {
			if err := removeTree(ctx, a.dst, tmpDir(fi.Name)); err != nil {
				return "", err
			}
			continue
		}
		marks, err := a.dst.List(ctx, tmpDir(fi.Name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrInvalid) {
			return "", err
		}
		if slices.ContainsFunc(marks, func(fi fsutil.FileInfo) bool { return is(fi.Name) }) {
			id = fi.Name
		}
	}
	return id, nil
}

func (a *attempt) now(ctx context.Context) (time.Time, error) {
	for _, mark := range []string{a.working, a.givingUp} {
		fi, err := a.dst.Stat(ctx, a.tmp(mark))
		if err == nil {
			return fi.ModTime, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return time.Time{}, err
		}
	}
	return time.Time{}, fmt.Errorf("%w: %s vanished: somebody else deletes there", ErrVerify, a.dst.Root().Join(a.dir()))
}

// end removes the attempt's directory, also after an interrupt. What can't be removed now is stale later.
func (a *attempt) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupFor)
	defer cancel()
	_ = removeTree(ctx, a.dst, a.dir())
}

// removeStaleJournals removes what runs recorded long ago for other checkpoints of the same job: by now a READY
// replica vouches for the files that still matter. The age is told as in other.
func (a *attempt) removeStaleJournals(ctx context.Context, replica string) error {
	if path.Dir(replica) == "." {
		return nil // a savepoint: it shares its files with nobody
	}
	now, err := a.now(ctx)
	if err != nil {
		return err
	}
	dir := path.Dir(own("journal", replica, ""))
	infos, err := a.dst.List(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, fi := range infos {
		if fi.IsDir && now.Sub(fi.ModTime) >= staleAttempt {
			if err := removeTree(ctx, a.dst, path.Join(dir, fi.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}
