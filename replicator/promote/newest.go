package promote

import (
	"slices"
	"strings"
	"time"

	"github.com/ckptferry/ckptferry/raftstore"
)

// lifeGap tells two lives of a fixed JobID apart: a checkpoint with a lower id that was completed so much later belongs to
// a job that was started anew and counts from 1 again. Below it, one storage's clock says nothing against its order of ids.
const lifeGap = time.Minute

// newest picks the replica that holds the latest state, by the source's own order: seq where the source still names it,
// which outranks what it names no longer; else the checkpoint id within a JobID, and the time of completion between JobIDs.
// Checkpoints and savepoints both count. known is what is known of the job by
// seq. All replicas are of one route and job; nil when there is none.
func newest(replicas []raftstore.Replica, known []raftstore.Found) *raftstore.Replica {
	if len(replicas) == 0 {
		return nil
	}
	seqs := make(map[raftstore.Key]uint64, len(known))
	for _, f := range known {
		seqs[keyOf(replicas[0].Key.Route, f)] = f.Seq
	}
	var best *raftstore.Replica
	for _, savepoint := range []bool{false, true} {
		// The source names the newest of each kind, so of one kind what it names no longer is older.
		var of *raftstore.Replica
		for _, r := range sorted(replicas) {
			if r.Savepoint == savepoint && (of == nil || later(r, *of, seqs)) {
				of = &r
			}
		}
		if of == nil {
			continue
		}
		if best == nil || laterKind(*of, *best, seqs) {
			best = of
		}
	}
	return best
}

// sorted makes the choice independent of the order given.
func sorted(replicas []raftstore.Replica) []raftstore.Replica {
	return slices.SortedFunc(slices.Values(replicas), func(a, b raftstore.Replica) int { return strings.Compare(a.Key.String(), b.Key.String()) })
}

// later says whether a holds later state than b, of the same kind.
func later(a, b raftstore.Replica, seqs map[raftstore.Key]uint64) bool {
	aSeq, bSeq := seqs[a.Key], seqs[b.Key]
	if aSeq != 0 || bSeq != 0 {
		return aSeq > bSeq
	}
	return laterByItself(a, b)
}

// laterKind is later for a savepoint and a checkpoint: the source names the newest of each, so only where it names both
// is seq the answer.
func laterKind(a, b raftstore.Replica, seqs map[raftstore.Key]uint64) bool {
	if aSeq, bSeq := seqs[a.Key], seqs[b.Key]; aSeq != 0 && bSeq != 0 {
		return aSeq > bSeq
	}
	return laterByItself(a, b)
}

func laterByItself(a, b raftstore.Replica) bool {
	apart := a.CompletedAt.Sub(b.CompletedAt)
	sameLife := a.Key.JobID == b.Key.JobID && a.Key.JobID != "" && a.Key.CheckpointID != b.Key.CheckpointID
	if sameLife {
		byID := a.Key.CheckpointID > b.Key.CheckpointID
		contradicts := byID && apart < -lifeGap || !byID && apart > lifeGap
		if a.CompletedAt.IsZero() || b.CompletedAt.IsZero() || !contradicts {
			return byID
		}
	}
	return apart > 0
}

// keyOf is the identity of a checkpoint's replica.
func keyOf(route string, f raftstore.Found) raftstore.Key {
	return raftstore.Key{Route: route, JobID: f.JobID, CheckpointID: f.CheckpointID, MetadataCRC: f.MetadataCRC}
}

// lost lists the checkpoints known at the source that are newer than the chosen one, by seq.
func lost(chosen *raftstore.Replica, known []raftstore.Found) []raftstore.Found {
	if chosen == nil {
		return known
	}
	at := slices.IndexFunc(known, func(f raftstore.Found) bool { return keyOf(chosen.Key.Route, f) == chosen.Key })
	if at >= 0 {
		return known[at+1:]
	}
	// The source names it no longer: everything that it does name of its kind is newer.
	return slices.DeleteFunc(slices.Clone(known), func(f raftstore.Found) bool {
		return f.Savepoint != chosen.Savepoint && !f.CompletedAt.After(chosen.CompletedAt)
	})
}
