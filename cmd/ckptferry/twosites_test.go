package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// twoSites are agents of two datacenters as processes, with what Flink writes in each. dc2 has caught up with chk-4 of the
// fixture's job in dc1; each knows the other.
type twoSites struct {
	dir            string
	dc1, dc2       []*process
	config         map[string][]string // of each datacenter's agents, files
	flink1, flink2 string              // what is reached as file:/dc-a there
	replicas       string              // dc2's root
	routes         string              // what was applied
}

// newTwoSites starts one agent in dc1 and that many in dc2.
func newTwoSites(t *testing.T, targets int) twoSites {
	t.Helper()
	dir := t.TempDir()
	s := twoSites{dir: dir, flink1: filepath.Join(dir, "flink1"), flink2: filepath.Join(dir, "flink2"), replicas: filepath.Join(dir, "dc2", "replicas"), config: map[string][]string{}}
	if err := os.CopyFS(s.flink1, os.DirFS("../../flinkmeta/fixtures/"+fixtureJob+"/dc-a")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(s.flink1, "flink", "checkpoints", fixtureJob, fixtureID, "chk-5")); err != nil {
		t.Fatal(err)
	}
	peers, voters := map[string][]string{}, map[string][]string{}
	for dc, n := range map[string]int{"dc1": 1, "dc2": targets} {
		for i := range n {
			peers[dc], voters[dc] = append(peers[dc], lonelyAddr(t)), append(voters[dc], fmt.Sprintf("%s-%c=%s", dc, 'a'+i, lonelyAddr(t)))
		}
	}
	for dc, other := range map[string]string{"dc1": "dc2", "dc2": "dc1"} {
		for i, peer := range peers[dc] {
			raft := ""
			if len(voters[dc]) > 1 {
				raft = "raft: {peers: [" + strings.Join(voters[dc], ", ") + "]}\n"
			}
			id, _, _ := strings.Cut(voters[dc][i], "=")
			s.config[dc] = append(s.config[dc], writeFile(t, filepath.Join(dir, id+".yaml"), fmt.Sprintf(`version: 1
node: {id: %[1]s, dc: %[2]s, data_dir: %[1]s-data}
listen: {api: "%[3]s", peer: "%[4]s", http: "127.0.0.1:0"}
stores: {"file:/dc-a": {reach: "file:%[5]s"}, "file:%[6]s": {}}
datacenters: {%[7]s: {endpoints: ["%[8]s"]}}
limits: {poll: 50ms, silent_after: 3s}
log: {format: json}
%[9]s`, id, dc, lonelyAddr(t), peer, map[string]string{"dc1": s.flink1, "dc2": s.flink2}[dc], filepath.Join(dir, dc), other, strings.Join(peers[other], `", "`), raft)))
		}
	}
	s.dc1, s.dc2 = []*process{startAgent(t, s.config["dc1"][0])}, make([]*process, targets)
	for i := range s.dc2 {
		s.dc2[i] = startAgent(t, s.config["dc2"][i])
	}
	s.routes = fmt.Sprintf(`exports:
  - {name: prod, bases: ["file:/dc-a/flink/checkpoints/{job}"], to: [dc2]}
routes:
  - {name: prod, from: {dc: dc1, export: prod}, root: "file:%s", keep: 2}
`, s.replicas)
	file := writeFile(t, filepath.Join(dir, "prod.yaml"), s.routes)
	for what, at := range map[string][]*process{"export": s.dc1, "route": s.dc2} {
		until(t, what+" apply", func() (bool, string) {
			code, out, notes := ferry(what, "apply", "-f", file, "--endpoint", endpointsOf(at))
			return code == exitOK, out + notes
		})
	}
	until(t, "dc2 has caught up", func() (bool, string) {
		_, out, notes := ferry("lag", "--endpoint", endpointsOf(s.dc2))
		return strings.Contains(out, "CAUGHT_UP"), out + notes
	})
	return s
}

// lonelyAddr is an address for an agent that is named before the agent runs, and when it is started again: on an address of
// the loopback network that nobody calls from, so that the port stays free meanwhile.
func lonelyAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.9.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // nobody connected
	return l.Addr().String()
}

func endpointsOf(agents []*process) string {
	var all []string
	for _, p := range agents {
		all = append(all, p.api)
	}
	return strings.Join(all, ",")
}

// kill ends agents as a power cut does.
func (s *twoSites) kill(t *testing.T, agents ...*process) {
	t.Helper()
	for _, p := range agents {
		p.end(t, syscall.SIGKILL)
	}
}
