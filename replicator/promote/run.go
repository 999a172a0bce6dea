package promote

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ckptferry/ckptferry/fsutil"
	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// MostItems is how many jobs one Run promotes, all of one route.
const MostItems = 200

// verifyParallel is how many replicas are looked at at a time.
const verifyParallel = 16

// commandBytes is how much of a command its items may be: the store takes 64 KiB.
const commandBytes = 48 << 10

// Proposer is the group's state as it is read and changed.
type Proposer interface {
	Propose(ctx context.Context, cmd *raftv1.Command) error
	View() raftstore.View
}

// Group is the datacenter's replicated state; *raftstore.Store is the one of the product.
type Group interface {
	Proposer
	// Linearize returns when View holds everything that was committed before; ErrNotLeader where this agent can't say.
	Linearize(ctx context.Context) error
}

// Promoter carries plans out. It is safe for concurrent use.
type Promoter struct {
	Group  Group
	Stores replicator.Opener // this datacenter's places
	Now    func() time.Time  // nil: time.Now
	// SilentAfter is how long a source may say nothing before that is a warning; nil: 30 s.
	SilentAfter func() time.Duration

	claiming sync.Mutex // held while marks of claimed replicas come and go
}

// Plan is the function of this name on the agent's own view.
func (p *Promoter) Plan(view raftstore.View, req Request) (Planned, error) {
	now := time.Now
	if p.Now != nil {
		now = p.Now
	}
	if req.SilentAfter == 0 && p.SilentAfter != nil {
		req.SilentAfter = p.SilentAfter()
	}
	return Plan(view, now(), req)
}

// Order is a part of a plan that is to be carried out.
type Order struct {
	Plan   string // its id
	Items  []Item // of one route, at most MostItems, each job once
	Deep   bool   // read every byte of each replica before
	Force  bool   // also what the other datacenter is known to have promoted
	DryRun bool   // verify, and say what would be done
	Actor  string
	Reason string
}

// Outcome is what became of one item.
type Outcome struct {
	Promotion *raftstore.Promotion // nil when it was refused, or for a dry run
	Refused   string               // why not, a sentence
	Done      bool                 // it was promoted before, by this plan
}

// Run promotes the jobs of a part of a plan, from what this agent alone has committed as the leader: ErrNotLeader
// otherwise. An item whose ground has moved, or whose replica is not whole on the storage, is refused and the others
// go on. It is idempotent: what was promoted by the same plan is done. An error is about the whole part, of which
// some may be promoted then: do it again.
func (p *Promoter) Run(ctx context.Context, o Order) ([]Outcome, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if err := p.Group.Linearize(ctx); err != nil {
		return nil, err
	}
	view := p.Group.View()
	outcomes := make([]Outcome, len(o.Items))
	verifying, vctx := errgroup.WithContext(ctx)
	verifying.SetLimit(verifyParallel)
	var due []int
	for i, item := range o.Items {
		switch promotion, ok := view.Promotion(item.Route, item.Job); {
		case item.Blocked != "" && (!o.Force || !item.Forcible):
			outcomes[i].Refused = item.Blocked
		case Moved(view, o.Plan, item) != "":
			outcomes[i].Refused = Moved(view, o.Plan, item)
		case ok && promotion.State == raftstore.PromotionActive:
			outcomes[i] = Outcome{Promotion: &promotion, Done: true}
		default:
			due = append(due, i)
			verifying.Go(func() (err error) {
				outcomes[i].Refused, err = p.verify(vctx, view, o, item)
				return err
			})
		}
	}
	if err := verifying.Wait(); err != nil {
		return nil, err
	}
	if o.DryRun {
		return outcomes, nil
	}
	var whole []int
	for _, i := range due {
		if outcomes[i].Refused == "" {
			whole = append(whole, i)
		}
	}
	if slices.ContainsFunc(whole, func(i int) bool { return o.Items[i].Mode == raftstore.Claim }) {
		return outcomes, p.claimAndPromote(ctx, o, whole, outcomes)
	}
	return outcomes, p.promoteAll(ctx, o, whole, outcomes)
}

// promoteAll promotes what was found whole.
func (p *Promoter) promoteAll(ctx context.Context, o Order, whole []int, outcomes []Outcome) error {
	for from, to := range parts(whole, func(i int) int { return 128 + len(o.Items[i].Job) + len(o.Items[i].Route) }) {
		if err := p.promote(ctx, o, whole[from:to], outcomes); err != nil {
			return err
		}
	}
	return nil
}

func (o Order) check() error {
	if len(o.Items) == 0 || len(o.Items) > MostItems || o.Plan == "" {
		return fmt.Errorf("run failover: %w: it needs a plan, and 1 to %d of its items", raftstore.ErrInvalid, MostItems)
	}
	seen := map[string]bool{}
	for _, i := range o.Items {
		switch {
		case i.Route == "" || i.Route != o.Items[0].Route || i.Job == "" || seen[i.Job]:
			return fmt.Errorf("run failover: %w: the items must be of one route, and each job once: %s/%s", raftstore.ErrInvalid, i.Route, i.Job)
		case i.Has() && i.Key.Route != i.Route:
			return fmt.Errorf("run failover: %w: the replica of %s/%s is of route %s", raftstore.ErrInvalid, i.Route, i.Job, i.Key.Route)
		}
		seen[i.Job] = true
	}
	return nil
}

// verify looks at a replica on the storage. A problem is why it is refused; storage that doesn't answer is too: nobody
// may be told to start from what couldn't be looked at.
func (p *Promoter) verify(ctx context.Context, view raftstore.View, o Order, item Item) (refused string, err error) {
	dir, err := fsutil.ParseURI(item.Replica)
	if err != nil {
		return fmt.Sprintf("the place of its replica is none: %v", err), nil
	}
	r, _ := view.Replica(item.Key) // Moved has found it
	manifest := replicator.CRC(r.ManifestCRC)
	err = replicator.CheckLengths(ctx, p.Stores, replicator.LengthsRequest{Dir: dir, Manifest: &manifest})
	if err == nil && o.Deep {
		var report replicator.CheckReport
		report, err = replicator.Check(ctx, p.Stores, replicator.CheckRequest{Dir: dir})
		if len(report.Problems) > 0 {
			err = fmt.Errorf("%w; the first: %s", err, report.Problems[0])
		}
	}
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil:
		return fmt.Sprintf("its replica was looked at and can't be promoted: %v", err), nil
	}
	return "", nil
}

// promote commits some items at once. The state takes all of a command or nothing, so what it refuses is proposed one by
// one: then it says of which.
func (p *Promoter) promote(ctx context.Context, o Order, which []int, outcomes []Outcome) error {
	err := p.Group.Propose(ctx, o.command(which))
	if len(which) > 1 && refusal(err) {
		for _, i := range which {
			if err := p.promote(ctx, o, []int{i}, outcomes); err != nil {
				return err
			}
		}
		return nil
	}
	view := p.Group.View()
	for _, i := range which {
		item := o.Items[i]
		promotion, ok := view.Promotion(item.Route, item.Job)
		switch {
		case refusal(err):
			outcomes[i].Refused = err.Error()
			if moved := Moved(view, o.Plan, item); moved != "" {
				outcomes[i].Refused = moved
			}
		case err != nil:
			return fmt.Errorf("promote %d jobs of route %s: %w", len(which), item.Route, err)
		case !ok || promotion.Key != item.Key:
			return fmt.Errorf("promote %s/%s: %w: the view is behind what was committed", item.Route, item.Job, raftstore.ErrOutcomeUnknown)
		default:
			outcomes[i].Promotion = &promotion
		}
	}
	return nil
}

// refusal says whether the state itself refused, and would again.
func refusal(err error) bool {
	return err != nil && !errors.Is(err, raftstore.ErrNotLeader) && !errors.Is(err, raftstore.ErrOutcomeUnknown) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

func (o Order) command(which []int) *raftv1.Command {
	c := &raftv1.PromoteJobs{Plan: o.Plan, Actor: o.Actor, Reason: o.Reason, Force: o.Force}
	for _, i := range which {
		item := o.Items[i]
		c.Items = append(c.Items, &raftv1.Promote{
			Key: raftstore.KeyMessage(item.Key), Fence: &raftv1.Fence{Epoch: item.Epoch, Attempt: item.Attempt}, Job: item.Job, ClaimMode: ckptferryv1.ClaimMode(item.Mode),
		})
	}
	return &raftv1.Command{Op: &raftv1.Command_PromoteJobs{PromoteJobs: c}}
}

// Ending names promotions that are to be ended.
type Ending struct {
	Route  string
	Jobs   []string
	Actor  string
	Reason string
}

// Abort ends promotions: the route pulls for the jobs again. It is idempotent. All of them or none: raftstore's refusal
// says which was never promoted.
func (p *Promoter) Abort(ctx context.Context, e Ending) ([]raftstore.Promotion, error) {
	if e.Route == "" || len(e.Jobs) == 0 || len(e.Jobs) > MostItems {
		return nil, fmt.Errorf("abort failover: %w: it needs a route, and 1 to %d jobs", raftstore.ErrInvalid, MostItems)
	}
	cmd := &raftv1.EndPromotions{Route: e.Route, Jobs: e.Jobs, Actor: e.Actor, Reason: e.Reason}
	if err := p.Group.Propose(ctx, &raftv1.Command{Op: &raftv1.Command_EndPromotions{EndPromotions: cmd}}); err != nil {
		return nil, fmt.Errorf("abort failover: %w", err)
	}
	view := p.Group.View()
	var all []raftstore.Promotion
	for _, job := range e.Jobs {
		if promotion, ok := view.Promotion(e.Route, job); ok {
			all = append(all, promotion)
		}
	}
	return all, nil
}

// parts cuts a list into what fits into one command: from and to of each.
func parts[T any](all []T, size func(T) int) iter.Seq2[int, int] {
	return func(yield func(from, to int) bool) {
		from, bytes := 0, 0
		for i, one := range all {
			n := size(one)
			if i > from && bytes+n > commandBytes {
				if !yield(from, i) {
					return
				}
				from, bytes = i, 0
			}
			bytes += n
		}
		if from < len(all) {
			yield(from, len(all))
		}
	}
}
