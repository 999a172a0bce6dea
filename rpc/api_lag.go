package rpc

import (
	"context"
	"fmt"
	"math"
	"strings"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// lagPageMost is how many jobs are in one page of the lag.
const lagPageMost = 10_000

// lagPosition is the last job of a page of the lag.
type lagPosition struct{ LagRoute, LagJob string }

// GetReplicaLag implements ckptferryv1.ReplicaServiceServer.
func (s *api) GetReplicaLag(_ context.Context, req *ckptferryv1.GetReplicaLagRequest) (*ckptferryv1.GetReplicaLagResponse, error) {
	size := int(req.GetPageSize())
	switch {
	case size < 0:
		return nil, fmt.Errorf("page_size: %w: %d; send 0 for all in one answer, or up to %d", ErrInvalid, size, lagPageMost)
	case size == 0:
		size = math.MaxInt
	default:
		size = min(size, lagPageMost)
	}
	after, err := tokenOf[lagPosition](req.GetPageToken())
	if err != nil {
		return nil, err
	}
	from := s.read()
	if err := s.hasApplied(from.index); err != nil {
		return nil, err
	}
	answer := &ckptferryv1.GetReplicaLagResponse{Read: s.readContext(from)}
	asked := false
	for _, l := range from.lags(s.cfg.Now(), s.cfg.SilentAfter()) { // by route and job
		if !asks(req.GetRoute(), l.Route) || !asks(req.GetJob(), l.Job) {
			continue
		}
		asked = true
		switch here := (lagPosition{l.Route, l.Job}); {
		case after != nil && here.compare(*after) <= 0:
		case len(answer.GetJobs()) == size:
			last := answer.GetJobs()[size-1]
			answer.NextPageToken = tokenFor(lagPosition{last.GetRoute(), last.GetJob()})
			return answer, nil
		default:
			answer.Jobs = append(answer.Jobs, lagMessage(l))
		}
	}
	if req.GetRoute() != "" || req.GetJob() != "" {
		if err := s.known(from, req.GetRoute(), req.GetJob(), asked); err != nil {
			return nil, err
		}
	}
	return answer, nil
}

func (p lagPosition) compare(o lagPosition) int {
	if c := strings.Compare(p.LagRoute, o.LagRoute); c != 0 {
		return c
	}
	return strings.Compare(p.LagJob, o.LagJob)
}
