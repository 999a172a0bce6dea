package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
)

func mustPropose(t *testing.T, s *Store, cmd *raftv1.Command) {
	t.Helper()
	if err := proposeUntil(t.Context(), s, cmd); err != nil {
		t.Fatal(err)
	}
}

// proposeUntil proposes until the node leads, as a caller does at the start of a group. It waits for leadership.
func proposeUntil(ctx context.Context, s *Store, cmd *raftv1.Command) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	done := errors.New("done")
	err := s.WhileLeader(ctx, func(ctx context.Context, _ uint64) error {
		if err := s.Propose(ctx, cmd); err != nil {
			return err
		}
		return done
	})
	if errors.Is(err, done) {
		return nil
	}
	return err
}

// group is three nodes in memory, whose links can be cut.
type group struct {
	stores     map[string]*Store
	transports map[string]*raft.InmemTransport
}

func newGroup(t *testing.T) *group { return newGroupTuned(t, quick) }

func newGroupTuned(t *testing.T, tune func(*raft.Config)) *group {
	t.Helper()
	g := &group{stores: map[string]*Store{}, transports: map[string]*raft.InmemTransport{}}
	var peers []Peer
	for _, id := range []string{"a", "b", "c"} {
		peers = append(peers, Peer{ID: id, Addr: id})
		_, g.transports[id] = raft.NewInmemTransport(raft.ServerAddress(id))
	}
	for _, p := range peers {
		g.connect(p.ID)
	}
	for _, p := range peers {
		disk := raft.NewInmemStore()
		s, err := start(Config{Group: "dc2", ID: p.ID, Peers: peers}, parts{
			logs: disk, stable: disk, snapshots: raft.NewInmemSnapshotStore(), transport: g.transports[p.ID], tune: tune,
			close: func() error { return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		g.stores[p.ID] = s
	}
	return g
}

// connect links a node with all others, isolate cuts those links.
func (g *group) connect(id string) {
	for other, transport := range g.transports {
		if other != id {
			transport.Connect(raft.ServerAddress(id), g.transports[id])
			g.transports[id].Connect(raft.ServerAddress(other), transport)
		}
	}
}

func (g *group) isolate(id string) {
	for other, transport := range g.transports {
		if other != id {
			transport.Disconnect(raft.ServerAddress(id))
		}
	}
	g.transports[id].DisconnectAll()
}

func (g *group) close(t *testing.T) {
	t.Helper()
	for id, s := range g.stores {
		if err := s.Close(); err != nil {
			t.Errorf("close %s: %v", id, err)
		}
		if g.transports != nil {
			g.isolate(id) // or the others wait for answers of a node that is gone
		}
	}
}

// leader waits until one node but those leads, confirmed by a majority.
func (g *group) leader(t *testing.T, but ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	leads := make(chan string, len(g.stores))
	var nodes sync.WaitGroup
	for id, s := range g.stores {
		if len(but) > 0 && but[0] == id {
			continue
		}
		nodes.Go(func() {
			_ = s.WhileLeader(ctx, func(context.Context, uint64) error { // its error is that it was told to stop
				leads <- id
				return nil
			})
		})
	}
	defer nodes.Wait()
	defer cancel()
	select {
	case id := <-leads:
		return id
	case <-ctx.Done():
		t.Fatal("nobody leads")
		return ""
	}
}

func TestGroupAgreesAndSurvivesItsLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t)
		defer g.close(t)
		first := g.leader(t)
		f := fence(0, 1)
		for _, cmd := range copied(4, f) {
			if err := g.stores[first].Propose(t.Context(), cmd); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.stores[first].Propose(t.Context(), startCopy(4, f)); !errors.Is(err, ErrBadTransition) {
			t.Errorf("start of what is ready = %v, want %v", err, ErrBadTransition)
		}

		g.isolate(first)
		second := g.leader(t, first)
		if err := g.stores[second].Propose(t.Context(), plan(5, f)); err != nil {
			t.Fatal(err)
		}
		if err := g.stores[first].Propose(t.Context(), plan(6, f)); !errors.Is(err, ErrNotLeader) {
			t.Errorf("propose to the isolated leader = %v, want %v", err, ErrNotLeader)
		}
		if err := g.stores[first].Linearize(t.Context()); !errors.Is(err, ErrNotLeader) {
			t.Errorf("linearize on the isolated leader = %v, want %v", err, ErrNotLeader)
		}
		if view := g.stores[first].View(); len(view.Replicas()) != 1 {
			t.Errorf("the isolated node shows %d replicas, want the one that it knew", len(view.Replicas()))
		}

		g.connect(first)
		<-time.After(5 * time.Second) // of the bubble's clock: heartbeats bring the node up to date
		want := ""
		for id, s := range g.stores {
			view := s.View()
			got := fmt.Sprintf("index %d: %x", view.AppliedIndex, bytesOf(t, view.state))
			if want == "" {
				want = got
			} else if got != want {
				t.Errorf("node %s is at\n%s\nanother at\n%s", id, got, want)
			}
		}
	})
}

func TestProposalWithoutAMajorityHasAnUnknownOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t)
		defer g.close(t)
		first := g.leader(t)
		g.isolate(first) // it doesn't know yet, and takes the command
		if err := g.stores[first].Propose(t.Context(), plan(4, fence(0, 1))); !errors.Is(err, ErrOutcomeUnknown) {
			t.Fatalf("Propose = %v, want %v", err, ErrOutcomeUnknown)
		}
		g.connect(first)
		next := g.leader(t)
		if err := g.stores[next].Propose(t.Context(), plan(4, fence(0, 1))); err != nil {
			t.Fatalf("the same again: %v", err)
		}
		if replicas := g.stores[next].View().Replicas(); len(replicas) != 1 {
			t.Errorf("%d replicas, want 1", len(replicas))
		}
	})
}

func TestWhileLeaderCancelsRunWhenTheTermEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t)
		defer g.close(t)
		first := g.leader(t)
		ctx, cancel := context.WithCancel(t.Context())
		started, ended := make(chan uint64, 8), make(chan uint64, 8)
		result := make(chan error, 1)
		go func() {
			result <- g.stores[first].WhileLeader(ctx, func(ctx context.Context, term uint64) error {
				started <- term
				<-ctx.Done()
				ended <- term
				return ctx.Err()
			})
		}()
		term := <-started
		g.isolate(first)
		if over := <-ended; over != term {
			t.Errorf("term %d ended, want %d", over, term)
		}
		g.connect(first)
		<-time.After(5 * time.Second) // it catches up, or nobody could hand over to it
		if other := g.leader(t); other != first {
			handOver := g.stores[other].raft.LeadershipTransferToServer(raft.ServerID(first), raft.ServerAddress(first))
			if err := handOver.Error(); err != nil {
				t.Fatal(err)
			}
		}
		if next := <-started; next <= term {
			t.Errorf("runs again in term %d after %d", next, term)
		}
		cancel()
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Errorf("WhileLeader = %v, want %v", err, context.Canceled)
		}
	})
}

func TestWhileLeaderReturnsWhatRunReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t)
		first := g.leader(t)
		broken := errors.New("broken")
		err := g.stores[first].WhileLeader(t.Context(), func(context.Context, uint64) error { return broken })
		if !errors.Is(err, broken) {
			t.Errorf("WhileLeader = %v, want %v", err, broken)
		}
		g.close(t)
		err = g.stores[first].WhileLeader(t.Context(), func(context.Context, uint64) error { return nil })
		if !errors.Is(err, ErrNotLeader) {
			t.Errorf("WhileLeader on a closed store = %v, want %v", err, ErrNotLeader)
		}
		if err := g.stores[first].Propose(t.Context(), raise(1)); !errors.Is(err, ErrNotLeader) {
			t.Errorf("Propose on a closed store = %v, want %v", err, ErrNotLeader)
		}
	})
}

func TestProposeRefusesWhatTheLogCannotHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t)
		defer g.close(t)
		s := g.stores[g.leader(t)]
		huge := fail(4, fence(0, 1))
		huge.GetFailReplica().Reason = string(make([]byte, maxCommandBytes))
		for name, cmd := range map[string]*raftv1.Command{"nothing": {}, "too large": huge} {
			before := s.raft.LastIndex()
			if err := s.Propose(t.Context(), cmd); !errors.Is(err, ErrInvalid) || s.raft.LastIndex() != before {
				t.Errorf("%s: Propose = %v, log grew by %d; want %v, 0", name, err, s.raft.LastIndex()-before, ErrInvalid)
			}
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Propose(ended, raise(1)); !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.Canceled) {
			t.Errorf("Propose with an ended context = %v", err)
		}
	})
}

// TestLeaderHandsOverWhenItIsClosed gives the group a patience of a minute: who leads before it is over was told to.
func TestLeaderHandsOverWhenItIsClosed(t *testing.T) {
	for name, deadVoter := range map[string]bool{"to who is there": false, "past a dead voter": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const patience = time.Minute
				g := newGroupTuned(t, func(c *raft.Config) {
					quick(c)
					c.HeartbeatTimeout, c.ElectionTimeout = patience, patience
				})
				defer g.close(t)
				<-time.After(4 * patience) // of the bubble's clock: the first election
				first := g.leader(t)
				id, addr := g.stores[first].Leader()
				if role := g.stores[first].Role(); role != "leader" || id != first || addr != first {
					t.Errorf("%s is a %s, and names %s at %s", first, role, id, addr)
				}
				if peers := g.stores[first].Peers(); len(peers) != 3 || peers[0].ID != "a" || peers[2].ID != "c" {
					t.Errorf("peers %v", peers)
				}
				dead := ""
				for id, s := range g.stores {
					if id == first {
						continue
					}
					if leader, _ := s.Leader(); leader != first || s.Role() != "follower" {
						t.Errorf("%s is a %s of %q, want a follower of %s", id, s.Role(), leader, first)
					}
					if deadVoter && dead == "" {
						dead = id
						g.isolate(id)
					}
				}
				began := time.Now()
				if err := g.stores[first].Close(); err != nil {
					t.Fatal(err)
				}
				if role := g.stores[first].Role(); role != "shutdown" {
					t.Errorf("the closed node is a %s", role)
				}
				g.isolate(first)
				if dead != "" {
					g.connect(dead) // one of two is no majority of three
					g.isolate(first)
				}
				closed := g.stores[first]
				delete(g.stores, first)
				next := g.leader(t, dead)
				if took := time.Since(began); took > patience/2 {
					t.Errorf("%s leads after %s: it was not told to", next, took)
				}
				if err := closed.Close(); err != nil {
					t.Errorf("closed twice: %v", err)
				}
			})
		})
	}
}

func TestClosingALeaderWithoutAMajorityEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t)
		defer g.close(t)
		first := g.leader(t)
		g.isolate(first) // it doesn't know yet
		began := time.Now()
		if err := g.stores[first].Close(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("Close took %s", took)
		}
	})
}
