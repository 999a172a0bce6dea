//go:build e2e

package e2e

import (
	"net"
	"sync"
	"testing"
)

// link is the network between two datacenters: a TCP proxy in front of each of some addresses, which the test cuts.
type link struct {
	addresses []string // where to connect instead

	mu    sync.Mutex
	open  chan struct{} // closed while bytes pass
	conns map[net.Conn]bool
	over  bool
}

// newLink listens until the test's end.
func newLink(t *testing.T, behind []string) *link {
	t.Helper()
	l := &link{open: make(chan struct{}), conns: map[net.Conn]bool{}}
	close(l.open)
	var done sync.WaitGroup
	var listeners []net.Listener
	for _, to := range behind {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, listener)
		l.addresses = append(l.addresses, listener.Addr().String())
		done.Go(func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return // the end of the test
				}
				done.Go(func() { l.carry(conn, to) })
			}
		})
	}
	t.Cleanup(func() {
		for _, listener := range listeners {
			_ = listener.Close() // nothing was written to it
		}
		l.mend()
		l.mu.Lock()
		l.over = true
		l.mu.Unlock()
		l.drop()
		done.Wait()
	})
	return l
}

// cut is what a dead link is like: nothing passes in either direction, and nobody is told. mend comes before the next.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = make(chan struct{})
}

// mend lets bytes pass again. What was cut stays broken: its connections are reset, as by a firewall that has
// forgotten them.
func (l *link) mend() {
	l.drop()
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.open:
	default:
		close(l.open)
	}
}

// drop resets all connections.
func (l *link) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for conn := range l.conns {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset instead of an end
		}
		_ = conn.Close() // it is broken on purpose
	}
	clear(l.conns)
}

// hold takes a connection under control; false when the test is over.
func (l *link) hold(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[conn] = true
	return !l.over
}

// letGo closes a connection whose bytes have passed or are lost.
func (l *link) letGo(conn net.Conn) {
	_ = conn.Close() // it may have been dropped
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, conn)
}

// wait returns when bytes may pass.
func (l *link) wait() {
	l.mu.Lock()
	open := l.open
	l.mu.Unlock()
	<-open
}

// carry connects conn with an address, both ways, until either end closes.
func (l *link) carry(conn net.Conn, to string) {
	defer l.letGo(conn)
	if !l.hold(conn) {
		return
	}
	l.wait()
	far, err := net.Dial("tcp", to)
	if err != nil {
		return // nobody listens there
	}
	defer l.letGo(far)
	if !l.hold(far) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { l.pump(far, conn) })
	both.Go(func() { l.pump(conn, far) })
	both.Wait()
}

// pump copies until an end, and closes both then.
func (l *link) pump(to, from net.Conn) {
	defer func() {
		_ = to.Close()
		_ = from.Close()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			l.wait()
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
