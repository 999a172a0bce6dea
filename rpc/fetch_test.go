package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/ckptferry/ckptferry/fsutil"
	peerv1 "github.com/ckptferry/ckptferry/proto/ckptferry/peer/v1"
)

// liar is a source that answers as it is told.
type liar struct {
	peerv1.UnimplementedPeerServiceServer
	handshake *peerv1.HandshakeResponse
	fetch     func(stream grpc.BidiStreamingServer[peerv1.FetchRequest, peerv1.FetchResponse], req *peerv1.FetchRequest) error
	stat      func(*peerv1.StatRequest) (*peerv1.StatResponse, error)
	list      []*peerv1.ListResponse
	watch     func(stream grpc.ServerStreamingServer[peerv1.WatchResponse]) error
}

func (l *liar) Handshake(context.Context, *peerv1.HandshakeRequest) (*peerv1.HandshakeResponse, error) {
	if l.handshake != nil {
		return l.handshake, nil
	}
	return &peerv1.HandshakeResponse{Protocol: 1, Datacenter: "dc1", Agent: "a1"}, nil
}

func (l *liar) Fetch(stream grpc.BidiStreamingServer[peerv1.FetchRequest, peerv1.FetchResponse]) error {
	answering := &naming{BidiStreamingServer: stream}
	for {
		req, err := answering.Recv()
		if err != nil {
			return nil
		}
		if err := l.fetch(answering, req); err != nil {
			if err == errEnd {
				return nil
			}
			return err
		}
	}
}

// naming says at the end of an answer which file it is of, in the order asked, where a test doesn't.
type naming struct {
	grpc.BidiStreamingServer[peerv1.FetchRequest, peerv1.FetchResponse]
	asked []*peerv1.Place
}

func (n *naming) Recv() (*peerv1.FetchRequest, error) {
	req, err := n.BidiStreamingServer.Recv()
	n.asked = append(n.asked, req.GetFile())
	return req, err
}

func (n *naming) Send(answer *peerv1.FetchResponse) error {
	if answer.GetPiece() == nil && len(n.asked) > 0 {
		if end := answer.GetEnd(); end != nil && end.File == nil {
			answer = proto.CloneOf(answer)
			answer.GetEnd().File = n.asked[0]
		}
		n.asked = n.asked[1:]
	}
	return n.BidiStreamingServer.Send(answer)
}

func (l *liar) Stat(_ context.Context, req *peerv1.StatRequest) (*peerv1.StatResponse, error) {
	return l.stat(req)
}

func (l *liar) List(_ *peerv1.ListRequest, out grpc.ServerStreamingServer[peerv1.ListResponse]) error {
	for _, page := range l.list {
		if err := out.Send(page); err != nil {
			return err
		}
	}
	return nil
}

func (l *liar) Watch(_ *peerv1.WatchRequest, out grpc.ServerStreamingServer[peerv1.WatchResponse]) error {
	return l.watch(out)
}

// errEnd ends a stream without an error.
var errEnd = errors.New("end")

// serve makes the liar answer at an endpoint.
func (l *liar) serve(t *testing.T, n *network, endpoint string) {
	t.Helper()
	s := grpc.NewServer()
	peerv1.RegisterPeerServiceServer(s, l)
	listener := n.listen(endpoint)
	go func() { _ = s.Serve(listener) }()
	t.Cleanup(s.Stop)
}

func (l *liar) remote(t *testing.T) fsutil.ReadFS {
	t.Helper()
	n := newNetwork()
	l.serve(t, n, "a1")
	return openRemote(t, dialPeer(t, n, "a1"), memoryRoot)
}

func piece(data string) *peerv1.FetchResponse {
	p := &peerv1.Piece{Data: []byte(data), Crc32C: crc32.Checksum([]byte(data), castagnoli)}
	return &peerv1.FetchResponse{Part: &peerv1.FetchResponse_Piece{Piece: p}}
}

func end(data string) *peerv1.FetchResponse {
	e := &peerv1.End{Length: int64(len(data)), Crc32C: crc32.Checksum([]byte(data), castagnoli)}
	return &peerv1.FetchResponse{Part: &peerv1.FetchResponse_End{End: e}}
}

// What is not the whole file with the right digests is never io.EOF.
func TestOnlyAWholeFileEnds(t *testing.T) {
	flipped := piece("hello")
	flipped.GetPiece().Data[2] ^= 1
	big := piece(string(make([]byte, pieceBytes+1)))
	failed := &peerv1.FetchResponse{Part: &peerv1.FetchResponse_Error{Error: &peerv1.FileError{Kind: "corrupt", Message: "rot"}}}
	another := end("hello")
	another.GetEnd().File = &peerv1.Place{Root: memoryRoot.String(), Name: "orders/g"}
	unknown := &peerv1.FetchResponse{Part: &peerv1.FetchResponse_Error{Error: &peerv1.FileError{Kind: "newer", Message: "what"}}}
	for name, tc := range map[string]struct {
		answer []*peerv1.FetchResponse
		then   error // of the stream
		want   error // io.EOF: the file is whole
		says   string
	}{
		"whole":                           {[]*peerv1.FetchResponse{piece("hel"), piece("lo"), end("hello")}, nil, io.EOF, ""},
		"empty":                           {[]*peerv1.FetchResponse{end("")}, nil, io.EOF, ""},
		"bytes flipped in a piece":        {[]*peerv1.FetchResponse{piece("x"), flipped, end("xhello")}, nil, fsutil.ErrCorrupt, "from byte 1 on"},
		"the digest of the file is wrong": {[]*peerv1.FetchResponse{piece("hello"), end("hellO")}, nil, fsutil.ErrCorrupt, "CRC32C"},
		"a piece is missing":              {[]*peerv1.FetchResponse{piece("lo"), end("hello")}, nil, fsutil.ErrCorrupt, "2 bytes came, 5 were sent"},
		"a piece came twice":              {[]*peerv1.FetchResponse{piece("hello"), piece("hello"), end("hello")}, nil, fsutil.ErrCorrupt, "10 bytes"},
		"pieces in another order":         {[]*peerv1.FetchResponse{piece("lo"), piece("hel"), end("hello")}, nil, fsutil.ErrCorrupt, "CRC32C"},
		"another file's":                  {[]*peerv1.FetchResponse{piece("hello"), another}, nil, fsutil.ErrCorrupt, "orders/g"},
		"a piece without bytes":           {[]*peerv1.FetchResponse{piece(""), end("")}, nil, fsutil.ErrCorrupt, "0 bytes"},
		"a piece that is too large":       {[]*peerv1.FetchResponse{big, end("")}, nil, fsutil.ErrCorrupt, "262145 bytes"},
		"nothing in a message":            {[]*peerv1.FetchResponse{{}}, nil, fsutil.ErrCorrupt, "neither"},
		"the end is missing":              {[]*peerv1.FetchResponse{piece("hello")}, errEnd, fsutil.ErrUnavailable, "ended before"},
		"no answer at all":                {nil, errEnd, fsutil.ErrUnavailable, "ended before"},
		"the file's error":                {[]*peerv1.FetchResponse{piece("hello"), failed}, nil, fsutil.ErrCorrupt, "rot"},
		"an error that is not known":      {[]*peerv1.FetchResponse{unknown}, nil, nil, "what"},
		"the call fails":                  {nil, status.Error(codes.PermissionDenied, "no"), fs.ErrPermission, "no"},
		"the call fails in the middle":    {[]*peerv1.FetchResponse{piece("hello")}, status.Error(codes.Internal, "oh"), fsutil.ErrUnavailable, "oh"},
		"a call that finds nothing is not an absent file": {nil, status.Error(codes.NotFound, "no export"), fs.ErrPermission, "no export"},
	} {
		t.Run(name, func(t *testing.T) {
			l := &liar{fetch: func(stream grpc.BidiStreamingServer[peerv1.FetchRequest, peerv1.FetchResponse], _ *peerv1.FetchRequest) error {
				for _, a := range tc.answer {
					if err := stream.Send(a); err != nil {
						return err
					}
				}
				return tc.then
			}}
			data, err := readAll(t.Context(), l.remote(t), "orders/f")
			if tc.want == io.EOF {
				if err != nil || len(data) != 5 && len(data) != 0 {
					t.Errorf("read = %q, %v", data, err)
				}
				return
			}
			if err == nil || tc.want != nil && !errors.Is(err, tc.want) || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("read = %q, %v; want %v", data, err, tc.want)
			}
			if tc.want == nil && (errors.Is(err, fsutil.ErrUnavailable) || errors.Is(err, fsutil.ErrCorrupt)) {
				t.Errorf("read = %v; it is no known error", err)
			}
			wantSays(t, "read", err, tc.says, "hdfs://dc1/flink/orders/f", "dc1")
		})
	}
}

func TestAPrefixIsNeverLonger(t *testing.T) {
	l := &liar{fetch: func(stream grpc.BidiStreamingServer[peerv1.FetchRequest, peerv1.FetchResponse], req *peerv1.FetchRequest) error {
		data := "hello"
		if req.GetPrefixLength() != 3 {
			data = "he"
		}
		return errors.Join(stream.Send(piece(data)), stream.Send(end(data)))
	}}
	remote := l.remote(t).(fsutil.PrefixOpener)
	for _, length := range []int64{3, 4} { // sent too much, sent too little
		r, err := remote.OpenPrefix(t.Context(), "orders/f", 0, length)
		if err == nil {
			_, err = io.ReadAll(r)
			_ = r.Close()
		}
		wantErr(t, fmt.Sprintf("the first %d bytes", length), err, fsutil.ErrCorrupt)
	}
}

func TestOpenPrefix(t *testing.T) {
	w := newMemoryWorld(t)
	data := content(1, 700_000)
	put(t, w.files, "orders/f", data)
	put(t, w.files, "orders/empty", nil)
	remote := w.remote.(fsutil.PrefixOpener)
	for _, tc := range []struct {
		name           string
		offset, length int64
		want           error
	}{
		{"orders/f", 0, 700_000, nil}, {"orders/f", 0, 1, nil}, {"orders/f", 300_000, 600_001, nil}, {"orders/f", 5, 5, nil}, {"orders/f", 0, 0, nil},
		{"orders/empty", 0, 0, nil},
		{"orders/f", 0, 700_001, fs.ErrInvalid}, {"orders/f", 6, 5, fs.ErrInvalid}, {"orders/f", -1, 5, fs.ErrInvalid}, {"orders/f", 0, -1, fs.ErrInvalid},
		{"orders/none", 0, 5, fs.ErrNotExist}, {"orders/none", 0, 0, fs.ErrNotExist}, {"orders", 0, 0, fs.ErrInvalid}, {"orders", 0, 5, fs.ErrInvalid},
		{"../f", 0, 5, fs.ErrInvalid},
	} {
		r, err := remote.OpenPrefix(t.Context(), tc.name, tc.offset, tc.length)
		if tc.want != nil {
			wantErr(t, fmt.Sprint(tc), err, tc.want) // at once: a caller decides by it
			continue
		}
		if err != nil {
			t.Errorf("%v: %v", tc, err)
			continue
		}
		got, err := io.ReadAll(r)
		if err != nil || tc.name == "orders/f" && !bytes.Equal(got, data[tc.offset:tc.length]) {
			t.Errorf("%v: %d bytes, %v", tc, len(got), err)
		}
		_ = r.Close()
	}
}

// growing is a file system that knows the first bytes of files that are being written.
type growing struct {
	fsutil.ReadFS
	asked [2]int64
}

func (g *growing) Open(context.Context, string, int64) (io.ReadCloser, error) {
	return nil, fmt.Errorf("being written: %w", fsutil.ErrUnavailable)
}

func (g *growing) OpenPrefix(_ context.Context, _ string, offset, length int64) (io.ReadCloser, error) {
	g.asked = [2]int64{offset, length}
	return io.NopCloser(bytes.NewReader(make([]byte, length-offset))), nil
}

func TestAPrefixIsReadAsTheSourceCan(t *testing.T) {
	source := &growing{ReadFS: fsutil.NewMemory(memoryRoot)}
	n := newNetwork()
	servePeers(t, n, "a1", sourceConfig(newMemoryWorld(t).group, opener{func(fsutil.URI) (fsutil.ReadFS, error) { return source, nil }}))
	remote := openRemote(t, dialPeer(t, n, "a1"), memoryRoot)
	_, err := remote.Open(t.Context(), "orders/f", 0)
	wantErr(t, "Open of a file that is being written", err, fsutil.ErrUnavailable) // at once: a caller then asks for the prefix
	r, err := remote.(fsutil.PrefixOpener).OpenPrefix(t.Context(), "orders/f", 3, 10)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || len(got) != 7 || source.asked != [2]int64{3, 10} {
		t.Errorf("%d bytes, %v; asked %v", len(got), err, source.asked)
	}
}

// breaking fails after some bytes.
type breaking struct {
	fsutil.ReadFS
	err error
}

func (b breaking) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	r, err := b.ReadFS.Open(ctx, name, offset)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(io.MultiReader(io.LimitReader(r, 300_000), failing{b.err})), nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestASourcesReadErrorIsTheReaders(t *testing.T) {
	for _, want := range []error{fsutil.ErrCorrupt, fsutil.ErrUnavailable, fs.ErrPermission, fs.ErrNotExist} {
		files := fsutil.NewMemory(memoryRoot)
		put(t, files, "orders/f", content(1, 700_000))
		put(t, files, "orders/g", []byte("whole"))
		n := newNetwork()
		servePeers(t, n, "a1", sourceConfig(newMemoryWorld(t).group, opener{func(fsutil.URI) (fsutil.ReadFS, error) {
			return breaking{files, fmt.Errorf("disk: %w", want)}, nil
		}}))
		remote := openRemote(t, dialPeer(t, n, "a1"), memoryRoot)
		data, err := readAll(t.Context(), remote, "orders/f")
		wantErr(t, fmt.Sprintf("read after %d bytes", len(data)), err, want)
		wantSays(t, "read", err, "disk")
	}
}

func TestACutConnectionIsUnavailableAndTheNextReadWorks(t *testing.T) {
	w := newMemoryWorld(t)
	data := content(1, 40<<20)
	put(t, w.files, "orders/f", data)
	r, err := w.remote.Open(t.Context(), "orders/f", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	w.network.cut("a1")
	_, err = io.ReadAll(r)
	wantErr(t, "read over a connection that was cut", err, fsutil.ErrUnavailable)
	wantErr(t, "Close, then read", errors.Join(r.Close(), func() error { _, err := r.Read(make([]byte, 1)); return err }()), fsutil.ErrUnavailable)

	if got, err := readAll(t.Context(), w.remote, "orders/f"); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read again = %d bytes, %v", len(got), err)
	}
	if len(w.peer.reading) != 0 {
		t.Errorf("%d files are being read", len(w.peer.reading))
	}
}

// A connection that broke while nobody used it is no error of the call that finds out.
func TestACallThatFindsTheConnectionLostGoesToTheNextAgent(t *testing.T) {
	w := newMemoryWorld(t)
	put(t, w.files, "orders/f", []byte("hello"))
	servePeers(t, w.network, "a2", sourceConfig(w.group, opener{func(fsutil.URI) (fsutil.ReadFS, error) { return w.files, nil }}))
	peer := dialPeer(t, w.network, "a1", "a2")
	remote := openRemote(t, peer, memoryRoot)
	for _, call := range []func() error{
		func() error { _, err := readAll(t.Context(), remote, "orders/f"); return err },
		func() error { _, err := remote.Stat(t.Context(), "orders/f"); return err },
		func() error { _, err := remote.List(t.Context(), "orders"); return err },
	} {
		for range 3 {
			if err := call(); err != nil {
				t.Errorf("a call = %v", err)
			}
			w.network.cut("a1")
			w.network.cut("a2")
		}
	}
}

func TestFilesShareStreamsOneAfterTheOther(t *testing.T) {
	var mu sync.Mutex
	streams := map[any]int{}
	l := &liar{fetch: func(stream grpc.BidiStreamingServer[peerv1.FetchRequest, peerv1.FetchResponse], req *peerv1.FetchRequest) error {
		mu.Lock()
		streams[stream]++
		mu.Unlock()
		if req.GetFile().GetName() == "orders/none" {
			return stream.Send(&peerv1.FetchResponse{Part: &peerv1.FetchResponse_Error{Error: &peerv1.FileError{Kind: "not_exist"}}})
		}
		return errors.Join(stream.Send(piece("hello")), stream.Send(end("hello")))
	}}
	remote := l.remote(t)
	for i := range 30 {
		name, want := "orders/f", error(nil)
		if i%3 == 1 {
			name, want = "orders/none", fs.ErrNotExist
		}
		if _, err := readAll(t.Context(), remote, name); !errors.Is(err, want) {
			t.Fatal(err)
		}
	}
	if len(streams) != 1 {
		t.Errorf("30 files one after the other took %d streams", len(streams))
	}
	r, err := remote.Open(t.Context(), "orders/f", 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close() // not read: what is still to come on its stream belongs to nobody else
	if got, err := readAll(t.Context(), remote, "orders/f"); err != nil || string(got) != "hello" {
		t.Errorf("read after a file that was given up = %q, %v", got, err)
	}
	if len(streams) != 2 {
		t.Errorf("after a file that was given up there were %d streams", len(streams))
	}
}

func TestASlowReaderHoldsUpNoOther(t *testing.T) {
	w := newMemoryWorld(t)
	big := content(1, 100<<20)
	put(t, w.files, "orders/big", big)
	put(t, w.files, "orders/small", []byte("hello"))
	slow, err := w.remote.Open(t.Context(), "orders/big", 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if got, err := readAll(t.Context(), w.remote, "orders/small"); err != nil || string(got) != "hello" {
			t.Fatalf("beside a reader that does not read: %q, %v", got, err)
		}
	}
	if got, err := io.ReadAll(slow); err != nil || !bytes.Equal(got, big) {
		t.Errorf("the slow one = %d bytes, %v", len(got), err)
	}
}

func TestManyReadersAtOnce(t *testing.T) {
	w := newMemoryWorld(t)
	const files = 2*readingMost + 7
	for i := range files {
		put(t, w.files, fmt.Sprintf("orders/f%d", i), content(byte(i), 300_000+i))
	}
	var readers sync.WaitGroup
	for i := range files {
		readers.Go(func() {
			if got, err := readAll(t.Context(), w.remote, fmt.Sprintf("orders/f%d", i)); err != nil || !bytes.Equal(got, content(byte(i), 300_000+i)) {
				t.Errorf("file %d = %d bytes, %v", i, len(got), err)
			}
		})
	}
	readers.Wait()
	if len(w.peer.reading) != 0 || len(w.peer.idle) > idleMost {
		t.Errorf("%d files are being read, %d streams idle", len(w.peer.reading), len(w.peer.idle))
	}
}

func TestTheContextOfOpenBoundsTheReading(t *testing.T) {
	blocked := make(chan struct{})
	l := &liar{fetch: func(stream grpc.BidiStreamingServer[peerv1.FetchRequest, peerv1.FetchResponse], req *peerv1.FetchRequest) error {
		if req.GetFile().GetName() == "orders/slow" {
			err := stream.Send(piece("hello"))
			close(blocked)
			<-stream.Context().Done()
			return err
		}
		return errors.Join(stream.Send(piece("hello")), stream.Send(end("hello")))
	}}
	remote := l.remote(t)
	ctx, cancel := context.WithCancel(t.Context())
	r, err := remote.Open(ctx, "orders/slow", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	go func() { <-blocked; cancel() }()
	_, err = r.Read(make([]byte, 1))
	wantErr(t, "Read", err, context.Canceled)
	_ = r.Close()
	if got, err := readAll(t.Context(), remote, "orders/f"); err != nil || string(got) != "hello" {
		t.Errorf("the next file = %q, %v", got, err)
	}
}

func TestClosingThePeerEndsWhatIsUnderWay(t *testing.T) {
	w := newMemoryWorld(t)
	put(t, w.files, "orders/f", content(1, 100<<20))
	r, err := w.remote.Open(t.Context(), "orders/f", 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.peer.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(r)
	wantErr(t, "Read", err, fsutil.ErrUnavailable)
	_, err = w.remote.Stat(t.Context(), "orders/f")
	wantErr(t, "Stat", err, fsutil.ErrUnavailable)
	if err := w.peer.Close(); err != nil {
		t.Errorf("Close again = %v", err)
	}
}

// A source that asks for anything but what it was built for breaks only its own stream.
func TestHostileFetchRequests(t *testing.T) {
	w := newMemoryWorld(t)
	put(t, w.files, "orders/f", []byte("hello"))
	client := rawClient(t, w.network, "a1", "dc2")
	place := &peerv1.Place{Root: memoryRoot.String(), Name: "orders/f"}
	for name, tc := range map[string]struct {
		req  *peerv1.FetchRequest
		kind string
	}{
		"a negative offset":           {&peerv1.FetchRequest{Export: "prod", File: place, Offset: -1}, "invalid"},
		"an offset beyond the end":    {&peerv1.FetchRequest{Export: "prod", File: place, Offset: 1 << 62}, "invalid"},
		"a negative length":           {&peerv1.FetchRequest{Export: "prod", File: place, PrefixLength: -5}, "invalid"},
		"a length beyond the end":     {&peerv1.FetchRequest{Export: "prod", File: place, PrefixLength: 1 << 62}, "invalid"},
		"an offset beyond the length": {&peerv1.FetchRequest{Export: "prod", File: place, Offset: 3, PrefixLength: 2}, "invalid"},
		"no file":                     {&peerv1.FetchRequest{Export: "prod"}, "invalid"},
	} {
		stream, err := client.Fetch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		good := &peerv1.FetchRequest{Export: "prod", File: place}
		if err := errors.Join(stream.Send(tc.req), stream.Send(good), stream.CloseSend()); err != nil {
			t.Fatal(err)
		}
		var got []string
		for {
			answer, err := stream.Recv()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got = append(got, answer.GetError().GetKind()+string(answer.GetPiece().GetData()))
		}
		if want := []string{tc.kind, "hello", ""}; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s, and then a good request: %q; want %q", name, got, want)
		}
	}
	stream, err := client.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.group.change(func() { w.group.exports["two"] = w.group.exports["prod"] })
	for i, export := range []string{"prod", "two"} {
		if err := stream.Send(&peerv1.FetchRequest{Export: export, File: place, PrefixLength: int64(i)}); err != nil {
			t.Fatal(err)
		}
	}
	for err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("two exports on one stream = %v", err)
	}
}
