package rpc

import (
	"io"
	"net"
	"testing"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/raftstore"
)

// What one Fetch stream carries over loopback, from memory to nowhere.
func BenchmarkFetch(b *testing.B) {
	const size = 256 << 20
	files := fsutil.NewMemory(memoryRoot)
	w, err := files.Create(b.Context(), "orders/f")
	if err != nil {
		b.Fatal(err)
	}
	for range size >> 20 {
		if _, err := w.Write(content(1, 1<<20)); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Commit(b.Context()); err != nil {
		b.Fatal(err)
	}
	g := newGroup(raftstore.Export{Name: "prod", Bases: []string{"hdfs://dc1/flink/{job}"}, To: []string{"dc2"}})
	s := newServer(sourceConfig(g, opener{func(fsutil.URI) (fsutil.ReadFS, error) { return files, nil }}))
	s.read = g.snapshot
	s.servePeers()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = s.Serve(l) }()
	defer s.grpc.Stop()
	p, err := DialPeer(PeerConfig{Datacenter: "dc2", Agent: "b1", Expect: "dc1", Endpoints: []string{l.Addr().String()}})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	remote, err := p.Open("prod").OpenRead(b.Context(), memoryRoot)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	buf := make([]byte, pieceBytes)
	for b.Loop() {
		r, err := remote.Open(b.Context(), "orders/f", 0)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, buf); n != size || err != nil {
			b.Fatal(n, err)
		}
		_ = r.Close()
	}
}
