package demo

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/devcert"
	"github.com/ckptferry/ckptferry/rpc"
)

// The two datacenters.
const (
	source = "dc-a"
	target = "dc-b"
)

// site is both datacenters on this machine: a directory with the configurations, certificates, logs and storage, and the
// agents' processes.
type site struct {
	dir    string
	agents []*agent // the source's, then the target's
}

// agent is one agent and its process.
type agent struct {
	ID, DC, Other     string
	API, Peer, raft   string
	Voters, Endpoints []string // of its group (none: it is alone); of the others' peer listeners
	Stores            string

	config, log string // files
	cmd         *exec.Cmd
	ended       chan struct{} // closed when the process has ended
}

// agentConfig is one agent's configuration (an agent). `ckptferry init` writes one with all the comments.
var agentConfig = template.Must(template.New("agent.yaml").Parse(`# Agent {{.ID}} of ckptferry demo. What else there is: ckptferry init
version: 1
node: {id: {{.ID}}, dc: {{.DC}}, data_dir: data}
listen: {api: "{{.API}}", peer: "{{.Peer}}"}
{{- if .Voters}}
raft: {peers: [{{range $i, $v := .Voters}}{{if $i}}, {{end}}"{{$v}}"{{end}}]}
{{- end}}
datacenters:
  {{.Other}}: {endpoints: [{{range $i, $e := .Endpoints}}{{if $i}}, {{end}}"{{$e}}"{{end}}]}
tls: {cert_file: agent.crt, key_file: agent.key, ca_file: ../ca.crt}
stores:
  {{.Stores}}
limits: {poll: 200ms, silent_after: 3s}   # quick, for a demo: 5s and 30s where nothing is said
`))

// layOut writes all that agents need to start below dir, n of them in each datacenter.
func layOut(dir string, n int, now time.Time) (*site, error) {
	ports, err := freePorts(6 * n)
	if err != nil {
		return nil, err
	}
	s := &site{dir: dir}
	voters, endpoints := map[string][]string{}, map[string][]string{}
	for d, dc := range []string{source, target} {
		for i := range n {
			a := &agent{ID: fmt.Sprintf("%c%d", 'a'+d, i+1), DC: dc, Other: []string{target, source}[d], API: ports[0], Peer: ports[1], raft: ports[2]}
			ports = ports[3:]
			voters[dc] = append(voters[dc], a.ID+"="+a.raft)
			endpoints[dc] = append(endpoints[dc], a.Peer)
			s.agents = append(s.agents, a)
		}
	}
	ca, err := devcert.NewCA(now)
	if err != nil {
		return nil, err
	}
	admin, err := ca.Client("admin", "admin")
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{"ca.crt": ca.Cert, "admin.crt": admin.Cert, "admin.key": admin.Key}
	for _, a := range s.agents {
		if n > 1 {
			a.Voters = voters[a.DC]
		}
		a.Endpoints = endpoints[a.Other]
		if a.Stores = fmt.Sprintf("%q: {}", fileURI(s.storage(target))); a.DC == source {
			a.Stores = fmt.Sprintf("%q: {reach: %q}   # Flink wrote the checkpoints below %[1]s, and names them so", "file:"+writtenBelow, fileURI(s.storage(source)))
		}
		a.config, a.log = filepath.Join(dir, a.ID, "agent.yaml"), filepath.Join(dir, "logs", a.ID+".log")
		pair, err := ca.Agent(a.DC, a.ID)
		if err != nil {
			return nil, err
		}
		var config strings.Builder
		if err := agentConfig.Execute(&config, a); err != nil {
			return nil, err
		}
		for name, body := range map[string][]byte{"agent.yaml": []byte(config.String()), "agent.crt": pair.Cert, "agent.key": pair.Key} {
			files[filepath.Join(a.ID, name)] = body
		}
	}
	for name, body := range files {
		if err := writeFile(filepath.Join(dir, name), body); err != nil {
			return nil, err
		}
	}
	for _, d := range []string{s.storage(source), s.storage(target), filepath.Join(dir, "logs")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// writeFile writes for its owner alone: keys are among them.
func writeFile(name string, body []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, body, 0o600)
}

func fileURI(dir string) string { return "file:" + filepath.ToSlash(dir) }

// storage is where a datacenter keeps its checkpoints.
func (s *site) storage(dc string) string { return filepath.Join(s.dir, "storage", dc) }

// tls is who the demo is for the agents.
func (s *site) tls() *rpc.TLS {
	return &rpc.TLS{CertFile: filepath.Join(s.dir, "admin.crt"), KeyFile: filepath.Join(s.dir, "admin.key"), CAFile: filepath.Join(s.dir, "ca.crt")}
}

// of lists a datacenter's agents.
func (s *site) of(dc string) []*agent {
	return slices.DeleteFunc(slices.Clone(s.agents), func(a *agent) bool { return a.DC != dc })
}

// stop ends all agents, and returns when they have ended. Nothing of theirs is to be kept, so nobody has to wait for
// an orderly end.
func (s *site) stop() {
	for _, a := range s.agents {
		a.kill()
	}
}

// start starts the agent as a process of its own, of this same program. It ends by itself when this process does,
// however that ends: it watches a pipe that only this process holds the other end of. That works on every system, and
// unlike Linux's parent-death signal it doesn't depend on which of our threads started it.
func (a *agent) start() error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start agent %s: %w", a.ID, err)
	}
	log, err := os.OpenFile(a.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("start agent %s: %w", a.ID, err)
	}
	defer func() { _ = log.Close() }() // the process has its own
	cmd := exec.Command(program)
	cmd.Args = append([]string{"ckptferry"}, a.args()...)
	cmd.Args = append(cmd.Args, "--until-stdin-ends")
	cmd.Stdout, cmd.Stderr = log, log
	if _, err = cmd.StdinPipe(); err == nil { // Wait closes it
		err = cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("start agent %s: %w", a.ID, err)
	}
	ended := make(chan struct{})
	a.cmd, a.ended = cmd, ended
	go func() {
		_ = cmd.Wait() // how it ended is in its log, or it was killed
		close(ended)
	}()
	return nil
}

// args are those of the agent's command, as a person would type them.
func (a *agent) args() []string { return []string{"agent", "run", "--config", a.config} }

// kill is kill -9, and returns when the process has ended. One that has ended already stays so.
func (a *agent) kill() {
	if a.cmd == nil {
		return
	}
	_ = a.cmd.Process.Kill()
	<-a.ended
}

// running says whether the process runs.
func (a *agent) running() bool {
	if a.cmd == nil {
		return false
	}
	select {
	case <-a.ended:
		return false
	default:
		return true
	}
}

func (a *agent) pid() int { return a.cmd.Process.Pid }

// freePorts finds n free ports of the loopback. They lie below the range that systems take ports for outgoing
// connections from, so that none is taken between this look and the agents' own.
func freePorts(n int) ([]string, error) {
	const from, to = 20000, 32000
	var ports []string
	var held []net.Listener
	defer func() {
		for _, l := range held {
			_ = l.Close() // nobody connected
		}
	}()
	for range 50 * n {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", from+rand.IntN(to-from)))
		if err != nil {
			continue // taken
		}
		held = append(held, l)
		if ports = append(ports, l.Addr().String()); len(ports) == n {
			return ports, nil
		}
	}
	return nil, errors.New("find free ports between 20000 and 32000 on 127.0.0.1: nearly all are taken, end what holds them")
}
