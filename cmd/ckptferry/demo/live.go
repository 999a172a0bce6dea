package demo

import (
	"context"
	"fmt"
	"strings"
	"time"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// How often on a terminal the lag is asked for, and how often a checkpoint comes.
const (
	drawEvery = 500 * time.Millisecond
	feedEvery = 4 * time.Second
)

// roundsMost bounds what the demo fills the disk with: with three small jobs about a hundred megabytes, after an hour.
const roundsMost = 100

// live shows everything on a terminal until ctx ends. What the person in front of it kills stays dead.
func (s *show) live(ctx context.Context) error {
	if err := s.start(ctx); err != nil {
		return err
	}
	s.invite()
	w, f := &watch{show: s, dead: map[*agent]bool{}}, &feeder{show: s}
	draw, feed := time.NewTicker(drawEvery), time.NewTicker(feedEvery)
	defer draw.Stop()
	defer feed.Stop()
	for ctx.Err() == nil {
		w.look(ctx)
		select {
		case <-draw.C:
		case <-feed.C:
			if err := f.feedNext(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// invite says what to try.
func (s *show) invite() {
	var pids []string
	for _, a := range s.of(source) {
		pids = append(pids, fmt.Sprint(a.pid()))
	}
	tls := s.tls()
	s.say(`
Try, in another terminal:
  ask for the lag          %s
  or with this program     export CKPTFERRY_CA=%s CKPTFERRY_CERT=%s CKPTFERRY_KEY=%s
                           %s lag --endpoint %s     # and: replica list, status, raft status
  kill the leader          kill -9 its pid, which stands below
  take the source away     kill -9 %s
  start one again          %s agent run --config %s
Ctrl-C ends all agents that the demo started, and removes its directory.
`, s.grpcurl(), tls.CAFile, tls.CertFile, tls.KeyFile, s.cfg.Program, s.of(target)[0].API, strings.Join(pids, " "), s.cfg.Program, s.agents[0].config)
}

// feeder completes checkpoints, one job's after the other's, round by round.
type feeder struct {
	*show
	between bool // the last round is over, and the next not open
}

// feedNext completes the next checkpoint. When all are used up, the jobs are cancelled and run again, into a new
// directory at the target.
func (f *feeder) feedNext(ctx context.Context) error {
	var next *job
	for _, j := range f.jobs {
		if !j.done() && (next == nil || j.next < next.next) {
			next = j
		}
	}
	switch {
	case next != nil && !f.between:
		return f.feed(next)
	case !f.between && f.round == roundsMost:
		return nil
	case !f.between:
		for _, dc := range []string{source, target} {
			if _, err := f.leader(ctx, dc); err != nil {
				return nil // what was taken away stays in sight
			}
		}
		for _, j := range f.jobs {
			if err := j.cancel(); err != nil {
				return fmt.Errorf("cancel job %s: %w", j.name, err)
			}
		}
		f.between = true
		_ = f.apply(ctx, target, f.routed(f.route(), ckptferryv1.RouteMode_ROUTE_MODE_PAUSED)) // for order's sake alone
		f.round++
		f.say("All that Flink wrote was fed: the jobs are cancelled and run again, replicas go to %s/replicas/%s", f.storage(target), f.route())
	}
	// A group without a leader, or without agents, is asked again at the next turn.
	f.between = f.openRound(ctx) != nil
	return nil
}

// watch shows the lag and who leads.
type watch struct {
	*show
	leader *agent
	dead   map[*agent]bool
}

// look asks once, says what has changed, and draws the lag.
func (w *watch) look(ctx context.Context) {
	for _, a := range w.agents {
		if !a.running() && !w.dead[a] {
			w.dead[a] = true
			w.say("agent %s of %s has ended. To start it again: %s agent run --config %s", a.ID, a.DC, w.cfg.Program, a.config)
		}
	}
	leader, err := w.site.leader(ctx, target)
	if err == nil && leader != w.leader {
		w.leader = leader
		w.say("agent %s leads %s%s", leader.ID, target, pidOf(leader))
	}
	lag, lagErr := w.lag(ctx, w.route())
	if ctx.Err() != nil {
		return
	}
	head := fmt.Sprintf("%s has no leader; running: %s", target, w.alive())
	if err == nil {
		head = fmt.Sprintf("leader of %s: %s%s", target, leader.ID, pidOf(leader))
	}
	lines := []string{head}
	for _, j := range lag {
		lines = append(lines, lagLine(j))
	}
	if lagErr != nil {
		lines = append(lines, fmt.Sprintf("lag unknown: %v", lagErr))
	}
	w.draw(lines)
}

// pidOf is the pid of an agent that this demo started.
func pidOf(a *agent) string {
	if !a.running() {
		return "" // started again by somebody else
	}
	return fmt.Sprintf(", kill -9 %d", a.pid())
}

func (w *watch) alive() string {
	var ids []string
	for _, a := range w.of(target) {
		if a.running() {
			ids = append(ids, a.ID)
		}
	}
	if len(ids) == 0 {
		return "none"
	}
	return strings.Join(ids, ", ")
}
