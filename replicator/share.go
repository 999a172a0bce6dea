package replicator

import (
	"cmp"
	"fmt"
	"slices"
)

// Share is one part of a large copy, for an agent that works on it together with others. Each agent plans by itself;
// from the same checkpoint they all come to the same shares. Where they don't (a file beside the closure came or went
// between two plans), a file is copied twice, or is left for the run that publishes: never missed.
type Share struct {
	Index, Of int // Index is 0 to Of-1
}

// sharesMost bounds Share.Of: more agents than a group has.
const sharesMost = 64

func (s Share) validate() error {
	if s.Of < 1 || s.Of > sharesMost || s.Index < 0 || s.Index >= s.Of {
		return fmt.Errorf("share %d of %d: want 0 to one less than their number, which is 1 to %d", s.Index, s.Of, sharesMost)
	}
	return nil
}

// fileCostBytes is what a file costs beside its bytes, so that small files are shared out too.
const fileCostBytes = 64 << 10

// shares says for each file of the plan whose share it is in. The largest goes first, each to whoever has least so far:
// no share is longer than another by more than its last file. What nothing refers to is shared out last, for it may be
// in one plan and not in the next.
func (p *plan) shares(of int) []int {
	order := make([]int, len(p.files))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		x, y := &p.files[a], &p.files[b]
		if x.extra != y.extra {
			if x.extra {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(y.bytes, x.bytes), cmp.Compare(x.target, y.target))
	})
	loads, share := make([]int64, of), make([]int, len(p.files))
	for _, i := range order {
		least := 0
		for k, load := range loads {
			if load < loads[least] {
				least = k
			}
		}
		share[i] = least
		loads[least] += p.files[i].bytes + fileCostBytes
	}
	return share
}

// mine are the files of the plan that this run brings.
func (p *plan) mine() []int {
	all := make([]int, len(p.files))
	for i := range all {
		all[i] = i
	}
	s := p.req.Share
	if s == nil {
		return all
	}
	share := p.shares(s.Of)
	return slices.DeleteFunc(all, func(i int) bool { return share[i] != s.Index })
}
