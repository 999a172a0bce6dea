//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/e2e/lab/flinklab"
	"github.com/ckptferry/ckptferry/e2e/lab/hdfslab"
)

// The day it is needed, between two datacenters of HDFS and three agents each, with three jobs of a real Flink: retention
// deletes while they are copied; a drill starts one in a sandbox; the first datacenter is lost, and they go on in the second,
// one with NO_CLAIM and one with CLAIM; one comes back; and then the second's agents lose all that they know, and a job still
// goes on. Each restore is compared with the job's ledger.
func TestTheDayItIsNeeded(t *testing.T) {
	w := newDay(t)
	orders, pay := w.start(t, "orders"), w.start(t, "pay")
	stock := w.leave(t, "stock")
	w.apply(t)

	t.Run("retention deletes while checkpoints are copied", func(t *testing.T) { w.copiesAndDeletes(t) })
	t.Run("a drill of level 3", func(t *testing.T) { w.drills(t, orders) })
	if t.Failed() {
		t.FailNow() // what follows needs what was
	}

	lost := w.losesTheSource(t, orders, pay)
	var after flinklab.Ledger
	t.Run("failover with NO_CLAIM", func(t *testing.T) { after = w.failsOver(t, orders, lost) })
	t.Run("failover with CLAIM", func(t *testing.T) { w.failsOverWithClaim(t, pay) })
	if t.Failed() {
		t.FailNow()
	}
	t.Run("failback", func(t *testing.T) { w.failsBack(t, after) })
	t.Run("all agents' data is lost", func(t *testing.T) { w.rebuilds(t, stock) })
}

// day is the two datacenters and what runs in them.
type day struct {
	a, b *hdfslab.Cluster
	s    site // its source is of no job yet
	d    twoDatacenters
}

// keep is how many checkpoints of a job the route keeps.
const keep = 2

func newDay(t *testing.T) *day {
	t.Helper()
	w := &day{a: hdfslab.New(t, hdfslab.Options{}), b: hdfslab.New(t, hdfslab.Options{})}
	w.s = site{lab: buildLab(t, "2.3.0"), source: place{w.a, "/flink"}, target: place{w.b, "/flink"}}
	w.d = newTwoDatacenters(t, w.s)
	// Quick, for a test. Retention passes every second, and what nobody needs is gone seconds later.
	w.d.target.set(t, "retention: {every: 2s}\n")
	w.d.source.start(t)
	w.d.target.start(t)
	return w
}

// set adds to the agents' configurations.
func (g group) set(t *testing.T, yaml string) {
	t.Helper()
	for _, a := range g.agents {
		text, err := os.ReadFile(a.config)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(a.config, append(text, yaml...), 0o644); err != nil {
			t.Fatal(err)
		}
		output(t, "config", "validate", a.config)
	}
}

// at is the site of one job.
func (w *day) at(job string) site {
	s := w.s
	s.source = w.s.source.below(job)
	return s
}

// start lets a job run at the source, with new state in each checkpoint, one a second.
func (w *day) start(t *testing.T, job string) *runningJob {
	t.Helper()
	return startJob(t, w.at(job), jobOptions{params: flinklab.Params{Keys: 500, Payload: 200, Target: 200_000}, rate: 400, interval: time.Second, retained: 3})
}

// leave lets a job run until it is cancelled.
func (w *day) leave(t *testing.T, job string) flinklab.Ledger {
	t.Helper()
	ledger, err := w.s.lab.Gen(t.Context(), flinklab.GenOptions{
		Dir: w.at(job).source.below("checkpoints").uri(), Target: 4000, Keys: 300, Payload: 200, Checkpoints: 3, Interval: interval,
	})
	if err != nil {
		t.Fatal(err)
	}
	return ledger
}

// apply says what is pulled, and how much of it is kept.
func (w *day) apply(t *testing.T) {
	t.Helper()
	w.d.applyFile(t, "prod.yaml", fmt.Sprintf(`exports:
  - {name: prod, bases: [%q], to: [dc2]}
routes:
  - {name: prod, from: {dc: dc1, export: prod}, root: %q, keep: %d, grace: 2s}
`, place{w.a, "/flink/{job}/checkpoints"}.uri(), w.s.replicas().uri(), keep), map[string]group{"export": w.d.source, "route": w.d.target})
}

// applyFile has the groups apply a file.
func (d twoDatacenters) applyFile(t *testing.T, name, text string, at map[string]group) {
	t.Helper()
	file := filepath.Join(d.dir, name)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for verb, g := range at {
		await(t, verb+" apply", func() error {
			_, err := g.ask(t.Context(), verb, "apply", "-f", file)
			return err
		})
	}
}

// copiesAndDeletes watches retention at work while checkpoints come each second and Flink deletes them at the source.
func (w *day) copiesAndDeletes(t *testing.T) {
	c := newChecker(w.s.replicas(), w.a.URI(), func() ([]byte, error) {
		return w.d.target.ask(t.Context(), "replica", "list", "-o", "json", "--timeout", "3s")
	})
	c.keep = keep
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		c.run(t, stop)
	}()
	enough := 6
	if os.Getenv("E2E_ALL") != "" {
		enough = 60
	}
	await(t, "replicas to be retired", func() error {
		if retired := c.retired(); retired < enough {
			return fmt.Errorf("%d were, want %d", retired, enough)
		}
		return nil
	})
	close(stop)
	<-stopped
	rounds, ready := c.counts()
	t.Logf("%d replicas were READY, %d of them are retired, looked at %d times", ready, c.retired(), rounds)
}

// drills starts the job from its newest replica on a session cluster, by the command that is in deploy.
func (w *day) drills(t *testing.T, job *runningJob) {
	cluster, err := w.s.lab.StartCluster(t.Context(), flinklab.ClusterOptions{Slots: 2, CheckpointDir: place{w.b, "/sandbox"}.uri()})
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	command, err := filepath.Abs("../deploy/drill/session-cluster")
	if err != nil {
		t.Fatal(err)
	}
	line := fmt.Sprintf("FLINK_REST=%s FLINK_HOME='%s' JAR='%s' ENTRY_CLASS=%s JOB_ARGS='%s' '%s'", cluster.REST(), cluster.Home(), w.s.lab.Jar(), flinklab.ClusterJob,
		strings.Join(job.ledger().JobArgs(job.params.Target), " "), command)
	began := time.Now()
	out, err := w.d.target.ask(t.Context(), "drill", "orders", "--level", "3", "--command", line, "--flink", "2.3", "-o", "json", "--timeout", "50s")
	if err != nil {
		t.Fatal(err)
	}
	var drill struct {
		Key          struct{ CheckpointID string }
		Passed       bool
		RPO, RTO     string
		FlinkVersion string
		Detail       string
	}
	if err := json.Unmarshal(out, &drill); err != nil || !drill.Passed || drill.RTO == "" || drill.RPO == "" || drill.FlinkVersion != "2.3.0" {
		t.Errorf("drill = %s, %v", out, err)
	}
	t.Logf("drill of level 3 with chk-%s: RPO %s, RTO %s, Flink %s, in all %s: %s", drill.Key.CheckpointID, drill.RPO, drill.RTO, drill.FlinkVersion, time.Since(began).Round(time.Millisecond), drill.Detail)
	if said, err := w.d.target.ask(t.Context(), "job", "describe", "orders"); err != nil || !strings.Contains(string(said), "Last drill: level 3 with chk-"+drill.Key.CheckpointID) {
		t.Errorf("job describe: %s, %v", said, err)
	}
	for _, r := range w.replicas(t, w.d.target) {
		if r.Pinned {
			t.Errorf("%s is still pinned", r.URI)
		}
	}
}

// losesTheSource kills all that runs in the first datacenter, and says when.
func (w *day) losesTheSource(t *testing.T, jobs ...*runningJob) time.Time {
	t.Helper()
	for _, job := range jobs {
		job.kill(t)
	}
	w.d.source.kill()
	lost := time.Now()
	if err := w.a.Kill("all"); err != nil {
		t.Fatal(err)
	}
	return lost
}

// heldReplica is one of `replica list -o json`.
type heldReplica struct {
	Job, Status, URI                  string
	Pinned, Promoted, Claimed, AtRisk bool
	Key                               struct{ Route string }
}

// replicas lists all that are on record.
func (w *day) replicas(t *testing.T, at group) []heldReplica {
	t.Helper()
	out, err := at.ask(t.Context(), "replica", "list", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var all struct{ Replicas []heldReplica }
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatal(err)
	}
	return all.Replicas
}

// plannedItem is one job of `failover plan -o json`.
type plannedItem struct {
	Job, Replica, RPO, Blocked string
	LostCheckpoints            []string
	Start                      struct{ Run string }
	CompletedTime              time.Time
}

// promote plans for one job and runs the plan, and says how long our part of the RTO took.
func (w *day) promote(t *testing.T, at group, verb string, plan ...string) (item plannedItem, took time.Duration) {
	t.Helper()
	began := time.Now()
	out, err := at.ask(t.Context(), append([]string{verb, "plan", "-o", "json"}, plan...)...)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "plan.json")
	if err := os.WriteFile(file, out, 0o600); err != nil {
		t.Fatal(err)
	}
	var planned struct{ Items []plannedItem }
	if err := json.Unmarshal(out, &planned); err != nil || len(planned.Items) != 1 || planned.Items[0].Blocked != "" || planned.Items[0].Replica == "" {
		t.Fatalf("%s plan: %v\n%s", verb, err, out)
	}
	item = planned.Items[0]
	if _, err := at.ask(t.Context(), verb, "run", file, "--reason", "the test's"); err != nil {
		t.Fatal(err)
	}
	took = time.Since(began)
	if out, err := at.ask(t.Context(), verb, "run", file); err != nil { // once more changes nothing
		t.Errorf("run again: %v\n%s", err, out)
	}
	return item, took
}

// restores starts Flink from a replica in a datacenter, where it then takes two more checkpoints.
func (w *day) restores(t *testing.T, o flinklab.RestoreOptions) flinklab.Ledger {
	t.Helper()
	o.More, o.Checkpoints, o.Interval = 500, 2, interval
	result, err := w.s.lab.RestoreCheck(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	want := o.Checkpoints
	if slices.Contains(o.Args, "--retained") {
		want = 1 // it took two, and Flink may have deleted the older one before the ledger was written
	}
	if len(result.Ledger.Checkpoints) < want {
		t.Fatalf("the restored job left %d checkpoints; want %d", len(result.Ledger.Checkpoints), want)
	}
	return result.Ledger
}

// running is where a job keeps its checkpoints that has failed over.
func (w *day) running(job string) place { return place{w.b, "/running/" + job + "/checkpoints"} }

// failsOver has a job go on with NO_CLAIM, while retention passes each second.
func (w *day) failsOver(t *testing.T, job *runningJob, lost time.Time) flinklab.Ledger {
	item, took := w.promote(t, w.d.target, "failover", "orders", "--flink", "2.3")
	rpo := lost.Sub(item.CompletedTime)
	t.Logf("RPO %s (planned as %s; the job took a checkpoint each second), our part of the RTO %s: %s", rpo.Round(time.Millisecond), item.RPO, took.Round(time.Millisecond), item.Start.Run)
	if want := "flink run -s " + item.Replica + " -claimMode NO_CLAIM"; item.Start.Run != want || rpo > patience || rpo < -time.Second {
		t.Errorf("planned %+v for a source that was lost at %s; want %s", item, lost, want)
	}
	after := w.restores(t, flinklab.RestoreOptions{Path: item.Replica, Mode: noClaim, Dir: w.running("orders").uri(), Ledger: job.ledger()})
	output(t, "metadata", "verify", item.Replica)
	return after
}

// failsOverWithClaim has a job go on with CLAIM: the files are Flink's then, and retention leaves them to it.
func (w *day) failsOverWithClaim(t *testing.T, job *runningJob) {
	item, _ := w.promote(t, w.d.target, "failover", "pay", "--mode", claim)
	after := w.restores(t, flinklab.RestoreOptions{Path: item.Replica, Mode: claim, Dir: w.running("pay").uri(), Ledger: job.ledger()})
	claimed, risky := 0, 0
	for _, r := range w.replicas(t, w.d.target) {
		switch {
		case r.Job != "pay":
		case r.URI == item.Replica && r.Claimed && r.Promoted:
			claimed++
		case r.Status == statusReady && !r.AtRisk:
			t.Errorf("%s could be offered: %+v", r.URI, r)
		case r.AtRisk:
			risky++
		}
	}
	if claimed != 1 {
		t.Errorf("the replica %s is not on record as claimed", item.Replica)
	}
	t.Logf("claimed %s; at risk: %d", item.Replica, risky)
	out, err := w.d.target.ask(t.Context(), "replica", "prune")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("prune: %s", out)
	// What Flink's own checkpoints still need of the replica is there.
	w.restores(t, flinklab.RestoreOptions{Path: after.Newest().Path, Mode: claim, Dir: place{w.b, "/running/pay-again"}.uri(), Ledger: after})
	// A Flink that keeps one checkpoint alone deletes of the replica what is its own now: that is no rot.
	w.restores(t, flinklab.RestoreOptions{Path: item.Replica, Mode: claim, Dir: place{w.b, "/running/pay-last"}.uri(), Ledger: job.ledger(), Args: []string{"--retained", "1"}})
	if code, out := exitOf(t, "metadata", "verify", item.Replica); code != 7 && code != 3 { // of its files, or _metadata itself
		t.Errorf("metadata verify of a replica that Flink has taken apart: exit code %d\n%s", code, out)
	}
	if out, err = w.d.target.ask(t.Context(), "replica", "scrub"); err != nil {
		t.Errorf("scrub: %v\n%s", err, out)
	}
	for _, r := range w.replicas(t, w.d.target) {
		if r.Job == "pay" && r.Status == "REPLICA_STATUS_QUARANTINED" {
			t.Errorf("%s is %s", r.URI, r.Status)
		}
	}
}

// failsBack brings the job's new checkpoints to the first datacenter, which is back, and has it go on there.
func (w *day) failsBack(t *testing.T, after flinklab.Ledger) {
	if err := w.a.StartNode("all"); err != nil {
		t.Fatal(err)
	}
	if err := w.a.WaitReady(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	w.d.source.start(t)
	await(t, "the first datacenter to know that it is fenced", func() error {
		out, err := w.d.target.ask(t.Context(), "failover", "status", "orders", "-o", "json")
		if err == nil && !strings.Contains(string(out), "fenceAcknowledgedTime") {
			err = fmt.Errorf("failover status: %s", out)
		}
		return err
	})
	await(t, "the first datacenter to say that it is fenced", func() error {
		out, err := w.d.source.ask(t.Context(), "status")
		if err == nil && !strings.Contains(string(out), "orders") {
			err = fmt.Errorf("status: %s", out)
		}
		return err
	})
	w.d.applyFile(t, "back.yaml", fmt.Sprintf(`exports:
  - {name: back, bases: [%q], to: [dc1]}
routes:
  - {name: back, from: {dc: dc2, export: back}, root: %q, jobs: {include: [orders]}}
`, place{w.b, "/running/{job}/checkpoints"}.uri(), place{w.a, "/back"}.uri()), map[string]group{"export": w.d.target, "route": w.d.source})
	item, took := w.promote(t, w.d.source, "failback", "--route", "back", "orders", "--wait", "40s", "--flink", "2.3")
	var newest int64 // which the job may have completed after its ledger was written, before it was cancelled
	_, err := fmt.Sscanf(filepath.Base(item.Replica), "chk-%d", &newest)
	if err != nil || newest < int64(after.Newest().ID) || !strings.HasPrefix(item.Replica, w.a.URI()+"/back/") {
		t.Errorf("comes back from %s (%v); want chk-%d or a newer one", item.Replica, err, after.Newest().ID)
	}
	t.Logf("failback planned and run within %s of having it: %s", took.Round(time.Millisecond), item.Start.Run)
	w.restores(t, flinklab.RestoreOptions{Path: item.Replica, Mode: noClaim, Dir: place{w.a, "/again/orders"}.uri(), Ledger: after})
	await(t, "the second datacenter to know that the job is back", func() error {
		out, err := w.d.target.ask(t.Context(), "failover", "status", "orders", "--all", "-o", "json")
		if err == nil && !strings.Contains(string(out), "PROMOTION_STATE_FAILED_BACK") {
			err = fmt.Errorf("failover status: %s", out)
		}
		return err
	})
}

// rebuilds takes all that the second datacenter's agents know, has them read it from the storage again, and fails over.
func (w *day) rebuilds(t *testing.T, stock flinklab.Ledger) {
	w.losesTheSource(t)
	w.d.target.kill()
	for _, a := range w.d.target.agents {
		data := filepath.Join(filepath.Dir(a.config), "data")
		if _, err := os.Stat(data); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(data); err != nil {
			t.Fatal(err)
		}
	}
	w.d.target.start(t)
	w.d.applyFile(t, "prod.yaml", w.prodYAML(t), map[string]group{"route": w.d.target})
	if all := w.replicas(t, w.d.target); len(all) > 0 {
		t.Fatalf("without any data the agents know %+v", all)
	}
	began := time.Now()
	out, err := w.d.target.ask(t.Context(), "catalog", "rebuild", "--deep")
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 7) { // 7: Flink has taken pay's apart
		t.Fatal(err)
	}
	t.Logf("catalog rebuild took %s:\n%s%v", time.Since(began).Round(time.Millisecond), out, err)
	for _, r := range w.replicas(t, w.d.target) {
		if r.Job == "pay" && r.Status == statusReady {
			t.Errorf("Flink has taken it apart, and it is on record as READY: %s", r.URI)
		}
	}
	item, took := w.promote(t, w.d.target, "failover", "stock", "--flink", "2.3")
	if !strings.HasSuffix(item.Replica, fmt.Sprintf("/chk-%d", stock.Newest().ID)) {
		t.Errorf("goes on from %s; want the newest, chk-%d", item.Replica, stock.Newest().ID)
	}
	t.Logf("our part of the RTO: %s", took.Round(time.Millisecond))
	w.restores(t, flinklab.RestoreOptions{Path: item.Replica, Mode: noClaim, Dir: w.running("stock").uri(), Ledger: stock})
}

// prodYAML is what apply has written.
func (w *day) prodYAML(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(w.d.dir, "prod.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
