package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

func encode(t *testing.T, cmd *raftv1.Command) []byte {
	t.Helper()
	b, err := proto.Marshal(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fromTheFuture appends a field that no version knows yet.
func fromTheFuture(b []byte) []byte {
	return protowire.AppendVarint(protowire.AppendTag(bytes.Clone(b), 999, protowire.VarintType), 1)
}

func TestUnknownEntryStopsTheNode(t *testing.T) {
	newField := at(startCopy(4, fence(0, 1)), 0)
	newField.GetStartCopy().GetFence().ProtoReflect().SetUnknown(fromTheFuture(nil))
	for name, data := range map[string][]byte{
		"a command that this version doesn't know": fromTheFuture(nil),
		"a new field in a known command":           encode(t, newField),
		"bytes that don't decode":                  {0xff, 0xff},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFSM()
			defer func() {
				said, _ := recover().(string)
				if !strings.Contains(said, "log 17 ") || !strings.Contains(said, "stopping this node") {
					t.Errorf("panicked with %q; want the index and what to do", said)
				}
				if f.applied != 0 || f.state.Replicas.len() != 0 {
					t.Error("the entry changed the state")
				}
			}()
			f.Apply(&raft.Log{Index: 17, Data: data})
			t.Error("the node went on")
		})
	}
}

func TestSnapshotRestoresTheSameState(t *testing.T) {
	marked := ready(6, fence(2, 3))
	marked.GetMarkReady().Warnings = []string{"operator map-1: relative paths, restore with NO_CLAIM only"}
	s := stateAfter(t, copied(4, fence(0, 1)).then(copied(5, fence(0, 1))...).then(
		pin(5, fence(0, 1), true), plan(7, fence(0, 1)), fail(7, fence(0, 1)), retire(4, fence(0, 1)),
		raise(2), plan(6, fence(2, 3)), startCopy(6, fence(2, 3)), marked, plan(8, fence(2, 1)),
		putExport(exportProd()), record(checkpoint(4, 0), savepoint(5, 0)), putRoute(routeProd()), observe(9, checkpoint(4, 1), savepoint(5, 2)),
		putExport(changed(exportProd(), func(e *Export) { e.Name = "empty" })), putRoute(changed(routeProd(), func(r *Route) { r.Name = "unseen" })))...)
	f := &fsm{state: s, applied: 41}
	snapshot, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	sink := &memorySink{}
	if err := snapshot.Persist(sink); err != nil || !sink.closed {
		t.Fatalf("Persist = %v, closed %t", err, sink.closed)
	}
	back := newFSM()
	if err := back.Restore(io.NopCloser(bytes.NewReader(sink.Bytes()))); err != nil {
		t.Fatal(err)
	}
	if back.applied != 41 || bytesOf(t, back.state) != bytesOf(t, s) {
		t.Errorf("restored at index %d:\n%+v\nwant at 41:\n%+v", back.applied, back.state, s)
	}
	r, _ := back.view().Replica(KeyOf(checkpointKey(6)))
	if len(r.Warnings) != 1 || r.Planned != fenceOf(fence(2, 3)) || back.view().Epoch("prod") != 2 {
		t.Errorf("restored %+v in epoch %d", r, back.view().Epoch("prod"))
	}
	v, want := back.view(), viewOf(s)
	if !reflect.DeepEqual(v.Replicas(), want.Replicas()) || !reflect.DeepEqual(v.Exports(), want.Exports()) || !reflect.DeepEqual(v.Routes(), want.Routes()) ||
		!reflect.DeepEqual(v.Found("prod"), want.Found("prod")) || !reflect.DeepEqual(v.Known("prod"), want.Known("prod")) || !v.SeenAt("prod").Equal(moment(9)) {
		t.Errorf("restored\n%+v, want\n%+v", v, want)
	}
	if len(v.Exports()) != 2 || len(v.Routes()) != 2 || len(v.Found("prod")) != 2 || len(v.Known("prod")) != 2 || len(v.Found("empty")) != 0 {
		t.Errorf("restored %+v", v)
	}
}

// memorySink is a raft.SnapshotSink in memory.
type memorySink struct {
	bytes.Buffer
	closed bool
}

func (*memorySink) ID() string      { return "memory" }
func (m *memorySink) Close() error  { m.closed = true; return nil }
func (m *memorySink) Cancel() error { m.Reset(); return nil }

func TestSnapshotThatCannotBeIsRefused(t *testing.T) {
	good := func() *raftv1.Snapshot {
		b, err := encodeSnapshot(stateAfter(t, copied(4, fence(0, 1)).then(raise(1), putExport(exportProd()),
			record(checkpoint(4, 0), checkpoint(5, 0)), putRoute(routeProd()), observe(9, checkpoint(4, 1), checkpoint(5, 2)))...), 9)
		if err != nil {
			t.Fatal(err)
		}
		var snapshot raftv1.Snapshot
		if err := proto.Unmarshal(b, &snapshot); err != nil {
			t.Fatal(err)
		}
		return &snapshot
	}
	for name, tc := range map[string]struct {
		change func(*raftv1.Snapshot)
		want   error
	}{
		"newer format":          {func(s *raftv1.Snapshot) { s.FormatVersion++ }, ErrNewer},
		"no format":             {func(s *raftv1.Snapshot) { s.FormatVersion = 0 }, ErrDamaged},
		"unknown field":         {func(s *raftv1.Snapshot) { s.ProtoReflect().SetUnknown(fromTheFuture(nil)) }, ErrDamaged},
		"unknown field within":  {func(s *raftv1.Snapshot) { s.Routes[0].ProtoReflect().SetUnknown(fromTheFuture(nil)) }, ErrDamaged},
		"replica twice":         {func(s *raftv1.Snapshot) { s.Replicas = append(s.Replicas, s.Replicas[0]) }, ErrDamaged},
		"route twice":           {func(s *raftv1.Snapshot) { s.Routes = append(s.Routes, s.Routes[0]) }, ErrDamaged},
		"status out of range":   {func(s *raftv1.Snapshot) { s.Replicas[0].Replica.Status = 99 }, ErrDamaged},
		"ready since never":     {func(s *raftv1.Snapshot) { s.Replicas[0].Replica.ReadyTime = nil }, ErrDamaged},
		"planned in the future": {func(s *raftv1.Snapshot) { s.Replicas[0].PlannedUnder.Epoch = 5 }, ErrDamaged},
		"no attempt":            {func(s *raftv1.Snapshot) { s.Replicas[0].PlannedUnder.Attempt = 0 }, ErrDamaged},
		"no job":                {func(s *raftv1.Snapshot) { s.Replicas[0].Replica.Job = "" }, ErrDamaged},
		"no key":                {func(s *raftv1.Snapshot) { s.Replicas[0].Replica.Key = nil }, ErrDamaged},
		"files before READY":    {func(s *raftv1.Snapshot) { s.Replicas[0].Replica.Status, s.Replicas[0].Replica.ReadyTime = 2, nil }, ErrDamaged},

		"export twice":                {func(s *raftv1.Snapshot) { s.Exports = append(s.Exports, s.Exports[0]) }, ErrDamaged},
		"no export":                   {func(s *raftv1.Snapshot) { s.Exports[0].Export = nil }, ErrDamaged},
		"export without a base":       {func(s *raftv1.Snapshot) { s.Exports[0].Export.Bases = nil }, ErrDamaged},
		"found after the last seq":    {func(s *raftv1.Snapshot) { s.Exports[0].LastSeq-- }, ErrDamaged},
		"found without a seq":         {func(s *raftv1.Snapshot) { s.Exports[0].Found[0].Seq = 0 }, ErrDamaged},
		"found with the same seq":     {func(s *raftv1.Snapshot) { s.Exports[0].Found[0].Seq = s.Exports[0].Found[1].Seq }, ErrDamaged},
		"found twice":                 {func(s *raftv1.Snapshot) { foundTwice(s.Exports[0].Found) }, ErrDamaged},
		"found without a job":         {func(s *raftv1.Snapshot) { s.Exports[0].Found[1].Job = "" }, ErrDamaged},
		"more found than are kept":    {func(s *raftv1.Snapshot) { s.Exports[0].Found = tooMany() }, ErrDamaged},
		"known twice":                 {func(s *raftv1.Snapshot) { foundTwice(s.Routes[0].Known) }, ErrDamaged},
		"known with the same seq":     {func(s *raftv1.Snapshot) { s.Routes[0].Known[0].Seq = 2 }, ErrDamaged},
		"route filed elsewhere":       {func(s *raftv1.Snapshot) { s.Routes[0].Config.Name = "test" }, ErrDamaged},
		"route with two epochs":       {func(s *raftv1.Snapshot) { s.Routes[0].Config.Epoch = 4 }, ErrDamaged},
		"route without a root":        {func(s *raftv1.Snapshot) { s.Routes[0].Config.Root = "" }, ErrDamaged},
		"known of a route that isn't": {func(s *raftv1.Snapshot) { s.Routes[0].Config = nil }, ErrDamaged},
		"route that is nothing":       {func(s *raftv1.Snapshot) { s.Routes = append(s.Routes, &raftv1.Route{Name: "x"}) }, ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			snapshot := good()
			tc.change(snapshot)
			b, err := proto.Marshal(snapshot)
			if err != nil {
				t.Fatal(err)
			}
			f := &fsm{state: stateAfter(t, raise(7)), applied: 3}
			if err := f.Restore(io.NopCloser(bytes.NewReader(b))); !errors.Is(err, tc.want) {
				t.Fatalf("Restore = %v, want %v", err, tc.want)
			}
			if f.applied != 3 || f.view().Epoch("prod") != 7 {
				t.Error("the refused snapshot changed the state")
			}
		})
	}
}

func foundTwice(found []*ckptferryv1.FoundCheckpoint) {
	seq := found[1].GetSeq()
	found[1] = proto.CloneOf(found[0])
	found[1].Seq = seq
}

func tooMany() []*ckptferryv1.FoundCheckpoint {
	var found []*ckptferryv1.FoundCheckpoint
	for i := range int64(KeepFound + 1) {
		found = append(found, FoundMessage(checkpoint(i, uint64(i)+1)))
	}
	return found
}

func TestTruncatedSnapshotIsNeverAState(t *testing.T) {
	whole, err := encodeSnapshot(stateAfter(t, copied(4, fence(0, 1))...), 9)
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		state, _, err := decodeSnapshot(whole[:n])
		// A cut between two fields decodes: what is lost there is a whole replica, which the checksum of the snapshot
		// file catches. No cut may leave half a replica.
		if err == nil && state.Replicas.len() != 0 {
			t.Fatalf("%d of %d bytes gave a replica", n, len(whole))
		}
	}
}

func TestViewStaysAsItWas(t *testing.T) {
	f := newFSM()
	f.Apply(&raft.Log{Index: 1, Data: encode(t, at(plan(4, fence(0, 1)), 0))})
	view := f.view()
	f.Apply(&raft.Log{Index: 2, Data: encode(t, at(startCopy(4, fence(0, 1)), 1))})
	f.Apply(&raft.Log{Index: 3, Data: encode(t, at(raise(1), 1))})
	if r, _ := view.Replica(KeyOf(checkpointKey(4))); r.Status != StatusPlanned || view.AppliedIndex != 1 || view.Epoch("prod") != 0 {
		t.Errorf("view of index %d shows %s in epoch %d", view.AppliedIndex, r.Status, view.Epoch("prod"))
	}
	if replicas := f.view().Replicas(); len(replicas) != 1 || replicas[0].Status != StatusCopying {
		t.Errorf("the next view shows %v", replicas)
	}
}

func TestChangedIsClosedAtTheNextCommand(t *testing.T) {
	f := newFSM()
	open := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return false
		default:
			return true
		}
	}
	first, same := f.next(), f.next()
	if !open(first) {
		t.Fatal("closed before anything happened")
	}
	f.Apply(&raft.Log{Index: 1, Data: encode(t, at(plan(4, fence(0, 1)), 0))})
	if open(first) || open(same) {
		t.Error("still open after a command")
	}
	second := f.next()
	if !open(second) {
		t.Error("closed by the command before")
	}
	b, err := encodeSnapshot(stateAfter(t, raise(7)), 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Restore(io.NopCloser(bytes.NewReader(b))); err != nil || open(second) {
		t.Errorf("Restore = %v, and it is open: %t", err, open(second))
	}
}

// TestViewCostsTheSameHoweverLargeTheStateIs counts bytes: a change after a view copies one path, not the state.
func TestViewCostsTheSameHoweverLargeTheStateIs(t *testing.T) {
	cost := func(jobs int64) float64 {
		f := &fsm{state: largeState(jobs)}
		cmd := record(checkpoint(jobs, 0)) // known: every run does the same
		data := encode(t, at(cmd, 0))
		return testing.AllocsPerRun(50, func() {
			_ = f.view()
			f.Apply(&raft.Log{Index: 1, Data: data})
		})
	}
	if allocs := testing.AllocsPerRun(50, func() { _ = newFSM().view() }); allocs > 20 {
		t.Errorf("a view takes %.0f allocations", allocs)
	}
	small, large := cost(10), cost(2000)
	if large > small+60 {
		t.Errorf("view and change take %.0f allocations with 10 jobs, %.0f with 2,000", small, large)
	}
}

// largeState has so many jobs, each with KeepFound checkpoints found and known, and as many replicas.
func largeState(jobs int64) State {
	s := newState()
	all := commands{putExport(exportProd()), putRoute(routeProd())}
	for _, cmd := range all {
		if err := s.apply(at(cmd, 0)); err != nil {
			panic(err)
		}
	}
	for id := int64(1); id <= KeepFound; id++ {
		for job := range jobs {
			f := checkpoint(id, uint64(id*jobs+job))
			f.Job, f.JobID = fmt.Sprintf("job-%d", job), JobID(fmt.Sprintf("%032x", job))
			p := plan(id, fence(0, 1))
			p.GetPlanReplica().Job, p.GetPlanReplica().Key.JobId = f.Job, string(f.JobID)
			for _, cmd := range (commands{record(f), observe(1, f), p}) {
				if err := s.apply(at(cmd, id)); err != nil {
					panic(err)
				}
			}
		}
	}
	return s
}

func BenchmarkTenThousandJobs(b *testing.B) {
	s := largeState(10_000)
	b.Run("apply after view", func(b *testing.B) {
		f := &fsm{state: s}
		var views int
		for i := range b.N {
			p := at(observe(int64(i+1), changed(checkpoint(int64(i), uint64(i)+1e9), func(f *Found) { f.Job = fmt.Sprintf("job-%d", i%10_000) })), 0)
			data, err := proto.Marshal(p)
			if err != nil {
				b.Fatal(err)
			}
			views += int(f.view().AppliedIndex)
			if err, refused := f.Apply(&raft.Log{Index: uint64(i), Data: data}).(error); refused {
				b.Fatal(err)
			}
		}
	})
	b.Run("list replicas", func(b *testing.B) {
		for range b.N {
			if len(viewOf(s).Replicas()) != 80_000 {
				b.Fatal("not all")
			}
		}
	})
	b.Run("list known", func(b *testing.B) {
		for range b.N {
			if len(viewOf(s).Known("prod")) != 80_000 {
				b.Fatal("not all")
			}
		}
	})
	b.Run("snapshot", func(b *testing.B) {
		for range b.N {
			data, err := encodeSnapshot(s, 1)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(len(data))/1e6, "MB")
		}
	})
	b.Run("restore", func(b *testing.B) {
		data, err := encodeSnapshot(s, 1)
		if err != nil {
			b.Fatal(err)
		}
		b.ResetTimer()
		for range b.N {
			if _, _, err := decodeSnapshot(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}
