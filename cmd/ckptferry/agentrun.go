package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/config"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/agent"
	"github.com/ckptferry/ckptferry/rpc"
)

// stopWithin bounds an orderly stop. What is copied by then is on record at the target, so nothing is lost by the end
// of the process.
const stopWithin = 10 * time.Second

func (a *app) agentCommand() *cobra.Command {
	c := &cobra.Command{Use: "agent", Short: "The agent of a datacenter", Args: cobra.NoArgs, RunE: needSubcommand}
	var file string
	run := &cobra.Command{
		Use:   "run --config FILE",
		Short: "Run an agent until SIGTERM or SIGINT",
		Long: `Runs one agent: it joins the Raft group of its datacenter, answers people and other datacenters, and, while it leads the
group, looks for completed checkpoints below what the group exports and pulls what its routes want.

It logs one line when it listens. SIGTERM or SIGINT ends it in order, within 10 s: leadership is handed over, copies under way
are given up (what they copied is used by the next attempt). A second signal ends it at once.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usageError{errors.New("--config is missing: name the agent's configuration (`ckptferry init` writes an example)")}
			}
			cfg, err := config.ReadAgent(file, os.Getenv)
			if err != nil {
				return configError{err}
			}
			return runAgent(cmd.Context(), cfg, newLog(a.err, cfg.Log))
		},
	}
	run.Flags().StringVar(&file, "config", "", "the agent's configuration (required)")
	_ = run.MarkFlagFilename("config", "yaml", "yml")
	c.AddCommand(run)
	return c
}

func newLog(to io.Writer, cfg config.Log) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.Level)) // config knows which there are
	options := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(to, options))
	}
	return slog.New(slog.NewTextHandler(to, options))
}

// runningAgent is an agent's parts. What was opened is closed in the opposite order.
type runningAgent struct {
	cfg    config.Agent
	log    *slog.Logger
	places *places
	store  *raftstore.Store
	agent  *agent.Agent

	servers   []*rpc.Server
	listeners []net.Listener
	closers   []func() error
}

// runAgent runs an agent until ctx ends, and then stops it in order. An error is why it could not start or go on.
func runAgent(ctx context.Context, cfg config.Agent, log *slog.Logger) error {
	r := &runningAgent{cfg: cfg, log: log}
	if err := r.open(); err != nil {
		return errors.Join(err, r.close())
	}
	log.Info("agent ready", "agent", cfg.Node.ID, "datacenter", cfg.Node.DC, "api", r.listeners[0].Addr().String(),
		"peer", r.listeners[1].Addr().String(), "raft", r.ownRaftAddress(), "voters", len(cfg.Voters), "tls", cfg.TLS.Set(), "data_dir", cfg.Node.DataDir)

	working, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1+len(r.servers))
	var parts sync.WaitGroup
	part := func(run func() error) {
		parts.Go(func() {
			ended <- run()
			stop() // one that ends by itself ends the agent
		})
	}
	part(func() error { return r.agent.Run(working) })
	for i, server := range r.servers {
		part(func() error { return server.Serve(r.listeners[i]) })
	}
	<-working.Done()

	log.Info("agent stopping", "within", stopWithin)
	stopped := make(chan error, 1)
	go func() {
		for _, server := range r.servers {
			parts.Go(server.Stop)
		}
		parts.Wait()
		close(ended)
		stopped <- r.close()
	}()
	select {
	case err := <-stopped:
		for partErr := range ended {
			if !errors.Is(partErr, context.Canceled) {
				err = errors.Join(err, partErr)
			}
		}
		if err == nil {
			log.Info("agent stopped")
		}
		return err
	case <-time.After(stopWithin):
		return fmt.Errorf("agent did not stop within %s: gave up waiting; nothing is lost, what is copied is on record at the target", stopWithin)
	}
}

// open brings everything up to the point where it only has to be run. What it opened is in r also after an error.
func (r *runningAgent) open() error {
	cfg := r.cfg
	var tlsFiles *rpc.TLS
	if cfg.TLS.Set() {
		tlsFiles = &rpc.TLS{CertFile: cfg.TLS.CertFile, KeyFile: cfg.TLS.KeyFile, CAFile: cfg.TLS.CAFile}
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
	r.agent, err = agent.New(agent.Config{
		ID: cfg.Node.ID, Datacenter: cfg.Node.DC, Group: r.store, Stores: r.places, Sources: sources,
		Poll: cfg.Limits.Poll, SilentAfter: cfg.Limits.SilentAfter, Parallel: cfg.Limits.Parallel, FilesParallel: cfg.Limits.Files,
		Log: r.log,
	})
	if err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	v, _, _ := build()
	server := rpc.ServerConfig{
		ID: cfg.Node.ID, Datacenter: cfg.Node.DC, Version: v, Group: r.store, Agent: r.agent,
		Apply: func(ctx context.Context, exports []raftstore.Export, routes []raftstore.Route, dryRun bool) ([]string, error) {
			return agent.ApplyRoutes(ctx, r.store, exports, routes, dryRun)
		},
		Stores: r.places, Reached: r.places.Reached, SilentAfter: cfg.Limits.SilentAfter, TLS: tlsFiles, Log: r.log,
	}
	r.servers = []*rpc.Server{rpc.NewAPI(server), rpc.NewPeerServer(server)}
	return nil
}

// listen opens the API's listener and the peers', in this order.
func (r *runningAgent) listen() error {
	for _, l := range []struct{ key, addr string }{{"api", r.cfg.Listen.API}, {"peer", r.cfg.Listen.Peer}} {
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

func (r *runningAgent) openStore(tlsFiles *rpc.TLS) error {
	cfg := raftstore.Config{Group: r.cfg.Node.DC, ID: r.cfg.Node.ID, Dir: filepath.Join(r.cfg.Node.DataDir, "raft"), Listen: r.cfg.Listen.Raft, Log: r.log}
	for _, v := range r.cfg.Voters {
		cfg.Peers = append(cfg.Peers, raftstore.Peer{ID: v.ID, Addr: v.Addr})
	}
	if tlsFiles != nil {
		server, client, err := tlsFiles.RaftTLS(r.cfg.Node.DC, r.log)
		if err != nil {
			return fmt.Errorf("start agent: %w", err)
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
	return nil
}

// dial makes a client for each of the other datacenters; it connects when it is first used.
func (r *runningAgent) dial(tlsFiles *rpc.TLS) (map[string]agent.SourceDC, error) {
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
func (r *runningAgent) close() error {
	var errs []error
	for _, c := range slices.Backward(r.closers) {
		errs = append(errs, c())
	}
	r.closers = nil
	return errors.Join(errs...)
}

func (r *runningAgent) ownRaftAddress() string {
	for _, v := range r.cfg.Voters {
		if v.ID == r.cfg.Node.ID && len(r.cfg.Voters) > 1 {
			return v.Addr
		}
	}
	return "none (a group of one)"
}
