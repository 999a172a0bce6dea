package raftstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

const (
	connections  = 3 // kept open to each voter
	answerWithin = 10 * time.Second
)

// TLS is how voters prove to each other who they are. Both sides must: a voter that takes anybody's entries takes
// anybody's replicas. Certificates and authorities may be reloaded by the callbacks of tls.Config.
type TLS struct {
	// Server must ask for a certificate: RequireAndVerifyClientCert, RequireAnyClientCert with a VerifyConnection, or
	// a GetConfigForClient that gives such a Config.
	Server *tls.Config
	// Client must verify the server's certificate, by itself or in VerifyConnection. Its ServerName, when empty, is
	// the host of the voter's address.
	Client *tls.Config
}

// valid returns ErrInvalid for what would let in a stranger.
func (t *TLS) valid() error {
	switch {
	case t == nil:
		return nil
	case t.Server == nil || t.Client == nil:
		return fmt.Errorf("%w: TLS between voters needs a configuration for both sides", ErrInvalid)
	case t.Server.GetConfigForClient != nil, t.Server.ClientAuth == tls.RequireAndVerifyClientCert,
		t.Server.ClientAuth == tls.RequireAnyClientCert && t.Server.VerifyConnection != nil:
	default:
		return fmt.Errorf("%w: TLS between voters must verify the certificate of who calls", ErrInvalid)
	}
	if t.Client.InsecureSkipVerify && t.Client.VerifyConnection == nil {
		return fmt.Errorf("%w: TLS between voters must verify the certificate of who is called", ErrInvalid)
	}
	return nil
}

// listen opens the network to the other voters. A voter alone has none, and its streams are nil.
func listen(cfg Config) (raft.Transport, *streams, error) {
	i := slices.IndexFunc(cfg.Peers, func(p Peer) bool { return p.ID == cfg.ID })
	if i < 0 {
		return nil, nil, fmt.Errorf("%w: node %s is not among its own peers", ErrInvalid, cfg.ID)
	}
	if err := cfg.TLS.valid(); err != nil {
		return nil, nil, err
	}
	if cfg.alone() {
		_, transport := raft.NewInmemTransport(raft.ServerAddress(cfg.ID))
		return transport, nil, nil
	}
	own := cfg.Peers[i].Addr
	at := own
	if cfg.Listen != "" {
		at = cfg.Listen
	}
	listener, err := net.Listen("tcp", at)
	if err != nil {
		return nil, nil, fmt.Errorf("listen for raft peers on %s: %w", at, err)
	}
	network := newStreams(listener, address(own), cfg.TLS)
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: network, MaxPool: connections, Timeout: answerWithin, Logger: raftLogger(cfg.Log),
	}), network, nil
}

// streams gives the library its connections, and others the ones that aren't Raft's.
type streams struct {
	net.Listener
	own    address
	tls    *TLS // nil: plain TCP
	others *others
}

func newStreams(listener net.Listener, own address, tls *TLS) *streams {
	return &streams{Listener: listener, own: own, tls: tls, others: newOthers(own)}
}

var _ raft.StreamLayer = (*streams)(nil)

// Addr is where the others reach this node, which need not be where it listens.
func (s *streams) Addr() net.Addr { return s.own }

// Accept returns before a handshake, which must not hold up the next caller.
func (s *streams) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if s.tls != nil {
		conn = tls.Server(conn, s.tls.Server)
	}
	return &called{Conn: conn, others: s.others}, nil
}

// Close closes the listener, and that of the others with it.
func (s *streams) Close() error { return errors.Join(s.others.Close(), s.Listener.Close()) }

// Dial implements raft.StreamLayer.
func (s *streams) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return s.dial(ctx, string(to))
}

func (s *streams) dial(ctx context.Context, to string) (net.Conn, error) {
	if s.tls == nil {
		return (&net.Dialer{}).DialContext(ctx, "tcp", to)
	}
	return (&tls.Dialer{Config: s.tls.Client}).DialContext(ctx, "tcp", to)
}

// address is a voter's, as the configuration names it.
type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }
