package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/ckptferry/ckptferry/fsutil"
	peerv1 "github.com/ckptferry/ckptferry/proto/ckptferry/peer/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/agent"
)

func applyFunc(do func() ([]string, error)) ApplyFunc {
	return func(context.Context, []raftstore.Export, []raftstore.Route, bool) ([]string, error) { return do() }
}

// serveAPI starts an API on loopback and gives its endpoint.
func serveAPI(t *testing.T, cfg ServerConfig) string {
	t.Helper()
	s := newServer(cfg)
	s.read = cfg.Group.(*group).snapshot
	s.serveAPI()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, s, l)
	return l.Addr().String()
}

func dialAPI(t *testing.T, endpoint string) *Client {
	t.Helper()
	c, err := DialAPI(t.Context(), endpoint, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestLagShowsZerosAndLeavesOutWhatIsNotKnown(t *testing.T) {
	g := newGroup()
	zero, none := time.Duration(0), int64(0)
	chk := int64(42)
	g.routes = []raftstore.Route{{Name: "prod"}, {Name: "empty"}}
	g.lags = []agent.JobLag{
		{Route: "prod", Job: "orders", State: agent.CaughtUp, TimeLag: &zero, RPO: &zero, Checkpoints: &none, Bytes: &none, SourceCheckpoint: &chk, ReadyCheckpoint: &chk, Replica: "hdfs://dc2/r/chk-42", SourceSeen: time.Unix(1e9, 0)},
		{Route: "prod", Job: "pay", State: agent.NoReplica, Reason: "wait"},
	}
	c := dialAPI(t, serveAPI(t, sourceConfig(g, nil)))
	answer, err := c.Lag(t.Context(), &ckptferryv1.GetReplicaLagRequest{})
	if err != nil {
		t.Fatal(err)
	}
	shown, err := protojson.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(shown), `": `, `":`)
	for _, want := range []string{`"timeLag":"0s"`, `"checkpointLag":"0"`, `"bytesLag":"0"`, `"rpo":"0s"`, `"readyCheckpointId":"42"`, `"LAG_STATE_CAUGHT_UP"`, `"raftIndex":"7"`, `"stale":false`, `"agent":"a1"`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not in %s", want, text)
		}
	}
	if p := answer.GetJobs()[1]; p.TimeLag != nil || p.CheckpointLag != nil || p.BytesLag != nil || p.Rpo != nil || p.SourceSeenTime != nil || p.GetReason() != "wait" {
		t.Errorf("what is not known is %v", p)
	}
	for _, tc := range []struct {
		job, route string
		want       int
		err        error
	}{
		{"", "", 2, nil}, {"orders", "", 1, nil}, {"", "prod", 2, nil}, {"pay", "prod", 1, nil}, {"", "empty", 0, nil},
		{"none", "", 0, ErrNotFound}, {"", "none", 0, ErrNotFound}, {"orders", "empty", 0, ErrNotFound}, {"ord", "", 0, ErrNotFound},
	} {
		answer, err := c.Lag(t.Context(), &ckptferryv1.GetReplicaLagRequest{Job: tc.job, Route: tc.route})
		if len(answer.GetJobs()) != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("job %q of route %q: %d, %v", tc.job, tc.route, len(answer.GetJobs()), err)
		}
	}
	g.change(func() { g.leader = "" })
	if answer, err := c.Lag(t.Context(), &ckptferryv1.GetReplicaLagRequest{}); err != nil || !answer.GetRead().GetStale() {
		t.Errorf("without a leader: %v, %v", answer.GetRead(), err)
	}
}

func TestReplicasComeInPagesThatNothingShifts(t *testing.T) {
	g := newGroup()
	g.routes = []raftstore.Route{{Name: "prod"}}
	replica := func(job string, id int64, s raftstore.Status) raftstore.Replica {
		return raftstore.Replica{Key: raftstore.Key{Route: "prod", JobID: "j", CheckpointID: id}, Job: job, Status: s, CompletedAt: time.Unix(1e9+id, 0)}
	}
	for id := range int64(120) {
		g.replicas = append(g.replicas, replica("orders", id, raftstore.StatusReady), replica("pay", id, raftstore.StatusFailed))
	}
	c := dialAPI(t, serveAPI(t, sourceConfig(g, nil)))
	var got []string
	req := &ckptferryv1.ListReplicasRequest{}
	var sizes []int
	for pages := 0; pages < 10; pages++ {
		answer, err := c.Replicas(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(answer.GetReplicas()))
		for _, r := range answer.GetReplicas() {
			got = append(got, fmt.Sprintf("%s %d", r.GetJob(), r.GetKey().GetCheckpointId()))
		}
		if req.PageToken = answer.GetNextPageToken(); req.PageToken == "" {
			break
		}
		// Newer ones come, and some that were sent go.
		g.change(func() {
			g.replicas = append(g.replicas[10:], replica("orders", 1000+int64(pages), raftstore.StatusReady))
		})
	}
	if !slices.Equal(sizes, []int{100, 100, 25}) { // pay 0 to 9 went before the last
		t.Errorf("pages of %v", sizes)
	}
	if got[0] != "orders 119" || got[119] == got[118] {
		t.Errorf("it begins with %s", got[0])
	}
	seen := map[string]bool{}
	for _, r := range got {
		if seen[r] {
			t.Errorf("%s twice", r)
		}
		seen[r] = true
	}
	for id := range 120 {
		if !seen[fmt.Sprintf("pay %d", id)] && id >= 10 {
			t.Errorf("pay %d is missing", id)
		}
	}

	for name, tc := range map[string]struct {
		req  *ckptferryv1.ListReplicasRequest
		want int
		err  error
	}{
		"a size":             {&ckptferryv1.ListReplicasRequest{PageSize: 3}, 3, nil},
		"too large a size":   {&ckptferryv1.ListReplicasRequest{PageSize: 5000}, len(g.replicas), nil},
		"a negative size":    {&ckptferryv1.ListReplicasRequest{PageSize: -1}, 0, ErrInvalid},
		"a token of no page": {&ckptferryv1.ListReplicasRequest{PageToken: "x"}, 0, ErrInvalid},
		"an empty object":    {&ckptferryv1.ListReplicasRequest{PageToken: "bnVsbA"}, 0, ErrInvalid}, // null
		"an unknown route":   {&ckptferryv1.ListReplicasRequest{Route: "none"}, 0, ErrNotFound},
		"an unknown job":     {&ckptferryv1.ListReplicasRequest{Job: "none"}, 0, nil},
		"two statuses": {&ckptferryv1.ListReplicasRequest{PageSize: 1000, Job: "pay", Statuses: []ckptferryv1.ReplicaStatus{
			ckptferryv1.ReplicaStatus_REPLICA_STATUS_READY, ckptferryv1.ReplicaStatus_REPLICA_STATUS_PLANNED}}, 0, nil},
	} {
		answer, err := c.Replicas(t.Context(), tc.req)
		if len(answer.GetReplicas()) != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%s: %d, %v; want %d, %v", name, len(answer.GetReplicas()), err, tc.want, tc.err)
		}
	}
}

func TestApplyRoutes(t *testing.T) {
	g := newGroup()
	var exports []raftstore.Export
	var routes []raftstore.Route
	var dry bool
	var fails error
	cfg := sourceConfig(g, nil)
	cfg.Apply = func(_ context.Context, e []raftstore.Export, r []raftstore.Route, d bool) ([]string, error) {
		exports, routes, dry = e, r, d
		return []string{"route prod: created"}, fails
	}
	c := dialAPI(t, serveAPI(t, cfg))
	req := &ckptferryv1.ApplyRoutesRequest{
		Exports: []*ckptferryv1.Export{{Name: "prod", Bases: []string{"x"}}}, Routes: []*ckptferryv1.Route{{Name: "prod", FromDatacenter: "dc9"}}, DryRun: true,
	}
	answer, err := c.ApplyRoutes(t.Context(), req)
	if err != nil || !slices.Equal(answer.GetChanges(), []string{"route prod: created"}) || !dry || exports[0].Name != "prod" || routes[0].FromDC != "dc9" {
		t.Errorf("ApplyRoutes = %v, %v with %v, %v, %t", answer, err, exports, routes, dry)
	}
	_, err = c.ApplyRoutes(t.Context(), &ckptferryv1.ApplyRoutesRequest{})
	wantErr(t, "nothing to apply", err, ErrInvalid)
	fails = fmt.Errorf("route prod: %w: no root", raftstore.ErrInvalid)
	_, err = c.ApplyRoutes(t.Context(), req)
	wantErr(t, "an invalid route", err, ErrInvalid)
	wantSays(t, "an invalid route", err, "no root", "[INVALID]")
	fails = fmt.Errorf("propose: %w", raftstore.ErrNotLeader)
	for leader, says := range map[string]string{"a2": "the leader is a2", "": "no leader", "a1": "no leader"} {
		g.change(func() { g.leader = leader })
		_, err = c.ApplyRoutes(t.Context(), req)
		wantErr(t, "an agent that does not lead", err, ErrNotLeader)
		wantSays(t, "an agent that does not lead", err, says)
	}
}

func TestStatusAndRoutes(t *testing.T) {
	g := newGroup(raftstore.Export{Name: "prod", Bases: []string{"hdfs://dc1/{job}"}, To: []string{"dc2"}})
	g.routes = []raftstore.Route{{Name: "in", FromDC: "dc2", Epoch: 3}}
	cfg := sourceConfig(g, nil)
	cfg.Agent = does{status: agent.Status{
		Exports:   []agent.ExportStatus{{Export: "prod", Jobs: 0, Problem: "away"}},
		Routes:    []agent.RouteStatus{{Route: "in", Problem: "cut", Gone: []agent.GoneJob{{Job: "old", Since: time.Unix(1e9, 0)}}}},
		Transfers: []agent.Transfer{{Route: "in", Job: "orders", Key: raftstore.Key{CheckpointID: 9}, Phase: "copying", Files: 5, StartedAt: time.Unix(1e9, 0)}},
	}}
	c := dialAPI(t, serveAPI(t, cfg))
	got, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.GetAgent() != "a1" || got.GetDatacenter() != "dc1" || got.GetVersion() != "v1" || got.GetLeader() != "a1" || got.GetRaftState() != "leader" ||
		len(got.GetVoters()) != 2 || !got.GetVoters()[0].GetLeader() || got.GetVoters()[1].GetLeader() || got.GetRead().GetRaftIndex() != 7 {
		t.Errorf("status = %v", got)
	}
	if r := got.GetRoutes()[0]; r.GetRoute() != "in" || r.GetProblem() != "cut" || len(r.GetGoneJobs()) != 1 || r.GetGoneJobs()[0].GetJob() != "old" || r.GetGoneJobs()[0].GetKnownTime().GetSeconds() != 1e9 || r.JobCount == nil || r.SourceSeenTime != nil {
		t.Errorf("route = %v", r)
	}
	if e := got.GetExports()[0]; e.GetExport() != "prod" || e.GetProblem() != "away" || e.JobCount == nil || e.PolledTime != nil {
		t.Errorf("export = %v", e)
	}
	if f := got.GetTransfers()[0]; f.GetCheckpointId() != 9 || f.GetPhase() != "copying" || f.GetFileCount() != 5 || f.BytesDone == nil {
		t.Errorf("transfer = %v", f)
	}
	routes, err := c.Routes(t.Context())
	if err != nil || len(routes.GetExports()) != 1 || routes.GetRoutes()[0].GetEpoch() != 3 || routes.GetRead().GetAgent() != "a1" {
		t.Errorf("routes = %v, %v", routes, err)
	}
}

func rawConn(t *testing.T, endpoint string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestHealthWaitsForTheFirstLeader(t *testing.T) {
	g := newGroup()
	g.leader = ""
	client := healthv1.NewHealthClient(rawConn(t, serveAPI(t, sourceConfig(g, nil))))
	check := func(service string) healthv1.HealthCheckResponse_ServingStatus {
		answer, err := client.Check(t.Context(), &healthv1.HealthCheckRequest{Service: service})
		if err != nil {
			t.Fatalf("%q: %v", service, err)
		}
		return answer.GetStatus()
	}
	services := []string{"", "ckptferry.v1.ReplicaService", "ckptferry.v1.RouteService", "ckptferry.v1.AgentService"}
	for _, service := range services {
		if got := check(service); got != healthv1.HealthCheckResponse_NOT_SERVING {
			t.Errorf("%q before a leader is known: %s", service, got)
		}
	}
	g.change(func() { g.leader = "a2" })
	for _, service := range services {
		eventually(t, service+" serves", func() bool { return check(service) == healthv1.HealthCheckResponse_SERVING })
	}
	g.change(func() { g.leader = "" })
	for _, service := range services { // it answers, and says that the answer may be old
		if got := check(service); got != healthv1.HealthCheckResponse_SERVING {
			t.Errorf("%q without a leader: %s", service, got)
		}
	}
}

func TestReflection(t *testing.T) {
	conn := rawConn(t, serveAPI(t, sourceConfig(newGroup(), nil)))
	v1, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := v1.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	answer, err := v1.Recv()
	if err != nil || len(answer.GetListServicesResponse().GetService()) < 6 {
		t.Errorf("v1 = %v, %v", answer, err)
	}
	old, err := reflectionv1alpha.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context()) //nolint:staticcheck // for old clients
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Send(&reflectionv1alpha.ServerReflectionRequest{MessageRequest: &reflectionv1alpha.ServerReflectionRequest_ListServices{}}); err != nil { //nolint:staticcheck
		t.Fatal(err)
	}
	if answer, err := old.Recv(); err != nil || len(answer.GetListServicesResponse().GetService()) < 6 { //nolint:staticcheck
		t.Errorf("v1alpha = %v, %v", answer, err)
	}

	// Peers are told nothing but what they ask for.
	w := newMemoryWorld(t)
	for service := range w.server.grpc.GetServiceInfo() {
		if service != "ckptferry.peer.v1.PeerService" {
			t.Errorf("peers are served %s", service)
		}
	}
}

// panics is a file system with a mistake in it.
type panics struct{ fsutil.ReadFS }

func (panics) Stat(context.Context, string) (fsutil.FileInfo, error)   { panic("stat") }
func (panics) List(context.Context, string) ([]fsutil.FileInfo, error) { panic("list") }

// buffer is a log to look at.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestAPanicIsInternalAndLogged(t *testing.T) {
	log := &buffer{}
	cfg := sourceConfig(newGroup(), nil)
	cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	cfg.Apply = applyFunc(func() ([]string, error) { panic("apply") })
	_, err := dialAPI(t, serveAPI(t, cfg)).ApplyRoutes(t.Context(), &ckptferryv1.ApplyRoutesRequest{Routes: []*ckptferryv1.Route{{}}})
	wantSays(t, "ApplyRoutes", err, "[INTERNAL]")

	w := newMemoryWorld(t)
	cfg = sourceConfig(w.group, opener{func(fsutil.URI) (fsutil.ReadFS, error) { return panics{w.files}, nil }})
	cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	servePeers(t, w.network, "a2", cfg)
	client := rawClient(t, w.network, "a2", "dc2")
	place := &peerv1.Place{Root: memoryRoot.String(), Name: "orders"}
	_, err = client.Stat(t.Context(), &peerv1.StatRequest{Export: "prod", Places: []*peerv1.Place{place}})
	if status.Code(err) != codes.Internal {
		t.Errorf("Stat = %v", err)
	}
	list, err := client.List(t.Context(), &peerv1.ListRequest{Export: "prod", Directory: place})
	if err == nil {
		_, err = list.Recv()
	}
	if status.Code(err) != codes.Internal {
		t.Errorf("List = %v", err)
	}
	for _, word := range []string{"panic=apply", "panic=stat", "panic=list", "api_test.go"} {
		if !strings.Contains(log.String(), word) {
			t.Errorf("%s is not in the log:\n%s", word, log)
		}
	}
}

func TestAMessageThatIsTooLargeIsRefused(t *testing.T) {
	cfg := sourceConfig(newGroup(), nil)
	cfg.Apply = applyFunc(func() ([]string, error) { return nil, nil })
	conn := rawConn(t, serveAPI(t, cfg))
	route := &ckptferryv1.Route{Name: strings.Repeat("x", 1<<20)}
	_, err := ckptferryv1.NewRouteServiceClient(conn).ApplyRoutes(t.Context(), &ckptferryv1.ApplyRoutesRequest{Routes: []*ckptferryv1.Route{route, route, route, route, route}})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("5 MiB of routes = %v", err)
	}
}

// Stop ends watches and idle streams, and lets a file under way come to its end.
func TestStopDrains(t *testing.T) {
	w := newMemoryWorld(t)
	put(t, w.files, "orders/f", content(1, 20<<20))
	put(t, w.files, "orders/g", []byte("hello"))
	if _, err := readAll(t.Context(), w.remote, "orders/g"); err != nil { // leaves an idle stream
		t.Fatal(err)
	}
	h := watch(t, w.peer)
	eventually(t, "the watch", func() bool { return len(h.all()) > 0 })
	r, err := w.remote.Open(t.Context(), "orders/f", 0)
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	began := time.Now()
	go func() { w.server.Stop(); close(stopped) }()
	<-h.done
	wantErr(t, "the watch", h.err, fsutil.ErrUnavailable)
	n := 0
	for buf := make([]byte, 1<<20); ; {
		got, err := r.Read(buf)
		n += got
		if err != nil {
			break
		}
	}
	if n != 20<<20 {
		t.Errorf("%d bytes of the file under way", n)
	}
	<-stopped
	if took := time.Since(began); took > drainFor {
		t.Errorf("it took %s", took)
	}
}

// The servers work on the state of a real group too.
func TestOnARealStore(t *testing.T) {
	store, err := raftstore.Open(raftstore.Config{Group: "dc1", ID: "a1", Dir: t.TempDir(), Peers: []raftstore.Peer{{ID: "a1"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	cfg := ServerConfig{ID: "a1", Datacenter: "dc1", Group: store, Agent: does{}, SilentAfter: func() time.Duration { return time.Minute }}
	s := NewAPI(cfg)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, s, l)
	c := dialAPI(t, l.Addr().String())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	answer, err := c.Lag(ctx, &ckptferryv1.GetReplicaLagRequest{})
	for errors.Is(err, ErrUnavailable) { // until it leads
		answer, err = c.Lag(ctx, &ckptferryv1.GetReplicaLagRequest{})
	}
	if err != nil || answer.GetRead().RaftIndex == nil {
		t.Errorf("Lag = %v, %v", answer, err)
	}
	if status, err := c.Status(t.Context()); err != nil || status.GetVoters()[0].GetId() != "a1" || status.GetVoters()[0].GetLeader() != (status.GetLeader() == "a1") {
		t.Errorf("Status = %v, %v", status, err)
	}
}
