package replicator

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

// Limit bounds how many bytes a second the copies that share it read at their sources, all together. It can be changed
// while they run, and they follow at once. The zero Limit and a nil one are no bound. Its methods are safe for
// concurrent use.
type Limit struct {
	pace atomic.Pointer[pace] // nil: no bound
}

// pace is a limit's rate from one change to the next.
type pace struct {
	bytesPerSecond int64
	bucket         *rate.Limiter
	over           chan struct{} // closed when the rate is another one
}

// NewLimit returns a limit of bytesPerSecond; none for 0 and less.
func NewLimit(bytesPerSecond int64) *Limit {
	l := &Limit{}
	l.Set(bytesPerSecond)
	return l
}

// Set changes the rate, also for who waits at the moment; 0 and less is no bound. The same rate again changes nothing.
func (l *Limit) Set(bytesPerSecond int64) {
	if bytesPerSecond = max(bytesPerSecond, 0); bytesPerSecond == l.BytesPerSecond() {
		return
	}
	var now *pace
	if bytesPerSecond > 0 {
		now = &pace{bytesPerSecond: bytesPerSecond, over: make(chan struct{}),
			bucket: rate.NewLimiter(rate.Limit(bytesPerSecond), burst(bytesPerSecond))}
	}
	if old := l.pace.Swap(now); old != nil {
		close(old.over)
	}
}

// BytesPerSecond is the rate now, 0 for no bound.
func (l *Limit) BytesPerSecond() int64 {
	if l == nil {
		return 0
	}
	if p := l.pace.Load(); p != nil {
		return p.bytesPerSecond
	}
	return 0
}

// take waits until n bytes may pass. Who asks first is served first. rate.Limiter's own Wait would sleep on after a
// change for as long as the rate before it had said.
func (l *Limit) take(ctx context.Context, n int) error {
	for l != nil && n > 0 {
		p := l.pace.Load()
		if p == nil {
			return nil
		}
		part := min(n, p.bucket.Burst())
		passed, err := p.take(ctx, part)
		if err != nil {
			return fmt.Errorf("wait for the bandwidth limit: %w", err)
		}
		if passed {
			n -= part
		}
	}
	return nil
}

// takeAll waits until n bytes may pass all limits. It queues at all of them at the same time: one after the other, who
// is held back by a limit of its own would get less than its share of one that is contended.
func takeAll(ctx context.Context, limits []*Limit, n int) error {
	var bounds []*Limit
	for _, l := range limits {
		if l.BytesPerSecond() > 0 {
			bounds = append(bounds, l)
		}
	}
	switch len(bounds) {
	case 0:
		return nil
	case 1:
		return bounds[0].take(ctx, n)
	}
	queues, ctx := errgroup.WithContext(ctx)
	for _, l := range bounds {
		queues.Go(func() error { return l.take(ctx, n) })
	}
	return queues.Wait()
}

// take waits for a part of a burst at most; false says that the rate has changed meanwhile.
func (p *pace) take(ctx context.Context, part int) (passed bool, err error) {
	reserved := p.bucket.ReserveN(time.Now(), part)
	wait := reserved.Delay()
	if wait == 0 {
		return true, nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true, nil
	case <-p.over:
		return false, nil
	case <-ctx.Done():
		reserved.Cancel() // for the others
		return false, ctx.Err()
	}
}

// burst is how many bytes may be read at once under a limit: an eighth of a second's, so that a low limit holds for
// small files too.
func burst(bytesPerSecond int64) int {
	return int(min(max(bytesPerSecond/8, 1), copyBufferBytes))
}
