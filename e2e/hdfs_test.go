//go:build e2e

package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/e2e/lab/flinklab"
	"github.com/ckptferry/ckptferry/e2e/lab/hdfslab"
)

// Everything that is replicated to or from HDFS, on two clusters of separate processes. A case's source is gone before
// its restore: renamed away on its cluster, and at last the cluster is closed.
func TestReplicasOnHDFS(t *testing.T) {
	a := hdfslab.New(t, hdfslab.Options{Layout: hdfslab.Separate})
	b := hdfslab.New(t, hdfslab.Options{Layout: hdfslab.Separate, Datanodes: 2})

	t.Run("merged files, from a directory", func(t *testing.T) {
		s := newSite(t, "1.20.0")
		s.target = place{b, "/short"}
		fresh(t, "file merging").run(t, s)
	})
	t.Run("from a directory", func(t *testing.T) { runFreshJobs(t, place{path: t.TempDir()}, place{b, "/from-file"}) })
	t.Run("from HDFS", func(t *testing.T) { runFreshJobs(t, place{a, "/"}, place{b, "/from-hdfs"}) })
	t.Run("merged files that Flink keeps open", func(t *testing.T) {
		replicatesMergedFilesThatFlinkKeepsOpen(t, place{a, "/open"})
	})
	t.Run("damage", func(t *testing.T) {
		wholeMatrix(t)
		s := newSite(t, "1.20.0")
		s.target = place{b, "/damaged"}
		damageIsTold(t, s)
	})
	t.Run("killed in the middle, and the source cluster gone", func(t *testing.T) { // last: it takes nodes away
		replicatesThroughKills(t, a, b)
	})
}

// replicatesThroughKills: killed in the middle and run again, a datanode of the target killed in the middle, the source
// cluster gone, and real Flink starts from the replica, and once more from what it then wrote.
func replicatesThroughKills(t *testing.T, a, b *hdfslab.Cluster) {
	s := site{lab: buildLab(t, "1.20.0"), source: place{a, "/flink"}, target: place{b, "/flink"}}
	ledger, err := s.lab.Gen(t.Context(), flinklab.GenOptions{
		Dir: s.source.uri(), Target: 20000, Keys: 2000, Payload: 500, Checkpoints: 4, Interval: interval,
	})
	if err != nil {
		t.Fatal(err)
	}
	checkpoints, target := ledger.Checkpoints, s.replicas().uri()
	older, newest := checkpoints[len(checkpoints)-2].Path, checkpoints[len(checkpoints)-1].Path

	// kill -9 in the middle: nothing is visible as a replica, and the next run goes on.
	run := begin(t, "replicate", older, target, "--bwlimit", "256KiB/s", "--parallel", "1")
	awaitFile(t, b, "/flink/replicas/*/shared/*")
	run.end(t, syscall.SIGKILL)
	if out, err := b.Run("fs", "-ls", "/flink/replicas/*/chk-*/_metadata"); err == nil {
		t.Fatalf("visible after kill -9: %s", out)
	}
	replicate(t, older, target)

	// A datanode dies while the newest checkpoint is written to it. What was being written is written again.
	run = begin(t, "replicate", newest, target, "--bwlimit", "512KiB/s", "--parallel", "4", "-o", "json")
	awaitFile(t, b, "/flink/replicas/.ckptferry/tmp/*/*-*")
	if err := b.Kill("dn2"); err != nil {
		t.Fatal(err)
	}
	if code := run.wait(t); code != 0 {
		t.Fatalf("replicate with a datanode killed: exit code %d\n%s", code, run.printed.String())
	}
	if r := replicate(t, newest, target); r.BytesCopied != 0 || r.FilesSkipped != r.Files {
		t.Errorf("replicating again = %+v; want nothing copied", r)
	}
	output(t, "metadata", "verify", replicaOf(older, target))

	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	s.restoreTwice(t, flinklab.RestoreOptions{Path: replicaOf(newest, target), Mode: noClaim, Ledger: ledger})
}

// replicatesMergedFilesThatFlinkKeepsOpen: a task manager that merges files across checkpoints keeps them open, also
// when the job is cancelled; the namenode knows less of their length than Flink has synced. What _metadata refers to
// is read all the same, once while the files grow and once after their writer was killed.
func replicatesMergedFilesThatFlinkKeepsOpen(t *testing.T, source place) {
	for _, version := range []string{"1.20.0", "2.3.0"} {
		t.Run(version, func(t *testing.T) {
			if version != "2.3.0" {
				wholeMatrix(t)
			}
			s := site{lab: buildLab(t, version), source: source.below(version), target: place{path: t.TempDir()}}
			job := startJob(t, s, jobOptions{conf: acrossCps, interval: interval, retained: 1000})
			job.awaitCheckpoint(t, 4)
			older := job.newest(t)
			if s.source.openFiles(t, inspect(t, older).Files) == 0 {
				t.Fatal("no file is open: does this Flink close them?")
			}
			first := replicate(t, older, s.replicas().uri()).Replica
			job.awaitCheckpoint(t, checkpointID(t, older)+2) // the files grow
			newer := job.newest(t)
			job.kill(t)
			second := replicate(t, newer, s.replicas().uri()).Replica
			s.source.lose(t)
			output(t, "metadata", "verify", first)
			output(t, "metadata", "verify", second)
			s.restoreTwice(t, flinklab.RestoreOptions{Path: second, Mode: noClaim, Ledger: job.ledger(), Conf: s.target.conf(acrossCps)})
		})
	}
}

// Errors of a cluster have their own exit codes, within a bounded time.
func TestExitCodesOfHDFS(t *testing.T) {
	b := hdfslab.New(t, hdfslab.Options{})
	if code, out := exitOf(t, "metadata", "inspect", b.URI()+"/nope/chk-1"); code != 3 {
		t.Errorf("not there: exit code %d, %s", code, out)
	}
	if code, out := exitOf(t, "metadata", "inspect", "hdfs://unknown-nameservice/x/chk-1", "--hadoop-conf", b.ConfDir()); code == 0 || !strings.Contains(out, "unknown-nameservice") {
		t.Errorf("unknown nameservice: exit code %d, %s", code, out)
	}
	if out, err := b.Run("fs", "-mkdir", "-p", "/secret/chk-1"); err != nil {
		t.Fatal(out, err)
	}
	if out, err := b.Run("fs", "-chmod", "700", "/secret"); err != nil {
		t.Fatal(out, err)
	}
	if code, out := exitOf(t, "metadata", "inspect", b.URI()+"/secret/chk-1", "--hdfs-user", "bob"); code != 5 {
		t.Errorf("not allowed: exit code %d, %s", code, out)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if code, out := exitOf(t, "metadata", "inspect", b.URI()+"/nope/chk-1"); code != 4 {
		t.Errorf("cluster is gone: exit code %d, %s", code, out)
	}
}

// replicaOf is where the replica of a checkpoint of the base's form is.
func replicaOf(checkpoint, target string) string {
	elems := strings.Split(checkpoint, "/")
	return target + "/" + strings.Join(elems[len(elems)-2:], "/")
}

// awaitFile waits until something matches the glob.
func awaitFile(t *testing.T, c *hdfslab.Cluster, glob string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		if _, err := c.Run("fs", "-ls", "-d", glob); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing matches %s", glob)
		}
		time.Sleep(20 * time.Millisecond) // another process's doing is awaited
	}
}
