package metrics

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ckptferry/ckptferry/replicator/keeper"
)

type kept []keeper.Stats

func (k kept) Stats() []keeper.Stats { return k }

func TestWhatIsToldOfTheStorage(t *testing.T) {
	inGroup(t, func(t *testing.T, f *fixture) {
		f.cfg.Keeper = kept{{Route: "prod", Retired: 3, Freed: 300, Quarantined: 1, ScrubBytes: 7, TrashFiles: 2, TrashBytes: 20, Problem: "no"}}
		want := `# HELP ckptferry_route_retention_problem 1 while this agent, as the leader, can't delete what the route's rules don't keep, or not all of it.
# TYPE ckptferry_route_retention_problem gauge
ckptferry_route_retention_problem{route="prod"} 1
# HELP ckptferry_route_retired_replicas_total Replicas that this agent has deleted by the route's rules.
# TYPE ckptferry_route_retired_replicas_total counter
ckptferry_route_retired_replicas_total{route="prod"} 3
# HELP ckptferry_route_trash_bytes Their bytes.
# TYPE ckptferry_route_trash_bytes gauge
ckptferry_route_trash_bytes{route="prod"} 20
`
		if err := testutil.GatherAndCompare(registry(f.cfg, newLeaderChanges()), strings.NewReader(want),
			"ckptferry_route_retention_problem", "ckptferry_route_retired_replicas_total", "ckptferry_route_trash_bytes"); err != nil {
			t.Error(err)
		}
		age := func() float64 {
			families, err := registry(f.cfg, newLeaderChanges()).Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, family := range families {
				if family.GetName() == "ckptferry_route_oldest_scrub_age_seconds" {
					return family.GetMetric()[0].GetGauge().GetValue()
				}
			}
			return -1
		}
		before := age()
		time.Sleep(time.Minute)
		synctest.Wait()
		if now := age(); before < 0 || now != before+60 {
			t.Errorf("the oldest look was %v s ago, and a minute later %v", before, now)
		}
	})
}
