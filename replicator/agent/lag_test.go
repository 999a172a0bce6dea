package agent

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// state is a group's state that a test brings to a point with commands. Its clock stands at noon.
type state struct {
	t     testing.TB
	store *raftstore.Store
}

func newState(t testing.TB) *state {
	t.Helper()
	store, err := raftstore.Open(raftstore.Config{Group: "dc2", ID: "a", Dir: t.TempDir(), Peers: []raftstore.Peer{{ID: "a"}}, Now: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &state{t, store}
	for began := time.Now(); store.Role() != "leader"; {
		if time.Since(began) > time.Minute {
			t.Fatal("no leader")
		}
		time.Sleep(10 * time.Millisecond) // until one voter has elected itself
	}
	s.route(raftstore.Route{Name: "prod", FromDC: "dc1", FromExport: "prod", Root: "file:/replicas", Mode: raftstore.RouteContinuous})
	return s
}

func (s *state) do(cmd *raftv1.Command) {
	s.t.Helper()
	if err := s.store.Propose(s.t.Context(), cmd); err != nil {
		s.t.Fatal(err)
	}
}

func (s *state) route(r raftstore.Route) {
	s.t.Helper()
	s.do(&raftv1.Command{Op: &raftv1.Command_PutRoute{PutRoute: &raftv1.PutRoute{Route: raftstore.RouteMessage(r)}}})
}

// observe makes checkpoints known, and the source seen at a time.
func (s *state) observe(seen time.Time, found ...raftstore.Found) {
	s.t.Helper()
	c := &raftv1.ObserveSource{Route: "prod"}
	if !seen.IsZero() {
		c.SeenTime = timestamppb.New(seen)
	}
	for _, f := range found {
		c.Found = append(c.Found, raftstore.FoundMessage(f))
	}
	s.do(&raftv1.Command{Op: &raftv1.Command_ObserveSource{ObserveSource: c}})
}

// replica brings a checkpoint's replica to a status.
func (s *state) replica(f raftstore.Found, status raftstore.Status) {
	s.t.Helper()
	key, fence := keyMessage(keyOf("prod", f)), fenceMessage(raftstore.Fence{Attempt: 1})
	s.do(&raftv1.Command{Op: &raftv1.Command_PlanReplica{PlanReplica: &raftv1.PlanReplica{Key: key, Fence: fence, Job: f.Job, Uri: "file:/replicas/" + label(f),
		CompletedTime: timestamppb.New(f.CompletedAt)}}})
	switch status {
	case raftstore.StatusCopying:
		s.do(&raftv1.Command{Op: &raftv1.Command_StartCopy{StartCopy: &raftv1.StartCopy{Key: key, Fence: fence}}})
	case raftstore.StatusReady:
		s.do(&raftv1.Command{Op: &raftv1.Command_StartCopy{StartCopy: &raftv1.StartCopy{Key: key, Fence: fence}}})
		s.do(&raftv1.Command{Op: &raftv1.Command_MarkReady{MarkReady: &raftv1.MarkReady{Key: key, Fence: fence}}})
	case raftstore.StatusFailed:
		s.do(&raftv1.Command{Op: &raftv1.Command_FailReplica{FailReplica: &raftv1.FailReplica{Key: key, Fence: fence, Reason: "the disk is full"}}})
	case raftstore.StatusSuperseded:
		s.do(&raftv1.Command{Op: &raftv1.Command_SupersedeReplica{SupersedeReplica: &raftv1.SupersedeReplica{Key: key, Fence: fence, Reason: "a file is gone"}}})
	}
}

// atRisk has a checkpoint copied beside one that Flink claimed.
func (s *state) atRisk(f raftstore.Found) {
	s.t.Helper()
	s.replica(f, raftstore.StatusCopying)
	o := outcome{want: want{key: keyOf("prod", f)}, kind: endedReady}
	s.do(o.command(raftstore.Fence{Attempt: 1}, replicator.Result{AtRisk: "Flink claimed another"}, noon))
}

// chkAt is checkpoint n of job a, completed so long before noon.
func chkAt(n int64, age time.Duration) raftstore.Found {
	return raftstore.Found{Seq: uint64(n), Job: "a", JobID: jobA, CheckpointID: n, URI: fmt.Sprintf("file:/cp/a/%s/chk-%d", jobA, n), CompletedAt: noon.Add(-age), Files: 1, Bytes: 1000 * n}
}

func saveAt(n int64, age time.Duration) raftstore.Found {
	f := chkAt(n, age)
	f.JobID, f.Savepoint, f.URI = "", true, fmt.Sprintf("file:/sp/a/savepoint-aaaaaa-%d", n)
	return f
}

func TestLag(t *testing.T) {
	const seconds, minutes = time.Second, time.Minute
	for name, tc := range map[string]struct {
		set               func(s *state)
		state             LagState
		time, rpo         time.Duration // -1: not known
		checkpoints, byte int64
		source, ready     int64 // -1: none
		says              string
	}{
		"caught up is zero, and says so with nothing": {
			func(s *state) {
				s.observe(noon.Add(-3*seconds), chkAt(1, 90*seconds))
				s.replica(chkAt(1, 90*seconds), raftstore.StatusReady)
			}, CaughtUp, 0, 90 * seconds, 0, 0, 1, 1, ""},
		"an idle job is caught up for ever": {
			func(s *state) {
				s.observe(noon, chkAt(1, 1000*time.Hour))
				s.replica(chkAt(1, 1000*time.Hour), raftstore.StatusReady)
			}, CaughtUp, 0, 1000 * time.Hour, 0, 0, 1, 1, ""},
		"what is at risk is no replica": {
			func(s *state) {
				s.observe(noon, chkAt(1, 90*seconds), chkAt(2, 40*seconds))
				s.replica(chkAt(1, 90*seconds), raftstore.StatusReady)
				s.atRisk(chkAt(2, 40*seconds))
			}, Behind, 40 * seconds, 90 * seconds, 1, 2000, 2, 1, "chk-2 was copied and is AT_RISK, never offered"},
		"and nothing else is here": {
			func(s *state) {
				s.observe(noon, chkAt(2, 40*seconds))
				s.atRisk(chkAt(2, 40*seconds))
			}, NoReplica, -1, -1, 1, 2000, 2, -1, "A restart of the job at its source"},
		"behind since the oldest that it lacks": {
			func(s *state) {
				s.observe(noon, chkAt(1, 90*seconds), chkAt(2, 40*seconds), chkAt(3, 10*seconds))
				s.replica(chkAt(1, 90*seconds), raftstore.StatusReady)
			}, Behind, 40 * seconds, 90 * seconds, 2, 3000, 3, 1, "chk-3 (2.9 KiB) waits for its turn, found 10s ago"},
		"while the newest is copied": {
			func(s *state) {
				s.observe(noon, chkAt(1, 90*seconds), chkAt(2, 40*seconds))
				s.replica(chkAt(1, 90*seconds), raftstore.StatusReady)
				s.replica(chkAt(2, 40*seconds), raftstore.StatusCopying)
			}, Behind, 40 * seconds, 90 * seconds, 1, 2000, 2, 1, "chk-2 (2.0 KiB) has been copied for 0s, attempt 1"},
		"while one that was overtaken is copied": {
			func(s *state) {
				s.observe(noon, chkAt(2, 40*seconds), chkAt(3, 10*seconds))
				s.replica(chkAt(2, 40*seconds), raftstore.StatusCopying)
			}, NoReplica, -1, -1, 2, 3000, 3, -1, "attempt 1; chk-3 comes after it"},
		"after a failure": {
			func(s *state) {
				s.observe(noon, chkAt(1, 90*seconds), chkAt(2, 40*seconds))
				s.replica(chkAt(1, 90*seconds), raftstore.StatusReady)
				s.replica(chkAt(2, 40*seconds), raftstore.StatusFailed)
			}, Behind, 40 * seconds, 90 * seconds, 1, 2000, 2, 1, "chk-2 failed, attempt 1: the disk is full. It is tried again"},
		"after it was deleted at the source": {
			func(s *state) {
				s.observe(noon, chkAt(2, 40*seconds))
				s.replica(chkAt(2, 40*seconds), raftstore.StatusSuperseded)
			}, NoReplica, -1, -1, 1, 2000, 2, -1, "a file is gone. The next checkpoint is taken when it is found; if this repeats, raise Flink's state.checkpoints.num-retained"},
		"no replica is not zero lag": {
			func(s *state) { s.observe(noon, chkAt(1, 90*seconds)) }, NoReplica, -1, -1, 1, 1000, 1, -1, "waits for its turn"},
		"a source that is silent makes it grow": {
			func(s *state) {
				s.observe(noon.Add(-5*minutes), chkAt(1, 6*minutes))
				s.replica(chkAt(1, 6*minutes), raftstore.StatusReady)
			}, SourceSilent, 5 * minutes, 6 * minutes, 0, 0, 1, 1, "source dc1 has not been heard of for 5m0s: look at the status of the agents in dc1"},
		"silent for just as long as is allowed is not silent": {
			func(s *state) {
				s.observe(noon.Add(-30*seconds), chkAt(1, 6*minutes))
				s.replica(chkAt(1, 6*minutes), raftstore.StatusReady)
			}, CaughtUp, 0, 6 * minutes, 0, 0, 1, 1, ""},
		"silent and behind is the longer of the two": {
			func(s *state) {
				s.observe(noon.Add(-2*minutes), chkAt(1, 9*minutes), chkAt(2, 7*minutes))
				s.replica(chkAt(1, 9*minutes), raftstore.StatusReady)
				s.replica(chkAt(2, 7*minutes), raftstore.StatusFailed)
			}, SourceSilent, 7 * minutes, 9 * minutes, 1, 2000, 2, 1, "not been heard of for 2m0s: look at the status of the agents in dc1, and at the link to them; chk-2 failed"},
		"never heard of": {
			func(s *state) {
				s.observe(time.Time{}, chkAt(1, 2*minutes))
				s.replica(chkAt(1, 2*minutes), raftstore.StatusReady)
			}, SourceSilent, 2 * minutes, 2 * minutes, 0, 0, 1, 1, "source dc1 has never been heard of"},
		"a source's clock that is ahead is not negative": {
			func(s *state) {
				s.observe(noon.Add(seconds), chkAt(1, -1*minutes), chkAt(2, -2*minutes))
				s.replica(chkAt(1, -1*minutes), raftstore.StatusReady)
			}, Behind, 0, 0, 1, 2000, 2, 1, "chk-2"},
		"more than the state remembers is never said to be less": {
			func(s *state) {
				s.observe(noon, chkAt(1, 30*minutes))
				s.replica(chkAt(1, 30*minutes), raftstore.StatusReady)
				for n := range int64(raftstore.KeepFound + 5) {
					s.observe(noon, chkAt(2+n, 13*seconds-time.Duration(n)*seconds))
				}
			}, Behind, 30 * minutes, 30 * minutes, raftstore.KeepFound, 14000, 14, 1, "chk-14"},
		"a savepoint that is newest counts": {
			func(s *state) {
				s.observe(noon, chkAt(1, 90*seconds), saveAt(2, 40*seconds))
				s.replica(chkAt(1, 90*seconds), raftstore.StatusReady)
			}, Behind, 40 * seconds, 90 * seconds, 1, 2000, 2, 1, "savepoint-aaaaaa-2 (2.0 KiB) waits"},
		"a savepoint that is older does not": {
			func(s *state) {
				s.observe(noon, saveAt(1, 90*seconds), chkAt(2, 40*seconds))
				s.replica(chkAt(2, 40*seconds), raftstore.StatusReady)
			}, CaughtUp, 0, 40 * seconds, 0, 0, 2, 2, ""},
		"paused": {
			func(s *state) {
				s.observe(noon, chkAt(1, 90*seconds))
				s.route(raftstore.Route{Name: "prod", FromDC: "dc1", FromExport: "prod", Root: "file:/replicas", Mode: raftstore.RoutePaused})
			}, NoReplica, -1, -1, 1, 1000, 1, -1, "route prod is paused: `ckptferry route resume prod` to go on"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newState(t)
				tc.set(s)
				lags := Lags(s.store.View(), noon, 30*seconds)
				if len(lags) != 1 {
					t.Fatalf("lag %+v", lags)
				}
				l := lags[0]
				if l.Route != "prod" || l.Job != "a" || l.State != tc.state || valueOf(l.TimeLag) != tc.time || valueOf(l.RPO) != tc.rpo {
					t.Errorf("state %d, time lag %s, RPO %s; want %d, %s, %s", l.State, valueOf(l.TimeLag), valueOf(l.RPO), tc.state, tc.time, tc.rpo)
				}
				if *l.Checkpoints != tc.checkpoints || *l.Bytes != tc.byte || valueOf(l.SourceCheckpoint) != tc.source || valueOf(l.ReadyCheckpoint) != tc.ready {
					t.Errorf("checkpoints %d, bytes %d, source %d, ready %d", *l.Checkpoints, *l.Bytes, valueOf(l.SourceCheckpoint), valueOf(l.ReadyCheckpoint))
				}
				if !strings.Contains(l.Reason, tc.says) || (l.Reason == "") != (tc.says == "") {
					t.Errorf("reason %q, want %q", l.Reason, tc.says)
				}
				if (l.Replica == "") != (tc.ready == -1) {
					t.Errorf("replica %q", l.Replica)
				}
			})
		})
	}
}

// valueOf is -1 for what is not known.
func valueOf[T int64 | time.Duration](v *T) T {
	if v == nil {
		return -1
	}
	return *v
}

func TestARouteWhoseSourceWasNeverHeardOfHasALine(t *testing.T) {
	s := newState(t)
	lags := Lags(s.store.View(), noon, 30*time.Second)
	if len(lags) != 1 || lags[0].Route != "prod" || lags[0].Job != "" || lags[0].State != SourceSilent || lags[0].TimeLag != nil ||
		!strings.Contains(lags[0].Reason, "source dc1 has never been heard of") {
		t.Errorf("lags = %+v", lags)
	}
	s.observe(noon)
	if lags := Lags(s.store.View(), noon, 30*time.Second); len(lags) != 0 {
		t.Errorf("of a source that has nothing: %+v", lags)
	}
	if lags := Lags(s.store.View(), noon.Add(time.Minute), 30*time.Second); len(lags) != 1 || !strings.Contains(lags[0].Reason, "has not been heard of for 1m0s") {
		t.Errorf("of a source that fell silent: %+v", lags)
	}
}

func TestLagStatesHaveTheNumbersOfTheAPI(t *testing.T) {
	for state, want := range map[LagState]ckptferryv1.LagState{
		CaughtUp: ckptferryv1.LagState_LAG_STATE_CAUGHT_UP, Behind: ckptferryv1.LagState_LAG_STATE_BEHIND,
		NoReplica: ckptferryv1.LagState_LAG_STATE_NO_REPLICA, SourceSilent: ckptferryv1.LagState_LAG_STATE_SOURCE_SILENT,
	} {
		if int32(state) != int32(want) {
			t.Errorf("%d is %s", state, want)
		}
	}
}

func BenchmarkLags(b *testing.B) {
	s := newState(b)
	const jobs = 10_000
	for from := 0; from < jobs; from += 100 {
		var found []raftstore.Found
		for i := from; i < from+100; i++ {
			f := chkAt(1, time.Minute)
			f.Seq, f.Job, f.MetadataCRC = uint64(i+1), fmt.Sprintf("job-%d", i), uint32(i)
			found = append(found, f)
		}
		s.observe(noon, found...)
	}
	view := s.store.View()
	for b.Loop() {
		if n := len(Lags(view, noon, time.Minute)); n != jobs {
			b.Fatal(n)
		}
	}
}

func TestSizesAreReadable(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536 << 20: "1.5 GiB", 1<<63 - 1: "8.0 EiB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
}
