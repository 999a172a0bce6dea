package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	latencyJob    = "latency"
	latencyFiles  = 20
	latencyShared = 4 // of these: new shared files
	latencyKept   = 64
	// latencyRetained is how many checkpoints Flink keeps.
	latencyRetained = 3
)

// measureLatency completes one small checkpoint after the other.
func measureLatency(ctx context.Context, b *bench) (err error) {
	const poll = 200 * time.Millisecond
	p, err := b.startPair(ctx, pairOptions{name: "agents-latency", poll: poll})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	root := filepath.Join(p.source, latencyJob)
	var shared []stateFile // newest last
	var took []float64
	for n := int64(-2); n < int64(b.latencies); n++ { // the first ones warm up
		c := newCheckpoint("file:"+root, n+3, latencyFiles, sized(mib/latencyFiles))
		shared = append(shared, c.files[latencyFiles-latencyShared:]...)
		shared = shared[max(0, len(shared)-latencyKept):]
		c.files = append(c.files[:latencyFiles-latencyShared:latencyFiles-latencyShared], shared...)
		c.handles = len(c.files)
		if err := c.writeState(root); err != nil {
			return err
		}
		// Not in step with the agent's polls.
		if err := wait(ctx, poll+time.Duration(rand.Int64N(int64(poll)))); err != nil {
			return err
		}
		d, err := p.pull(ctx, latencyJob, c)
		if err != nil {
			return err
		}
		if n >= 0 {
			took = append(took, float64(d.Microseconds())/1000)
		}
		if err := os.RemoveAll(filepath.Join(root, jobID, fmt.Sprintf("chk-%d", c.number-latencyRetained))); err != nil {
			return err
		}
	}
	slices.Sort(took)
	const what = "_metadata visible → READY, 1 MiB in 20 new files"
	note := fmt.Sprintf("single-voter agents in two processes, plaintext on loopback, poll %s; %d checkpoints one after the other, each with %d older shared files beside the new ones; "+
		"from the rename of _metadata into place until the replica's _metadata is visible and the target's API, asked every %s, says READY; fsync and read-back included",
		poll, len(took), latencyKept-latencyShared, readyEvery)
	for _, q := range []struct {
		name string
		part float64
		goal float64
	}{{"p50", 0.50, 500}, {"p99", 0.99, 1500}} {
		b.add(row{Section: "agents", What: what + ", " + q.name, Value: quantile(took, q.part), Low: took[0], High: took[len(took)-1], Unit: "ms", Most: q.goal, Runs: len(took), Note: note})
		note = ""
	}
	return nil
}

// quantile of values that are sorted: the smallest that at least that part of them does not exceed.
func quantile(sorted []float64, part float64) float64 {
	n := int(part*float64(len(sorted)) + 0.999999)
	return sorted[min(max(n, 1), len(sorted))-1]
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
