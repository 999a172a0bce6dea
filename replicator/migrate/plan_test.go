package migrate_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/agent"
	"github.com/ckptferry/ckptferry/replicator/migrate"
)

func TestWavesGoByPatternThenName(t *testing.T) {
	inWorld(t, []string{"b1", "a2", "a1", "c"}, func(t *testing.T, w *world) {
		req := request(func(r *migrate.Request) { r.WaveSize = 2 }, "c", "a*", "*")
		plan, err := migrate.Plan(w.View(), req, w.run.Measures())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range plan.Jobs {
			got = append(got, p.Job.Job+strings.Repeat("'", int(p.Job.Wave)))
		}
		if diff := cmp.Diff([]string{"c'", "a1'", "a2''", "b1''"}, got); diff != "" {
			t.Error(diff)
		}
		first := plan.Jobs[0]
		if plan.Total != 2*first.Prediction.Total || first.Job.SavepointDirectory != "file:/cp/c" || string(first.Job.JobID) != idOf("c") {
			t.Errorf("total %s, %+v", plan.Total, first)
		}
	})
}

func TestWhatCannotBeMovedIsBlockedWithAReason(t *testing.T) {
	inWorld(t, []string{"a", "b"}, func(t *testing.T, w *world) {
		fresh := &ckptferryv1.FoundCheckpoint{Job: "fresh", JobId: idOf("fresh"), CheckpointId: 1, MetadataCrc32C: 1, Uri: chk("fresh", 1),
			Kind: ckptferryv1.CheckpointKind_CHECKPOINT_KIND_CHECKPOINT, FileCount: 1, TotalBytes: 1}
		w.observe(fresh)
		w.start(nil, "a")
		w.until("a is promoted", w.is("a", raftstore.MigrationJobReady))
		other := func(r *migrate.Request) { r.Migration.Name = "other" }
		for name, tc := range map[string]struct {
			req  migrate.Request
			want map[string]string
		}{
			"promoted, and unknown": {request(other, "a", "nobody"), map[string]string{"a": "promoted here already", "nobody": "knows no checkpoint"}},
			"nothing READY":         {request(other, "fresh"), map[string]string{"fresh": "no replica of it is READY yet"}},
			"no JobManager": {request(func(r *migrate.Request) { other(r); r.JobManager, r.StopMode = "", raftstore.StopCancel }, "b"),
				map[string]string{"b": "nobody says where its JobManager answers"}},
		} {
			plan, err := migrate.Plan(w.View(), tc.req, w.run.Measures())
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			for _, p := range plan.Jobs {
				if want := tc.want[p.Job.Job]; want == "" || !strings.Contains(p.Blocked, want) || p.Job.Wave != 0 {
					t.Errorf("%s: job %s (wave %d) is blocked: %q, want %q", name, p.Job.Job, p.Job.Wave, p.Blocked, want)
				}
			}
			if len(plan.Jobs) != len(tc.want) || plan.Total != 0 {
				t.Errorf("%s: %d jobs in %s", name, len(plan.Jobs), plan.Total)
			}
		}
	})
}

func TestRequestsThatMakeNoSense(t *testing.T) {
	inWorld(t, []string{"a"}, func(t *testing.T, w *world) {
		for name, tc := range map[string]struct {
			change func(*migrate.Request)
			want   error
		}{
			"no route":                  {func(r *migrate.Request) { r.Migration.Route = "" }, raftstore.ErrInvalid},
			"a route that is not there": {func(r *migrate.Request) { r.Migration.Route = "x" }, raftstore.ErrUnknownRoute},
			"a broken pattern":          {func(r *migrate.Request) { r.Jobs = []string{"[a"} }, raftstore.ErrInvalid},
			"a pattern of nobody":       {func(r *migrate.Request) { r.Jobs = []string{"x*"} }, raftstore.ErrInvalid},
			"by hand with a JobManager": {func(r *migrate.Request) { r.StopMode = raftstore.StopManual }, raftstore.ErrInvalid},
			"an address that is none":   {func(r *migrate.Request) { r.JobManager = "jm:8081" }, raftstore.ErrInvalid},
			"a directory when cancelling": {func(r *migrate.Request) {
				r.StopMode, r.SavepointDirectory = raftstore.StopCancel, "file:/sp"
			}, raftstore.ErrInvalid},
			"a directory without a scheme": {func(r *migrate.Request) { r.SavepointDirectory = "sp" }, raftstore.ErrInvalid},
			"negative waves":               {func(r *migrate.Request) { r.WaveSize = -1 }, raftstore.ErrInvalid},
			"another version's mode":       {func(r *migrate.Request) { r.StopMode = 9 }, raftstore.ErrInvalid},
		} {
			if _, err := migrate.Plan(w.View(), request(tc.change), w.run.Measures()); !errors.Is(err, tc.want) {
				t.Errorf("%s: %v, want %v", name, err, tc.want)
			}
		}
	})
}

func TestPredictionsSayHowTheyWereMade(t *testing.T) {
	inWorld(t, []string{"a"}, func(t *testing.T, w *world) {
		now := time.Now()
		predict := func(mode raftstore.StopMode, m migrate.Measures) migrate.Prediction {
			return migrate.Predict(w.View(), raftstore.MigrationJob{Job: "a", StopMode: mode}, "prod", m)
		}
		m := migrate.Measures{Poll: poll}
		p := predict(raftstore.StopSavepoint, m)
		if p.Copy != 200*time.Millisecond || *p.Delta != 10<<20 || !strings.Contains(p.How, "which is assumed") {
			t.Errorf("nothing was measured: %+v", p)
		}
		m.Copies = &migrate.Copies{}
		for range 30 { // 20 MiB in 2 s
			m.Copies.CopyEnded(agent.Copy{Route: "prod", Job: "a", Result: agent.CopyReady, Bytes: 20 << 20,
				Times: agent.CopyTimes{Started: now, FirstByte: now, Verified: now.Add(2 * time.Second), Ended: now.Add(3 * time.Second)}})
		}
		m.Copies.CopyEnded(agent.Copy{Route: "prod", Job: "a", Result: agent.CopyFailed, Bytes: 1 << 40})
		if p = predict(raftstore.StopSavepoint, m); p.Copy != time.Second || p.Total != p.Stop+poll+time.Second+p.Publish {
			t.Errorf("measured: %+v", p)
		}
		if want := "1.6s to stop it, a poll of 1s to find it, 10.0 MiB of savepoint (the whole state) at 10.0 MiB/s, as the route's copies before"; p.How != want {
			t.Errorf("%s\nwant %s", p.How, want)
		}
		p = predict(raftstore.StopCancel, m)
		if p.Copy != copyTime || *p.Delta != 20<<20 || p.Total != 500*time.Millisecond+3500*time.Millisecond+p.Publish || !strings.Contains(p.How, "as the newest 1 checkpoints were, 400ms for 20.0 MiB") {
			t.Errorf("a cancel: %+v", p)
		}
		w.propose(&raftv1.Command{Op: &raftv1.Command_PutRoute{PutRoute: &raftv1.PutRoute{Route: &ckptferryv1.Route{
			Name: "prod", FromDatacenter: "dc1", FromExport: "prod", Root: "file:/replicas", Mode: ckptferryv1.RouteMode_ROUTE_MODE_CONTINUOUS, BytesPerSecond: 1 << 20,
		}}}})
		if p = predict(raftstore.StopSavepoint, m); p.Copy != 10*time.Second || !strings.Contains(p.How, "the route's limit") {
			t.Errorf("a limit: %+v", p)
		}
	})
}

func TestStopsOfOneMigrationPredictTheNext(t *testing.T) {
	inWorld(t, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.start(withHook, "a")
		w.until("DONE", func() bool { return w.state() == raftstore.MigrationDone })
		p := migrate.Predict(w.View(), raftstore.MigrationJob{Job: "b", StopMode: raftstore.StopSavepoint}, "prod", w.run.Measures())
		if took := w.job("a").StoppedAt.Sub(w.job("a").StoppingAt); p.Stop != took || !strings.Contains(p.How, "as the jobs before") {
			t.Errorf("a took %s to stop; %+v", took, p)
		}
	})
}

func TestALongCutoverIsWaitedFor(t *testing.T) {
	inWorld(t, []string{"a"}, func(t *testing.T, w *world) {
		w.start(func(r *migrate.Request) { r.Migration.MaxCutover = time.Second })
		w.pass(time.Minute)
		if j := w.job("a"); j.State != raftstore.MigrationJobWarming || !strings.Contains(j.Problem, "longer than 1s (--max-cutover)") {
			t.Fatalf("%+v", j)
		}
	})
}
