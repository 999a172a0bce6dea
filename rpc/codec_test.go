package rpc

import (
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	peerv1 "github.com/ckptferry/ckptferry/proto/ckptferry/peer/v1"
)

// countingPool gives buffers of a pool and remembers the largest.
type countingPool struct {
	mem.BufferPool
	out, largest int
}

func (p *countingPool) Get(n int) *[]byte {
	buf := p.BufferPool.Get(n)
	p.out, p.largest = p.out+1, max(p.largest, cap(*buf))
	return buf
}

func (p *countingPool) Put(buf *[]byte) {
	p.out--
	p.BufferPool.Put(buf)
}

func TestPiecesAreEncodedIntoBuffersThatFit(t *testing.T) {
	c := newPieceCodec()
	pool := &countingPool{BufferPool: c.pool}
	c.pool = pool
	for name, m := range map[string]proto.Message{
		"a whole piece": piece(string(content(1, pieceBytes))),
		"a small piece": piece("hello"),
		"an end":        end("hello"),
		"no piece":      &peerv1.FetchResponse{},
		"another":       &peerv1.FetchRequest{Export: "prod", Offset: 7},
	} {
		for range 3 { // a buffer that was used before has old bytes
			data, err := c.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			// As it comes from the wire: in parts.
			raw := data.Materialize()
			var parts mem.BufferSlice
			for len(raw) > 0 {
				n := min(len(raw), 16<<10)
				parts = append(parts, mem.SliceBuffer(raw[:n]))
				raw = raw[n:]
			}
			data.Free()
			got := m.ProtoReflect().New().Interface()
			if err := c.Unmarshal(parts, got); err != nil || !proto.Equal(got, m) {
				t.Errorf("%s: decoded to something else, %v", name, err)
			}
		}
	}
	if pool.out != 0 {
		t.Errorf("%d buffers were not given back", pool.out)
	}
	if pool.largest < pieceBytes || pool.largest > pieceBytes+4<<10 {
		t.Errorf("the largest buffer has %d bytes; want hardly more than a piece, %d", pool.largest, pieceBytes)
	}
	if _, err := c.Marshal("no message"); err == nil {
		t.Error("what is no message is encoded")
	}
	if err := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer([]byte{0xff})}, &peerv1.FetchResponse{}); err == nil {
		t.Error("bytes that are no message are decoded")
	}
}
