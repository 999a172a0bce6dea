package agent

import (
	"context"
	"errors"
	"slices"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// DefaultShardBytes is from how many bytes on other agents help with a copy.
const DefaultShardBytes = 4 << 30

// withHelp has the other agents of the group copy their shares of a large checkpoint, copies this agent's own meanwhile,
// and returns when all helpers are done or given up; req then is for the rest and for the publishing. What goes wrong is
// left for that run to find: it copies whatever is missing.
func (c *copying) withHelp(ctx, life context.Context, req *replicator.Request) {
	helpers := c.helpers()
	if len(helpers) == 0 {
		return
	}
	err := c.tell(life, &raftv1.Command{Op: &raftv1.Command_AssignShards{AssignShards: &raftv1.AssignShards{
		Key: keyMessage(c.task.key), Fence: fenceMessage(c.task.planned), Agents: helpers}}})
	if err != nil {
		c.log.Warn("a large copy can't be shared out", "err", err)
		return
	}
	c.log.Info("sharing out", "bytes", c.want.found.Bytes, "helpers", helpers)
	own := *req
	own.Share = &replicator.Share{Index: 0, Of: len(helpers) + 1}
	own.Meter = c.anotherRun(c.tr, shareName(0, own.Share.Of))
	if _, err := replicator.Replicate(ctx, c.cfg.Stores, own); err != nil && ctx.Err() == nil {
		c.log.Warn("the own share of a large copy is not there, the whole is tried", "err", err)
	}
	c.awaitHelpers(ctx)
	req.Meter, req.TrustJournal = c.anotherRun(c.tr, ""), true
}

// helpers are the agents that help: those that the state names already, or all others of the group for a large copy. The
// leader gives those up at once that are dead.
func (c *copying) helpers() []string {
	if r, ok := c.cfg.Group.View().Replica(c.task.key); ok && r.Planned == c.task.planned && len(r.Shards) > 0 {
		var named []string
		for _, s := range r.Shards {
			named = append(named, s.Agent)
		}
		return named
	}
	if c.cfg.ShardBytes <= 0 || c.want.found.Bytes <= c.cfg.ShardBytes {
		return nil
	}
	var others []string
	for _, p := range c.cfg.Group.Peers() {
		if p.ID != c.cfg.ID {
			others = append(others, p.ID)
		}
	}
	return others
}

// awaitHelpers returns when no helper is at work any more, or the copy isn't wanted.
func (c *copying) awaitHelpers(ctx context.Context) {
	for {
		changed := c.cfg.Group.Changed()
		r, ok := c.cfg.Group.View().Replica(c.task.key)
		busy := slices.ContainsFunc(r.Shards, func(s raftstore.Shard) bool { return !s.Done && !s.Lost })
		if !ok || r.Planned != c.task.planned || r.Status != raftstore.StatusCopying || !busy {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// help copies this agent's share of a replica that another one makes.
func (c *copying) help(ctx, life context.Context, view raftstore.View) {
	req, err := c.begin(view)
	defer c.transferEnds(c.task)
	if err == nil {
		req.Share = &replicator.Share{Index: c.task.share, Of: len(c.replica.Shards) + 1}
		c.log.Info("helping", "agent", c.replica.Agent, "share", c.tr.share)
		_, err = replicator.Replicate(ctx, c.cfg.Stores, req)
	}
	if life.Err() != nil || errors.Is(context.Cause(ctx), errTaken) {
		return // who makes the replica waits for it no longer, or hears of it from the leader
	}
	if err != nil {
		c.log.Warn("the share of a large copy is not there", "err", err)
	}
	if err := c.tell(life, endShard(c.replica, c.cfg.ID, err == nil)); err != nil && life.Err() == nil && !errors.Is(err, raftstore.ErrStale) {
		c.log.Warn("the state refuses what a helper has to say", "err", err)
	}
}

func endShard(r raftstore.Replica, agent string, done bool) *raftv1.Command {
	return &raftv1.Command{Op: &raftv1.Command_EndShard{EndShard: &raftv1.EndShard{
		Key: keyMessage(r.Key), Fence: fenceMessage(r.Planned), Agent: agent, Done: done}}}
}

// giveUpHelpers has the makers of large copies wait no longer for helpers that are dead.
func (t *term) giveUpHelpers(ctx context.Context, view raftstore.View, roster roster) {
	for r := range view.InFlight() {
		for _, s := range r.Shards {
			if s.Done || s.Lost || !roster.gone(s.Agent) {
				continue
			}
			t.cfg.Log.Info("a helper is gone", "agent", s.Agent, "replica", r.Key.String(), "attempt", r.Planned.Attempt)
			if err := t.propose(ctx, endShard(r, s.Agent, false)); err != nil && ctx.Err() == nil {
				t.cfg.Log.Warn("a dead helper can't be given up", "agent", s.Agent, "replica", r.Key.String(), "err", err)
			}
		}
	}
}
