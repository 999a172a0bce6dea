package raftstore

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// speak says a line to a voter's Others, and returns the answer.
func speak(t *testing.T, from *Store, to, line string) string {
	t.Helper()
	conn, err := from.DialMember(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // the answer is all that is wanted
	if _, err := io.WriteString(conn, line+"\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

// echo answers what it is told, and whether the caller has shown a certificate.
func echo(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = conn.Close() }() // the caller sees what came
			line := make([]byte, 64)
			n, err := conn.Read(line)
			for err == nil && !strings.HasSuffix(string(line[:n]), "\n") {
				var more int
				more, err = conn.Read(line[n:])
				n += more
			}
			answer := string(line[:n])
			if state, ok := conn.(*other).ConnectionState(); ok {
				answer += "from " + state.PeerCertificates[0].Subject.CommonName
			}
			_, _ = io.WriteString(conn, answer) // or the caller misses it
		}()
	}
}

func TestVotersTalkAboutOtherThingsOnTheRaftPort(t *testing.T) {
	ours := newAuthority(t)
	for name, tc := range map[string]struct {
		encrypted func(string) *TLS
		want      string
	}{
		"plain TCP": {nil, "PRI\n"},
		"over TLS":  {func(string) *TLS { return ours.voter(t) }, "PRI\nfrom voter"},
	} {
		t.Run(name, func(t *testing.T) {
			g := network(t, tc.encrypted)
			defer g.close(t)
			go echo(g.stores["b"].Others())
			if got := speak(t, g.stores["a"], "b", "PRI"); got != tc.want {
				t.Errorf("answered %q, want %q", got, tc.want)
			}
			leader := g.leader(t) // Raft has its own on the same port
			if err := g.stores[leader].Propose(t.Context(), putRoute(routeProd())); err != nil {
				t.Fatal(err)
			}
			for _, s := range g.stores {
				waitFor(t, s, func(v View) bool { _, ok := v.Route("prod"); return ok })
			}
			if got := speak(t, g.stores["c"], "b", "PRI"); got != tc.want {
				t.Errorf("answered %q beside Raft, want %q", got, tc.want)
			}
		})
	}
}

// Whoever connects and says nothing, or is let in and never accepted, costs the others nothing.
func TestSilentCallersDoNotHoldUpOthers(t *testing.T) {
	ours := newAuthority(t)
	g := network(t, func(string) *TLS { return ours.voter(t) })
	defer g.close(t)
	g.leader(t)
	peers := g.stores["a"].Peers()
	addr := peers[slices.IndexFunc(peers, func(p Peer) bool { return p.ID == "b" })].Addr
	for i := range 60 {
		var conn net.Conn
		var err error
		switch i % 3 {
		case 0: // no handshake
			conn, err = net.Dial("tcp", addr)
		case 1: // a handshake, and then nothing
			conn, err = tls.Dial("tcp", addr, ours.voter(t).Client)
		case 2: // something that nobody accepts yet
			if conn, err = tls.Dial("tcp", addr, ours.voter(t).Client); err == nil {
				_, err = io.WriteString(conn, "P")
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }() // it has done its part
	}
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		echo(g.stores["b"].Others())
	}()
	began := time.Now()
	if got := speak(t, g.stores["c"], "b", "PRI"); got != "PRI\nfrom voter" {
		t.Errorf("answered %q", got)
	}
	leader := g.leader(t)
	if err := g.stores[leader].Propose(t.Context(), putRoute(routeProd())); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > handshakeWithin/2 {
		t.Errorf("took %s beside callers who say nothing", took)
	}
	if err := g.stores["b"].Others().Close(); err != nil {
		t.Error(err)
	}
	<-accepted
}

func TestAConnectionThatIsNotRaftsIsNotTheLibrarysToClose(t *testing.T) {
	ours, theirs := net.Pipe()
	defer func() { _ = theirs.Close() }() // the test is over
	o := newOthers("a")
	c := &called{Conn: ours, others: o}
	go func() { _, _ = io.WriteString(theirs, "PRI") }() // what is read tells
	taken := make(chan net.Conn, 1)
	go func() {
		conn, err := o.Accept()
		if err != nil {
			t.Error(err)
		}
		taken <- conn
	}()
	if n, err := c.Read(make([]byte, 8)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("the library reads %d, %v; want its end", n, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	got := make([]byte, 3)
	if _, err := io.ReadFull(<-taken, got); err != nil || string(got) != "PRI" {
		t.Errorf("its new owner reads %q, %v", got, err)
	}
}

func TestAVoterAloneHasNobodyToTalkTo(t *testing.T) {
	s, err := openFast(alone(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a", "b"} {
		if conn, err := s.DialMember(t.Context(), id); !errors.Is(err, ErrInvalid) {
			t.Errorf("DialMember(%s) = %v, %v; want %v", id, conn, err, ErrInvalid)
		}
	}
	ended := make(chan error, 1)
	go func() {
		_, err := s.Others().Accept()
		ended <- err
	}()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept = %v after Close, want %v", err, net.ErrClosed)
	}
}

// The first byte of each of the library's requests is its number; it must never be what gRPC begins with.
func TestRaftsRequestsDoNotBeginAsOthersDo(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }() // the test is over
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	transport := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: newStreams(free, "own", nil), Timeout: time.Second, Logger: raftLogger(slog.New(slog.DiscardHandler)),
	})
	defer func() { _ = transport.Close() }() // the test is over
	to := raft.ServerAddress(listener.Addr().String())
	for name, call := range map[string]func() error{
		"append": func() error {
			return transport.AppendEntries("b", to, &raft.AppendEntriesRequest{}, &raft.AppendEntriesResponse{})
		},
		"vote": func() error {
			return transport.RequestVote("b", to, &raft.RequestVoteRequest{}, &raft.RequestVoteResponse{})
		},
		"pre-vote": func() error {
			return transport.RequestPreVote("b", to, &raft.RequestPreVoteRequest{}, &raft.RequestPreVoteResponse{})
		},
		"lead now": func() error {
			return transport.TimeoutNow("b", to, &raft.TimeoutNowRequest{}, &raft.TimeoutNowResponse{})
		},
		"snapshot": func() error {
			return transport.InstallSnapshot("b", to, &raft.InstallSnapshotRequest{}, &raft.InstallSnapshotResponse{}, strings.NewReader(""))
		},
	} {
		ended := make(chan error, 1)
		go func() { ended <- call() }()
		conn, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 1)
		if _, err := io.ReadFull(conn, first); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		if err := <-ended; err == nil {
			t.Errorf("%s: answered by nobody, and no error", name)
		}
		if first[0] >= ' ' {
			t.Errorf("%s begins with %q", name, first)
		}
	}
}
