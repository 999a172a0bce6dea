package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// sweepPause is the time between two questions whether a sweep is over.
const sweepPause = 200 * time.Millisecond

// recordEnd has the state know how a copy ended. Nothing becomes READY while the route is swept: it waits until that is over,
// and looks whether all files are there still. The error is the state's, the look's, or that of life.
func (c *copying) recordEnd(life context.Context, cmd *raftv1.Command, res replicator.Result) error {
	for {
		err := c.tell(life, cmd)
		if !errors.Is(err, raftstore.ErrSweeping) {
			return err
		}
		if err := sleep(life, sweepPause); err != nil {
			return err
		}
		dir, err := fsutil.ParseURI(res.Replica)
		if err == nil {
			err = replicator.CheckLengths(life, c.cfg.Stores, replicator.LengthsRequest{Dir: dir, Manifest: &res.ManifestCRC})
		}
		if err != nil {
			return fmt.Errorf("look once more at what was copied while the route was swept: %w", err)
		}
	}
}
