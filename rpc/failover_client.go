package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// FailoverPlan is a whole plan, as the parts of PlanFailover make it up.
type FailoverPlan struct {
	Items      []*ckptferryv1.FailoverItem
	ID         string
	Datacenter string // that it is for
	Read       *ckptferryv1.ReadContext
}

// PlanFailover asks for a plan, all parts of it. A stream that ends before its last part is ErrUnavailable: a plan that
// lacks jobs would look like one.
func (c *Client) PlanFailover(ctx context.Context, req *ckptferryv1.PlanFailoverRequest) (FailoverPlan, error) {
	stream, err := ckptferryv1.NewFailoverServiceClient(c.conn).PlanFailover(ctx, req)
	if err != nil {
		return FailoverPlan{}, apiError(ctx, err)
	}
	var plan FailoverPlan
	for {
		part, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF) && plan.ID == "":
			return FailoverPlan{}, fmt.Errorf("the plan ended before its last part: %w", ErrUnavailable)
		case errors.Is(err, io.EOF):
			return plan, nil
		case err != nil:
			return FailoverPlan{}, apiError(ctx, err)
		}
		plan.Items, plan.ID, plan.Read, plan.Datacenter = append(plan.Items, part.GetItems()...), part.GetPlan(), part.GetRead(), part.GetDatacenter()
	}
}

// RunFailover carries out items of a plan.
func (c *Client) RunFailover(ctx context.Context, req *ckptferryv1.RunFailoverRequest) (*ckptferryv1.RunFailoverResponse, error) {
	answer, err := ckptferryv1.NewFailoverServiceClient(c.conn).RunFailover(ctx, req)
	return answer, apiError(ctx, err)
}

// Promotions asks for one page of what is promoted.
func (c *Client) Promotions(ctx context.Context, req *ckptferryv1.ListPromotionsRequest) (*ckptferryv1.ListPromotionsResponse, error) {
	answer, err := ckptferryv1.NewFailoverServiceClient(c.conn).ListPromotions(ctx, req)
	return answer, apiError(ctx, err)
}

// AbortFailover ends promotions.
func (c *Client) AbortFailover(ctx context.Context, req *ckptferryv1.AbortFailoverRequest) (*ckptferryv1.AbortFailoverResponse, error) {
	answer, err := ckptferryv1.NewFailoverServiceClient(c.conn).AbortFailover(ctx, req)
	return answer, apiError(ctx, err)
}

// Audit asks for one page of who did what.
func (c *Client) Audit(ctx context.Context, req *ckptferryv1.ListAuditRequest) (*ckptferryv1.ListAuditResponse, error) {
	answer, err := ckptferryv1.NewAgentServiceClient(c.conn).ListAudit(ctx, req)
	return answer, apiError(ctx, err)
}
