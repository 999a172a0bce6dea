package migrate_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/migrate"
	"github.com/ckptferry/ckptferry/replicator/migrate/flinkrest"
)

func withHook(req *migrate.Request) { req.Migration.StartHook = "flink" }

func byCancel(req *migrate.Request) { req.StopMode = raftstore.StopCancel }

func byHand(req *migrate.Request) { req.JobManager = "" }

func TestJobsAreMovedWaveByWaveAndStarted(t *testing.T) {
	inWorld(t, []string{"a", "b", "c"}, func(t *testing.T, w *world) {
		w.start(func(req *migrate.Request) { withHook(req); req.WaveSize = 2 }, "b", "a", "c")
		w.until("all is done", func() bool { return w.state() == raftstore.MigrationDone })

		stops := w.flink.stopped()
		slices.Sort(stops[:2]) // of one wave
		if diff := cmp.Diff([]string{"a", "b", "c"}, stops); diff != "" {
			t.Errorf("stopped: %s", diff)
		}
		if a, b, c := w.job("a"), w.job("b"), w.job("c"); c.StoppingAt.Before(a.StartedAt) || c.StoppingAt.Before(b.StartedAt) {
			t.Error("a wave begins when the one before has ended")
		}
		for _, name := range []string{"a", "b", "c"} {
			j := w.job(name)
			if j.State != raftstore.MigrationJobStarted || j.StartedAt.Before(j.ReadyAt) || j.ReadyAt.Before(j.StoppedAt) || j.StoppedAt.Before(j.StoppingAt) {
				t.Errorf("%s: %+v", name, j)
			}
			if !strings.HasPrefix(j.StoppedURI, "file:/cp/"+name+"/savepoint-") || j.Bytes != 9<<20 || !strings.HasPrefix(j.Replica, "file:/replicas/savepoint-") {
				t.Errorf("%s goes on from its savepoint: %+v", name, j)
			}
			if away := j.ReadyAt.Sub(j.StoppingAt); away > 2*j.PredictedCutover || j.PredictedCutover > 5*away {
				t.Errorf("%s was away for %s, predicted %s", name, away, j.PredictedCutover)
			}
		}
		if len(w.hooked) != 3 || !strings.Contains(w.hooked[2], "CKPTFERRY_JOB=c CKPTFERRY_REPLICA="+w.job("c").Replica+" CKPTFERRY_START_LINE=flink run -s "+w.job("c").Replica+" -claimMode NO_CLAIM CKPTFERRY_CLAIM_MODE=NO_CLAIM") {
			t.Errorf("hooks: %q", w.hooked)
		}
	})
}

func TestACancelledJobGoesOnFromItsVeryLastCheckpoint(t *testing.T) {
	inWorld(t, []string{"a"}, func(t *testing.T, w *world) {
		// What Flink says first is older than what it completed last.
		w.flink.set(func() { w.flink.jobs[idOf("a")].late = true })
		w.start(byCancel)
		w.until("it is READY", w.is("a", raftstore.MigrationJobReady))
		if diff := cmp.Diff([]string{"a chk-4"}, w.promoted); diff != "" {
			t.Fatal(diff)
		}
		if j := w.job("a"); j.StoppedURI != chk("a", 4) || j.Key.CheckpointID != 4 || w.state() != raftstore.MigrationRunning {
			t.Fatalf("%s, %+v", w.state(), j)
		}
		if err := w.run.Report(t.Context(), "m", "a", raftstore.MigrationJobStarted); err != nil {
			t.Fatal(err)
		}
		w.until("it is done", func() bool { return w.state() == raftstore.MigrationDone })
	})
}

func TestALeadersDeathLosesNothing(t *testing.T) {
	for name, dies := range map[string]func(w *world){
		"before it asked for the stop that it wrote down": func(w *world) {
			w.flink.set(func() { w.flink.silent = true })
			w.until("STOPPING", w.is("a", raftstore.MigrationJobStopping))
			w.stop()
			w.flink.set(func() { w.flink.silent = false })
		},
		"after it asked": func(w *world) { w.until("a stop", func() bool { return len(w.flink.stopped()) > 0 }); w.stop() },
		"after the job had stopped, and Flink has forgotten the stop": func(w *world) {
			w.until("a stop", func() bool { return len(w.flink.stopped()) > 0 })
			w.stop()
			w.pass(2 * time.Second)
			w.flink.set(func() { w.flink.forget = true })
		},
		"while the last state is copied": func(w *world) { w.until("COPYING", w.is("a", raftstore.MigrationJobCopying)); w.stop() },
		"after it was promoted": func(w *world) {
			w.until("a promotion", func() bool { _, ok := w.View().Promotion("prod", "a"); return ok })
			w.stop()
		},
	} {
		for _, mode := range []raftstore.StopMode{raftstore.StopSavepoint, raftstore.StopCancel} {
			t.Run(fmt.Sprintf("%s, mode %d", name, mode), func(t *testing.T) {
				inWorld(t, []string{"a"}, func(t *testing.T, w *world) {
					w.start(func(req *migrate.Request) { withHook(req); req.StopMode = mode })
					dies(w)
					w.pass(3 * time.Second)
					w.succeed("dc2-b")
					w.until("it is STARTED", w.is("a", raftstore.MigrationJobStarted))
					if stops := w.flink.stopped(); len(stops) != 1 || len(w.promoted) != 1 || len(w.hooked) != 1 {
						t.Errorf("stopped %v, promoted %v, hooks %d", stops, w.promoted, len(w.hooked))
					}
				})
			})
		}
	}
}

func TestAHookRunsOnceAlsoWhenItsAgentDies(t *testing.T) {
	inWorld(t, []string{"a"}, func(t *testing.T, w *world) {
		dead := errors.New("the leader is no more")
		w.hook = func() error {
			w.breaks = func(*raftv1.Command) error { return dead } // it can't say what became of the hook
			return nil
		}
		w.start(withHook)
		w.until("the hook ran", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.hooked) == 1 })
		w.stop()
		w.mu.Lock()
		w.breaks = nil
		w.mu.Unlock()
		w.cfg.ID = "dc2-b"
		w.lead()
		w.until("somebody is told", func() bool { return strings.Contains(w.job("a").Problem, "agent dc2-a began to run the hook flink") })
		w.pass(time.Minute)
		if j := w.job("a"); j.State != raftstore.MigrationJobReady || len(w.hooked) != 1 {
			t.Fatalf("%d hooks, %+v", len(w.hooked), j)
		}
		if err := w.run.Report(t.Context(), "m", "a", raftstore.MigrationJobStarted); err != nil {
			t.Fatal(err)
		}
		w.until("DONE", func() bool { return w.state() == raftstore.MigrationDone })
	})
}

func TestAHookThatFailsIsSaidAndNotRunAgain(t *testing.T) {
	inWorld(t, []string{"a"}, func(t *testing.T, w *world) {
		w.hook = func() error { return errHook }
		w.start(withHook)
		w.until("a problem", func() bool { return w.job("a").Problem != "" && w.job("a").State == raftstore.MigrationJobReady })
		w.pass(time.Minute)
		if p := w.job("a").Problem; !strings.Contains(p, "no cluster") || !strings.Contains(p, "migrate started m a") || len(w.hooked) != 1 {
			t.Fatalf("%d hooks: %s", len(w.hooked), p)
		}
	})
}

func TestPauseAndAbortLetWhatIsStoppedFinish(t *testing.T) {
	for to, wantRest := range map[raftstore.MigrationState]raftstore.MigrationJobState{
		raftstore.MigrationPaused: raftstore.MigrationJobWarming, raftstore.MigrationAborted: raftstore.MigrationJobAborted,
	} {
		t.Run(to.String(), func(t *testing.T) {
			inWorld(t, []string{"a", "b", "c"}, func(t *testing.T, w *world) {
				w.start(withHook)
				w.until("a stops", func() bool { return slices.Contains(w.flink.stopped(), "a") })
				if err := w.run.SetState(t.Context(), "m", to, "ops"); err != nil {
					t.Fatal(err)
				}
				w.until("a is READY", func() bool { return w.job("a").State >= raftstore.MigrationJobReady })
				w.pass(time.Minute)
				if a, b := w.job("a"), w.job("b"); b.State != wantRest || len(w.flink.stopped()) != 1 || a.State == raftstore.MigrationJobFailed {
					t.Fatalf("a %s, b %s (%s), stopped %v", a.State, b.State, b.Problem, w.flink.stopped())
				}
				if to == raftstore.MigrationAborted {
					if len(w.hooked) != 0 {
						t.Error("after an abort nothing is started")
					}
					if err := w.run.SetState(t.Context(), "m", raftstore.MigrationRunning, "ops"); !errors.Is(err, raftstore.ErrMigrationEnded) {
						t.Errorf("resume after abort = %v", err)
					}
					return
				}
				if err := w.run.SetState(t.Context(), "m", raftstore.MigrationRunning, "ops"); err != nil {
					t.Fatal(err)
				}
				w.until("all is done", func() bool { return w.state() == raftstore.MigrationDone })
			})
		})
	}
}

func TestNothingIsStoppedThatCouldLoseItsState(t *testing.T) {
	inWorld(t, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.flink.set(func() { w.flink.jobs[idOf("a")].retains = false })
		w.start(byCancel)
		w.until("a fails", w.is("a", raftstore.MigrationJobFailed))
		w.pass(time.Minute)
		if p := w.job("a").Problem; !strings.Contains(p, "RETAIN_ON_CANCELLATION") || len(w.flink.stopped()) != 0 {
			t.Errorf("stopped %v: %s", w.flink.stopped(), p)
		}
		if w.state() != raftstore.MigrationPaused || w.job("b").State != raftstore.MigrationJobWarming {
			t.Errorf("what failed once must not happen to all: %s, b is %s", w.state(), w.job("b").State)
		}
		if err := w.run.SetState(t.Context(), "m", raftstore.MigrationRunning, "ops"); err != nil {
			t.Fatal(err)
		}
		w.until("b is READY", w.is("b", raftstore.MigrationJobReady))
		if err := w.run.Report(t.Context(), "m", "b", raftstore.MigrationJobStarted); err != nil {
			t.Fatal(err)
		}
		w.until("DONE", func() bool { return w.state() == raftstore.MigrationDone })
	})
}

func TestWhatGoesWrongSaysWhatToDo(t *testing.T) {
	for name, tc := range map[string]struct {
		request func(*migrate.Request)
		before  func(w *world)
		want    []string // in the problem
		stopped bool
	}{
		"the savepoint fails": {
			before: func(w *world) { w.flink.jobs[idOf("a")].failure = "Checkpoint expired before completing." },
			want:   []string{"Checkpoint expired", "It is RUNNING at the source"}, stopped: true,
		},
		"another JobManager": {
			before: func(w *world) { delete(w.flink.jobs, idOf("a")) },
			want:   []string{"it was not stopped", idOf("a")},
		},
		"no JobManager's address": {
			request: func(req *migrate.Request) { req.JobManager = "http://other" },
			want:    []string{"it was not stopped", "nobody is http://other"},
		},
		"finished by itself": {
			before: func(w *world) { w.flink.jobs[idOf("a")].state = flinkrest.Finished },
			want:   []string{"finished by itself"},
		},
		"its last state never comes": {
			before: func(w *world) { w.blockers = make(chan struct{}) },
			want:   []string{"the job is stopped", "flink run -s file:/cp/a/savepoint-", "not READY here after 10m0s", "its copy has not begun"}, stopped: true,
		},
		"its replica is not whole": {
			before: func(w *world) { w.refuse = fmt.Errorf("%w: a file is short", migrate.ErrNotPromoted) },
			want:   []string{"was not promoted", "a file is short", "file:/replicas/savepoint-"}, stopped: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, []string{"a"}, func(t *testing.T, w *world) {
				if tc.before != nil {
					w.mu.Lock()
					w.flink.set(func() { tc.before(w) })
					w.mu.Unlock()
				}
				w.start(tc.request)
				w.until("it fails", w.is("a", raftstore.MigrationJobFailed))
				for _, want := range tc.want {
					if p := w.job("a").Problem; !strings.Contains(p, want) {
						t.Errorf("%q does not say %q", p, want)
					}
				}
				if got := len(w.flink.stopped()) > 0; got != tc.stopped {
					t.Errorf("stopped: %v", got)
				}
				w.until("it is DONE: all is over", func() bool { return w.state() == raftstore.MigrationDone })
				if w.mu.Lock(); w.blockers != nil {
					close(w.blockers)
					w.blockers = nil
				}
				w.mu.Unlock()
			})
		})
	}
}

func TestAJobManagerThatIsSilentLeavesTheJobInDoubtUntilSomebodyKnows(t *testing.T) {
	for name, tc := range map[string]struct {
		report raftstore.MigrationJobState
		want   raftstore.MigrationJobState
	}{
		"it came back":     {want: raftstore.MigrationJobReady},
		"it has stopped":   {report: raftstore.MigrationJobCopying, want: raftstore.MigrationJobReady},
		"it goes on there": {report: raftstore.MigrationJobAborted, want: raftstore.MigrationJobAborted},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, []string{"a"}, func(t *testing.T, w *world) {
				w.start(nil)
				w.until("it stops", func() bool { return len(w.flink.stopped()) > 0 })
				w.flink.set(func() { w.flink.silent = true })
				w.pass(5 * time.Minute)
				if j := w.job("a"); j.State != raftstore.MigrationJobStopping || !strings.Contains(j.Problem, "connection refused") {
					t.Fatalf("%+v", j)
				}
				if tc.report == 0 {
					w.flink.set(func() { w.flink.silent = false })
				} else if err := w.run.Report(t.Context(), "m", "a", tc.report); err != nil {
					t.Fatal(err)
				}
				w.until(tc.want.String(), w.is("a", tc.want))
				if tc.want == raftstore.MigrationJobReady && !slices.Equal(w.promoted, []string{"a savepoint-" + idOf("a")[:6] + "-0123456789ab"}) {
					t.Fatal(w.promoted)
				}
			})
		})
	}
}

func TestByHandTheStorageSaysWhatWasLast(t *testing.T) {
	inWorld(t, []string{"a"}, func(t *testing.T, w *world) {
		w.start(byHand)
		w.until("it is its turn", w.is("a", raftstore.MigrationJobStopping))
		if p := w.job("a").Problem; !strings.Contains(p, "ckptferry migrate stopped m a") {
			t.Error(p)
		}
		for range 3 {
			w.checkpoint("a") // the operator takes their time
			w.pass(time.Second)
		}
		if err := w.run.Report(t.Context(), "m", "a", raftstore.MigrationJobCopying); err != nil {
			t.Fatal(err)
		}
		w.checkpoint("a") // completed before the stop, found after it
		w.until("it is READY", w.is("a", raftstore.MigrationJobReady))
		if diff := cmp.Diff([]string{"a chk-7"}, w.promoted); diff != "" {
			t.Error(diff)
		}
		if err := w.run.Report(t.Context(), "m", "a", raftstore.MigrationJobCopying); err != nil {
			t.Errorf("said twice: %v", err)
		}
	})
}

func TestStartIsIdempotentAndRefusesWhatItCannotDo(t *testing.T) {
	inWorld(t, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.start(nil, "a")
		w.start(nil, "a")
		for name, tc := range map[string]struct {
			req  migrate.Request
			want error
		}{
			"other jobs":               {request(nil, "b"), raftstore.ErrConflict},
			"other settings":           {request(func(r *migrate.Request) { r.Migration.MaxCutover = time.Minute }, "a"), raftstore.ErrConflict},
			"another address":          {request(func(r *migrate.Request) { r.JobManager = "http://jm2" }, "a"), raftstore.ErrConflict},
			"a hook that nobody knows": {request(func(r *migrate.Request) { r.Migration.StartHook = "rm" }, "a"), raftstore.ErrInvalid},
			"a job of another one":     {request(func(r *migrate.Request) { r.Migration.Name = "other" }, "a", "b"), migrate.ErrBlocked},
			"nobody's job":             {request(func(r *migrate.Request) { r.Migration.Name = "other" }, "x"), migrate.ErrBlocked},
		} {
			if err := w.run.Start(t.Context(), tc.req); !errors.Is(err, tc.want) {
				t.Errorf("%s: %v, want %v", name, err, tc.want)
			}
		}
		if n := len(w.View().Migrations()); n != 1 {
			t.Errorf("%d migrations", n)
		}
	})
}

func TestNothingIsStoppedBeforeItIsWarm(t *testing.T) {
	inWorld(t, []string{"a"}, func(t *testing.T, w *world) {
		w.mu.Lock()
		w.blockers = make(chan struct{})
		w.mu.Unlock()
		w.checkpoint("a")
		w.checkpoint("a")
		w.checkpoint("a")
		w.start(nil)
		w.pass(time.Minute)
		if j := w.job("a"); j.State != raftstore.MigrationJobWarming || !strings.Contains(j.Problem, "more than one checkpoint behind") {
			t.Fatalf("%+v", j)
		}
		before := w.View().AppliedIndex
		w.pass(time.Minute)
		if after := w.View().AppliedIndex; after-before > 61 { // the source's signs of life alone
			t.Errorf("waiting wrote %d entries a minute", after-before)
		}
		w.mu.Lock()
		close(w.blockers)
		w.blockers = nil
		w.mu.Unlock()
		w.checkpoint("a")
		w.until("it is READY", w.is("a", raftstore.MigrationJobReady))
	})
}
