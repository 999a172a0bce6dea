package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/ckptferry/ckptferry/fsutil"
	peerv1 "github.com/ckptferry/ckptferry/proto/ckptferry/peer/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/agent"
)

// watchSilentAfter is how long a watch may say nothing. The other side shows every two seconds that it lives; one whose
// network is up but which does nothing any more is found out by this alone.
const watchSilentAfter = 18 * time.Second

// Watch implements agent.SourceDC. It goes through the endpoints until it has found the leader of the other group, who
// alone knows when it looked at its storage; if there is none among them, it is content with any agent. A stream that
// breaks, and one that is silent for 18 seconds, is fsutil.ErrUnavailable; an export that is not there or not for us
// is fs.ErrPermission. It keeps a connection of its own.
func (p *Peer) Watch(ctx context.Context, export string, each func(agent.News) error) error {
	var errs []error
	for _, anyAgent := range []bool{false, true} {
		follower := false
		for _, endpoint := range p.cfg.Endpoints {
			heard, err := p.watchAt(ctx, endpoint, watchCall{export, anyAgent, each})
			if heard || ctx.Err() != nil {
				return fmt.Errorf("watch export %s: %w", export, err)
			}
			errs = append(errs, fmt.Errorf("%s: %w", endpoint, err))
			follower = follower || errors.Is(err, errFollower)
		}
		if !follower {
			break
		}
	}
	return fmt.Errorf("watch export %s of %s: %w", export, p.cfg.Expect, errors.Join(errs...))
}

type watchCall struct {
	export   string
	anyAgent bool
	each     func(agent.News) error
}

// errFollower says that the agent knows another one who leads.
var errFollower = fmt.Errorf("the agent does not lead its group: %w", fsutil.ErrUnavailable)

// watchAt watches at one endpoint. heard says that it answered.
func (p *Peer) watchAt(ctx context.Context, endpoint string, call watchCall) (heard bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l, err := p.shakeHands(ctx, endpoint)
	if err != nil {
		return false, err
	}
	if !p.keep(l) {
		return false, p.closedError()
	}
	defer p.release(l)
	silent := time.AfterFunc(watchSilentAfter, func() {
		cancel(fmt.Errorf("%s said nothing for %s: %w", p.cfg.Expect, watchSilentAfter, fsutil.ErrUnavailable))
	})
	defer silent.Stop()
	out := ctx
	if call.anyAgent {
		out = metadata.AppendToOutgoingContext(ctx, metadataAnyAgent, "1")
	}
	stream, err := l.client.Watch(out, &peerv1.WatchRequest{Export: call.export})
	if err != nil {
		return false, p.watchError(ctx, err)
	}
	for {
		answer, err := stream.Recv()
		if err != nil {
			return heard, p.watchError(ctx, err)
		}
		silent.Stop() // each takes as long as it takes
		heard = true
		news := agent.News{Complete: answer.GetComplete(), PolledAt: timeOf(answer.GetPolledTime()), Problem: clipped(answer.GetProblem()), Gone: answer.GetGoneJobs()}
		for _, found := range answer.GetFound() {
			news.Found = append(news.Found, raftstore.FoundOf(found))
		}
		if err := call.each(news); err != nil {
			return true, err
		}
		silent.Reset(watchSilentAfter)
	}
}

func (p *Peer) watchError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, io.EOF): // a watch has none
		return errStreamEnded
	case reasonOf(status.Convert(err)) == "NOT_LEADER":
		return fmt.Errorf("%w (%s)", errFollower, clipped(status.Convert(err).Message()))
	}
	return callError(ctx, err)
}

// keep makes a connection end with the peer, and with release. It says whether the peer is still open.
func (p *Peer) keep(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = l.conn.Close() // nothing was asked
		return false
	}
	l.users = 1
	p.links[l] = struct{}{}
	return true
}
