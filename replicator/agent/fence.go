package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/promote"
)

// tellApart is the time between two looks at what there is to tell, and after a failure the first wait.
const tellApart = 500 * time.Millisecond

// tellFences tells a route's source which of its jobs are promoted here, and which no longer are: all of them when it is
// heard of anew, since nobody knows what it remembers, and each one when it changes. met is signalled when the source is
// heard of; before the first time it isn't called.
func (t *term) tellFences(ctx context.Context, source SourceDC, route raftstore.Route, met <-chan struct{}) {
	log := t.cfg.Log.With("route", route.Name, "source", route.FromDC, "export", route.FromExport)
	told := map[string]raftstore.FencedJob{} // since it was met, by job
	select {
	case <-met:
	case <-ctx.Done():
		return
	}
	for wait := tellApart; ; {
		changed := t.cfg.Group.Changed()
		err := t.tell(ctx, source, route, told)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			log.Warn("the source is not told what is promoted here", "err", err, "again_in", wait)
			if sleep(ctx, wait) != nil {
				return
			}
			wait = min(2*wait, pullMost)
			continue
		}
		wait = tellApart
		select {
		case <-changed:
		case <-met:
			clear(told)
		case <-ctx.Done():
			return
		}
		if sleep(ctx, tellApart) != nil { // a busy group changes many times a second
			return
		}
	}
}

// tell tells what was not told yet, and notes what the source has recorded of it. What the source passes over, because it
// knows a newer promotion, is told again under a higher epoch.
func (t *term) tell(ctx context.Context, source SourceDC, route raftstore.Route, told map[string]raftstore.FencedJob) error {
	var jobs []raftstore.FencedJob
	for _, j := range promote.ToTell(t.cfg.Group.View(), route.Name) {
		if told[j.Job] != j {
			jobs = append(jobs, j)
		}
	}
	var passed []passedOver
	for len(jobs) > 0 {
		part := jobs[:min(len(jobs), promote.MostFences)]
		jobs = jobs[len(part):]
		known, err := source.TellFences(ctx, route.FromExport, part)
		if err != nil {
			return fmt.Errorf("tell %s of %d promotions: %w", route.FromDC, len(part), err)
		}
		if err := t.acknowledge(ctx, route.Name, known); err != nil {
			return err
		}
		over := passedOverOf(t.cfg.Group.View(), route, part, known)
		for _, j := range part {
			if _, is := over[j.Job]; !is {
				told[j.Job] = j
			}
		}
		passed = slices.AppendSeq(passed, maps.Values(over))
	}
	return t.outbid(ctx, route, passed)
}

// passedOver is a promotion that was told, and what the source knows instead.
type passedOver struct{ told, known raftstore.FencedJob }

// passedOverOf finds by job what a source didn't take, since it remembers another promotion of the job in no lower epoch:
// this group has lost its state since, and counts anew.
func passedOverOf(view raftstore.View, route raftstore.Route, told, known []raftstore.FencedJob) map[string]passedOver {
	remembers := map[string]raftstore.FencedJob{}
	for _, k := range known {
		remembers[k.Job] = k
	}
	over := map[string]passedOver{}
	for _, j := range told {
		k, ok := remembers[j.Job]
		p, _ := view.Promotion(route.Name, j.Job)
		switch {
		case !ok || k.Epoch < j.Epoch || k.Epoch == j.Epoch && k.PromotedAt.Equal(j.PromotedAt):
		case j.Lifted && k.Lifted: // nothing stands
		case p.Epoch != j.Epoch: // promoted again meanwhile, which is told next
		case toldByAnother(view, route, j, k):
		default:
			over[j.Job] = passedOver{j, k}
		}
	}
	return over
}

// toldByAnother says whether what the source knows is a promotion by another route of this group from the same export.
// Routes don't outbid what stands of each other: that would never end.
func toldByAnother(view raftstore.View, route raftstore.Route, j, k raftstore.FencedJob) bool {
	for _, r := range view.Routes() {
		if r.Name == route.Name || r.FromDC != route.FromDC || r.FromExport != route.FromExport {
			continue
		}
		p, ok := view.Promotion(r.Name, j.Job)
		if ok && p.Epoch == k.Epoch && p.PromotedAt.Equal(k.PromotedAt) && (j.Lifted || p.State == raftstore.PromotionActive) {
			return true
		}
	}
	return false
}

// outbid raises the route's epoch once, so high that the source takes all that it has passed over. The promotions are
// told again then, since their epochs are others.
func (t *term) outbid(ctx context.Context, route raftstore.Route, passed []passedOver) error {
	if len(passed) == 0 {
		return nil
	}
	view := t.cfg.Group.View()
	now := view.Epoch(route.Name)
	epoch := now + 1
	for _, o := range passed {
		if count := view.JobEpoch(route.Name, o.told.Job) - now; o.known.Epoch >= count {
			epoch = max(epoch, o.known.Epoch-count+1)
		}
	}
	err := t.propose(ctx, &raftv1.Command{Op: &raftv1.Command_RaiseEpoch{RaiseEpoch: &raftv1.RaiseEpoch{Route: route.Name, Epoch: epoch}}})
	if err != nil {
		return fmt.Errorf("raise the epoch of route %s to %d, as %s knows job %s in epoch %d: %w",
			route.Name, epoch, route.FromDC, passed[0].told.Job, passed[0].known.Epoch, err)
	}
	t.cfg.Log.Warn("the source remembers promotions that this group does not, as after a loss of its state; the route's epoch is raised above them",
		"route", route.Name, "source", route.FromDC, "export", route.FromExport, "jobs", len(passed), "job", passed[0].told.Job,
		"known_epoch", passed[0].known.Epoch, "from_epoch", now, "epoch", epoch)
	return nil
}

// acknowledge notes the promotions that the source has recorded.
func (t *term) acknowledge(ctx context.Context, route string, known []raftstore.FencedJob) error {
	view := t.cfg.Group.View()
	var jobs []*ckptferryv1.FencedJob
	for _, j := range known {
		p, ok := view.Promotion(route, j.Job)
		if ok && p.State == raftstore.PromotionActive && p.Epoch == j.Epoch && p.PromotedAt.Equal(j.PromotedAt) && p.FenceAcknowledgedAt.IsZero() {
			jobs = append(jobs, raftstore.FencedJobMessage(j))
		}
	}
	if len(jobs) == 0 {
		return nil
	}
	err := t.propose(ctx, &raftv1.Command{Op: &raftv1.Command_AcknowledgeFences{AcknowledgeFences: &raftv1.AcknowledgeFences{Route: route, Jobs: jobs}}})
	if err != nil {
		return fmt.Errorf("note that the source is fenced: %w", err)
	}
	return nil
}
