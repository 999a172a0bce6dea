package node

import "github.com/ckptferry/ckptferry/replicator/keeper"

// openKeeper makes what keeps the storage in order while this agent leads.
func (r *node) openKeeper() (err error) {
	cfg := r.cfg
	r.keeper, err = keeper.New(keeper.Config{
		Group: r.voter, Stores: r.places, Every: cfg.Retention.Every, ScrubEvery: cfg.Verify.ScrubEvery,
		ScrubBytesPerSecond: int64(cfg.Limits.ScrubRate), Log: r.log,
	})
	return err
}
