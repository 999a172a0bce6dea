//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/e2e/lab/hdfslab"
)

// agentProcess is one `ckptferry agent run`, which may be killed and started again.
type agentProcess struct {
	id              string
	config, log     string // files
	api, peer, raft string // addresses; raft only in a group of several

	cmd  *exec.Cmd
	gone chan struct{} // closed when the process has been waited for
}

// start starts it; the process dies with the test, also when that is killed.
func (a *agentProcess) start(t *testing.T) {
	t.Helper()
	bin, err := ckptferry()
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.OpenFile(a.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }() // the process has its own descriptor
	a.cmd, a.gone = exec.Command(bin, "agent", "run", "--config", a.config), make(chan struct{})
	a.cmd.Stdout, a.cmd.Stderr = log, log
	// A group of its own: an interrupt at the terminal reaches the test alone.
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func(cmd *exec.Cmd, gone chan struct{}) {
		defer close(gone)
		_ = cmd.Wait() // how it ended is asked of its state
	}(a.cmd, a.gone)
}

// kill ends it as a power cut does. Idempotent.
func (a *agentProcess) kill() {
	if a.cmd == nil {
		return
	}
	_ = a.cmd.Process.Kill() // it may be gone already
	<-a.gone
}

// stop ends it in order, and gives the exit code.
func (a *agentProcess) stop(t *testing.T) int {
	t.Helper()
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("stop agent %s: %v", a.id, err)
	}
	select {
	case <-a.gone:
	case <-time.After(15 * time.Second):
		t.Errorf("agent %s did not end within 15 s of SIGTERM", a.id)
		a.kill()
	}
	return a.cmd.ProcessState.ExitCode()
}

// alive says whether it runs.
func (a *agentProcess) alive() bool {
	select {
	case <-a.gone:
		return false
	default:
		return true
	}
}

// group is the agents of one datacenter, and who may ask them.
type group struct {
	dc     string
	agents []*agentProcess
	tls    tlsFiles
}

// tlsFiles are a client's; none of them: plaintext.
type tlsFiles struct{ ca, cert, key string }

// endpoints are the addresses that people ask.
func (g group) endpoints() string {
	var all []string
	for _, a := range g.agents {
		all = append(all, a.api)
	}
	return strings.Join(all, ",")
}

// peers are the addresses that the other datacenter's agents ask.
func (g group) peers() []string {
	var all []string
	for _, a := range g.agents {
		all = append(all, a.peer)
	}
	return all
}

// ask runs a command of the binary that asks the first agent of the group that answers, and gives its stdout.
func (g group) ask(ctx context.Context, args ...string) ([]byte, error) {
	return askAt(ctx, g.endpoints(), g.tls, args...)
}

func askAt(ctx context.Context, endpoints string, tls tlsFiles, args ...string) ([]byte, error) {
	bin, err := ckptferry()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	args = append(slices.Clone(args), "--endpoint", endpoints)
	if tls != (tlsFiles{}) {
		args = append(args, "--ca", tls.ca, "--cert", tls.cert, "--key", tls.key)
	}
	cmd := exec.CommandContext(ctx, bin, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("ckptferry %s: %w\n%s%s", strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.Bytes(), nil
}

// leader waits until the living agents of the group say who leads, and it is one of them.
func (g group) leader(t *testing.T) *agentProcess {
	t.Helper()
	var leads *agentProcess
	await(t, "a leader of "+g.dc, func() error {
		var errs []error
		for _, a := range g.agents {
			if !a.alive() {
				continue
			}
			out, err := askAt(t.Context(), a.api, g.tls, "status", "-o", "json", "--timeout", "2s")
			var status struct{ Agent, Leader string }
			if err == nil {
				err = json.Unmarshal(out, &status)
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			i := slices.IndexFunc(g.agents, func(a *agentProcess) bool { return a.id == status.Leader })
			if i >= 0 && g.agents[i].alive() {
				leads = g.agents[i]
				return nil
			}
			errs = append(errs, fmt.Errorf("%s says that %q leads", a.id, status.Leader))
		}
		return errors.Join(errs...)
	})
	return leads
}

// follower is one that does not lead.
func (g group) follower(t *testing.T) *agentProcess {
	t.Helper()
	leads := g.leader(t)
	return g.agents[slices.IndexFunc(g.agents, func(a *agentProcess) bool { return a != leads })]
}

func (g group) start(t *testing.T) {
	t.Helper()
	for _, a := range g.agents {
		a.start(t)
	}
}

func (g group) kill() {
	for _, a := range g.agents {
		a.kill()
	}
}

// cleanup kills the agents at the test's end, and shows their logs when it failed.
func (g group) cleanup(t *testing.T) {
	t.Cleanup(func() {
		g.kill()
		if !t.Failed() {
			return
		}
		for _, a := range g.agents {
			log, err := os.ReadFile(a.log)
			if err != nil {
				t.Error(err)
			}
			t.Logf("log of %s, its end:\n%s", a.id, lastPart(log, 16<<10))
		}
	})
}

func lastPart(b []byte, most int) []byte {
	if len(b) <= most {
		return b
	}
	b = b[len(b)-most:]
	return b[bytes.IndexByte(b, '\n')+1:]
}

// patience bounds every wait for something that processes do.
const patience = 45 * time.Second

// await asks again and again until there is no error; the last one is said when that takes too long.
func await(t *testing.T, what string, ask func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := ask()
		switch {
		case err == nil:
			return
		case t.Failed():
			t.FailNow() // the checker has said why
		case time.Now().After(deadline):
			t.Fatalf("waited %s for %s: %v", patience, what, err)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-time.After(50 * time.Millisecond): // other processes' doing is awaited
		}
	}
}

// twoDatacenters are six agents with the certificates that `ckptferry init` makes, each datacenter with a place of its
// own. Between them is link: the target knows only its addresses.
type twoDatacenters struct {
	dir            string
	source, target group
	link           *link
}

// newTwoDatacenters writes all configurations. Nothing runs yet but the link.
func newTwoDatacenters(t *testing.T, s site) twoDatacenters {
	t.Helper()
	d := twoDatacenters{dir: filepath.Join(t.TempDir(), "agents")}
	output(t, "init", d.dir, "--agents", "3")
	admin := tlsFiles{filepath.Join(d.dir, "ca.crt"), filepath.Join(d.dir, "admin.crt"), filepath.Join(d.dir, "admin.key")}
	ports, err := hdfslab.FreePorts(18)
	if err != nil {
		t.Fatal(err)
	}
	addr := func() string {
		port := ports[0]
		ports = ports[1:]
		return net.JoinHostPort("127.0.0.1", fmt.Sprint(port))
	}
	for _, g := range []*group{&d.source, &d.target} {
		g.dc, g.tls = map[*group]string{&d.source: "dc1", &d.target: "dc2"}[g], admin
		for _, letter := range "abc" {
			id := fmt.Sprintf("%s-%c", g.dc, letter)
			g.agents = append(g.agents, &agentProcess{
				id: id, config: filepath.Join(d.dir, id, "agent.yaml"), log: filepath.Join(d.dir, id+".log"), api: addr(), peer: addr(), raft: addr(),
			})
		}
	}
	d.link = newLink(t, d.source.peers())
	d.source.configure(t, s.source, fmt.Sprintf("{dc2: {endpoints: [%s]}}", quoted(d.target.peers())))
	d.target.configure(t, s.target, fmt.Sprintf("{dc1: {endpoints: [%s]}}", quoted(d.link.addresses)))
	d.source.cleanup(t)
	d.target.cleanup(t)
	return d
}

// configure writes the agents' files over those of init, which has the certificates beside them.
func (g group) configure(t *testing.T, at place, others string) {
	t.Helper()
	var voters []string
	for _, a := range g.agents {
		voters = append(voters, a.id+"="+a.raft)
	}
	for _, a := range g.agents {
		text := fmt.Sprintf(`version: 1
node: {id: %s, dc: %s, data_dir: data}
listen: {api: %q, peer: %q}
raft: {peers: [%s]}
datacenters: %s
tls: {cert_file: agent.crt, key_file: agent.key, ca_file: ../ca.crt}
stores: {%q: {}}
limits: {poll: 200ms, silent_after: %s}
`, a.id, g.dc, a.api, a.peer, quoted(voters), others, place{at.cluster, "/"}.uri(), silentAfter)
		if err := os.WriteFile(a.config, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		output(t, "config", "validate", a.config)
	}
}

// quoted are the items of a YAML list.
func quoted(items []string) string {
	var all []string
	for _, item := range items {
		all = append(all, fmt.Sprintf("%q", item))
	}
	return strings.Join(all, ", ")
}

// silentAfter: no fault of the short test lasts as long.
const silentAfter = 8 * time.Second

// apply says what is exported and pulled: of each job its checkpoints, to s.replicas().
func (d twoDatacenters) apply(t *testing.T, s site) {
	t.Helper()
	file := filepath.Join(d.dir, "two.yaml")
	text := fmt.Sprintf(`exports:
  - {name: prod, bases: [%q], to: [dc2]}
routes:
  - {name: prod, from: {dc: dc1, export: prod}, root: %q}
`, place{s.source.cluster, "/flink/{job}/checkpoints"}.uri(), s.replicas().uri())
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for verb, at := range map[string]group{"export": d.source, "route": d.target} {
		await(t, verb+" apply", func() error {
			_, err := at.ask(t.Context(), verb, "apply", "-f", file)
			return err
		})
	}
}
