package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckptferry/ckptferry/fsutil/faultfs"
	"github.com/ckptferry/ckptferry/raftstore"
)

const cp = "file:/cp/{job}"

func mustDiscover(t *testing.T, s *storage, recorded []raftstore.Found, bases ...string) *discovery {
	t.Helper()
	d, err := newDiscovery(raftstore.Export{Name: "prod", Bases: bases}, recorded, s, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// take is a poll whose finds are recorded: their names, in order.
func take(t *testing.T, d *discovery) []string {
	t.Helper()
	p := d.poll(t.Context())
	if len(p.problems) > 0 || !p.whole {
		t.Errorf("poll: whole %v, %s", p.whole, p.problem())
	}
	return taken(p)
}

func taken(p poll) []string {
	names := []string{}
	for _, c := range p.found {
		c.recorded = true
		names = append(names, strings.TrimPrefix(c.found.URI, "file:/"))
	}
	return names
}

func wantNames(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

// settled polls until nothing is due any more but what every poll asks.
func settled(t *testing.T, d *discovery) {
	t.Helper()
	for range 2 * settlePolls {
		wantNames(t, "found while nothing happens", take(t, d))
		time.Sleep(settleFor)
	}
}

func TestRealCheckpointsAreFoundAsTheyAre(t *testing.T) {
	s := newStorage()
	for _, fixture := range []string{"1.20.0-rocksdb-incremental", "2.3.0-filemerging", "1.20.0-savepoints"} {
		s.load(t, fixture)
	}
	d := mustDiscover(t, s, nil, "file:/dc-a/flink/checkpoints/{job}", "file:/dc-a/flink/savepoints/{job}")
	p := d.poll(t.Context())
	if len(p.problems) > 0 {
		t.Error(p.problem())
	}
	kinds := map[string]int{}
	for _, c := range p.found {
		f := *c.found
		f.Seq = 1
		if err := checkFound(f); err != nil {
			t.Errorf("%+v: %v", f, err)
		}
		kinds[fmt.Sprintf("%s savepoint %v", f.Job, f.Savepoint)]++
		if f.Files == 0 && !f.Savepoint || f.Bytes <= 0 && f.Files > 0 || f.MetadataCRC == 0 {
			t.Errorf("%+v lacks something", f)
		}
	}
	if kinds["1.20.0-rocksdb-incremental savepoint false"] != 2 || kinds["2.3.0-filemerging savepoint false"] == 0 {
		t.Errorf("found %v", kinds)
	}
}

func TestOneMetadataIsACheckpointWhenItParsesToItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStorage()
		dir := "cp/orders/" + jobA + "/chk-7"
		whole := metadataOf(dir, []string{"f"}, nil)
		d := mustDiscover(t, s, nil, cp)
		s.put(t, dir+"/f", content(dir+"/f"))
		wantNames(t, "without _metadata", take(t, d))
		settled(t, d)
		for _, part := range []int{0, 1, len(whole) / 2, len(whole) - 1} {
			s.put(t, dir+"/"+metadataName, whole[:part])
			wantNames(t, fmt.Sprintf("with %d bytes of _metadata", part), take(t, d)) // and no problem: it is being written
			time.Sleep(time.Second)
		}
		s.put(t, dir+"/"+metadataName, whole)
		p := d.poll(t.Context())
		wantNames(t, "whole", taken(p), dir)
		f := p.found[0].found
		want := raftstore.Found{Job: "orders", JobID: jobA, CheckpointID: 7, MetadataCRC: f.MetadataCRC, URI: "file:/" + dir,
			CompletedAt: f.CompletedAt, Files: 1, Bytes: 100}
		if *f != want || f.CompletedAt.IsZero() {
			t.Errorf("found %+v", *f)
		}
		settled(t, d)
	})
}

func TestAMetadataThatNoFlinkReadsIsSaidAndHidesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStorage()
		s.put(t, "cp/orders/"+jobA+"/chk-1/"+metadataName, []byte("not a checkpoint at all"))
		s.checkpoint(t, "cp/orders/"+jobA+"/chk-2", []string{"f"}, nil)
		d := mustDiscover(t, s, nil, cp)
		wantNames(t, "found beside it", taken(d.poll(t.Context())), "cp/orders/"+jobA+"/chk-2")
		for range 3 {
			time.Sleep(5 * time.Second)
			s.calm()
			p := d.poll(t.Context())
			if !p.whole || !strings.Contains(p.problem(), "chk-1/_metadata is not a checkpoint") {
				t.Errorf("whole %v, problem %q", p.whole, p.problem())
			}
		}
		if n := s.calls()["open cp/orders/"+jobA+"/chk-1/_metadata"]; n != 0 {
			t.Errorf("the same bytes are read again and again: %d", n)
		}
	})
}

// The order is what numbers are given by: of a job the newest must come last.
func TestFindsAreOrderedByJobThenLifeThenID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStorage()
		for _, dir := range []string{"orders/" + jobB + "/chk-100", "orders/" + jobB + "/chk-9", "pay/" + jobA + "/chk-3", "orders/savepoint-bbbbbb-1"} {
			s.checkpoint(t, "cp/"+dir, []string{"f"}, nil)
			time.Sleep(time.Second)
		}
		// Started again, with a JobID that sorts first, and counting from 1.
		for _, n := range []int{1, 2, 10} {
			s.checkpoint(t, fmt.Sprintf("cp/orders/%s/chk-%d", jobA, n), []string{"f"}, nil)
		}
		d := mustDiscover(t, s, nil, cp)
		wantNames(t, "found", take(t, d), "cp/orders/"+jobB+"/chk-9", "cp/orders/"+jobB+"/chk-100", "cp/orders/savepoint-bbbbbb-1",
			"cp/orders/"+jobA+"/chk-1", "cp/orders/"+jobA+"/chk-2", "cp/orders/"+jobA+"/chk-10", "cp/pay/"+jobA+"/chk-3")
	})
}

func TestAnIdlePollListsTheRootAndTheJobsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStorage()
		const ids = 1000
		for i := range ids {
			s.checkpoint(t, fmt.Sprintf("cp/orders/%032x/chk-1", i), []string{"f"}, []string{"s"})
			s.put(t, fmt.Sprintf("cp/orders/%032x/taskowned/t", i), nil)
		}
		d := mustDiscover(t, s, nil, cp)
		if n := len(take(t, d)); n != ids {
			t.Fatalf("found %d", n)
		}
		settled(t, d)
		s.calm()
		wantNames(t, "idle", take(t, d))
		if got := fmt.Sprint(s.calls()); got != "map[list cp:1 list cp/orders:1]" {
			t.Errorf("an idle poll asks %.300s", got)
		}

		// One of them completes a checkpoint: what was asked beside that is about it alone.
		changed := fmt.Sprintf("cp/orders/%032x", 500)
		s.checkpoint(t, changed+"/chk-2", []string{"f"}, []string{"s"})
		s.calm()
		wantNames(t, "after a change", take(t, d), changed+"/chk-2")
		for call := range s.calls() {
			if call != "list cp" && call != "list cp/orders" && call != "list "+changed && !strings.Contains(call, changed+"/chk-2/_metadata") {
				t.Errorf("it asks %s", call)
			}
		}

		// A checkpoint under way costs one question in each poll.
		s.put(t, changed+"/chk-3/f", nil)
		settled(t, d)
		s.calm()
		wantNames(t, "under way", take(t, d))
		if got := s.calls(); len(got) != 3 || got["stat "+changed+"/chk-3/_metadata"] != 1 {
			t.Errorf("a poll with one checkpoint under way asks %v", got)
		}

		// One that Flink gave up, none.
		s.remove(t, changed+"/chk-3")
		settled(t, d)
		s.calm()
		wantNames(t, "given up", take(t, d))
		if got := s.calls(); len(got) != 2 {
			t.Errorf("a poll asks %v", got)
		}
	})
}

// A directory's time may stay the same when it changes twice within the precision of the file system.
func TestAChangeWithinTheSameMillisecondIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStorage()
		s.checkpoint(t, "cp/orders/"+jobA+"/chk-1", []string{"f"}, nil)
		d := mustDiscover(t, s, nil, cp)
		wantNames(t, "first", take(t, d), "cp/orders/"+jobA+"/chk-1")
		s.checkpoint(t, "cp/orders/"+jobA+"/chk-2", []string{"f"}, nil) // the fake clock hasn't moved
		time.Sleep(time.Second)
		wantNames(t, "second", take(t, d), "cp/orders/"+jobA+"/chk-2")
	})
}

func TestAFixedJobIDUsedAgainIsANewLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStorage()
		dir := "cp/orders/" + jobA
		for _, n := range []string{"/chk-1", "/chk-8"} {
			s.checkpoint(t, dir+n, []string{"f"}, nil)
		}
		d := mustDiscover(t, s, nil, cp)
		first := d.poll(t.Context())
		wantNames(t, "first life", taken(first), dir+"/chk-1", dir+"/chk-8")
		a := *first.found[0].found
		settled(t, d)
		s.remove(t, dir+"/chk-1")
		s.checkpoint(t, dir+"/chk-1", []string{"g", "h"}, nil)
		second := d.poll(t.Context())
		wantNames(t, "second life", taken(second), dir+"/chk-1")
		if b := second.found[0].found; a.MetadataCRC == b.MetadataCRC || b.Files != 2 {
			t.Errorf("the second life's is %+v", b)
		}
	})
}

func TestJobsThatVanishAreForgottenAndNewOnesFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStorage()
		below := "cp/%s/checkpoints/" + jobA + "/chk-%d"
		s.checkpoint(t, fmt.Sprintf(below, "orders", 1), []string{"f"}, nil)
		s.put(t, "cp/young/readme", nil) // has no checkpoints/ yet
		s.put(t, "cp/file", nil)
		d := mustDiscover(t, s, nil, cp+"/checkpoints")
		wantNames(t, "first", take(t, d), fmt.Sprintf(below, "orders", 1))
		s.remove(t, "cp/orders")
		s.checkpoint(t, fmt.Sprintf(below, "young", 4), []string{"f"}, nil)
		time.Sleep(time.Second)
		wantNames(t, "second", take(t, d), fmt.Sprintf(below, "young", 4))
		s.checkpoint(t, fmt.Sprintf(below, "orders", 2), []string{"f"}, nil)
		p := d.poll(t.Context())
		wantNames(t, "third", taken(p), fmt.Sprintf(below, "orders", 2))
		if p.jobs != 2 {
			t.Errorf("%d jobs", p.jobs)
		}
	})
}

func TestANewLeaderReadsNothingThatIsOnRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStorage()
		dir := "cp/orders/" + jobA
		const there = raftstore.KeepFound + 4
		for i := range there {
			s.checkpoint(t, fmt.Sprintf("%s/chk-%d", dir, i+1), []string{"f"}, nil)
			time.Sleep(time.Second)
		}
		var recorded []raftstore.Found
		for i, c := range mustDiscover(t, s, nil, cp).poll(t.Context()).found {
			if i >= there-raftstore.KeepFound { // what the state keeps
				f := *c.found
				f.Seq = uint64(i + 1)
				recorded = append(recorded, f)
			}
		}
		s.checkpoint(t, dir+"/chk-99", []string{"f"}, nil)
		s.calm()
		d := mustDiscover(t, s, recorded, cp)
		wantNames(t, "found by the new leader", take(t, d), dir+"/chk-99")
		for call, n := range s.calls() {
			if strings.HasPrefix(call, "open") && call != "open "+dir+"/chk-99/_metadata" {
				t.Errorf("it reads again: %s, %d times", call, n)
			}
		}
	})
}

func TestPollEndsWithItsContext(t *testing.T) {
	s := newStorage()
	s.checkpoint(t, "cp/a/"+jobA+"/chk-1", []string{"f"}, nil)
	d := mustDiscover(t, s, nil, cp)
	s.fault().Inject(faultfs.Fault{Op: faultfs.List, Name: "cp/a", Do: faultfs.Freeze()})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if p := d.poll(ctx); p.whole || len(p.found) > 0 {
		t.Errorf("whole %v, found %d", p.whole, len(p.found))
	}
}

func TestBases(t *testing.T) {
	for s, want := range map[string]base{
		"hdfs://dc1/flink/{job}":             {mustURI("hdfs://dc1/flink"), ""},
		"hdfs://dc1/flink/{job}/checkpoints": {mustURI("hdfs://dc1/flink"), "checkpoints"},
		"file:/{job}":                        {mustURI("file:/"), ""},
		"file:/cp":                           {},
		"file:/cp/x{job}":                    {},
		"file:/{job}/{job}":                  {},
		"/cp/{job}":                          {},
		"cp/{job}":                           {},
		"hdfs://{job}/cp":                    {},
		"":                                   {},
	} {
		got, err := parseBase(s)
		if got != want || (err == nil) != (want != base{}) {
			t.Errorf("parseBase(%q) = %+v, %v", s, got, err)
		}
	}
}

func TestWhatAnotherDatacenterSaysIsChecked(t *testing.T) {
	good := raftstore.Found{Seq: 1, Job: "a", JobID: jobA, CheckpointID: 3, URI: "file:/cp/a/" + jobA + "/chk-3", CompletedAt: time.Unix(1, 0)}
	save := raftstore.Found{Seq: 1, Job: "a", Savepoint: true, CheckpointID: 3, URI: "file:/sp/a/savepoint-aaaaaa-1", CompletedAt: time.Unix(1, 0)}
	for name, tc := range map[string]struct {
		from   raftstore.Found
		change func(*raftstore.Found)
	}{
		"no number":                 {good, func(f *raftstore.Found) { f.Seq = 0 }},
		"no time":                   {good, func(f *raftstore.Found) { f.CompletedAt = time.Time{} }},
		"another id":                {good, func(f *raftstore.Found) { f.CheckpointID = 4 }},
		"another job id":            {good, func(f *raftstore.Found) { f.JobID = jobB }},
		"a place above everything":  {good, func(f *raftstore.Found) { f.URI = "file:/" }},
		"a place without a scheme":  {good, func(f *raftstore.Found) { f.URI = "/cp/a/" + jobA + "/chk-3" }},
		"a way out":                 {good, func(f *raftstore.Found) { f.URI = "file:/cp/" + jobA + "/chk-3/../../.ckptferry/x" }},
		"a job's name with a slash": {good, func(f *raftstore.Found) { f.Job = "a/b" }},
		"no savepoint's directory":  {save, func(f *raftstore.Found) { f.URI = "file:/sp/a/.ckptferry" }},
		"a savepoint with a job id": {save, func(f *raftstore.Found) { f.JobID = jobA }},
		"negative bytes":            {save, func(f *raftstore.Found) { f.Bytes = -1 }},
	} {
		f := tc.from
		if err := checkFound(f); err != nil {
			t.Fatal(err)
		}
		tc.change(&f)
		if err := checkFound(f); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
