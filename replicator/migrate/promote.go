package migrate

import (
	"context"
	"fmt"
	"regexp"

	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
	"github.com/ckptferry/ckptferry/replicator/promote"
)

// PromoteWith makes a Config.Promote of what carries out failovers: the same look at the replica's files, the same
// command, the same record.
func PromoteWith(p *promote.Promoter) func(ctx context.Context, asked Promotion) error {
	return func(ctx context.Context, asked Promotion) error {
		item, err := itemOf(p, asked)
		if err != nil {
			return err
		}
		outcomes, err := p.Run(ctx, promote.Order{
			Plan: "migration " + asked.Migration.Name, Items: []promote.Item{item},
			Actor: asked.Migration.Actor, Reason: "migration " + asked.Migration.Name,
		})
		switch {
		case err != nil:
			return err
		case outcomes[0].Refused != "":
			return fmt.Errorf("%w: %s", ErrNotPromoted, outcomes[0].Refused)
		}
		return nil
	}
}

// itemOf is what a failover's plan would say if it had chosen this replica.
func itemOf(p *promote.Promoter, asked Promotion) (promote.Item, error) {
	view := p.Group.View()
	r, ok := view.Replica(asked.Key)
	if !ok {
		return promote.Item{}, fmt.Errorf("%w: %w: %s", ErrNotPromoted, raftstore.ErrUnknownReplica, asked.Key)
	}
	plan, err := p.Plan(view, promote.Request{Route: asked.Migration.Route, Jobs: []string{literally(asked.Job)}})
	if err != nil || len(plan.Items) != 1 {
		return promote.Item{}, fmt.Errorf("%w: plan the promotion of %s: %w", ErrNotPromoted, asked.Job, err)
	}
	item := plan.Items[0]
	if item.Blocked != "" {
		return item, fmt.Errorf("%w: %s", ErrNotPromoted, item.Blocked)
	}
	// What the job has left behind is what it goes on from, also where another replica became READY later.
	if item.Key != asked.Key {
		item.Newest = item.Key
	}
	item.Key, item.Savepoint, item.Replica, item.Attempt, item.Promoted = r.Key, r.Savepoint, r.URI, r.Planned.Attempt, false
	line, err := replicator.Start(replicator.StartRequest{Path: r.URI, Facts: factsOf(r.Facts)})
	if err != nil {
		return item, fmt.Errorf("%w: %w", ErrNotPromoted, err)
	}
	item.Start, item.Mode = line, raftstore.NoClaim
	if line.Mode == replicator.Claim {
		item.Mode = raftstore.Claim
	}
	return item, nil
}

var patternSign = regexp.MustCompile(`[*?\[\\]`)

// literally is the pattern that matches this name alone.
func literally(job string) string { return patternSign.ReplaceAllString(job, `\$0`) }
