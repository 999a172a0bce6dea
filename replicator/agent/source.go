package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
)

// One command holds at most this much of what was found.
const (
	batchFound = 200
	batchBytes = 48 << 10
)

// watchExport polls one export until ctx ends, and records what it finds.
func (t *term) watchExport(ctx context.Context, export raftstore.Export) {
	log := t.cfg.Log.With("export", export.Name)
	d, err := newDiscovery(export, t.cfg.Group.View().Found(export.Name), t.cfg.Stores, t.cfg.Now)
	if err != nil {
		log.Error("an export can't be watched", "err", err)
		t.agent.polled(export.Name, pollStatus{problem: err.Error()})
		return
	}
	said := ""
	for ctx.Err() == nil {
		began := t.cfg.Now()
		t.agent.pollBegins(export.Name, began)
		p := d.poll(ctx)
		if ctx.Err() != nil {
			return
		}
		if err := t.record(ctx, export.Name, p.found); err != nil {
			p.failed(err)
		}
		now := t.cfg.Now()
		if problem := p.problem(); problem != said {
			said = problem
			if problem == "" {
				log.Info("the exported storage can be looked at again")
			} else {
				log.Warn("not all of the exported storage can be looked at", "err", problem)
			}
		}
		if ctx.Err() != nil {
			return
		}
		t.agent.polled(export.Name, pollStatus{jobs: p.jobs, problem: p.problem(), whole: p.whole, ended: now, took: now.Sub(began), gone: p.gone(t.cfg.Group.View().ExportJobs(export.Name))})
		_ = sleep(ctx, t.agent.tuned.Load().Poll)
	}
}

// record has the group number what was found, in that order. It stops at what can't be recorded now: later ones must
// not be numbered before. What the group refuses for good is left out, and said.
func (t *term) record(ctx context.Context, export string, found []*checkpoint) error {
	messages := make([]*ckptferryv1.FoundCheckpoint, len(found))
	for i, c := range found {
		messages[i] = raftstore.FoundMessage(*c.found)
	}
	var refused []error
	for from, to := range batches(messages) {
		these, err := t.recordPart(ctx, export, found[from:to])
		if err != nil {
			return err
		}
		refused = append(refused, these...)
	}
	return errors.Join(refused...)
}

// recordPart is record for what fits into one command, or less: it finds out which ones are refused.
func (t *term) recordPart(ctx context.Context, export string, found []*checkpoint) (refused []error, err error) {
	command := &raftv1.RecordFound{Export: export}
	for _, c := range found {
		command.Found = append(command.Found, raftstore.FoundMessage(*c.found))
	}
	err = t.propose(ctx, &raftv1.Command{Op: &raftv1.Command_RecordFound{RecordFound: command}})
	switch {
	case errors.Is(err, raftstore.ErrInvalid) && len(found) > 1:
		half := len(found) / 2
		if refused, err = t.recordPart(ctx, export, found[:half]); err != nil {
			return nil, err
		}
		more, err := t.recordPart(ctx, export, found[half:])
		return append(refused, more...), err
	case errors.Is(err, raftstore.ErrInvalid):
		found[0].recorded = true // as far as that can be: it would be refused for ever
		return []error{fmt.Errorf("record %s: %w", found[0].uri, err)}, nil
	case err != nil:
		return nil, fmt.Errorf("record what was found: %w", err)
	}
	for _, c := range found {
		c.recorded = true
		t.cfg.Log.Info("found", "export", export, "job", c.job, "checkpoint", label(*c.found), "uri", c.found.URI,
			"files", c.found.Files, "bytes", c.found.Bytes)
	}
	return nil, nil
}

// batches cuts a list into parts that fit into one command: from and to of each.
func batches(found []*ckptferryv1.FoundCheckpoint) func(yield func(from, to int) bool) {
	return func(yield func(from, to int) bool) {
		from, size := 0, 0
		for i, f := range found {
			n := proto.Size(f) + 8
			if i > from && (i-from >= batchFound || size+n > batchBytes) {
				if !yield(from, i) {
					return
				}
				from, size = i, 0
			}
			size += n
		}
		if from < len(found) {
			yield(from, len(found))
		}
	}
}

// pollStatus is how watching an export does.
type pollStatus struct {
	gone         []string // known jobs of which the last poll that saw everything saw nothing
	jobs         int
	problem      string
	whole        bool // it saw everything
	began, ended time.Time
	took         time.Duration
	seen         time.Time // when the last one ended that saw everything
}

func (a *Agent) pollBegins(export string, at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.polls[export]
	s.began = at
	a.polls[export] = s
}

func (a *Agent) polled(export string, s pollStatus) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.seen = a.polls[export].seen
	if s.whole {
		s.seen = s.ended
	} else {
		s.gone = a.polls[export].gone // nobody saw whether they are back
	}
	a.polls[export] = s
}

// Polled says when this agent last looked at the storage of an export and saw everything, by its own clock, and why it
// can't just now (or not at all of it). Zero and "" when it doesn't lead its group: it doesn't look then. Read it before
// the View whose checkpoints are sent with it.
func (a *Agent) Polled(export string) (at time.Time, problem string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s, ok := a.polls[export]
	if !ok {
		return time.Time{}, ""
	}
	return s.seen, a.pollProblem(s)
}

// pollProblem adds that a poll is stuck: a file system may not answer for long.
func (a *Agent) pollProblem(s pollStatus) string {
	stuckAfter := max(3*a.tuned.Load().Poll, 15*time.Second)
	if under := a.cfg.Now().Sub(s.began); !s.began.IsZero() && under > stuckAfter {
		return fmt.Sprintf("looking at the storage has been under way for %s without an end", under.Round(time.Second))
	}
	return s.problem
}
