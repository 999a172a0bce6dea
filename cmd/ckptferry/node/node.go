// Package node is one agent as a process: it opens what the configuration names (the group's log, the stores, the
// listeners, the other datacenters), runs the agent and its servers, and stops them in order.
//
// It decides nothing about replicas; it only wires. Start at Run.
package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/config"
	"github.com/ckptferry/ckptferry/cmd/ckptferry/metrics"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/agent"
	"github.com/ckptferry/ckptferry/replicator/keeper"
	"github.com/ckptferry/ckptferry/replicator/migrate"
	"github.com/ckptferry/ckptferry/replicator/promote"
	"github.com/ckptferry/ckptferry/rpc"
)

// StopWithin bounds an orderly stop. What is copied by then is on record at the target, so nothing is lost by the end
// of the process.
const StopWithin = 10 * time.Second

// node is an agent's parts. What was opened is closed in the opposite order.
type node struct {
	cfg     config.Agent
	log     *slog.Logger
	version string
	places  *places
	store   *raftstore.Store
	voter   *rpc.Voter // store, whoever leads
	agent   *agent.Agent
	keeper  *keeper.Keeper
	moveTLS func(rpc.TLS) // nil without TLS

	servers   []server // of listeners, in their order
	listeners []net.Listener
	closers   []func() error
}

// groupListener is the place of the group's own listener among the others: after the API's and the peers'.
const groupListener = 2

// server answers on one listener.
type server interface {
	Serve(net.Listener) error // until Stop; nil then
	Stop()                    // bounded
}

// Run runs an agent until ctx ends, and then stops it in order, within StopWithin. An error is why it could not start
// or go on: ErrConfig, replicator.ErrRefused for an address that is in use, or raftstore's for a data directory that
// must not be used. version is what the agent says of itself.
func Run(ctx context.Context, cfg config.Agent, log *slog.Logger, version string) error {
	// Here it ends the agent. Later, when the files are replaced while it runs, what doesn't fit is logged, and the old
	// ones are used on.
	if err := cfg.CheckCertificates(time.Now()); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	r := &node{cfg: cfg, log: log, version: version}
	if err := r.open(); err != nil {
		return errors.Join(err, r.close())
	}
	log.Info("agent ready", "agent", cfg.Node.ID, "datacenter", cfg.Node.DC, "api", r.listeners[0].Addr().String(),
		"peer", r.listeners[1].Addr().String(), "http", r.httpAddress(), "admin", r.adminAddress(), "raft", r.ownRaftAddress(), "voters", len(cfg.Voters), "tls", cfg.TLS.Set(), "data_dir", cfg.Node.DataDir)

	working, stop := context.WithCancel(ctx)
	var following sync.WaitGroup
	defer following.Wait()
	defer stop()
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	following.Go(func() {
		(&follower{now: cfg, log: log, tune: r.agent.Tune, scrubRate: r.keeper.SetScrubRate, tls: r.moveTLS}).follow(working, hangups)
	})
	worked, served := make(chan error, 1), make(chan error, len(r.servers))
	part := func(run func() error, ended chan<- error) {
		go func() {
			ended <- run()
			stop() // one that ends by itself ends the agent
		}()
	}
	part(func() error { return r.agent.Run(working) }, worked)
	for i, server := range r.servers {
		part(func() error { return server.Serve(r.listeners[i]) }, served)
	}
	<-working.Done()

	log.Info("agent stopping", "within", StopWithin)
	released, stopped := make(chan struct{}), make(chan error, 1)
	go func() { stopped <- r.stop(worked, served, released) }()
	select {
	case err := <-stopped:
		if err == nil {
			log.Info("agent stopped")
		}
		return err
	case <-time.After(StopWithin):
	}
	select {
	case <-released:
		log.Warn("agent stopped; calls that were still under way are cut off")
		return nil
	default:
		return fmt.Errorf("agent did not stop within %s: gave up waiting; nothing is lost, what is copied is on record at the target", StopWithin)
	}
}

// stop ends the servers and the agent's work together. As soon as the work has ended, leadership is handed over and the
// data directory let go of, and released is closed, while calls that read may still go on.
func (r *node) stop(worked, served <-chan error, released chan<- struct{}) error {
	var servers sync.WaitGroup
	for _, server := range r.servers {
		servers.Go(server.Stop)
	}
	err := <-worked
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	err = errors.Join(err, r.voter.Close(), r.store.Close())
	close(released)
	servers.Wait()
	for range r.servers {
		err = errors.Join(err, <-served)
	}
	return errors.Join(err, r.close())
}

// open brings everything up to the point where it only has to be run. What it opened is in r also after an error.
func (r *node) open() error {
	cfg := r.cfg
	var tlsFiles *rpc.TLS // nil: plaintext
	if cfg.TLS.Set() {
		files := rpc.TLS{CertFile: cfg.TLS.CertFile, KeyFile: cfg.TLS.KeyFile, CAFile: cfg.TLS.CAFile}.Movable()
		tlsFiles, r.moveTLS = &files, files.Move
	}
	r.places = openPlaces(cfg.Places)
	r.closers = append(r.closers, r.places.Close)
	// The listeners first: a second start of the same agent says so before it waits for the data directory's lock.
	if err := r.listen(); err != nil {
		return err
	}
	if err := r.openStore(tlsFiles); err != nil {
		return err
	}
	sources, err := r.dial(tlsFiles)
	if err != nil {
		return err
	}
	stages, copies := metrics.NewStages(), &migrate.Copies{}
	migrations, err := r.migrations(copies)
	if err == nil {
		err = r.openKeeper()
	}
	if err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	r.agent, err = agent.New(agent.Config{
		ID: cfg.Node.ID, Datacenter: cfg.Node.DC, Version: r.version, Group: r.voter, Reporter: r.voter, Stores: r.places, Sources: sources,
		Poll: cfg.Limits.Poll, SilentAfter: cfg.Limits.SilentAfter, Parallel: cfg.Limits.Parallel, FilesParallel: cfg.Limits.Files, ShardBytes: agent.DefaultShardBytes,
		LinkBytesPerSecond: int64(cfg.Limits.LinkRate),
		Observer:           observers{stages, copies}, Log: r.log,
		WhileLeading: []func(context.Context){migrations.WhileLeading, r.keeper.Retention, r.keeper.Scrub},
	})
	if err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	serving := rpc.ServerConfig{
		ID: cfg.Node.ID, Datacenter: cfg.Node.DC, Version: r.version, Group: r.voter, Agent: r.agent,
		Apply: func(ctx context.Context, exports []raftstore.Export, routes []raftstore.Route, dryRun bool) ([]string, error) {
			if err := r.usable(exports, routes); err != nil {
				return nil, err
			}
			return agent.ApplyRoutes(ctx, r.voter, exports, routes, dryRun)
		},
		Remove: func(ctx context.Context, exports, routes []string, dryRun bool) ([]string, error) {
			return agent.RemoveRoutes(ctx, r.store, exports, routes, dryRun)
		},
		Pin: func(ctx context.Context, key raftstore.Key, pinned bool) (raftstore.Replica, error) {
			return agent.Pin(ctx, r.voter, key, pinned)
		},
		Failover: &promote.Promoter{Group: r.store, Stores: r.places, SilentAfter: r.agent.SilentAfter},
		Fence: func(ctx context.Context, told promote.Told) ([]raftstore.FencedJob, error) {
			return promote.RecordFences(ctx, r.voter, told)
		},
		Stores: r.places, Reached: r.places.Reached, SilentAfter: r.agent.SilentAfter, TLS: tlsFiles, Log: r.log,
	}
	serving.Migrations = migrations
	serving.Storage, serving.Propose = r.keeper, r.voter.Propose
	serving.Forward, serving.Membership = r.voter, r.store
	serving.Backend = backend{r.store, r.agent}
	r.servers = []server{rpc.NewAPI(serving), rpc.NewPeerServer(serving), rpc.NewGroupServer(serving)}
	if cfg.Listen.HTTP != "" {
		r.servers = append(r.servers, metrics.NewServer(metrics.Config{
			ID: cfg.Node.ID, Datacenter: cfg.Node.DC, Version: r.version, Group: r.voter, Agent: r.agent, Keeper: r.keeper, Stages: stages, SilentAfter: r.agent.SilentAfter,
		}))
	}
	if cfg.Listen.Admin != "" {
		r.servers = append(r.servers, rpc.NewAdmin(serving))
	}
	return nil
}

// listen opens the API's listener, the peers', and, if they are wanted, those of metrics and of channelz, in this order.
func (r *node) listen() error {
	for _, l := range []struct{ key, addr string }{{"api", r.cfg.Listen.API}, {"peer", r.cfg.Listen.Peer}, {"http", r.cfg.Listen.HTTP}, {"admin", r.cfg.Listen.Admin}} {
		if l.addr == "" {
			continue
		}
		listener, err := net.Listen("tcp", l.addr)
		if err != nil {
			return listenError("listen."+l.key, l.addr, err)
		}
		r.listeners = append(r.listeners, listener)
		r.closers = append(r.closers, func() error {
			if err := listener.Close(); !errors.Is(err, net.ErrClosed) {
				return err
			}
			return nil // its server closed it
		})
	}
	return nil
}

func (r *node) openStore(tlsFiles *rpc.TLS) error {
	cfg := raftstore.Config{Group: r.cfg.Node.DC, ID: r.cfg.Node.ID, Join: r.cfg.Raft.Join, Dir: filepath.Join(r.cfg.Node.DataDir, "raft"), Listen: r.cfg.Listen.Raft, Log: r.log}
	for _, v := range r.cfg.Voters {
		cfg.Peers = append(cfg.Peers, raftstore.Peer{ID: v.ID, Addr: v.Addr})
	}
	if tlsFiles != nil {
		server, client, err := tlsFiles.RaftTLS(r.cfg.Node.DC, r.log)
		if err != nil {
			return fmt.Errorf("%w: tls: %w", ErrConfig, err)
		}
		cfg.TLS = &raftstore.TLS{Server: server, Client: client}
	}
	var err error
	r.store, err = raftstore.Open(cfg)
	switch {
	case isListenError(err):
		return listenError("listen.raft", cmp.Or(r.cfg.Listen.Raft, r.ownRaftAddress()), err)
	case err != nil:
		return fmt.Errorf("open %s (node.data_dir): %w", r.cfg.Node.DataDir, err)
	}
	r.closers = append(r.closers, r.store.Close)
	r.voter = rpc.NewVoter(r.cfg.Node.ID, r.store)
	r.closers = append(r.closers, r.voter.Close)
	r.listeners = slices.Insert(r.listeners, groupListener, r.store.Others())
	return nil
}

// backend is what the other agents of the group ask of this one.
type backend struct {
	*raftstore.Store
	agent *agent.Agent
}

// Heard implements rpc.GroupBackend.
func (b backend) Heard(r agent.Report) (term uint64, err error) { return b.agent.Heard(r) }

// dial makes a client for each of the other datacenters; it connects when it is first used.
func (r *node) dial(tlsFiles *rpc.TLS) (map[string]agent.SourceDC, error) {
	sources := map[string]agent.SourceDC{}
	for name, dc := range r.cfg.Datacenters {
		peer, err := rpc.DialPeer(rpc.PeerConfig{
			Datacenter: r.cfg.Node.DC, Agent: r.cfg.Node.ID, Expect: name, Endpoints: dc.Endpoints, TLS: tlsFiles, Log: r.log,
		})
		if err != nil {
			return nil, fmt.Errorf("start agent: %w", err)
		}
		sources[name] = peer
		r.closers = append(r.closers, peer.Close)
	}
	return sources, nil
}

// close closes what open opened, the last first.
func (r *node) close() error {
	var errs []error
	for _, c := range slices.Backward(r.closers) {
		errs = append(errs, c())
	}
	r.closers = nil
	return errors.Join(errs...)
}

func (r *node) httpAddress() string {
	if r.cfg.Listen.HTTP == "" {
		return "none"
	}
	return r.listeners[groupListener+1].Addr().String()
}

func (r *node) adminAddress() string {
	if r.cfg.Listen.Admin == "" {
		return "none"
	}
	return r.listeners[len(r.listeners)-1].Addr().String()
}

func (r *node) ownRaftAddress() string {
	for _, v := range r.cfg.Voters {
		if v.ID == r.cfg.Node.ID && (len(r.cfg.Voters) > 1 || r.cfg.Raft.Join) {
			return v.Addr
		}
	}
	return "none (a group of one)"
}
