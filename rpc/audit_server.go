package rpc

import (
	"context"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
)

// auditStep is how many records are looked through at a time for those about one job.
const auditStep = 1000

// ListAudit implements ckptferryv1.AgentServiceServer.
func (s *api) ListAudit(_ context.Context, req *ckptferryv1.ListAuditRequest) (*ckptferryv1.ListAuditResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := tokenOf[uint64](req.GetPageToken())
	if err != nil {
		return nil, err
	}
	before := uint64(0) // begins at the newest
	if after != nil {
		before = *after
	}
	view := s.cfg.Group.View()
	if err := s.hasApplied(view.AppliedIndex); err != nil {
		return nil, err
	}
	answer := &ckptferryv1.ListAuditResponse{Read: s.readContext(snapshot{index: view.AppliedIndex})}
	for {
		records := view.Audit(before, auditStep)
		for _, r := range records {
			if !asks(req.GetJob(), r.Job) {
				continue
			}
			if len(answer.Records) == size { // there is one more
				answer.NextPageToken = tokenFor(answer.Records[size-1].GetSeq())
				return answer, nil
			}
			answer.Records = append(answer.Records, raftstore.AuditMessage(r))
		}
		if len(records) < auditStep {
			return answer, nil
		}
		before = records[len(records)-1].Seq
	}
}
