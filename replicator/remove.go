package replicator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/ckptferry/ckptferry/fsutil"
)

// PlaceOf takes a replica's URI apart: its root, and its name below that, "<job id>/chk-42".
func PlaceOf(replica fsutil.URI) (root fsutil.URI, name string) {
	l := newLayout(replica)
	return l.base, l.name()
}

// Top is the first element of a replica's name: the directory that holds all files of its job, or of the savepoint.
func Top(replica string) string {
	first, _, _ := strings.Cut(replica, "/")
	return first
}

// RemoveRequest is a replica that is on record as RETIRING.
type RemoveRequest struct {
	Replica string // its name below the root
	// Original is the CRC32C of the source's _metadata. What lies under the name of another checkpoint, as a job with a
	// fixed JobID leaves it, is not touched.
	Original uint32
}

// Removed is what RemoveReplica deleted.
type Removed struct {
	Files int // exclusive files; neither _metadata nor ckptferry's own are counted
	Bytes int64
	// Left says why exclusive files were left to the sweep; empty when none were.
	Left string
}

// RemoveReplica deletes a replica that nobody may start from any more: `_metadata` first, then the files that its
// manifest lists below its own directories and that no other manifest needs, then what ckptferry has on record of it. Shared
// files stay for the sweep. It may be repeated, also after it was cut short anywhere; what is gone is done already.
func RemoveReplica(ctx context.Context, dst fsutil.FS, req RemoveRequest) (Removed, error) {
	var done Removed
	if err := validReplica(req.Replica); err != nil {
		return done, err
	}
	ours, err := exists(ctx, dst, ownDir)
	if err != nil || !ours {
		return done, err // nothing was ever written here, and what lies here is not ours
	}
	r := remover{dst: dst, name: req.Replica}
	of, err := r.publishedOf(ctx)
	if err != nil || of.known && of.crc != req.Original {
		return done, err
	}
	// The sweep must find the job's directory also when nothing is on record of it any more; so records notes those that the
	// replica borrowed from.
	if err := noteLeftover(ctx, dst, Top(req.Replica)); err != nil {
		return done, err
	}
	// Where nothing is on record under the name nothing was published of this replica: a _metadata there may be another's,
	// which is being published at this moment.
	if of.known || of.damaged {
		metadata := path.Join(req.Replica, metadataName)
		if err := dst.Remove(ctx, metadata); err != nil {
			return done, fmt.Errorf("remove %s: %w", dst.Root().Join(metadata), err)
		}
	}
	if done, err = r.exclusive(ctx); err != nil {
		return done, err
	}
	return done, r.records(ctx)
}

// validReplica refuses a name that can't be a replica's, before anything is deleted below it.
func validReplica(name string) error {
	if !fs.ValidPath(name) || name == "." || Top(name) == ownDir || strings.Count(name, "/") > 1 {
		return refuse("%q is not the name of a replica below its root", name)
	}
	return nil
}

// remover takes one replica away.
type remover struct {
	dst  fsutil.FS
	name string
}

// publication is of which checkpoint something is on record under a name.
type publication struct {
	known   bool
	crc     uint32 // of the source's _metadata
	damaged bool   // something is on record, and can't be read
}

func (r remover) publishedOf(ctx context.Context) (publication, error) {
	head, ok, err := findManifest(ctx, r.dst, r.name, nil)
	damaged := errors.Is(err, errManifest) || errors.Is(err, fsutil.ErrCorrupt)
	if err != nil && !damaged {
		return publication{}, err
	}
	if ok {
		return publication{known: true, crc: uint32(head.OriginalCRC)}, nil
	}
	crc, _, err := readBack(ctx, r.dst, own("original", r.name, "/"+metadataName), make([]byte, ownBufferBytes))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fsutil.ErrCorrupt) {
		return publication{damaged: damaged || errors.Is(err, fsutil.ErrCorrupt)}, nil
	}
	return publication{known: err == nil, crc: uint32(crc), damaged: damaged}, err
}

// exclusive deletes the files that belong to this replica alone. They are renamed away first: whoever has put on record
// meanwhile that he needs one gets it back. A run that does so later sees that it is gone, and copies it again.
func (r remover) exclusive(ctx context.Context) (Removed, error) {
	var done Removed
	mine := map[string]int64{}
	_, _, err := findManifest(ctx, r.dst, r.name, func(f ManifestFile) error {
		if r.owns(f.Name) {
			mine[f.Name] = f.Bytes
		}
		return nil
	})
	if errors.Is(err, errManifest) || errors.Is(err, fsutil.ErrCorrupt) {
		return Removed{Left: "its manifest is damaged: its files are left to the sweep"}, nil
	}
	if err != nil {
		return done, err
	}
	err = r.needed(ctx, mine, func(name string) error {
		delete(mine, name)
		return nil
	})
	if errors.Is(err, ErrUnsure) {
		return Removed{Left: "its files are left to the sweep: " + err.Error()}, nil
	}
	if err != nil {
		return done, err
	}
	batch, err := newBatch(ctx, r.dst)
	if err != nil {
		return done, err
	}
	dirs := map[string]bool{}
	for name, bytes := range mine {
		there, err := batch.take(ctx, name)
		if err != nil {
			return done, err
		}
		if dirs[path.Dir(name)] = true; there {
			done.Files++
			done.Bytes += bytes
		}
	}
	back := func(name string) error {
		delete(mine, name)
		return batch.putBack(ctx, name)
	}
	if err := r.needed(ctx, mine, back); err != nil {
		return done, err // the batch stays in the trash, which is looked through before it is emptied
	}
	for name := range mine {
		if err := r.dst.Remove(ctx, batch.name(name)); err != nil {
			return done, fmt.Errorf("remove %s: %w", r.dst.Root().Join(batch.name(name)), err)
		}
	}
	if err := removeTree(ctx, r.dst, batch.dir); err != nil {
		return done, err
	}
	dirs[r.name] = true
	for dir := range dirs {
		if err := removeEmpty(ctx, r.dst, dir); err != nil {
			return done, err
		}
	}
	return done, nil
}

// owns says whether a file lies in a directory of this replica: its own, or one of the same name elsewhere, of which
// there are many with entropy injection.
func (r remover) owns(file string) bool { return strings.Contains("/"+file, "/"+r.name+"/") }

// Exclusive counts the files that a replica's manifest lists below its own directories: what RemoveReplica deletes at most. A
// replica without a manifest that can be believed has none.
func Exclusive(ctx context.Context, dst fsutil.ReadFS, replica string) (files int, bytes int64, err error) {
	r := remover{name: replica}
	_, _, err = findManifest(ctx, dst, replica, func(f ManifestFile) error {
		if r.owns(f.Name) {
			files++
			bytes += f.Bytes
		}
		return nil
	})
	if errors.Is(err, errManifest) || errors.Is(err, fsutil.ErrCorrupt) {
		return 0, 0, nil
	}
	return files, bytes, err
}

// needed visits those of the files that a manifest of another replica lists. ErrUnsure when one can't be read.
func (r remover) needed(ctx context.Context, files map[string]int64, visit func(name string) error) error {
	if len(files) == 0 {
		return nil
	}
	tops := map[string]bool{Top(r.name): true}
	for name := range files {
		tops[Top(name)] = true
	}
	replicas, err := manifestsOf(ctx, r.dst, tops)
	if err != nil {
		return err
	}
	for _, replica := range replicas {
		if replica == r.name {
			continue
		}
		var found []string
		_, err := readManifest(ctx, r.dst, replica, func(f ManifestFile) error {
			if _, ok := files[f.Name]; ok {
				found = append(found, f.Name)
			}
			return nil
		})
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case errors.Is(err, errManifest) || errors.Is(err, fsutil.ErrCorrupt):
			return fmt.Errorf("%w: %w", ErrUnsure, err)
		case err != nil:
			return err
		}
		for _, name := range found {
			if err := visit(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// records deletes what ckptferry keeps of the replica. The manifest goes last: it says where the notes of what was
// borrowed are.
func (r remover) records(ctx context.Context) error {
	tops := map[string]bool{}
	_, _, err := findManifest(ctx, r.dst, r.name, func(f ManifestFile) error {
		tops[Top(f.Name)] = true
		return nil
	})
	if err != nil && !errors.Is(err, errManifest) && !errors.Is(err, fsutil.ErrCorrupt) {
		return err
	}
	for top := range tops {
		if err := noteLeftover(ctx, r.dst, top); err != nil {
			return err
		}
	}
	for _, kind := range []string{"original", "journal", quarantineDir} {
		if err := removeTree(ctx, r.dst, own(kind, r.name, "")); err != nil {
			return err
		}
	}
	var files []string
	for top := range tops {
		files = append(files, borrower(top, r.name))
	}
	for _, name := range append(files, own("manifest", r.name, ".jsonl")) {
		if err := r.dst.Remove(ctx, name); err != nil {
			return fmt.Errorf("remove %s: %w", r.dst.Root().Join(name), err)
		}
	}
	return nil
}

// removeEmpty removes a directory if nothing is in it. One that is absent, or holds something, is left.
func removeEmpty(ctx context.Context, dst fsutil.FS, dir string) error {
	infos, err := dst.List(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) || err == nil && len(infos) > 0 {
		return nil
	}
	if err == nil {
		err = dst.Remove(ctx, dir)
	}
	if errors.Is(err, fs.ErrExist) { // something was put there just now
		return nil
	}
	return err
}

// Quarantine moves a replica's _metadata out of the way, so that nobody starts from bytes that rotted. Its files stay:
// most of them are right, and the next copy needs not make them again. It may be repeated.
func Quarantine(ctx context.Context, dst fsutil.FS, replica string) error {
	if err := validReplica(replica); err != nil {
		return err
	}
	from, to := path.Join(replica, metadataName), own(quarantineDir, replica, "/"+metadataName)
	err := dst.Rename(ctx, from, to)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("move %s out of the way: %w", dst.Root().Join(from), err)
	}
	return nil
}

// Unquarantine moves it back, where the state would not have it.
func Unquarantine(ctx context.Context, dst fsutil.FS, replica string) error {
	if err := validReplica(replica); err != nil {
		return err
	}
	to, from := path.Join(replica, metadataName), own(quarantineDir, replica, "/"+metadataName)
	if there, err := exists(ctx, dst, to); err != nil || there {
		return err
	}
	err := dst.Rename(ctx, from, to)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("move %s back: %w", dst.Root().Join(to), err)
	}
	return nil
}

// Quarantined lists the replicas whose _metadata was moved out of the way.
func Quarantined(ctx context.Context, dst fsutil.ReadFS) ([]string, error) {
	var found []string
	base := path.Join(ownDir, quarantineDir)
	err := walkFiles(ctx, dst, base, func(name string) error {
		if path.Base(name) == metadataName {
			found = append(found, strings.TrimPrefix(path.Dir(name), base+"/"))
		}
		return nil
	})
	return found, err
}
