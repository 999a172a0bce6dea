package flinkmeta_test

import (
	"testing"

	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/ckptferry/ckptferry/flinkmeta/metadatatest"
	"pgregory.net/rapid"
)

// seeds adds one fixture of each version, and small files of every version with every handle type: fuzzing gets
// further with those. What it found is in testdata/fuzz.
func seeds(f *testing.F) {
	seen := map[int]bool{}
	for _, fx := range loadFixtures(f) {
		if v := fx.want.MetadataVersion; len(fx.b) < 16<<10 && !seen[v] {
			seen[v] = true
			f.Add(fx.b)
		}
	}
	files := rapid.Custom(drawFile)
	for i := range 40 {
		if b := files.Example(i).bytes(rootA); len(b) < 3<<10 {
			f.Add(b)
		}
	}
	f.Add(keyedFile(relative("meta", 5), file("file:///a//b", -1), segment("hdfs://ns/x", 1, 2)))
	f.Add(oneKeyed(func(w *metadatatest.Writer) { nestedChangelog(w, 2) }))
}

func FuzzScan(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := flinkmeta.Scan(b)
		if err != nil {
			return // its shape is checked in FuzzRelocate
		}
		for _, h := range m.Handles {
			if h.Offset() >= len(b) || int(h.Operator) >= len(m.Operators) {
				t.Fatalf("handle %+v of %d bytes, %d operators", h, len(b), len(m.Operators))
			}
			_, _, _, _ = m.Path(h), m.Name(h), m.Inline(h), m.LogicalFileID(h)
		}
		if _, err := m.Inspect("file:/a/b/c/chk-1"); err != nil {
			return // a relative path that leads above the root
		}
		if _, err := flinkmeta.Scan(b[:len(b)-1]); err == nil {
			t.Fatal("accepted with and without its last byte")
		}
	})
}

func FuzzRelocate(f *testing.F) {
	seeds(f)
	const dir = "file:/a/b/c/d/e/chk-1"
	f.Fuzz(func(t *testing.T, b []byte) {
		checkScanned(t, b, dir)
		m, err := flinkmeta.Scan(b)
		if err != nil {
			return
		}
		out, _, err := m.Rebase(dir, flinkmeta.Rebase{From: "file:/", To: "hdfs://ns/r", Map: []flinkmeta.PrefixMove{{From: "hdfs://ns", To: "s3://b"}}})
		if err != nil {
			return // a path outside
		}
		moved, err := flinkmeta.Scan(out)
		if err != nil {
			t.Fatalf("what Rebase gave: %v", err)
		}
		if len(moved.Handles) != len(m.Handles) || len(moved.Dirs) != len(m.Dirs) || len(moved.Operators) != len(m.Operators) {
			t.Fatalf("%d handles, were %d", len(moved.Handles), len(m.Handles))
		}
		for i, h := range m.Handles {
			if g := moved.Handles[i]; g.Size != h.Size || g.Start != h.Start || g.Where != h.Where || g.Subtask != h.Subtask {
				t.Fatalf("handle %+v became %+v", h, g)
			}
		}
	})
}
