package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/ckptferry/ckptferry/e2e/lab/flinklab"
	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/ckptferry/ckptferry/flinkmeta/metadatatest"
)

const (
	metadataHandles = 100_000
	metadataFlink   = "1.20.0"
	// metadataRounds are measured in each run of a side, after as many that only warm it up.
	metadataRounds = 20
)

// flinkTook is what the lab's bench-metadata prints.
type flinkTook struct {
	Flink       string  `json:"flink"`
	StoredBytes int     `json:"stored_bytes"`
	FirstLoad   float64 `json:"first_load_ms"`
	FirstStore  float64 `json:"first_store_ms"`
	Load        float64 `json:"load_ms"`
	Store       float64 `json:"store_ms"`
}

// measureMetadata compares scan + relocation with Flink's own loader + serializer, bytes to bytes in memory.
func measureMetadata(ctx context.Context, b *bench) error {
	raw := metadatatest.Large(metadataHandles)
	file := filepath.Join(b.dir, "large", "_metadata")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file, raw, 0o644); err != nil {
		return err
	}
	what := fmt.Sprintf("scan + relocate %d handles, %.1f MB", metadataHandles, float64(len(raw))/1e6)
	lab, err := flinklab.Build(ctx, metadataFlink, filepath.Join(b.dir, "flink"))
	if err != nil {
		return err
	}
	var last flinkTook
	sides := []side{
		{name: "flinkmeta Scan + Rebase", run: func(context.Context, int) (time.Duration, error) { return rebaseRounds(raw) }},
		{name: "Flink " + metadataFlink + " load + store, warm", run: func(ctx context.Context, _ int) (time.Duration, error) {
			last, err = flinkRounds(ctx, lab, file)
			return time.Duration((last.Load + last.Store) * float64(time.Millisecond)), err
		}},
	}
	took, err := b.race(ctx, what, sides...)
	if err != nil {
		return err
	}
	b.compare(versus{section: "metadata", what: what, goal: 5, ours: 0, peer: 1,
		note: fmt.Sprintf("each value is the median of %d rounds after %d that warm up, in memory; JVM as it is by default. Flink's first round took %.0f + %.0f ms",
			metadataRounds, metadataRounds, last.FirstLoad, last.FirstStore)}, took, sides...)

	allocated, err := allocatedByRebase(raw)
	if err != nil {
		return err
	}
	share := float64(allocated+len(raw)) / float64(len(raw))
	b.add(row{Section: "metadata", What: "heap of scan + relocate / size of the file", Value: share, Low: share, High: share, Unit: "×", Most: 4, Runs: 1,
		Note: "all that is ever allocated, garbage included, with the input: no collector can make the peak larger"})
	return nil
}

func rebaseOnce(raw []byte) error {
	m, err := flinkmeta.Scan(raw)
	if err != nil {
		return err
	}
	out, _, err := m.Rebase(metadatatest.LargeDir, flinkmeta.Rebase{From: metadatatest.LargeBase, To: "hdfs://dc-b/flink/replicas/orders-enrichment"})
	if err == nil && bytes.Equal(out, raw) {
		err = fmt.Errorf("the relocated _metadata is the same: nothing was done")
	}
	return err
}

func rebaseRounds(raw []byte) (time.Duration, error) {
	var seconds []float64
	for i := range 2 * metadataRounds {
		began := time.Now()
		if err := rebaseOnce(raw); err != nil {
			return 0, err
		}
		if i >= metadataRounds {
			seconds = append(seconds, time.Since(began).Seconds())
		}
	}
	return time.Duration(median(seconds) * float64(time.Second)), nil
}

func allocatedByRebase(raw []byte) (int, error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := rebaseOnce(raw)
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc), err
}

func flinkRounds(ctx context.Context, lab *flinklab.Lab, file string) (flinkTook, error) {
	var took flinkTook
	cmd := lab.Command(ctx, "bench-metadata", file, strconv.Itoa(metadataRounds))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return took, fmt.Errorf("%w\n%s", err, stderr.Bytes())
	}
	if err := json.Unmarshal(out, &took); err != nil {
		return took, fmt.Errorf("read what bench-metadata printed: %w\n%s", err, out)
	}
	if took.Load <= 0 || took.Store <= 0 || took.StoredBytes < metadataHandles {
		return took, fmt.Errorf("bench-metadata measured nothing: %s", out)
	}
	return took, nil
}
