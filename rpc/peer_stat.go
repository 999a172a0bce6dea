package rpc

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
	peerv1 "github.com/ckptferry/ckptferry/proto/ckptferry/peer/v1"
)

const (
	// statWithin bounds one Stat call. A namenode's failover takes up to half a minute.
	statWithin = 2 * time.Minute
	// statGather is how long the first question of many waits for the others, before it takes a round trip alone.
	statGather = time.Millisecond
	// statBytesMost bounds the names in one Stat call, far below maxCallBytes.
	statBytesMost = 1 << 20
)

// statQueue makes one Stat call of what was asked for while the one before was under way. Over a link with 80 ms for a
// round trip, 1000 files take two round trips instead of 1000.
type statQueue struct {
	files *peerFiles

	mu      sync.Mutex
	waiting []*statAsked
	running bool
}

// statAsked is one question. info and err are set before done is closed.
type statAsked struct {
	place *peerv1.Place
	done  chan struct{}
	info  fsutil.FileInfo
	err   error
}

func (q *statQueue) stat(ctx context.Context, place *peerv1.Place) (fsutil.FileInfo, error) {
	asked := &statAsked{place: place, done: make(chan struct{})}
	q.mu.Lock()
	q.waiting = append(q.waiting, asked)
	if !q.running {
		q.running = q.files.peer.start(q.run)
	}
	running := q.running
	q.mu.Unlock()
	if !running {
		return fsutil.FileInfo{}, q.files.peer.closedError()
	}
	select {
	case <-asked.done:
		return asked.info, asked.err
	case <-ctx.Done():
		return fsutil.FileInfo{}, ctx.Err()
	}
}

func (q *statQueue) run() {
	time.Sleep(statGather)
	for {
		q.mu.Lock()
		batch := q.take()
		q.running = len(batch) > 0
		q.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		q.ask(batch)
	}
}

// take removes what goes into the next call. The caller holds mu.
func (q *statQueue) take() []*statAsked {
	n, size := 0, 0
	for n < len(q.waiting) && n < statMost && (n == 0 || size < statBytesMost) {
		size += len(q.waiting[n].place.GetRoot()) + len(q.waiting[n].place.GetName())
		n++
	}
	batch := q.waiting[:n:n]
	q.waiting = q.waiting[n:]
	return batch
}

func (q *statQueue) ask(batch []*statAsked) {
	ctx, cancel := context.WithTimeout(context.Background(), statWithin)
	defer cancel()
	req := &peerv1.StatRequest{Export: q.files.export}
	for _, a := range batch {
		req.Places = append(req.Places, a.place)
	}
	var answer *peerv1.StatResponse
	err := q.files.peer.on(ctx, func(l *link) (err error) {
		answer, err = l.client.Stat(ctx, req)
		return err
	})
	if ctx.Err() != nil { // nobody's own
		err = fmt.Errorf("%s did not answer within %s: %w", q.files.peer.cfg.Expect, statWithin, fsutil.ErrUnavailable)
	}
	if err == nil && len(answer.GetResults()) != len(batch) {
		err = notAnAnswer("one about %d files when asked about %d", len(answer.GetResults()), len(batch))
	}
	for i, a := range batch {
		switch {
		case err != nil:
			a.err = err
		case answer.GetResults()[i].GetError() != nil:
			a.err = fromFileError(answer.GetResults()[i].GetError())
		case answer.GetResults()[i].GetInfo() == nil:
			a.err = notAnAnswer("empty")
		default:
			a.err = checkInfo(answer.GetResults()[i].GetInfo())
			a.info = infoOf(answer.GetResults()[i].GetInfo())
		}
		close(a.done)
	}
}
