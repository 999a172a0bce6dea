// Package explain says in a paragraph how a job's replicas are, why the newest isn't READY, and what to do. It is given
// what an agent answers, and asks nobody itself. Start at Job.Paragraph.
package explain

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/units"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// Job is what is known of a job on one route.
type Job struct {
	Lag       *ckptferryv1.JobLag
	Replicas  []*ckptferryv1.Replica  // of this route and job, newest first
	Transfers []*ckptferryv1.Transfer // of this route and job, under way
	Problem   string                  // what the leader says of the route; empty when all is well, or the leader was not asked
	Gone      *ckptferryv1.GoneJob    // the source has nothing of it any more; nil: it has, or the leader was not asked
	Now       time.Time               // of the agent that answered
	Stale     bool                    // that agent has no leader: the answer may be old
	Drills    *ckptferryv1.JobDrills  // the last ones; empty when there was none, nil when nobody was asked
}

// Paragraph is one paragraph: how far the job is, why, what went wrong last, and what to do.
func (j Job) Paragraph() string {
	parts := []string{j.standing(), j.gone(), j.why(), j.lastFailure()}
	if j.Problem != "" && !strings.Contains(parts[2], j.Problem) {
		parts = append(parts, fmt.Sprintf("The leader says of route %s: %s.", j.Lag.GetRoute(), stop(j.Problem)))
	}
	if j.Stale {
		parts = append(parts, "The agent that answered knows no leader of its group: all of this may be old, and nothing is copied until there is one.")
	}
	parts = append(parts, j.drilled(), j.todo())
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " ")
}

// standing is where the job is.
func (j Job) standing() string {
	l, name := j.Lag, fmt.Sprintf("%s (route %s)", j.Lag.GetJob(), j.Lag.GetRoute())
	ready := fmt.Sprintf("chk-%d is the newest that is READY here, at %s, and its checkpoint is %s old", l.GetReadyCheckpointId(), l.GetReplica(), units.Duration(l.GetRpo().AsDuration()))
	switch l.GetState() {
	case ckptferryv1.LagState_LAG_STATE_CAUGHT_UP:
		return fmt.Sprintf("%s is caught up: chk-%d, the newest checkpoint known at the source, is READY at %s, and it is %s old.",
			name, l.GetReadyCheckpointId(), l.GetReplica(), units.Duration(l.GetRpo().AsDuration()))
	case ckptferryv1.LagState_LAG_STATE_BEHIND:
		return fmt.Sprintf("%s is behind by %s, %s and up to %s: %s, while chk-%d is the newest at the source.", name, units.Duration(l.GetTimeLag().AsDuration()),
			counted(l.GetCheckpointLag(), "checkpoint"), units.Bytes(l.GetBytesLag()), ready, l.GetSourceCheckpointId())
	case ckptferryv1.LagState_LAG_STATE_NO_REPLICA:
		return name + " has no READY replica: nothing of it could be restored here."
	case ckptferryv1.LagState_LAG_STATE_SOURCE_SILENT:
		return fmt.Sprintf("Nobody knows how far %s is behind, since its source is silent: %s.", name, ready)
	case ckptferryv1.LagState_LAG_STATE_PROMOTED:
		return fmt.Sprintf("%s goes on in this datacenter, from chk-%d at %s.", name, l.GetReadyCheckpointId(), l.GetReplica())
	}
	return fmt.Sprintf("%s is in state %s, which this version of ckptferry does not know.", name, l.GetState())
}

// gone says that the job vanished at its source, where that is known.
func (j Job) gone() string {
	if j.Gone == nil {
		return ""
	}
	kept := 0
	for _, r := range j.Replicas {
		if r.GetStatus() == ckptferryv1.ReplicaStatus_REPLICA_STATUS_READY {
			kept++
		}
	}
	return fmt.Sprintf("Its checkpoints are gone at the source, known since %s: Flink deletes them when a job finishes or is cancelled, or somebody removed its directory. %s kept here.",
		j.Gone.GetKnownTime().AsTime().UTC().Format(time.RFC3339), counted(int64(kept), "READY replica"))
}

// why is the copy under way, or the reason that the agent gives.
func (j Job) why() string {
	if len(j.Transfers) == 0 {
		if reason := j.Lag.GetReason(); reason != "" {
			return upper(stop(reason)) + "."
		}
		return ""
	}
	var copies []string
	for _, t := range j.Transfers {
		copies = append(copies, Transfer(t, j.Now))
	}
	said := upper(strings.Join(copies, "; ")) + "."
	if j.Lag.GetState() == ckptferryv1.LagState_LAG_STATE_SOURCE_SILENT {
		said = upper(stop(j.Lag.GetReason())) + ". " + said
	}
	return said
}

// Transfer says how far a copy is, with a guess at how long it still takes.
func Transfer(t *ckptferryv1.Transfer, now time.Time) string {
	took := max(now.Sub(t.GetStartedTime().AsTime()), 0)
	s := fmt.Sprintf("chk-%d has been copied for %s (%s)", t.GetCheckpointId(), units.Duration(took), phase(t.GetPhase()))
	if t.GetFileCount() > 0 {
		s += fmt.Sprintf(": %d of %s, %s of %s", t.GetFilesDone(), counted(t.GetFileCount(), "file"), units.Bytes(t.GetBytesDone()), units.Bytes(t.GetTotalBytes()))
	}
	if left, ok := Left(t, now); ok {
		s += fmt.Sprintf(", about %s left", units.Duration(left))
	}
	return s
}

// Left is how long a copy still takes at the rate that it has had so far; false when that says nothing yet.
func Left(t *ckptferryv1.Transfer, now time.Time) (time.Duration, bool) {
	took, done, all := now.Sub(t.GetStartedTime().AsTime()), t.GetBytesDone(), t.GetTotalBytes()
	if took < time.Second || done <= 0 || done >= all {
		return 0, false
	}
	return time.Duration(float64(took) / float64(done) * float64(all-done)).Round(time.Second), true
}

func phase(p string) string {
	switch p {
	case "plan":
		return "what it needs is being looked up"
	case "publish":
		return "all is there, it is being checked and published"
	case "":
		return "under way"
	}
	return p
}

// lastFailure is the last attempt that failed, unless a newer one became READY or it was told already. Checkpoints that
// Flink deleted one after the other before they were copied are a failure too.
func (j Job) lastFailure() string {
	gone := 0
	for _, r := range j.Replicas {
		switch r.GetStatus() {
		case ckptferryv1.ReplicaStatus_REPLICA_STATUS_READY:
			return goneText(gone)
		case ckptferryv1.ReplicaStatus_REPLICA_STATUS_SUPERSEDED:
			gone++
		case ckptferryv1.ReplicaStatus_REPLICA_STATUS_FAILED:
			if reason := stop(r.GetReason()); !strings.Contains(j.Lag.GetReason(), reason) || len(j.Transfers) > 0 {
				return strings.TrimSpace(fmt.Sprintf("chk-%d failed, planned at %s: %s. %s", r.GetKey().GetCheckpointId(), r.GetPlannedTime().AsTime().UTC().Format(time.RFC3339), reason, goneText(gone)))
			}
			return goneText(gone)
		}
	}
	return goneText(gone)
}

func goneText(n int) string {
	if n < 2 {
		return ""
	}
	return fmt.Sprintf("%d checkpoints that are newer than the newest READY one were given up, since Flink deleted them before they were copied: raise Flink's state.checkpoints.num-retained, or the interval between checkpoints.", n)
}

// todo is the next step.
func (j Job) todo() string {
	l := j.Lag
	switch {
	case l.GetState() == ckptferryv1.LagState_LAG_STATE_CAUGHT_UP:
		return "There is nothing to do."
	case l.GetState() == ckptferryv1.LagState_LAG_STATE_SOURCE_SILENT:
		return fmt.Sprintf("Ask `ckptferry status` in the source's datacenter; if that is lost, `ckptferry failover plan %s` says what the job goes on from here.", l.GetJob())
	case l.GetState() == ckptferryv1.LagState_LAG_STATE_PROMOTED:
		return fmt.Sprintf("`ckptferry failover status %s` says who promoted it, when and why; `ckptferry failover abort %[1]s` has the route pull for it again.", l.GetJob())
	case j.Problem != "":
		return "Mend that first; everything else goes on by itself."
	case len(j.Transfers) > 0:
		return "There is nothing to do but wait: `ckptferry replica wait --ready " + l.GetJob() + "` does."
	}
	return "`ckptferry status` at the leader shows what it is doing, `ckptferry replica list " + l.GetJob() + "` every attempt."
}

func counted(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// stop takes the full stop off a sentence that is to be continued.
func stop(s string) string { return strings.TrimSuffix(strings.TrimSpace(s), ".") }

// upper begins a sentence: names of checkpoints stay as they are.
func upper(s string) string {
	if s == "" || strings.HasPrefix(s, "chk-") || strings.HasPrefix(s, "savepoint-") {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
