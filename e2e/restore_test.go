//go:build e2e

package e2e

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/e2e/lab/flinklab"
)

const (
	fixtures = "../flinkmeta/fixtures"
	noClaim  = "NO_CLAIM"
	claim    = "CLAIM"
	interval = 300 * time.Millisecond

	// asMount: written where Flink at the target knows the place by another name, which --as says.
	asMount = "by mount"
	// asPortable: written with relative paths and moved afterwards.
	asPortable = "portable"
)

// restoreCase is a checkpoint that a real Flink wrote, and how the same job starts from its replica.
type restoreCase struct {
	fixture string
	mode    string
	from    string            // the newest checkpoint when empty; else "canonical" or "native" savepoint
	ledger  string            // ledger.json when empty
	conf    map[string]string // the backend as the job had it; @DIR@ is a directory of the test
	args    []string          // further options of restore-check
	deliver string            // how the replica gets to where Flink reads it: written there when empty; else asMount or asPortable
	short   bool              // part of every run; the rest needs E2E_ALL=1
}

var (
	fileMerging = map[string]string{"execution.checkpointing.file-merging.enabled": "true"}
	acrossCps   = map[string]string{"execution.checkpointing.file-merging.enabled": "true", "execution.checkpointing.file-merging.across-checkpoint-boundary": "true"}
	unaligned   = map[string]string{"execution.checkpointing.unaligned": "true", "execution.checkpointing.unaligned.enabled": "true"}
	full        = map[string]string{"state.backend.incremental": "false", "execution.checkpointing.incremental": "false"}
	hashmap     = map[string]string{"state.backend": "hashmap", "state.backend.type": "hashmap"}
	heapTimers  = map[string]string{"state.backend.rocksdb.timer-service.factory": "HEAP"}
	changelog   = map[string]string{ // options that Flink 2.x has renamed under both names
		"state.backend.changelog.enabled": "true", "state.changelog.enabled": "true",
		"state.backend.changelog.storage": "filesystem", "state.changelog.storage": "filesystem",
		"dstl.dfs.base-path": "@DIR@/changelog", "state.changelog.dstl.dfs.base-path": "@DIR@/changelog",
		"state.backend.changelog.periodic-materialize.interval": "1s", "state.changelog.periodic-materialize.interval": "1s",
	}
)

// restoreCases: NO_CLAIM wherever Flink allows it, CLAIM where it demands it, and both for the plain case.
var restoreCases = []restoreCase{
	{fixture: "1.20.0-rocksdb-incremental", mode: noClaim, short: true},
	{fixture: "1.20.0-rocksdb-incremental", mode: claim, short: true},
	{fixture: "1.20.0-changelog-materialized", mode: claim, conf: changelog, short: true},
	{fixture: "1.20.0-filemerging-across", mode: noClaim, conf: acrossCps, short: true},
	{fixture: "1.20.0-savepoints", mode: noClaim, from: "native", short: true},
	{fixture: "2.3.0-rocksdb-incremental", mode: claim, short: true},

	{fixture: "1.20.0-claimed", mode: noClaim, ledger: "ledger-after-claim.json"},
	{fixture: "1.20.0-claimed", mode: claim, ledger: "ledger-after-claim.json"},
	{fixture: "1.20.0-filemerging", mode: noClaim, conf: fileMerging},
	{fixture: "1.20.0-filemerging", mode: claim, conf: fileMerging},
	{fixture: "1.20.0-filemerging-across", mode: claim, conf: acrossCps},
	{fixture: "1.20.0-changelog", mode: claim, conf: changelog},
	{fixture: "1.20.0-entropy", mode: noClaim},
	{fixture: "1.20.0-entropy", mode: claim},
	{fixture: "1.20.0-unaligned", mode: noClaim, conf: unaligned},
	{fixture: "1.20.0-unaligned", mode: claim, conf: unaligned},
	{fixture: "1.20.0-unaligned-filemerging", mode: noClaim, conf: merged(unaligned, fileMerging)},
	{fixture: "1.20.0-savepoints", mode: noClaim, from: "canonical"},
	{fixture: "1.20.0-savepoints", mode: claim, from: "canonical"},
	{fixture: "1.20.0-rocksdb-full", mode: noClaim, conf: full},
	{fixture: "1.20.0-rocksdb-full", mode: claim, conf: full},
	{fixture: "1.20.0-hashmap", mode: noClaim, conf: hashmap},
	{fixture: "1.20.0-heap-timers", mode: noClaim, conf: heapTimers},
	{fixture: "1.20.0-rocksdb-incr-threshold0", mode: noClaim, args: []string{"--memory-threshold", "0"}},
	{fixture: "1.20.0-rocksdb-incr-threshold0", mode: claim, args: []string{"--memory-threshold", "0"}},
	{fixture: "1.20.0-rocksdb-incr-inline", mode: noClaim, args: []string{"--memory-threshold", "1mb"}},
	{fixture: "1.20.0-finished", mode: noClaim},
	{fixture: "1.20.0-master-hook", mode: noClaim},
	{fixture: "1.20.0-rocksdb-incremental", mode: claim, deliver: asMount},
	{fixture: "1.20.0-rocksdb-incremental", mode: noClaim, deliver: asPortable},
	{fixture: "1.20.0-claimed", mode: noClaim, ledger: "ledger-after-claim.json", deliver: asPortable},
	{fixture: "2.3.0-rocksdb-incremental", mode: noClaim, deliver: asPortable},
	{fixture: "2.3.0-rocksdb-incremental", mode: noClaim},
	{fixture: "2.3.0-filemerging", mode: noClaim, conf: fileMerging},
	{fixture: "2.3.0-filemerging", mode: claim, conf: fileMerging},
	{fixture: "2.3.0-changelog-materialized", mode: claim, conf: changelog},
	{fixture: "2.3.0-savepoints", mode: noClaim, from: "canonical"},
	{fixture: "2.3.0-savepoints", mode: noClaim, from: "native"},
	{fixture: "2.3.0-unaligned", mode: noClaim, conf: unaligned},
	{fixture: "2.3.0-finished", mode: noClaim},
}

// Each case: replicate by the binary, take the source away, restore, compare all state, take two more checkpoints,
// restore again from the newer one. After a NO_CLAIM restore the replica is taken away as well: Flink must need it no more.
func TestRestoreFromReplica(t *testing.T) {
	for _, c := range restoreCases {
		t.Run(strings.Join(slices.DeleteFunc([]string{c.fixture, c.from, c.mode, c.deliver}, func(s string) bool { return s == "" }), " "), func(t *testing.T) {
			if !c.short {
				wholeMatrix(t)
			}
			ledger, err := flinklab.LedgerOf(filepath.Join(fixtures, c.fixture, cmp.Or(c.ledger, "ledger.json")))
			if err != nil {
				t.Fatal(err)
			}
			version, _, _ := strings.Cut(c.fixture, "-")
			s := newSite(t, version)
			s.copySource(t, filepath.Join(fixtures, c.fixture, "dc-a"))
			replica := s.deliver(t, c, "--map", "file:/dc-a="+s.source.path, "--map", "ent:/dc-a="+s.source.path)
			s.source.lose(t)
			s.restoreTwice(t, flinklab.RestoreOptions{Path: replica, Mode: c.mode, Ledger: ledger, Conf: s.target.conf(c.conf), Args: c.args})
		})
	}
}

// Why absolute paths are the default and restore-command refuses CLAIM for relative ones: the job starts, and the next
// checkpoint refers to files that are not there (Flink 1.20.0 and 2.3.0). It also shows that the second restore of the
// other tests can fail.
func TestAfterClaimOfRelativePathsTheNextCheckpointIsBroken(t *testing.T) {
	wholeMatrix(t)
	for _, fixture := range []string{"1.20.0-rocksdb-incremental", "2.3.0-rocksdb-incremental"} {
		t.Run(fixture, func(t *testing.T) {
			ledger, err := flinklab.LedgerOf(filepath.Join(fixtures, fixture, "ledger.json"))
			if err != nil {
				t.Fatal(err)
			}
			s := newSite(t, ledger.FlinkVersion)
			s.copySource(t, filepath.Join(fixtures, fixture, "dc-a"))
			replica := s.deliver(t, restoreCase{fixture: fixture, deliver: asPortable}, "--map", "file:/dc-a="+s.source.path)
			s.source.lose(t)
			o := s.restore("restored", flinklab.RestoreOptions{Path: replica, Mode: claim, Ledger: ledger})
			first, err := s.lab.RestoreCheck(t.Context(), o)
			if err != nil {
				t.Fatalf("first restore: %v", err)
			}
			o = s.restore("again", flinklab.RestoreOptions{Path: first.Ledger.Newest().Path, Mode: claim, Ledger: first.Ledger})
			if _, err = s.lab.RestoreCheck(t.Context(), o); !errors.Is(err, flinklab.ErrNotRestored) {
				t.Errorf("second restore = %v; want ErrNotRestored: has this Flink got FLINK-39964?", err)
			}
		})
	}
}

// What restore-command prints is run as it is by a shell on a cluster of separate JVMs.
func TestRestoreCommandStartsTheJobOnACluster(t *testing.T) {
	for _, c := range []struct {
		fixture, flink string
		short          bool
	}{
		{fixture: "1.20.0-rocksdb-incremental", flink: "1.20", short: true},
		{fixture: "2.3.0-rocksdb-incremental", flink: "2.3"},
	} {
		t.Run(c.fixture, func(t *testing.T) {
			if !c.short {
				wholeMatrix(t)
			}
			ledger, err := flinklab.LedgerOf(filepath.Join(fixtures, c.fixture, "ledger.json"))
			if err != nil {
				t.Fatal(err)
			}
			s := newSite(t, ledger.FlinkVersion)
			s.copySource(t, filepath.Join(fixtures, c.fixture, "dc-a"))
			r := replicate(t, restoreCase{fixture: c.fixture}.checkpoint(t, s.source.path), s.replicas().uri(), "--map", "file:/dc-a="+s.source.path)
			s.source.lose(t)
			line, _, _ := strings.Cut(output(t, "restore-command", r.Replica, "--flink", c.flink), "\n")
			if !strings.HasPrefix(line, "flink run -s ") {
				t.Fatalf("restore-command printed %q; want a flink run line first", line)
			}

			after := ledger
			after.Params.Target, after.Checkpoints = ledger.Params.Target+400, nil
			path := s.runOnCluster(t, line, ledger.JobArgs(after.Params.Target))
			s.replicas().lose(t)
			if _, err := s.lab.RestoreCheck(t.Context(), s.restore("again", flinklab.RestoreOptions{Path: path, Mode: noClaim, Ledger: after})); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// deliver replicates the case's checkpoint to the target, on the way its deliver says, and gives the replica's URI there.
func (s site) deliver(t *testing.T, c restoreCase, flags ...string) string {
	t.Helper()
	src, written := c.checkpoint(t, s.source.path), s.target.below("written")
	switch c.deliver {
	case "":
		written = s.replicas()
	case asMount:
		flags = append(flags, "--as", s.replicas().uri())
	case asPortable:
		flags = append(flags, "--paths", "relative")
	}
	replica := replicate(t, append([]string{src, written.uri()}, flags...)...).Replica
	if written == s.replicas() {
		return replica
	}
	if err := os.Rename(written.path, s.replicas().path); err != nil {
		t.Fatal(err)
	}
	return strings.Replace(replica, written.path, s.replicas().path, 1) // with --as it says so already
}

// checkpoint is the path of the case's checkpoint or savepoint in a copy of the fixture's dc-a.
func (c restoreCase) checkpoint(t *testing.T, source string) string {
	t.Helper()
	if c.from == "" {
		var dirs []string
		for _, base := range []string{"flink/checkpoints", "flink/entropy/checkpoints"} {
			found, err := filepath.Glob(filepath.Join(source, base, c.fixture, "*", "chk-*", "_metadata"))
			if err != nil {
				t.Fatal(err)
			}
			dirs = append(dirs, found...)
		}
		if len(dirs) == 0 {
			t.Fatalf("no checkpoint of %s below %s", c.fixture, source)
		}
		// ids of one digit
		return filepath.Dir(slices.MaxFunc(dirs, func(a, b string) int {
			return cmp.Compare(filepath.Base(filepath.Dir(a)), filepath.Base(filepath.Dir(b)))
		}))
	}
	dirs, err := filepath.Glob(filepath.Join(source, "flink/savepoints", c.fixture, "savepoint-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		expected, err := os.ReadFile(filepath.Join(fixtures, c.fixture, "expected", filepath.Base(dir)+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if (c.from == "canonical") == bytes.Contains(expected, []byte("KeyGroupsSavepointStateHandle")) {
			return dir
		}
	}
	t.Fatalf("no %s savepoint in %s", c.from, dirs)
	return ""
}

// runOnCluster runs the line in a shell, lets the job take two checkpoints, cancels it, and gives the newer one's URI.
func (s site) runOnCluster(t *testing.T, line string, jobArgs []string) string {
	t.Helper()
	cluster, err := s.lab.StartCluster(t.Context(), flinklab.ClusterOptions{Slots: 2, CheckpointDir: s.target.below("cluster").uri()})
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	line += " -d -c " + flinklab.ClusterJob + " " + s.lab.Jar() + " " + strings.Join(jobArgs, " ")
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Env = append(os.Environ(), "PATH="+cluster.BinDir()+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	job, err := flinklab.SubmittedJob(string(out))
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
	return path
}
