package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	fixtureJob = "1.20.0-rocksdb-incremental" // also the fixture's directory
	fixtureID  = "20103262d784ec59edc4d4ed73c86954"
)

// process is a running `ckptferry agent run`.
type process struct {
	cmd             *exec.Cmd
	api, peer, http string
	drained         chan struct{}

	mu  sync.Mutex
	log bytes.Buffer
}

// startAgent starts an agent as a process of its own, and returns when it listens.
func startAgent(t *testing.T, config string) *process {
	t.Helper()
	p := &process{drained: make(chan struct{})}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.Command(self)
	p.cmd.Args = []string{"ckptferry", "agent", "run", "--config", config} // by this name the test is the program (TestMain)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.drained
		_ = p.cmd.Wait()
		if t.Failed() {
			p.mu.Lock()
			defer p.mu.Unlock()
			t.Logf("log of %s:\n%s", filepath.Base(config), p.log.String())
		}
	})
	ready := make(chan struct{})
	go func() {
		defer close(p.drained)
		p.read(stderr, ready)
	}()
	select {
	case <-ready:
	case <-p.drained:
		t.Fatalf("agent %s ended before it was ready", config)
	case <-time.After(30 * time.Second):
		t.Fatalf("agent %s was not ready in 30 s", config)
	}
	return p
}

// read keeps the log, and closes ready at the line that names the addresses.
func (p *process) read(stderr io.Reader, ready chan struct{}) {
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		p.mu.Lock()
		p.log.WriteString(lines.Text() + "\n")
		p.mu.Unlock()
		var line struct{ Msg, API, Peer, HTTP string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "agent ready" && p.api == "" {
			p.api, p.peer, p.http = line.API, line.Peer, line.HTTP
			close(ready)
		}
	}
}

// end sends a signal and returns the exit code; -1 when the signal killed it.
func (p *process) end(t *testing.T, signal os.Signal) int {
	t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.drained:
	case <-time.After(30 * time.Second):
		t.Fatalf("agent did not end within 30 s of %v", signal)
	}
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

// ferry runs a command in this process.
func ferry(args ...string) (code int, stdout, stderr string) {
	var out, notes bytes.Buffer
	code = run(args, streams{in: strings.NewReader(""), out: &out, err: &notes})
	return code, out.String(), notes.String()
}

// mustFerry demands an exit code.
func mustFerry(t *testing.T, want int, args ...string) string {
	t.Helper()
	code, out, notes := ferry(args...)
	if code != want {
		t.Fatalf("ckptferry %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), code, want, out, notes)
	}
	return out + notes
}

// until waits for a condition, and says what was last seen when it doesn't come.
func until(t *testing.T, what string, holds func() (bool, string)) {
	t.Helper()
	deadline, again := time.After(time.Minute), time.NewTicker(20*time.Millisecond)
	defer again.Stop()
	for {
		ok, seen := holds()
		if ok {
			return
		}
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("waited a minute for: %s\nlast seen: %s", what, seen)
		}
	}
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// Two agents as processes: what real Flink wrote at the source becomes READY at the target, also across kill -9 of either.
func TestTwoAgentsReplicateAndSayHowFarTheyAre(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	flink, replicas := filepath.Join(dir, "flink"), filepath.Join(dir, "dc2", "replicas")
	if err := os.CopyFS(flink, os.DirFS("../../flinkmeta/fixtures/"+fixtureJob+"/dc-a")); err != nil {
		t.Fatal(err)
	}
	// The job's second checkpoint comes later.
	chk5 := filepath.Join(flink, "flink", "checkpoints", fixtureJob, fixtureID, "chk-5")
	if err := os.Rename(chk5, filepath.Join(dir, "chk-5")); err != nil {
		t.Fatal(err)
	}
	const form = `version: 1
node: {id: %[1]s-a, dc: %[1]s, data_dir: %[1]s-data}
listen: {api: "127.0.0.1:0", peer: "127.0.0.1:0", http: "127.0.0.1:0"}
stores: %[2]s
datacenters: %[3]s
limits: {poll: 50ms, silent_after: 3s}
log: {format: json}
`
	// Flink wrote the fixture below /dc-a, so that is what it is called; it lies elsewhere.
	sourceConfig := writeFile(t, filepath.Join(dir, "dc1.yaml"), fmt.Sprintf(form, "dc1", `{"file:/dc-a": {reach: "file:`+flink+`"}}`, "{}"))
	source := startAgent(t, sourceConfig)
	targetConfig := writeFile(t, filepath.Join(dir, "dc2.yaml"), fmt.Sprintf(form, "dc2", `{"file:`+filepath.Dir(replicas)+`": {}}`, "{dc1: {endpoints: ['"+source.peer+"']}}"))
	target := startAgent(t, targetConfig)

	routes := writeFile(t, filepath.Join(dir, "routes.yaml"), fmt.Sprintf(`exports:
  - {name: prod, bases: ["file:/dc-a/flink/checkpoints/{job}"], to: [dc2]}
routes:
  - {name: prod, from: {dc: dc1, export: prod}, root: "file:%s"}
`, replicas))
	for _, at := range []struct{ verb, endpoint string }{{"export", source.api}, {"route", target.api}} {
		until(t, "a leader for "+at.verb+" apply", func() (bool, string) {
			code, out, notes := ferry(at.verb, "apply", "-f", routes, "--endpoint", at.endpoint)
			if code != exitOK && code != exitUnreachable {
				t.Fatalf("%s apply: exit code %d\n%s%s", at.verb, code, out, notes)
			}
			return code == exitOK, notes
		})
		if out := mustFerry(t, 0, at.verb, "list", "--endpoint", at.endpoint); !strings.Contains(out, "prod") {
			t.Errorf("%s list: %s", at.verb, out)
		}
	}
	caughtUp := func(checkpoint int) {
		t.Helper()
		until(t, fmt.Sprintf("chk-%d READY and the job caught up", checkpoint), func() (bool, string) {
			_, out, notes := ferry("lag", "--endpoint", target.api, "-o", "json")
			return strings.Contains(out, "LAG_STATE_CAUGHT_UP") && strings.Contains(out, fmt.Sprintf(`"readyCheckpointId": "%d"`, checkpoint)), out + notes
		})
		mustFerry(t, 0, "metadata", "verify", filepath.Join(replicas, fixtureID, fmt.Sprintf("chk-%d", checkpoint)))
	}
	caughtUp(4)
	mustFerry(t, 0, "lag", fixtureJob, "--max", "1h", "--endpoint", target.api)
	mustFerry(t, 3, "lag", "nope", "--endpoint", target.api)
	if out := mustFerry(t, 0, "replica", "list", "--status", "ready", "--endpoint", target.api); !strings.Contains(out, "file:"+replicas+"/"+fixtureID+"/chk-4") {
		t.Errorf("replica list: %s", out)
	}
	if out := mustFerry(t, 0, "status", "--endpoint", target.api); !strings.Contains(out, "leader dc2-a") {
		t.Errorf("status: %s", out)
	}
	mustFerry(t, 0, "raft", "status", "--endpoint", "127.0.0.1:1,"+target.api)
	askAround(t, target, replicas)
	drillAround(t, target, replicas)

	// The same agent a second time, and another one on its data, are refused.
	mustFerry(t, 6, "agent", "run", "--config", targetConfig)
	text, err := os.ReadFile(targetConfig)
	if err != nil {
		t.Fatal(err)
	}
	taken := writeFile(t, filepath.Join(dir, "taken.yaml"), strings.Replace(string(text), "api: \"127.0.0.1:0\"", "api: \""+target.api+"\"", 1))
	if out := mustFerry(t, 6, "agent", "run", "--config", taken); !strings.Contains(out, "listen.api "+target.api+" is in use") {
		t.Errorf("an address that is taken: %s", out)
	}

	// Kill the target; what comes meanwhile is replicated when it is back.
	if code := target.end(t, syscall.SIGKILL); code != -1 {
		t.Fatalf("killed, and exit code %d", code)
	}
	mustFerry(t, 4, "lag", "--endpoint", target.api, "--timeout", "2s")
	foreign := writeFile(t, filepath.Join(dir, "foreign.yaml"), strings.Replace(string(text), "id: dc2-a", "id: dc2-b", 1))
	if out := mustFerry(t, 6, "agent", "run", "--config", foreign); !strings.Contains(out, "is of node dc2-a") {
		t.Errorf("another agent's data: %s", out)
	}
	if err := os.Rename(filepath.Join(dir, "chk-5"), chk5); err != nil {
		t.Fatal(err)
	}
	target = startAgent(t, targetConfig)
	caughtUp(5)

	// The source is gone: that is said, and no lag is called small.
	if code := source.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("the source stopped with exit code %d, want 0", code)
	}
	until(t, "the source is silent", func() (bool, string) {
		_, out, notes := ferry("lag", "--endpoint", target.api, "-o", "json")
		return strings.Contains(out, "LAG_STATE_SOURCE_SILENT"), out + notes
	})
	mustFerry(t, 8, "lag", "--max", "1ms", "--endpoint", target.api)
	if code := target.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("the target stopped with exit code %d, want 0", code)
	}
}

// What init writes runs, and asks for certificates.
func TestAnAgentOfInitAnswersWhoMayAsk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mustFerry(t, 0, "init", dir)
	config := filepath.Join(dir, "dc1-a", "agent.yaml")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	// Whatever port is free, so that nothing else on the machine is in the way.
	changed := strings.NewReplacer("127.0.0.1:7070", "127.0.0.1:0", "127.0.0.1:7071", "127.0.0.1:0", "format: text", "format: json").Replace(string(text))
	agent := startAgent(t, writeFile(t, config, changed))
	as := func(name string, args ...string) []string {
		return append(args, "--endpoint", agent.api, "--ca", filepath.Join(dir, "ca.crt"), "--cert", filepath.Join(dir, name+".crt"), "--key", filepath.Join(dir, name+".key"))
	}
	routes := filepath.Join(dir, "routes.yaml")
	until(t, "a leader", func() (bool, string) {
		code, out, notes := ferry(as("admin", "raft", "status")...)
		return code == exitOK, out + notes
	})
	if out := mustFerry(t, 0, as("admin", "export", "apply", "-f", routes, "--dry-run")...); !strings.Contains(out, "export prod: ") {
		t.Errorf("dry run: %s", out)
	}
	if out := mustFerry(t, 0, as("admin", "export", "list", "-o", "json")...); strings.Contains(out, "prod") {
		t.Errorf("a dry run changed something: %s", out)
	}
	mustFerry(t, 0, as("admin", "export", "apply", "-f", routes)...)
	if out := mustFerry(t, 0, as("admin", "export", "list", "-o", "json")...); !strings.Contains(out, `"name": "prod"`) {
		t.Errorf("export list: %s", out)
	}
	// An agent of another datacenter may pull; it is no reader of the API.
	mustFerry(t, 5, as("dc2-a/agent", "lag")...)
	if out := mustFerry(t, 4, "lag", "--endpoint", agent.api, "--timeout", "3s"); !strings.Contains(out, "give --cert, --key and --ca") {
		t.Errorf("without a certificate: %s", out)
	}
	mustFerry(t, 2, "lag", "--endpoint", agent.api, "--ca", "none", "--cert", "none", "--key", "none")
	if code := agent.end(t, syscall.SIGINT); code != 0 {
		t.Errorf("stopped with exit code %d, want 0", code)
	}
}
