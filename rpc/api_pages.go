package rpc

import (
	"cmp"
	"context"
	"slices"
	"strings"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
)

const (
	pageUsual = 100
	pageMost  = 1000
)

// position is where a replica stands in the list of all, and, in a page token, the last one that was sent: what is
// added or goes meanwhile shifts no page.
type position struct {
	Route, Job   string
	CompletedAt  int64 // Unix time in nanoseconds: newest first
	CheckpointID int64
	JobID        raftstore.JobID
	MetadataCRC  uint32
}

func positionOf(r raftstore.Replica) position {
	p := position{Route: r.Key.Route, Job: r.Job, CheckpointID: r.Key.CheckpointID, JobID: r.Key.JobID, MetadataCRC: r.Key.MetadataCRC}
	if !r.CompletedAt.IsZero() {
		p.CompletedAt = r.CompletedAt.UnixNano()
	}
	return p
}

func (p position) compare(o position) int {
	return cmp.Or(
		strings.Compare(p.Route, o.Route),
		strings.Compare(p.Job, o.Job),
		cmp.Compare(o.CompletedAt, p.CompletedAt),
		cmp.Compare(o.CheckpointID, p.CheckpointID),
		strings.Compare(string(p.JobID), string(o.JobID)),
		cmp.Compare(p.MetadataCRC, o.MetadataCRC),
	)
}

// ListReplicas implements ckptferryv1.ReplicaServiceServer.
func (s *api) ListReplicas(_ context.Context, req *ckptferryv1.ListReplicasRequest) (*ckptferryv1.ListReplicasResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := tokenOf[position](req.GetPageToken())
	if err != nil {
		return nil, err
	}
	from := s.read()
	if err := s.hasApplied(from.index); err != nil {
		return nil, err
	}
	if err := s.known(from, req.GetRoute(), "", true); err != nil {
		return nil, err
	}
	replicas := slices.DeleteFunc(from.view.Replicas(), func(r raftstore.Replica) bool {
		status := ckptferryv1.ReplicaStatus(r.Status)
		return !asks(req.GetRoute(), r.Key.Route) || !asks(req.GetJob(), r.Job) ||
			len(req.GetStatuses()) > 0 && !slices.Contains(req.GetStatuses(), status) ||
			after != nil && positionOf(r).compare(*after) <= 0
	})
	slices.SortFunc(replicas, func(a, b raftstore.Replica) int { return positionOf(a).compare(positionOf(b)) })
	answer := &ckptferryv1.ListReplicasResponse{Read: s.readContext(from)}
	if len(replicas) > size {
		replicas = replicas[:size]
		answer.NextPageToken = tokenFor(positionOf(replicas[size-1]))
	}
	for _, r := range replicas {
		answer.Replicas = append(answer.Replicas, raftstore.ReplicaMessage(r))
	}
	return answer, nil
}
