package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/ckptferry/ckptferry/raftstore"
)

// loadPlan is what a node of the group of three is told, on its standard input.
type loadPlan struct {
	ID      string           `json:"id"`
	Dir     string           `json:"dir"`
	Peers   []raftstore.Peer `json:"peers"`
	Jobs    int              `json:"jobs"`
	LoadFor time.Duration    `json:"load_for"`
}

// loadFigures is what the node that led prints.
type loadFigures struct {
	Checkpoints   int     `json:"checkpoints"` // under load
	Entries       uint64  `json:"entries"`
	Share         float64 `json:"share"` // of a core
	Seconds       float64 `json:"seconds"`
	Late          float64 `json:"late_seconds"` // the load ended that much after its time
	SnapshotBytes int     `json:"snapshot_bytes"`
	Replicas      int     `json:"replicas"`
	Known         int     `json:"known"`
	LagsMS        float64 `json:"lags_ms"`
	CallMS        float64 `json:"call_ms"`
	CallBytes     int     `json:"call_bytes"`
	RestartMS     float64 `json:"restart_ms"`
	LogBytes      int64   `json:"log_bytes"`
}

const loadJobs = 10_000

// measureJobs lets a group of three, each a process, go through what 10,000 jobs bring.
func measureJobs(ctx context.Context, b *bench) error {
	root := filepath.Join(b.dir, "agents-jobs")
	defer os.RemoveAll(root)
	addrs, err := freePorts(3)
	if err != nil {
		return err
	}
	plan := loadPlan{Jobs: loadJobs, LoadFor: b.loadFor}
	for i, id := range []string{"a", "b", "c"} {
		plan.Peers = append(plan.Peers, raftstore.Peer{ID: id, Addr: addrs[i]})
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer, len(plan.Peers))
	var nodes []*groupNode
	defer func() {
		for _, n := range nodes {
			n.stop()
		}
	}()
	for _, peer := range plan.Peers {
		plan.ID, plan.Dir = peer.ID, filepath.Join(root, peer.ID)
		n, err := startGroupNode(ctx, plan, answers)
		if err != nil {
			return err
		}
		nodes = append(nodes, n)
	}
	b.logf("%d jobs: filling the state, then %s of load", plan.Jobs, plan.LoadFor)
	select {
	case a := <-answers:
		if a.err != nil {
			return a.err
		}
		b.addLoad(a.figures, plan)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(plan.LoadFor + 4*time.Minute):
		return fmt.Errorf("the group of three: %w", errLate)
	}
}

func (b *bench) addLoad(f loadFigures, plan loadPlan) {
	note := fmt.Sprintf("raftstore alone, three processes on loopback and one disk, no bytes are moved: %.0f s, in each second the next %d jobs of %d complete a checkpoint and become "+
		"known in one command, then for each one eight workers propose PlanReplica, StartCopy and MarkReady, and for the oldest replica RetireReplica and ForgetReplica, which agents don't do yet. "+
		"State: %d known checkpoints, %d replicas. The load ended %.1f s after its time",
		f.Seconds, perSecond(plan.Jobs), plan.Jobs, f.Known, f.Replicas, f.Late)
	jobs := fmt.Sprintf("%d jobs × 1 checkpoint a minute: ", plan.Jobs)
	for _, r := range []row{
		{What: "log entries a checkpoint", Value: float64(f.Entries) / float64(f.Checkpoints), Unit: "entries", Most: 10, Note: note},
		{What: "leader's share of a core", Value: 100 * f.Share, Unit: "%", Most: 30, Note: "user and system time of the leader's process, the load's own work included"},
		{What: "snapshot", Value: float64(f.SnapshotBytes) / float64(mib), Unit: "MiB", Most: 64, Note: "the size of the state encoded as a snapshot has it"},
		{What: "lag of all jobs, computed", Value: f.LagsMS, Unit: "ms", Most: 200, Note: "agent.Lags on the view; median of 5"},
		{What: "lag of all jobs, asked over the API", Value: f.CallMS, Unit: "ms", Most: 200, Note: fmt.Sprintf("GetReplicaLag over loopback, %d bytes; client and server in one process; median of 5", f.CallBytes)},
		{What: "restart", Value: f.RestartMS / 1000, Unit: "s", Most: 5, Note: fmt.Sprintf("from Open until the node that led holds again all that was applied; its directory has %d MiB", f.LogBytes/mib)},
	} {
		r.Section, r.What, r.Low, r.High, r.Runs = "agents", jobs+r.What, r.Value, r.Value, 1
		b.add(r)
	}
}

// answer is what came of one node.
type answer struct {
	figures loadFigures
	err     error
}

// groupNode is a node as a process.
type groupNode struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	exited chan struct{}
}

func startGroupNode(ctx context.Context, plan loadPlan, answers chan<- answer) (*groupNode, error) {
	cmd, stdin, stdout, err := another(ctx, groupNodeFlag)
	if err != nil {
		return nil, err
	}
	n := &groupNode{cmd: cmd, stdin: stdin, exited: make(chan struct{})}
	go func() {
		defer close(n.exited)
		var a answer
		if err := json.NewDecoder(stdout).Decode(&a.figures); err != nil {
			a.err = fmt.Errorf("node %s of the group ended before it had figures: %w", plan.ID, err)
		}
		answers <- a
		_ = cmd.Wait() // it was heard
	}()
	if err := json.NewEncoder(stdin).Encode(plan); err != nil {
		n.stop()
		return nil, err
	}
	return n, nil
}

func (n *groupNode) stop() {
	_ = n.stdin.Close()
	select {
	case <-n.exited:
	case <-time.After(15 * time.Second):
		_ = n.cmd.Process.Kill()
		<-n.exited
	}
}

// runGroupNode is this program as a node: it makes the load if it leads.
func runGroupNode(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in := json.NewDecoder(os.Stdin)
	var plan loadPlan
	if err := in.Decode(&plan); err != nil {
		return fmt.Errorf("read what to do: %w", err)
	}
	go func() {
		_ = in.Decode(&struct{}{}) // ends when the parent closes it
		cancel()
	}()
	l := &load{plan: plan}
	if err := l.lead(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	store, err := l.restart(ctx)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(l.figures); err != nil {
		return errors.Join(err, store.Close())
	}
	<-ctx.Done()
	return store.Close()
}

func (p loadPlan) config() raftstore.Config {
	return raftstore.Config{Group: "bench", ID: p.ID, Dir: p.Dir, Peers: p.Peers}
}
