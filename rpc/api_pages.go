package rpc

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
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

func (p position) token() string {
	raw, _ := json.Marshal(p) // strings and numbers: never fails
	return base64.RawURLEncoding.EncodeToString(raw)
}

// positionIn reads a token; the empty one is before all.
func positionIn(token string) (after *position, err error) {
	if token == "" {
		return nil, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		err = json.Unmarshal(raw, &after)
	}
	if err != nil || after == nil {
		return nil, fmt.Errorf("page_token: %w: it is not one of this service; send next_page_token of the page before, or none", ErrInvalid)
	}
	return after, nil
}

// ListReplicas implements ckptferryv1.ReplicaServiceServer.
func (s *api) ListReplicas(_ context.Context, req *ckptferryv1.ListReplicasRequest) (*ckptferryv1.ListReplicasResponse, error) {
	if req.GetPageSize() < 0 {
		return nil, fmt.Errorf("page_size: %w: %d; send 0 for %d, or up to %d", ErrInvalid, req.GetPageSize(), pageUsual, pageMost)
	}
	size := min(int(req.GetPageSize()), pageMost)
	if size == 0 {
		size = pageUsual
	}
	after, err := positionIn(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	from := s.read()
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
		answer.NextPageToken = positionOf(replicas[size-1]).token()
	}
	for _, r := range replicas {
		answer.Replicas = append(answer.Replicas, raftstore.ReplicaMessage(r))
	}
	return answer, nil
}
