//go:build e2e

package fsutil_test

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/ckptferry/ckptferry/e2e/lab/hdfslab"
	"github.com/ckptferry/ckptferry/fsutil"
	"golang.org/x/sync/errgroup"
)

// BenchmarkHDFSCopy copies a set of files between two clusters as the replicator does: read with HDFS's digest, write
// under another name, read back and compare, rename. Run it with -benchtime 1x -count 5.
func BenchmarkHDFSCopy(b *testing.B) {
	var roots [2]fsutil.FS
	for i := range roots {
		c := hdfslab.New(b, hdfslab.Options{Layout: hdfslab.Separate, Datanodes: 2, Replication: 1, JVM: hdfslab.Benchmark})
		root, err := fsutil.ParseURI(c.URI() + "/bench")
		if err != nil {
			b.Fatal(err)
		}
		h := fsutil.NewHDFS(fsutil.HDFSConfig{ConfDir: c.ConfDir()})
		b.Cleanup(func() { _ = h.Close() }) // the cluster goes with it
		if roots[i], err = h.Open(b.Context(), root); err != nil {
			b.Fatal(err)
		}
	}
	sizes := rand.New(rand.NewPCG(1, 2))
	for name, set := range map[string]struct {
		files int
		size  func() int
	}{
		"200x4MiB":      {200, func() int { return 4 << 20 }},
		"2000x4to64KiB": {2000, func() int { return 4<<10 + sizes.IntN(60<<10) }},
	} {
		var total int64
		fill := sync.OnceFunc(func() {
			g, ctx := errgroup.WithContext(b.Context())
			g.SetLimit(16)
			for i := range set.files {
				content := randomBytes(set.size())
				total += int64(len(content))
				g.Go(func() error { return putHDFS(ctx, roots[0], fmt.Sprintf("%s/f%d", name, i), content) })
			}
			if err := g.Wait(); err != nil {
				b.Fatal(err)
			}
		})
		for _, workers := range []int{1, 8, 32} {
			b.Run(fmt.Sprintf("%s/workers=%d", name, workers), func(b *testing.B) {
				fill()
				b.SetBytes(total)
				for b.Loop() {
					target := fmt.Sprintf("%s-%d", name, places.Add(1))
					g, ctx := errgroup.WithContext(b.Context())
					g.SetLimit(workers)
					for i := range set.files {
						g.Go(func() error {
							return replicate(ctx, roots[0], roots[1], fmt.Sprintf("%s/f%d", name, i), fmt.Sprintf("%s/f%d", target, i))
						})
					}
					if err := g.Wait(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

var errDiffers = errors.New("read back: not what was written")

func replicate(ctx context.Context, src, dst fsutil.FS, from, to string) error {
	r, err := src.Open(ctx, from, 0)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := dst.Create(ctx, to+".part")
	if err != nil {
		return err
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	sent, back := crc32.New(table), crc32.New(table)
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(w, sent)}, r, make([]byte, 256<<10)); err != nil {
		return errors.Join(err, w.Abort())
	}
	if err := w.Commit(ctx); err != nil {
		return errors.Join(err, w.Abort())
	}
	check, err := dst.(fsutil.UncheckedOpener).OpenUnchecked(ctx, to+".part", 0)
	if err != nil {
		return err
	}
	defer check.Close()
	if _, err := io.CopyBuffer(struct{ io.Writer }{back}, check, make([]byte, 256<<10)); err != nil {
		return err
	}
	if sent.Sum32() != back.Sum32() {
		return errDiffers
	}
	return dst.Rename(ctx, to+".part", to)
}
