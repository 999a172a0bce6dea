package rpc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/ckptferry/ckptferry/fsutil"
	peerv1 "github.com/ckptferry/ckptferry/proto/ckptferry/peer/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/agent"
)

func foundSeq(from, to uint64) (found []raftstore.Found) {
	for seq := from; seq <= to; seq++ {
		found = append(found, raftstore.Found{
			Seq: seq, Job: "orders", JobID: "0123456789abcdef0123456789abcdef", CheckpointID: int64(seq), MetadataCRC: 7,
			URI: fmt.Sprintf("hdfs://dc1/flink/orders/chk-%d", seq), CompletedAt: time.Unix(1e9, 5e6).UTC(), Files: 3, Bytes: 99,
		})
	}
	return found
}

// hearing collects what a watch says.
type hearing struct {
	mu   sync.Mutex
	news []agent.News
	err  error
	done chan struct{}
}

// watch watches until the test ends.
func watch(t *testing.T, p *Peer) *hearing {
	t.Helper()
	h := &hearing{done: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(h.done)
		h.err = p.Watch(ctx, "prod", func(n agent.News) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.news = append(h.news, n)
			return nil
		})
	}()
	t.Cleanup(func() { cancel(); <-h.done })
	return h
}

func (h *hearing) all() []agent.News {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.news)
}

func (h *hearing) seqs() (seqs []uint64) {
	for _, n := range h.all() {
		for _, f := range n.Found {
			seqs = append(seqs, f.Seq)
		}
	}
	return seqs
}

func TestWatchTellsAllThenNewsThenSignsOfLife(t *testing.T) {
	w := newMemoryWorld(t)
	w.server.cfg.Agent = does{polledAt: time.Unix(1e9, 0).UTC(), problem: "a base is away", gone: []string{"old"}}
	w.group.change(func() { w.group.found["prod"] = foundSeq(1, 1200) })
	h := watch(t, w.peer)
	eventually(t, "all are told", func() bool { return len(h.seqs()) == 1200 })
	news := h.all()
	for i, n := range news[:3] {
		if n.Complete != (i == 2) || len(n.Found) > newsMost {
			t.Errorf("message %d: complete %t, %d checkpoints", i, n.Complete, len(n.Found))
		}
	}
	if last := news[2]; !last.PolledAt.Equal(time.Unix(1e9, 0)) || last.Problem != "a base is away" || !slices.Equal(last.Gone, []string{"old"}) || last.Found[199] != foundSeq(1200, 1200)[0] {
		t.Errorf("the last of them is %+v", last.Found[199])
	}
	w.group.change(func() {})
	for to := uint64(1201); to <= 1204; to++ {
		w.group.change(func() { w.group.found["prod"] = foundSeq(to-5, to) }) // older ones are forgotten
		eventually(t, fmt.Sprintf("%d is told", to), func() bool { s := h.seqs(); return s[len(s)-1] == to })
	}
	if seqs := h.seqs(); len(seqs) != 1204 || !slices.IsSorted(seqs) {
		t.Errorf("told %d", len(seqs))
	}
	before := len(h.all())
	eventually(t, "a sign of life", func() bool { return len(h.all()) > before })
	if n := h.all()[before]; len(n.Found) != 0 || !n.Complete || n.PolledAt.IsZero() {
		t.Errorf("a sign of life is %+v", n)
	}
}

func TestWatchEndsWhenTheExportIsTakenAway(t *testing.T) {
	w := newMemoryWorld(t)
	h := watch(t, w.peer)
	eventually(t, "the first message", func() bool { return len(h.all()) > 0 })
	w.group.change(func() { delete(w.group.exports, "prod") })
	<-h.done
	wantErr(t, "Watch", h.err, fs.ErrPermission)
	wantSays(t, "Watch", h.err, "prod", "from_export")
}

func TestWatchReturnsWhatEachSays(t *testing.T) {
	w := newMemoryWorld(t)
	mine := errors.New("mine")
	wantErr(t, "Watch", w.peer.Watch(t.Context(), "prod", func(agent.News) error { return mine }), mine)
	ctx, cancel := context.WithCancel(t.Context())
	err := w.peer.Watch(ctx, "prod", func(agent.News) error { cancel(); return nil })
	wantErr(t, "Watch", err, context.Canceled)
}

func TestWatchOverACutConnection(t *testing.T) {
	w := newMemoryWorld(t)
	h := watch(t, w.peer)
	eventually(t, "the first message", func() bool { return len(h.all()) > 0 })
	w.network.cut("a1")
	<-h.done
	wantErr(t, "Watch", h.err, fsutil.ErrUnavailable)
	h = watch(t, w.peer)
	eventually(t, "a message after it", func() bool { return len(h.all()) > 0 })
}

// Only the leader knows when the storage was looked at.
func TestWatchFindsTheLeader(t *testing.T) {
	w := newMemoryWorld(t)
	files := opener{func(fsutil.URI) (fsutil.ReadFS, error) { return w.files, nil }}
	second := sourceConfig(w.group, files)
	second.ID, second.Agent = "a2", does{polledAt: time.Unix(1e9, 0)}
	servePeers(t, w.network, "a2", second)
	peer := dialPeer(t, w.network, "nobody", "a1", "a2")

	w.group.change(func() { w.group.leader = "a2" })
	h := watch(t, peer)
	eventually(t, "the leader's word", func() bool { n := h.all(); return len(n) > 0 && !n[0].PolledAt.IsZero() })
	w.group.change(func() { w.group.leader = "a1" })
	<-h.done
	wantErr(t, "a watch at a leader that lost", h.err, fsutil.ErrUnavailable)

	// No endpoint leads, or nobody does: what is known is told, without the time of a look.
	for _, leader := range []string{"a3", ""} {
		w.group.change(func() { w.group.leader, w.group.found["prod"] = leader, foundSeq(1, 2) })
		h = watch(t, peer)
		eventually(t, "a follower's word", func() bool { return len(h.seqs()) == 2 })
	}
}

// silence is a peer that shook hands and then says nothing, while its network is up.
func TestAWatchThatIsSilentIsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		l := &liar{watch: func(stream grpc.ServerStreamingServer[peerv1.WatchResponse]) error {
			err := stream.Send(&peerv1.WatchResponse{Complete: true})
			<-stream.Context().Done()
			return err
		}}
		s := grpc.NewServer()
		peerv1.RegisterPeerServiceServer(s, l)
		listener := n.listen("a1")
		go func() { _ = s.Serve(listener) }()
		p, err := DialPeer(PeerConfig{Datacenter: "dc2", Agent: "b1", Expect: "dc1", Endpoints: []string{"a1"}, dial: n.dial})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		err = p.Watch(t.Context(), "prod", func(agent.News) error { return nil })
		wantErr(t, "Watch", err, fsutil.ErrUnavailable)
		wantSays(t, "Watch", err, "said nothing")
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("it took %s", took)
		}
		_ = p.Close()
		s.Stop()
	})
}

// deaf is a network whose packets stop arriving.
type deaf struct {
	net.Conn
	until chan struct{}
}

func (d deaf) Write(p []byte) (int, error) {
	select {
	case <-d.until:
		return len(p), nil
	default:
		return d.Conn.Write(p)
	}
}

func TestAPeerThatIsSilentIsUnavailableWithin20Seconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, dead := newNetwork(), make(chan struct{})
		blocked := make(chan struct{})
		l := &liar{fetch: func(stream grpc.BidiStreamingServer[peerv1.FetchRequest, peerv1.FetchResponse], _ *peerv1.FetchRequest) error {
			err := stream.Send(piece("hello"))
			close(blocked)
			<-stream.Context().Done()
			return err
		}}
		s := grpc.NewServer()
		peerv1.RegisterPeerServiceServer(s, l)
		listener := n.listen("a1")
		go func() { _ = s.Serve(listener) }()
		p, err := DialPeer(PeerConfig{Datacenter: "dc2", Agent: "b1", Expect: "dc1", Endpoints: []string{"a1"}, dial: func(ctx context.Context, endpoint string) (net.Conn, error) {
			conn, err := n.dial(ctx, endpoint)
			return deaf{conn, dead}, err
		}})
		if err != nil {
			t.Fatal(err)
		}
		remote, err := p.Open("prod").OpenRead(t.Context(), memoryRoot)
		if err != nil {
			t.Fatal(err)
		}
		r, err := remote.Open(t.Context(), "f", 0)
		if err != nil {
			t.Fatal(err)
		}
		<-blocked
		if _, err := r.Read(make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		close(dead) // pings go nowhere from now on
		began := time.Now()
		_, err = r.Read(make([]byte, 1))
		wantErr(t, "Read", err, fsutil.ErrUnavailable)
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("it took %s", took)
		}
		_ = p.Close()
		s.Stop()
	})
}

func TestHandshakeRefusesTheWrongSide(t *testing.T) {
	w := newMemoryWorld(t)
	ask := func(datacenter, expect string) error {
		p, err := DialPeer(PeerConfig{Datacenter: datacenter, Agent: "b1", Expect: expect, Endpoints: []string{"a1"}, dial: w.network.dial})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		_, err = openRemote(t, p, memoryRoot).Stat(t.Context(), "f")
		return err
	}
	err := ask("dc2", "dc9")
	wantErr(t, "an agent of another datacenter", err, fsutil.ErrUnavailable)
	wantSays(t, "an agent of another datacenter", err, "dc1", "dc9", "a1", "endpoints")

	client := rawClient(t, w.network, "a1", "dc2")
	for name, req := range map[string]*peerv1.HandshakeRequest{
		"protocol":             {Protocol: 2, Datacenter: "dc2", ExpectedDatacenter: "dc1"},
		"says that it is of":   {Protocol: 1, Datacenter: "dc3", ExpectedDatacenter: "dc1"},
		"mend the endpoints":   {Protocol: 1, Datacenter: "dc2", ExpectedDatacenter: ""},
		"run the same release": {Datacenter: "dc2", ExpectedDatacenter: "dc1"},
	} {
		_, err := client.Handshake(t.Context(), req)
		wantSays(t, "Handshake", err, name)
	}
	for name, answer := range map[string]*peerv1.HandshakeResponse{
		"protocol 2":        {Protocol: 2, Datacenter: "dc1"},
		`datacenter "evil"`: {Protocol: 1, Datacenter: "evil"},
	} {
		l := &liar{handshake: answer}
		_, err := l.remote(t).Stat(t.Context(), "f")
		wantErr(t, "an answer of "+name, err, fsutil.ErrUnavailable)
		wantSays(t, "an answer of "+name, err, name)
	}
}

func TestEndpointsAreTriedInTurn(t *testing.T) {
	w := newMemoryWorld(t)
	put(t, w.files, "orders/f", []byte("hello"))
	wrong := &liar{handshake: &peerv1.HandshakeResponse{Protocol: 1, Datacenter: "dc7", Agent: "x"}}
	wrong.serve(t, w.network, "wrong")
	peer := dialPeer(t, w.network, "nobody", "wrong", "a1")
	if got, err := readAll(t.Context(), openRemote(t, peer, memoryRoot), "orders/f"); err != nil || string(got) != "hello" {
		t.Errorf("read = %q, %v", got, err)
	}
	peer = dialPeer(t, w.network, "nobody", "wrong")
	_, err := openRemote(t, peer, memoryRoot).Stat(t.Context(), "orders/f")
	wantErr(t, "no endpoint answers", err, fsutil.ErrUnavailable)
	wantSays(t, "no endpoint answers", err, "nobody listens at nobody", `of datacenter "dc7", not "dc1"`)
	if n := strings.Count(err.Error(), "\n"); n > 3 {
		t.Errorf("the message has %d lines", n)
	}
}

// Whoever listens at an endpoint after a connection was lost shakes hands too.
func TestAConnectionIsNotMadeAgainBehindTheHandshake(t *testing.T) {
	w := newMemoryWorld(t)
	put(t, w.files, "orders/f", []byte("hello"))
	if _, err := w.remote.Stat(t.Context(), "orders/f"); err != nil {
		t.Fatal(err)
	}
	asked := false
	other := &liar{handshake: &peerv1.HandshakeResponse{Protocol: 1, Datacenter: "dc7", Agent: "x"}, stat: func(*peerv1.StatRequest) (*peerv1.StatResponse, error) {
		asked = true
		return &peerv1.StatResponse{}, nil
	}}
	other.serve(t, w.network, "a1")
	conn := w.peer.link.conn
	w.network.cut("a1")
	eventually(t, "the loss is known", func() bool { return conn.GetState() != connectivity.Ready })
	_, err := w.remote.Stat(t.Context(), "orders/f")
	wantErr(t, "Stat", err, fsutil.ErrUnavailable)
	wantSays(t, "Stat", err, "dc7")
	if asked {
		t.Error("an agent that did not shake hands was asked")
	}
}
