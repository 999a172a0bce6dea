package agent

import (
	"context"
	"fmt"
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

// tell tells what was not told yet, and notes what the source has recorded of it.
func (t *term) tell(ctx context.Context, source SourceDC, route raftstore.Route, told map[string]raftstore.FencedJob) error {
	var jobs []raftstore.FencedJob
	for _, j := range promote.ToTell(t.cfg.Group.View(), route.Name) {
		if told[j.Job] != j {
			jobs = append(jobs, j)
		}
	}
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
		for _, j := range part {
			told[j.Job] = j
		}
	}
	return nil
}

// acknowledge notes the promotions that the source has recorded.
func (t *term) acknowledge(ctx context.Context, route string, known []raftstore.FencedJob) error {
	view := t.cfg.Group.View()
	var jobs []*ckptferryv1.FencedJob
	for _, j := range known {
		p, ok := view.Promotion(route, j.Job)
		if ok && p.State == raftstore.PromotionActive && p.Epoch == j.Epoch && p.FenceAcknowledgedAt.IsZero() {
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
