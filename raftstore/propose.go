package raftstore

import (
	"context"
	"errors"
	"time"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
)

// Proposer is whoever has the group agree on commands; Store is one.
type Proposer interface {
	Propose(ctx context.Context, cmd *raftv1.Command) error
}

// ProposeUntilKnown has the group agree on a command. It asks again while nobody can say whether the group did, or nobody
// leads, until ctx ends. What the state refuses is an error.
func ProposeUntilKnown(ctx context.Context, group Proposer, cmd *raftv1.Command) error {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := group.Propose(ctx, cmd)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !errors.Is(err, ErrOutcomeUnknown) && !errors.Is(err, ErrNotLeader) {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}
