//go:build e2e

package e2e

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/e2e/lab/flinklab"
)

// freshJob is a job that runs now, and the restores that Flink allows from what it leaves behind.
type freshJob struct {
	name     string
	conf     map[string]string // of the job and of those restored from it; @DIR@ is the datacenter's place
	gen      flinklab.GenOptions
	claimed  bool // it was itself restored with CLAIM: its checkpoint refers to files of two job directories
	restores []freshRestore
	// holds says whether the checkpoint is of the kind that the case is about; older is the one before it.
	holds func(newest, older inspected) bool
}

// freshRestore is one replica and the restores from it. Each has a replica root of its own: after a CLAIM the job's
// other replicas in the same root are not to be used.
type freshRestore struct {
	mode string
	from string // the newest checkpoint when empty; else CANONICAL or NATIVE savepoint
}

// both modes from the newest checkpoint
var both = []freshRestore{{mode: noClaim}, {mode: claim}}

var freshJobs = []freshJob{
	{name: "rocksdb incremental", restores: both, holds: func(newest, _ inspected) bool { return newest.anyFile(isShared) }},
	{name: "hashmap", conf: hashmap, restores: both, holds: func(newest, _ inspected) bool {
		return newest.anyHandle("ManagedKeyedState") && !newest.anyFile(isShared)
	}},
	{
		// stopped in mid-stream, so that there is log on top of what was materialized; Flink refuses NO_CLAIM
		name: "changelog", conf: changelog, restores: []freshRestore{{mode: claim}},
		gen: flinklab.GenOptions{Target: 10000, Checkpoints: 10, Args: []string{"--rate", "500", "--quiesce", "false"}},
		holds: func(newest, _ inspected) bool {
			return newest.anyHandle("ManagedKeyedState.materialized") && newest.anyHandle("ManagedKeyedState.nonMaterialized") && newest.anyFile(isOutside)
		},
	},
	{name: "file merging", conf: fileMerging, restores: both, holds: func(newest, older inspected) bool {
		return newest.anyFile(isSegmented) && !newest.grown(older)
	}},
	{name: "file merging across checkpoints", conf: acrossCps, restores: both, holds: inspected.grown},
	{
		// slow enough that its elements wait in buffers when it is stopped
		name: "unaligned", conf: unaligned, restores: both,
		gen:   flinklab.GenOptions{Target: 10000, Checkpoints: 4, Args: []string{"--rate", "0", "--slow-nanos", "2000000", "--quiesce", "false"}},
		holds: func(newest, _ inspected) bool { return newest.anyHandle("InputChannelState") },
	},
	{name: "claimed", claimed: true, restores: both, holds: func(newest, _ inspected) bool {
		return newest.anyFile(isOutside)
	}},
	{
		// not NATIVE with CLAIM: Flink's own next checkpoint is broken then (FLINK-39964)
		name: "savepoints", gen: flinklab.GenOptions{SavepointFormat: "CANONICAL,NATIVE"},
		restores: []freshRestore{{mode: noClaim, from: "NATIVE"}, {mode: noClaim, from: "CANONICAL"}, {mode: claim, from: "CANONICAL"}},
		holds:    func(newest, _ inspected) bool { return newest.Kind == "savepoint" },
	},
}

// run lets the job run at the source, replicates what it left there, takes the source away, and restores from each
// replica, twice.
func (j freshJob) run(t *testing.T, s site) {
	ledger := j.leave(t, s)
	replicas := make([]string, len(j.restores))
	for i, r := range j.restores {
		path := ledger.Newest().Path
		if r.from != "" {
			path = ledger.Savepoints[r.from]
		}
		older := inspected{}
		if n := len(ledger.Checkpoints); n > 1 {
			older = inspect(t, ledger.Checkpoints[n-2].Path)
		}
		if !j.holds(inspect(t, path), older) {
			t.Fatalf("%s is not what the case %q is about: %+v", path, j.name, inspect(t, path))
		}
		replicas[i] = replicate(t, path, r.at(s).replicas().uri()).Replica
	}
	s.source.lose(t)
	for i, r := range j.restores {
		t.Run(strings.TrimSpace(r.from+" "+r.mode), func(t *testing.T) {
			at := r.at(s)
			at.restoreTwice(t, flinklab.RestoreOptions{Path: replicas[i], Mode: r.mode, Ledger: ledger, Conf: at.target.conf(j.conf)})
		})
	}
}

// at is the site with a part of the target for this restore alone.
func (r freshRestore) at(s site) site {
	s.target = s.target.below(r.from + r.mode)
	return s
}

// leave runs the job at the source until it is cancelled, and gives the ledger of what stays there.
func (j freshJob) leave(t *testing.T, s site) flinklab.Ledger {
	t.Helper()
	o := j.gen
	o.Dir, o.Keys, o.Payload, o.Interval, o.Conf = s.source.below("checkpoints").uri(), 300, 200, interval, s.source.conf(j.conf)
	o.Target, o.Checkpoints = cmp.Or(o.Target, 5000), cmp.Or(o.Checkpoints, 4)
	if o.SavepointFormat != "" {
		o.SavepointDir = s.source.below("savepoints").uri()
	}
	ledger, err := s.lab.Gen(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if j.claimed {
		claimed, err := s.lab.RestoreCheck(t.Context(), flinklab.RestoreOptions{
			Path: ledger.Newest().Path, Mode: claim, Dir: o.Dir, Ledger: ledger, More: 20, Checkpoints: 2, Interval: interval, Conf: o.Conf,
		})
		if err != nil {
			t.Fatal(err)
		}
		ledger = claimed.Ledger
	}
	return ledger
}

// openFiles is how many of the files HDFS says to be open for writing.
func (p place) openFiles(t *testing.T, files []inspectedFile) int {
	t.Helper()
	out, err := p.cluster.Run("dfsadmin", "-listOpenFiles")
	if err != nil {
		t.Fatal(err)
	}
	open := 0
	for _, f := range files {
		if strings.Contains(out, p.pathOf(f.URI)) {
			open++
		}
	}
	return open
}

// runFreshJobs runs all of them on both Flinks, each with two places of its own.
func runFreshJobs(t *testing.T, source, target place) {
	wholeMatrix(t)
	for _, version := range []string{"1.20.0", "2.3.0"} {
		for _, j := range freshJobs {
			t.Run(version+" "+j.name, func(t *testing.T) {
				own := strings.ReplaceAll(version+"-"+j.name, " ", "-")
				j.run(t, site{lab: buildLab(t, version), source: source.below(own), target: target.below(own)})
			})
		}
	}
}

// fresh is one of freshJobs, with its first restore alone.
func fresh(t *testing.T, name string) freshJob {
	t.Helper()
	i := slices.IndexFunc(freshJobs, func(j freshJob) bool { return j.name == name })
	if i < 0 {
		t.Fatalf("no job %q", name)
	}
	j := freshJobs[i]
	j.restores = j.restores[:1]
	return j
}

// inspected is what `metadata inspect -o json` says.
type inspected struct {
	Kind    string          `json:"kind"`
	Files   []inspectedFile `json:"files"`
	Handles []struct {
		Where string `json:"where"`
		URI   string `json:"uri"`
		Size  int64  `json:"size"`
	} `json:"handles"`
}

type inspectedFile struct {
	URI       string `json:"uri"`
	NeedBytes int64  `json:"need_bytes"`
	Role      string `json:"role"`
	Segment   bool   `json:"segment"`
	Outside   bool   `json:"outside"`
}

func isShared(f inspectedFile) bool    { return f.Role == "shared" }
func isOutside(f inspectedFile) bool   { return f.Outside }
func isSegmented(f inspectedFile) bool { return f.Segment }

func inspect(t *testing.T, path string) inspected {
	t.Helper()
	var i inspected
	if err := json.Unmarshal([]byte(output(t, "metadata", "inspect", path, "-o", "json")), &i); err != nil {
		t.Fatalf("metadata inspect %s: %v", path, err)
	}
	return i
}

func (i inspected) anyFile(is func(inspectedFile) bool) bool { return slices.ContainsFunc(i.Files, is) }

// anyHandle says whether some state that is not empty lies there.
func (i inspected) anyHandle(where string) bool {
	for _, h := range i.Handles {
		if strings.HasPrefix(h.Where, where) && h.Size > 0 {
			return true
		}
	}
	return false
}

// grown says whether a file that the older checkpoint has needs more bytes now.
func (i inspected) grown(older inspected) bool {
	need := map[string]int64{}
	for _, f := range older.Files {
		need[f.URI] = f.NeedBytes
	}
	return i.anyFile(func(f inspectedFile) bool { return f.Segment && need[f.URI] > 0 && f.NeedBytes > need[f.URI] })
}

func merged(all ...map[string]string) map[string]string {
	m := map[string]string{}
	for _, one := range all {
		maps.Copy(m, one)
	}
	return m
}
