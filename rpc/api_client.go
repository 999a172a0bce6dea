package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// Client asks one agent. Its errors wrap ErrUnavailable, ErrNotLeader, ErrDenied, ErrInvalid, ErrNotFound, ErrRefused
// or the error of ctx, and end in the reason in brackets. It is safe for concurrent use.
type Client struct{ conn *grpc.ClientConn }

// DialAPI prepares to ask the agent at host:port; files is nil for plaintext. It connects at the first question. With
// TLS the agent's certificate must be for that host, and be signed by the CA. What is configured wrongly is ErrInvalid.
func DialAPI(_ context.Context, endpoint string, files *TLS) (*Client, error) {
	creds := insecure.NewCredentials()
	if files != nil {
		config, err := files.person()
		if err != nil {
			return nil, fmt.Errorf("dial %s: %w: %w", endpoint, ErrInvalid, err)
		}
		creds = credentials.NewTLS(config)
	}
	conn, err := grpc.NewClient("passthrough:///"+endpoint,
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswerBytes), grpc.MaxCallSendMsgSize(maxCallBytes)),
		grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w: %w", endpoint, ErrInvalid, err)
	}
	return &Client{conn}, nil
}

// maxAnswerBytes bounds an answer of the API: the lag of 10,000 jobs is in one.
const maxAnswerBytes = 64 << 20

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Lag asks how far jobs' replicas are behind.
func (c *Client) Lag(ctx context.Context, req *ckptferryv1.GetReplicaLagRequest) (*ckptferryv1.GetReplicaLagResponse, error) {
	answer, err := ckptferryv1.NewReplicaServiceClient(c.conn).GetReplicaLag(ctx, req)
	return answer, apiError(ctx, err)
}

// Replicas asks for one page of the replicas.
func (c *Client) Replicas(ctx context.Context, req *ckptferryv1.ListReplicasRequest) (*ckptferryv1.ListReplicasResponse, error) {
	answer, err := ckptferryv1.NewReplicaServiceClient(c.conn).ListReplicas(ctx, req)
	return answer, apiError(ctx, err)
}

// Routes asks for all exports and routes.
func (c *Client) Routes(ctx context.Context) (*ckptferryv1.ListRoutesResponse, error) {
	answer, err := ckptferryv1.NewRouteServiceClient(c.conn).ListRoutes(ctx, &ckptferryv1.ListRoutesRequest{})
	return answer, apiError(ctx, err)
}

// ApplyRoutes sets exports and routes. Only the leader does: ErrNotLeader otherwise.
func (c *Client) ApplyRoutes(ctx context.Context, req *ckptferryv1.ApplyRoutesRequest) (*ckptferryv1.ApplyRoutesResponse, error) {
	answer, err := ckptferryv1.NewRouteServiceClient(c.conn).ApplyRoutes(ctx, req)
	return answer, apiError(ctx, err)
}

// RemoveRoutes forgets exports and routes. Only the leader does: ErrNotLeader otherwise.
func (c *Client) RemoveRoutes(ctx context.Context, req *ckptferryv1.RemoveRoutesRequest) (*ckptferryv1.RemoveRoutesResponse, error) {
	answer, err := ckptferryv1.NewRouteServiceClient(c.conn).RemoveRoutes(ctx, req)
	return answer, apiError(ctx, err)
}

// Status asks what the agent is and does.
func (c *Client) Status(ctx context.Context) (*ckptferryv1.GetStatusResponse, error) {
	answer, err := ckptferryv1.NewAgentServiceClient(c.conn).GetStatus(ctx, &ckptferryv1.GetStatusRequest{})
	return answer, apiError(ctx, err)
}

// WatchReplicas calls each with all replicas that the filter lets through, and then with changes and signs of life, until
// ctx ends, each fails (its error is returned), or the stream breaks (ErrUnavailable). There is no cursor: another call
// starts from nothing.
func (c *Client) WatchReplicas(ctx context.Context, req *ckptferryv1.WatchReplicasRequest, each func(*ckptferryv1.WatchReplicasResponse) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream
	stream, err := ckptferryv1.NewReplicaServiceClient(c.conn).WatchReplicas(ctx, req)
	if err != nil {
		return apiError(ctx, err)
	}
	for {
		answer, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF): // a watch has none
			return fmt.Errorf("watch replicas: %w: the agent ended the stream", ErrUnavailable)
		case err != nil:
			return apiError(ctx, err)
		}
		if err := each(answer); err != nil {
			return err
		}
	}
}

// PinReplica keeps a READY replica, or stops keeping it.
func (c *Client) PinReplica(ctx context.Context, req *ckptferryv1.PinReplicaRequest) (*ckptferryv1.PinReplicaResponse, error) {
	answer, err := ckptferryv1.NewReplicaServiceClient(c.conn).PinReplica(ctx, req)
	return answer, apiError(ctx, err)
}

// Checkpoints asks for one page of what an export has, or a route's source.
func (c *Client) Checkpoints(ctx context.Context, req *ckptferryv1.ListCheckpointsRequest) (*ckptferryv1.ListCheckpointsResponse, error) {
	answer, err := ckptferryv1.NewCheckpointServiceClient(c.conn).ListCheckpoints(ctx, req)
	return answer, apiError(ctx, err)
}
