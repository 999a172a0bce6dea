package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// Prune asks what retention would take away, or has it taken away now, and calls each with what goes. The sum comes at the end;
// a stream that ends without it is ErrUnavailable.
func (c *Client) Prune(ctx context.Context, req *ckptferryv1.PruneReplicasRequest, each func(*ckptferryv1.Pruned) error) (*ckptferryv1.PruneTotal, error) {
	stream, err := ckptferryv1.NewStorageServiceClient(c.conn).PruneReplicas(ctx, req)
	if err != nil {
		return nil, apiError(ctx, err)
	}
	var total *ckptferryv1.PruneTotal
	err = receiveAll(ctx, stream, func(part *ckptferryv1.PruneReplicasResponse) error {
		if t := part.GetTotal(); t != nil {
			total = t
			return nil
		}
		return each(part.GetPruned())
	})
	if err == nil && total == nil {
		err = fmt.Errorf("the answer ended before its sum: %w", ErrUnavailable)
	}
	return total, err
}

// Scrub has replicas read again, and calls each with what was seen of one.
func (c *Client) Scrub(ctx context.Context, req *ckptferryv1.ScrubReplicasRequest, each func(*ckptferryv1.ScrubReplicasResponse) error) error {
	stream, err := ckptferryv1.NewStorageServiceClient(c.conn).ScrubReplicas(ctx, req)
	if err != nil {
		return apiError(ctx, err)
	}
	return receiveAll(ctx, stream, each)
}

// RebuildCatalog has replicas that only the storage knows put on record, and calls each with what was found.
func (c *Client) RebuildCatalog(ctx context.Context, req *ckptferryv1.RebuildCatalogRequest, each func(*ckptferryv1.RebuildCatalogResponse) error) error {
	stream, err := ckptferryv1.NewStorageServiceClient(c.conn).RebuildCatalog(ctx, req)
	if err != nil {
		return apiError(ctx, err)
	}
	return receiveAll(ctx, stream, each)
}

// receiveAll calls each with all messages of a stream.
func receiveAll[T any](ctx context.Context, stream grpc.ServerStreamingClient[T], each func(*T) error) error {
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return apiError(ctx, err)
		}
		if err := each(part); err != nil {
			return err
		}
	}
}
