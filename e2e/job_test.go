//go:build e2e

package e2e

import (
	"bytes"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/e2e/lab/flinklab"
)

// jobOptions say what runs in the background.
type jobOptions struct {
	conf     map[string]string
	params   flinklab.Params // small ones when zero
	rate     int             // elements a second of each of the two sources
	interval time.Duration   // between checkpoints
	retained int
}

// runningJob is a job that takes checkpoints at the source until it is killed.
type runningJob struct {
	at      place // of its checkpoints
	params  flinklab.Params
	version string
	cmd     *exec.Cmd
	printed bytes.Buffer
	gone    chan struct{} // closed when the process has been waited for
}

func startJob(t *testing.T, s site, o jobOptions) *runningJob {
	t.Helper()
	if o.params == (flinklab.Params{}) {
		o.params, o.rate = flinklab.Params{Keys: 300, Payload: 200, Target: 20000}, 200
	}
	o.params.Parallelism, o.params.Extras = 2, true
	j := &runningJob{at: s.source.below("checkpoints"), params: o.params, version: s.lab.Version, gone: make(chan struct{})}
	args := []string{
		"gen", "--dir", j.at.uri(), "--quiesce", "false", "--checkpoints", "1000000", "--timeout", "600",
		"--target", strconv.FormatInt(o.params.Target, 10), "--keys", strconv.Itoa(o.params.Keys), "--payload", strconv.Itoa(o.params.Payload),
		"--rate", strconv.Itoa(o.rate), "--interval", strconv.FormatInt(o.interval.Milliseconds(), 10), "--retained", strconv.Itoa(o.retained),
	}
	for _, kv := range s.source.conf(o.conf) {
		args = append(args, "--conf", kv)
	}
	j.cmd = s.lab.Command(t.Context(), args...)
	j.cmd.Stdout, j.cmd.Stderr = &j.printed, &j.printed
	if err := j.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(j.gone)
		_ = j.cmd.Wait() // killed at the end
	}()
	t.Cleanup(func() { j.kill(t) })
	return j
}

// kill ends it as a lost datacenter does. Idempotent.
func (j *runningJob) kill(t *testing.T) {
	t.Helper()
	_ = j.cmd.Process.Kill() // it may be gone already
	<-j.gone
}

// ledger is what the job's state is a function of; it was killed before it could write one.
func (j *runningJob) ledger() flinklab.Ledger {
	return flinklab.Ledger{FlinkVersion: j.version, Params: j.params}
}

// newest is the URI of the newest completed checkpoint, "" when there is none.
func (j *runningJob) newest(t *testing.T) string {
	t.Helper()
	newest, id := "", -1
	for _, metadata := range j.at.glob(t, "*/chk-*/_metadata") {
		dir := path.Dir(metadata)
		if n := checkpointID(t, dir); n > id {
			newest, id = j.at.uriOf(dir), n
		}
	}
	return newest
}

// awaitCheckpoint waits until the checkpoint with that number, or one after it, is complete.
func (j *runningJob) awaitCheckpoint(t *testing.T, id int) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		if newest := j.newest(t); newest != "" && checkpointID(t, newest) >= id {
			return
		}
		select {
		case <-j.gone:
			t.Fatalf("the job ended:\n%s", j.printed.String())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("no checkpoint %d below %s within a minute", id, j.at.uri())
		}
	}
}

func checkpointID(t *testing.T, dir string) int {
	t.Helper()
	id, err := strconv.Atoi(strings.TrimPrefix(path.Base(dir), "chk-"))
	if err != nil {
		t.Fatalf("not a checkpoint's directory: %s", dir)
	}
	return id
}

// glob gives the paths that match below the place.
func (p place) glob(t *testing.T, pattern string) []string {
	t.Helper()
	if p.cluster == nil {
		found, err := filepath.Glob(path.Join(p.path, pattern))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	out, err := p.cluster.Run("fs", "-ls", "-d", "-C", path.Join(p.path, pattern))
	if err != nil {
		return nil // nothing matches
	}
	return strings.Fields(out)
}

// uriOf is the URI of a path on the place's file system.
func (p place) uriOf(name string) string { return place{p.cluster, name}.uri() }
