//go:build e2e

package e2e

import (
	"path"
	"slices"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/e2e/lab/flinklab"
)

// A job takes checkpoints four times a second and Flink keeps two, while its newest one is replicated again and again,
// every other time so slowly that Flink deletes it meanwhile. Each run ends with a READY replica or says that the
// checkpoint was superseded, and leaves nothing by halves. When the job's datacenter is lost, real Flink starts from the
// newest READY replica.
func TestReplicatesWhileFlinkDeletesCheckpoints(t *testing.T) {
	const (
		atLeast = 20 * time.Second
		atMost  = 90 * time.Second // until there was one of each
	)
	s := newSite(t, "1.20.0")
	job := startJob(t, s, jobOptions{
		// for half a minute half a megabyte of new state in each checkpoint
		params: flinklab.Params{Keys: 2000, Payload: 1000, Target: 60000}, rate: 1000, interval: 250 * time.Millisecond, retained: 2,
	})
	job.awaitCheckpoint(t, 8)
	var ready []string // replicas
	superseded := 0
	began := time.Now()
	for run := 0; time.Since(began) < atLeast || len(ready) == 0 || superseded == 0; run++ {
		if time.Since(began) > atMost {
			t.Fatalf("%d READY and %d superseded in %s; want at least one of each", len(ready), superseded, atMost)
		}
		checkpoint := job.newest(t)
		args := []string{"replicate", checkpoint, s.replicas().path}
		if run%2 == 0 {
			args = append(args, "--bwlimit", "256KiB/s")
		}
		switch code, out := exitOf(t, args...); code {
		case 0:
			if replica := replicaOf(checkpoint, s.replicas().path); !slices.Contains(ready, replica) {
				ready = append(ready, replica)
			}
		case 11:
			superseded++
		default:
			t.Fatalf("replicate of %s: exit code %d; want 0 or 11\n%s", checkpoint, code, out)
		}
		requireNothingHalf(t, s, ready)
	}
	t.Logf("%d READY, %d superseded in %s", len(ready), superseded, time.Since(began).Round(time.Second))

	job.kill(t)
	s.source.lose(t)
	for _, replica := range ready {
		output(t, "metadata", "verify", replica)
	}
	o := s.restore("restored", flinklab.RestoreOptions{Path: "file://" + ready[len(ready)-1], Mode: noClaim, Ledger: job.ledger()})
	if _, err := s.lab.RestoreCheck(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

// requireNothingHalf requires that the local target holds these replicas, and neither another checkpoint's directory
// nor files of a run that is over.
func requireNothingHalf(t *testing.T, s site, ready []string) {
	t.Helper()
	for _, dir := range s.replicas().glob(t, "*/chk-*") {
		if !slices.Contains(ready, dir) {
			t.Fatalf("%s is visible and not READY: %s", dir, s.replicas().glob(t, "*/"+path.Base(dir)+"/*"))
		}
	}
	for _, replica := range ready {
		if len(place{path: replica}.glob(t, "_metadata")) == 0 {
			t.Fatalf("%s was READY and has no _metadata", replica)
		}
	}
	if left := s.replicas().glob(t, ".ckptferry/tmp/*/*"); len(left) > 0 {
		t.Fatalf("left behind: %s", left)
	}
}
