package replicator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/ckptferry/ckptferry/fsutil"
)

// refuseOverlap holds the rule that a replica root and the places that Flink writes to are disjoint: neither may lie
// in the other. Both are given as reached from here.
func refuseOverlap(root fsutil.URI, places []fsutil.URI) error {
	r := fsutil.Canonical(root)
	for _, place := range places {
		p := fsutil.Canonical(place)
		if _, in := p.Rel(r); in {
			return refuse("the target %s lies below %s, where Flink keeps checkpoints: ckptferry never writes there. Choose a directory outside of it", root, place)
		}
		if _, in := r.Rel(p); in {
			return refuse("the source's place %s lies below the target %s: a replica root and a checkpoint base must be disjoint. Choose another target directory", place, root)
		}
	}
	return nil
}

// refuseForeignBase keeps ckptferry from writing into a directory that some Flink job uses as its checkpoint base,
// also when it is not the source's, or is the source's under another name: a replica root that has job directories
// has a .ckptferry directory beside them, a base has not.
func refuseForeignBase(ctx context.Context, dst fsutil.ReadFS) error {
	ours, err := exists(ctx, dst, ownDir)
	if ours || err != nil {
		return err
	}
	found, err := flinkDirIn(ctx, dst)
	if found == "" || err != nil {
		return err
	}
	return refuse("the target %s holds %s but no %s directory: it looks like a Flink checkpoint base, not a replica root. Choose an empty directory", dst.Root(), found, ownDir)
}

// refuseInsideBase looks at the directories above the target: below one that is a job's or a checkpoint's, or holds
// some (a base, or another replica root), a replica root would be in Flink's way.
func refuseInsideBase(ctx context.Context, opener Opener, root fsutil.URI) error {
	for u := root; u.Path != "/"; u = u.Dir() {
		if chkName.MatchString(u.Base()) || jobID.MatchString(u.Base()) {
			return refuse("the target %s lies in %s, which is named as Flink names a job's directory or a checkpoint. Choose a directory outside", root, u)
		}
	}
	for u := root; u.Path != "/"; {
		u = u.Dir()
		above, err := opener.OpenRead(ctx, u)
		found := ""
		if err == nil {
			found, err = flinkDirIn(ctx, above)
		}
		if err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("look what lies beside the target: %w", err)
		}
		if found != "" {
			return refuse("the target %s lies below %s, which holds %s: that looks like a Flink checkpoint base or another replica root. Choose a directory outside", root, u, found)
		}
	}
	return nil
}

// flinkDirIn names a directory in dir that Flink has made: a checkpoint, or a job's that holds what Flink makes in
// one. It is empty when there is none, or no dir.
func flinkDirIn(ctx context.Context, dir fsutil.ReadFS) (string, error) {
	infos, err := dir.List(ctx, ".")
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	for _, fi := range infos {
		if !fi.IsDir {
			continue
		}
		if chkName.MatchString(fi.Name) {
			return fi.Name, nil
		}
		if !jobID.MatchString(fi.Name) {
			continue
		}
		inside, err := dir.List(ctx, fi.Name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			return "", err
		}
		// An empty one is that of a job which has just begun.
		if err == nil && (len(inside) == 0 || slices.ContainsFunc(inside, func(fi fsutil.FileInfo) bool { return isFlinkDir(fi.Name) })) {
			return fi.Name, nil
		}
	}
	return "", nil
}
