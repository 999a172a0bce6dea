package rpc

import (
	"context"

	channelzv1 "google.golang.org/grpc/channelz/grpc_channelz_v1"
	channelz "google.golang.org/grpc/channelz/service"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
)

// NewAdmin serves what somebody needs who looks for why connections or streams don't do what they should: gRPC's channelz,
// which tells of every connection of the process and its counters, with health and reflection. With TLS it asks for the
// role admin. It needs of the configuration who the agent is, TLS and Log.
func NewAdmin(cfg ServerConfig) *Server {
	s := newServer(cfg)
	// channelz is not in the table of roles, and so for admins.
	s.allow = func(ctx context.Context, method string) error { return mayCall(ctx, method, s.cfg.Datacenter) }
	channelz.RegisterChannelzServiceToServer(s.grpc)
	h := health.NewServer() // serving: it depends on nothing of the group
	h.SetServingStatus(channelzv1.Channelz_ServiceDesc.ServiceName, healthv1.HealthCheckResponse_SERVING)
	healthv1.RegisterHealthServer(s.grpc, h)
	reflection.Register(s.grpc)
	s.task = func() {
		<-s.stopping
		h.Shutdown()
	}
	return s
}
