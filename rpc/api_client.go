package rpc

import (
	"context"
	"fmt"

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

// Status asks what the agent is and does.
func (c *Client) Status(ctx context.Context) (*ckptferryv1.GetStatusResponse, error) {
	answer, err := ckptferryv1.NewAgentServiceClient(c.conn).GetStatus(ctx, &ckptferryv1.GetStatusRequest{})
	return answer, apiError(ctx, err)
}
