package raftstore

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
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
				if f.applied != 0 || len(f.state.Replicas) != 0 {
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
		raise(2), plan(6, fence(2, 3)), startCopy(6, fence(2, 3)), marked, plan(8, fence(2, 1)))...)
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
	r, _ := back.view().Replica(keyOf(checkpointKey(6)))
	if len(r.Warnings) != 1 || r.Planned != fenceOf(fence(2, 3)) || back.view().Epoch("prod") != 2 {
		t.Errorf("restored %+v in epoch %d", r, back.view().Epoch("prod"))
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
		b, err := encodeSnapshot(stateAfter(t, copied(4, fence(0, 1)).then(raise(1))...), 9)
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

func TestTruncatedSnapshotIsNeverAState(t *testing.T) {
	whole, err := encodeSnapshot(stateAfter(t, copied(4, fence(0, 1))...), 9)
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		state, _, err := decodeSnapshot(whole[:n])
		// A cut between two fields decodes: what is lost there is a whole replica, which the checksum of the snapshot
		// file catches. No cut may leave half a replica.
		if err == nil && len(state.Replicas) != 0 {
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
	if r, _ := view.Replica(keyOf(checkpointKey(4))); r.Status != StatusPlanned || view.AppliedIndex != 1 || view.Epoch("prod") != 0 {
		t.Errorf("view of index %d shows %s in epoch %d", view.AppliedIndex, r.Status, view.Epoch("prod"))
	}
	if replicas := f.view().Replicas(); len(replicas) != 1 || replicas[0].Status != StatusCopying {
		t.Errorf("the next view shows %v", replicas)
	}
}
