package raftstore

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

// lookAgain is how long a leader that could not be confirmed waits before it asks again, when no change of state wakes
// it: while it hands leadership over, or while the majority is slow.
const lookAgain = 100 * time.Millisecond

// WhileLeader calls run each time this node has become leader and has applied everything that was committed before,
// with the term of its leadership. It cancels run's ctx when the term is over, and waits for run to return before it
// calls it again, so that two runs never overlap on one node. On two nodes they may, for as long as an old leader
// doesn't know yet: what run writes is fenced by epoch and attempt, not by this call.
//
// It returns when ctx ends, with ctx's error, when run fails in a term that isn't over, with run's error, or with
// ErrNotLeader when the store is closed. A run that returns nil is not called again in the same term.
func (s *Store) WhileLeader(ctx context.Context, run func(ctx context.Context, term uint64) error) error {
	changed := make(chan raft.Observation, 1) // a change that finds it full is seen by whoever reads the one before
	observer := raft.NewObserver(changed, false, func(o *raft.Observation) bool {
		_, isState := o.Data.(raft.RaftState)
		return isState
	})
	s.raft.RegisterObserver(observer)
	defer s.raft.DeregisterObserver(observer)

	for {
		term, err := s.lead(ctx)
		if err == nil {
			err = s.runTerm(ctx, term, changed, run)
			if err != nil && ctx.Err() == nil {
				return err
			}
		}
		if err := s.nextTerm(ctx, term, changed); err != nil {
			return err
		}
	}
}

// nextTerm returns when this node leads in another term than the one that it has run in; 0 is none.
func (s *Store) nextTerm(ctx context.Context, ran uint64, changed <-chan raft.Observation) error {
	for {
		select {
		case <-changed:
		case <-time.After(lookAgain):
		case <-ctx.Done():
			return ctx.Err()
		case <-s.closed:
			return fmt.Errorf("%w (%w)", ErrNotLeader, errClosed)
		}
		if s.raft.State() == raft.Leader && s.raft.CurrentTerm() != ran {
			return nil
		}
	}
}

// lead returns the term in which this node leads and has caught up, or ErrNotLeader.
func (s *Store) lead(ctx context.Context) (uint64, error) {
	term := s.raft.CurrentTerm()
	if s.raft.State() != raft.Leader {
		return 0, ErrNotLeader
	}
	if err := s.Linearize(ctx); err != nil {
		return 0, err
	}
	if s.raft.CurrentTerm() != term {
		return 0, ErrNotLeader // lost and won again meanwhile; look again
	}
	return term, nil
}

// runTerm runs until run returns, and cancels it when the term is over. Its error is run's, nil if the term ended.
func (s *Store) runTerm(ctx context.Context, term uint64, changed <-chan raft.Observation, run func(ctx context.Context, term uint64) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- run(ctx, term) }()
	for {
		select {
		case err := <-done:
			if err != nil && s.leads(term) {
				return fmt.Errorf("lead term %d: %w", term, err)
			}
			return nil
		case <-changed:
			if !s.leads(term) {
				cancel() // and wait for run to return
			}
		}
	}
}

func (s *Store) leads(term uint64) bool {
	return s.raft.State() == raft.Leader && s.raft.CurrentTerm() == term
}

// Changed is closed when the state is another one than at the call. Call it before View: what happens between the two
// is then seen, or wakes you.
func (s *Store) Changed() <-chan struct{} { return s.fsm.next() }

// Leader is the voter that leads as far as this node knows, and its Raft address. Both are empty when nobody does.
func (s *Store) Leader() (id, addr string) {
	_, leader := s.raft.LeaderWithID()
	for _, p := range s.Peers() {
		if p.ID == string(leader) {
			return p.ID, p.Addr
		}
	}
	return "", ""
}

// Term is the Raft term that this node is in.
func (s *Store) Term() uint64 { return s.raft.CurrentTerm() }

// Role is what this node is now: "leader", "follower" or "candidate"; "shutdown" after Close.
func (s *Store) Role() string {
	if s.ended.Load() {
		return strings.ToLower(raft.Shutdown.String())
	}
	return strings.ToLower(s.raft.State().String())
}

// handOver gives leadership away, so that the group needs no election time-out to notice. The library picks the voter
// with the longest log: one more entry first, which a dead one doesn't get.
func (s *Store) handOver() {
	if len(s.Peers()) == 1 || s.raft.State() != raft.Leader {
		return
	}
	err := s.raft.Barrier(0).Error()
	if err == nil {
		err = s.raft.LeadershipTransfer().Error()
	}
	if err != nil {
		s.log.Warn("leadership was not handed over, the group elects when it misses its leader", "agent", s.id, "err", err)
		return
	}
	s.log.Info("leadership handed over", "agent", s.id)
}
