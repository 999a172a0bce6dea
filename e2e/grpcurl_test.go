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
	"strings"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/e2e/lab/hdfslab"
)

const lagMethod = "ckptferry.v1.ReplicaService/GetReplicaLag"

// grpcurlBin is the real grpcurl: $GRPCURL, or where make installs it. "" when there is none; with CI=true that fails.
func grpcurlBin(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("GRPCURL")
	if bin == "" {
		bin = "../.tools/bin/grpcurl"
	}
	path, err := exec.LookPath(bin)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") == "true":
		t.Fatalf("grpcurl: %v; `make e2e` installs it, or GRPCURL names it", err)
	}
	t.Logf("NOT TESTED: grpcurl: %v; `make e2e` installs it, or GRPCURL names it", err)
	return ""
}

// grpcurl runs it and gives what it printed.
func grpcurl(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, grpcurlBin(t), args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("grpcurl %s: %w\n%s%s", strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

// lagsOf reads the answer of lagMethod. A figure that isn't printed is nil.
func lagsOf(out string) (map[string]map[string]any, error) {
	var answer struct{ Jobs []map[string]any }
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	jobs := map[string]map[string]any{}
	for _, job := range answer.Jobs {
		jobs[fmt.Sprint(job["job"])] = job
	}
	return jobs, nil
}

// grpcurlShowsTheJob: with a certificate any agent answers, by reflection, and without one none does.
func (d twoDatacenters) grpcurlShowsTheJob(t *testing.T) {
	t.Helper()
	if grpcurlBin(t) == "" {
		return
	}
	for _, a := range d.target.agents {
		out, err := grpcurl(t, "-cacert", d.target.tls.ca, "-cert", d.target.tls.cert, "-key", d.target.tls.key, a.api, lagMethod)
		if err != nil {
			t.Fatal(err)
		}
		jobs, err := lagsOf(out)
		if err != nil {
			t.Fatal(err)
		}
		for _, figure := range []string{"route", "state", "timeLag", "checkpointLag", "bytesLag", "rpo", "sourceCheckpointId", "readyCheckpointId", "replica"} {
			if jobs["orders"][figure] == nil {
				t.Errorf("grpcurl at %s shows no %s of the job:\n%s", a.id, figure, out)
			}
		}
	}
	endpoint := d.target.agents[0].api
	for _, without := range [][]string{{"-plaintext"}, {"-cacert", d.target.tls.ca}} {
		if out, err := grpcurl(t, append(without, "-max-time", "5", endpoint, lagMethod)...); err == nil {
			t.Errorf("grpcurl %s without a certificate: %s", without, out)
		}
	}
}

// What the README says: `grpcurl -plaintext HOST:PORT ckptferry.v1.ReplicaService/GetReplicaLag` with nothing else shows
// every job readably, zeros included. Two agents without TLS on loopback, what real Flink wrote as files; Go alone.
func TestGrpcurlShowsEveryJob(t *testing.T) {
	if grpcurlBin(t) == "" {
		t.Skip("no grpcurl")
	}
	jobs := []string{"1.20.0-rocksdb-incremental", "1.20.0-hashmap", "2.3.0-filemerging"}
	dir := t.TempDir()
	flink, replicas := filepath.Join(dir, "flink"), filepath.Join(dir, "dc2", "replicas")
	for _, job := range jobs {
		if err := os.CopyFS(flink, os.DirFS(filepath.Join(fixtures, job, "dc-a"))); err != nil {
			t.Fatal(err)
		}
	}
	ports, err := hdfslab.FreePorts(4)
	if err != nil {
		t.Fatal(err)
	}
	addr := func(i int) string { return net.JoinHostPort("127.0.0.1", fmt.Sprint(ports[i])) }
	start := func(dc, api, peer, stores, others string) group {
		a := &agentProcess{id: dc + "-a", config: filepath.Join(dir, dc+".yaml"), log: filepath.Join(dir, dc+".log"), api: api, peer: peer}
		text := fmt.Sprintf(`version: 1
node: {id: %s, dc: %s, data_dir: %s-data}
listen: {api: %q, peer: %q}
stores: %s
datacenters: %s
limits: {poll: 100ms}
`, a.id, dc, dc, api, peer, stores, others)
		if err := os.WriteFile(a.config, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		g := group{dc: dc, agents: []*agentProcess{a}}
		g.start(t)
		g.cleanup(t)
		return g
	}
	source := start("dc1", addr(0), addr(1), fmt.Sprintf("{file:/dc-a: {reach: %q}}", "file:"+flink), "{}") // Flink wrote the fixtures below /dc-a
	target := start("dc2", addr(2), addr(3), fmt.Sprintf("{%q: {}}", "file:"+filepath.Dir(replicas)), fmt.Sprintf("{dc1: {endpoints: [%q]}}", addr(1)))
	routes := filepath.Join(dir, "two.yaml")
	text := fmt.Sprintf(`exports:
  - {name: prod, bases: ["file:/dc-a/flink/checkpoints/{job}"], to: [dc2]}
routes:
  - {name: prod, from: {dc: dc1, export: prod}, root: %q}
`, "file:"+replicas)
	if err := os.WriteFile(routes, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for verb, at := range map[string]group{"export": source, "route": target} {
		await(t, verb+" apply", func() error {
			_, err := at.ask(t.Context(), verb, "apply", "-f", routes)
			return err
		})
	}

	endpoint := target.agents[0].api
	var shown string
	await(t, "all jobs to be caught up", func() error {
		if shown, err = grpcurl(t, "-plaintext", endpoint, lagMethod); err != nil {
			return err
		}
		lags, err := lagsOf(shown)
		if err != nil {
			return err
		}
		for _, job := range jobs {
			if lags[job]["state"] != "LAG_STATE_CAUGHT_UP" {
				return fmt.Errorf("%s is not caught up:\n%s", job, shown)
			}
		}
		return nil
	})
	lags, err := lagsOf(shown)
	if err != nil {
		t.Fatal(err)
	}
	for _, job := range jobs {
		lag := lags[job]
		for figure, want := range map[string]string{"timeLag": "0s", "checkpointLag": "0", "bytesLag": "0", "route": "prod"} {
			if got := fmt.Sprint(lag[figure]); got != want {
				t.Errorf("%s of %s is shown as %s, want %s", figure, job, got, want)
			}
		}
		id, isText := lag["readyCheckpointId"].(string)
		if !isText || id == "0" || id != lag["sourceCheckpointId"] || !strings.HasSuffix(fmt.Sprint(lag["replica"]), "/chk-"+id) {
			t.Errorf("checkpoints of %s are shown as %v, %v, %v", job, lag["sourceCheckpointId"], lag["readyCheckpointId"], lag["replica"])
		}
		rpo, err := time.ParseDuration(fmt.Sprint(lag["rpo"]))
		if err != nil || rpo <= 0 {
			t.Errorf("the RPO of %s is shown as %v", job, lag["rpo"])
		}
		if seen, err := time.Parse(time.RFC3339, fmt.Sprint(lag["sourceSeenTime"])); err != nil || time.Since(seen) > time.Minute {
			t.Errorf("the source of %s was seen at %v", job, lag["sourceSeenTime"])
		}
	}
	if len(lags) != len(jobs) {
		t.Errorf("%d jobs are shown, want %d:\n%s", len(lags), len(jobs), shown)
	}

	// What else people try first.
	for _, try := range []struct{ args, shows string }{
		{"list", "ckptferry.v1.ReplicaService"},
		{"describe ckptferry.v1.JobLag", "checkpoint_lag"},
		{"grpc.health.v1.Health/Check", "SERVING"},
		{"ckptferry.v1.ReplicaService/ListReplicas", "REPLICA_STATUS_READY"},
		{"ckptferry.v1.AgentService/GetStatus", `"leader": "dc2-a"`},
		{"-d {\"page_size\":1} ckptferry.v1.ReplicaService/GetReplicaLag", "nextPageToken"},
		{"-d {\"route\":\"prod\"} ckptferry.v1.CheckpointService/ListCheckpoints", "CHECKPOINT_KIND_CHECKPOINT"},
	} {
		flags, call := []string{"-plaintext"}, strings.SplitN(try.args, " ", 2)
		if call[0] == "-d" {
			data, method, _ := strings.Cut(call[1], " ")
			flags, call = append(flags, "-d", data), []string{method}
		}
		out, err := grpcurl(t, append(append(flags, endpoint), call...)...)
		if err != nil || !strings.Contains(out, try.shows) {
			t.Errorf("grpcurl %s: %s %v; want %s in it", try.args, out, err, try.shows)
		}
	}
	// Where reflection can't be used.
	bin, err := ckptferry()
	if err != nil {
		t.Fatal(err)
	}
	if set, err := exec.CommandContext(t.Context(), bin, "protoset").Output(); err != nil {
		t.Error(err)
	} else if err := os.WriteFile(filepath.Join(dir, "api.protoset"), set, 0o644); err != nil {
		t.Error(err)
	} else if out, err := grpcurl(t, "-plaintext", "-protoset", filepath.Join(dir, "api.protoset"), "-use-reflection=false", endpoint, lagMethod); err != nil || !strings.Contains(out, "LAG_STATE_CAUGHT_UP") {
		t.Errorf("grpcurl -protoset: %s %v", out, err)
	}
	// A watch goes on until it is ended: what was there is shown before.
	_, err = grpcurl(t, "-plaintext", "-max-time", "2", endpoint, "ckptferry.v1.ReplicaService/WatchReplicas")
	if err == nil || !strings.Contains(err.Error(), "REPLICA_STATUS_READY") || !strings.Contains(err.Error(), `"complete": true`) || !strings.Contains(err.Error(), "DeadlineExceeded") {
		t.Errorf("grpcurl WatchReplicas: %v", err)
	}
	_, err = grpcurl(t, "-plaintext", "-d", `{"job": "nope"}`, endpoint, lagMethod)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(err.Error(), "NotFound") {
		t.Errorf("a job that isn't there: %v; want NotFound", err)
	}
}
