package main

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	// linkDelay is what a link takes for each direction: half a round trip.
	linkDelay = 40 * time.Millisecond
	// delayPiece and delayQueue bound what is on the way: 256 MiB for each direction of a connection.
	delayPiece = 128 << 10
	delayQueue = 2048
)

// delayProxy is a long link: what comes in at one end goes out at the other that much later, as fast as it came. A new
// connection costs a round trip, as TCP's handshake does. It knows no slow start and loses nothing.
type delayProxy struct {
	listener net.Listener
	to       string
	delay    time.Duration
	cancel   context.CancelFunc
	tasks    sync.WaitGroup
	pieces   sync.Pool
}

// onTheWay is a piece that leaves the link at a time.
type onTheWay struct {
	buf   *[]byte
	n     int
	leave time.Time
}

// newDelayProxy listens on loopback, and passes on to an address.
func newDelayProxy(to string, delay time.Duration) (*delayProxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &delayProxy{listener: l, to: to, delay: delay, cancel: cancel}
	p.pieces.New = func() any {
		buf := make([]byte, delayPiece)
		return &buf
	}
	p.tasks.Go(func() { p.serve(ctx) })
	return p, nil
}

func (p *delayProxy) addr() string { return p.listener.Addr().String() }

// close ends all connections.
func (p *delayProxy) close() error {
	err := p.listener.Close()
	p.cancel()
	p.tasks.Wait()
	return err
}

func (p *delayProxy) serve(ctx context.Context) {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.tasks.Go(func() { p.connect(ctx, near) })
	}
}

func (p *delayProxy) connect(ctx context.Context, near net.Conn) {
	defer near.Close()
	far, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer far.Close()
	stop := context.AfterFunc(ctx, func() { _ = errors.Join(near.Close(), far.Close()) })
	defer stop()
	open := time.Now().Add(2 * p.delay)
	var both sync.WaitGroup
	both.Go(func() { p.pipe(far, near, open) })
	both.Go(func() { p.pipe(near, far, open) })
	both.Wait()
}

// pipe passes on what from says, until its end, and then that end. Nothing leaves before the link is open.
func (p *delayProxy) pipe(to, from net.Conn, open time.Time) {
	queue := make(chan onTheWay, delayQueue)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(queue)
		for {
			buf := p.pieces.Get().(*[]byte)
			n, err := from.Read(*buf)
			now := time.Now()
			if now.Before(open) {
				now = open
			}
			queue <- onTheWay{buf, n, now.Add(p.delay)}
			if err != nil {
				return
			}
		}
	})
	broken := false
	for piece := range queue {
		time.Sleep(time.Until(piece.leave))
		if !broken {
			_, err := to.Write((*piece.buf)[:piece.n])
			broken = err != nil
		}
		p.pieces.Put(piece.buf)
		if broken {
			_ = from.Close() // its reader ends
		}
	}
	reader.Wait()
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // the other direction goes on
	}
}
