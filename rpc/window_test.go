package rpc

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
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

// counted counts what is read at the source.
type counted struct {
	fsutil.ReadFS
	bytes map[string]*atomic.Int64
}

func (c counted) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	r, err := c.ReadFS.Open(ctx, name, offset)
	return countedReader{r, c.bytes[name]}, err
}

type countedReader struct {
	io.ReadCloser
	bytes *atomic.Int64
}

func (r countedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.bytes.Add(int64(n))
	return n, err
}

// What a reader does not take is in memory. Only two have much of it.
func TestSlowReadersKeepLittleInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size, readers = 80 << 20, 16
		n, files := newNetwork(), fsutil.NewMemory(memoryRoot)
		source := counted{files, map[string]*atomic.Int64{}}
		for i := range readers {
			name := fmt.Sprintf("orders/f%d", i)
			source.bytes[name] = &atomic.Int64{}
			put(t, files, name, make([]byte, size/(1+7*min(i, 1)))) // the first is large
		}
		g := newGroup(raftstore.Export{Name: "prod", Bases: []string{"hdfs://dc1/flink/{job}"}, To: []string{"dc2"}})
		s := newServer(sourceConfig(g, opener{func(fsutil.URI) (fsutil.ReadFS, error) { return source, nil }}))
		s.read = g.snapshot
		s.servePeers()
		l := n.listen("a1")
		go func() { _ = s.Serve(l) }()
		p, err := DialPeer(PeerConfig{Datacenter: "dc2", Agent: "b1", Expect: "dc1", Endpoints: []string{"a1"}, dial: n.dial})
		if err != nil {
			t.Fatal(err)
		}
		remote := openRemote(t, p, memoryRoot)
		for i := range readers {
			if _, err := remote.Open(t.Context(), fmt.Sprintf("orders/f%d", i), 0); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait() // until nothing moves any more
		total := int64(0)
		for _, read := range source.bytes {
			total += read.Load()
		}
		if wide := source.bytes["orders/f0"].Load(); wide < defaultWindowBytes {
			t.Errorf("%d bytes of the first file are under way", wide)
		}
		// A window and the 10 MiB of the second file, 2 MiB of each other, and two pieces beside each window.
		if most := int64(defaultWindowBytes + 10<<20 + (readers-2)*narrowWindowBytes + readers*2*pieceBytes); total > most {
			t.Errorf("%d MiB are under way, more than %d", total>>20, most>>20)
		}
		_ = p.Close()
		s.grpc.Stop()
	})
}

// One of the two windows alone makes gRPC fall back to 64 KiB for the other: 48 MiB would take a minute here. On a
// clock of the test's own, the time is that of round trips alone.
func TestAWholeWindowIsUnderWayOverALongLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 48 << 20
		n, files := newNetwork(), fsutil.NewMemory(memoryRoot)
		put(t, files, "orders/f", make([]byte, size))
		put(t, files, "orders/small", nil)
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
		if _, err := readAll(t.Context(), remote, "orders/small"); err != nil { // connects
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
