package fsutil

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// The client sets no deadline anywhere: a frozen namenode or datanode holds it for ever, and after an error it goes
// on with a connection whose next bytes answer another question. Both end here: each wait for bytes is bounded, and a
// connection closes itself at its first error.

// connSet makes connections and can close all it made that are open. Safe for concurrent use.
type connSet struct {
	dial   net.Dialer
	idle   time.Duration
	buffer int                     // bytes read ahead
	refuse func(addr string) error // asked before each dial; nil: never refuses

	mu     sync.Mutex
	open   map[*idleConn]struct{}
	closed bool
}

var errConnsClosed = errors.New("closed here")

// dialer is for the client, which passes a background context: ctx ends dials instead of that.
func (s *connSet) dialer(ctx context.Context) dialFunc {
	return func(_ context.Context, network, addr string) (net.Conn, error) { return s.connect(ctx, network, addr) }
}

func (s *connSet) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	if s.refuse != nil {
		if err := s.refuse(addr); err != nil {
			return nil, err
		}
	}
	conn, err := s.dial.DialContext(ctx, network, addr)
	if err != nil {
		// Not %w: a dial that took too long is errors.Is context.DeadlineExceeded, which would look like the caller's.
		return nil, fmt.Errorf("connect to %s: %v: %w", addr, err, ErrUnavailable)
	}
	if c := s.add(conn); c != nil {
		return c, nil
	}
	_ = conn.Close() // nothing was sent on it
	return nil, fmt.Errorf("connect to %s: %w", addr, errConnsClosed)
}

// add takes a connection over; nil when the set is closed.
func (s *connSet) add(conn net.Conn) *idleConn {
	c := &idleConn{Conn: conn, set: s}
	c.ahead = bufio.NewReaderSize(deadlineReader{conn, s.idle}, s.buffer)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	if s.open == nil {
		s.open = map[*idleConn]struct{}{}
	}
	s.open[c] = struct{}{}
	return c
}

// closeAll closes the open connections and refuses new ones. Whoever waits on one gets an error. Idempotent.
func (s *connSet) closeAll() {
	s.mu.Lock()
	open := s.open
	s.open, s.closed = nil, true
	s.mu.Unlock()
	for c := range open {
		_ = c.Conn.Close() // what it carried is given up
	}
}

// idleConn is a connection whose peer must not be silent for longer than the set's limit while we wait for it.
type idleConn struct {
	net.Conn
	set   *connSet
	ahead *bufio.Reader
}

// Read implements net.Conn. One goroutine reads at a time, as the client does.
func (c *idleConn) Read(p []byte) (int, error) {
	n, err := c.ahead.Read(p)
	if err != nil {
		_ = c.Close() // the first error is the one to tell
		err = c.explain(err)
	}
	return n, err
}

// Write implements net.Conn.
func (c *idleConn) Write(p []byte) (int, error) {
	if err := c.Conn.SetWriteDeadline(time.Now().Add(c.set.idle)); err != nil {
		_ = c.Close()
		return 0, err
	}
	n, err := c.Conn.Write(p)
	if err != nil {
		_ = c.Close() // the first error is the one to tell
		err = c.explain(err)
	}
	return n, err
}

func (c *idleConn) explain(err error) error {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("%s did not answer for %s: %w", c.RemoteAddr(), c.set.idle, ErrUnavailable)
	}
	return err
}

// Close implements net.Conn.
func (c *idleConn) Close() error {
	c.set.mu.Lock()
	delete(c.set.open, c)
	c.set.mu.Unlock()
	return c.Conn.Close()
}

// The client clears deadlines with the zero time before it waits: deadlines are ours alone.

func (c *idleConn) SetDeadline(time.Time) error      { return nil }
func (c *idleConn) SetReadDeadline(time.Time) error  { return nil }
func (c *idleConn) SetWriteDeadline(time.Time) error { return nil }

// deadlineReader bounds each read from the socket.
type deadlineReader struct {
	conn  net.Conn
	limit time.Duration
}

func (r deadlineReader) Read(p []byte) (int, error) {
	if err := r.conn.SetReadDeadline(time.Now().Add(r.limit)); err != nil {
		return 0, err
	}
	return r.conn.Read(p)
}
