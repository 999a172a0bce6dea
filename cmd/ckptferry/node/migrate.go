package node

import (
	"time"

	"github.com/ckptferry/ckptferry/replicator/agent"
	"github.com/ckptferry/ckptferry/replicator/migrate"
	"github.com/ckptferry/ckptferry/replicator/migrate/flinkrest"
	"github.com/ckptferry/ckptferry/replicator/promote"
)

// migrations makes the runner of migrations. It is given the store itself, whose Propose works at the leader alone: what
// an agent decides that has just lost the lead must not reach the next leader.
func (r *node) migrations(copies *migrate.Copies) (*migrate.Runner, error) {
	promoter := &promote.Promoter{Group: r.store, Stores: r.places, SilentAfter: func() time.Duration { return r.cfg.Limits.SilentAfter }}
	return migrate.New(migrate.Config{
		ID: r.cfg.Node.ID, Group: r.store,
		Dial: func(address string) (migrate.JobManager, error) {
			client, err := flinkrest.New(address)
			if err != nil {
				return nil, err
			}
			return client, nil
		},
		Promote: migrate.PromoteWith(promoter), Hooks: r.cfg.Migrate.Hooks, Run: migrate.Exec,
		Poll: r.cfg.Limits.Poll, SilentAfter: r.cfg.Limits.SilentAfter, Copies: copies, Log: r.log,
	})
}

// observers are told of copies one after the other.
type observers []agent.Observer

// CopyEnded implements agent.Observer.
func (all observers) CopyEnded(c agent.Copy) {
	for _, o := range all {
		o.CopyEnded(c)
	}
}
