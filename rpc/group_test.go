package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/agent"
	"github.com/ckptferry/ckptferry/replicator/keeper"
)

// groupNode is an agent of a group of three on loopback: its store, and its servers.
type groupNode struct {
	id    string
	store *raftstore.Store
	voter *Voter
	api   string // its address
	tls   *TLS

	mu      sync.Mutex
	heard   []agent.Report
	applied []string // who asked for it
}

// Propose implements GroupBackend.
func (n *groupNode) Propose(ctx context.Context, cmd *raftv1.Command) error {
	return n.store.Propose(ctx, cmd)
}

// Heard implements GroupBackend.
func (n *groupNode) Heard(r agent.Report) (uint64, error) {
	if n.store.Role() != "leader" {
		return 0, raftstore.ErrNotLeader
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.heard = append(n.heard, r)
	return n.store.Term(), nil
}

func (n *groupNode) reports() []agent.Report {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.heard)
}

// chores answers as those of the leader would.
type chores struct {
	Storage
	n *groupNode
}

func (s chores) Prune(ctx context.Context, only keeper.Filter, each func(keeper.Gone) error) error {
	if s.n.store.Role() != "leader" {
		return raftstore.ErrNotLeader
	}
	for range 3 {
		if err := each(keeper.Gone{Action: "trash", Files: 2, Bytes: 20}); err != nil {
			return err
		}
	}
	if err := s.n.store.Propose(ctx, putExport("pruned-"+only.Job)); err != nil {
		return err
	}
	if only.Job == "bad" {
		return fmt.Errorf("%w: bad", raftstore.ErrUnknownRoute)
	}
	return nil
}

// newRaftGroup is three agents of dc1; ca is nil for plaintext.
func newRaftGroup(t *testing.T, ca *authority) []*groupNode {
	t.Helper()
	var nodes []*groupNode
	var peers []raftstore.Peer
	for _, id := range []string{"a", "b", "c"} {
		l, err := net.Listen("tcp", "127.0.7.1:0") // where nobody calls from, so that the port stays free
		if err != nil {
			t.Fatal(err)
		}
		peers = append(peers, raftstore.Peer{ID: id, Addr: l.Addr().String()})
		_ = l.Close() // it is the store's
	}
	for _, p := range peers {
		n := &groupNode{id: p.ID}
		cfg := raftstore.Config{Group: "dc1", ID: p.ID, Dir: t.TempDir(), Peers: peers}
		if ca != nil {
			n.tls = ca.issue(t, t.TempDir(), agentCert("dc1", p.ID))
			var server, client *tls.Config
			var err error
			if server, client, err = n.tls.RaftTLS("dc1", nil); err != nil {
				t.Fatal(err)
			}
			cfg.TLS = &raftstore.TLS{Server: server, Client: client}
		}
		store, err := raftstore.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		n.store, n.voter = store, NewVoter(p.ID, store)
		t.Cleanup(func() { _ = errors.Join(n.voter.Close(), store.Close()) }) // the test is over
		serving := ServerConfig{
			ID: p.ID, Datacenter: "dc1", Group: n.voter, Agent: does{}, TLS: n.tls,
			Forward: n.voter, Backend: n, Membership: store, Storage: chores{n: n}, Migrations: newMigrations(t, p.ID, store),
			Apply: func(ctx context.Context, exports []raftstore.Export, _ []raftstore.Route, _ bool) ([]string, error) {
				if n.store.Role() != "leader" {
					return nil, raftstore.ErrNotLeader
				}
				who, err := callerOf(ctx, "dc1")
				if err != nil {
					return nil, err
				}
				if exports[0].Name == "refused" {
					return nil, fmt.Errorf("%w: refused", raftstore.ErrKept)
				}
				if err := n.store.Propose(ctx, putExport(exports[0].Name)); err != nil {
					return nil, err
				}
				n.mu.Lock()
				defer n.mu.Unlock()
				n.applied = append(n.applied, fmt.Sprint(who.Name, " ", who.Role))
				return []string{"applied at " + n.id}, nil
			},
		}
		api, group := NewAPI(serving), NewGroupServer(serving)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		n.api = l.Addr().String()
		serve(t, api, l)
		serve(t, group, store.Others())
		nodes = append(nodes, n)
	}
	leading(t, nodes)
	return nodes
}

// leading waits until all know who leads, and returns that one and another.
func leading(t *testing.T, nodes []*groupNode) (leader, follower *groupNode) {
	t.Helper()
	eventually(t, "a leader", func() bool {
		leader, follower = nil, nil
		for _, n := range nodes {
			id, _ := n.store.Leader()
			switch {
			case id == "":
				return false
			case id == n.id && n.store.Role() == "leader":
				leader = n
			default:
				follower = n
			}
		}
		return leader != nil
	})
	return leader, follower
}

func putExport(name string) *raftv1.Command {
	return &raftv1.Command{Op: &raftv1.Command_PutExport{PutExport: &raftv1.PutExport{Export: raftstore.ExportMessage(
		raftstore.Export{Name: name, Bases: []string{"file:/cp/{job}"}, To: []string{"dc2"}})}}}
}

func TestEveryAgentOfAGroupProposes(t *testing.T) {
	nodes := newRaftGroup(t, nil)
	for _, n := range nodes {
		if err := n.voter.Propose(t.Context(), putExport("of-"+n.id)); err != nil {
			t.Fatalf("at %s: %v", n.id, err)
		}
		if _, ok := n.voter.View().Export("of-" + n.id); !ok {
			t.Errorf("%s doesn't read what it wrote", n.id)
		}
		// The refusals are those of the state, wherever they are heard.
		unknown := &raftv1.Command{Op: &raftv1.Command_StartCopy{StartCopy: &raftv1.StartCopy{
			Key: &ckptferryv1.CheckpointKey{Route: "r", JobId: strings.Repeat("a", 32), CheckpointId: 1}, Fence: &raftv1.Fence{Attempt: 1}}}}
		wantErr(t, "an unknown replica at "+n.id, n.voter.Propose(t.Context(), unknown), raftstore.ErrUnknownReplica)
		wantErr(t, "nothing at "+n.id, n.voter.Propose(t.Context(), &raftv1.Command{}), raftstore.ErrInvalid)
		newer := putExport("newer")
		newer.GetPutExport().ProtoReflect().SetUnknown(protoreflect.RawFields{0xfa, 0x01, 0x00})
		wantErr(t, "a newer command at "+n.id, n.voter.Propose(t.Context(), newer), raftstore.ErrInvalid)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		wantErr(t, "too late at "+n.id, n.voter.Propose(ended, putExport("late")), raftstore.ErrOutcomeUnknown)
	}

	// The leader goes: nobody knows for a while, and then it is another's.
	leader, follower := leading(t, nodes)
	if err := leader.store.Close(); err != nil {
		t.Fatal(err)
	}
	rest := slices.DeleteFunc(slices.Clone(nodes), func(n *groupNode) bool { return n == leader })
	eventually(t, "it is proposed", func() bool {
		err := follower.voter.Propose(t.Context(), putExport("after"))
		if err != nil && !errors.Is(err, raftstore.ErrNotLeader) && !errors.Is(err, raftstore.ErrOutcomeUnknown) {
			t.Fatal(err)
		}
		return err == nil
	})
	for _, n := range rest {
		eventually(t, "all have it", func() bool { _, ok := n.voter.View().Export("after"); return ok })
	}
}

func TestCallsThatChangeReachTheLeaderFromEveryAgent(t *testing.T) {
	ca := newAuthority(t)
	nodes := newRaftGroup(t, ca)
	leader, follower := leading(t, nodes)
	admin := ca.issue(t, t.TempDir(), personCert("admin"))
	reader := ca.issue(t, t.TempDir(), personCert("reader"))
	apply := func(ctx context.Context, n *groupNode, as *TLS, name string) (*ckptferryv1.ApplyRoutesResponse, error) {
		c, err := DialAPI(t.Context(), n.api, as)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }() // it has answered
		return c.ApplyRoutes(ctx, &ckptferryv1.ApplyRoutesRequest{Exports: []*ckptferryv1.Export{{Name: name}}})
	}
	for _, n := range nodes {
		answer, err := apply(t.Context(), n, admin, "e")
		if err != nil || !slices.Equal(answer.GetChanges(), []string{"applied at " + leader.id}) {
			t.Errorf("at %s: %v, %v", n.id, answer, err)
		}
	}
	if want := slices.Repeat([]string{"somebody admin"}, 3); !slices.Equal(leader.applied, want) {
		t.Errorf("the leader was asked by %q, want %q", leader.applied, want)
	}
	_, err := apply(t.Context(), follower, admin, "refused")
	wantErr(t, "what the leader refuses", err, ErrRefused)
	wantSays(t, "what the leader refuses", err, "[REPLICA_KEPT]")

	// Who may not, may not through another agent either, whatever it says of itself.
	said, err := withCaller(t.Context(), caller{Name: "boss", Role: roleAdmin})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []*groupNode{leader, follower} {
		_, err := apply(said, n, reader, "e")
		wantErr(t, "a reader at "+n.id, err, ErrDenied)
		if _, err := apply(said, n, admin, "e"); err != nil {
			t.Error(err)
		}
	}
	if slices.Contains(leader.applied, "boss admin") {
		t.Errorf("the leader believed what a person said: %q", leader.applied)
	}

	// What was passed on goes no further.
	conn, err := grpc.NewClient("passthrough:///other", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return leader.store.DialMember(ctx, follower.id)
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // the test is over
	_, err = ckptferryv1.NewRouteServiceClient(conn).ApplyRoutes(said, &ckptferryv1.ApplyRoutesRequest{Exports: []*ckptferryv1.Export{{Name: "e"}}})
	err = apiError(t.Context(), err)
	wantErr(t, "passed on to who doesn't lead", err, ErrNotLeader)
	wantSays(t, "passed on to who doesn't lead", err, "the leader is "+leader.id)

	// Streams.
	c, err := DialAPI(t.Context(), follower.api, admin)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }() // the test is over
	for job, want := range map[string]string{"orders": "", "bad": "ROUTE_UNKNOWN"} {
		n := 0
		total, err := c.Prune(t.Context(), &ckptferryv1.PruneReplicasRequest{Job: job}, func(*ckptferryv1.Pruned) error {
			n++
			return nil
		})
		if n != 3 || (want == "") != (err == nil) || (want == "" && (total.GetFileCount() != 6 || total.GetTotalBytes() != 60)) || (want != "" && !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %d answers, then %v, %v; want 3, then %s", job, n, total, err, want)
		}
	}
}

// Whoever asks the agent that passed a call on reads what the call did, although that agent learns of it later.
func TestWhatWasPassedOnIsReadWhereItWasSaid(t *testing.T) {
	nodes := newRaftGroup(t, nil)
	_, follower := leading(t, nodes)
	c, err := DialAPI(t.Context(), follower.api, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }() // the test is over
	reads := func(name string) {
		t.Helper()
		all, err := c.Routes(t.Context())
		if err != nil || !slices.ContainsFunc(all.GetExports(), func(e *ckptferryv1.Export) bool { return e.GetName() == name }) {
			t.Fatalf("export %s is not read: %v, %v", name, all, err)
		}
	}
	for i := range 20 {
		name := fmt.Sprint("e", i)
		if _, err := c.ApplyRoutes(t.Context(), &ckptferryv1.ApplyRoutesRequest{Exports: []*ckptferryv1.Export{{Name: name}}}); err != nil {
			t.Fatal(err)
		}
		reads(name)
		if _, err := c.Prune(t.Context(), &ckptferryv1.PruneReplicasRequest{Job: name}, func(*ckptferryv1.Pruned) error { return nil }); err != nil {
			t.Fatal(err)
		}
		reads("pruned-" + name)
	}
}

func TestReportsReachTheLeader(t *testing.T) {
	nodes := newRaftGroup(t, newAuthority(t))
	leader, follower := leading(t, nodes)
	sign := agent.Report{Agent: follower.id, Version: "v1", Draining: true, Transfers: []agent.Transfer{{
		Route: "prod", Job: "orders", Key: raftstore.Key{Route: "prod", CheckpointID: 7}, Phase: "copy", FilesDone: 1, Files: 2, BytesDone: 3, Bytes: 4,
		StartedAt: time.Unix(5, 0).UTC(), Agent: follower.id, Share: "2 of 3",
	}}}
	twice := func(yield func(agent.Report) bool) {
		if yield(sign) {
			yield(sign)
		}
	}
	if err := follower.voter.Report(t.Context(), twice); err != nil {
		t.Fatal(err)
	}
	if got := leader.reports(); len(got) != 2 || fmt.Sprint(got[0]) != fmt.Sprint(sign) {
		t.Errorf("the leader heard %+v, want twice %+v", got, sign)
	}
	wantErr(t, "the leader's own report", leader.voter.Report(t.Context(), twice), raftstore.ErrNotLeader)
	sign.Agent = leader.id
	if err := follower.voter.Report(t.Context(), twice); err == nil || !strings.Contains(err.Error(), "comes with the certificate of dc1/"+follower.id) {
		t.Errorf("a report in another's name: %v", err)
	}
	// It ends when another agent leads.
	sign.Agent = follower.id
	ended := make(chan error, 1)
	go func() {
		ended <- follower.voter.Report(t.Context(), func(yield func(agent.Report) bool) {
			for yield(sign) {
				<-time.After(20 * time.Millisecond)
			}
		})
	}()
	eventually(t, "it reports", func() bool { return len(leader.reports()) > 5 })
	if err := leader.store.TransferLeadership(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "the report to who led", <-ended, raftstore.ErrNotLeader)
}

func TestVotersAreChangedThroughEveryAgent(t *testing.T) {
	nodes := newRaftGroup(t, nil)
	leader, follower := leading(t, nodes)
	c := dialAPI(t, follower.api)
	answer, err := c.TransferLeadership(t.Context(), follower.id)
	if err != nil || answer.GetLeader() != follower.id {
		t.Fatalf("TransferLeadership = %v, %v; want %s", answer, err, follower.id)
	}
	eventually(t, "it leads", func() bool { return follower.store.Role() == "leader" })
	_, err = c.AddVoter(t.Context(), "d", "127.0.0.1:1")
	wantErr(t, "a voter that doesn't answer", err, ErrRefused)
	voters, err := c.RemoveVoter(t.Context(), leader.id)
	if err != nil || len(voters.GetVoters()) != 2 {
		t.Errorf("RemoveVoter = %v, %v; want two left", voters, err)
	}
	status, err := c.Status(t.Context())
	if err != nil || status.GetRaftTerm() != follower.store.Term() || len(status.GetVoters()) != 2 {
		t.Errorf("Status = %v, %v", status, err)
	}
}

func TestWhatIsPassedOnCanBe(t *testing.T) {
	for method := range forwarded {
		for _, of := range []func(string) (func() proto.Message, error){answerOf, requestOf} {
			message, err := of(method)
			if err != nil || message() == nil {
				t.Errorf("%s: %v", method, err)
			}
		}
		reads := method == ckptferryv1.MigrationService_PlanMigration_FullMethodName // and the leader alone has measured
		if neededRoles[method] < roleOperator && neededRoles[method] != roleNone && !reads {
			t.Errorf("%s changes something, and needs only the role %s", method, neededRoles[method])
		}
	}
	if _, err := answerOf("/ckptferry.v1.RouteService/Nothing"); err == nil {
		t.Error("a method that isn't there has an answer")
	}
}

func TestACallerThatCannotBeUnderstoodIsNobody(t *testing.T) {
	for _, said := range []string{"", "{", `{"Role":3}`} {
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(metadataCaller, said))
		_, err := trustedCaller(ctx)
		wantErr(t, fmt.Sprintf("%q", said), err, ErrDenied)
	}
}
