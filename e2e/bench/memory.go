package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// measureMemory replicates checkpoints that are large in one way each.
func measureMemory(ctx context.Context, b *bench) error {
	for _, m := range []struct {
		what string
		make func(base string) checkpoint
		runs int
		note string
	}{
		{"peak memory, 100,000 handles, a file of 100 bytes each", func(base string) checkpoint {
			return newCheckpoint(base, 7, 100_000, sized(100))
		}, 2, "the larger one of a first run, and of a second that finds everything there"},
		{"peak memory, 1 GiB in 256 files", func(base string) checkpoint { return newCheckpoint(base, 7, 256, sized(4*mib)) }, 1, ""},
		{"peak memory, one file of 4 GiB", func(base string) checkpoint {
			c := newCheckpoint(base, 7, 1, sized(4*gib))
			c.files[0].sparse = true
			return c
		}, 1, "sparse at the source"},
	} {
		root := filepath.Join(b.dir, "memory")
		source := filepath.Join(root, "source")
		c := m.make("file:" + source)
		b.logf("%s: writing", m.what)
		if err := c.writeLocal(source); err != nil {
			return err
		}
		syscall.Sync()
		var peaks []float64
		for range m.runs {
			peak, err := b.peakRSS(ctx, c, filepath.Join(root, "target"))
			if err != nil {
				return err
			}
			peaks = append(peaks, float64(peak)/float64(mib))
		}
		b.add(row{Section: "memory", What: m.what, Value: slices.Max(peaks), Low: slices.Min(peaks), High: slices.Max(peaks), Unit: "MiB", Most: 256, Runs: m.runs, Note: m.note})
		if err := os.RemoveAll(root); err != nil {
			return err
		}
	}
	return nil
}
