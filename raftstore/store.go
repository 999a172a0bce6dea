package raftstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
)

// maxCommandBytes bounds one log entry. The largest commands name many jobs: 200 promotions of jobs with names of 255
// bytes take 90 KiB, and 500 fences 150 KiB.
const maxCommandBytes = 256 << 10

// cachedEntries is how many of the newest log entries are kept in memory: at most 16 MiB, usually a tenth of a MiB.
const cachedEntries = 256

// Config says who a node is.
type Config struct {
	Group  string       // the datacenter; a node of another one is refused the directory
	ID     string       // the node, unique in the group and the same at every start
	Dir    string       // the log, votes and snapshots; made if absent, locked while open
	Peers  []Peer       // the voters at the group's first start, this node too. One alone needs no network and no address
	Join   bool         // a fresh directory waits for AddVoter instead of starting a group; it needs this node's address
	Listen string       // where to listen when that is not this node's address among Peers: 0.0.0.0:7072
	TLS    *TLS         // between voters; nil is plain TCP
	Log    *slog.Logger // nil discards
	Now    func() time.Time
}

// alone says that the node has no network: nobody will ever join it.
func (c Config) alone() bool { return len(c.Peers) == 1 && !c.Join }

// Peer is one voter of the group.
type Peer struct {
	ID   string
	Addr string // host:port, where the others reach it
}

// Store is a node of the group. Its methods are safe for concurrent use.
type Store struct {
	id      string
	addr    string // as the configuration has it
	raft    *raft.Raft
	fsm     *fsm
	log     *slog.Logger
	now     func() time.Time
	close   func() error // what the node stands on
	network *streams     // nil: none
	others  *others

	mu     sync.Mutex     // guards closing against new waits
	closed chan struct{}  // closed by Close
	ended  atomic.Bool    // the library has stopped; its own word for that may be overwritten by the loop that it stops
	waits  sync.WaitGroup // goroutines that wait for the library's answers
}

// parts is what a node stands on: disk and network, or memory in tests.
type parts struct {
	logs      raft.LogStore
	stable    raft.StableStore
	snapshots raft.SnapshotStore
	transport raft.Transport
	network   *streams           // of the transport; nil in memory
	tune      func(*raft.Config) // changes the library's timing
	close     func() error
}

// Open starts a node on its directory. At a group's first start all nodes are started with the same Peers; later the
// voters are the group's, and Peers only says where this node is. A directory is refused with ErrForeign when it is
// another node's or group's, when this node was taken out of its group, and when its voters differ from Peers although
// the group never changed them. It does not wait for a leader.
func Open(cfg Config) (*Store, error) { return open(cfg, func(*raft.Config) {}) }

// open is Open with the library's timing changed, for tests.
func open(cfg Config, tune func(*raft.Config)) (*Store, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	d, err := openDirectory(cfg)
	if err != nil {
		return nil, err
	}
	transport, network, err := listen(cfg)
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	// The newest entries are sent to each voter and applied right after they were written: reading them back for that
	// took 7 % of a busy leader's time.
	logs, err := raft.NewLogCache(cachedEntries, d.bolt)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cache raft log: %w", err), closeTransport(transport), d.close())
	}
	return start(cfg, parts{
		logs: logs, stable: d.bolt, snapshots: d.snapshots, transport: transport, network: network, tune: tune, close: d.close,
	})
}

func start(cfg Config, p parts) (*Store, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Store{
		id: cfg.ID, fsm: newFSM(), log: cfg.Log, now: cfg.Now, close: p.close, network: p.network, closed: make(chan struct{}),
	}
	if i := slices.IndexFunc(cfg.Peers, func(p Peer) bool { return p.ID == cfg.ID }); i >= 0 {
		s.addr = cfg.Peers[i].Addr
	}
	if s.others = newOthers(address(cfg.ID)); p.network != nil {
		s.others = p.network.others
	}
	config := raft.DefaultConfig()
	config.LocalID = raft.ServerID(cfg.ID)
	config.Logger = raftLogger(cfg.Log)
	config.NoLegacyTelemetry = true
	p.tune(config)
	voters := votersOf(cfg)
	if err := bootstrap(config, p, voters, cfg.Join); err != nil {
		return nil, errors.Join(err, closeTransport(p.transport), p.close())
	}
	node, err := raft.NewRaft(config, s.fsm, p.logs, p.stable, p.snapshots, p.transport)
	if err != nil {
		switch {
		case s.fsm.refused != nil:
			err = s.fsm.refused // the library says only that it could load no snapshot
		case strings.Contains(err.Error(), "existing snapshots"):
			err = fmt.Errorf("%w: no snapshot in %s is whole; put back a copy of this node's directory, or take the node "+
				"out of the group before it starts empty", ErrDamaged, cfg.Dir)
		}
		return nil, errors.Join(fmt.Errorf("start raft node %s: %w", cfg.ID, err), closeTransport(p.transport), p.close())
	}
	s.raft = node
	if err := s.checkVoters(cfg, p, voters); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// bootstrap writes the voters into a fresh log. Every node writes the same, so none has to be the first. A node
// that joins writes nothing: it hears of the group when that has let it in.
func bootstrap(config *raft.Config, p parts, voters []raft.Server, join bool) error {
	used, err := raft.HasExistingState(p.logs, p.stable, p.snapshots)
	if err != nil {
		return fmt.Errorf("%w: read raft state: %v", ErrDamaged, err)
	}
	if used || join {
		return nil
	}
	if err := raft.BootstrapCluster(config, p.logs, p.stable, p.snapshots, p.transport, raft.Configuration{Servers: voters}); err != nil {
		return fmt.Errorf("bootstrap raft group: %w", err)
	}
	return nil
}

func closeTransport(t raft.Transport) error {
	if c, ok := t.(raft.WithClose); ok {
		return c.Close()
	}
	return nil
}

// Propose commits a command and returns when it is applied here. The store stamps proposed_at. Errors: ErrNotLeader
// (nothing was written), ErrOutcomeUnknown (propose it again), or the sentinel with which the state refused it.
func (s *Store) Propose(ctx context.Context, cmd *raftv1.Command) error {
	if cmd.GetOp() == nil {
		return fmt.Errorf("propose: %w: it holds no operation", ErrInvalid)
	}
	if hasUnknownFields(cmd.ProtoReflect()) { // from a newer agent: in the log it would stop every node of this version
		return fmt.Errorf("propose: %w: the command holds what this version doesn't know; update the leader", ErrInvalid)
	}
	stamped := proto.CloneOf(cmd)
	stamped.ProposedAt = timestamppb.New(s.now())
	data, err := proto.Marshal(stamped)
	if err != nil {
		return fmt.Errorf("propose: encode: %w", err)
	}
	if len(data) > maxCommandBytes {
		return fmt.Errorf("propose: %w: %d bytes, at most %d", ErrInvalid, len(data), maxCommandBytes)
	}
	var refusal error
	err = s.await(ctx, func() error {
		applied := s.raft.Apply(data, 0)
		if err := applied.Error(); err != nil {
			return err
		}
		refusal, _ = applied.Response().(error)
		return nil
	})
	switch {
	case err == nil && refusal != nil:
		return fmt.Errorf("propose: %w", refusal)
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, errClosed):
		return fmt.Errorf("propose: %w (%v)", ErrNotLeader, err)
	default:
		return fmt.Errorf("propose: %w: %w", ErrOutcomeUnknown, err)
	}
}

// View is the state as this node has applied it. It never blocks on the group and may be behind it. It costs nothing.
func (s *Store) View() View { return s.fsm.view() }

// Linearize returns when View holds everything that any node had committed before the call. Only the leader can say
// so, with a majority behind it; else ErrNotLeader. It costs one log entry.
func (s *Store) Linearize(ctx context.Context) error {
	err := s.await(ctx, func() error { return s.raft.Barrier(0).Error() })
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("linearize: %w", err)
	default:
		return fmt.Errorf("linearize: %w (%v)", ErrNotLeader, err)
	}
}

// await runs a call into the library, which knows no context, and gives up waiting when ctx ends. The call itself
// goes on; Close waits for it.
func (s *Store) await(ctx context.Context, call func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	done := make(chan error, 1)
	s.mu.Lock()
	if s.isClosed() {
		s.mu.Unlock()
		return errClosed
	}
	s.waits.Go(func() { done <- call() })
	s.mu.Unlock()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close stops the node and lets go of its directory. A leader hands its leadership to another live voter first;
// without a majority it waits until it knows that it leads no more. Calls that are under way end: Propose with
// ErrOutcomeUnknown, WhileLeader with ErrNotLeader. Closing twice is closing once.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.isClosed() {
		s.mu.Unlock()
		return nil
	}
	close(s.closed)
	s.mu.Unlock()
	s.handOver()
	err := errors.Join(s.others.Close(), s.raft.Shutdown().Error())
	s.ended.Store(true)
	s.waits.Wait()
	return errors.Join(err, s.close())
}

func (s *Store) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}
