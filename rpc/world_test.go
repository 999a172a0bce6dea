package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"github.com/ckptferry/ckptferry/fsutil"
	peerv1 "github.com/ckptferry/ckptferry/proto/ckptferry/peer/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/agent"
)

// group is a Raft group of one that says what it is told to. It is Group and view.
type group struct {
	mu       sync.Mutex
	exports  map[string]raftstore.Export
	found    map[string][]raftstore.Found
	known    map[string][]raftstore.Found // by route
	routes   []raftstore.Route
	replicas []raftstore.Replica
	lags     []agent.JobLag
	leader   string
	changed  chan struct{}
}

func newGroup(exports ...raftstore.Export) *group {
	g := &group{exports: map[string]raftstore.Export{}, found: map[string][]raftstore.Found{}, known: map[string][]raftstore.Found{}, leader: "a1", changed: make(chan struct{})}
	for _, e := range exports {
		g.exports[e.Name] = e
	}
	return g
}

// change changes the group's state.
func (g *group) change(do func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	do()
	close(g.changed)
	g.changed = make(chan struct{})
}

func (g *group) View() raftstore.View { return raftstore.View{} } // snapshot is read instead
func (g *group) Role() string         { return "leader" }
func (g *group) Term() uint64         { return 3 }
func (g *group) Peers() []raftstore.Peer {
	return []raftstore.Peer{{ID: "a1", Addr: "h1:1"}, {ID: "a2", Addr: "h2:1"}}
}
func (g *group) Leader() (id, addr string) { return locked(g, func() string { return g.leader }), "" }
func (g *group) Changed() <-chan struct{} {
	return locked(g, func() chan struct{} { return g.changed })
}
func (g *group) Routes() []raftstore.Route {
	return locked(g, func() []raftstore.Route { return slices.Clone(g.routes) })
}
func (g *group) Replicas() []raftstore.Replica {
	return locked(g, func() []raftstore.Replica { return slices.Clone(g.replicas) })
}
func (g *group) RouteJobs(route string) []string {
	return locked(g, func() []string { return slices.Sorted(maps.Keys(g.jobs(g.known[route]))) })
}
func (g *group) ExportJobs(export string) []string {
	return locked(g, func() []string { return slices.Sorted(maps.Keys(g.jobs(g.found[export]))) })
}
func (g *group) JobFound(export, job string) []raftstore.Found {
	return locked(g, func() []raftstore.Found { return g.jobs(g.found[export])[job] })
}
func (g *group) JobKnown(route, job string) []raftstore.Found {
	return locked(g, func() []raftstore.Found { return g.jobs(g.known[route])[job] })
}
func (g *group) jobs(found []raftstore.Found) map[string][]raftstore.Found {
	jobs := map[string][]raftstore.Found{}
	for _, f := range found {
		jobs[f.Job] = append(jobs[f.Job], f)
	}
	return jobs
}
func (g *group) SeenAt(string) (t time.Time) { return t }
func (g *group) Exports() []raftstore.Export {
	return locked(g, func() []raftstore.Export { return slices.Collect(maps.Values(g.exports)) })
}

func (g *group) Export(name string) (raftstore.Export, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e, ok := g.exports[name]
	return e, ok
}

func (g *group) FoundAfter(export string, seq uint64) (after []raftstore.Found) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, f := range g.found[export] {
		if f.Seq > seq {
			after = append(after, f)
		}
	}
	return after
}

func locked[T any](g *group, get func() T) T {
	g.mu.Lock()
	defer g.mu.Unlock()
	return get()
}

func (g *group) snapshot() snapshot {
	replicas := g.Replicas()
	return snapshot{view: g, index: 7, lags: func(time.Time, time.Duration) []agent.JobLag {
		return locked(g, func() []agent.JobLag { return g.lags })
	}, raw: replicas, changes: func(since snapshot) iter.Seq[raftstore.ReplicaChange] {
		before, _ := since.raw.([]raftstore.Replica)
		return changedReplicas(before, replicas)
	}}
}

// changedReplicas is what raftstore.View.ReplicaChanges is, slowly.
func changedReplicas(before, now []raftstore.Replica) iter.Seq[raftstore.ReplicaChange] {
	return func(yield func(raftstore.ReplicaChange) bool) {
		all := map[raftstore.Key]raftstore.ReplicaChange{}
		for _, r := range before {
			all[r.Key] = raftstore.ReplicaChange{Before: r, Was: true}
		}
		for _, r := range now {
			c := all[r.Key]
			c.Now, c.Is = r, true
			all[r.Key] = c
		}
		for _, c := range all {
			if !reflect.DeepEqual(c.Before, c.Now) && !yield(c) {
				return
			}
		}
	}
}

// does is what an agent says of itself.
type does struct {
	status   agent.Status
	polledAt time.Time
	problem  string
	gone     []string
}

func (d does) Status() agent.Status                         { return d.status }
func (d does) Gone(string) []string                         { return d.gone }
func (d does) Polled(string) (at time.Time, problem string) { return d.polledAt, d.problem }

// opener opens any place as the same file system, or as open says.
type opener struct {
	open func(root fsutil.URI) (fsutil.ReadFS, error)
}

func (o opener) OpenRead(_ context.Context, root fsutil.URI) (fsutil.ReadFS, error) {
	return o.open(root)
}

// network is where listeners are reached by name.
type network struct {
	mu        sync.Mutex
	listeners map[string]*bufconn.Listener
	conns     map[string][]net.Conn
	dials     map[string]int
}

func newNetwork() *network {
	return &network{listeners: map[string]*bufconn.Listener{}, conns: map[string][]net.Conn{}, dials: map[string]int{}}
}

func (n *network) listen(endpoint string) net.Listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners[endpoint] = bufconn.Listen(1 << 20)
	return n.listeners[endpoint]
}

func (n *network) dial(ctx context.Context, endpoint string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[endpoint]
	n.dials[endpoint]++
	n.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("nobody listens at %s", endpoint)
	}
	conn, err := l.DialContext(ctx)
	if err == nil {
		n.mu.Lock()
		n.conns[endpoint] = append(n.conns[endpoint], conn)
		n.mu.Unlock()
	}
	return conn, err
}

// cut ends all connections to an endpoint.
func (n *network) cut(endpoint string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, conn := range n.conns[endpoint] {
		_ = conn.Close()
	}
	n.conns[endpoint] = nil
}

// sourceConfig is agent a1 of dc1.
func sourceConfig(g *group, stores ReadOpener) ServerConfig {
	return ServerConfig{ID: "a1", Datacenter: "dc1", Version: "v1", Group: g, Agent: does{}, Stores: stores}
}

// servePeers starts the source's server at an endpoint.
func servePeers(t *testing.T, n *network, endpoint string, cfg ServerConfig) *Server {
	t.Helper()
	s := newServer(cfg)
	s.read = cfg.Group.(*group).snapshot
	s.servePeers()
	serve(t, s, n.listen(endpoint))
	return s
}

func serve(t *testing.T, s *Server, l net.Listener) {
	t.Helper()
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.grpc.Stop() // before the graceful one, which waits for callers
		s.Stop()
		if err := <-served; err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
}

// dialPeer is agent b1 of dc2.
func dialPeer(t *testing.T, n *network, endpoints ...string) *Peer {
	t.Helper()
	p, err := DialPeer(PeerConfig{Datacenter: "dc2", Agent: "b1", Expect: "dc1", Endpoints: endpoints, dial: n.dial})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// rawClient is a caller that sends what it likes, as a datacenter that it says.
func rawClient(t *testing.T, n *network, endpoint, datacenter string) peerv1.PeerServiceClient {
	t.Helper()
	p, err := DialPeer(PeerConfig{Datacenter: datacenter, Agent: "b1", Expect: "dc1", Endpoints: []string{endpoint}, dial: n.dial})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	l, err := p.connected(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return l.client
}

// memoryWorld is a source on a memory file system, all of which export prod lets dc2 read.
type memoryWorld struct {
	network *network
	group   *group
	files   *fsutil.Memory
	server  *Server
	peer    *Peer
	remote  fsutil.ReadFS
}

var memoryRoot = fsutil.URI{Scheme: "hdfs", Authority: "dc1", Path: "/flink"}

func newMemoryWorld(t *testing.T) *memoryWorld {
	t.Helper()
	w := &memoryWorld{network: newNetwork(), files: fsutil.NewMemory(memoryRoot)}
	w.group = newGroup(raftstore.Export{Name: "prod", Bases: []string{"hdfs://dc1/flink/{job}"}, To: []string{"dc2"}})
	w.server = servePeers(t, w.network, "a1", sourceConfig(w.group, opener{func(fsutil.URI) (fsutil.ReadFS, error) { return fsutil.ReadOnly(w.files), nil }}))
	w.peer = dialPeer(t, w.network, "a1")
	w.remote = openRemote(t, w.peer, memoryRoot)
	return w
}

func openRemote(t *testing.T, p *Peer, root fsutil.URI) fsutil.ReadFS {
	t.Helper()
	remote, err := p.Open("prod").OpenRead(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	return remote
}

func put(t *testing.T, f fsutil.FS, name string, data []byte) {
	t.Helper()
	w, err := f.Create(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// content makes n bytes that are the same for the same seed.
func content(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	return b
}

func readAll(ctx context.Context, f fsutil.ReadFS, name string) ([]byte, error) {
	r, err := f.Open(ctx, name, 0)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s = %v; want %v", what, err, want)
	}
}

func wantSays(t *testing.T, what string, err error, words ...string) {
	t.Helper()
	for _, word := range words {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s = %v; it doesn't say %q", what, err, word)
		}
	}
}

// eventually waits for what another goroutine brings about.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for !is() {
		select {
		case <-deadline:
			t.Fatalf("20 s and not yet: %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}
