package flinklab

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
)

// Ledger is what a run of the job did. The job's whole state is a function of Params, so a ledger is enough to check a
// restore. Fixtures carry theirs as ledger.json.
type Ledger struct {
	FlinkVersion string            `json:"flinkVersion"`
	JobID        string            `json:"jobId"`
	JobDir       string            `json:"jobDir"` // URI
	Params       Params            `json:"params"`
	Checkpoints  []Checkpoint      `json:"checkpoints"`          // retained at the end, oldest first
	Savepoints   map[string]string `json:"savepoints,omitempty"` // by format, URI
	// MadeWith are the harness's options, in a fixture's ledger only.
	MadeWith string `json:"madeWith,omitempty"`
}

// Params is what the job's state is a function of.
type Params struct {
	Keys        int   `json:"keys"`
	Payload     int   `json:"payload"` // bytes a key
	Parallelism int   `json:"parallelism"`
	Target      int64 `json:"target"` // elements in all
	Finite      bool  `json:"finite"`
	Extras      bool  `json:"extras"`
	MasterHook  bool  `json:"masterHook"`
}

// Checkpoint is a completed one.
type Checkpoint struct {
	ID      int64   `json:"id"`
	Path    string  `json:"path"`    // URI of chk-N as Flink names it
	Offsets []int64 `json:"offsets"` // next index of each source subtask
	Emitted int64   `json:"emitted"` // their sum
}

// LedgerOf reads a ledger.json: a fixture's, or one that the harness wrote.
func LedgerOf(file string) (Ledger, error) {
	var l Ledger
	b, err := os.ReadFile(file)
	if err != nil {
		return l, err
	}
	if err := json.Unmarshal(b, &l); err != nil {
		return l, fmt.Errorf("read ledger %s: %w", file, err)
	}
	if l.Params.Keys == 0 || l.Params.Target == 0 {
		return l, fmt.Errorf("read ledger %s: it names no keys or no target", file)
	}
	return l, nil
}

// Newest is the newest checkpoint; the zero value when there is none.
func (l Ledger) Newest() Checkpoint {
	if len(l.Checkpoints) == 0 {
		return Checkpoint{}
	}
	return l.Checkpoints[len(l.Checkpoints)-1]
}

// JobArgs is the command line of ClusterJob that goes on with this ledger's job until target.
func (l Ledger) JobArgs(target int64) []string {
	p := l.Params
	return []string{
		"--target", strconv.FormatInt(target, 10), "--keys", strconv.Itoa(p.Keys), "--payload", strconv.Itoa(p.Payload),
		"--parallelism", strconv.Itoa(p.Parallelism), "--finite", strconv.FormatBool(p.Finite),
		"--extras", strconv.FormatBool(p.Extras), "--master-hook", strconv.FormatBool(p.MasterHook),
	}
}

func (l Ledger) write(dir string) (string, error) {
	b, err := json.Marshal(l)
	if err != nil {
		return "", err
	}
	name, err := tempName(dir, "ledger-*.json")
	if err != nil {
		return "", err
	}
	return name, os.WriteFile(name, b, 0o644)
}

// tempName makes an empty file with a name of its own.
func tempName(dir, pattern string) (string, error) {
	f, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return "", err
	}
	return f.Name(), f.Close()
}
