package flinkmeta_test

import (
	"bytes"
	"errors"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/flinkmeta"
)

// rootOf is the root of all of a fixture's files: a plain job moves with it whatever it refers to.
func rootOf(f fixture) string {
	scheme, _, _ := strings.Cut(f.dir, ":")
	return scheme + ":/dc-a/flink"
}

func TestRebaseOntoTheSameRootGivesTheSameBytes(t *testing.T) {
	eachFixture(t, func(t *testing.T, f fixture, m *flinkmeta.Metadata) {
		for _, root := range []string{rootOf(f), strings.Replace(rootOf(f), ":/", ":///", 1) + "/"} {
			out, _, err := m.Rebase(f.dir, flinkmeta.Rebase{From: root, To: root})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out, f.b) {
				t.Errorf("%s: other bytes", root)
			}
		}
	})
}

func TestRebaseThereAndBackGivesTheSameBytes(t *testing.T) {
	eachFixture(t, func(t *testing.T, f fixture, m *flinkmeta.Metadata) {
		for _, root := range []string{"hdfs://dc2/r", "file:/dc-b/flink", "file:/a/rather/much/longer/directory/than/before", "s3://b"} {
			there := mustRebase(t, m, f.dir, flinkmeta.Rebase{From: rootOf(f), To: root})
			dir := strings.TrimSuffix(root, "/") + strings.TrimPrefix(f.dir, rootOf(f))
			back := mustRebase(t, mustScan(t, there), dir, flinkmeta.Rebase{From: root, To: rootOf(f)})
			if !bytes.Equal(back, f.b) {
				t.Errorf("%s and back: other bytes", root)
			}
		}
	})
}

func TestRebasedFilesScanToTheirNewPlaces(t *testing.T) {
	eachFixture(t, func(t *testing.T, f fixture, m *flinkmeta.Metadata) {
		for _, to := range []string{"hdfs://dc2:8020/r", strings.Replace(rootOf(f), "dc-a", "dc-b", 1)} {
			checkMoved(t, f, m, to)
		}
	})
}

// checkMoved rebases all of a fixture's files to another root and looks where they are then.
func checkMoved(t *testing.T, f fixture, m *flinkmeta.Metadata, to string) {
	t.Helper()
	move := func(uri string) string { return to + strings.TrimPrefix(uri, rootOf(f)) }
	moved := mustScan(t, mustRebase(t, m, f.dir, flinkmeta.Rebase{From: rootOf(f), To: to}))
	before, after := mustRefs(t, m, f.dir), mustRefs(t, moved, move(f.dir))
	if len(before) != len(after) {
		t.Fatalf("%d files, were %d", len(after), len(before))
	}
	for i, r := range before {
		want := r
		want.URI = move(r.URI)
		if !r.Relative {
			want.Path = move(r.Path)
		}
		if after[i] != want {
			t.Errorf("file %d:\n%+v\nwant\n%+v", i, after[i], want)
		}
	}
	for i, d := range m.Dirs {
		if want := move(d.Path); moved.Dirs[i].Path != want {
			t.Errorf("directory %s, want %s", moved.Dirs[i].Path, want)
		}
	}
	for i, h := range m.Handles {
		if m.Name(h) != moved.Name(moved.Handles[i]) {
			t.Errorf("inline name %s became %s", m.Name(h), moved.Name(moved.Handles[i]))
		}
	}
}

func TestRebaseToRelativePathsAndBack(t *testing.T) {
	eachFixture(t, func(t *testing.T, f fixture, m *flinkmeta.Metadata) {
		refs := mustRefs(t, m, f.dir)
		out, warnings, err := m.Rebase(f.dir, flinkmeta.Rebase{From: rootOf(f), To: "hdfs://dc2/r", Relative: true})
		hasSegment := slices.ContainsFunc(refs, func(r flinkmeta.FileRef) bool { return r.Segment })
		if hasSegment || m.Changelog() {
			if !errors.Is(err, flinkmeta.ErrNoRelativeForm) {
				t.Fatalf("segments or a changelog: error %v, want ErrNoRelativeForm", err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		portable := mustScan(t, out)
		noClaim := false
		for _, r := range mustRefs(t, portable, "hdfs://dc2/r"+strings.TrimPrefix(f.dir, rootOf(f))) {
			if !r.Relative {
				t.Errorf("%s is absolute", r.Path)
			}
			noClaim = noClaim || strings.HasPrefix(r.Path, "../")
		}
		if got := strings.Contains(strings.Join(warnings, "\n"), "NO_CLAIM only"); got != noClaim {
			t.Errorf("warnings %q, NO_CLAIM only: %v", warnings, noClaim)
		}
		// From another place, as the bytes no longer know where they were.
		dir := "file:/mnt" + strings.TrimPrefix(f.dir, rootOf(f))
		back := mustRebase(t, portable, dir, flinkmeta.Rebase{From: "file:/mnt", To: rootOf(f)})
		if strings.HasPrefix(f.dir, "ent:") { // there Flink wrote absolute paths even into the checkpoint's own directory
			return
		}
		if !bytes.Equal(back, f.b) {
			t.Error("made absolute again: other bytes")
		}
	})
}

func TestInferBaseHoldsTheJobDirectory(t *testing.T) {
	eachFixture(t, func(t *testing.T, f fixture, m *flinkmeta.Metadata) {
		want := path.Dir(path.Dir(f.dir))
		if strings.HasPrefix(path.Base(f.dir), "savepoint-") {
			want = path.Dir(f.dir)
		}
		base, err := flinkmeta.InferBase(m, f.dir)
		if strings.HasPrefix(f.dir, "ent:") {
			if !errors.Is(err, flinkmeta.ErrNoBase) || !strings.Contains(err.Error(), "in common") {
				t.Errorf("entropy: %s, %v; want ErrNoBase and what to do", base, err)
			}
			return
		}
		if err != nil || base != want {
			t.Errorf("InferBase = %s, %v; want %s", base, err, want)
		}
		named, err := flinkmeta.InferDir(m, f.dir)
		if err != nil || named != f.dir {
			t.Errorf("InferDir = %s, %v; want %s", named, err, f.dir)
		}
	})
}

func TestTheJobsPlaceIsToldFromTheHandlesWhenMetadataLiesElsewhere(t *testing.T) {
	eachFixture(t, func(t *testing.T, f fixture, m *flinkmeta.Metadata) {
		job := path.Base(path.Dir(f.dir))
		inJob := false
		for _, r := range mustRefs(t, m, f.dir) {
			inJob = inJob || !r.Relative && strings.Contains(r.URI, "/"+job+"/") && r.Role != flinkmeta.RoleOther
		}
		elsewhere := "file:/mnt" + strings.TrimPrefix(f.dir, "file:")
		if !inJob || strings.HasPrefix(f.dir, "ent:") {
			return // no absolute handle in the job's directory, or too many
		}
		if got, err := flinkmeta.InferDir(m, elsewhere); err != nil || got != f.dir {
			t.Errorf("InferDir(%s) = %s, %v; want %s", elsewhere, got, err, f.dir)
		}
		if got, err := flinkmeta.InferBase(m, elsewhere); err != nil || got != path.Dir(path.Dir(f.dir)) {
			t.Errorf("InferBase(%s) = %s, %v", elsewhere, got, err)
		}
	})
}

func mustScan(t testing.TB, b []byte) *flinkmeta.Metadata {
	t.Helper()
	m, err := flinkmeta.Scan(b)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func mustRefs(t testing.TB, m *flinkmeta.Metadata, dir string) []flinkmeta.FileRef {
	t.Helper()
	refs, err := m.Refs(dir)
	if err != nil {
		t.Fatal(err)
	}
	return refs
}

func mustRebase(t testing.TB, m *flinkmeta.Metadata, dir string, r flinkmeta.Rebase) []byte {
	t.Helper()
	out, _, err := m.Rebase(dir, r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
