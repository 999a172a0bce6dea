package rpc

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/agent"
	"github.com/ckptferry/ckptferry/replicator/promote"
)

// api answers people and tools.
type api struct {
	ckptferryv1.UnimplementedReplicaServiceServer
	ckptferryv1.UnimplementedCheckpointServiceServer
	ckptferryv1.UnimplementedRouteServiceServer
	ckptferryv1.UnimplementedAgentServiceServer
	*Server
}

// NewAPI serves ckptferry.v1, health of each service, and reflection. It needs of the configuration all but Stores.
// Reads are answered from the agent's own view, also without a quorum; what they were read from stands in the answer.
func NewAPI(cfg ServerConfig) *Server {
	s := newServer(cfg)
	s.serveAPI()
	return s
}

// serveAPI adds the services for people.
func (s *Server) serveAPI() {
	s.allow = func(ctx context.Context, method string) error { return mayCall(ctx, method, s.cfg.Datacenter) }
	a := &api{Server: s}
	ckptferryv1.RegisterReplicaServiceServer(s.grpc, a)
	ckptferryv1.RegisterCheckpointServiceServer(s.grpc, a)
	ckptferryv1.RegisterRouteServiceServer(s.grpc, a)
	ckptferryv1.RegisterAgentServiceServer(s.grpc, a)
	ckptferryv1.RegisterFailoverServiceServer(s.grpc, &failover{Server: s})
	ckptferryv1.RegisterStorageServiceServer(s.grpc, &storage{Server: s})
	ckptferryv1.RegisterMigrationServiceServer(s.grpc, &migration{Server: s})
	h := health.NewServer()
	s.setHealth(h, healthv1.HealthCheckResponse_NOT_SERVING)
	s.task = func() { s.watchHealth(h) }
	healthv1.RegisterHealthServer(s.grpc, h)
	reflection.Register(s.grpc)
}

// hasApplied refuses to answer from a state of index 0 while no leader is known: an agent that has just started would say
// that there is nothing, where its log, which only a leader can have it apply, has everything. A new group has a leader
// soon. An agent that has applied something answers, and says how stale that is.
func (s *Server) hasApplied(index uint64) error {
	if leader, _ := s.cfg.Group.Leader(); leader == "" && index == 0 {
		return errNotApplied
	}
	return nil
}

// readContext says what an answer is read from.
func (s *Server) readContext(from snapshot) *ckptferryv1.ReadContext {
	leader, _ := s.cfg.Group.Leader()
	return &ckptferryv1.ReadContext{
		ReadTime: timeMessage(s.cfg.Now()), RaftIndex: proto.Uint64(from.index), Stale: proto.Bool(leader == ""), Agent: s.cfg.ID,
	}
}

// asks says whether a filter, empty for all, lets a name through.
func asks(filter, name string) bool { return filter == "" || filter == name }

// known refuses a filter that names what is not there: an empty answer would look like an answer about it.
func (s *api) known(from snapshot, route, job string, answered bool) error {
	if _, ok := from.route(route); route != "" && !ok {
		return fmt.Errorf("route %q: %w in datacenter %s; ask without it to see all, or apply it", route, ErrNotFound, s.cfg.Datacenter)
	}
	if job != "" && !answered {
		return fmt.Errorf("job %q: %w: no route of datacenter %s knows or replicates a job of this name; ask without it to see all", job, ErrNotFound, s.cfg.Datacenter)
	}
	return nil
}

func (s snapshot) route(name string) (raftstore.Route, bool) {
	for _, r := range s.view.Routes() {
		if r.Name == name {
			return r, true
		}
	}
	return raftstore.Route{}, false
}

func lagMessage(l agent.JobLag) *ckptferryv1.JobLag {
	return &ckptferryv1.JobLag{
		Route: l.Route, Job: l.Job, State: ckptferryv1.LagState(l.State),
		TimeLag: durationMessage(l.TimeLag), CheckpointLag: l.Checkpoints, BytesLag: l.Bytes, Rpo: durationMessage(l.RPO),
		SourceCheckpointId: l.SourceCheckpoint, ReadyCheckpointId: l.ReadyCheckpoint,
		Replica: l.Replica, SourceSeenTime: timeMessage(l.SourceSeen), Reason: l.Reason,
	}
}

func durationMessage(d *time.Duration) *durationpb.Duration {
	if d == nil {
		return nil
	}
	return durationpb.New(*d)
}

// ListRoutes implements ckptferryv1.RouteServiceServer.
func (s *api) ListRoutes(context.Context, *ckptferryv1.ListRoutesRequest) (*ckptferryv1.ListRoutesResponse, error) {
	from := s.read()
	answer := &ckptferryv1.ListRoutesResponse{Read: s.readContext(from)}
	for _, e := range from.view.Exports() {
		answer.Exports = append(answer.Exports, raftstore.ExportMessage(e))
	}
	for _, r := range from.view.Routes() {
		answer.Routes = append(answer.Routes, raftstore.RouteMessage(r))
	}
	return answer, nil
}

// ApplyRoutes implements ckptferryv1.RouteServiceServer. An agent that does not lead names the one that does.
func (s *api) ApplyRoutes(ctx context.Context, req *ckptferryv1.ApplyRoutesRequest) (*ckptferryv1.ApplyRoutesResponse, error) {
	if len(req.GetExports()) == 0 && len(req.GetRoutes()) == 0 {
		return nil, fmt.Errorf("apply routes: %w: it names no export and no route; give at least one", ErrInvalid)
	}
	var exports []raftstore.Export
	for _, e := range req.GetExports() {
		exports = append(exports, raftstore.ExportOf(e))
	}
	var routes []raftstore.Route
	for _, r := range req.GetRoutes() {
		routes = append(routes, raftstore.RouteOf(r))
	}
	changes, err := s.cfg.Apply(ctx, exports, routes, req.GetDryRun())
	if err != nil {
		return nil, s.namesLeader(err)
	}
	return &ckptferryv1.ApplyRoutesResponse{Changes: changes}, nil
}

// RemoveRoutes implements ckptferryv1.RouteServiceServer.
func (s *api) RemoveRoutes(ctx context.Context, req *ckptferryv1.RemoveRoutesRequest) (*ckptferryv1.RemoveRoutesResponse, error) {
	switch {
	case s.cfg.Remove == nil:
		return s.UnimplementedRouteServiceServer.RemoveRoutes(ctx, req)
	case len(req.GetExports()) == 0 && len(req.GetRoutes()) == 0:
		return nil, fmt.Errorf("remove routes: %w: it names no export and no route; give at least one", ErrInvalid)
	}
	changes, err := s.cfg.Remove(ctx, req.GetExports(), req.GetRoutes(), req.GetDryRun())
	if err != nil {
		return nil, s.namesLeader(err)
	}
	return &ckptferryv1.RemoveRoutesResponse{Changes: changes}, nil
}

// GetStatus implements ckptferryv1.AgentServiceServer.
func (s *api) GetStatus(context.Context, *ckptferryv1.GetStatusRequest) (*ckptferryv1.GetStatusResponse, error) {
	from, does := s.read(), s.cfg.Agent.Status()
	leader, _ := s.cfg.Group.Leader()
	answer := &ckptferryv1.GetStatusResponse{
		Agent: s.cfg.ID, Datacenter: s.cfg.Datacenter, Version: s.cfg.Version, Leader: leader, RaftState: s.cfg.Group.Role(),
		Read: s.readContext(from), RaftTerm: proto.Uint64(s.cfg.Group.Term()), Voters: s.voters(),
	}
	known := map[string]agent.RouteStatus{}
	for _, r := range does.Routes {
		known[r.Route] = r
	}
	for _, r := range from.view.Routes() {
		route := &ckptferryv1.RouteStatus{
			Route: r.Name, JobCount: proto.Int64(int64(len(from.view.RouteJobs(r.Name)))), SourceSeenTime: timeMessage(from.view.SeenAt(r.Name)),
			Problem: known[r.Name].Problem, Failing: agent.Failing(s.cfg.Group.View(), r),
		}
		for _, g := range known[r.Name].Gone {
			route.GoneJobs = append(route.GoneJobs, &ckptferryv1.GoneJob{Job: g.Job, KnownTime: timeMessage(g.Since)})
		}
		answer.Routes = append(answer.Routes, route)
	}
	for _, e := range does.Exports {
		answer.Exports = append(answer.Exports, &ckptferryv1.ExportStatus{
			Export: e.Export, JobCount: proto.Int64(int64(e.Jobs)), PolledTime: timeMessage(e.PolledAt), PollDuration: durationpb.New(e.Took), Problem: e.Problem,
		})
	}
	for _, f := range promote.FencedHere(s.cfg.Group.View()) {
		answer.Fences = append(answer.Fences, f.Message())
	}
	for _, t := range does.Transfers {
		answer.Transfers = append(answer.Transfers, transferMessage(t))
	}
	for _, t := range does.GroupTransfers {
		answer.GroupTransfers = append(answer.GroupTransfers, transferMessage(t))
	}
	for _, m := range does.Members {
		answer.Members = append(answer.Members, &ckptferryv1.Member{Agent: m.Agent, HeardTime: timeMessage(m.HeardAt), Live: m.Live, Version: m.Version})
	}
	return answer, nil
}
