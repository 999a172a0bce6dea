package rpc

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/ckptferry/ckptferry/fsutil"
	peerv1 "github.com/ckptferry/ckptferry/proto/ckptferry/peer/v1"
)

// pieceWithin bounds the silence before each piece of a file, for a source whose storage hangs while its network is up.
const pieceWithin = 2 * time.Minute

// fetchReader reads one file from a stream. It is used by one goroutine at a time.
type fetchReader struct {
	pool    *fetchPool
	stream  *fetchStream
	where   fsutil.URI
	asked   *peerv1.Place
	ctx     func() error // the error of the ctx that bounds the reading
	unwatch func() bool  // ends the watch on ctx; false when it struck
	left    int64        // bytes that may still come; negative: no bound is known
	counted bool         // it holds a token of Peer.reading
	series  *fetchSeries // whose stream it is; nil: its own
	ended   bool         // the stream was given back or ended

	rest   []byte // of the last piece
	length int64  // bytes of all pieces
	sum    uint32 // CRC32C of them
	err    error  // what Read says when rest is used up
}

func newFetchReader(ctx context.Context, pool *fetchPool, s *fetchStream, req *peerv1.FetchRequest) *fetchReader {
	r := &fetchReader{pool: pool, stream: s, asked: req.GetFile(), ctx: ctx.Err, left: -1}
	if req.GetPrefixLength() > 0 {
		r.left = req.GetPrefixLength() - req.GetOffset()
	}
	r.unwatch = context.AfterFunc(ctx, s.cancel)
	return r
}

// first waits for the beginning of the answer. The errors of a file that has none are returned; of one that begins
// they are kept for Read.
func (r *fetchReader) first() error {
	err := r.receive()
	if errors.Is(err, io.EOF) {
		return nil // an empty file, whole; Read says so
	}
	return err
}

// receive takes the next message. io.EOF says that the file was delivered whole.
func (r *fetchReader) receive() error {
	late := time.AfterFunc(pieceWithin, r.stream.cancel)
	answer, err := r.stream.stream.Recv()
	inTime := late.Stop()
	if err != nil {
		switch {
		case r.ctx() != nil:
			err = r.ctx()
		case !inTime:
			err = fmt.Errorf("nothing came for %s: %w", pieceWithin, fsutil.ErrUnavailable)
		case errors.Is(err, io.EOF): // the stream's end is not the file's
			err = errStreamEnded
		}
		r.err = err
		return err
	}
	r.err = r.take(answer)
	if r.err != nil {
		_, told := answer.GetPart().(*peerv1.FetchResponse_Error)
		r.end(told || errors.Is(r.err, io.EOF))
	}
	return r.err
}

// take looks at one message of the answer.
func (r *fetchReader) take(answer *peerv1.FetchResponse) error {
	switch part := answer.GetPart().(type) {
	case *peerv1.FetchResponse_Piece:
		data := part.Piece.GetData()
		if len(data) == 0 || len(data) > pieceBytes {
			return notAnAnswer("a piece of %d bytes", len(data))
		}
		if got := crc32.Checksum(data, castagnoli); got != part.Piece.GetCrc32C() {
			return fmt.Errorf("the piece from byte %d on has the CRC32C %08x and was sent with %08x: %w", r.length, got, part.Piece.GetCrc32C(), fsutil.ErrCorrupt)
		}
		r.length += int64(len(data))
		if r.left >= 0 && r.length > r.left {
			return notAnAnswer("%d bytes of a file when asked for %d", r.length, r.left)
		}
		r.sum = crc32.Update(r.sum, castagnoli, data)
		r.rest = data
		return nil
	case *peerv1.FetchResponse_End:
		switch end := part.End; {
		case !proto.Equal(end.GetFile(), r.asked):
			return notAnAnswer("the bytes of %s below %s when asked for %s below %s", end.GetFile().GetName(), end.GetFile().GetRoot(), r.asked.GetName(), r.asked.GetRoot())
		case end.GetLength() != r.length || r.left >= 0 && r.length != r.left:
			return fmt.Errorf("%d bytes came, %d were sent: %w", r.length, end.GetLength(), fsutil.ErrCorrupt)
		case end.GetCrc32C() != r.sum:
			return fmt.Errorf("the bytes that came have the CRC32C %08x, those that were sent %08x: %w", r.sum, end.GetCrc32C(), fsutil.ErrCorrupt)
		}
		return io.EOF
	case *peerv1.FetchResponse_Error:
		return fromFileError(part.Error)
	}
	return notAnAnswer("neither a piece nor an end nor an error")
}

// Read implements io.Reader. It says io.EOF only after the end was received, with the right length and checksum.
func (r *fetchReader) Read(p []byte) (int, error) {
	for len(p) > 0 && len(r.rest) == 0 && r.err == nil {
		if err := r.ctx(); err != nil {
			r.err = err
			r.end(false)
			break
		}
		if err := r.receive(); err != nil && !r.ended {
			r.err = r.pool.files.peer.failed(context.Background(), r.stream.link, r.err)
			r.end(false)
		}
	}
	switch {
	case len(r.rest) > 0:
		if err := r.ctx(); err != nil {
			return 0, r.fail(err)
		}
		n := copy(p, r.rest)
		r.rest = r.rest[n:]
		return n, nil
	case len(p) == 0, r.err == nil:
		return 0, nil
	case r.err == io.EOF:
		return 0, io.EOF
	}
	return 0, r.fail(r.err)
}

func (r *fetchReader) fail(err error) error {
	return fmt.Errorf("read %s at %s: %w", r.where, r.pool.files.peer.cfg.Expect, err)
}

// Close implements io.Closer. A file that was not read to its end costs its stream.
func (r *fetchReader) Close() error {
	r.end(false)
	r.rest = nil
	if r.err == nil || r.err == io.EOF {
		r.err = fs.ErrClosed
	}
	return nil
}

// end gives the stream back when its answer is over, and ends it when there is more to come.
func (r *fetchReader) end(over bool) {
	if r.ended {
		return
	}
	r.ended = true
	switch over = r.unwatch() && over; {
	case r.series != nil:
		r.series.ended(over)
	case over:
		r.pool.put(r.stream)
	default:
		r.stream.cancel()
	}
	if r.counted {
		<-r.pool.files.peer.reading
	}
	r.pool.files.peer.release(r.stream.link)
}
