package raftstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	connections     = 3 // kept open to each voter
	answerWithin    = 10 * time.Second
	handshakeWithin = 10 * time.Second
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

// listen opens the network to the other voters. A voter alone has none.
func listen(cfg Config) (raft.Transport, error) {
	i := slices.IndexFunc(cfg.Peers, func(p Peer) bool { return p.ID == cfg.ID })
	if i < 0 {
		return nil, fmt.Errorf("%w: node %s is not among its own peers", ErrInvalid, cfg.ID)
	}
	if err := cfg.TLS.valid(); err != nil {
		return nil, err
	}
	if len(cfg.Peers) == 1 {
		_, transport := raft.NewInmemTransport(raft.ServerAddress(cfg.ID))
		return transport, nil
	}
	own := cfg.Peers[i].Addr
	at := own
	if cfg.Listen != "" {
		at = cfg.Listen
	}
	listener, err := net.Listen("tcp", at)
	if err != nil {
		return nil, fmt.Errorf("listen for raft peers on %s: %w", at, err)
	}
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: &streams{Listener: listener, own: address(own), tls: cfg.TLS}, MaxPool: connections, Timeout: answerWithin,
		Logger: raftLogger(cfg.Log),
	}), nil
}

// streams gives the library its connections.
type streams struct {
	net.Listener
	own address
	tls *TLS // nil: plain TCP
}

var _ raft.StreamLayer = (*streams)(nil)

// Addr is where the others reach this node, which need not be where it listens.
func (s *streams) Addr() net.Addr { return s.own }

// Accept returns before a handshake, which must not hold up the next caller.
func (s *streams) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	if err != nil || s.tls == nil {
		return conn, err
	}
	return &called{Conn: tls.Server(conn, s.tls.Server)}, nil
}

// Dial implements raft.StreamLayer.
func (s *streams) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if s.tls == nil {
		return (&net.Dialer{}).DialContext(ctx, "tcp", string(to))
	}
	return (&tls.Dialer{Config: s.tls.Client}).DialContext(ctx, "tcp", string(to))
}

// called is a connection from another voter. Its first read shakes hands, within a bound, and refuses who shows no
// certificate, whatever the configuration says.
type called struct {
	*tls.Conn
	once sync.Once
	err  error
}

func (c *called) Read(b []byte) (int, error) {
	c.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), handshakeWithin)
		defer cancel()
		c.err = c.HandshakeContext(ctx)
		if c.err == nil && len(c.ConnectionState().PeerCertificates) == 0 {
			c.err = errors.New("raft peer shows no certificate")
		}
	})
	if c.err != nil {
		return 0, c.err
	}
	return c.Conn.Read(b)
}

// address is a voter's, as the configuration names it.
type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }
