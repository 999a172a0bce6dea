package rpc

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/migrate"
)

// Migrations begins and changes migrations at the leader, and may say raftstore.ErrNotLeader; *migrate.Runner is the one
// of the product.
type Migrations interface {
	Measures() migrate.Measures
	Start(ctx context.Context, req migrate.Request) error
	SetState(ctx context.Context, name string, to raftstore.MigrationState, actor string) error
	Report(ctx context.Context, name, job string, to raftstore.MigrationJobState) error
}

// migration answers MigrationService.
type migration struct {
	ckptferryv1.UnimplementedMigrationServiceServer
	*Server
}

// PlanMigration implements ckptferryv1.MigrationServiceServer. The leader answers: it has measured its copies.
func (s *migration) PlanMigration(ctx context.Context, req *ckptferryv1.PlanMigrationRequest) (*ckptferryv1.PlanMigrationResponse, error) {
	if s.cfg.Migrations == nil {
		return s.UnimplementedMigrationServiceServer.PlanMigration(ctx, req)
	}
	view := s.cfg.Group.View()
	plan, err := migrate.Plan(view, migrationRequest(req, ""), s.cfg.Migrations.Measures())
	if err != nil {
		return nil, err
	}
	answer := &ckptferryv1.PlanMigrationResponse{Total: durationpb.New(plan.Total), Read: s.readContext(snapshot{index: view.AppliedIndex})}
	for _, p := range plan.Jobs {
		p.Job.PredictedCutover = p.Prediction.Total
		answer.Jobs = append(answer.Jobs, &ckptferryv1.PlannedJob{
			Job: raftstore.MigrationJobMessage(p.Job), Blocked: p.Blocked, Prediction: p.Prediction.How, DeltaBytes: p.Prediction.Delta,
		})
	}
	return answer, nil
}

func migrationRequest(req *ckptferryv1.PlanMigrationRequest, actor string) migrate.Request {
	m := raftstore.MigrationOf(req.GetMigration())
	m.Actor = actor
	return migrate.Request{
		Migration: m, Jobs: req.GetJobs(), WaveSize: int(req.GetWaveSize()), StopMode: raftstore.StopMode(req.GetStopMode()),
		JobManager: req.GetJobmanager(), SavepointDirectory: req.GetSavepointDirectory(),
	}
}

// StartMigration implements ckptferryv1.MigrationServiceServer.
func (s *migration) StartMigration(ctx context.Context, req *ckptferryv1.StartMigrationRequest) (*ckptferryv1.StartMigrationResponse, error) {
	if s.cfg.Migrations == nil {
		return s.UnimplementedMigrationServiceServer.StartMigration(ctx, req)
	}
	actor, err := actorOf(ctx)
	if err != nil {
		return nil, err
	}
	asked := migrationRequest(req.GetPlan(), actor)
	if err := s.cfg.Migrations.Start(ctx, asked); err != nil {
		return nil, s.namesLeader(err)
	}
	view := s.cfg.Group.View()
	m, jobs, err := migrationOf(view, asked.Migration.Name)
	if err != nil {
		return nil, err
	}
	return &ckptferryv1.StartMigrationResponse{Migration: m, Jobs: jobs}, nil
}

// SetMigrationState implements ckptferryv1.MigrationServiceServer.
func (s *migration) SetMigrationState(ctx context.Context, req *ckptferryv1.SetMigrationStateRequest) (*ckptferryv1.SetMigrationStateResponse, error) {
	if s.cfg.Migrations == nil {
		return s.UnimplementedMigrationServiceServer.SetMigrationState(ctx, req)
	}
	actor, err := actorOf(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.cfg.Migrations.SetState(ctx, req.GetName(), raftstore.MigrationState(req.GetState()), actor); err != nil {
		return nil, s.namesLeader(err)
	}
	m, _, err := migrationOf(s.cfg.Group.View(), req.GetName())
	if err != nil {
		return nil, err
	}
	return &ckptferryv1.SetMigrationStateResponse{Migration: m}, nil
}

// ReportMigrationJob implements ckptferryv1.MigrationServiceServer.
func (s *migration) ReportMigrationJob(ctx context.Context, req *ckptferryv1.ReportMigrationJobRequest) (*ckptferryv1.ReportMigrationJobResponse, error) {
	if s.cfg.Migrations == nil {
		return s.UnimplementedMigrationServiceServer.ReportMigrationJob(ctx, req)
	}
	if err := s.cfg.Migrations.Report(ctx, req.GetName(), req.GetJob(), raftstore.MigrationJobState(req.GetState())); err != nil {
		return nil, s.namesLeader(err)
	}
	view := s.cfg.Group.View()
	j, ok := view.MigrationJob(req.GetName(), req.GetJob())
	if !ok {
		return nil, fmt.Errorf("job %q of migration %q: %w", req.GetJob(), req.GetName(), ErrNotFound)
	}
	return &ckptferryv1.ReportMigrationJobResponse{Job: migrationJob(view, j)}, nil
}

// GetMigration implements ckptferryv1.MigrationServiceServer. Any agent answers, from its own view.
func (s *migration) GetMigration(_ context.Context, req *ckptferryv1.GetMigrationRequest) (*ckptferryv1.GetMigrationResponse, error) {
	view := s.cfg.Group.View()
	m, jobs, err := migrationOf(view, req.GetName())
	if err != nil {
		return nil, err
	}
	return &ckptferryv1.GetMigrationResponse{Migration: m, Jobs: jobs, Read: s.readContext(snapshot{index: view.AppliedIndex})}, nil
}

// ListMigrations implements ckptferryv1.MigrationServiceServer.
func (s *migration) ListMigrations(context.Context, *ckptferryv1.ListMigrationsRequest) (*ckptferryv1.ListMigrationsResponse, error) {
	view := s.cfg.Group.View()
	answer := &ckptferryv1.ListMigrationsResponse{Read: s.readContext(snapshot{index: view.AppliedIndex})}
	for _, m := range view.Migrations() {
		answer.Migrations = append(answer.Migrations, raftstore.MigrationMessage(m))
	}
	return answer, nil
}

// migrationOf is a migration with its jobs, by wave and job.
func migrationOf(view raftstore.View, name string) (*ckptferryv1.Migration, []*ckptferryv1.MigrationJob, error) {
	m, ok := view.Migration(name)
	if !ok {
		return nil, nil, fmt.Errorf("%w: %q", raftstore.ErrUnknownMigration, name)
	}
	all := view.MigrationJobs(name)
	slices.SortStableFunc(all, func(a, b raftstore.MigrationJob) int {
		return cmp.Or(cmp.Compare(a.Wave, b.Wave), strings.Compare(a.Job, b.Job))
	})
	var jobs []*ckptferryv1.MigrationJob
	for _, j := range all {
		jobs = append(jobs, migrationJob(view, j))
	}
	return raftstore.MigrationMessage(m), jobs, nil
}

// migrationJob is a job as it is answered: with its start line, once it can be started.
func migrationJob(view raftstore.View, j raftstore.MigrationJob) *ckptferryv1.MigrationJob {
	m := raftstore.MigrationJobMessage(j)
	if j.Key.Route == "" {
		return m
	}
	m.TotalBytes = proto.Int64(j.Bytes)
	if line, err := migrate.StartLine(view, j); err == nil {
		m.StartLine = line.Run // of a replica that is forgotten there is none
	}
	return m
}
