package drill

import (
	"context"
	"errors"
	"fmt"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/replicator"
)

// copy makes a replica of the replica below the scratch root, every byte of it read back, and returns its directory. What
// an earlier drill left there is used where it is still right. It stays: Flink may own files of it.
func (r *rehearsal) copy(ctx context.Context) (fsutil.URI, error) {
	r.Tell("copying the replica below " + r.Scratch.String())
	res, err := replicator.Replicate(ctx, r.opener, replicator.Request{Source: r.dir, Target: r.Scratch, Parallel: r.Parallel})
	switch {
	case errors.Is(err, replicator.ErrBroken), errors.Is(err, replicator.ErrSuperseded):
		// It is pinned, so nobody has deleted it: it lacks what it needs.
		return fsutil.URI{}, fmt.Errorf("%w: copy the replica: %w", ErrFailed, err)
	case err != nil:
		return fsutil.URI{}, fmt.Errorf("copy the replica: %w", err)
	}
	dir, err := fsutil.ParseURI(res.Replica)
	if err != nil {
		return fsutil.URI{}, fmt.Errorf("understand where the copy lies: %w", err)
	}
	return dir, nil
}
