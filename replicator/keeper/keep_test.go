package keeper

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/raftstore"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// at is a READY checkpoint with that id, completed so long before noon.
func at(id int64, age time.Duration, change ...func(*raftstore.Replica)) raftstore.Replica {
	r := raftstore.Replica{
		Key: raftstore.Key{Route: "prod", JobID: "0123456789abcdef0123456789abcdef", CheckpointID: id}, Job: "orders", Status: raftstore.StatusReady,
		CompletedAt: noon.Add(-age), PlannedAt: noon.Add(-age + time.Second), ReadyAt: noon.Add(-age + time.Minute),
	}
	for _, c := range change {
		c(&r)
	}
	return r
}

func is(s raftstore.Status) func(*raftstore.Replica) {
	return func(r *raftstore.Replica) { r.Status = s }
}

func pinned(r *raftstore.Replica)    { r.Pinned = true }
func promoted(r *raftstore.Replica)  { r.Promoted = true }
func claimed(r *raftstore.Replica)   { r.Promoted, r.Claimed = true, true }
func atRisk(r *raftstore.Replica)    { r.AtRisk = true }
func savepoint(r *raftstore.Replica) { r.Savepoint = true }

func found(r raftstore.Replica, seq uint64) raftstore.Found {
	return raftstore.Found{Seq: seq, Job: r.Job, JobID: r.Key.JobID, CheckpointID: r.Key.CheckpointID, MetadataCRC: r.Key.MetadataCRC}
}

func TestRetire(t *testing.T) {
	const day = 24 * time.Hour
	keep := func(n int32) raftstore.Route { return raftstore.Route{Keep: n} }
	for name, c := range map[string]struct {
		replicas []raftstore.Replica
		known    []raftstore.Found
		rules    raftstore.Route
		want     []int64
	}{
		"no rule keeps all":                                          {replicas: []raftstore.Replica{at(1, 90*day), at(2, 80*day), at(3, time.Hour)}, rules: raftstore.Route{KeepFor: time.Hour, KeepDaily: 1}},
		"the newest are kept":                                        {replicas: []raftstore.Replica{at(1, 4*time.Hour), at(2, 3*time.Hour), at(3, 2*time.Hour), at(4, time.Hour)}, rules: keep(2), want: []int64{1, 2}},
		"fewer than keep":                                            {replicas: []raftstore.Replica{at(1, time.Hour)}, rules: keep(2)},
		"keep_for keeps more":                                        {replicas: []raftstore.Replica{at(1, 4*time.Hour), at(2, 3*time.Hour), at(3, 2*time.Hour), at(4, time.Hour)}, rules: raftstore.Route{Keep: 1, KeepFor: 3*time.Hour + time.Minute}, want: []int64{1}},
		"one a day, the last, today counts":                          {replicas: []raftstore.Replica{at(1, 3*day), at(2, 2*day), at(3, day+time.Hour), at(4, day), at(5, time.Hour), at(6, time.Minute)}, rules: raftstore.Route{Keep: 1, KeepDaily: 3}, want: []int64{1, 3, 5}},
		"pinned, promoted, claimed, at risk stay":                    {replicas: []raftstore.Replica{at(1, 5*time.Hour, pinned), at(2, 4*time.Hour, promoted), at(3, 3*time.Hour, claimed), at(4, 2*time.Hour, atRisk), at(5, 90*time.Minute), at(6, time.Hour)}, rules: keep(1), want: []int64{5}},
		"the newest that may be started from counts, not the newest": {replicas: []raftstore.Replica{at(1, 3*time.Hour), at(2, 2*time.Hour, atRisk), at(3, time.Hour, atRisk)}, rules: keep(1)},
		"savepoints by their own rule":                               {replicas: []raftstore.Replica{at(1, 5*time.Hour, savepoint), at(2, 4*time.Hour, savepoint), at(3, 3*time.Hour), at(4, time.Hour)}, rules: raftstore.Route{Keep: 1, KeepSavepoints: 1}, want: []int64{1, 3}},
		"all savepoints without one":                                 {replicas: []raftstore.Replica{at(1, 5*time.Hour, savepoint), at(2, 4*time.Hour, savepoint), at(4, time.Hour)}, rules: keep(1)},
		"the source's order counts, not its clock": {
			replicas: []raftstore.Replica{at(1, time.Hour), at(2, 2*time.Hour), at(3, 3*time.Hour), at(4, 4*time.Hour)},
			known:    []raftstore.Found{found(at(1, 0), 5), found(at(2, 0), 6), found(at(3, 0), 7), found(at(4, 0), 8)},
			rules:    keep(1), want: []int64{2, 3}, // 1 is the newest by the clock
		},
		"in flight and retiring are nobody's business here": {replicas: []raftstore.Replica{at(1, 3*time.Hour, is(raftstore.StatusRetiring)), at(2, 2*time.Hour, is(raftstore.StatusCopying)), at(3, time.Hour, is(raftstore.StatusPlanned)), at(4, time.Minute)}, rules: keep(1)},
		"superseded and failed go once a newer one is READY, not the newest failure": {
			replicas: []raftstore.Replica{at(1, 5*time.Hour, is(raftstore.StatusFailed)), at(2, 4*time.Hour, is(raftstore.StatusSuperseded)), at(3, 3*time.Hour, is(raftstore.StatusFailed)), at(4, 2*time.Hour), at(5, time.Hour, is(raftstore.StatusSuperseded))},
			rules:    keep(1), want: []int64{1, 2},
		},
		"or once they are old, and the source has them no more": {
			replicas: []raftstore.Replica{at(1, 50*time.Hour, is(raftstore.StatusSuperseded)), at(2, 40*time.Hour, is(raftstore.StatusSuperseded)), at(3, time.Hour, is(raftstore.StatusSuperseded))},
			known:    []raftstore.Found{found(at(2, 0), 1)}, rules: keep(1), want: []int64{1},
		},
		"rot of which no newer one is READY is kept": {
			replicas: []raftstore.Replica{at(1, 90*time.Hour, is(raftstore.StatusQuarantined)), at(2, 80*time.Hour, is(raftstore.StatusQuarantined))}, rules: keep(1),
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got []int64
			for _, v := range retire(job{c.replicas, c.known}, c.rules, noon) {
				got = append(got, v.replica.Key.CheckpointID)
				if v.reason == "" {
					t.Errorf("%s goes for no reason", v.replica.Key)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("retire = %v, want %v", got, c.want)
			}
		})
	}
}

// Whatever a job's replicas and the rules are, what is named may go: never the last that a job may be started from, and
// never what is somebody's.
func TestRetireNeverTakesWhatMustStay(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(7, seed))
		var j job
		for i := range int64(1 + r.IntN(8)) {
			one := at(i, time.Duration(r.IntN(200))*time.Hour, is(raftstore.Status(1+r.IntN(7))))
			one.Pinned, one.Promoted, one.Claimed, one.AtRisk = r.IntN(6) == 0, r.IntN(8) == 0, r.IntN(8) == 0, r.IntN(6) == 0
			one.Savepoint = r.IntN(4) == 0
			j.replicas = append(j.replicas, one)
			if r.IntN(2) == 0 {
				j.known = append(j.known, found(one, uint64(r.IntN(20)+1)))
			}
		}
		rules := raftstore.Route{Keep: int32(r.IntN(4)), KeepDaily: int32(r.IntN(3)), KeepSavepoints: int32(r.IntN(3)), KeepFor: time.Duration(r.IntN(100)) * time.Hour}
		goes := map[raftstore.Key]bool{}
		for _, v := range retire(j, rules, noon) {
			r := v.replica
			if goes[r.Key] {
				t.Fatalf("seed %d: %s is named twice", seed, r.Key)
			}
			goes[r.Key] = true
			if mustStay(r) || r.Status == raftstore.StatusPlanned || r.Status == raftstore.StatusCopying || r.Status == raftstore.StatusRetiring {
				t.Fatalf("seed %d: %+v goes", seed, r)
			}
		}
		before, after := 0, 0
		for _, r := range j.replicas {
			if raftstore.Offerable(r) {
				before++
				if !goes[r.Key] {
					after++
				}
			}
		}
		if before > 0 && after == 0 {
			t.Fatalf("seed %d: nothing is left to start from: %s", seed, fmt.Sprint(j.replicas))
		}
	}
}
