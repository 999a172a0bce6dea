package rpc

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"sync"

	"google.golang.org/grpc"

	"github.com/ckptferry/ckptferry/fsutil"
	peerv1 "github.com/ckptferry/ckptferry/proto/ckptferry/peer/v1"
)

// pieceBytes is how much of a file is in one message. Measured on loopback, gRPC is no faster with more.
const pieceBytes = 256 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Fetch implements peerv1.PeerServiceServer: the files of a stream, one after the other, in the order asked.
func (s *peerServer) Fetch(stream grpc.BidiStreamingServer[peerv1.FetchRequest, peerv1.FetchResponse]) error {
	asked := make(chan *peerv1.FetchRequest)
	ended := make(chan error, 1)
	go func() { ended <- receive(stream, asked) }() // ends with the stream, which gRPC ends when this returns
	out := &fileSender{stream: stream, buffers: &s.buffers}
	export := ""
	for {
		var req *peerv1.FetchRequest
		select {
		case req = <-asked:
		case err := <-ended:
			return err
		case <-s.stopping:
			return s.stopError()
		}
		if export == "" {
			export = req.GetExport()
		}
		if req.GetExport() != export {
			return fmt.Errorf("fetch: %w: a stream for export %q is asked for a file of export %q", ErrInvalid, export, req.GetExport())
		}
		e, err := s.export(stream.Context(), export)
		if err != nil {
			return err
		}
		at, err := s.jail.find(stream.Context(), e, req.GetFile())
		var r io.ReadCloser
		if err == nil {
			r, err = open(stream.Context(), at, req)
		}
		if err != nil {
			if err := out.fail(err); err != nil {
				return err
			}
			continue
		}
		err = out.send(r, req.GetFile())
		_ = r.Close() // only read
		if err != nil {
			return err
		}
	}
}

// receive hands requests on until the caller has no more, or the stream ends.
func receive(stream grpc.BidiStreamingServer[peerv1.FetchRequest, peerv1.FetchResponse], asked chan<- *peerv1.FetchRequest) error {
	for {
		req, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case asked <- req:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// open opens a file as it is asked for.
func open(ctx context.Context, at spot, req *peerv1.FetchRequest) (io.ReadCloser, error) {
	offset, length := req.GetOffset(), req.GetPrefixLength()
	if length == 0 {
		return at.fs.Open(ctx, at.name, offset)
	}
	if length < 0 || offset < 0 || offset > length {
		return nil, fmt.Errorf("open %s: from offset %d the first %d bytes: %w", at.fs.Root().Join(at.name), offset, length, fs.ErrInvalid)
	}
	if writing, ok := at.fs.(fsutil.PrefixOpener); ok {
		return writing.OpenPrefix(ctx, at.name, offset, length)
	}
	// Here a file that is being written is read as any other.
	r, err := at.fs.Open(ctx, at.name, offset)
	if err != nil {
		return nil, err
	}
	info, err := at.fs.Stat(ctx, at.name)
	if err == nil && info.Size < length {
		err = fmt.Errorf("open %s: %d bytes of a file of %d: %w", at.fs.Root().Join(at.name), length, info.Size, fs.ErrInvalid)
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return &prefixReader{ReadCloser: r, left: length - offset}, nil
}

// prefixReader ends after left bytes. An end before that is not an end.
type prefixReader struct {
	io.ReadCloser
	left int64
}

func (r *prefixReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.ReadCloser.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if err == io.EOF && r.left > 0 {
		err = fmt.Errorf("the file ended %d bytes early: %w", r.left, fsutil.ErrCorrupt)
	}
	return n, err
}

// fileSender sends files on one stream. One buffer is used for all pieces of a file: gRPC has encoded a message when
// Send returns, and no interceptor or stats handler of this package's servers keeps one.
type fileSender struct {
	stream  grpc.BidiStreamingServer[peerv1.FetchRequest, peerv1.FetchResponse]
	buffers *sync.Pool // of *[pieceBytes]byte: a stream between two files holds none
}

// send sends a file's pieces, and its end or error. Its own error is that of the stream.
func (f *fileSender) send(r io.Reader, file *peerv1.Place) error {
	buf, ok := f.buffers.Get().(*[pieceBytes]byte)
	if !ok {
		buf = new([pieceBytes]byte)
	}
	defer f.buffers.Put(buf)
	var length int64
	var sum uint32
	for {
		n, err := fill(r, buf[:])
		if n > 0 {
			data := buf[:n]
			length += int64(n)
			sum = crc32.Update(sum, castagnoli, data)
			piece := &peerv1.Piece{Data: data, Crc32C: crc32.Checksum(data, castagnoli)}
			if err := f.stream.Send(&peerv1.FetchResponse{Part: &peerv1.FetchResponse_Piece{Piece: piece}}); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF:
			return f.stream.Send(&peerv1.FetchResponse{Part: &peerv1.FetchResponse_End{End: &peerv1.End{Length: length, Crc32C: sum, File: file}}})
		case err != nil:
			return f.fail(err)
		}
	}
}

func (f *fileSender) fail(err error) error {
	return f.stream.Send(&peerv1.FetchResponse{Part: &peerv1.FetchResponse_Error{Error: fileError(err)}})
}

// fill reads until buf is full or r says something. It is io.ReadFull that keeps r's own error, and io.EOF for a short
// end.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for idle := 0; n < len(buf) && err == nil; {
		var got int
		got, err = r.Read(buf[n:])
		n += got
		if got > 0 {
			idle = 0
		} else if idle++; err == nil && idle > 100 {
			err = io.ErrNoProgress
		}
	}
	return n, err
}
