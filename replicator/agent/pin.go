package agent

import (
	"context"
	"fmt"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	"github.com/ckptferry/ckptferry/raftstore"
)

// Pin keeps a READY replica until it is unpinned, or stops keeping it, and returns it as it is then. It speaks for the
// replica as it is on record: one that somebody takes over meanwhile is raftstore.ErrStale. Idempotent.
func Pin(ctx context.Context, group Group, key raftstore.Key, pinned bool) (raftstore.Replica, error) {
	view := group.View()
	r, known := view.Replica(key)
	if !known {
		return r, fmt.Errorf("pin replica %s: %w", key, raftstore.ErrUnknownReplica)
	}
	fence := raftstore.Fence{Epoch: view.JobEpoch(key.Route, r.Job), Attempt: r.Planned.Attempt}
	cmd := &raftv1.Command{Op: &raftv1.Command_PinReplica{PinReplica: &raftv1.PinReplica{Key: keyMessage(key), Fence: fenceMessage(fence), Pinned: pinned}}}
	if err := group.Propose(ctx, cmd); err != nil {
		return r, fmt.Errorf("pin replica %s: %w", key, err)
	}
	r, known = group.View().Replica(key)
	if !known {
		return r, fmt.Errorf("pin replica %s: %w: it was forgotten meanwhile", key, raftstore.ErrUnknownReplica)
	}
	return r, nil
}
