package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/rpc"
)

// agentPair is two datacenters of one agent each, every agent a process of the built binary: dc1 exports the jobs below
// source, dc2 makes replicas below replicas.
type agentPair struct {
	source   string // path; below it job names, and JobID directories in these
	replicas string // path
	from, to *agentProcess
}

// pairOptions are what differs between measurements.
type pairOptions struct {
	name  string
	poll  time.Duration
	files int                               // of one checkpoint at a time; 0: the agent's default
	via   func(peer string) (string, error) // what the target dials instead of the source's peer address; nil: that itself
}

// agentProcess is one `ckptferry agent run`.
type agentProcess struct {
	id     string
	cmd    *exec.Cmd
	stderr bytes.Buffer
	exited chan struct{} // closed when the process has ended
	api    *rpc.Client
}

// startPair starts both agents, and applies the export and the route.
func (b *bench) startPair(ctx context.Context, o pairOptions) (p *agentPair, err error) {
	root := filepath.Join(b.dir, o.name)
	p = &agentPair{source: filepath.Join(root, "source"), replicas: filepath.Join(root, "replicas")}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	for _, dir := range []string{p.source, p.replicas} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	ports, err := freePorts(4)
	if err != nil {
		return nil, err
	}
	peer := ports[1]
	if o.via != nil {
		if peer, err = o.via(peer); err != nil {
			return nil, err
		}
	}
	if p.from, err = b.startAgent(ctx, o, agentPlaces{id: "a", dc: "dc1", root: root, api: ports[0], peer: ports[1], other: "dc2", endpoint: ports[3]}); err != nil {
		return nil, err
	}
	if p.to, err = b.startAgent(ctx, o, agentPlaces{id: "b", dc: "dc2", root: root, api: ports[2], peer: ports[3], other: "dc1", endpoint: peer}); err != nil {
		return nil, err
	}
	if err := p.from.apply(ctx, &ckptferryv1.ApplyRoutesRequest{Exports: []*ckptferryv1.Export{
		{Name: "bench", Bases: []string{"file:" + p.source + "/{job}"}, To: []string{"dc2"}}}}); err != nil {
		return nil, err
	}
	return p, p.to.apply(ctx, &ckptferryv1.ApplyRoutesRequest{Routes: []*ckptferryv1.Route{
		{Name: "bench", FromDatacenter: "dc1", FromExport: "bench", Root: "file:" + p.replicas, Mode: ckptferryv1.RouteMode_ROUTE_MODE_CONTINUOUS}}})
}

type agentPlaces struct {
	id, dc, root, api, peer, other, endpoint string
}

func (b *bench) startAgent(ctx context.Context, o pairOptions, at agentPlaces) (*agentProcess, error) {
	var config strings.Builder
	fmt.Fprintf(&config, "version: 1\nnode: {id: %s, dc: %s, data_dir: data-%s}\nlisten: {api: %q, peer: %q}\n", at.id, at.dc, at.id, at.api, at.peer)
	fmt.Fprintf(&config, "datacenters: {%s: {endpoints: [%q]}}\nstores: {%q: {}}\n", at.other, at.endpoint, "file:"+at.root)
	fmt.Fprintf(&config, "limits: {poll: %s", o.poll)
	if o.files > 0 {
		fmt.Fprintf(&config, ", files: %d", o.files)
	}
	config.WriteString("}\nlog: {level: warn}\n")
	file := filepath.Join(at.root, at.id+".yaml")
	if err := os.WriteFile(file, []byte(config.String()), 0o644); err != nil {
		return nil, err
	}
	api, err := rpc.DialAPI(ctx, at.api, nil)
	if err != nil {
		return nil, err
	}
	a := &agentProcess{id: at.id, api: api, exited: make(chan struct{}), cmd: exec.CommandContext(ctx, b.binary, "agent", "run", "--config", file)}
	a.cmd.Stderr = &a.stderr
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := a.cmd.Start(); err != nil {
		return nil, errors.Join(err, api.Close())
	}
	go func() {
		_ = a.cmd.Wait() // how it ended is told by its log
		close(a.exited)
	}()
	return a, nil
}

// died is an error when the process has ended.
func (a *agentProcess) died() error {
	select {
	case <-a.exited:
		return fmt.Errorf("agent %s ended: %s\n%s", a.id, a.cmd.ProcessState, a.stderr.Bytes())
	default:
		return nil
	}
}

// apply waits until the agent leads its group, and sets exports or routes.
func (a *agentProcess) apply(ctx context.Context, req *ckptferryv1.ApplyRoutesRequest) error {
	return eventually(ctx, 20*time.Second, 50*time.Millisecond, func() (bool, error) {
		_, err := a.api.ApplyRoutes(ctx, req)
		if errors.Is(err, rpc.ErrUnavailable) || errors.Is(err, rpc.ErrNotLeader) {
			return false, a.died()
		}
		return err == nil, err
	})
}

// errLate says that something did not happen in time.
var errLate = errors.New("it did not happen in time")

// eventually asks again and again until the answer is yes or an error.
func eventually(ctx context.Context, within, every time.Duration, ask func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if yes, err := ask(); yes || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: after %s: %w", errLate, within, ctx.Err())
		}
	}
}

// stop ends the process in order.
func (a *agentProcess) stop() error {
	if a == nil {
		return nil
	}
	err := a.api.Close()
	if died := a.died(); died != nil {
		return errors.Join(err, died)
	}
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-a.exited:
	case <-time.After(15 * time.Second):
		_ = a.cmd.Process.Kill()
		<-a.exited
	}
	return err
}

// close stops both agents, the target first, and removes everything.
func (p *agentPair) close() error {
	return errors.Join(p.to.stop(), p.from.stop(), os.RemoveAll(filepath.Dir(p.source)))
}

// readyEvery is how often the target is asked for a replica.
const readyEvery = 5 * time.Millisecond

// pull completes a checkpoint, whose state is written, of a job and says how long it took until its replica was READY:
// from the rename of _metadata into place until the replica's _metadata is there and the target's API says READY.
func (p *agentPair) pull(ctx context.Context, job string, c checkpoint) (time.Duration, error) {
	root := filepath.Join(p.source, job)
	complete, unfinished := c.metadataFile(root), filepath.Join(root, "_metadata.unfinished")
	if err := os.WriteFile(unfinished, c.metadata(), 0o644); err != nil {
		return 0, err
	}
	replica := filepath.Join(p.replicas, c.jobID(), fmt.Sprintf("chk-%d", c.number), "_metadata")
	req := &ckptferryv1.ListReplicasRequest{Job: job, Statuses: []ckptferryv1.ReplicaStatus{ckptferryv1.ReplicaStatus_REPLICA_STATUS_READY}, PageSize: 1}
	var took time.Duration
	began := time.Now()
	if err := os.Rename(unfinished, complete); err != nil {
		return 0, err
	}
	err := eventually(ctx, 2*time.Minute, readyEvery, func() (bool, error) {
		if _, err := os.Stat(replica); err != nil {
			return false, p.to.died()
		}
		answer, err := p.to.api.Replicas(ctx, req)
		if errors.Is(err, rpc.ErrNotFound) {
			return false, nil
		}
		if err != nil || len(answer.GetReplicas()) == 0 || answer.GetReplicas()[0].GetKey().GetCheckpointId() != c.number {
			return false, errors.Join(err, p.to.died())
		}
		took = time.Since(began)
		if r := answer.GetReplicas()[0]; r.GetFileCount() != int64(len(c.files)) {
			return false, fmt.Errorf("replica %s has %d files; want %d", r.GetUri(), r.GetFileCount(), len(c.files))
		}
		return true, nil
	})
	if err != nil {
		return 0, fmt.Errorf("wait for the replica of checkpoint %d of %s: %w\n%s%s", c.number, job, err, p.from.stderr.Bytes(), p.to.stderr.Bytes())
	}
	return took, nil
}

// linked makes the state of a checkpoint, which lies below data, that of a new job: hard links of the same files.
func (p *agentPair) linked(c checkpoint, data, job, id string) (checkpoint, error) {
	from := filepath.Join(data, c.jobID())
	c.base, c.id = "file:"+filepath.Join(p.source, job), id
	to := filepath.Join(p.source, job, id)
	for _, dir := range []string{"shared", "taskowned", fmt.Sprintf("chk-%d", c.number)} {
		if err := os.MkdirAll(filepath.Join(to, dir), 0o755); err != nil {
			return c, err
		}
	}
	for _, f := range c.files {
		if err := os.Link(filepath.Join(from, f.name), filepath.Join(to, f.name)); err != nil {
			return c, err
		}
	}
	return c, nil
}

// remove takes a job away on both sides.
func (p *agentPair) remove(job string, c checkpoint) error {
	err := errors.Join(os.RemoveAll(filepath.Join(p.source, job)), os.RemoveAll(filepath.Join(p.replicas, c.jobID())))
	syscall.Sync()
	return err
}

// side is the pair as one who copies a checkpoint that lies below data: each round it is that of a new job.
func (p *agentPair) side(name string, c checkpoint, data string) side {
	return side{name: name, run: func(ctx context.Context, n int) (time.Duration, error) {
		job := fmt.Sprintf("round%d-%d-%d", n+2, len(c.files), c.bytes())
		next, err := p.linked(c, data, job, fmt.Sprintf("%016x%016x", time.Now().UnixNano(), n+2))
		if err != nil {
			return 0, err
		}
		if err := prepare(data, c.bytes()); err != nil {
			return 0, err
		}
		took, err := p.pull(ctx, job, next)
		return took, errors.Join(err, p.remove(job, next))
	}}
}

// prepare has the source in the page cache, and nothing dirty from before.
func prepare(data string, bytes int64) error {
	if err := readAll(data); err != nil {
		return err
	}
	syscall.Sync()
	return backMemory(bytes + gib/2)
}

// peakMemory is the largest resident set that the process had.
func (a *agentProcess) peakMemory() (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kilobytes, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kilobytes << 10, err
		}
	}
	return 0, fmt.Errorf("the kernel doesn't say how much memory agent %s had", a.id)
}

// freePorts are addresses on loopback that nobody listens on.
func freePorts(n int) ([]string, error) {
	var addrs []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}
