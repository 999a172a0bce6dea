package main

import (
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// runbook is how one of docs/runbooks is gone through.
type runbook struct {
	targets int // agents in dc2; 0: one
	begin   func(w *rehearsal)
	steps   []step
}

// runbooks are those of docs/runbooks, by file.
var runbooks = map[string]runbook{
	"drill.md":       {steps: drillSteps, begin: sandbox},
	"disk-full.md":   {steps: diskFullSteps},
	"lost-quorum.md": {steps: lostQuorumSteps, targets: 3},
	"failover.md":    {steps: failoverSteps, begin: losesSource},
	"failback.md":    {steps: failbackSteps, begin: fencesSource},
	"migration.md":   {steps: migrationSteps, begin: runsJobManager},
}

// sandbox is where drills start Flink.
func sandbox(w *rehearsal) {
	command := w.file("session-cluster", `#!/bin/sh
[ "$FLINK_REST/$FLINK_HOME/$JAR" = "http://sandbox:8081//opt/flink//srv/jobs/orders.jar" ] && [ "$CKPTFERRY_LEVEL" = 3 ] || exit 1
echo flink_version=1.20.0
echo running_after=0.001
`)
	if err := os.Chmod(command, 0o700); err != nil {
		w.Fatal(err)
	}
	w.says["/usr/lib/ckptferry/drill/session-cluster"] = command
	w.says["/srv/jobs/orders.jar"] = "/srv/jobs/orders.jar" // no job's name
	w.says["hdfs://dc2/flink/drill-scratch"] = "file:" + filepath.Join(w.TempDir(), "scratch")
}

var drillSteps = []step{
	{command: "ckptferry drill orders --level 1", want: "PASSED"},
	{command: "ckptferry drill orders --level 3 --timeout 15m --command 'FLINK_REST=http://sandbox:8081 FLINK_HOME=/opt/flink JAR=/srv/jobs/orders.jar /usr/lib/ckptferry/drill/session-cluster'", want: "PASSED"},
	{command: "ckptferry drill orders --level 3 --on-copy --scratch hdfs://dc2/flink/drill-scratch --command 'FLINK_REST=http://sandbox:8081 FLINK_HOME=/opt/flink JAR=/srv/jobs/orders.jar /usr/lib/ckptferry/drill/session-cluster'", want: "PASSED"},
	{command: "ckptferry job describe orders", want: "Last drill: level 3 with chk-4"},
	{command: "ckptferry status", want: "prod/orders"},
	{command: "ckptferry replica verify orders", want: "OK file:"},
	{command: "ckptferry replica unpin orders", want: "READY  ", before: func(w *rehearsal) {
		mustFerry(w.T, 0, "replica", "pin", fixtureJob, "--endpoint", endpointsOf(w.dc2)) // as a drill does that is killed
	}},
}

var diskFullSteps = []step{
	{command: "ckptferry status", want: "prod"},
	{command: "ckptferry replica list --status failed"},
	{command: "ckptferry job describe orders", want: "chk-4"},
	{command: "ckptferry route pause prod"},
	{command: "ckptferry replica prune --dry-run"},
	{command: "ckptferry replica prune"},
	{command: "ckptferry route apply -f routes.yaml", want: "prod"},
	{command: "ckptferry replica prune --dry-run"},
	{command: "ckptferry replica prune"},
	{command: "ckptferry replica list", want: "READY"},
	{command: "ckptferry replica unpin orders"},
	{command: "hdfs dfs -count -q -h hdfs://dc2/flink/replicas"},
	{command: "ckptferry route resume prod"},
	{command: "ckptferry replica wait --ready orders --timeout 10m", want: "/chk-4"},
	{command: "ckptferry lag --max 5m", want: "CAUGHT_UP"},
}

var lostQuorumSteps = []step{
	{command: "ckptferry raft status", code: exitUnreachable, want: "knows no leader", before: func(w *rehearsal) {
		w.kill(w.T, w.dc2[1:]...)
		w.await("knows no leader", "raft", "status", "--endpoint", w.dc2[0].api)
	}},
	{command: "systemctl start ckptferry", after: func(w *rehearsal) { w.starts(1, 2) }},
	{command: "ckptferry raft status", want: "leader"},
	{command: "ckptferry raft remove-voter dc2-c", want: "dc2-b", before: func(w *rehearsal) {
		w.kill(w.T, w.dc2[2])
		for _, p := range w.dc2[:2] { // it may have led
			until(w.T, "another leader", func() (bool, string) {
				_, out, notes := ferry("raft", "status", "-o", "json", "--endpoint", p.api)
				return strings.Contains(out, `"leader": "dc2-`) && !strings.Contains(out, `"leader": "dc2-c"`), out + notes
			})
		}
	}},
	{command: "systemctl start ckptferry", after: func(w *rehearsal) {
		file, raft := w.joining()
		w.says["10.2.0.14:7072"] = raft
		w.dc2[2] = startAgent(w.T, file)
	}},
	{command: "ckptferry raft add-voter dc2-d 10.2.0.14:7072", want: "dc2-d"},
	{command: "ckptferry raft status", want: "dc2-d"},
	{command: "systemctl stop ckptferry", after: func(w *rehearsal) { w.kill(w.T, w.dc2...) }},
	{command: "mv /var/lib/ckptferry/data /var/lib/ckptferry/data.lost", before: func(w *rehearsal) {
		w.says["/var/lib/ckptferry/data"] = filepath.Join(w.dir, "dc2-a-data")
	}, after: func(w *rehearsal) {
		for _, other := range []string{"dc2-b-data", "dc2-c-data"} {
			if err := os.RemoveAll(filepath.Join(w.dir, other)); err != nil {
				w.Fatal(err)
			}
		}
	}},
	{command: "systemctl start ckptferry", after: func(w *rehearsal) { w.starts(0, 1, 2) }},
	{command: "ckptferry raft status", want: "leader"},
	{command: "ckptferry export apply -f routes.yaml", want: "prod", before: func(w *rehearsal) { w.ask = w.dc1 }, after: func(w *rehearsal) {
		w.ask = nil
		w.kill(w.T, w.dc1...) // what follows is of the target alone
	}},
	{command: "ckptferry route apply -f routes.yaml", want: "prod", before: func(w *rehearsal) {
		w.file("routes.yaml", strings.Replace(w.routes, "keep: 2", "keep: 2, mode: paused", 1))
	}},
	{command: "ckptferry catalog rebuild --dry-run", want: "recovered"},
	{command: "ckptferry catalog rebuild", want: "recovered"},
	{command: "ckptferry replica list", want: "READY"},
	{command: "ckptferry metadata verify hdfs://dc2/flink/replicas/prod", want: "chk-4"},
	{command: "ckptferry failover plan", want: "chk-4"},
	{command: "ckptferry route resume prod", want: "prod"},
}

// joining is the configuration of another agent of dc2, dc2-d, and its address for the others of the group.
func (w *rehearsal) joining() (file, raft string) {
	w.Helper()
	text, err := os.ReadFile(w.config["dc2"][2])
	if err != nil {
		w.Fatal(err)
	}
	raft = lonelyAddr(w.T)
	old := regexp.MustCompile(`dc2-c=[0-9.:]+`).FindString(string(text))
	joins := strings.NewReplacer(old, "dc2-d="+raft, "raft: {peers", "raft: {join: true, peers", "dc2-c", "dc2-d").Replace(string(text))
	return writeFile(w.T, filepath.Join(w.dir, "dc2-d.yaml"), joins), raft
}

// starts starts agents of dc2 and waits until all know a leader.
func (w *rehearsal) starts(agents ...int) {
	w.Helper()
	for _, i := range agents {
		w.dc2[i] = startAgent(w.T, w.config["dc2"][i])
	}
	for _, p := range w.dc2 {
		until(w.T, "a leader", func() (bool, string) {
			code, out, notes := ferry("raft", "status", "--endpoint", p.api)
			return code == exitOK, out + notes
		})
	}
}

// losesSource kills dc1.
func losesSource(w *rehearsal) {
	w.kill(w.T, w.dc1...)
	w.await("SOURCE_SILENT", "lag", "--endpoint", endpointsOf(w.dc2))
}

var failoverSteps = []step{
	{command: "export CKPTFERRY_ENDPOINT=$HERE"},
	{command: "ckptferry raft status", want: "leader"},
	{command: "ckptferry status", want: "leader"},
	{command: "ckptferry lag", want: "SOURCE_SILENT"},
	{command: "ckptferry failover plan", want: "1 can be promoted"},
	{command: "ckptferry failover plan -o json > plan.json"},
	{command: "ckptferry failover plan 'orders*' --route prod", want: "1 can be promoted"},
	{command: "ckptferry failover plan --before 2h", want: "BLOCKED"},
	{command: "ckptferry failover plan --flink 2.0 --mode NO_CLAIM", want: "1 can be promoted"},
	{command: "ckptferry failover run plan.json --dry-run", want: "WOULD"},
	{command: "ckptferry failover run plan.json --reason 'INC-4711: dc1 has no power'", want: "PROMOTED"},
	{command: "ckptferry failover plan -o script > start.sh"},
	{command: `mkdir -p jobs && for job in $(ckptferry failover status -o json | sed -n 's/.*"job": "\(.*\)".*/\1/p'); do test -e "jobs/$job.args" || echo "-d $job.jar" > "jobs/$job.args"; done`},
	{command: "DRY_RUN=1 sh ./start.sh", want: "flink run -s file:"},
	{command: "sh ./start.sh", want: "starting orders"},
	{command: "ckptferry failover status", want: "ACTIVE"},
	{command: "ckptferry lag", want: "PROMOTED"},
	{command: "ckptferry audit", want: "INC-4711"},
	{command: "ckptferry failover abort 'orders*' --reason 'dc1 was only slow'", want: "ABORTED"},
}

// fencesSource has the job of dc1 promoted in dc2, where it then completes chk-5, and dc1 back.
func fencesSource(w *rehearsal) {
	losesSource(w)
	plan := filepath.Join(w.work, "plan.json")
	_, text, _ := ferry("failover", "plan", "-o", "json", "--endpoint", endpointsOf(w.dc2))
	writeFile(w.T, plan, text)
	mustFerry(w.T, 0, "failover", "run", plan, "--endpoint", endpointsOf(w.dc2))
	w.dc1 = []*process{startAgent(w.T, w.config["dc1"][0])}
	until(w.T, "dc1 is fenced", func() (bool, string) {
		_, out, notes := ferry("failover", "status", "--endpoint", endpointsOf(w.dc2))
		return !strings.Contains(out, "not yet") && strings.Contains(out, "ACTIVE"), out + notes
	})
	copyCheckpoint(w.T, w.flink2)
}

var failbackSteps = []step{
	{command: "ckptferry status --endpoint $DC1", want: "FENCED: job orders was promoted in dc2"},
	{command: "ckptferry failover status --endpoint $DC2", want: "ACTIVE"},
	{command: "ckptferry failback plan --route back --endpoint $DC1 > back.yaml || test $? = 3", after: func(w *rehearsal) {
		printed, err := os.ReadFile(filepath.Join(w.work, "back.yaml"))
		if err != nil || !strings.Contains(string(printed), "from: {dc: dc2, export: back}") {
			w.Fatalf("back.yaml: %s, %v", printed, err)
		}
		w.file("back.yaml", fmt.Sprintf(`exports:
  - {name: back, bases: ["file:/dc-a/flink/checkpoints/{job}"], to: [dc1]}
routes:
  - {name: back, from: {dc: dc2, export: back}, root: "file:%s"}
`, filepath.Join(w.dir, "dc1", "back")))
	}},
	{command: "ckptferry export apply -f back.yaml --endpoint $DC2", want: "back"},
	{command: "ckptferry route apply -f back.yaml --endpoint $DC1", want: "back"},
	{command: "ckptferry failback plan --route back --endpoint $DC1 --wait 10m", want: "chk-5"},
	{command: "ckptferry lag --route back --endpoint $DC1 --max 24h", want: "CAUGHT_UP"},
	{command: "ckptferry failback plan --route back --endpoint $DC1 -o json > back.json"},
	{command: "ckptferry failback run back.json --endpoint $DC1 --reason 'dc1 is back'", want: "PROMOTED"},
	{command: "ckptferry failover plan --route back --endpoint $DC1 -o script > start.sh"},
	{command: "ckptferry failover status --all --endpoint $DC2", want: "FAILED_BACK", before: func(w *rehearsal) {
		w.await("FAILED_BACK", "failover", "status", "--all", "--endpoint", endpointsOf(w.dc2))
	}},
	{command: "ckptferry status --endpoint $DC2", want: "FENCED"},
	{command: "ckptferry audit --endpoint $DC1", want: "dc1 is back"},
}

// runsJobManager has dc1's Flink run the job.
func runsJobManager(w *rehearsal) {
	server := httptest.NewServer(&jobManager{state: "RUNNING", last: "file:/dc-a/flink/checkpoints/" + fixtureJob + "/" + fixtureID + "/chk-4"})
	w.Cleanup(server.Close)
	w.says["http://jobmanager:8081"] = server.URL
}

// migratesByHand ends what was, and begins another migration, of a job that somebody else stops.
func migratesByHand(w *rehearsal) {
	at := endpointsOf(w.dc2)
	mustFerry(w.T, 0, "failover", "abort", fixtureJob, "--endpoint", at)
	w.says["spring"] = "summer"
	mustFerry(w.T, 0, "migrate", "run", "summer", "--stop", "manual", "--detach", "--endpoint", at)
	w.await("migrate stopped", "migrate", "status", "summer", "--endpoint", at)
}

var migrationSteps = []step{
	{command: "ckptferry lag", want: "CAUGHT_UP"},
	{command: "ckptferry migrate plan --jobmanager http://jobmanager:8081 --stop savepoint", want: "orders"},
	{command: "ckptferry migrate plan --jobmanager http://jobmanager:8081 --stop cancel", want: "orders"},
	{command: "ckptferry migrate run spring --jobmanager http://jobmanager:8081 --stop cancel --wave 1 --detach"},
	{command: "ckptferry migrate status spring", want: "orders", after: func(w *rehearsal) {
		w.await("READY", "migrate", "status", "spring", "--endpoint", endpointsOf(w.dc2))
	}},
	{command: "ckptferry migrate status spring -o json", want: "flink run -s"},
	{command: "ckptferry migrate started spring orders"},
	{command: "ckptferry migrate stopped spring orders", before: migratesByHand},
	{command: "ckptferry migrate pause spring"},
	{command: "ckptferry migrate resume spring"},
	{command: "ckptferry migrate abort spring"},
	{command: "ckptferry migrate stopped spring orders"},
	{command: "ckptferry migrate running spring orders", code: exitRefused, want: "only of a job that is being stopped"}, // its JobManager was never asked
	{command: "ckptferry job describe orders"},
	{command: "ckptferry failover plan orders"},
	{command: "ckptferry migrate report spring"},
	{command: "ckptferry migrate status"},
}
