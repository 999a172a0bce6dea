package rpc

import (
	"net"
	"testing"

	channelzv1 "google.golang.org/grpc/channelz/grpc_channelz_v1"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

func TestAdminTellsOfConnectionsAndNothingElse(t *testing.T) {
	g := newGroup()
	g.leader = "" // it must answer above all when the group has trouble
	s := NewAdmin(sourceConfig(g, nil))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, s, l)
	conn := rawConn(t, l.Addr().String())
	servers, err := channelzv1.NewChannelzClient(conn).GetServers(t.Context(), &channelzv1.GetServersRequest{})
	if err != nil || len(servers.GetServer()) == 0 {
		t.Errorf("GetServers = %v, %v", servers, err)
	}
	for _, service := range []string{"", channelzv1.Channelz_ServiceDesc.ServiceName} {
		answer, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{Service: service})
		if err != nil || answer.GetStatus() != healthv1.HealthCheckResponse_SERVING {
			t.Errorf("health of %q = %v, %v", service, answer, err)
		}
	}
	if _, err := ckptferryv1.NewReplicaServiceClient(conn).GetReplicaLag(t.Context(), &ckptferryv1.GetReplicaLagRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("GetReplicaLag on the admin listener = %v", err)
	}
	api := rawConn(t, serveAPI(t, sourceConfig(g, nil)))
	if _, err := channelzv1.NewChannelzClient(api).GetServers(t.Context(), &channelzv1.GetServersRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("GetServers on the API = %v", err)
	}
}
