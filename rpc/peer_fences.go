package rpc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/status"

	peerv1 "github.com/ckptferry/ckptferry/proto/ckptferry/peer/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/promote"
)

// TellFences implements peerv1.PeerServiceServer. What a datacenter says is about the export that it may read, and is
// recorded as that datacenter's.
func (s *peerServer) TellFences(ctx context.Context, req *peerv1.TellFencesRequest) (*peerv1.TellFencesResponse, error) {
	if s.cfg.Fence == nil {
		return s.UnimplementedPeerServiceServer.TellFences(ctx, req)
	}
	datacenter, err := datacenterOf(ctx)
	if err != nil {
		return nil, err
	}
	e, err := s.export(ctx, req.GetExport())
	if err != nil {
		return nil, err
	}
	told := promote.Told{Export: e.Name, Datacenter: datacenter}
	for _, m := range req.GetJobs() {
		told.Jobs = append(told.Jobs, raftstore.FencedJobOf(e.Name, datacenter, m))
	}
	known, err := s.cfg.Fence(ctx, told)
	if err != nil {
		return nil, s.namesLeader(fmt.Errorf("tell fences: %w", err))
	}
	answer := &peerv1.TellFencesResponse{}
	for _, j := range known {
		answer.Jobs = append(answer.Jobs, raftstore.FencedJobMessage(j))
	}
	return answer, nil
}

// TellFences implements agent.SourceDC. It goes through the endpoints until one has the other group record it, which may
// take its leader.
func (p *Peer) TellFences(ctx context.Context, export string, jobs []raftstore.FencedJob) ([]raftstore.FencedJob, error) {
	req := &peerv1.TellFencesRequest{Export: export}
	for _, j := range jobs {
		req.Jobs = append(req.Jobs, raftstore.FencedJobMessage(j))
	}
	var errs []error
	for _, endpoint := range p.cfg.Endpoints {
		known, err := p.tellFencesAt(ctx, endpoint, req)
		if err == nil {
			return known, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		errs = append(errs, fmt.Errorf("%s: %w", endpoint, err))
	}
	return nil, fmt.Errorf("tell %s what is promoted of export %s: %w", p.cfg.Expect, export, errors.Join(errs...))
}

func (p *Peer) tellFencesAt(ctx context.Context, endpoint string, req *peerv1.TellFencesRequest) ([]raftstore.FencedJob, error) {
	l, err := p.shakeHands(ctx, endpoint)
	if err != nil {
		return nil, err
	}
	if !p.keep(l) {
		return nil, p.closedError()
	}
	defer p.release(l)
	ctx, cancel := context.WithTimeout(ctx, tellFencesWithin)
	defer cancel()
	answer, err := l.client.TellFences(ctx, req)
	if err != nil {
		if reasonOf(status.Convert(err)) == "NOT_LEADER" {
			return nil, fmt.Errorf("%w (%s)", errFollower, clipped(status.Convert(err).Message()))
		}
		return nil, callError(ctx, err)
	}
	return fencedJobsOf(answer.GetJobs()), nil
}

// tellFencesWithin bounds one call: a commit of the other group, and a round trip or two.
const tellFencesWithin = 15 * time.Second

// fencedJobsOf reads jobs whose export and datacenter the caller knows.
func fencedJobsOf(messages []*ckptferryv1.FencedJob) []raftstore.FencedJob {
	var jobs []raftstore.FencedJob
	for _, m := range messages {
		jobs = append(jobs, raftstore.FencedJobOf("", "", m))
	}
	return jobs
}
