package raftstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

// firstIndex is that of the entry which holds a group's first voters. Each change of them has a higher one.
const firstIndex = 1

// reachWithin bounds the attempt to reach a new voter.
const reachWithin = 5 * time.Second

func votersOf(cfg Config) []raft.Server {
	var voters []raft.Server
	for _, p := range cfg.Peers {
		addr := p.Addr
		if cfg.alone() {
			addr = p.ID // nobody dials it, and it may change
		}
		voters = append(voters, raft.Server{ID: raft.ServerID(p.ID), Address: raft.ServerAddress(addr)})
	}
	slices.SortFunc(voters, func(a, b raft.Server) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return voters
}

// checkVoters compares the voters that the configuration names with those that the group has. A group that changed its
// voters has its own say; one that never did was either made with another configuration, or somebody means to change
// its voters in the files, which would make two groups of it.
func (s *Store) checkVoters(cfg Config, p parts, named []raft.Server) error {
	has, err := s.voters()
	switch {
	case err != nil:
		return err
	case len(has) == 0 && cfg.Join, slices.Equal(has, named):
		return nil
	case !slices.ContainsFunc(has, func(v raft.Server) bool { return string(v.ID) == cfg.ID }):
		if cfg.Join {
			return nil // it was let in once; it waits to be let in again
		}
		return fmt.Errorf("%w: node %s is not among the voters of its group any more (%s): it was taken out. To have it join "+
			"again, empty %s, set raft.join and add it as a voter", ErrForeign, cfg.ID, names(has), cfg.Dir)
	case cfg.Join:
		return nil // its configuration named the group as it was when it joined, if that
	}
	changed, err := votersChanged(p)
	switch {
	case err != nil:
		return err
	case !changed:
		return fmt.Errorf("%w: its group has the voters %s, but the configuration names %s. Voters are added and removed in "+
			"the group that runs, not in the configuration", ErrForeign, names(has), names(named))
	}
	s.log.Warn("the group has changed its voters since it was made: the group's count, not the configuration's; bring the configuration up to date",
		"agent", cfg.ID, "group", names(has), "configuration", names(named))
	return nil
}

// votersChanged says whether the group's voters are others than its first ones. The library tells who they are, and not
// since when.
func votersChanged(p parts) (bool, error) {
	snapshots, err := p.snapshots.List()
	if err != nil {
		return false, fmt.Errorf("read raft snapshots: %w", err)
	}
	for _, snapshot := range snapshots {
		if snapshot.ConfigurationIndex > firstIndex {
			return true, nil
		}
	}
	first, err := p.logs.FirstIndex()
	if err != nil {
		return false, fmt.Errorf("read raft log: %w", err)
	}
	last, err := p.logs.LastIndex()
	if err != nil {
		return false, fmt.Errorf("read raft log: %w", err)
	}
	for index := max(first, firstIndex+1); index <= last; index++ {
		var entry raft.Log
		if err := p.logs.GetLog(index, &entry); errors.Is(err, raft.ErrLogNotFound) {
			continue // compacted meanwhile, into a snapshot that is looked at next time
		} else if err != nil {
			return false, fmt.Errorf("read raft log: %w", err)
		}
		if entry.Type == raft.LogConfiguration {
			return true, nil
		}
	}
	return false, nil
}

// voters lists the group's voters by id as this node knows them.
func (s *Store) voters() ([]raft.Server, error) {
	current := s.raft.GetConfiguration()
	if err := current.Error(); err != nil {
		return nil, fmt.Errorf("read raft voters: %w", err)
	}
	voters := slices.Clone(current.Configuration().Servers)
	slices.SortFunc(voters, func(a, b raft.Server) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return voters, nil
}

func names(voters []raft.Server) string {
	var all []string
	for _, v := range voters {
		all = append(all, fmt.Sprintf("%s=%s", v.ID, v.Address))
	}
	return cmp.Or(strings.Join(all, ", "), "none")
}

// Peers lists the voters by id, this node too, as this node knows them: the group's, whatever the configuration named.
func (s *Store) Peers() []Peer {
	voters, err := s.voters()
	if err != nil {
		return nil
	}
	peers := make([]Peer, len(voters))
	for i, v := range voters {
		peers[i] = Peer{ID: string(v.ID), Addr: string(v.Address)}
		if peers[i] == (Peer{ID: s.id, Addr: s.id}) {
			peers[i].Addr = s.addr // a voter alone, of which the group knows no address
		}
	}
	return peers
}

// AddVoter lets a node into the group, or moves a voter to another address; the node was started with Config.Join on an
// empty directory. A node that can't be reached is refused: it would count for the majority and never answer. Only the
// leader can; else ErrNotLeader. Adding twice is adding once. ErrInvalid: no id or address, an address that another
// voter has, or a group without a network.
func (s *Store) AddVoter(ctx context.Context, id, addr string) error {
	doing := fmt.Sprintf("add voter %s at %s", id, addr)
	voters, err := s.voters()
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", doing, err)
	case id == "" || addr == "":
		return fmt.Errorf("%s: %w: it needs an id and an address host:port", doing, ErrInvalid)
	case s.raft.State() != raft.Leader:
		return fmt.Errorf("%s: %w", doing, ErrNotLeader)
	case slices.ContainsFunc(voters, func(v raft.Server) bool { return string(v.ID) == id && string(v.Address) == addr }):
		return nil
	case slices.ContainsFunc(voters, func(v raft.Server) bool { return string(v.ID) != id && string(v.Address) == addr }):
		return fmt.Errorf("%s: %w: another voter has this address: %s", doing, ErrInvalid, names(voters))
	case s.network == nil:
		return fmt.Errorf("%s: %w: this node was configured as a group of one and has no network that others could reach it by", doing, ErrInvalid)
	}
	if err := s.reachable(ctx, addr); err != nil {
		return fmt.Errorf("%s: %w: it can't be reached, and would count for the majority without an answer: %v", doing, ErrUnreachable, err)
	}
	return s.changeVoters(ctx, doing, func() raft.Future { return s.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(addr), 0, 0) })
}

func (s *Store) reachable(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, reachWithin)
	defer cancel()
	conn, err := s.network.dial(ctx, addr)
	if err != nil {
		return err
	}
	return conn.Close()
}

// RemoveVoter takes a node out of the group; its copies of the state stay where they are. The last voter is refused with
// ErrLastVoter. Only the leader can; else ErrNotLeader. A leader that removes itself leads no more. Removing what is not
// there is done already.
func (s *Store) RemoveVoter(ctx context.Context, id string) error {
	doing := "remove voter " + id
	voters, err := s.voters()
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", doing, err)
	case id == "":
		return fmt.Errorf("%s: %w: it needs an id", doing, ErrInvalid)
	case s.raft.State() != raft.Leader:
		return fmt.Errorf("%s: %w", doing, ErrNotLeader)
	case !slices.ContainsFunc(voters, func(v raft.Server) bool { return string(v.ID) == id }):
		return nil
	case len(voters) == 1:
		return fmt.Errorf("%s: %w", doing, ErrLastVoter)
	}
	return s.changeVoters(ctx, doing, func() raft.Future { return s.raft.RemoveServer(raft.ServerID(id), 0, 0) })
}

// TransferLeadership has another voter lead: the one of that id, or with "" the one with the longest log. It returns
// when that one was told to, which need not be when it leads. Only the leader can; else ErrNotLeader. To the leader
// itself it is done already. ErrInvalid: an id that isn't a voter's, or nobody else to lead.
func (s *Store) TransferLeadership(ctx context.Context, id string) error {
	doing := "transfer leadership to " + cmp.Or(id, "another voter")
	voters, err := s.voters()
	i := slices.IndexFunc(voters, func(v raft.Server) bool { return string(v.ID) == id })
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", doing, err)
	case s.raft.State() != raft.Leader:
		return fmt.Errorf("%s: %w", doing, ErrNotLeader)
	case id == s.id:
		return nil
	case id != "" && i < 0:
		return fmt.Errorf("%s: %w: the group's voters are %s", doing, ErrInvalid, names(voters))
	case len(voters) == 1:
		return fmt.Errorf("%s: %w: it is the only voter", doing, ErrInvalid)
	}
	return s.changeVoters(ctx, doing, func() raft.Future {
		if id == "" {
			return s.raft.LeadershipTransfer()
		}
		return s.raft.LeadershipTransferToServer(voters[i].ID, voters[i].Address)
	})
}

// changeVoters waits for a change of the group itself.
func (s *Store) changeVoters(ctx context.Context, doing string, change func() raft.Future) error {
	err := s.await(ctx, func() error { return change().Error() })
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, errClosed):
		return fmt.Errorf("%s: %w (%v)", doing, ErrNotLeader, err)
	default:
		return fmt.Errorf("%s: %w: %w", doing, ErrOutcomeUnknown, err)
	}
}
