package promote

import (
	"fmt"
	"slices"

	"github.com/ckptferry/ckptferry/raftstore"
)

// Moved says what has moved since an item of a plan was made, a sentence; empty when the plan still holds. A plan that is
// only older has not moved, nor has one since when the source completed what isn't here: that is lost all the same. A
// newer READY replica has: the person who read the plan would lose less than it says. plan is its id: what was promoted
// by this very plan holds.
func Moved(view raftstore.View, plan string, item Item) string {
	if !item.Has() {
		return "the plan has no replica for it: " + item.Blocked
	}
	name := fmt.Sprintf("chk-%d", item.Key.CheckpointID)
	promotion, promoted := view.Promotion(item.Route, item.Job)
	if promoted && promotion.State == raftstore.PromotionActive {
		if promotion.Key == item.Key && (promotion.Plan == plan || item.Promoted) {
			return ""
		}
		return fmt.Sprintf("it was promoted at %s by %s from chk-%d, with plan %s", at(promotion.PromotedAt), promotion.Actor, promotion.Key.CheckpointID, promotion.Plan)
	}
	if item.Promoted {
		return "it was promoted when the plan was made, and that is over"
	}
	r, there := view.Replica(item.Key)
	switch epoch := view.JobEpoch(item.Route, item.Job); {
	case !there:
		return "replica " + name + " is gone"
	case r.Job != item.Job:
		return fmt.Sprintf("replica %s is of job %s", name, r.Job)
	case r.Status != raftstore.StatusReady:
		return fmt.Sprintf("replica %s is %s%s", name, r.Status, because(r.Reason))
	case r.AtRisk:
		return "replica " + name + " is AT_RISK: Flink claimed another one that shares files with it"
	case r.Planned.Attempt != item.Attempt:
		return fmt.Sprintf("replica %s was made anew: the plan saw attempt %d, and this is %d", name, item.Attempt, r.Planned.Attempt)
	case r.URI != item.Replica:
		return fmt.Sprintf("replica %s lies at %s, and the plan says %s", name, r.URI, item.Replica)
	case epoch != item.Epoch:
		return fmt.Sprintf("the job is in epoch %d, and the plan saw %d: it was promoted meanwhile, or its route was fenced", epoch, item.Epoch)
	}
	return newer(view, item)
}

// newer says which replica became READY since the plan that is newer than all that it saw.
func newer(view raftstore.View, item Item) string {
	saw := item.Newest
	if saw.Route == "" {
		saw = item.Key
	}
	if r, there := view.Replica(saw); !there || !raftstore.Offerable(r) {
		return "" // what is newest now is older than that
	}
	offered := slices.DeleteFunc(view.JobReplicas(item.Route, item.Job), func(r raftstore.Replica) bool { return !raftstore.Offerable(r) })
	best := newest(offered, view.JobKnown(item.Route, item.Job))
	if best == nil || best.Key == saw {
		return ""
	}
	return fmt.Sprintf("%s became READY at %s, which is newer than what the plan saw: plan again, and lose less", checkpointName(*best), at(best.ReadyAt))
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}
