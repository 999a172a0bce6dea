package rpc

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/raftstore"
)

// far is a connection over which each byte takes its time, and as many as one likes are under way.
type far struct {
	net.Conn
	out, in chan sent
	closed  chan struct{}
	end     sync.Once
	rest    []byte // of what has arrived
}

type sent struct {
	data    []byte
	arrives time.Time
}

func newFar(near net.Conn) *far {
	f := &far{Conn: near, out: make(chan sent, 1<<16), in: make(chan sent, 1<<16), closed: make(chan struct{})}
	go func() {
		for {
			select {
			case s := <-f.out:
				select {
				case <-time.After(time.Until(s.arrives)):
				case <-f.closed:
					return
				}
				if _, err := near.Write(s.data); err != nil {
					return
				}
			case <-f.closed:
				return
			}
		}
	}()
	go func() {
		defer close(f.in)
		for {
			buf := make([]byte, 64<<10)
			n, err := near.Read(buf)
			if err != nil {
				return
			}
			f.in <- sent{buf[:n], time.Now().Add(oneWay)}
		}
	}()
	return f
}

// Close implements net.Conn.
func (f *far) Close() error {
	f.end.Do(func() { close(f.closed) })
	return f.Conn.Close()
}

func (f *far) Write(p []byte) (int, error) {
	f.out <- sent{append([]byte(nil), p...), time.Now().Add(oneWay)}
	return len(p), nil
}

func (f *far) Read(p []byte) (int, error) {
	if len(f.rest) == 0 {
		s, ok := <-f.in
		if !ok {
			return 0, io.EOF
		}
		time.Sleep(time.Until(s.arrives))
		f.rest = s.data
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

const oneWay = 40 * time.Millisecond

// One of the two windows alone makes gRPC fall back to 64 KiB for the other: 48 MiB would take a minute here. On a
// clock of the test's own, the time is that of round trips alone.
func TestAWholeWindowIsUnderWayOverALongLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 48 << 20
		n, files := newNetwork(), fsutil.NewMemory(memoryRoot)
		put(t, files, "orders/f", make([]byte, size))
		g := newGroup(raftstore.Export{Name: "prod", Bases: []string{"hdfs://dc1/flink/{job}"}, To: []string{"dc2"}})
		s := newServer(sourceConfig(g, opener{func(fsutil.URI) (fsutil.ReadFS, error) { return files, nil }}))
		s.read = g.snapshot
		s.servePeers()
		l := n.listen("a1")
		go func() { _ = s.Serve(l) }()
		p, err := DialPeer(PeerConfig{Datacenter: "dc2", Agent: "b1", Expect: "dc1", Endpoints: []string{"a1"}, dial: func(ctx context.Context, endpoint string) (net.Conn, error) {
			conn, err := n.dial(ctx, endpoint)
			if err != nil {
				return nil, err
			}
			return newFar(conn), nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		remote := openRemote(t, p, memoryRoot)
		if _, err := remote.Stat(t.Context(), "orders/f"); err != nil { // connects
			t.Fatal(err)
		}
		began := time.Now()
		got, err := readAll(t.Context(), remote, "orders/f")
		if err != nil || len(got) != size {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		if took := time.Since(began); took > 4*oneWay {
			t.Errorf("%d MiB took %s over a link with a round trip of %s", size>>20, took, 2*oneWay)
		}
		_ = p.Close()
		s.grpc.Stop()
	})
}
