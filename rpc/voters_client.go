package rpc

import (
	"context"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// AddVoter lets an agent into the group. Any agent of it may be asked.
func (c *Client) AddVoter(ctx context.Context, id, address string) (*ckptferryv1.AddVoterResponse, error) {
	answer, err := ckptferryv1.NewAgentServiceClient(c.conn).AddVoter(ctx, &ckptferryv1.AddVoterRequest{Id: id, Address: address})
	return answer, apiError(ctx, err)
}

// RemoveVoter takes an agent out of the group. Any agent of it may be asked.
func (c *Client) RemoveVoter(ctx context.Context, id string) (*ckptferryv1.RemoveVoterResponse, error) {
	answer, err := ckptferryv1.NewAgentServiceClient(c.conn).RemoveVoter(ctx, &ckptferryv1.RemoveVoterRequest{Id: id})
	return answer, apiError(ctx, err)
}

// TransferLeadership has another agent lead: the one of that id, or with "" whichever has everything. Any agent of the
// group may be asked.
func (c *Client) TransferLeadership(ctx context.Context, id string) (*ckptferryv1.TransferLeadershipResponse, error) {
	answer, err := ckptferryv1.NewAgentServiceClient(c.conn).TransferLeadership(ctx, &ckptferryv1.TransferLeadershipRequest{Id: id})
	return answer, apiError(ctx, err)
}
