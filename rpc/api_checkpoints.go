package rpc

import (
	"context"
	"fmt"
	"slices"
	"strings"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
)

// foundPosition is the last checkpoint of a page: what is found meanwhile shifts none.
type foundPosition struct {
	FoundJob string
	Seq      uint64
}

// ListCheckpoints implements ckptferryv1.CheckpointServiceServer.
func (s *api) ListCheckpoints(_ context.Context, req *ckptferryv1.ListCheckpointsRequest) (*ckptferryv1.ListCheckpointsResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := tokenOf[foundPosition](req.GetPageToken())
	if err != nil {
		return nil, err
	}
	from := s.read()
	jobs, found, err := s.catalogue(from, req)
	if err != nil {
		return nil, err
	}
	slices.Sort(jobs)
	answer := &ckptferryv1.ListCheckpointsResponse{Read: s.readContext(from)}
	for _, job := range jobs {
		if !asks(req.GetJob(), job) || after != nil && strings.Compare(job, after.FoundJob) < 0 {
			continue
		}
		for _, f := range slices.Backward(found(job)) { // newest first
			if after != nil && job == after.FoundJob && f.Seq >= after.Seq {
				continue
			}
			if n := len(answer.GetCheckpoints()); n == size {
				last := answer.GetCheckpoints()[n-1]
				answer.NextPageToken = tokenFor(foundPosition{last.GetJob(), last.GetSeq()})
				return answer, nil
			}
			answer.Checkpoints = append(answer.Checkpoints, raftstore.FoundMessage(f))
		}
	}
	return answer, nil
}

// catalogue is what was found below the export, or is known of the route's source: the jobs, and what each has, by seq.
func (s *api) catalogue(from snapshot, req *ckptferryv1.ListCheckpointsRequest) (jobs []string, found func(job string) []raftstore.Found, err error) {
	export, route := req.GetExport(), req.GetRoute()
	switch {
	case (export == "") == (route == ""):
		return nil, nil, fmt.Errorf("list checkpoints: %w: name an export, or a route: one of the two", ErrInvalid)
	case route != "":
		if err := s.known(from, route, "", true); err != nil {
			return nil, nil, err
		}
		return from.view.RouteJobs(route), func(job string) []raftstore.Found { return from.view.JobKnown(route, job) }, nil
	}
	if _, ok := from.view.Export(export); !ok {
		return nil, nil, fmt.Errorf("export %q: %w in datacenter %s; list the exports to see which there are", export, ErrNotFound, s.cfg.Datacenter)
	}
	return from.view.ExportJobs(export), func(job string) []raftstore.Found { return from.view.JobFound(export, job) }, nil
}
