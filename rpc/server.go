package rpc

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/agent"
	"github.com/ckptferry/ckptferry/replicator/promote"
)

// Group is the agent's Raft group, as *raftstore.Store has it.
type Group interface {
	View() raftstore.View
	Leader() (id, addr string) // "" when there is none
	Role() string              // leader, follower, candidate
	Term() uint64
	Peers() []raftstore.Peer
	Changed() <-chan struct{} // closed when View is another one
}

// Agent is what the agent knows that its group does not, as *agent.Agent has it.
type Agent interface {
	Status() agent.Status
	Polled(export string) (at time.Time, problem string)
	Gone(export string) []string
}

// ReadOpener opens places by their URI for reading; fsutil.Stores is the one of the product.
type ReadOpener interface {
	OpenRead(ctx context.Context, root fsutil.URI) (fsutil.ReadFS, error)
}

// ApplyFunc validates exports and routes, brings them into the group's state, and says what changed, a line each. When
// dryRun is true it changes nothing.
type ApplyFunc func(ctx context.Context, exports []raftstore.Export, routes []raftstore.Route, dryRun bool) ([]string, error)

// FenceFunc notes in the group what another datacenter has promoted, and returns what is known of these jobs then. It may
// say raftstore.ErrNotLeader.
type FenceFunc func(ctx context.Context, told promote.Told) ([]raftstore.FencedJob, error)

// RemoveFunc forgets exports and routes by their names, and says what changed, a line each. When dryRun is true it changes
// nothing.
type RemoveFunc func(ctx context.Context, exports, routes []string, dryRun bool) ([]string, error)

// PinFunc keeps a READY replica, or stops keeping it, and returns it as it is then. Idempotent.
type PinFunc func(ctx context.Context, key raftstore.Key, pinned bool) (raftstore.Replica, error)

// ServerConfig says what an agent's servers answer from. Both servers of an agent may be given the same.
type ServerConfig struct {
	ID, Datacenter, Version string
	Group                   Group
	Agent                   Agent
	Apply                   ApplyFunc    // for NewAPI; it may say raftstore.ErrNotLeader
	Storage                 Storage      // for NewAPI; nil: Unimplemented, but for drills
	Propose                 ProposeFunc  // for NewAPI: drills; nil: Unimplemented
	Failover                Failover     // for NewAPI; nil: its service is not served
	Migrations              Migrations   // for NewAPI; nil: migrations can't be made or changed
	Fence                   FenceFunc    // for NewPeerServer; nil: told fences are Unimplemented
	Pin                     PinFunc      // for NewAPI; it may say raftstore.ErrNotLeader
	Stores                  ReadOpener   // source files, for NewPeerServer
	Forward                 *Voter       // for NewAPI: what only the leader answers is passed on to it; nil: told who leads
	Backend                 GroupBackend // for NewGroupServer
	Membership              Membership   // for NewAPI; nil: who belongs to the group can't be changed
	Remove                  RemoveFunc   // as Apply
	// Reached says where a place that Flink names is reached from here, where that has other names as well; nil: as
	// it is named. Names of one place must lead to one URI. What an export has and what a peer asks are compared by it.
	Reached     func(fsutil.URI) fsutil.URI
	SilentAfter func() time.Duration // a source that was not heard of for so long is silent; nil: the agent's own default
	TLS         *TLS                 // nil: plaintext, and every caller is an admin
	Log         *slog.Logger         // nil discards
	Now         func() time.Time
}

// view is what the servers ask of raftstore.View.
type view interface {
	catalogueView
	Exports() []raftstore.Export
	Export(name string) (raftstore.Export, bool)
	Routes() []raftstore.Route
	Replicas() []raftstore.Replica
}

// catalogueView is the part of it about what the sources have.
type catalogueView interface {
	FoundAfter(export string, seq uint64) []raftstore.Found
	RouteJobs(route string) []string
	SeenAt(route string) time.Time
	ExportJobs(export string) []string
	JobFound(export, job string) []raftstore.Found
	JobKnown(route, job string) []raftstore.Found
}

// snapshot is the group's state at one moment.
type snapshot struct {
	view  view
	index uint64 // of the last log entry in it
	lags  func(now time.Time, silentAfter time.Duration) []agent.JobLag
	raw   any // what changes compares
	// changes lists the replicas that are another than in an older snapshot; the zero one is before all.
	changes func(since snapshot) iter.Seq[raftstore.ReplicaChange]
}

// Limits of both servers, against callers that ask for too much.
const (
	maxCallBytes    = 4 << 20 // of one message
	maxStreams      = 256     // of one connection
	pingEvery       = 10 * time.Second
	pingAnswerAfter = 8 * time.Second // with pingEvery less than the 20 s after which silence must be an error
	pingsAllowed    = 5 * time.Second // a caller that pings more often is cut off
	drainFor        = 10 * time.Second
)

// Server is one listener's worth of services.
type Server struct {
	cfg      ServerConfig
	read     func() snapshot
	grpc     *grpc.Server
	allow    func(ctx context.Context, method string) error
	identify func(ctx context.Context) (context.Context, error) // adds for whom a call is made
	forGroup bool                                               // it answers the other agents of the group
	stopping chan struct{}                                      // closed by Stop: what would go on for ever ends
	stop     sync.Once
	tlsErr   error  // told by Serve
	task     func() // runs while the server serves, until stopping; may be nil
	begin    sync.Once
	tasks    sync.WaitGroup
}

// newServer makes a server without services. A TLS file that can't be used is told by Serve.
func newServer(cfg ServerConfig, more ...grpc.ServerOption) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.SilentAfter == nil {
		cfg.SilentAfter = func() time.Duration { return agent.DefaultSilentAfter }
	}
	s := &Server{cfg: cfg, stopping: make(chan struct{}), allow: func(context.Context, string) error { return nil },
		identify: func(ctx context.Context) (context.Context, error) { return ctx, nil }}
	s.read = func() snapshot {
		v := cfg.Group.View()
		return snapshot{view: v, index: v.AppliedIndex, lags: func(now time.Time, silentAfter time.Duration) []agent.JobLag {
			return agent.Lags(v, now, silentAfter)
		}, raw: v, changes: func(since snapshot) iter.Seq[raftstore.ReplicaChange] {
			before, _ := since.raw.(raftstore.View)
			return v.ReplicaChanges(before)
		}}
	}
	creds := insecure.NewCredentials()
	if cfg.TLS != nil {
		certs, err := loadCertificates(*cfg.TLS, cfg.Log)
		if err != nil {
			s.tlsErr = err
			certs = &certificates{files: *cfg.TLS, log: cfg.Log}
		}
		creds = logsHandshakes{credentials.NewTLS(certs.server(nil)), cfg.Log, newSeldom()}
	}
	s.grpc = grpc.NewServer(append([]grpc.ServerOption{
		grpc.Creds(creds),
		grpc.ForceServerCodecV2(newPieceCodec()),
		grpc.MaxRecvMsgSize(maxCallBytes),
		grpc.MaxSendMsgSize(maxAnswerBytes),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingEvery, Timeout: pingAnswerAfter}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingsAllowed, PermitWithoutStream: true}),
		grpc.ChainUnaryInterceptor(s.unary),
		grpc.ChainStreamInterceptor(s.stream),
	}, more...)...)
	return s
}

// Serve answers on a listener until Stop, or until whoever owns the listener closes it, and then returns nil. It closes
// the listener.
func (s *Server) Serve(l net.Listener) error {
	if s.tlsErr != nil {
		return errors.Join(fmt.Errorf("serve on %s: %w", l.Addr(), s.tlsErr), l.Close())
	}
	if s.task != nil {
		s.begin.Do(func() { s.tasks.Go(s.task) })
	}
	if err := s.grpc.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	}
	return nil
}

// Stop lets calls under way come to their end, but not for more than ten seconds. Nothing is answered after it.
func (s *Server) Stop() {
	s.stop.Do(func() { close(s.stopping) })
	drained := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(drained)
	}()
	late := time.NewTimer(drainFor)
	defer late.Stop()
	select {
	case <-drained:
	case <-late.C:
		s.grpc.Stop()
		<-drained
	}
	s.tasks.Wait()
}

// unary is around each call: it refuses, recovers, and maps errors.
func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (answer any, err error) {
	err = s.around(ctx, info.FullMethod, func(ctx context.Context) (err error) {
		if s.forwards(info.FullMethod) {
			answer, err = s.pass(ctx, info.FullMethod, req)
		} else {
			answer, err = handle(ctx, req)
		}
		if s.forGroup && err == nil {
			err = grpc.SetTrailer(ctx, s.applied())
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// stream is unary for streams.
func (s *Server) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	return s.around(stream.Context(), info.FullMethod, func(ctx context.Context) error {
		if s.forwards(info.FullMethod) {
			return s.passStream(stream, info.FullMethod)
		}
		err := handle(srv, &streamOf{stream, ctx})
		if s.forGroup && err == nil {
			stream.SetTrailer(s.applied())
		}
		return err
	})
}

// streamOf is a stream whose context says for whom the call is made.
type streamOf struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s *streamOf) Context() context.Context { return s.ctx }

func (s *Server) around(ctx context.Context, method string, handle func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.cfg.Log.Error("a handler panicked", "method", method, "panic", p, "stack", string(debug.Stack()))
			err = toStatus(fmt.Errorf("%s: unexpected failure", method))
		}
	}()
	ctx, err = s.identify(ctx)
	if err == nil {
		err = s.allow(ctx, method)
	}
	if err == nil {
		err = handle(ctx)
	}
	err = toStatus(err)
	switch status.Code(err) {
	case codes.Internal:
		s.cfg.Log.Error("a call failed", "method", method, "err", err)
	case codes.PermissionDenied:
		s.cfg.Log.Warn("a call was refused", "method", method, "err", err)
	}
	return err
}

// guarded runs do in a goroutine of a handler, where a panic would not be met by the interceptor.
func (s *Server) guarded(do func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.cfg.Log.Error("a handler panicked", "panic", p, "stack", string(debug.Stack()))
			err = errors.New("unexpected failure")
		}
	}()
	do()
	return nil
}
