package raftstore

import (
	"fmt"
	"slices"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
)

// maxShards bounds the helpers of one copy. A group has fewer agents.
const maxShards = 32

// assignShards has other agents help with a copy. The same agents again are assigned already, however far they have come
// since.
func (s *State) assignShards(c *raftv1.AssignShards) error {
	r, err := s.underWork(c)
	if err != nil {
		return err
	}
	if len(c.GetAgents()) > maxShards {
		return fmt.Errorf("%w: %d agents help with %s, at most %d can", ErrInvalid, len(c.GetAgents()), r.Key, maxShards)
	}
	var shards []Shard
	for i, agent := range c.GetAgents() {
		if !validAgent(agent) || agent == r.Agent || slices.Contains(c.GetAgents()[:i], agent) {
			return fmt.Errorf("%w: agent %.100q can't help agent %.100q with %s: each one has one name and one share", ErrInvalid, agent, r.Agent, r.Key)
		}
		shards = append(shards, Shard{Agent: agent})
	}
	sameAgent := func(a, b Shard) bool { return a.Agent == b.Agent }
	switch {
	case r.Status != StatusCopying:
		return fmt.Errorf("%w: %s is %s, only a COPYING replica is shared out", ErrBadTransition, r.Key, r.Status)
	case slices.EqualFunc(r.Shards, shards, sameAgent):
		return nil
	}
	r.Shards = shards
	s.put(r)
	return nil
}

// endShard ends a helper's share. The first end holds: a share that is done stays so, whoever gave it up meanwhile; and
// one that was given up is copied by the maker already, so its helper is told that nobody waits for it.
func (s *State) endShard(c *raftv1.EndShard) error {
	r, err := s.underWork(c)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(r.Shards, func(shard Shard) bool { return shard.Agent == c.GetAgent() })
	switch {
	case i < 0:
		return fmt.Errorf("%w: agent %.100q has no share of %s", ErrStale, c.GetAgent(), r.Key)
	case r.Shards[i].Done || (r.Shards[i].Lost && !c.GetDone()):
		return nil
	case r.Shards[i].Lost:
		return fmt.Errorf("%w: agent %s was given up as a helper with %s", ErrStale, c.GetAgent(), r.Key)
	case r.Status != StatusCopying:
		return fmt.Errorf("%w: %s is %s, nobody copies it any more", ErrBadTransition, r.Key, r.Status)
	}
	r.Shards = slices.Clone(r.Shards) // older views share them
	r.Shards[i].Done, r.Shards[i].Lost = c.GetDone(), !c.GetDone()
	s.put(r)
	return nil
}

// validAgent accepts an agent's id; no agent at all is for the caller to accept.
func validAgent(agent string) bool {
	return agent != "" && len(agent) <= maxJobBytes && printable(agent)
}

func (r Replica) checkShards() error {
	for i, shard := range r.Shards {
		switch {
		case !validAgent(shard.Agent) || shard.Agent == r.Agent || (shard.Done && shard.Lost) || i >= maxShards:
			return fmt.Errorf("replica %s has a share for %q, done %t, lost %t", r.Key, shard.Agent, shard.Done, shard.Lost)
		case slices.ContainsFunc(r.Shards[:i], func(other Shard) bool { return other.Agent == shard.Agent }):
			return fmt.Errorf("replica %s has two shares for %s", r.Key, shard.Agent)
		}
	}
	return nil
}
