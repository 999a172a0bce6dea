package rpc

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"

	"github.com/ckptferry/ckptferry/flinkmeta/metadatatest"
	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/replicator"
)

// target is a replica root in memory, with nothing beside it.
type target struct{ files *fsutil.Memory }

func (o target) Open(context.Context, fsutil.URI) (fsutil.FS, error) { return o.files, nil }

func (o target) OpenRead(_ context.Context, root fsutil.URI) (fsutil.ReadFS, error) {
	if root == o.files.Root() {
		return o.files, nil
	}
	return fsutil.NewMemory(root), nil
}

// oneFile is a _metadata, version 3, of an operator whose only shared file is at uri.
func oneFile(uri string, size int64) []byte {
	m := &metadatatest.Writer{}
	m.Header(3, 1)
	m.I32(0) // master states
	m.I32(1) // operators
	m.I64(1)
	m.I64(2)
	m.I32(1) // parallelism
	m.I32(128)
	m.Null() // coordinator
	m.I32(1) // subtasks
	m.I32(0)
	m.I32(0) // managed, raw operator state
	m.I32(0)
	m.U8(5) // IncrementalRemoteKeyedStateHandle
	m.I64(1)
	m.UTF("11111111-2222-3333-4444-555555555555")
	m.I32(0)
	m.I32(128)
	m.Inline("meta", []byte("meta"))
	m.I32(1)
	m.UTF("large")
	m.File(uri, size)
	m.I32(0) // private
	m.Null() // raw keyed state
	m.I32(0) // channel state
	m.I32(0)
	return m.B
}

// cutting cuts the connections when 10 MiB of a file were read from it, as often as is left.
type cutting struct {
	fsutil.ReadFS
	cut func()

	mu   sync.Mutex
	left int
}

func (c *cutting) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	r, err := c.ReadFS.Open(ctx, name, offset)
	if err != nil {
		return nil, err
	}
	return &cuttingReader{ReadCloser: r, of: c}, nil
}

type cuttingReader struct {
	io.ReadCloser
	of   *cutting
	read int
}

func (r *cuttingReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if before := r.read; before < 10<<20 && before+n >= 10<<20 {
		r.of.mu.Lock()
		defer r.of.mu.Unlock()
		if r.of.left > 0 {
			r.of.left--
			r.of.cut()
		}
	}
	r.read += n
	return n, err
}

// A connection that is lost costs no byte of a large file a second time: the next Fetch asks from where the last one ended.
func TestALargeFileGoesOnOverTheNextConnection(t *testing.T) {
	w := newMemoryWorld(t)
	const job = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	data := content(3, 65<<20)
	put(t, w.files, "orders/"+job+"/shared/large", data)
	source := memoryRoot.Join("orders/" + job + "/chk-5")
	put(t, w.files, "orders/"+job+"/chk-5/_metadata", oneFile(memoryRoot.Join("orders/"+job+"/shared/large").String(), int64(len(data))))

	root := fsutil.URI{Scheme: "hdfs", Authority: "dc2", Path: "/replicas"}
	to := target{fsutil.NewMemory(root)}
	n, meter := newNetwork(), &replicator.Meter{}
	files := &cutting{ReadFS: w.files, left: 3, cut: func() { n.cut("a1") }}
	servePeers(t, n, "a1", sourceConfig(w.group, opener{func(fsutil.URI) (fsutil.ReadFS, error) { return files, nil }}))
	peer := dialPeer(t, n, "a1")
	res, err := replicator.Replicate(t.Context(), to, replicator.Request{Source: source, Target: root, SourceOpener: peer.Open("prod"), Meter: meter})
	if err != nil || res.Status != replicator.StatusReady {
		t.Fatalf("Replicate = %+v, %v", res, err)
	}
	if got, err := readAll(t.Context(), to.files, job+"/shared/large"); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the copy = %d bytes, %v", len(got), err)
	}
	if meter.Retries.Load() < 3 || res.BytesCopied != int64(len(data)) {
		t.Errorf("%d bytes were read in %d tries more, want each once in 3: %d", res.BytesCopied, meter.Retries.Load(), len(data))
	}
}
