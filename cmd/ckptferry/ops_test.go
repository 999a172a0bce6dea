package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// askAround asks an agent that holds chk-4 of the fixture's job all that there is to ask.
func askAround(t *testing.T, target *process, replicas string) {
	t.Helper()
	at := func(args ...string) []string { return append(args, "--endpoint", target.api) }
	for _, tc := range []struct {
		code int
		want string
		args []string
	}{
		{0, fixtureJob + "  CAUGHT_UP  ", at("job", "list")},
		{0, "READY at file:" + replicas + "/" + fixtureID + "/chk-4", at("job", "describe", fixtureJob)},
		{3, `job "nope": not found`, at("job", "describe", "nope")},
		{0, "status              READY", at("replica", "describe", fixtureJob)},
		{0, "checkpoint          4", at("replica", "describe", fixtureJob, "--checkpoint", "4")},
		{3, "a replica of checkpoint 99", at("replica", "describe", fixtureJob, "--checkpoint", "99")},
		{3, "a replica of job nope", at("replica", "describe", "nope")},
		{0, "file:" + replicas + "/" + fixtureID + "/chk-4", at("replica", "wait", "--ready", fixtureJob)},
		{10, "not READY within 30ms (--timeout): " + fixtureJob + " is CAUGHT_UP", at("replica", "wait", "--ready", fixtureJob, "--checkpoint", "99", "--timeout", "30ms")},
		{10, "job nope is not known", at("replica", "wait", "--ready", "nope", "--timeout", "30ms")},
		{0, "OK file:" + replicas, at("replica", "verify", fixtureJob)},
		{0, "OK file:" + replicas, at("replica", "verify")},
		{0, "every byte compared with the manifest", []string{"replica", "verify", "file:" + replicas + "/" + fixtureID + "/chk-4"}},
		{3, "a READY replica of job nope", at("replica", "verify", "nope")},
		{0, "READY,pinned", at("replica", "pin", fixtureJob)},
		{0, "READY,pinned", at("replica", "list", fixtureJob)},
		{0, "READY  ", at("replica", "unpin", fixtureJob)},
		{0, "no replica of job " + fixtureJob + " is pinned", at("replica", "unpin", fixtureJob)},
		{3, "a READY replica of checkpoint 99", at("replica", "pin", fixtureJob, "--checkpoint", "99")},
		{3, "a READY replica of job nope", at("replica", "pin", "nope")},
		{0, "nothing would go", at("replica", "prune", "--dry-run")},
		{0, "nothing went", at("replica", "prune", fixtureJob)},
		{0, `"total": {}`, at("replica", "prune", "--dry-run", "-o", "json")},
		{3, `route "nope": not found`, at("replica", "prune", "--route", "nope")},
		{0, "READY   ", at("replica", "scrub", fixtureJob)},
		{3, `job "nope": not found`, at("replica", "scrub", "nope")},
		{3, `job "nope": not found`, at("replica", "prune", "nope")},
		{3, `job "nope": not found`, at("replica", "prune", "nope", "--dry-run")},
		{3, "knows no route nope, and nothing was changed", at("route", "remove", "prod", "nope")},
		{3, "knows no export nope, and nothing was changed", at("export", "remove", "nope", "--dry-run")},
		{0, "prod", at("route", "list")},
		{0, "known    prod   " + fixtureJob, at("catalog", "rebuild", "--dry-run", "--deep")},
		{0, "0 put back on record, 1 known, 0 broken", at("catalog", "rebuild", "--route", "prod")},
		{3, "unknown route", at("catalog", "rebuild", "--route", "nope")},
		{0, "no drill is on record", at("drill", "list")},
		{0, fixtureJob + "  1      0 ", []string{"metadata", "verify", replicas}},
		{0, "", at("transfer", "list")},
		{0, `"transfers": []`, at("transfer", "list", "-o", "json")},
		{3, `agent dc2-a knows no route "nope"`, at("transfer", "throttle", "--route", "nope", "--rate", "none")},
		{0, "route prod: unchanged", at("transfer", "throttle", "--route", "prod", "--rate", "none")},
		{0, "route prod: changed (rate)", at("transfer", "throttle", "--route", "prod", "--rate", "1GiB/s", "--dry-run")},
		{0, "route prod: changed (rate)", at("transfer", "throttle", "--route", "prod", "--rate", "200MiB/s")},
		{0, "200.0 MiB/s", at("route", "list")},
		{0, `"bytesPerSecond": "209715200"`, at("route", "list", "-o", "json")},
	} {
		if out := mustFerry(t, tc.code, tc.args...); !strings.Contains(out, tc.want) {
			t.Errorf("ckptferry %s: want %q in\n%s", strings.Join(tc.args, " "), tc.want, out)
		}
	}
	// Scripts read what the agents answer, as protojson has it.
	var jobs struct {
		Jobs []struct {
			Lag         struct{ Job, State, ReadyCheckpointID string }
			Replicas    []struct{ Status string }
			Explanation string
		}
	}
	_, out, _ := ferry(at("job", "describe", fixtureJob, "-o", "json")...)
	if err := json.Unmarshal([]byte(out), &jobs); err != nil || len(jobs.Jobs) != 1 || jobs.Jobs[0].Lag.State != "LAG_STATE_CAUGHT_UP" ||
		len(jobs.Jobs[0].Replicas) != 1 || jobs.Jobs[0].Replicas[0].Status != "REPLICA_STATUS_READY" || jobs.Jobs[0].Explanation == "" {
		t.Errorf("job describe -o json: %v\n%s", err, out)
	}

	// A byte that is changed is found from here too.
	name := filepath.Join(replicas, fixtureID, "chk-4", "_metadata")
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	rotten := append([]byte(nil), whole...)
	rotten[len(rotten)-1] ^= 1
	if err := os.WriteFile(name, rotten, 0o600); err != nil {
		t.Fatal(err)
	}
	mustFerry(t, 7, at("replica", "verify", fixtureJob)...)
	mustFerry(t, 7, at("replica", "verify", fixtureJob, "-o", "json")...)
	if err := os.WriteFile(name, whole[1:], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--dry-run"}, {}, {"-o", "json"}} {
		code, out, errs := ferry(at(append([]string{"catalog", "rebuild"}, args...)...)...)
		if code != 7 || !strings.Contains(out, "chk-4") || !strings.Contains(errs, "1 of 1 replicas on the storage are broken") {
			t.Errorf("catalog rebuild %q: exit code %d\n%s%s", args, code, out, errs)
		}
	}
	if err := os.WriteFile(name, whole, 0o600); err != nil {
		t.Fatal(err)
	}

	for path, want := range map[string]string{
		"/healthz": "ok", "/readyz": "leader dc2-a",
		"/metrics": `ckptferry_route_copies_total{reason="none",result="ready",route="prod"} 1`,
	} {
		res, err := http.Get("http://" + target.http + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("GET %s: %s, %v, want %q in\n%s", path, res.Status, err, want, body)
		}
	}
}
