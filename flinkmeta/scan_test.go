package flinkmeta_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/google/go-cmp/cmp"
)

func TestScanReadsTheHandlesThatFlinkReads(t *testing.T) {
	eachFixture(t, func(t *testing.T, f fixture, m *flinkmeta.Metadata) {
		var got []expectedHandle
		for _, h := range m.Handles {
			e := expectedHandle{
				Operator: m.Operators[h.Operator].ID.String(),
				Subtask:  int(h.Subtask),
				Where:    h.Where.String(),
				Class:    h.Type.String(),
				Size:     h.Size,
				StartPos: h.Start,
				Relative: h.Type == flinkmeta.RelativeFileHandle,
			}
			switch h.Type {
			case flinkmeta.InlineHandle:
				e.Name = m.Name(h)
				sum := sha256.Sum256(m.Inline(h))
				e.SHA256 = hex.EncodeToString(sum[:])
			case flinkmeta.FileHandle:
				e.Path = m.Path(h)
			case flinkmeta.RelativeFileHandle:
				e.RelativePath = m.Path(h)
				path, err := flinkmeta.ResolvePath(f.dir, m.Path(h))
				if err != nil {
					t.Fatal(err)
				}
				e.Path = path
			case flinkmeta.SegmentHandle:
				e.Path, e.Scope, e.LogicalFileID = m.Path(h), h.Scope().String(), m.LogicalFileID(h)
			case flinkmeta.EmptyHandle: // what Flink puts in the place of what is not in the file
				e.Path, e.Scope, e.LogicalFileID = "empty", "EXCLUSIVE", "DUMMY"
			}
			got = append(got, e)
		}
		want := f.want.Handles
		// Subtasks, and in old versions the files of a handle, come out of Flink's loader in the order of a hash map.
		inOrder := func(a, b expectedHandle) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) }
		slices.SortFunc(got, inOrder)
		slices.SortFunc(want, inOrder)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("handles (-Flink +Scan):\n%s", diff)
		}
	})
}

func TestScanReadsTheOperatorsThatFlinkReads(t *testing.T) {
	eachFixture(t, func(t *testing.T, f fixture, m *flinkmeta.Metadata) {
		if m.Version != f.want.MetadataVersion || m.CheckpointID != f.want.CheckpointID {
			t.Errorf("version %d, checkpoint %d; want %d, %d", m.Version, m.CheckpointID, f.want.MetadataVersion, f.want.CheckpointID)
		}
		if len(m.Operators) != len(f.want.Operators) {
			t.Fatalf("%d operators, want %d", len(m.Operators), len(f.want.Operators))
		}
		for i, o := range m.Operators {
			w := f.want.Operators[i]
			finished := 0
			for _, s := range w.SubtasksEntries {
				if s.Finished {
					finished++
				}
			}
			got := []any{o.ID.String(), o.Name, o.UID, o.Parallelism, o.MaxParallelism, o.FullyFinished, o.Subtasks, o.FinishedSubtasks}
			want := []any{w.ID, w.Name, w.UID, w.Parallelism, w.MaxParallelism, w.FullyFinished, w.NumSubtasks, finished}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("operator %d (-Flink +Scan):\n%s", i, diff)
			}
		}
		if len(m.MasterStates) != len(f.want.MasterStates) {
			t.Fatalf("%d master states, want %d", len(m.MasterStates), len(f.want.MasterStates))
		}
		for i, s := range m.MasterStates {
			if w := f.want.MasterStates[i]; s.Name != w.Name || s.Version != w.Version || len(s.State) != w.Size {
				t.Errorf("master state %s %d %d bytes, want %+v", s.Name, s.Version, len(s.State), w)
			}
		}
	})
}

func TestScanTellsCheckpointsFromSavepoints(t *testing.T) {
	eachFixture(t, func(t *testing.T, f fixture, m *flinkmeta.Metadata) {
		var want flinkmeta.Kind
		if p := f.want.Properties; p != nil && strings.Contains(*p, "SavepointType") {
			want = flinkmeta.KindSavepoint
		} else if p != nil {
			want = flinkmeta.KindCheckpoint
		}
		if m.Kind != want {
			t.Errorf("kind %q, want %q", m.Kind, want)
		}
		if p := f.want.Properties; p != nil {
			for _, flag := range []string{"forced", "discardSubsumed", "discardFinished", "discardCancelled", "discardFailed", "discardSuspended"} {
				if got := m.Properties.Flags[flag]; got != strings.Contains(*p, flag+"=true") {
					t.Errorf("%s = %v, Flink says %s", flag, got, *p)
				}
			}
		}
	})
}

func TestEveryReferencedFileOfAFixtureIsThereAndLongEnough(t *testing.T) {
	eachFixture(t, func(t *testing.T, f fixture, m *flinkmeta.Metadata) {
		refs, err := m.Refs(f.dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range refs {
			info, err := os.Stat(f.local(r.URI))
			if err != nil {
				t.Error(err)
				continue
			}
			if r.Need <= 0 || info.Size() < r.Need {
				t.Errorf("%s has %d bytes, %d are needed", r.URI, info.Size(), r.Need)
			}
			if r.Changelog != (info.Size() == r.Need+1) {
				t.Errorf("%s: changelog %v, %d bytes, %d needed; a dstl file has one byte more", r.URI, r.Changelog, info.Size(), r.Need)
			}
		}
	})
}
