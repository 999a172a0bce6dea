package metrics

import (
	"time"

	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/keeper"
)

// Keeper is what keeps the storage in order, as *keeper.Keeper does.
type Keeper interface {
	Stats() []keeper.Stats
}

// What is told of a target's storage. Counters and the trash are what this process has done and seen as the leader.
var (
	scrubAge      = newFamily(gauge, "route_oldest_scrub_age_seconds", "For how long the READY replica whose bytes were not looked at for longest was not: since its last scrub, or since it became READY. What Flink has claimed doesn't count.", "route")
	retired       = newFamily(counter, "route_retired_replicas_total", "Replicas that this agent has deleted by the route's rules.", "route")
	freed         = newFamily(counter, "route_freed_bytes_total", "Bytes of files that this agent has deleted.", "route")
	quarantined   = newFamily(counter, "route_quarantined_replicas_total", "Replicas in which this agent's scrubs found rot.", "route")
	scrubBytes    = newFamily(counter, "route_scrubbed_bytes_total", "Bytes that this agent's scrubs have read.", "route")
	scrubProblems = newFamily(counter, "route_scrub_problems_total", "Promoted replicas that a scrub of this agent found to be not what they were; they are left alone.", "route")
	trashFiles    = newFamily(gauge, "route_trash_files", "Files in the trash below the route's root, when this agent last looked.", "route")
	trashBytes    = newFamily(gauge, "route_trash_bytes", "Their bytes.", "route")
	keepProblem   = newFamily(gauge, "route_retention_problem", "1 while this agent, as the leader, can't delete what the route's rules don't keep, or not all of it.", "route")
)

func (s *scrape) storage() {
	now, oldest := s.Now(), map[string]time.Time{}
	for r := range s.view.AllReplicas() {
		if r.Status != raftstore.StatusReady || r.Claimed || r.AtRisk {
			continue
		}
		at := r.ReadyAt
		if r.ScrubbedAt.After(at) {
			at = r.ScrubbedAt
		}
		if was, known := oldest[r.Key.Route]; !known || at.Before(was) {
			oldest[r.Key.Route] = at
		}
	}
	for route, at := range oldest {
		s.tell(scrubAge, max(now.Sub(at), 0).Seconds(), route)
	}
	if s.Keeper == nil {
		return
	}
	for _, k := range s.Keeper.Stats() {
		for f, value := range map[family]float64{
			retired: float64(k.Retired), freed: float64(k.Freed), quarantined: float64(k.Quarantined), scrubBytes: float64(k.ScrubBytes),
			scrubProblems: float64(k.ScrubProblems), trashFiles: float64(k.TrashFiles), trashBytes: float64(k.TrashBytes), keepProblem: truth(k.Problem != ""),
		} {
			s.tell(f, value, k.Route)
		}
	}
}
