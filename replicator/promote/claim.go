package promote

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// claimAndPromote is promoteAll where replicas become Flink's. The storage is told first: when the group is lost later, nobody
// may offer what shares files with them. A mark too many only puts replicas at risk, so a mark goes again only where this run
// made it, the state refused the promotion, and nothing claims the replica now. After an outcome that is not known it stays.
func (p *Promoter) claimAndPromote(ctx context.Context, o Order, whole []int, outcomes []Outcome) error {
	p.claiming.Lock()
	defer p.claiming.Unlock()
	wrote := make([]bool, len(o.Items))
	marking, mctx := errgroup.WithContext(ctx)
	marking.SetLimit(verifyParallel)
	for _, i := range whole {
		if o.Items[i].Mode != raftstore.Claim {
			continue
		}
		marking.Go(func() (err error) {
			if wrote[i], err = p.mark(mctx, o, o.Items[i]); err != nil && mctx.Err() == nil {
				outcomes[i].Refused = fmt.Sprintf("the storage can't be told that Flink claims its replica: %v", err)
			}
			return mctx.Err()
		})
	}
	if err := marking.Wait(); err != nil {
		return err
	}
	marked := make([]int, 0, len(whole))
	for _, i := range whole {
		if outcomes[i].Refused == "" {
			marked = append(marked, i)
		}
	}
	if err := p.promoteAll(ctx, o, marked, outcomes); err != nil {
		return err
	}
	for i := range outcomes {
		if wrote[i] && outcomes[i].Refused != "" {
			p.unmark(ctx, o.Items[i])
		}
	}
	return nil
}

func (p *Promoter) mark(ctx context.Context, o Order, item Item) (wrote bool, err error) {
	dst, name, err := p.placeOf(ctx, item)
	if err != nil {
		return false, err
	}
	now := time.Now
	if p.Now != nil {
		now = p.Now
	}
	return replicator.MarkClaimed(ctx, dst, replicator.ClaimMark{Replica: name, Plan: o.Plan, Actor: o.Actor, Time: now().UTC()})
}

// unmark takes a mark away that this run made in vain. What keeps it from it does no harm: a mark that stays is safe.
func (p *Promoter) unmark(ctx context.Context, item Item) {
	if p.Group.Linearize(ctx) != nil {
		return // another agent leads, and may be promoting it
	}
	view := p.Group.View()
	if r, there := view.Replica(item.Key); there && r.Claimed {
		return
	}
	if dst, name, err := p.placeOf(ctx, item); err == nil {
		_ = replicator.UnmarkClaimed(ctx, dst, name)
	}
}

func (p *Promoter) placeOf(ctx context.Context, item Item) (dst fsutil.FS, name string, err error) {
	dir, err := fsutil.ParseURI(item.Replica)
	if err != nil {
		return nil, "", err
	}
	root, name := replicator.PlaceOf(dir)
	dst, err = p.Stores.Open(ctx, root)
	return dst, name, err
}
