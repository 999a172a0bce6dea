package flinkmeta_test

import (
	"errors"
	"testing"

	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/ckptferry/ckptferry/flinkmeta/metadatatest"
	"github.com/google/go-cmp/cmp"
)

const (
	testJob = "file:/cp/0123456789abcdef0123456789abcdef"
	testDir = testJob + "/chk-7"
)

// keyedFile is a version 5 file of one operator with two subtasks; each has an incremental handle that private writes
// the files of.
func keyedFile(private ...func(*metadatatest.Writer)) []byte {
	var w metadatatest.Writer
	w.Header(5, 7)
	w.I32(0) // master states
	w.I32(1)
	w.UTF("agg")
	w.UTF("agg-uid")
	w.I64(1)
	w.I64(2)
	w.I32(2)
	w.I32(128)
	w.Null()
	w.I32(2)
	for subtask := range 2 {
		w.I32(subtask)
		w.I32(0)
		w.I32(0)
		w.U8(11)
		w.I64(7)
		w.UTF("backend")
		w.I64(1) // key groups
		w.I64(0)
		w.Inline("meta", []byte("m"))
		w.I32(0)
		w.I32(len(private))
		for _, write := range private {
			w.UTF("000001.sst")
			write(&w)
		}
		w.UTF("id")
		w.Null()
		w.I32(0)
		w.I32(0)
	}
	w.CheckpointTail()
	return w.B
}

func file(path string, size int64) func(*metadatatest.Writer) {
	return func(w *metadatatest.Writer) { w.File(path, size) }
}

func relative(path string, size int64) func(*metadatatest.Writer) {
	return func(w *metadatatest.Writer) { w.Relative(path, size) }
}

func segment(path string, start, size int64) func(*metadatatest.Writer) {
	return func(w *metadatatest.Writer) {
		w.Segment(metadatatest.Segment{Path: path, LogicalFileID: "l", Start: start, Size: size, Scope: 1})
	}
}

func TestRefsAreOnePerFileHoweverItIsSpelled(t *testing.T) {
	m := mustScan(t, keyedFile(
		relative("meta", 5),
		file(testDir+"/meta", 9),
		file("file:///cp//0123456789abcdef0123456789abcdef/chk-7/./meta", -1),
		file(testJob+"/shared/x", 3),
		relative("../shared/x", 3),
		segment(testJob+"/shared/job_a_op_b_0_2/y", 10, 20),
		segment(testJob+"/shared/job_a_op_b_0_2/y", 0, 5),
		file("hdfs://other/dstl/z", -1),
		file("file:/cp/old/chk-3/u", 0),
		segment(testJob+"/taskowned/job_a_tm_b/v", 1, 1),
	))
	want := []flinkmeta.FileRef{
		{Path: "meta", URI: testDir + "/meta", Relative: true, Mixed: true, Need: 9, Unsized: true, Role: flinkmeta.RoleExclusive, References: 6},
		{Path: testJob + "/shared/x", URI: testJob + "/shared/x", Mixed: true, Need: 3, Role: flinkmeta.RoleShared, References: 4},
		{Path: testJob + "/shared/job_a_op_b_0_2/y", URI: testJob + "/shared/job_a_op_b_0_2/y", Segment: true, Need: 30, Role: flinkmeta.RoleShared,
			References: 4},
		{Path: "hdfs://other/dstl/z", URI: "hdfs://other/dstl/z", Unsized: true, Role: flinkmeta.RoleOther, References: 2},
		{Path: "file:/cp/old/chk-3/u", URI: "file:/cp/old/chk-3/u", Role: flinkmeta.RoleExclusive, References: 2},
		{Path: testJob + "/taskowned/job_a_tm_b/v", URI: testJob + "/taskowned/job_a_tm_b/v", Segment: true, Need: 2, Role: flinkmeta.RoleTaskOwned,
			References: 2},
	}
	if diff := cmp.Diff(want, mustRefs(t, m, testDir+"/")); diff != "" {
		t.Errorf("Refs (-want +got):\n%s", diff)
	}
}

func TestRoleIsTheFilesPlaceNotAWordInItsPath(t *testing.T) {
	for path, want := range map[string]flinkmeta.Role{
		"file:/shared/flink/dstl/x":          flinkmeta.RoleOther,
		"hdfs://shared/x":                    flinkmeta.RoleOther,
		"file:/shared/x":                     flinkmeta.RoleShared,
		"file:/a/shared/sub/x":               flinkmeta.RoleOther,
		"file:/a/shared/job_1_op_2/x":        flinkmeta.RoleShared,
		"file:/a/taskowned/x":                flinkmeta.RoleTaskOwned,
		"file:/a/chk-12/x":                   flinkmeta.RoleExclusive,
		"file:/a/chk-/x":                     flinkmeta.RoleOther,
		"file:/a/chk-1b/x":                   flinkmeta.RoleOther,
		"file:/a/savepoint-0a-12/x":          flinkmeta.RoleExclusive,
		testDir + "/shared/x":                flinkmeta.RoleExclusive,
		testDir + "extra/x":                  flinkmeta.RoleOther,
		"file:///a//shared/x":                flinkmeta.RoleShared,
		"s3://b/_entropy_ab/cp/job/shared/x": flinkmeta.RoleShared,
	} {
		if refs := mustRefs(t, mustScan(t, keyedFile(file(path, 1))), testDir); refs[0].Role != want {
			t.Errorf("role of %s is %s, want %s", path, refs[0].Role, want)
		}
	}
}

func TestOwnersNameOperatorAndSubtasks(t *testing.T) {
	m := mustScan(t, keyedFile(file(testJob+"/shared/x", 3), relative("meta", 5)))
	for _, uri := range []string{testDir + "/meta", "file://" + testDir[5:] + "//meta"} {
		owners, err := m.Owners(testDir, uri)
		if err != nil {
			t.Fatal(err)
		}
		want := []flinkmeta.Owner{{ID: m.Operators[0].ID, Name: "agg", UID: "agg-uid", Subtasks: []int{0, 1}}}
		if diff := cmp.Diff(want, owners); diff != "" {
			t.Errorf("Owners(%s) (-want +got):\n%s", uri, diff)
		}
		if got := owners[0].String(); got != `operator "agg" (00000000000000010000000000000002), subtasks [0 1]` {
			t.Errorf("owner reads %s", got)
		}
	}
	if owners, err := m.Owners(testDir, testJob+"/shared/other"); err != nil || len(owners) != 0 {
		t.Errorf("Owners of a stranger = %v, %v", owners, err)
	}
}

func TestARelativePathAboveTheRootIsAnErrorWithItsOperator(t *testing.T) {
	m := mustScan(t, keyedFile(relative("../../../../x", 1)))
	_, err := m.Refs(testDir)
	var fe *flinkmeta.FormatError
	if !errors.Is(err, flinkmeta.ErrPath) || !errors.As(err, &fe) || fe.Operator != `"agg" (00000000000000010000000000000002)` {
		t.Errorf("Refs: %v", err)
	}
	if _, err := m.Refs("not/absolute"); !errors.Is(err, flinkmeta.ErrPath) {
		t.Errorf("Refs below a relative directory: %v", err)
	}
}
