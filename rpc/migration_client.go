package rpc

import (
	"context"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// PlanMigration asks what would be moved, and how long each job would be away.
func (c *Client) PlanMigration(ctx context.Context, req *ckptferryv1.PlanMigrationRequest) (*ckptferryv1.PlanMigrationResponse, error) {
	answer, err := ckptferryv1.NewMigrationServiceClient(c.conn).PlanMigration(ctx, req)
	return answer, apiError(ctx, err)
}

// StartMigration begins a migration.
func (c *Client) StartMigration(ctx context.Context, req *ckptferryv1.StartMigrationRequest) (*ckptferryv1.StartMigrationResponse, error) {
	answer, err := ckptferryv1.NewMigrationServiceClient(c.conn).StartMigration(ctx, req)
	return answer, apiError(ctx, err)
}

// SetMigrationState pauses, resumes or aborts a migration.
func (c *Client) SetMigrationState(ctx context.Context, req *ckptferryv1.SetMigrationStateRequest) (*ckptferryv1.SetMigrationStateResponse, error) {
	answer, err := ckptferryv1.NewMigrationServiceClient(c.conn).SetMigrationState(ctx, req)
	return answer, apiError(ctx, err)
}

// ReportMigrationJob says what an operator did with a job.
func (c *Client) ReportMigrationJob(ctx context.Context, req *ckptferryv1.ReportMigrationJobRequest) (*ckptferryv1.ReportMigrationJobResponse, error) {
	answer, err := ckptferryv1.NewMigrationServiceClient(c.conn).ReportMigrationJob(ctx, req)
	return answer, apiError(ctx, err)
}

// Migration asks for one migration with its jobs.
func (c *Client) Migration(ctx context.Context, req *ckptferryv1.GetMigrationRequest) (*ckptferryv1.GetMigrationResponse, error) {
	answer, err := ckptferryv1.NewMigrationServiceClient(c.conn).GetMigration(ctx, req)
	return answer, apiError(ctx, err)
}

// Migrations asks for all.
func (c *Client) Migrations(ctx context.Context) (*ckptferryv1.ListMigrationsResponse, error) {
	answer, err := ckptferryv1.NewMigrationServiceClient(c.conn).ListMigrations(ctx, &ckptferryv1.ListMigrationsRequest{})
	return answer, apiError(ctx, err)
}
