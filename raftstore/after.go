package raftstore

import raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"

// EmptyView is the state of a group that has agreed on nothing yet.
func EmptyView() View { return View{state: newState()} }

// After is the view as it would be after one more command, which has its ProposedAt: what a dry run asks, and what stands
// in for a group where only the meaning of commands matters. Nothing is proposed and v stays as it is. The errors are those
// with which the state refuses a command, or that of one that it doesn't know.
func (v View) After(cmd *raftv1.Command) (View, error) {
	s := v.state
	if err := s.apply(cmd); err != nil {
		return v, err
	}
	return View{AppliedIndex: v.AppliedIndex + 1, state: s}, nil
}
