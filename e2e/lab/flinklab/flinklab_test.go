//go:build e2e

package flinklab_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/e2e/lab/flinklab"
)

const version = "1.20.0"

// generated is a small RocksDB incremental job's checkpoints below dir.
func generated(t *testing.T, lab *flinklab.Lab, dir string) flinklab.Ledger {
	t.Helper()
	ledger, err := lab.Gen(t.Context(), flinklab.GenOptions{
		Dir: "file://" + dir, Target: 2000, Keys: 100, Payload: 64, Checkpoints: 3, Interval: 300 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	return ledger
}

func build(t *testing.T) *flinklab.Lab {
	t.Helper()
	lab, err := flinklab.Build(t.Context(), version, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return lab
}

func TestLab(t *testing.T) {
	lab, dir := build(t), t.TempDir()
	ledger := generated(t, lab, filepath.Join(dir, "cp"))
	run := jobRun{lab: lab, dir: dir, ledger: ledger}
	t.Run("restore-check passes where nothing was moved", run.restoresWhatGenWrote)
	t.Run("restore-check fails on state that the ledger does not say", run.failsOnOtherState)
	t.Run("a session cluster restores by the flink command", run.restoresOnCluster)
	t.Run("restore-check fails without one shared file", run.failsWithoutOneSharedFile) // last: it breaks the checkpoint
}

type jobRun struct {
	lab    *flinklab.Lab
	dir    string
	ledger flinklab.Ledger
}

func (r jobRun) options(name string) flinklab.RestoreOptions {
	return flinklab.RestoreOptions{
		Path: r.ledger.Newest().Path, Mode: "NO_CLAIM", Dir: "file://" + filepath.Join(r.dir, name), Ledger: r.ledger,
		More: 500, Checkpoints: 2, Interval: 300 * time.Millisecond,
	}
}

func (r jobRun) restoresWhatGenWrote(t *testing.T) {
	newest := r.ledger.Newest()
	if newest.Emitted != 2000 {
		t.Fatalf("newest checkpoint %+v was taken before the last element", newest)
	}
	result, err := r.lab.RestoreCheck(t.Context(), r.options("restored"))
	if err != nil {
		t.Fatal(err)
	}
	if got := result.Ledger.Newest(); got.ID <= newest.ID || got.Emitted != 2500 {
		t.Errorf("newest checkpoint of the restored job = %+v; want one after %d with 2500 elements", got, newest.ID)
	}
}

func (r jobRun) failsOnOtherState(t *testing.T) {
	o := r.options("other")
	o.Ledger.Params.Target -= 7 // the state holds seven elements more than this ledger says
	o.Ledger.Checkpoints, o.More = nil, 0
	o.Args = []string{"--timeout", "2"}
	_, err := r.lab.RestoreCheck(t.Context(), o)
	if !errors.Is(err, flinklab.ErrNotRestored) || !strings.Contains(err.Error(), "MISMATCH") {
		t.Errorf("restore-check against another ledger = %v; want ErrNotRestored with MISMATCH", err)
	}
}

func (r jobRun) failsWithoutOneSharedFile(t *testing.T) {
	removeOneSharedFile(t, r.lab, r.ledger.Newest().Path)
	_, err := r.lab.RestoreCheck(t.Context(), r.options("broken"))
	if !errors.Is(err, flinklab.ErrNotRestored) || !strings.Contains(err.Error(), "FileNotFoundException") {
		t.Errorf("restore-check without one shared file = %v; want ErrNotRestored with FileNotFoundException", err)
	}
}

// removeOneSharedFile removes a shared file that the checkpoint refers to, by what Flink's own loader says.
func removeOneSharedFile(t *testing.T, lab *flinklab.Lab, checkpoint string) {
	t.Helper()
	raw, err := lab.Dump(t.Context(), checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	var dump struct {
		Handles []struct{ Class, Path, Where string }
	}
	if err := json.Unmarshal(raw, &dump); err != nil {
		t.Fatal(err)
	}
	for _, h := range dump.Handles {
		if h.Class == "FileStateHandle" && strings.Contains(h.Path, "/shared/") {
			if err := os.Remove(strings.TrimPrefix(h.Path, "file:")); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("the checkpoint has no shared file: %s", raw)
}

func (r jobRun) restoresOnCluster(t *testing.T) {
	cluster, err := r.lab.StartCluster(t.Context(), flinklab.ClusterOptions{Slots: 2, CheckpointDir: "file://" + filepath.Join(r.dir, "cluster")})
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	const target = 2600
	args := []string{"run", "-d", "-s", r.ledger.Newest().Path, "-claimMode", "NO_CLAIM", "-c", flinklab.ClusterJob, r.lab.Jar()}
	out, err := cluster.Flink(t.Context(), append(args, r.ledger.JobArgs(target)...)...)
	if err != nil {
		t.Fatal(err)
	}
	job, err := flinklab.SubmittedJob(out)
	if err != nil {
		t.Fatal(err)
	}
	path, err := cluster.AwaitCheckpoints(t.Context(), job, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := cluster.Cancel(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	after := r.ledger
	after.Params.Target, after.Checkpoints = target, nil
	o := r.options("after")
	o.Path, o.Ledger, o.More, o.Checkpoints = path, after, 100, 1
	if _, err := r.lab.RestoreCheck(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

func TestBenchMetadataGivesTimesForAFileThatFlinkWrote(t *testing.T) {
	file := ""
	err := filepath.WalkDir("../../../flinkmeta/fixtures/1.20.0-filemerging", func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.Name() == "_metadata" {
			file = path
		}
		return err
	})
	if err != nil || file == "" {
		t.Fatalf("find a fixture: %q, %v", file, err)
	}
	times, err := build(t).BenchMetadata(t.Context(), file, 20)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if times.FileBytes != info.Size() || times.StoredBytes != info.Size() || times.LoadMS <= 0 || times.StoreMS <= 0 {
		t.Errorf("times of a %s byte file = %+v", strconv.FormatInt(info.Size(), 10), times)
	}
	t.Logf("%+v", times)
}
