package rpc

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
)

// PinReplica implements ckptferryv1.ReplicaServiceServer.
func (s *api) PinReplica(ctx context.Context, req *ckptferryv1.PinReplicaRequest) (*ckptferryv1.PinReplicaResponse, error) {
	k := req.GetKey()
	key := raftstore.Key{Route: k.GetRoute(), JobID: raftstore.JobID(k.GetJobId()), CheckpointID: k.GetCheckpointId(), MetadataCRC: k.GetMetadataCrc32C()}
	switch {
	case s.cfg.Pin == nil:
		return nil, status.Error(codes.Unimplemented, "this agent pins nothing")
	case key.Route == "":
		return nil, fmt.Errorf("pin replica: %w: name the replica by its whole key, as ListReplicas has it", ErrInvalid)
	}
	r, err := s.cfg.Pin(ctx, key, req.GetPinned())
	if err != nil {
		return nil, s.namesLeader(err)
	}
	return &ckptferryv1.PinReplicaResponse{Replica: raftstore.ReplicaMessage(r)}, nil
}
