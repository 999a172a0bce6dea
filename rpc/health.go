package rpc

import (
	"time"

	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// healthOf are the services whose health is told; "" is the server's as a whole.
var healthOf = []string{
	"", ckptferryv1.ReplicaService_ServiceDesc.ServiceName, ckptferryv1.RouteService_ServiceDesc.ServiceName,
	ckptferryv1.AgentService_ServiceDesc.ServiceName, ckptferryv1.FailoverService_ServiceDesc.ServiceName,
	ckptferryv1.CheckpointService_ServiceDesc.ServiceName, ckptferryv1.MigrationService_ServiceDesc.ServiceName,
	ckptferryv1.StorageService_ServiceDesc.ServiceName,
}

// leaderEvery is how often it is looked whether the group has a leader.
const leaderEvery = 100 * time.Millisecond

// watchHealth says NOT_SERVING until this agent has known a leader once: before that it may know nothing of what the
// group knows. From then on it answers, also without a leader, and says how fresh the answer is. It ends with Stop.
func (s *Server) watchHealth(h *health.Server) {
	again := time.NewTicker(leaderEvery)
	defer again.Stop()
	for {
		if leader, _ := s.cfg.Group.Leader(); leader != "" {
			s.setHealth(h, healthv1.HealthCheckResponse_SERVING)
			break
		}
		select {
		case <-again.C:
		case <-s.stopping:
			h.Shutdown()
			return
		}
	}
	<-s.stopping
	h.Shutdown()
}

func (s *Server) setHealth(h *health.Server, status healthv1.HealthCheckResponse_ServingStatus) {
	for _, service := range healthOf {
		h.SetServingStatus(service, status)
	}
}
