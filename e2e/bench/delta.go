package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// measureDelta replicates a checkpoint and then the next one, which shares 95 % of its files.
func measureDelta(ctx context.Context, b *bench) error {
	const files, kept = 400, 380
	root := filepath.Join(b.dir, "delta")
	defer os.RemoveAll(root)
	source, target := filepath.Join(root, "source"), filepath.Join(root, "target")
	first := newCheckpoint("file:"+source, 1, files, sized(mib/2))
	next := newCheckpoint("file:"+source, 2, files-kept, sized(mib/2))
	added := next.bytes()
	next.files = append(next.files, first.files[len(first.files)-kept:]...)
	next.handles = len(next.files)
	for _, c := range []checkpoint{first, next} {
		if err := c.writeLocal(source); err != nil {
			return err
		}
	}
	if _, _, err := b.replicate(ctx, first, target); err != nil {
		return err
	}
	before, err := bytesBelow(target)
	if err != nil {
		return err
	}
	r, _, err := b.replicate(ctx, next, target)
	if err != nil {
		return err
	}
	after, err := bytesBelow(target)
	if err != nil {
		return err
	}
	moved := float64(r.BytesCopied) / float64(added)
	metadata := len(next.metadata())
	b.add(row{Section: "delta", What: fmt.Sprintf("next checkpoint, %d of %d files shared: bytes moved / new bytes", kept, len(next.files)),
		Value: moved, Low: moved, High: moved, Unit: "×", Most: 1.02, Runs: 1,
		Note: fmt.Sprintf("%d bytes copied for %d new ones, %d files not copied again. Beside that the source's _metadata (%d bytes) is read when planning and once more before READY; "+
			"the target grew by %d bytes in all, with _metadata, the original of it and the manifest. By default (--verify all) shared files are read back at the target",
			r.BytesCopied, added, r.FilesSkipped, metadata, after-before)})
	return nil
}

// bytesBelow sums up the lengths of all files of a tree.
func bytesBelow(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}
