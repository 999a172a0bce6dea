package agent

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ckptferry/ckptferry/raftstore"
)

// overtakenMany is how many of the checkpoints that are remembered of a job may be gone before they are copied without a
// word: one now and then is normal.
const overtakenMany = 3

// goneInTime says that a replica was given up because Flink deleted the checkpoint, not because a newer one was preferred.
func goneInTime(r raftstore.Replica) bool {
	return r.Status == raftstore.StatusSuperseded && !strings.Contains(r.Reason, overtook)
}

// overtaken warns when Flink keeps too few checkpoints for the time that copies take; empty when it doesn't look so.
func (l lagging) overtaken() string {
	var gone, seen int
	var completed []time.Time
	for _, f := range l.known {
		if f.Savepoint {
			continue
		}
		completed = append(completed, f.CompletedAt)
		r, planned := l.view.Replica(keyOf(l.route.Name, f))
		if planned {
			seen++
		}
		if planned && goneInTime(r) {
			gone++
		}
	}
	if gone < overtakenMany {
		return ""
	}
	warning := fmt.Sprintf("Flink deleted %d of the last %d checkpoints that were begun before they were copied: raise its state.checkpoints.num-retained", gone, seen)
	every, took := apart(completed), l.copyTime()
	if every <= 0 || took <= 0 {
		return warning + " (10, say), or the time between checkpoints"
	}
	// One more than fit into the time of a copy, and one that is found late.
	need := max(3, int64(took/every)+2)
	return fmt.Sprintf("%s to %d or more (a copy takes about %s, a checkpoint is completed about every %s)", warning, need, rounded(took), rounded(every))
}

// copyTime is the median of what copies of the job took from their plan to READY; 0: not known.
func (l lagging) copyTime() time.Duration {
	var all []time.Duration
	for _, r := range l.view.JobReplicas(l.route.Name, l.job) {
		if r.Status == raftstore.StatusReady && r.Key.JobID != "" {
			all = append(all, r.ReadyAt.Sub(r.PlannedAt))
		}
	}
	return median(all)
}

// apart is the median of the times between instants; 0: not known.
func apart(at []time.Time) time.Duration {
	slices.SortFunc(at, time.Time.Compare)
	var all []time.Duration
	for i := 1; i < len(at); i++ {
		all = append(all, at[i].Sub(at[i-1]))
	}
	return median(all)
}

func median(all []time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}
