package rpc

import (
	"context"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// RecordDrill keeps the result of a drill. Idempotent.
func (c *Client) RecordDrill(ctx context.Context, req *ckptferryv1.RecordDrillRequest) error {
	_, err := ckptferryv1.NewStorageServiceClient(c.conn).RecordDrill(ctx, req)
	return apiError(ctx, err)
}

// Drills asks for one page of the jobs' last drills.
func (c *Client) Drills(ctx context.Context, req *ckptferryv1.ListDrillsRequest) (*ckptferryv1.ListDrillsResponse, error) {
	answer, err := ckptferryv1.NewStorageServiceClient(c.conn).ListDrills(ctx, req)
	return answer, apiError(ctx, err)
}
