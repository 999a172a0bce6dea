package rpc

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/keeper"
)

// Storage keeps the target's storage in order; *keeper.Keeper is the one of the product.
type Storage interface {
	Prune(ctx context.Context, only keeper.Filter, each func(keeper.Gone) error) error
	Preview(ctx context.Context, only keeper.Filter, each func(keeper.Gone) error) error
	ScrubNow(ctx context.Context, only keeper.Filter, each func(keeper.Scrubbed) error) error
	Rebuild(ctx context.Context, req keeper.RebuildRequest, each func(keeper.Found) error) error
}

// ProposeFunc has the group agree on a command; it may say raftstore.ErrNotLeader.
type ProposeFunc func(ctx context.Context, cmd *raftv1.Command) error

// storage answers StorageService.
type storage struct {
	ckptferryv1.UnimplementedStorageServiceServer
	*Server
}

// leads refuses what only the leader may do to the storage.
func (s *storage) leads(what string) error {
	if s.cfg.Group.Role() == "leader" {
		return nil
	}
	return s.namesLeader(fmt.Errorf("%s: %w", what, raftstore.ErrNotLeader))
}

// filterOf refuses a route that is on nobody's record: an empty answer would look like an answer about it.
func (s *storage) filterOf(route, job string) (keeper.Filter, error) {
	view := s.cfg.Group.View()
	if _, applied := view.Route(route); route != "" && !applied {
		for range view.RouteReplicas(route) {
			return keeper.Filter{Route: route, Job: job}, nil
		}
		return keeper.Filter{}, fmt.Errorf("route %q: %w in datacenter %s", route, ErrNotFound, s.cfg.Datacenter)
	}
	return keeper.Filter{Route: route, Job: job}, nil
}

// PruneReplicas implements ckptferryv1.StorageServiceServer.
func (s *storage) PruneReplicas(req *ckptferryv1.PruneReplicasRequest, out grpc.ServerStreamingServer[ckptferryv1.PruneReplicasResponse]) error {
	if s.cfg.Storage == nil {
		return s.UnimplementedStorageServiceServer.PruneReplicas(req, out)
	}
	only, err := s.filterOf(req.GetRoute(), req.GetJob())
	if err != nil {
		return err
	}
	run := s.cfg.Storage.Prune
	if req.GetDryRun() {
		run = s.cfg.Storage.Preview
	} else if err := s.leads("prune"); err != nil {
		return err
	}
	total := &ckptferryv1.PruneTotal{}
	err = run(out.Context(), only, func(g keeper.Gone) error {
		if g.Action == "retire" {
			total.ReplicaCount++
		}
		total.FileCount += g.Files
		total.TotalBytes += g.Bytes
		return out.Send(&ckptferryv1.PruneReplicasResponse{Part: &ckptferryv1.PruneReplicasResponse_Pruned{Pruned: prunedMessage(g)}})
	})
	if err != nil {
		return fmt.Errorf("prune: %w", err)
	}
	return out.Send(&ckptferryv1.PruneReplicasResponse{Part: &ckptferryv1.PruneReplicasResponse_Total{Total: total}})
}

func prunedMessage(g keeper.Gone) *ckptferryv1.Pruned {
	m := &ckptferryv1.Pruned{Route: g.Route, Job: g.Job, Action: g.Action, Uri: g.URI, FileCount: g.Files, TotalBytes: g.Bytes, Reason: g.Reason}
	if g.Key != nil {
		m.Key = raftstore.KeyMessage(*g.Key)
	}
	return m
}

// ScrubReplicas implements ckptferryv1.StorageServiceServer.
func (s *storage) ScrubReplicas(req *ckptferryv1.ScrubReplicasRequest, out grpc.ServerStreamingServer[ckptferryv1.ScrubReplicasResponse]) error {
	if s.cfg.Storage == nil {
		return s.UnimplementedStorageServiceServer.ScrubReplicas(req, out)
	}
	only, err := s.filterOf(req.GetRoute(), req.GetJob())
	if err == nil {
		err = s.leads("scrub")
	}
	if err != nil {
		return err
	}
	return s.cfg.Storage.ScrubNow(out.Context(), only, func(r keeper.Scrubbed) error {
		return out.Send(&ckptferryv1.ScrubReplicasResponse{Replica: raftstore.ReplicaMessage(r.Replica), Problem: r.Problem, BytesRead: r.Read})
	})
}

// RebuildCatalog implements ckptferryv1.StorageServiceServer.
func (s *storage) RebuildCatalog(req *ckptferryv1.RebuildCatalogRequest, out grpc.ServerStreamingServer[ckptferryv1.RebuildCatalogResponse]) error {
	if s.cfg.Storage == nil {
		return s.UnimplementedStorageServiceServer.RebuildCatalog(req, out)
	}
	if !req.GetDryRun() {
		if err := s.leads("rebuild catalog"); err != nil {
			return err
		}
	}
	asked := keeper.RebuildRequest{Route: req.GetRoute(), Deep: req.GetDeep(), DryRun: req.GetDryRun()}
	err := s.cfg.Storage.Rebuild(out.Context(), asked, func(f keeper.Found) error {
		return out.Send(&ckptferryv1.RebuildCatalogResponse{Replica: f.Replica, Outcome: f.Outcome, Problem: f.Problem})
	})
	if err != nil {
		return fmt.Errorf("rebuild catalog: %w", err)
	}
	return nil
}

// RecordDrill implements ckptferryv1.StorageServiceServer.
func (s *storage) RecordDrill(ctx context.Context, req *ckptferryv1.RecordDrillRequest) (*ckptferryv1.RecordDrillResponse, error) {
	if s.cfg.Propose == nil {
		return s.UnimplementedStorageServiceServer.RecordDrill(ctx, req)
	}
	actor, err := actorOf(ctx)
	if err != nil {
		return nil, err
	}
	if req.GetDrill() == nil {
		return nil, fmt.Errorf("record drill: %w: it names no drill", ErrInvalid)
	}
	drill := proto.CloneOf(req.GetDrill())
	drill.Actor = actor
	if err := s.cfg.Propose(ctx, &raftv1.Command{Op: &raftv1.Command_RecordDrill{RecordDrill: &raftv1.RecordDrill{Drill: drill}}}); err != nil {
		return nil, s.namesLeader(fmt.Errorf("record drill: %w", err))
	}
	return &ckptferryv1.RecordDrillResponse{}, nil
}

// drillPosition is a place in the list of jobs that were drilled.
type drillPosition struct{ Route, Job string }

// ListDrills implements ckptferryv1.StorageServiceServer.
func (s *storage) ListDrills(_ context.Context, req *ckptferryv1.ListDrillsRequest) (*ckptferryv1.ListDrillsResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := tokenOf[drillPosition](req.GetPageToken())
	if err != nil {
		return nil, err
	}
	view := s.cfg.Group.View()
	if err := s.hasApplied(view.AppliedIndex); err != nil {
		return nil, err
	}
	answer := &ckptferryv1.ListDrillsResponse{Read: s.readContext(snapshot{index: view.AppliedIndex})}
	last := drillPosition{}
	for d := range view.AllDrills() { // by route and job; of a job the newest, and the newest that passed
		at := drillPosition{d.Key.Route, d.Job}
		if !asks(req.GetJob(), d.Job) || at == last || after != nil && (at.Route < after.Route || at.Route == after.Route && at.Job <= after.Job) {
			continue
		}
		if len(answer.Jobs) == size { // there is one more
			answer.NextPageToken = tokenFor(last)
			return answer, nil
		}
		last = at
		newest, passed, _ := view.Drills(d.Key.Route, d.Job)
		of := &ckptferryv1.JobDrills{Newest: raftstore.DrillMessage(newest)}
		if passed.Level != 0 {
			of.NewestPassed = raftstore.DrillMessage(passed)
			of.PassedTime = of.NewestPassed.GetStartedTime()
		}
		answer.Jobs = append(answer.Jobs, of)
	}
	return answer, nil
}
