package replicator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/ckptferry/ckptferry/fsutil"
)

// listFrom is how many files of one directory are looked at by listing it instead of one by one: HDFS lists a thousand
// entries in one call. A directory that holds many others too costs less than the questions for each up to a
// thousand times as many.
const listFrom = 256

// looked is what was found under a name.
type looked struct {
	info  fsutil.FileInfo
	there bool // a file, no directory
}

// lookAt describes many files, in their order. A file of no file system (fs nil) is not there.
func lookAt(ctx context.Context, files []located) ([]looked, error) {
	found := make([]looked, len(files))
	type place struct {
		root fsutil.URI
		dir  string
	}
	byDir := map[place][]int{}
	for i, f := range files {
		if f.fs != nil {
			at := place{f.fs.Root(), path.Dir(f.name)}
			byDir[at] = append(byDir[at], i)
		}
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(statParallel)
	if slices.ContainsFunc(files, func(f located) bool { _, far := f.fs.(fsutil.AllOpener); return far }) {
		group.SetLimit(listFrom) // what waits there is asked in one call
	}
	for _, in := range byDir {
		if len(in) >= listFrom {
			group.Go(func() error { return lookTogether(gctx, files, in, found) })
			continue
		}
		for _, i := range in {
			group.Go(func() (err error) {
				found[i], err = lookAlone(gctx, files[i])
				return err
			})
		}
	}
	return found, group.Wait()
}

func lookAlone(ctx context.Context, f located) (looked, error) {
	info, err := f.fs.Stat(ctx, f.name)
	if errors.Is(err, fs.ErrNotExist) {
		return looked{}, nil
	}
	if err != nil {
		return looked{}, fmt.Errorf("look at %s: %w", f.fs.Root().Join(f.name), err)
	}
	return looked{info, !info.IsDir}, nil
}

// lookTogether fills in found those of the files, by their indices in, that all lie in one directory.
func lookTogether(ctx context.Context, files []located, in []int, found []looked) error {
	at := files[in[0]].fs
	dir := path.Dir(files[in[0]].name)
	infos, err := at.List(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", at.Root().Join(dir), err)
	}
	byName := make(map[string]fsutil.FileInfo, len(infos))
	for _, info := range infos {
		byName[info.Name] = info
	}
	for _, i := range in {
		info, ok := byName[path.Base(files[i].name)]
		if !ok {
			continue
		}
		found[i] = looked{info, !info.IsDir}
		if info.Size == 0 && !info.IsDir { // it may be a link that leads nowhere: Stat says why
			if found[i], err = lookAlone(ctx, files[i]); err != nil {
				return err
			}
		}
	}
	return nil
}
