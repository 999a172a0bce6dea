package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
)

// A source that can't be watched is asked again after a time that doubles, with jitter, so that the agents of many
// targets don't come back to it at one moment.
const (
	pullFirst = 500 * time.Millisecond
	pullMost  = 15 * time.Second
)

// seenEvery is how often at most the state is told that a source lives and has nothing new.
const seenEvery = 5 * time.Second

// errUninformed ends a watch whose agent doesn't know when its storage was looked at. The leader of its group does, so
// the next connection may hear more.
var errUninformed = errors.New("the agent that answers doesn't know when its datacenter last looked at its storage: its group has no leader, or it can't reach it")

// pull watches the source of one route until ctx ends, and tells the group what it has.
func (t *term) pull(ctx context.Context, route raftstore.Route) {
	log := t.cfg.Log.With("route", route.Name, "source", route.FromDC, "export", route.FromExport)
	source, ok := t.cfg.Sources[route.FromDC]
	if !ok {
		problem := fmt.Sprintf("this agent's configuration has no datacenter %s to pull from: add it, or change the route", route.FromDC)
		log.Error("a route can't be pulled", "err", problem)
		t.agent.pulling(route.Name, problem)
		return
	}
	p := &puller{term: t, route: route, seen: t.cfg.Group.View().SeenAt(route.Name), met: make(chan struct{}, 1)}
	var telling sync.WaitGroup
	defer telling.Wait() // it ends with ctx, as this does
	telling.Go(func() { t.tellFences(ctx, source, route, p.met) })
	for wait := pullFirst; ctx.Err() == nil; {
		p.connect(t.cfg.Now())
		err := source.Watch(ctx, route.FromExport, func(n News) error { return p.hear(ctx, n) })
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("the stream ended")
		}
		if p.heard {
			wait = pullFirst
		}
		log.Warn("the source is not heard of", "err", err, "again_in", wait)
		t.agent.pulling(route.Name, fmt.Sprintf("watch export %s of %s: %v", route.FromExport, route.FromDC, err))
		_ = sleep(ctx, wait/2+time.Duration(rand.Int64N(int64(wait/2)+1)))
		wait = min(2*wait, pullMost)
	}
}

// puller turns what a source says into commands.
type puller struct {
	*term
	route raftstore.Route

	// Of this connection:
	heard    bool      // it said something
	polledAt time.Time // when the source looked at its storage, by its clock, as it said last
	informed time.Time // when it said so, by ours; at first when the connection began

	seen time.Time // what the state was told last

	met chan struct{} // takes a token each time that the source is heard of on a new connection
}

func (p *puller) connect(now time.Time) { p.heard, p.polledAt, p.informed = false, time.Time{}, now }

// hear takes one message. An error ends the watch.
func (p *puller) hear(ctx context.Context, n News) error {
	if !p.heard {
		select {
		case p.met <- struct{}{}:
		default: // nobody has taken the last one yet
		}
	}
	p.heard = true
	now := p.cfg.Now()
	problem := n.Problem
	if problem != "" {
		problem = fmt.Sprintf("%s says: %s", p.route.FromDC, problem)
	}
	if n.Complete && n.PolledAt.IsZero() && problem == "" {
		problem = errUninformed.Error()
	}
	found, refused := p.wanted(n.Found)
	if refused != nil {
		problem = fmt.Sprintf("%s sends what no checkpoint is: %v", p.route.FromDC, refused)
	}
	seen := time.Time{}
	// That the source looked counts when everything that it knew then is told. The first time that a connection says
	// may be of long ago, if it has a problem too.
	if n.Complete && n.PolledAt.After(p.polledAt) {
		if !p.polledAt.IsZero() || n.Problem == "" {
			p.informed, seen = now, now
		}
		p.polledAt = n.PolledAt
	}
	if len(found) == 0 && now.Sub(p.seen) < min(seenEvery, p.agent.SilentAfter()/3) {
		seen = time.Time{}
	}
	if err := p.observe(ctx, found, seen); err != nil {
		return err
	}
	if !p.seen.IsZero() { // what was there before the route's first look says nothing of how soon it is noticed
		p.agent.hears(p.route.Name, found)
	}
	if !seen.IsZero() {
		p.seen = seen
	}
	if n.Complete && n.Problem == "" && now.Sub(p.informed) > p.agent.SilentAfter()/2 {
		return errUninformed
	}
	p.agent.pulling(p.route.Name, problem)
	if n.Complete && !n.PolledAt.IsZero() {
		p.agent.vanished(p.route, n.Gone, now)
	}
	return nil
}

// wanted leaves out what the route doesn't take, what is known, and what no checkpoint can be; refused says of the last
// kind why.
func (p *puller) wanted(found []raftstore.Found) (news []raftstore.Found, refused error) {
	if len(found) == 0 {
		return nil, nil
	}
	view := p.cfg.Group.View()
	for _, f := range found {
		if !takes(p.route, f.Job) {
			continue
		}
		if err := checkFound(f); err != nil {
			refused = err
			continue
		}
		known := slices.ContainsFunc(view.JobKnown(p.route.Name, f.Job), func(k raftstore.Found) bool {
			return k.Seq == f.Seq && k.URI == f.URI && k.MetadataCRC == f.MetadataCRC
		})
		if !known {
			news = append(news, f)
		}
	}
	return news, refused
}

// observe tells the state, in as many commands as it takes; seen goes with the last. Nothing to tell is nothing to do.
func (p *puller) observe(ctx context.Context, found []raftstore.Found, seen time.Time) error {
	messages := make([]*ckptferryv1.FoundCheckpoint, len(found))
	for i, f := range found {
		messages[i] = raftstore.FoundMessage(f)
	}
	var commands []*raftv1.ObserveSource
	for from, to := range batches(messages) {
		commands = append(commands, &raftv1.ObserveSource{Route: p.route.Name, Found: messages[from:to]})
	}
	if !seen.IsZero() {
		if len(commands) == 0 {
			commands = append(commands, &raftv1.ObserveSource{Route: p.route.Name})
		}
		commands[len(commands)-1].SeenTime = timestamppb.New(seen)
	}
	for _, c := range commands {
		if err := p.propose(ctx, &raftv1.Command{Op: &raftv1.Command_ObserveSource{ObserveSource: c}}); err != nil {
			return fmt.Errorf("note what %s has: %w", p.route.FromDC, err)
		}
	}
	return nil
}

// pullStatus is how watching a route's source does.
type pullStatus struct {
	problem string
	gone    map[string]time.Time // jobs of which the source has nothing any more, and since when that is known
}

func (a *Agent) pulling(route, problem string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.pulls[route]
	s.problem = problem
	a.pulls[route] = s
}
