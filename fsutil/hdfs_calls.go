package fsutil

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// clientBackOff is how long the client leaves a namenode alone whose connection failed (rpc.backoffDuration).
const clientBackOff = 5 * time.Second

// leastBusy is the slot to use next: the first of those with the fewest calls, but one whose connection failed a
// moment ago only when they all did.
func (c *cluster) leastBusy() *slot {
	recently := time.Now().Add(-clientBackOff).UnixNano()
	cost := func(s *slot) int64 {
		n := int64(s.busy.Load())
		if s.failed.Load() > recently {
			n += 1 << 32
		}
		return n
	}
	return slices.MinFunc(c.slots, func(a, b *slot) int { return cmp.Compare(cost(a), cost(b)) })
}

// called is what a call came to.
type called[T any] struct {
	value T
	err   error
}

// onMember runs do with a client, on a goroutine of its own: the client knows no context, so ctx ends the waiting,
// not the call (idleConn ends that). Its result is dropped then.
func onMember[T any](ctx context.Context, c *cluster, do func(*member) (T, error)) (T, error) {
	var zero T
	if err := ctx.Err(); err != nil {
		return zero, err
	}
	if err := c.begin(); err != nil {
		return zero, err
	}
	result := make(chan called[T], 1)
	s := c.leastBusy()
	s.busy.Add(1)
	go func() {
		defer c.calls.Done()
		defer s.busy.Add(-1)
		m, err := s.client(c)
		if err != nil {
			result <- called[T]{err: err}
			return
		}
		v, err := do(m)
		if err != nil && asRemote(err) == nil && isTransient(err) {
			s.failed.Store(time.Now().UnixNano())
		}
		result <- called[T]{v, err}
	}()
	select {
	case r := <-result:
		return r.value, r.err
	case <-ctx.Done():
		return zero, ctx.Err()
	}
}

// attempt is what a repeated call may know of its earlier tries.
type attempt struct {
	// unknown says that an earlier try may have had its effect although it failed.
	unknown bool
}

// firstContact bounds the tries to reach a cluster that has never answered.
const firstContact = 10 * time.Second

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// errTooLong ends a call that the namenode neither answers nor refuses.
var errTooLong = fmt.Errorf("no answer from the namenode: %w", ErrUnavailable)

// repeat calls do until it succeeds, fails for good, or the namenode was away for too long. Its error has a sentinel.
func repeat[T any](ctx context.Context, c *cluster, do func(*member, attempt) (T, error)) (T, error) {
	bounded, cancel := context.WithTimeoutCause(ctx, c.cfg.RetryFor+c.cfg.IdleTimeout, errTooLong)
	defer cancel()
	var zero T
	start := time.Now()
	until := start.Add(c.cfg.RetryFor)
	var past attempt
	var last error
	for delay := 20 * time.Millisecond; ; delay = min(2*delay, time.Second) {
		v, err := onMember(bounded, c, func(m *member) (T, error) { return do(m, past) })
		if err == nil {
			return v, nil
		}
		if bounded.Err() != nil && last != nil {
			return zero, fmt.Errorf("%w; the try before: %w", context.Cause(bounded), hdfsError(last))
		} else if bounded.Err() != nil {
			return zero, context.Cause(bounded)
		}
		last = err
		if !c.reached.Load() && !strings.Contains(err.Error(), "StandbyException") && asRemote(err) == nil {
			until = earlier(until, start.Add(firstContact)) // more likely a wrong address than a restart
		}
		if !isTransient(err) || time.Now().Add(delay).After(until) {
			return zero, hdfsError(err)
		}
		past.unknown = past.unknown || asRemote(err) == nil
		select {
		case <-bounded.Done():
			return zero, fmt.Errorf("%w; the last try: %w", context.Cause(bounded), hdfsError(err))
		case <-time.After(delay):
		}
	}
}
