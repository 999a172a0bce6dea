package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// freeAddr is an address for an agent that another one's configuration names before it runs.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // nobody connected
	return l.Addr().String()
}

// copyCheckpoint puts the job's chk-5, with the shared files that it needs, where a Flink would complete it now.
func copyCheckpoint(t *testing.T, flink string) {
	t.Helper()
	if err := os.CopyFS(flink, os.DirFS("../../flinkmeta/fixtures/"+fixtureJob+"/dc-a")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(flink, "flink", "checkpoints", fixtureJob, fixtureID, "chk-4")); err != nil {
		t.Fatal(err)
	}
}

// The day it is needed, and the way back: the source is killed, its job is promoted from the target alone, the source learns
// it when it returns, and takes the job back over a route the other way.
func TestFailoverFencingAndFailback(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	flink1, flink2 := filepath.Join(dir, "flink1"), filepath.Join(dir, "flink2")
	if err := os.CopyFS(flink1, os.DirFS("../../flinkmeta/fixtures/"+fixtureJob+"/dc-a")); err != nil {
		t.Fatal(err)
	}
	late := filepath.Join(flink1, "flink", "checkpoints", fixtureJob, fixtureID, "chk-5")
	if err := os.Rename(late, filepath.Join(dir, "chk-5")); err != nil {
		t.Fatal(err)
	}
	peers := map[string]string{"dc1": freeAddr(t), "dc2": freeAddr(t)}
	config := func(dc, other, flink string) string {
		return writeFile(t, filepath.Join(dir, dc+".yaml"), fmt.Sprintf(`version: 1
node: {id: %[1]s-a, dc: %[1]s, data_dir: %[1]s-data}
listen: {api: "127.0.0.1:0", peer: "%[2]s", http: "127.0.0.1:0"}
stores: {"file:/dc-a": {reach: "file:%[3]s"}, "file:%[4]s": {}}
datacenters: {%[5]s: {endpoints: ["%[6]s"]}}
limits: {poll: 50ms, silent_after: 3s}
log: {format: json}
`, dc, peers[dc], flink, filepath.Join(dir, dc), other, peers[other]))
	}
	config1, config2 := config("dc1", "dc2", flink1), config("dc2", "dc1", flink2)
	dc1, dc2 := startAgent(t, config1), startAgent(t, config2)
	routes := func(name, export, target string) string {
		return writeFile(t, filepath.Join(dir, name+".yaml"), fmt.Sprintf(`exports:
  - {name: %[1]s, bases: ["file:/dc-a/flink/checkpoints/{job}"], to: [%[3]s]}
routes:
  - {name: %[1]s, from: {dc: %[2]s, export: %[1]s}, root: "file:%[4]s"}
`, name, export, target, filepath.Join(dir, target, "replicas")))
	}
	apply := func(what, file, endpoint string) {
		t.Helper()
		until(t, what+" apply", func() (bool, string) {
			code, out, notes := ferry(what, "apply", "-f", file, "--endpoint", endpoint)
			return code == exitOK, out + notes
		})
	}
	sees := func(want string, args ...string) {
		t.Helper()
		until(t, want, func() (bool, string) {
			_, out, notes := ferry(args...)
			return strings.Contains(out, want), out + notes
		})
	}
	there := routes("prod", "dc1", "dc2")
	apply("export", there, dc1.api)
	apply("route", there, dc2.api)
	sees("CAUGHT_UP", "lag", "--endpoint", dc2.api)

	// dc1 is lost.
	dc1.end(t, syscall.SIGKILL)
	if out := mustFerry(t, 0, "failover", "plan", "--endpoint", dc2.api); !strings.Contains(out, "chk-4") || !strings.Contains(out, "1 can be promoted") {
		t.Errorf("plan: %s", out)
	}
	mustFerry(t, 3, "failover", "plan", "typo*", "--endpoint", dc2.api)
	_, plan, _ := ferry("failover", "plan", "-o", "json", "--endpoint", dc2.api)
	file := writeFile(t, filepath.Join(dir, "plan.json"), plan)
	changed := writeFile(t, filepath.Join(dir, "changed.json"), strings.Replace(plan, "chk-4", "chk-9", 1))
	if out := mustFerry(t, 6, "failover", "run", changed, "--endpoint", dc2.api); !strings.Contains(out, "it was changed since") {
		t.Errorf("a changed plan: %s", out)
	}
	elsewhere := writeFile(t, filepath.Join(dir, "elsewhere.json"), strings.Replace(strings.Replace(plan, `"datacenter": "dc2"`, `"datacenter": "dc9"`, 1), `"datacenter":"dc2"`, `"datacenter":"dc9"`, 1))
	if out := mustFerry(t, 6, "failover", "run", elsewhere, "--endpoint", dc2.api); !strings.Contains(out, "this plan was made by dc9, this is dc2") {
		t.Errorf("a plan of another datacenter: %s", out)
	}
	if out := mustFerry(t, 0, "failover", "run", file, "--dry-run", "--deep", "--endpoint", dc2.api); !strings.Contains(out, "WOULD") {
		t.Errorf("dry run: %s", out)
	}
	if _, script, _ := ferry("failover", "plan", "-o", "script", "--endpoint", dc2.api); !strings.Contains(script, "NOT STARTED: not promoted: run the plan first") {
		t.Errorf("the script before the run: %s", script)
	}
	mustFerry(t, 3, "failover", "status", fixtureJob, "--endpoint", dc2.api)
	for _, want := range []string{"PROMOTED", "DONE"} {
		if out := mustFerry(t, 0, "failover", "run", file, "--reason", "dc1 burns", "--endpoint", dc2.api); !strings.Contains(out, want) {
			t.Errorf("run: %s; want %s", out, want)
		}
	}
	if out := mustFerry(t, 0, "failover", "status", "--endpoint", dc2.api); !strings.Contains(out, "ACTIVE") || !strings.Contains(out, "not yet") {
		t.Errorf("status: %s", out)
	}
	if out := mustFerry(t, 0, "audit", "--endpoint", dc2.api); !strings.Contains(out, "dc1 burns") {
		t.Errorf("audit: %s", out)
	}
	mustFerry(t, 0, "lag", "--max", "1ms", "--endpoint", dc2.api) // what goes on here is not late
	startByScript(t, dir, dc2.api)

	// dc1 returns, and its old job still runs.
	dc1 = startAgent(t, config1)
	sees("FENCED: job "+fixtureJob+" was promoted in dc2", "status", "--endpoint", dc1.api)
	until(t, "the fence is acknowledged", func() (bool, string) {
		_, out, _ := ferry("failover", "status", "--endpoint", dc2.api)
		return !strings.Contains(out, "not yet"), out
	})
	if err := os.Rename(filepath.Join(dir, "chk-5"), late); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if err := os.Chtimes(filepath.Join(late, "_metadata"), now, now); err != nil {
		t.Fatal(err)
	}
	sees("DANGER: job "+fixtureJob+" still runs here", "status", "--endpoint", dc1.api)

	// The way back: first there is none, then nothing has come over it, then it has.
	if out := mustFerry(t, 3, "failback", "plan", "--route", "back", "--endpoint", dc1.api); !strings.Contains(out, "from: {dc: dc2, export: back}") {
		t.Errorf("failback without a route: %s", out)
	}
	back := routes("back", "dc2", "dc1")
	apply("export", back, dc2.api)
	apply("route", back, dc1.api)
	copyCheckpoint(t, flink2)
	mustFerry(t, 0, "failback", "plan", "--route", "back", "--wait", "30s", "--endpoint", dc1.api)
	_, plan, _ = ferry("failback", "plan", "--route", "back", "-o", "json", "--endpoint", dc1.api)
	if out := mustFerry(t, 0, "failback", "run", writeFile(t, filepath.Join(dir, "back.json"), plan), "--endpoint", dc1.api); !strings.Contains(out, "chk-5") {
		t.Errorf("failback: %s", out)
	}
	sees("FAILED_BACK", "failover", "status", "--all", "--endpoint", dc2.api)
	sees("FENCED: job "+fixtureJob+" was promoted in dc1", "status", "--endpoint", dc2.api)
	if _, out, _ := ferry("status", "--endpoint", dc1.api); strings.Contains(out, "FENCED") {
		t.Errorf("dc1 is fenced still: %s", out)
	}
	// It was a mistake after all.
	mustFerry(t, 3, "failover", "abort", "typo*", "--endpoint", dc1.api)
	if out := mustFerry(t, 0, "failover", "abort", fixtureJob, "--reason", "a mistake", "--endpoint", dc1.api); !strings.Contains(out, "ABORTED") {
		t.Errorf("abort: %s", out)
	}
	until(t, "dc2 is fenced no more", func() (bool, string) {
		_, out, _ := ferry("status", "--endpoint", dc2.api)
		return !strings.Contains(out, "FENCED"), out
	})
}

// startByScript runs the script of a plan, which prints what it would start.
func startByScript(t *testing.T, dir, endpoint string) {
	t.Helper()
	code, script, notes := ferry("failover", "plan", "-o", "script", "--endpoint", endpoint)
	if code != exitOK {
		t.Fatalf("plan -o script: %d %s", code, notes)
	}
	if err := os.MkdirAll(filepath.Join(dir, "jobs"), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "jobs", fixtureJob+".args"), "orders.jar --parallel 2\n")
	writeFile(t, filepath.Join(dir, "start.sh"), script)
	cmd := exec.Command("sh", "./start.sh")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "DRY_RUN=1")
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), "/chk-4 -claimMode NO_CLAIM orders.jar --parallel 2") {
		t.Errorf("the script printed %q, %v\n%s", out, err, script)
	}
}
