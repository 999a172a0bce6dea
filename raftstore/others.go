package raftstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// The agents of a group talk to each other about more than Raft, and the Raft port is where each reaches each already,
// with certificates of both sides. What a connection is for, its first byte tells: the Raft library begins with the
// number of a request, which is a small one, and a gRPC client with "PRI * HTTP/2.0".
const (
	othersBegin     = 'P'
	handshakeWithin = 10 * time.Second
	tellsWithin     = 10 * time.Second // what it is for
)

// Others accepts the connections to this node's Raft port that aren't Raft's, after the same handshake. They are
// *tls.Conn inside, as ConnectionState tells, or plain TCP where the group has no TLS. A voter alone has no network: its
// listener accepts nothing until it is closed. Close closes it.
func (s *Store) Others() net.Listener { return s.others }

// DialMember connects to the Raft port of another voter, for its Others. The node itself is refused with ErrInvalid, and
// so is an id that isn't a voter's.
func (s *Store) DialMember(ctx context.Context, id string) (net.Conn, error) {
	peers := s.Peers()
	i := slices.IndexFunc(peers, func(p Peer) bool { return p.ID == id })
	switch {
	case id == s.id:
		return nil, fmt.Errorf("dial voter %s: %w: that is this node itself", id, ErrInvalid)
	case i < 0:
		return nil, fmt.Errorf("dial voter %s: %w: the group has no voter of this id", id, ErrInvalid)
	case s.network == nil:
		return nil, fmt.Errorf("dial voter %s: %w: this node was configured as a group of one and has no network", id, ErrInvalid)
	}
	conn, err := s.network.dial(ctx, peers[i].Addr)
	if err != nil {
		return nil, fmt.Errorf("dial voter %s: %w", id, err)
	}
	return conn, nil
}

// called is a connection to the Raft port. The first read, in the library's goroutine for it, shakes hands and finds out
// what it is for, each within a bound; it refuses who shows no certificate, whatever the configuration says. One that is
// not Raft's is handed over: for the library it has ended then.
type called struct {
	net.Conn
	others *others

	once  sync.Once
	first []byte // read, and not yet given to the library
	err   error

	mu   sync.Mutex
	gone bool // handed over: closing it is its new owner's
}

func (c *called) Read(b []byte) (int, error) {
	c.once.Do(func() { c.err = c.begin() })
	if c.err != nil {
		return 0, c.err
	}
	if len(c.first) > 0 && len(b) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

func (c *called) begin() error {
	if secure, ok := c.Conn.(*tls.Conn); ok {
		ctx, cancel := context.WithTimeout(context.Background(), handshakeWithin)
		defer cancel()
		if err := secure.HandshakeContext(ctx); err != nil {
			return err
		}
		if len(secure.ConnectionState().PeerCertificates) == 0 {
			return errors.New("raft peer shows no certificate")
		}
	}
	first := make([]byte, 1)
	if err := c.SetReadDeadline(time.Now().Add(tellsWithin)); err != nil {
		return err
	}
	if _, err := io.ReadFull(c.Conn, first); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	if first[0] != othersBegin {
		c.first = first
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone = c.others.give(&other{Conn: c.Conn, first: first}); !c.gone {
		return errors.New("nobody takes connections that aren't Raft's")
	}
	return io.EOF // to the library it is one that hung up
}

// Close closes the connection, unless it is somebody else's by now.
func (c *called) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return nil
	}
	return c.Conn.Close()
}

// other is a connection that isn't Raft's, with its first byte put back.
type other struct {
	net.Conn
	first []byte
}

func (c *other) Read(b []byte) (int, error) {
	if len(c.first) > 0 && len(b) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// ConnectionState is who called, and false without TLS.
func (c *other) ConnectionState() (tls.ConnectionState, bool) {
	secure, ok := c.Conn.(*tls.Conn)
	if !ok {
		return tls.ConnectionState{}, false
	}
	return secure.ConnectionState(), true
}

// others is the listener for what isn't Raft's.
type others struct {
	own    address
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

var _ net.Listener = (*others)(nil)

func newOthers(own address) *others {
	return &others{own: own, conns: make(chan net.Conn), closed: make(chan struct{})}
}

// give hands a connection to whoever accepts, and says whether somebody did in time.
func (o *others) give(conn net.Conn) bool {
	late := time.NewTimer(tellsWithin)
	defer late.Stop()
	select {
	case o.conns <- conn:
		return true
	case <-o.closed:
	case <-late.C:
	}
	return false
}

// Accept implements net.Listener.
func (o *others) Accept() (net.Conn, error) {
	select {
	case conn := <-o.conns:
		return conn, nil
	case <-o.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. Raft's own connections go on.
func (o *others) Close() error {
	o.once.Do(func() { close(o.closed) })
	return nil
}

// Addr implements net.Listener: where the others reach this node.
func (o *others) Addr() net.Addr { return o.own }
