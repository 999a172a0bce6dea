package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/replicator"
)

// sweepFlag makes this program sweep a replica root, as an agent does, and say what it did.
const sweepFlag = "-sweep"

// A root as it may have grown: so many jobs, replicas of each, and files of each replica, half of them shared. One file in a
// hundred is nobody's.
const (
	retentionJobs     = 200
	retentionReplicas = 50
	retentionFiles    = 100
)

// measureRetention sweeps a million files in ten thousand replicas.
func measureRetention(ctx context.Context, b *bench) error {
	root := filepath.Join(b.dir, "retention")
	b.logf("retention: writing %d empty files in %d replicas", retentionJobs*retentionReplicas*retentionFiles, retentionJobs*retentionReplicas)
	began := time.Now()
	files, orphans, err := writeRetention(ctx, root)
	if err != nil {
		return err
	}
	b.logf("retention: written in %s", time.Since(began).Round(time.Second))
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.CommandContext(ctx, self, wrapFlag, self, sweepFlag, root)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &stdout, &stderr, []*os.File{w}
	began = time.Now()
	if err := errors.Join(cmd.Run(), w.Close()); err != nil {
		return fmt.Errorf("sweep: %w\n%s", err, stderr.Bytes())
	}
	took := time.Since(began)
	var moved int
	if _, err := fmt.Sscan(stdout.String(), &moved); err != nil || moved != orphans {
		return fmt.Errorf("the sweep moved %q files, want %d: %w", strings.TrimSpace(stdout.String()), orphans, err)
	}
	said, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	peak, err := strconv.ParseInt(strings.TrimSpace(string(said)), 10, 64)
	if err != nil {
		return fmt.Errorf("read the peak of memory: %w", err)
	}
	value := float64(peak) / float64(mib)
	b.add(row{Section: "retention", What: fmt.Sprintf("peak memory of a sweep over %d files in %d replicas", files, retentionJobs*retentionReplicas),
		Value: value, Low: value, High: value, Unit: "MiB", Most: 256, Runs: 1,
		Note: fmt.Sprintf("empty files on this disk, %d jobs; %d that nobody needs are moved to the trash; it took %.0f s", retentionJobs, orphans, took.Seconds())})
	return os.RemoveAll(root)
}

// writeRetention makes the root.
func writeRetention(ctx context.Context, root string) (files, orphans int, err error) {
	for j := range retentionJobs {
		job := fmt.Sprintf("%032x", j+1)
		dir := filepath.Join(root, job)
		manifests := filepath.Join(root, ".ckptferry", "manifest", job)
		for _, d := range []string{filepath.Join(dir, "shared"), manifests} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				return files, orphans, err
			}
		}
		for n := range retentionReplicas {
			if ctx.Err() != nil {
				return files, orphans, ctx.Err()
			}
			chk := fmt.Sprintf("chk-%d", n+1)
			if err := os.Mkdir(filepath.Join(dir, chk), 0o755); err != nil {
				return files, orphans, err
			}
			names := []string{}
			for i := range retentionFiles {
				name := fmt.Sprintf("%s/%s/11111111-2222-3333-4444-%012x", job, chk, i)
				if i%2 == 1 {
					name = fmt.Sprintf("%s/shared/11111111-2222-3333-%04x-%012x", job, n, i)
				}
				if err := os.WriteFile(filepath.Join(root, name), nil, 0o644); err != nil {
					return files, orphans, err
				}
				if files++; i == 1 {
					orphans++
				} else {
					names = append(names, name)
				}
			}
			if err := errors.Join(os.WriteFile(filepath.Join(dir, chk, "_metadata"), nil, 0o644), writeManifest(filepath.Join(manifests, chk+".jsonl"), job+"/"+chk, names)); err != nil {
				return files, orphans, err
			}
		}
	}
	return files, orphans, nil
}

// writeManifest writes what replicator's manifest.go reads, of empty files.
func writeManifest(file, replica string, names []string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	buffered := bufio.NewWriter(f)
	out := json.NewEncoder(io.MultiWriter(buffered, sum))
	errs := []error{out.Encode(map[string]any{"manifest_format": 1, "replica": replica})}
	for _, name := range names {
		errs = append(errs, out.Encode(replicator.ManifestFile{Name: name, Source: "hdfs://dc-a/flink/checkpoints/orders-enrichment/" + name}))
	}
	errs = append(errs, out.Encode(map[string]any{"files": len(names), "bytes": 0, "lines_crc32c": replicator.CRC(sum.Sum32())}), buffered.Flush(), f.Close())
	return errors.Join(errs...)
}

// sweepRoot sweeps a root once, as the keeper does.
func sweepRoot(ctx context.Context, root string) (moved int, err error) {
	stores := fsutil.NewStores(fsutil.StoresConfig{})
	defer func() { err = errors.Join(err, stores.Close()) }()
	dst, err := stores.Open(ctx, fsutil.URI{Scheme: "file", Path: root})
	if err != nil {
		return 0, err
	}
	s, ok, err := replicator.NewSweeper(ctx, dst, replicator.SweepConfig{})
	if err != nil || !ok {
		return 0, errors.Join(err, errors.New("no replica root"))
	}
	tops, err := s.Tops(ctx)
	if err != nil {
		return 0, err
	}
	for _, top := range tops {
		for more := true; more; {
			var found []replicator.Unneeded
			if found, more, err = s.Look(ctx, top); err != nil {
				return moved, err
			}
			done, err := s.Move(ctx, top, found)
			if moved += done.Files; err != nil {
				return moved, err
			}
		}
		if err := s.TidyUp(ctx, top); err != nil {
			return moved, err
		}
	}
	return moved, nil
}
