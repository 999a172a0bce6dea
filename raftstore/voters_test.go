package raftstore

import (
	"bytes"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// joiner is a node that waits to be let in.
func joiner(t *testing.T, id, dir string) (*Store, Config) {
	t.Helper()
	cfg := Config{Group: "dc2", ID: id, Dir: dir, Join: true, Peers: []Peer{{ID: id, Addr: freeAddress(t)}}, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	s, err := open(cfg, patient)
	if err != nil {
		t.Fatal(err)
	}
	return s, cfg
}

func idsOf(peers []Peer) string {
	var all []string
	for _, p := range peers {
		all = append(all, p.ID)
	}
	return strings.Join(all, " ")
}

func TestANodeJoinsAGroupThatRunsAndAnotherLeaves(t *testing.T) {
	g := network(t, nil)
	defer g.close(t)
	leader := g.stores[g.leader(t)]
	if err := leader.Propose(t.Context(), putRoute(routeProd())); err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	d, cfg := joiner(t, "d", dir)
	g.stores["d"] = d
	if role := d.Role(); role != "follower" || len(d.Peers()) != 0 {
		t.Errorf("before it is let in it is a %s among %v", role, d.Peers())
	}
	for range 2 {
		if err := leader.AddVoter(t.Context(), "d", cfg.Peers[0].Addr); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, d, func(v View) bool { _, ok := v.Route("prod"); return ok })
	if got := idsOf(d.Peers()); got != "a b c d" {
		t.Errorf("its group is %s", got)
	}

	// It takes part, also after a restart.
	delete(g.stores, "d")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d, err := open(cfg, patient)
	if err != nil {
		t.Fatal(err)
	}
	g.stores["d"] = d
	if err := leader.TransferLeadership(t.Context(), "d"); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "d leads", func() bool { return d.Role() == "leader" })
	if err := d.Propose(t.Context(), raise(1)); err != nil && !errors.Is(err, ErrStale) {
		t.Fatal(err)
	}

	for range 2 {
		g.whoeverLeads(t, "a leaves", func(leader *Store) error { return leader.RemoveVoter(t.Context(), "a") })
	}
	waitUntil(t, "the group is without a", func() bool { return idsOf(d.Peers()) == "b c d" })
}

func TestChangesOfVotersThatAreRefused(t *testing.T) {
	g := network(t, nil)
	defer g.close(t)
	first := g.leader(t)
	leader := g.stores[first]
	follower := g.stores[map[string]string{"a": "b", "b": "c", "c": "a"}[first]]
	single, err := openFast(alone(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = single.Close() }() // the test is over
	waitUntil(t, "it leads", func() bool { return single.Role() == "leader" })
	taken := leader.Peers()[0].Addr
	for name, tc := range map[string]struct {
		change func() error
		want   error
	}{
		"add at a follower":            {func() error { return follower.AddVoter(t.Context(), "d", freeAddress(t)) }, ErrNotLeader},
		"remove at a follower":         {func() error { return follower.RemoveVoter(t.Context(), "a") }, ErrNotLeader},
		"transfer at a follower":       {func() error { return follower.TransferLeadership(t.Context(), "") }, ErrNotLeader},
		"add who does not answer":      {func() error { return leader.AddVoter(t.Context(), "d", freeAddress(t)) }, ErrUnreachable},
		"add at an address in use":     {func() error { return leader.AddVoter(t.Context(), "d", taken) }, ErrInvalid},
		"add nobody":                   {func() error { return leader.AddVoter(t.Context(), "", taken) }, ErrInvalid},
		"add to a group of one":        {func() error { return single.AddVoter(t.Context(), "b", freeAddress(t)) }, ErrInvalid},
		"remove the last":              {func() error { return single.RemoveVoter(t.Context(), "a") }, ErrLastVoter},
		"transfer to a stranger":       {func() error { return leader.TransferLeadership(t.Context(), "z") }, ErrInvalid},
		"transfer in a group of one":   {func() error { return single.TransferLeadership(t.Context(), "") }, ErrInvalid},
		"transfer to who leads is all": {func() error { return leader.TransferLeadership(t.Context(), first) }, nil},
	} {
		if err := tc.change(); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	if got := idsOf(leader.Peers()); got != "a b c" {
		t.Errorf("the group is %s", got)
	}
}

// A directory's own voters count once the group has changed them; before that another configuration is a mistake.
func TestDirectoryWhoseVotersChanged(t *testing.T) {
	changed := func(servers ...raft.Server) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			logs, err := filepath.Glob(filepath.Join(dir, "snapshots", "*"))
			if err != nil || len(logs) == 0 {
				t.Fatal(logs, err)
			}
			s, err := openFast(alone(dir))
			if err != nil {
				t.Fatal(err)
			}
			waitUntil(t, "it leads", func() bool { return s.Role() == "leader" })
			for _, server := range servers {
				if err := s.raft.AddNonvoter(server.ID, server.Address, 0, 0).Error(); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	b := raft.Server{ID: "b", Address: "127.0.0.1:1"}
	for name, tc := range map[string]struct {
		given func(t *testing.T, dir string)
		peers []Peer
		want  error
		warns bool
	}{
		"never, and the same":    {nil, []Peer{{ID: "a"}}, nil, false},
		"never, and others":      {nil, []Peer{{"a", "127.0.0.1:0"}, {"b", "127.0.0.1:1"}}, ErrForeign, false},
		"changed, and not known": {changed(b), []Peer{{ID: "a"}}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := closedDirectory(t)
			if tc.given != nil {
				tc.given(t, dir)
			}
			var logged bytes.Buffer
			s, err := openFast(Config{Group: "dc2", ID: "a", Dir: dir, Peers: tc.peers, Log: slog.New(slog.NewTextHandler(&logged, nil))})
			if !errors.Is(err, tc.want) || (err != nil && tc.want == nil) {
				t.Fatalf("Open = %v, want %v", err, tc.want)
			}
			if err == nil {
				err = s.Close()
			}
			if warned := strings.Contains(logged.String(), "the group has changed its voters"); warned != tc.warns {
				t.Errorf("warned: %t, want %t; %v", warned, tc.warns, err)
			}
		})
	}
}

func TestWhoWasTakenOutIsRefused(t *testing.T) {
	g := network(t, nil)
	defer g.close(t)
	first := g.leader(t)
	dir := t.TempDir()
	d, cfg := joiner(t, "d", dir)
	if err := g.stores[first].AddVoter(t.Context(), "d", cfg.Peers[0].Addr); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "it knows", func() bool { return len(d.Peers()) == 4 })
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	// What it would have heard, had it been there when it was taken out.
	without := raft.Configuration{Servers: slices.DeleteFunc(votersOf(Config{Peers: g.stores[first].Peers()}), func(s raft.Server) bool { return s.ID == "d" })}
	directory, err := openDirectory(cfg)
	if err != nil {
		t.Fatal(err)
	}
	last, err := directory.bolt.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	entry := &raft.Log{Index: last + 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(without)}
	if err := errors.Join(directory.bolt.StoreLog(entry), directory.close()); err != nil {
		t.Fatal(err)
	}
	cfg.Join = false
	cfg.Peers = append(cfg.Peers, g.stores[first].Peers()[0])
	if s, err := open(cfg, patient); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "taken out") {
		t.Errorf("Open = %v, %v; want %v that says so", s, err, ErrForeign)
	}
	cfg.Join = true
	s, err := open(cfg, patient)
	if err != nil {
		t.Fatalf("with Join: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// waitUntil is for what the state doesn't tell.
func waitUntil(t *testing.T, what string, is func() bool) {
	t.Helper()
	late := time.After(30 * time.Second)
	for !is() {
		select {
		case <-late:
			t.Fatalf("not within 30 s: %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
