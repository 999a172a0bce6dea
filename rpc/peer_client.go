package rpc

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/ckptferry/ckptferry/fsutil"
	peerv1 "github.com/ckptferry/ckptferry/proto/ckptferry/peer/v1"
	"github.com/ckptferry/ckptferry/replicator/agent"
)

// PeerConfig says which datacenter is called, and by whom.
type PeerConfig struct {
	Datacenter string // the caller's own
	Agent      string // the caller's id
	Expect     string // the datacenter that is called
	// Endpoints are agents of that datacenter, host:port. They are tried in turn; the one that answers is kept.
	Endpoints []string
	TLS       *TLS // nil: plaintext
	// WindowBytes is how much of a file may be under way that its reader has not taken: it bounds the throughput to
	// WindowBytes per round trip. Two files at a time have it, the others 2 MiB each, since what readers that are slower
	// than the network don't take is in memory. 0: 64 MiB.
	WindowBytes int32
	Log         *slog.Logger // nil discards

	// dial reaches an endpoint; nil: TCP.
	dial func(ctx context.Context, endpoint string) (net.Conn, error)
}

const (
	defaultWindowBytes = 64 << 20
	narrowWindowBytes  = 2 << 20
	// widelyMost is how many files are read with the large window at a time. A copy begins with its largest files.
	widelyMost      = 2
	handshakeWithin = 5 * time.Second
)

// Peer is another datacenter as this one pulls from it. It is safe for concurrent use. It connects when it is asked
// something, and anew, to the next endpoint, when a connection broke.
type Peer struct {
	cfg    PeerConfig
	creds  credentials.TransportCredentials
	window int32
	// wide reads a few of the files, over a connection of its own: windows are a connection's, the same for all of its
	// streams. It is nil in wide itself.
	wide *Peer

	mu      sync.Mutex
	link    *link              // for the next call; nil: none
	links   map[*link]struct{} // that are open: link, and those given up that something is still under way on
	dialing *dialing           // nil: nobody dials
	next    int                // the endpoint to try first
	closed  bool
	tasks   sync.WaitGroup

	exports sync.Map      // name → *peerFiles
	reading chan struct{} // a token for each file that is being read
	idle    chan struct{} // a token for each Fetch stream that is kept for later
}

var _ agent.SourceDC = (*Peer)(nil)

// dialing is one round through the endpoints, for all who wait for it.
type dialing struct {
	cancel context.CancelFunc
	done   chan struct{}
	link   *link
	err    error
}

// link is one connection. It shook hands, and is not connected a second time: the next one shakes hands again.
type link struct {
	conn     *grpc.ClientConn
	client   peerv1.PeerServiceClient
	endpoint string
	agent    string
	users    int // what is under way on it; guarded by Peer.mu
}

// DialPeer prepares to call a datacenter. It connects to nothing yet, so that an agent starts while the other side is
// away. It fails when the configuration or the TLS files can't be used.
func DialPeer(cfg PeerConfig) (*Peer, error) {
	if cfg.Datacenter == "" || cfg.Agent == "" || cfg.Expect == "" || len(cfg.Endpoints) == 0 {
		return nil, fmt.Errorf("dial peer: %w: it needs its own datacenter and agent, the datacenter to call, and an endpoint there", ErrInvalid)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.WindowBytes <= 0 {
		cfg.WindowBytes = defaultWindowBytes
	}
	if cfg.dial == nil {
		cfg.dial = func(ctx context.Context, endpoint string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", endpoint)
		}
	}
	creds := insecure.NewCredentials()
	if cfg.TLS != nil {
		certs, err := loadCertificates(*cfg.TLS, cfg.Log)
		if err != nil {
			return nil, fmt.Errorf("dial %s: %w", cfg.Expect, err)
		}
		creds = credentials.NewTLS(certs.agentClient(func(cert *x509.Certificate) error {
			return mustBeAgentOf(cfg.Expect)(cert)
		}))
	}
	p := newPeer(cfg, creds, readingMost)
	p.window = min(cfg.WindowBytes, narrowWindowBytes)
	p.wide = newPeer(cfg, creds, widelyMost)
	return p, nil
}

func newPeer(cfg PeerConfig, creds credentials.TransportCredentials, reading int) *Peer {
	return &Peer{cfg: cfg, creds: creds, window: cfg.WindowBytes, links: map[*link]struct{}{},
		reading: make(chan struct{}, reading), idle: make(chan struct{}, idleMost)}
}

// Close ends everything that is under way with fsutil.ErrUnavailable. Closing again does nothing.
func (p *Peer) Close() error {
	p.mu.Lock()
	p.closed, p.link = true, nil
	if p.dialing != nil {
		p.dialing.cancel()
	}
	var errs []error
	for l := range p.links {
		errs = append(errs, l.conn.Close())
	}
	clear(p.links)
	p.mu.Unlock()
	p.tasks.Wait()
	if p.wide != nil {
		errs = append(errs, p.wide.Close())
	}
	return errors.Join(errs...)
}

// on runs do on the connection, which is made if there is none. When the connection turns out to be lost, do is run
// once more on another.
func (p *Peer) on(ctx context.Context, do func(*link) error) error {
	for try := 1; ; try++ {
		l, err := p.connected(ctx)
		if err != nil {
			return err
		}
		err = p.failed(ctx, l, do(l))
		lost := p.release(l)
		if err == nil || !lost || try > 1 || !errors.Is(err, fsutil.ErrUnavailable) {
			return err
		}
	}
}

// connected is the connection, made if there is none. The caller releases it.
func (p *Peer) connected(ctx context.Context) (*link, error) {
	p.mu.Lock()
	switch {
	case p.closed:
		p.mu.Unlock()
		return nil, p.closedError()
	case p.link != nil:
		l := p.link
		l.users++
		p.mu.Unlock()
		return l, nil
	case p.dialing == nil:
		dialCtx, cancel := context.WithCancel(context.Background())
		p.dialing = &dialing{cancel: cancel, done: make(chan struct{})}
		d := p.dialing
		p.tasks.Go(func() { p.dialAll(dialCtx, d) })
	}
	d := p.dialing
	p.mu.Unlock()
	select {
	case <-d.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("connect to %s: %w", p.cfg.Expect, ctx.Err())
	}
	if d.err != nil {
		return nil, d.err
	}
	p.retain(d.link)
	return d.link, nil
}

func (p *Peer) closedError() error {
	return fmt.Errorf("call %s: the connection was closed: %w", p.cfg.Expect, fsutil.ErrUnavailable)
}

// start runs a task that Close waits for; false when the peer is closed.
func (p *Peer) start(task func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.tasks.Go(task)
	}
	return !p.closed
}

// retain says that something more is under way on a connection.
func (p *Peer) retain(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.users++
}

// release says that something came to its end. The last one closes a connection that was given up. It says whether
// the connection is not the one for the next call.
func (p *Peer) release(l *link) (lost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.users--
	p.closeUnused(l)
	return p.link != l
}

// closeUnused closes a connection that was given up and that nothing is under way on. The caller holds mu.
func (p *Peer) closeUnused(l *link) {
	if _, open := p.links[l]; open && l != p.link && l.users == 0 {
		delete(p.links, l)
		_ = l.conn.Close() // nothing is under way
	}
}

// dialAll goes through the endpoints once.
func (p *Peer) dialAll(ctx context.Context, d *dialing) {
	defer d.cancel()
	var errs []error
	p.mu.Lock()
	first := p.next
	p.mu.Unlock()
	for i := range p.cfg.Endpoints {
		at := (first + i) % len(p.cfg.Endpoints)
		l, err := p.shakeHands(ctx, p.cfg.Endpoints[at])
		if err == nil {
			d.link, first, errs = l, at, nil
			break
		}
		errs = append(errs, fmt.Errorf("%s: %w", p.cfg.Endpoints[at], err))
	}
	if errs != nil {
		d.err = fmt.Errorf("reach datacenter %s: %w: %w", p.cfg.Expect, fsutil.ErrUnavailable, errors.Join(errs...))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialing = nil
	if p.closed && d.link != nil {
		_ = d.link.conn.Close() // nothing was asked
		d.link, d.err = nil, p.closedError()
	}
	p.link, p.next = d.link, first
	close(d.done)
	if d.link != nil {
		p.links[d.link] = struct{}{}
		p.cfg.Log.Info("connected", "datacenter", p.cfg.Expect, "agent", d.link.agent, "endpoint", d.link.endpoint)
	}
}

// errSecondDial ends a connection that gRPC would make again by itself, to whoever listens there by then.
var errSecondDial = errors.New("the connection was lost")

// shakeHands connects to one endpoint, and makes sure that it is who it should be.
func (p *Peer) shakeHands(ctx context.Context, endpoint string) (*link, error) {
	var dialed atomic.Bool
	conn, err := grpc.NewClient("passthrough:///"+endpoint,
		grpc.WithTransportCredentials(p.creds),
		grpc.WithContextDialer(func(ctx context.Context, endpoint string) (net.Conn, error) {
			if dialed.Swap(true) {
				return nil, errSecondDial
			}
			return p.cfg.dial(ctx, endpoint)
		}),
		// Both: with the stream's alone, gRPC falls back to 64 KiB for the connection, a megabyte a second over 80 ms.
		grpc.WithInitialWindowSize(p.window),
		grpc.WithInitialConnWindowSize(p.cfg.WindowBytes),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: pingAnswerAfter, PermitWithoutStream: true}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxCallBytes), grpc.MaxCallSendMsgSize(maxCallBytes), grpc.ForceCodecV2(newPieceCodec())),
		grpc.WithChainUnaryInterceptor(p.unary),
		grpc.WithChainStreamInterceptor(p.stream),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(), // a retry would keep what was sent
		grpc.WithIdleTimeout(0),
	)
	if err != nil {
		return nil, err
	}
	l := &link{conn: conn, client: peerv1.NewPeerServiceClient(conn), endpoint: endpoint}
	if err := p.introduce(ctx, l); err != nil {
		_ = conn.Close() // nothing was asked
		return nil, err
	}
	return l, nil
}

func (p *Peer) introduce(ctx context.Context, l *link) error {
	ctx, cancel := context.WithTimeout(ctx, handshakeWithin)
	defer cancel()
	answer, err := l.client.Handshake(ctx, &peerv1.HandshakeRequest{
		Protocol: protocol, Datacenter: p.cfg.Datacenter, Agent: p.cfg.Agent, ExpectedDatacenter: p.cfg.Expect,
	})
	switch {
	case err != nil:
		return fmt.Errorf("handshake: %w", callError(context.Background(), err))
	case answer.GetProtocol() != protocol:
		return fmt.Errorf("agent %s speaks protocol %d, and this one %d: run the same release of ckptferry on both sides: %w",
			answer.GetAgent(), answer.GetProtocol(), protocol, fsutil.ErrUnsupported)
	case answer.GetDatacenter() != p.cfg.Expect:
		return fmt.Errorf("agent %q is of datacenter %q, not %q: mend the endpoints of %[3]s in the configuration: %w",
			answer.GetAgent(), answer.GetDatacenter(), p.cfg.Expect, fsutil.ErrUnsupported)
	}
	l.agent = answer.GetAgent()
	return nil
}

// unary and stream say in each call where it comes from.
func (p *Peer) unary(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoke(metadata.AppendToOutgoingContext(ctx, metadataDatacenter, p.cfg.Datacenter), method, req, reply, conn, opts...)
}

func (p *Peer) stream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, start grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return start(metadata.AppendToOutgoingContext(ctx, metadataDatacenter, p.cfg.Datacenter), desc, conn, method, opts...)
}

// failed takes note of a call's error, and returns it as the callers of this package know it. A connection that broke,
// or whose agent is stopping, is given up, and the next call goes to the next endpoint.
func (p *Peer) failed(ctx context.Context, l *link, err error) error {
	if err == nil {
		return nil
	}
	if _, known := err.(*remoteError); known {
		return err
	}
	// An agent says why in an ErrorInfo; gRPC itself does not.
	s := status.Convert(err)
	reason := reasonOf(s)
	if ctx.Err() == nil && (s.Code() == codes.Unavailable || s.Code() == codes.Canceled) && (reason == "" || reason == stoppingReason) {
		p.giveUp(l)
	}
	return callError(ctx, err)
}

// giveUp has the next call go to the next endpoint. What is under way on the connection may come to its end.
func (p *Peer) giveUp(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link != l {
		return
	}
	p.link = nil
	p.next = (p.next + 1) % len(p.cfg.Endpoints)
	p.cfg.Log.Info("connection lost", "datacenter", p.cfg.Expect, "agent", l.agent, "endpoint", l.endpoint)
	p.closeUnused(l)
}
