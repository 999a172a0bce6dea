package replicator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/ckptferry/ckptferry/fsutil"
)

// Published says whether dir is a READY replica that ckptferry has on record.
func Published(ctx context.Context, opener Opener, dir fsutil.URI) (bool, error) {
	l := newLayout(dir)
	root, err := opener.OpenRead(ctx, l.base)
	if err != nil {
		return false, fmt.Errorf("open %s: %w", l.base, err)
	}
	for _, name := range []string{path.Join(l.name(), metadataName), own("manifest", l.name(), ".jsonl")} {
		if there, err := exists(ctx, root, name); err != nil || !there {
			return false, err
		}
	}
	return true, nil
}

// LookupRequest is a checkpoint or replica that Flink is to be started from.
type LookupRequest struct {
	Dir fsutil.URI // as reached from here
	Raw []byte     // its _metadata
}

// Lookup is how Flink names it, and what to know about that.
type Lookup struct {
	Path   string
	Advice []string
}

// LookUp finds the name that Flink at the target has for a checkpoint. Of a replica the manifest knows it, and its files
// are looked at: ErrVerify when _metadata is not the one that was published, or a file is missing or has another length.
// Their bytes are not read; Check does that. Anything else keeps the name that it is reached by, and nothing is checked.
func LookUp(ctx context.Context, opener Opener, req LookupRequest) (Lookup, error) {
	l := newLayout(req.Dir)
	found := Lookup{Path: req.Dir.String(), Advice: []string{}}
	root, err := opener.OpenRead(ctx, l.base)
	if err != nil {
		return found, fmt.Errorf("open %s: %w", l.base, err)
	}
	var files []ManifestFile
	head, ok, err := findManifest(ctx, root, l.name(), func(f ManifestFile) error {
		files = append(files, f)
		return nil
	})
	if errors.Is(err, errManifest) || err == nil && !ok {
		found.Advice = append(found.Advice, "this is no replica that ckptferry has a manifest of: nothing was checked. `ckptferry metadata verify` looks whether its files are there")
		return found, nil
	}
	if err != nil {
		return found, err
	}
	if head.MetadataBytes != int64(len(req.Raw)) || head.MetadataCRC != checksum(req.Raw) {
		return found, fmt.Errorf("%w: %s is not the file that was published: run `ckptferry metadata verify`", ErrVerify, req.Dir.Join(metadataName))
	}
	if err := sameLengths(ctx, root, files); err != nil {
		return found, err
	}
	as, err := fsutil.ParseURI(head.Root)
	if err != nil {
		return found, fmt.Errorf("read the manifest of %s: %w", req.Dir, err)
	}
	moved := as != l.base && head.WrittenTo != l.base.String()
	switch {
	case moved && head.Paths == string(PathsRelative):
		// It moves as a directory: its name is where it is.
	case moved:
		found.Path = as.Join(l.name()).String()
		found.Advice = append(found.Advice, fmt.Sprintf("this replica was made to be read below %s, and that is what its _metadata names; here it lies below %s. If it was copied or moved, replicate to the new place instead", as, l.base))
	default:
		found.Path = as.Join(l.name()).String()
	}
	return found, nil
}

// sameLengths looks at the files of a manifest.
func sameLengths(ctx context.Context, root fsutil.ReadFS, files []ManifestFile) error {
	var (
		mu    sync.Mutex
		wrong int
		first string
	)
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(statParallel)
	for _, f := range files {
		group.Go(func() error {
			fi, err := root.Stat(gctx, f.Name)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("look at %s: %w", root.Root().Join(f.Name), err)
			}
			if err == nil && !fi.IsDir && fi.Size == f.Bytes {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			wrong++
			if first == "" || f.Name < first {
				first = f.Name
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if wrong > 0 {
		return fmt.Errorf("%w: %d file(s) of the replica are missing or have another length, among them %s: `ckptferry metadata verify` names all", ErrVerify, wrong, root.Root().Join(first))
	}
	return nil
}

// IsReplicaRoot says whether ckptferry has made replicas below a root.
func IsReplicaRoot(ctx context.Context, opener ReadOpener, root fsutil.URI) (bool, error) {
	r, err := opener.OpenRead(ctx, root)
	if err != nil {
		return false, fmt.Errorf("open %s: %w", root, err)
	}
	return exists(ctx, r, ownDir)
}
