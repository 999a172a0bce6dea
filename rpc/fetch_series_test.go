package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/ckptferry/ckptferry/fsutil"
	peerv1 "github.com/ckptferry/ckptferry/proto/ckptferry/peer/v1"
)

func openAll(t *testing.T, remote fsutil.ReadFS, names ...string) fsutil.Opened {
	t.Helper()
	opened, err := remote.(fsutil.AllOpener).OpenAll(t.Context(), names)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = opened.Close() })
	return opened
}

func readNext(ctx context.Context, opened fsutil.Opened) ([]byte, error) {
	r, err := opened.Next(ctx)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

// wantUnused says that no token of a peer is held, so that nothing that was opened is left over.
func wantUnused(t *testing.T, p *Peer) {
	t.Helper()
	if n := len(p.reading); n != 0 {
		t.Errorf("%d files count as being read; want none", n)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link != nil && p.link.users != 0 {
		t.Errorf("the connection has %d users; want none", p.link.users)
	}
}

func TestASeriesIsItsFilesInOrder(t *testing.T) {
	w := newMemoryWorld(t)
	var names []string
	want := map[string][]byte{}
	for i := range 200 { // more than are asked for ahead
		name := fmt.Sprintf("orders/f%03d", i)
		names = append(names, name)
		if i%50 == 7 {
			continue // absent
		}
		want[name] = content(byte(i), i*300)
		put(t, w.files, name, want[name])
	}
	opened := openAll(t, w.remote, names...)
	for _, name := range names {
		got, err := readNext(t.Context(), opened)
		if data, there := want[name]; !there {
			wantErr(t, name, err, fs.ErrNotExist)
			wantSays(t, name, err, "hdfs://dc1/flink/"+name, "dc1")
		} else if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, len(data))
		}
	}
	_, err := opened.Next(t.Context())
	wantErr(t, "one more", err, fs.ErrInvalid)
	wantUnused(t, w.peer)
	if n := len(w.peer.idle); n != 1 {
		t.Errorf("%d streams are kept for later; want the one of the series", n)
	}
}

// Over a long link each answer that is waited for before the next question costs a round trip.
func TestASeriesAsksBeforeItIsAnswered(t *testing.T) {
	names := []string{"orders/a", "orders/b", "orders/c"}
	l := &liar{fetch: func(stream grpc.BidiStreamingServer[peerv1.FetchRequest, peerv1.FetchResponse], req *peerv1.FetchRequest) error {
		for i := range names {
			if i > 0 {
				var err error
				if req, err = stream.Recv(); err != nil {
					return err
				}
			}
			if got := req.GetFile().GetName(); got != names[i] {
				return fmt.Errorf("asked for %s; want %s", got, names[i])
			}
		}
		for _, name := range names { // only now
			if err := errors.Join(stream.Send(piece(name)), stream.Send(end(name))); err != nil {
				return err
			}
		}
		return nil
	}}
	opened := openAll(t, l.remote(t), names...)
	for _, name := range names {
		if got, err := readNext(t.Context(), opened); err != nil || string(got) != name {
			t.Errorf("read %q, %v; want %q", got, err, name)
		}
	}
}

func TestASeriesGoesOnAfterAStreamThatBroke(t *testing.T) {
	streams := 0
	l := &liar{}
	l.fetch = func(stream grpc.BidiStreamingServer[peerv1.FetchRequest, peerv1.FetchResponse], req *peerv1.FetchRequest) error {
		name := req.GetFile().GetName()
		if name == "orders/b" {
			if streams++; streams == 1 {
				return errEnd
			}
		}
		return errors.Join(stream.Send(piece(name)), stream.Send(end(name)))
	}
	opened := openAll(t, l.remote(t), "orders/a", "orders/b", "orders/c")
	for _, name := range []string{"orders/a", "orders/b", "orders/c"} {
		if got, err := readNext(t.Context(), opened); err != nil || string(got) != name {
			t.Errorf("read %q, %v; want %q", got, err, name)
		}
	}
}

func TestASeriesOfWhichFilesAreNotReadToTheEnd(t *testing.T) {
	w := newMemoryWorld(t)
	large := content(1, 3*pieceBytes)
	for _, name := range []string{"orders/a", "orders/b", "orders/c"} {
		put(t, w.files, name, large)
	}
	opened := openAll(t, w.remote, "orders/a", "orders/b", "orders/c")
	first, err := opened.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if got, err := readNext(t.Context(), opened); err != nil || !bytes.Equal(got, large) {
		t.Errorf("the file after one that was given up: %d bytes, %v", len(got), err)
	}
	if n, err := first.Read(make([]byte, 1<<20)); err == nil && n > pieceBytes {
		t.Errorf("the file that was given up can be read on: %d bytes", n)
	}
	if err := errors.Join(opened.Close(), opened.Close()); err != nil {
		t.Errorf("Close = %v", err)
	}
	_, err = opened.Next(t.Context())
	wantErr(t, "Next after Close", err, fs.ErrInvalid)
	wantUnused(t, w.peer)
}

func TestASeriesThatIsClosedInTheMiddle(t *testing.T) {
	w := newMemoryWorld(t)
	put(t, w.files, "orders/a", []byte("a"))
	put(t, w.files, "orders/b", []byte("b"))
	opened := openAll(t, w.remote, "orders/a", "orders/b", "orders/b")
	if got, err := readNext(t.Context(), opened); err != nil || string(got) != "a" {
		t.Fatalf("read %q, %v", got, err)
	}
	if err := opened.Close(); err != nil {
		t.Fatal(err)
	}
	wantUnused(t, w.peer)
	if n := len(w.peer.idle); n != 0 {
		t.Errorf("%d streams are kept that answers are still to come on", n)
	}
	if got, err := readAll(t.Context(), w.remote, "orders/b"); err != nil || string(got) != "b" {
		t.Errorf("then read %q, %v", got, err)
	}
}

func TestASeriesEndsWithItsContext(t *testing.T) {
	w := newMemoryWorld(t)
	put(t, w.files, "orders/a", []byte("a"))
	ctx, cancel := context.WithCancel(t.Context())
	opened := openAll(t, w.remote, "orders/a", "orders/a")
	if _, err := readNext(ctx, opened); err != nil {
		t.Fatal(err)
	}
	cancel()
	_, err := readNext(ctx, opened)
	wantErr(t, "the next one", err, context.Canceled)
	_ = opened.Close()
	wantUnused(t, w.peer)
}

func TestASeriesWithoutAConnection(t *testing.T) {
	w := newMemoryWorld(t)
	_ = w.peer.Close()
	opened := openAll(t, w.remote, "orders/a", "orders/b")
	for range 2 {
		_, err := opened.Next(t.Context())
		wantErr(t, "Next", err, fsutil.ErrUnavailable)
	}
	wantUnused(t, w.peer)
	_, err := w.remote.(fsutil.AllOpener).OpenAll(t.Context(), []string{"orders/a", "../b"})
	wantErr(t, "a name that is none", err, fs.ErrInvalid)
}

// The requests that are ahead fit into the window of a stream, however long names are.
func TestASeriesOfLongNames(t *testing.T) {
	w := newMemoryWorld(t)
	var names []string
	for i := range 100 {
		name := "orders/" + strings.Repeat(strings.Repeat("d", 200)+"/", 15) + fmt.Sprint(i)
		names = append(names, name)
		put(t, w.files, name, content(byte(i), 100_000))
	}
	opened := openAll(t, w.remote, names...)
	for i := range names {
		if got, err := readNext(t.Context(), opened); err != nil || !bytes.Equal(got, content(byte(i), 100_000)) {
			t.Fatalf("file %d: %d bytes, %v", i, len(got), err)
		}
	}
}
