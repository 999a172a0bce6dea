package metrics

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/protobuf/types/known/timestamppb"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/agent"
)

// fakeAgent has under way what a test says.
type fakeAgent struct {
	status agent.Status
	totals []agent.Total
}

func (f *fakeAgent) Status() agent.Status  { return f.status }
func (f *fakeAgent) Totals() []agent.Total { return f.totals }

// fixture is a real group of one voter, of which dc2's agent tells.
type fixture struct {
	t     *testing.T
	store *raftstore.Store
	agent *fakeAgent
	cfg   Config
}

// inGroup runs a test on the fake clock. dc2 has route prod, whose source said 10 s ago that it has chk-1 and chk-2 of
// orders, completed 30 s and 20 s ago, and chk-1 of pay; chk-1 of orders is READY.
func inGroup(t *testing.T, test func(t *testing.T, f *fixture)) {
	synctest.Test(t, func(t *testing.T) {
		store, err := raftstore.Open(raftstore.Config{Group: "dc2", ID: "dc2-a", Dir: t.TempDir(), Peers: []raftstore.Peer{{ID: "dc2-a"}}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
		f := &fixture{t: t, store: store, agent: &fakeAgent{}}
		f.cfg = Config{ID: "dc2-a", Datacenter: "dc2", Version: "v1", Group: store, Agent: f.agent, Stages: NewStages(), SilentAfter: func() time.Duration { return time.Minute }, Now: time.Now}
		for range 100 {
			if err = f.route(); !errors.Is(err, raftstore.ErrNotLeader) {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		f.propose(&raftv1.Command{Op: &raftv1.Command_ObserveSource{ObserveSource: &raftv1.ObserveSource{
			Route: "prod", SeenTime: timestamppb.New(now), Found: []*ckptferryv1.FoundCheckpoint{
				found("orders", 1, now.Add(-20*time.Second)), found("orders", 2, now.Add(-10*time.Second)), found("pay", 1, now.Add(-5*time.Second)),
			},
		}}})
		key := &ckptferryv1.CheckpointKey{Route: "prod", JobId: jobIDs["orders"], CheckpointId: 1, MetadataCrc32C: 1}
		fence := &raftv1.Fence{Attempt: 1}
		f.propose(&raftv1.Command{Op: &raftv1.Command_PlanReplica{PlanReplica: &raftv1.PlanReplica{
			Key: key, Fence: fence, Job: "orders", Uri: "file:/replicas/" + jobIDs["orders"] + "/chk-1", CompletedTime: timestamppb.New(now.Add(-20 * time.Second))}}})
		f.propose(&raftv1.Command{Op: &raftv1.Command_StartCopy{StartCopy: &raftv1.StartCopy{Key: key, Fence: fence}}})
		f.propose(&raftv1.Command{Op: &raftv1.Command_MarkReady{MarkReady: &raftv1.MarkReady{
			Key: key, Fence: fence, FileCount: 3, TotalBytes: 300, ManifestCrc32C: 7, Uri: "file:/replicas/" + jobIDs["orders"] + "/chk-1"}}})
		time.Sleep(time.Until(now.Add(10 * time.Second)))
		test(t, f)
	})
}

var jobIDs = map[string]string{"orders": strings.Repeat("a", 32), "pay": strings.Repeat("b", 32)}

func found(job string, id int64, completed time.Time) *ckptferryv1.FoundCheckpoint {
	seq := uint64(id)
	if job == "pay" {
		seq += 10
	}
	return &ckptferryv1.FoundCheckpoint{
		Seq: seq, Job: job, JobId: jobIDs[job], CheckpointId: id, MetadataCrc32C: uint32(id), Kind: ckptferryv1.CheckpointKind_CHECKPOINT_KIND_CHECKPOINT,
		Uri: fmt.Sprintf("file:/cp/%s/%s/chk-%d", job, jobIDs[job], id), CompletedTime: timestamppb.New(completed), FileCount: 2, TotalBytes: 200,
	}
}

// route applies prod without some jobs.
func (f *fixture) route(without ...string) error {
	_, err := agent.ApplyRoutes(f.t.Context(), f.store, nil, []raftstore.Route{{
		Name: "prod", FromDC: "dc1", FromExport: "prod", Root: "file:/replicas", Mode: raftstore.RouteContinuous, Exclude: without,
	}}, false)
	return err
}

func (f *fixture) propose(cmd *raftv1.Command) {
	f.t.Helper()
	if err := f.store.Propose(f.t.Context(), cmd); err != nil {
		f.t.Fatal(err)
	}
}

// compare demands what is told of some metrics.
func (f *fixture) compare(want string, names ...string) {
	f.t.Helper()
	if err := testutil.GatherAndCompare(registry(f.cfg, newLeaderChanges()), strings.NewReader(want), names...); err != nil {
		f.t.Error(err)
	}
}

func TestTheLagOfEachJobIsToldAndGoesWithTheJob(t *testing.T) {
	inGroup(t, func(_ *testing.T, f *fixture) {
		f.compare(`
# HELP ckptferry_job_lag_bytes Bytes of the newest checkpoint that is not READY; an upper bound, shared files may be there already.
# TYPE ckptferry_job_lag_bytes gauge
ckptferry_job_lag_bytes{job="orders",route="prod"} 200
ckptferry_job_lag_bytes{job="pay",route="prod"} 200
# HELP ckptferry_job_lag_checkpoints Checkpoints known at the source that are newer than the newest READY replica.
# TYPE ckptferry_job_lag_checkpoints gauge
ckptferry_job_lag_checkpoints{job="orders",route="prod"} 1
ckptferry_job_lag_checkpoints{job="pay",route="prod"} 1
# HELP ckptferry_job_lag_seconds For how long the newest READY replica has not been the newest checkpoint; grows while the source is silent.
# TYPE ckptferry_job_lag_seconds gauge
ckptferry_job_lag_seconds{job="orders",route="prod"} 20
# HELP ckptferry_job_rpo_seconds Age of the newest READY replica's checkpoint: the work that would be lost with the source now.
# TYPE ckptferry_job_rpo_seconds gauge
ckptferry_job_rpo_seconds{job="orders",route="prod"} 30
# HELP ckptferry_job_lag_state 1 for the state that the job is in: caught_up, behind, no_replica, source_silent or promoted.
# TYPE ckptferry_job_lag_state gauge
ckptferry_job_lag_state{job="orders",route="prod",state="behind"} 1
ckptferry_job_lag_state{job="orders",route="prod",state="caught_up"} 0
ckptferry_job_lag_state{job="orders",route="prod",state="no_replica"} 0
ckptferry_job_lag_state{job="orders",route="prod",state="promoted"} 0
ckptferry_job_lag_state{job="orders",route="prod",state="source_silent"} 0
ckptferry_job_lag_state{job="pay",route="prod",state="behind"} 0
ckptferry_job_lag_state{job="pay",route="prod",state="caught_up"} 0
ckptferry_job_lag_state{job="pay",route="prod",state="no_replica"} 1
ckptferry_job_lag_state{job="pay",route="prod",state="promoted"} 0
ckptferry_job_lag_state{job="pay",route="prod",state="source_silent"} 0
`, "ckptferry_job_lag_bytes", "ckptferry_job_lag_checkpoints", "ckptferry_job_lag_seconds", "ckptferry_job_rpo_seconds", "ckptferry_job_lag_state")

		if err := f.route("pay"); err != nil {
			f.t.Fatal(err)
		}
		if n, err := testutil.GatherAndCount(registry(f.cfg, newLeaderChanges()), "ckptferry_job_lag_state"); n != 5 || err != nil {
			f.t.Errorf("%d series of lag states (%v) after pay has left the route, want the 5 of orders", n, err)
		}
	})
}

func TestWhatTheAgentDoesIsToldOfEachRoute(t *testing.T) {
	inGroup(t, func(_ *testing.T, f *fixture) {
		f.agent.status = agent.Status{
			Exports:   []agent.ExportStatus{{Export: "mine", Jobs: 2, PolledAt: time.Unix(1500, 0), Took: time.Second, Problem: "no answer"}},
			Routes:    []agent.RouteStatus{{Route: "prod", Problem: "no link"}},
			Transfers: []agent.Transfer{{Route: "prod", Job: "orders"}, {Route: "prod", Job: "pay"}},
		}
		f.agent.totals = []agent.Total{{Route: "prod", Files: 7, Bytes: 700, Retries: 1}, {Route: "gone", Files: 1, Bytes: 1}}
		f.compare(`
# HELP ckptferry_export_last_poll_timestamp_seconds When the leader last saw all of an export, in Unix time; 0 before the first time.
# TYPE ckptferry_export_last_poll_timestamp_seconds gauge
ckptferry_export_last_poll_timestamp_seconds{export="mine"} 1500
# HELP ckptferry_export_problem 1 while the leader can't look at an export, or not at all of it.
# TYPE ckptferry_export_problem gauge
ckptferry_export_problem{export="mine"} 1
# HELP ckptferry_raft_is_leader 1 while this agent leads its group.
# TYPE ckptferry_raft_is_leader gauge
ckptferry_raft_is_leader 1
# HELP ckptferry_raft_leader_known 1 while this agent knows a leader of its group.
# TYPE ckptferry_raft_leader_known gauge
ckptferry_raft_leader_known 1
# HELP ckptferry_route_copied_bytes_total Bytes that this agent has read at the source, those of copies that failed too.
# TYPE ckptferry_route_copied_bytes_total counter
ckptferry_route_copied_bytes_total{route="prod"} 700
# HELP ckptferry_route_copied_files_total Files that this agent has copied.
# TYPE ckptferry_route_copied_files_total counter
ckptferry_route_copied_files_total{route="prod"} 7
# HELP ckptferry_route_problem 1 while this agent, as the leader, can't hear of the route's source or read it all.
# TYPE ckptferry_route_problem gauge
ckptferry_route_problem{route="prod"} 1
# HELP ckptferry_route_replicas Replicas on record, by status.
# TYPE ckptferry_route_replicas gauge
ckptferry_route_replicas{route="prod",status="copying"} 0
ckptferry_route_replicas{route="prod",status="failed"} 0
ckptferry_route_replicas{route="prod",status="planned"} 0
ckptferry_route_replicas{route="prod",status="quarantined"} 0
ckptferry_route_replicas{route="prod",status="ready"} 1
ckptferry_route_replicas{route="prod",status="retiring"} 0
ckptferry_route_replicas{route="prod",status="superseded"} 0
# HELP ckptferry_route_transfers Copies that this agent has under way.
# TYPE ckptferry_route_transfers gauge
ckptferry_route_transfers{route="prod"} 2
`, "ckptferry_export_last_poll_timestamp_seconds", "ckptferry_export_problem", "ckptferry_raft_is_leader", "ckptferry_raft_leader_known",
			"ckptferry_route_copied_bytes_total", "ckptferry_route_copied_files_total", "ckptferry_route_problem", "ckptferry_route_replicas", "ckptferry_route_transfers")

		families, err := registry(f.cfg, newLeaderChanges()).Gather()
		if err != nil {
			f.t.Fatal(err)
		}
		for _, family := range families {
			if family.GetName() == "ckptferry_route_source_last_contact_timestamp_seconds" {
				if got, want := family.GetMetric()[0].GetGauge().GetValue(), float64(time.Now().Add(-10*time.Second).Unix()); got < want-1 || got > want+1 {
					f.t.Errorf("last contact at %f, want %f", got, want)
				}
			}
		}
	})
}

func TestStagesAreMeasuredOneAfterTheOther(t *testing.T) {
	inGroup(t, func(_ *testing.T, f *fixture) {
		at := func(s float64) time.Time { return time.Unix(1000, int64(s*1e9)) }
		f.cfg.Stages.CopyEnded(agent.Copy{Route: "prod", Result: agent.CopyReady, Reason: agent.ReasonNone, Times: agent.CopyTimes{
			Completed: at(0), Heard: at(1), Started: at(3), FirstByte: at(6), LastByte: at(10), Verified: at(15), Ended: at(21)}})
		// All was there; the clock of the source's storage is ahead; another leader heard of it.
		f.cfg.Stages.CopyEnded(agent.Copy{Route: "prod", Result: agent.CopyReady, Reason: agent.ReasonNone, Times: agent.CopyTimes{
			Completed: at(50), Started: at(30), Verified: at(32), Ended: at(33)}})
		f.cfg.Stages.CopyEnded(agent.Copy{Route: "prod", Result: agent.CopyFailed, Reason: agent.ReasonNoSpace, Times: agent.CopyTimes{Started: at(3), Ended: at(9)}})
		f.cfg.Stages.CopyEnded(agent.Copy{Route: "gone", Result: agent.CopyReady, Reason: agent.ReasonNone, Times: agent.CopyTimes{Completed: at(0), Ended: at(1)}})

		all := registry(f.cfg, newLeaderChanges())
		if _, err := all.Gather(); err != nil { // the scrape that notices which routes there are
			f.t.Fatal(err)
		}
		families, err := all.Gather()
		if err != nil {
			f.t.Fatal(err)
		}
		got := map[string]string{}
		for _, family := range families {
			for _, m := range family.GetMetric() {
				var labels []string
				for _, l := range m.GetLabel() {
					labels = append(labels, l.GetValue())
				}
				name := strings.TrimPrefix(family.GetName(), "ckptferry_") + " " + strings.Join(labels, " ")
				if h := m.GetHistogram(); h != nil {
					got[name] = fmt.Sprintf("%d in %g s", h.GetSampleCount(), h.GetSampleSum())
				} else if strings.Contains(name, "copies_total") {
					got[name] = fmt.Sprint(m.GetCounter().GetValue())
				}
			}
		}
		for name, want := range map[string]string{
			"replica_stage_seconds prod detect":         "1 in 1 s",
			"replica_stage_seconds prod queue":          "1 in 2 s",
			"replica_stage_seconds prod first_byte":     "1 in 3 s",
			"replica_stage_seconds prod last_byte":      "1 in 4 s",
			"replica_stage_seconds prod verify":         "2 in 7 s",
			"replica_stage_seconds prod publish":        "2 in 7 s",
			"replica_ready_seconds prod":                "2 in 21 s",
			"route_copies_total none ready prod":        "2",
			"route_copies_total no_space failed prod":   "1",
			"route_copies_total permission failed prod": "0",
			"replica_ready_seconds gone":                "",
		} {
			if got[name] != want {
				f.t.Errorf("%s: %q, want %q", name, got[name], want)
			}
		}
		for name := range got {
			if strings.HasSuffix(name, " gone") {
				f.t.Errorf("%s is told of a route that is no more", name)
			}
		}
	})
}

func TestNamesAndHelpAreAsTheFieldHasThem(t *testing.T) {
	inGroup(t, func(_ *testing.T, f *fixture) {
		f.agent.status.Exports = []agent.ExportStatus{{Export: "mine"}}
		f.cfg.Stages.CopyEnded(agent.Copy{Route: "prod", Result: agent.CopyReady, Reason: agent.ReasonNone, Times: agent.CopyTimes{Completed: time.Unix(1, 0), Heard: time.Unix(2, 0), Ended: time.Unix(3, 0)}})
		problems, err := testutil.GatherAndLint(registry(f.cfg, newLeaderChanges()))
		if err != nil {
			f.t.Fatal(err)
		}
		for _, p := range problems {
			if strings.HasPrefix(p.Metric, "ckptferry_") {
				f.t.Errorf("%s: %s", p.Metric, p.Text)
			}
		}
	})
}

// changing is a group whose leader a test chooses.
type changing struct {
	*raftstore.Store
	leader chan string
	now    string
}

func (c *changing) Leader() (id, addr string) {
	select {
	case c.now = <-c.leader:
	default:
	}
	return c.now, ""
}

func TestLeaderChangesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &changing{leader: make(chan string)}
		s := NewServer(Config{Group: c, Stages: NewStages()})
		done := make(chan struct{})
		go func() { defer close(done); s.watchLeader() }()
		for _, leader := range []string{"", "a", "a", "", "a", "b", "", "c"} {
			c.leader <- leader
			time.Sleep(2 * lookEvery)
		}
		if got := testutil.ToFloat64(prometheus.Counter(s.leaders)); got != 2 {
			t.Errorf("%g changes, want 2: from a to b and from b to c", got)
		}
		s.Stop()
		<-done
	})
}

func TestHealthDoesNotAskForALeaderAndReadinessDoes(t *testing.T) {
	inGroup(t, func(_ *testing.T, f *fixture) {
		leaderless := f.cfg
		leaderless.Group = &changing{Store: f.store}
		for _, tc := range []struct {
			cfg        Config
			path, want string
			code       int
		}{
			{f.cfg, "/healthz", "ok", 200},
			{f.cfg, "/readyz", "leader dc2-a", 200},
			{leaderless, "/healthz", "ok", 200},
			{leaderless, "/readyz", "no leader", 503},
			{leaderless, "/metrics", "ckptferry_raft_leader_known 0", 200},
			{f.cfg, "/metrics", `ckptferry_job_lag_seconds{job="orders",route="prod"} 20`, 200},
			{f.cfg, "/debug/pprof", "", 404},
		} {
			w := httptest.NewRecorder()
			NewServer(tc.cfg).http.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, tc.path, nil))
			if w.Code != tc.code || !strings.Contains(w.Body.String(), tc.want) {
				f.t.Errorf("GET %s: %d, want %d with %q in\n%.2000s", tc.path, w.Code, tc.code, tc.want, w.Body)
			}
		}
		w := httptest.NewRecorder()
		NewServer(f.cfg).http.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/metrics", nil))
		if w.Code != http.StatusMethodNotAllowed {
			f.t.Errorf("POST /metrics: %d, want 405", w.Code)
		}
	})
}
