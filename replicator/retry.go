package replicator

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
)

// What may pass is tried at least retryTries times and for retryFor. A namenode's failover takes up to half a minute,
// and a datanode that died is offered by the namenode for longer.
const (
	retryTries = 5
	retryFor   = 90 * time.Second
	retryFirst = 200 * time.Millisecond
	retryMost  = 10 * time.Second
)

// errReadBack says that what was just written reads back as something else. It is ErrVerify; written again, it may be
// right.
var errReadBack = fmt.Errorf("%w: read back", ErrVerify)

// retrying calls try, with 1, 2, …, until it succeeds, or its error can't pass, or has not passed for long enough.
// meter counts the repetitions.
func retrying(ctx context.Context, meter *Meter, try func(n int) error) error {
	return retryingWhileMoving(ctx, meter, func() int64 { return 0 }, try)
}

// retryingWhileMoving is retrying, where each try that has moved something counts as the first: over a link that breaks
// again and again a large file still gets to its end.
func retryingWhileMoving(ctx context.Context, meter *Meter, moved func() int64, try func(n int) error) error {
	began, wait := time.Now(), retryFirst
	before, first := moved(), 1
	for n := 1; ; n++ {
		err := try(n)
		if now := moved(); now > before {
			began, wait, before, first = time.Now(), retryFirst, now, n
		}
		if err == nil || !mayPass(err) || ctx.Err() != nil {
			return err
		}
		if n-first+1 >= retryTries && time.Since(began) > retryFor {
			return fmt.Errorf("after %d tries in %s: %w", n, time.Since(began).Round(time.Second), err)
		}
		meter.Retries.Add(1)
		jittered := wait/2 + time.Duration(rand.Int64N(int64(wait/2)+1))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(jittered):
		}
		wait = min(2*wait, retryMost)
	}
}

// mayPass says whether the same, started again, may succeed.
func mayPass(err error) bool {
	for _, final := range []error{errSourceGone, errChanged, errExtra, ErrSuperseded} {
		if errors.Is(err, final) {
			return false
		}
	}
	return errors.Is(err, fsutil.ErrUnavailable) || errors.Is(err, fsutil.ErrCorrupt) || errors.Is(err, errReadBack)
}
