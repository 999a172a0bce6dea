package agent

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
)

// migrate sets a migration of the route, and how far the job orders is.
func (w *world) migrate(state ckptferryv1.MigrationState, job ckptferryv1.MigrationJobState) {
	w.t.Helper()
	for _, cmd := range []*raftv1.Command{
		{Op: &raftv1.Command_PutMigration{PutMigration: &raftv1.PutMigration{Migration: &ckptferryv1.Migration{Name: "move", Route: "prod", State: state, Actor: "ops"}}}},
		{Op: &raftv1.Command_PutMigrationJobs{PutMigrationJobs: &raftv1.PutMigrationJobs{Migration: "move", Jobs: []*ckptferryv1.MigrationJob{
			{Job: "orders", Wave: 1, State: job, StopMode: ckptferryv1.StopMode_STOP_MODE_MANUAL}}}}},
	} {
		if err := w.dc2.group.Propose(w.t.Context(), cmd); err != nil && !errors.Is(err, raftstore.ErrMigrationEnded) {
			w.t.Fatal(err)
		}
	}
}

func TestOnDemandARouteCopiesWhatAMigrationMoves(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.route(func(r *raftstore.Route) { r.Mode = raftstore.RouteOnDemand })
		w.pass(time.Second)
		w.chk(1)
		w.pass(time.Minute)
		if len(w.replicas()) > 0 {
			t.Errorf("without a migration: %s", w.replicas())
		}
		lags := Lags(w.dc2.store.View(), time.Now(), DefaultSilentAfter)
		if len(lags) != 1 || !strings.Contains(lags[0].Reason, "route prod is on demand") {
			t.Errorf("lag %+v", lags)
		}
		w.migrate(ckptferryv1.MigrationState_MIGRATION_STATE_RUNNING, ckptferryv1.MigrationJobState_MIGRATION_JOB_STATE_WAITING)
		w.pass(time.Minute)
		if len(w.replicas()) > 0 {
			t.Errorf("before its wave: %s", w.replicas())
		}
		w.migrate(ckptferryv1.MigrationState_MIGRATION_STATE_RUNNING, ckptferryv1.MigrationJobState_MIGRATION_JOB_STATE_WARMING)
		w.until("it is warmed", w.is("orders/chk-1 READY 1"))
		w.migrate(ckptferryv1.MigrationState_MIGRATION_STATE_PAUSED, ckptferryv1.MigrationJobState_MIGRATION_JOB_STATE_COPYING)
		w.chk(2)
		w.until("a paused migration's copies go on", w.is("orders/chk-2 READY 1"))
		w.migrate(ckptferryv1.MigrationState_MIGRATION_STATE_ABORTED, ckptferryv1.MigrationJobState_MIGRATION_JOB_STATE_COPYING)
		w.chk(3)
		w.until("what an aborted migration has stopped is copied", w.is("orders/chk-3 READY 1"))
		w.migrate(ckptferryv1.MigrationState_MIGRATION_STATE_ABORTED, ckptferryv1.MigrationJobState_MIGRATION_JOB_STATE_ABORTED)
		w.chk(4)
		w.pass(time.Minute)
		if slices.ContainsFunc(w.replicas(), func(s string) bool { return strings.Contains(s, "chk-4") }) {
			t.Errorf("after the migration: %s", w.replicas())
		}
	})
}

func TestRemovedRouteAndExport(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.chk(1)
		w.until("chk-1 is READY", w.is("orders/chk-1 READY 1"))
		held, release := w.hold(orders + "/shared/s2")
		w.chk(2)
		w.until("chk-2 is copied", held)
		remove := func(exports, routes []string, dryRun bool, want string, refused error) {
			t.Helper()
			group := w.dc2.group
			if len(exports) > 0 {
				group = w.dc1.group
			}
			changes, err := RemoveRoutes(t.Context(), group, exports, routes, dryRun)
			if strings.Join(changes, "; ") != want || !errors.Is(err, refused) {
				t.Errorf("RemoveRoutes(%q, %q) = %q, %v; want %q", exports, routes, changes, err, want)
			}
		}
		remove(nil, []string{"prod"}, false, "", raftstore.ErrRouteBusy)
		// The leader ends, and the next one comes when the route is paused: what was begun must not keep it for ever.
		w.dc2.stop()
		w.route(func(r *raftstore.Route) { r.Mode = raftstore.RoutePaused })
		w.dc2.run(t)
		release()
		w.until("nothing is in flight", w.is("orders/chk-2 FAILED 1"))
		remove(nil, []string{"prod", "nope"}, true, "route prod: removed, 2 replicas stay on record; route nope: not there", nil)
		if _, there := w.dc2.store.View().Route("prod"); !there {
			t.Error("a dry run removed the route")
		}
		remove(nil, []string{"prod"}, false, "route prod: removed, 2 replicas stay on record", nil)
		remove(nil, []string{"prod"}, false, "route prod: not there", nil)
		w.chk(3)
		w.pass(time.Minute)
		if !slices.Equal(w.replicas(), []string{"orders/chk-1 READY 1", "orders/chk-2 FAILED 1"}) {
			t.Errorf("replicas %s", w.replicas())
		}
		w.whole()
		remove([]string{"prod"}, nil, false, "export prod: removed, nobody reads it any longer", nil)
		if len(w.dc1.store.View().Exports()) > 0 || len(w.dc1.agent.Status().Exports) > 0 && w.dc1.agent.Status().Exports[0].Problem != "" {
			t.Errorf("exports %v, %+v", w.dc1.store.View().Exports(), w.dc1.agent.Status())
		}
	})
}
