package rpc

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/grpc"

	"github.com/ckptferry/ckptferry/fsutil"
	peerv1 "github.com/ckptferry/ckptferry/proto/ckptferry/peer/v1"
)

// Together they stay below the streams that the other side allows on a connection, with room for other calls.
const (
	// readingMost is how many files of one peer are read at a time; more wait.
	readingMost = 160
	// idleMost is how many Fetch streams are kept for later.
	idleMost = 64
)

// fetchPool keeps the Fetch streams of one export whose files were read to their end. A stream serves one file at a
// time, so that a file whose reader is slow holds up no other.
type fetchPool struct {
	files *peerFiles

	mu   sync.Mutex
	idle []*fetchStream
}

// fetchStream is one Fetch stream.
type fetchStream struct {
	link   *link
	stream grpc.BidiStreamingClient[peerv1.FetchRequest, peerv1.FetchResponse]
	cancel context.CancelFunc // ends it at once
}

// open asks for a file, with the large window if not too many have it.
func (f *peerFiles) open(ctx context.Context, req *peerv1.FetchRequest) (*fetchReader, error) {
	select {
	case f.wide.peer.reading <- struct{}{}:
		return f.wide.pool.open(ctx, req)
	default:
	}
	select {
	case f.peer.reading <- struct{}{}:
		return f.pool.open(ctx, req)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// open asks for a file and waits for the beginning of the answer, so that an absent file is an error here. The caller
// has taken a token of Peer.reading for it, which is given back when the reading ends.
func (p *fetchPool) open(ctx context.Context, req *peerv1.FetchRequest) (*fetchReader, error) {
	peer := p.files.peer
	var r *fetchReader
	err := peer.on(ctx, func(l *link) error {
		s, err := p.get(l)
		if err != nil {
			return err
		}
		peer.retain(l) // while the file is read
		r = newFetchReader(ctx, p, s, req)
		if s.stream.Send(req) == nil {
			err = r.first()
		} else if err = r.receive(); err == nil { // Recv says why a stream has ended
			err = errStreamEnded
		}
		if err != nil {
			r.end(false)
		}
		return err
	})
	if err != nil || r.ended { // an empty file has ended
		<-peer.reading
		return r, err
	}
	r.counted = true
	return r, nil
}

// get is a stream of this connection.
func (p *fetchPool) get(l *link) (*fetchStream, error) {
	p.mu.Lock()
	stale := p.idle
	for i, s := range slices.Backward(p.idle) {
		if s.link == l {
			p.idle = slices.Delete(p.idle, i, i+1)
			p.mu.Unlock()
			<-p.files.peer.idle
			return s, nil
		}
	}
	p.idle = nil // all of other connections, which were given up
	p.mu.Unlock()
	for _, s := range stale {
		s.cancel()
		<-p.files.peer.idle
	}
	ctx, cancel := context.WithCancel(context.Background()) // it outlives the file; end and Peer.Close end it
	stream, err := l.client.Fetch(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	return &fetchStream{link: l, stream: stream, cancel: cancel}, nil
}

// put keeps a stream for later, when there are not enough yet.
func (p *fetchPool) put(s *fetchStream) {
	select {
	case p.files.peer.idle <- struct{}{}:
		p.mu.Lock()
		p.idle = append(p.idle, s)
		p.mu.Unlock()
	default:
		s.cancel()
	}
}

// errStreamEnded says that the other side has ended a stream that a file's end was still to come on.
var errStreamEnded = fmt.Errorf("the stream ended before the file: %w", fsutil.ErrUnavailable)
