package rpc

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/migrate"
)

// newMigrations are an agent's, of which nothing is carried out.
func newMigrations(t *testing.T, id string, store *raftstore.Store) Migrations {
	t.Helper()
	r, err := migrate.New(migrate.Config{
		ID: id, Group: store, Poll: time.Second, Hooks: map[string][]string{"flink": {"/bin/true"}},
		Dial:    func(string) (migrate.JobManager, error) { panic("nobody asks") },
		Promote: func(context.Context, migrate.Promotion) error { panic("nobody asks") },
		Run:     func(context.Context, migrate.Hook) error { panic("nobody asks") },
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestMigrationsAreMadeAtAnyAgentAndSeenAtAll(t *testing.T) {
	nodes := newRaftGroup(t, nil)
	leader, follower := leading(t, nodes)
	key := &ckptferryv1.CheckpointKey{Route: "prod", JobId: strings.Repeat("a", 32), CheckpointId: 7, MetadataCrc32C: 1}
	fence := &raftv1.Fence{Attempt: 1}
	for _, cmd := range []*raftv1.Command{
		{Op: &raftv1.Command_PutRoute{PutRoute: &raftv1.PutRoute{Route: &ckptferryv1.Route{
			Name: "prod", FromDatacenter: "dc0", FromExport: "prod", Root: "file:/r", Mode: ckptferryv1.RouteMode_ROUTE_MODE_CONTINUOUS}}}},
		{Op: &raftv1.Command_ObserveSource{ObserveSource: &raftv1.ObserveSource{Route: "prod", SeenTime: timestamppb.Now(), Found: []*ckptferryv1.FoundCheckpoint{{
			Seq: 1, Job: "orders", JobId: key.GetJobId(), CheckpointId: 7, MetadataCrc32C: 1, Uri: "file:/cp/orders/" + key.GetJobId() + "/chk-7",
			Kind: ckptferryv1.CheckpointKind_CHECKPOINT_KIND_CHECKPOINT, CompletedTime: timestamppb.Now(), FileCount: 1, TotalBytes: 10,
		}}}}},
		{Op: &raftv1.Command_PlanReplica{PlanReplica: &raftv1.PlanReplica{Key: key, Fence: fence, Job: "orders", Uri: "file:/r/chk-7"}}},
		{Op: &raftv1.Command_StartCopy{StartCopy: &raftv1.StartCopy{Key: key, Fence: fence}}},
		{Op: &raftv1.Command_MarkReady{MarkReady: &raftv1.MarkReady{Key: key, Fence: fence, FileCount: 1, TotalBytes: 10}}},
	} {
		if err := leader.store.Propose(t.Context(), cmd); err != nil {
			t.Fatal(err)
		}
	}
	c := dialAPI(t, follower.api)
	req := &ckptferryv1.PlanMigrationRequest{
		Migration: &ckptferryv1.Migration{Name: "spring", Route: "prod", StartHook: "flink", MaxCutover: durationpb.New(time.Minute), Actor: "somebody else"},
		Jobs:      []string{"ord*"}, Jobmanager: "http://{job}:8081",
	}
	plan, err := c.PlanMigration(t.Context(), req)
	if err != nil || len(plan.GetJobs()) != 1 || plan.GetTotal().AsDuration() <= 0 {
		t.Fatalf("PlanMigration = %v, %v", plan, err)
	}
	p := plan.GetJobs()[0]
	if p.GetBlocked() != "" || p.GetDeltaBytes() != 10 || p.GetJob().GetJobmanager() != "http://orders:8081" || p.GetJob().GetPredictedCutover() == nil || p.GetPrediction() == "" {
		t.Errorf("planned: %v", p)
	}
	begun, err := c.StartMigration(t.Context(), &ckptferryv1.StartMigrationRequest{Plan: req})
	if err != nil || begun.GetMigration().GetState() != ckptferryv1.MigrationState_MIGRATION_STATE_RUNNING || begun.GetMigration().GetActor() != "plaintext" {
		t.Fatalf("StartMigration = %v, %v", begun, err)
	}
	if _, err := c.StartMigration(t.Context(), &ckptferryv1.StartMigrationRequest{Plan: req}); err != nil {
		t.Errorf("begun twice: %v", err)
	}
	paused, err := c.SetMigrationState(t.Context(), &ckptferryv1.SetMigrationStateRequest{Name: "spring", State: ckptferryv1.MigrationState_MIGRATION_STATE_PAUSED})
	if err != nil || paused.GetMigration().GetState() != ckptferryv1.MigrationState_MIGRATION_STATE_PAUSED {
		t.Errorf("SetMigrationState = %v, %v", paused, err)
	}
	for _, n := range nodes {
		eventually(t, "agent "+n.id+" shows it", func() bool {
			at := dialAPI(t, n.api)
			one, err := at.Migration(t.Context(), &ckptferryv1.GetMigrationRequest{Name: "spring"})
			all, listed := at.Migrations(t.Context())
			return err == nil && listed == nil && len(one.GetJobs()) == 1 && one.GetMigration().GetState() == ckptferryv1.MigrationState_MIGRATION_STATE_PAUSED && len(all.GetMigrations()) == 1
		})
	}
	_, err = c.ReportMigrationJob(t.Context(), &ckptferryv1.ReportMigrationJobRequest{Name: "spring", Job: "orders", State: ckptferryv1.MigrationJobState_MIGRATION_JOB_STATE_STARTED})
	wantErr(t, "a job that is not READY was not started", err, ErrRefused)
	_, err = c.Migration(t.Context(), &ckptferryv1.GetMigrationRequest{Name: "autumn"})
	wantErr(t, "nobody's migration", err, ErrNotFound)
	_, err = c.SetMigrationState(t.Context(), &ckptferryv1.SetMigrationStateRequest{Name: "spring", State: ckptferryv1.MigrationState_MIGRATION_STATE_DONE})
	wantErr(t, "only the agents say DONE", err, ErrInvalid)
	req.Jobs = []string{"nobody"}
	req.Migration.Name = "autumn"
	_, err = c.StartMigration(t.Context(), &ckptferryv1.StartMigrationRequest{Plan: req})
	wantErr(t, "a job that is blocked", err, ErrRefused)
}
