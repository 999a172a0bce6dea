package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// jobManager is a Flink that runs the fixture's job until it is cancelled.
type jobManager struct {
	mu    sync.Mutex
	state string
	last  string // its last checkpoint
}

func (j *jobManager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	j.mu.Lock()
	defer j.mu.Unlock()
	answers := map[string]string{
		"GET /jobs/overview":                             fmt.Sprintf(`{"jobs":[{"jid":%q,"name":"fixture","state":%q}]}`, fixtureID, j.state),
		"GET /jobs/" + fixtureID + "/checkpoints/config": `{"externalization":{"enabled":true,"delete_on_cancellation":false}}`,
		"GET /jobs/" + fixtureID + "/checkpoints":        fmt.Sprintf(`{"latest":{"completed":{"id":5,"external_path":%q,"discarded":false}}}`, j.last),
		"PATCH /jobs/" + fixtureID + "?mode=cancel":      `{}`,
	}
	what := r.Method + " " + r.URL.RequestURI()
	if r.Method == http.MethodPatch {
		j.state = "CANCELED"
	}
	if answers[what] == "" {
		w.WriteHeader(http.StatusNotFound)
	}
	_, _ = io.WriteString(w, answers[what])
}

// Two agents as processes and a JobManager: a job that real Flink wrote checkpoints of is moved, and the hook is told from
// where to start it.
func TestAJobIsMovedAndItsHookIsTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	flink, replicas := filepath.Join(dir, "flink"), filepath.Join(dir, "dc2", "replicas")
	if err := os.CopyFS(flink, os.DirFS("../../flinkmeta/fixtures/"+fixtureJob+"/dc-a")); err != nil {
		t.Fatal(err)
	}
	jm := &jobManager{state: "RUNNING", last: "file:/dc-a/flink/checkpoints/" + fixtureJob + "/" + fixtureID + "/chk-5"}
	server := httptest.NewServer(jm)
	t.Cleanup(server.Close)
	told := filepath.Join(dir, "told")
	hook := writeFile(t, filepath.Join(dir, "hook"), "#!/bin/sh\nenv | grep ^CKPTFERRY_ | sort > '"+told+"'\n")
	if err := os.Chmod(hook, 0o700); err != nil {
		t.Fatal(err)
	}
	const form = `version: 1
node: {id: %[1]s-a, dc: %[1]s, data_dir: %[1]s-data}
listen: {api: "127.0.0.1:0", peer: "127.0.0.1:0"}
stores: %[2]s
datacenters: %[3]s
limits: {poll: 50ms, silent_after: 3s}
log: {format: json}
migrate: {hooks: {flink: [%[4]q]}}
`
	source := startAgent(t, writeFile(t, filepath.Join(dir, "dc1.yaml"), fmt.Sprintf(form, "dc1", `{"file:/dc-a": {reach: "file:`+flink+`"}}`, "{}", hook)))
	target := startAgent(t, writeFile(t, filepath.Join(dir, "dc2.yaml"), fmt.Sprintf(form, "dc2", `{"file:`+filepath.Dir(replicas)+`": {}}`, "{dc1: {endpoints: ['"+source.peer+"']}}", hook)))
	routes := writeFile(t, filepath.Join(dir, "routes.yaml"), fmt.Sprintf(`exports:
  - {name: prod, bases: ["file:/dc-a/flink/checkpoints/{job}"], to: [dc2]}
routes:
  - {name: prod, from: {dc: dc1, export: prod}, root: "file:%s", mode: on_demand}
`, replicas))
	for _, at := range []struct{ verb, endpoint string }{{"export", source.api}, {"route", target.api}} {
		until(t, at.verb+" apply", func() (bool, string) {
			code, _, notes := ferry(at.verb, "apply", "-f", routes, "--endpoint", at.endpoint)
			return code == exitOK, notes
		})
	}
	asked := []string{"--endpoint", target.api, "--stop", "cancel", "--jobmanager", server.URL, "--hook", "flink"}
	until(t, "a job that can be moved", func() (bool, string) {
		code, out, notes := ferry(append([]string{"migrate", "plan"}, asked...)...)
		return code == exitOK && strings.Contains(out, "at least 3.5s until Flink is sure of the last checkpoint"), out + notes
	})
	mustFerry(t, exitRefused, append([]string{"migrate", "plan", "nobody"}, asked...)...)
	mustFerry(t, exitUsage, "migrate", "plan", "--endpoint", target.api, "--stop", "hard")
	mustFerry(t, exitUsage, append([]string{"migrate", "run", "spring", "--endpoint", target.api, "--stop", "cancel", "--jobmanager", server.URL}, "--hook", "rm -rf")...)
	mustFerry(t, exitNotFound, "migrate", "status", "spring", "--endpoint", target.api)

	code, out, notes := ferry(append([]string{"migrate", "run", "spring"}, asked...)...)
	if code != exitOK || !strings.Contains(out, "STARTED") || !strings.Contains(notes, ", predicted to be away for") {
		t.Fatalf("migrate run: exit code %d\n%s%s", code, out, notes)
	}
	chk := "file:" + replicas + "/" + fixtureID + "/chk-5"
	env, err := os.ReadFile(told)
	if err != nil {
		t.Fatal(err)
	}
	want := "CKPTFERRY_CLAIM_MODE=NO_CLAIM\nCKPTFERRY_JOB=" + fixtureJob + "\nCKPTFERRY_MIGRATION=spring\nCKPTFERRY_REPLICA=" + chk +
		"\nCKPTFERRY_ROUTE=prod\nCKPTFERRY_START_LINE=flink run -s " + chk + " -claimMode NO_CLAIM\n"
	if diff := cmp.Diff(want, string(env)); diff != "" {
		t.Errorf("the hook's environment (-want +got):\n%s", diff)
	}
	mustFerry(t, 0, "metadata", "verify", chk)
	mustFerry(t, 0, append([]string{"migrate", "run", "spring"}, asked...)...) // once more is the same
	var report struct {
		Migration struct{ State string }
		Jobs      []struct{ State, Replica, StartLine string }
	}
	if err := json.Unmarshal([]byte(mustFerry(t, 0, "migrate", "report", "spring", "-o", "json", "--endpoint", target.api)), &report); err != nil {
		t.Fatal(err)
	}
	if report.Migration.State != "MIGRATION_STATE_DONE" || len(report.Jobs) != 1 || report.Jobs[0].Replica != chk || report.Jobs[0].StartLine == "" {
		t.Errorf("report: %+v", report)
	}
	mustFerry(t, exitRefused, "migrate", "abort", "spring", "--endpoint", target.api)
	mustFerry(t, exitRefused, append([]string{"migrate", "plan"}, asked...)...) // it is promoted
	if out := mustFerry(t, 0, "migrate", "status", "--endpoint", target.api); !strings.Contains(out, "spring") || !strings.Contains(out, "DONE") {
		t.Errorf("status: %s", out)
	}
}
