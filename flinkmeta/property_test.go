package flinkmeta_test

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/ckptferry/ckptferry/flinkmeta/metadatatest"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const rootA, rootB = "file:/dc-a/flink", "file:/replica"

func TestScanFindsEveryHandleThatWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawFile(t)
		m, err := flinkmeta.Scan(f.bytes(rootA))
		if err != nil {
			t.Fatal(err)
		}
		var got []randomHandle
		for _, h := range m.Handles {
			path := m.Path(h)
			if h.Type != flinkmeta.RelativeFileHandle {
				path = strings.TrimPrefix(strings.Replace(path, "file:///", "file:/", 1), rootA)
			}
			got = append(got, randomHandle{Type: h.Type, Where: h.Where.String(), Subtask: int(h.Subtask), Size: h.Size, Start: h.Start,
				Path: path, Name: m.Name(h)})
		}
		if diff := cmp.Diff(f.handles, got); diff != "" {
			t.Errorf("handles (-written +scanned):\n%s", diff)
		}
	})
}

func TestAnyFileRelocatedOntoItselfIsTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawFile(t)
		b := f.bytes(rootA)
		m, err := flinkmeta.Scan(b)
		if err != nil {
			t.Fatal(err)
		}
		out, err := m.Relocate(f.dir(rootA), flinkmeta.Placer{File: stay})
		if err != nil || !bytes.Equal(out, b) {
			t.Fatalf("same places: %v, other bytes", err)
		}
		out, _, err = m.Rebase(f.dir(rootA), flinkmeta.Rebase{From: rootA, To: rootA})
		if err != nil || !bytes.Equal(out, b) {
			t.Fatalf("same root: %v, other bytes", err)
		}
	})
}

// The file is written a second time with the other root: no encoder of ours, and no knowledge of what a splice is.
func TestRebaseGivesWhatFlinkWouldHaveWrittenThere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawFile(t)
		there := rapid.SampledFrom([]string{rootB, "file:/dc-b/flink", "file:/a/longer/root/than/that/of/dc-a", "hdfs://ns/r", "file:/dc-a/flink/nested"}).Draw(t, "root")
		m, err := flinkmeta.Scan(f.bytes(rootA))
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := m.Rebase(f.dir(rootA), flinkmeta.Rebase{From: rootA, To: there})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, f.bytes(there)) {
			t.Fatalf("rebased to %s: other bytes than written there", there)
		}
		if strings.HasPrefix(there, "hdfs:") {
			return // there is one way only to write these, so which one it was in the file is forgotten
		}
		moved, err := flinkmeta.Scan(got)
		if err != nil {
			t.Fatal(err)
		}
		back, _, err := moved.Rebase(f.dir(there), flinkmeta.Rebase{From: there, To: rootA})
		if err != nil || !bytes.Equal(back, f.bytes(rootA)) {
			t.Fatalf("and back: %v, other bytes", err)
		}
	})
}

func TestEveryCutOfAnyFileIsAnError(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := drawFile(t).bytes(rootA)
		for n := range b {
			if _, err := flinkmeta.Scan(b[:n:n]); err == nil {
				t.Fatalf("the first %d of %d bytes are accepted", n, len(b))
			}
		}
	})
}

func TestWriterEndsFilesAsFlinkDoes(t *testing.T) {
	var checkpoint, savepoint metadatatest.Writer
	checkpoint.CheckpointTail()
	savepoint.SavepointTail()
	found := map[string]int{}
	for _, f := range loadFixtures(t) {
		for name, tail := range map[string][]byte{"checkpoint": checkpoint.B, "savepoint": savepoint.B} {
			if bytes.HasSuffix(f.b, tail) {
				found[name+" "+filepath.Base(f.root)]++
			}
		}
	}
	if found["checkpoint 1.20.0-rocksdb-incremental"] != 2 || found["savepoint 1.20.0-savepoints"] != 1 {
		t.Errorf("tails of the writer are in %v", found)
	}
}
