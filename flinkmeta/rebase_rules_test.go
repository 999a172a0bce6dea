package flinkmeta_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/ckptferry/ckptferry/flinkmeta/metadatatest"
)

const testJobID = "0123456789abcdef0123456789abcdef"

func TestRebaseMovesByTheLongestPrefix(t *testing.T) {
	b := keyedFile(
		relative("meta", 1),
		file(testJob+"/shared/a", 1),
		file("file:/cp/old/shared/b", 1),
		file("hdfs://ns/dstl/c", 1),
		file("hdfs://ns/dstl/deep/d", 1),
		file("file:///cp//old/shared/e", 1),
	)
	r := flinkmeta.Rebase{From: "file:///cp/", To: "file:/r", Map: []flinkmeta.PrefixMove{
		{From: "hdfs://ns/", To: "hdfs://dc2/all"},
		{From: "hdfs://ns/dstl/deep", To: "s3://bucket/deep"},
		{From: "file:/cp/old", To: "file:/r/older"},
		{From: "file:/cp/ol", To: "file:/never"}, // a prefix of letters, not of directories
	}}
	want := keyedFile(
		relative("meta", 1),
		file("file:/r/"+testJobID+"/shared/a", 1),
		file("file:/r/older/shared/b", 1),
		file("hdfs://dc2/all/dstl/c", 1),
		file("s3://bucket/deep/d", 1),
		file("file:///r/older/shared/e", 1), // its own spelling of file:/
	)
	if got := mustRebase(t, mustScan(t, b), testDir, r); !bytes.Equal(got, want) {
		t.Error("other bytes than with these paths from the beginning")
	}
}

func TestRebaseTakesAMapOfTheSamePrefixBeforeFrom(t *testing.T) {
	b := keyedFile(file(testJob+"/shared/a", 1))
	got := mustRebase(t, mustScan(t, b), testDir, flinkmeta.Rebase{From: "file:/cp", To: "file:/r", Map: []flinkmeta.PrefixMove{{From: "file:/cp", To: "file:/map"}}})
	if want := keyedFile(file("file:/map/"+testJobID+"/shared/a", 1)); !bytes.Equal(got, want) {
		t.Error("other bytes than with the mapped path")
	}
}

func TestRebaseFromAndToTheRootOfAFileSystem(t *testing.T) {
	b := keyedFile(file("hdfs://ns/cp/"+testJobID+"/shared/a", 1), file("hdfs://ns/b", 1))
	m := mustScan(t, b)
	there := mustRebase(t, m, "hdfs://ns/cp/"+testJobID+"/chk-7", flinkmeta.Rebase{From: "hdfs://ns", To: "file:///"})
	if want := keyedFile(file("file:/cp/"+testJobID+"/shared/a", 1), file("file:/b", 1)); !bytes.Equal(there, want) {
		t.Error("to file:/, other bytes")
	}
	back := mustRebase(t, mustScan(t, there), "file:/cp/"+testJobID+"/chk-7", flinkmeta.Rebase{From: "file:/", To: "hdfs://ns/"})
	if !bytes.Equal(back, b) {
		t.Error("and back: other bytes")
	}
}

func TestRebaseNamesEverythingOutside(t *testing.T) {
	b := keyedFile(file(testJob+"/shared/a", 1), file("file:/changelog/dstl/b", 1), file("file:/changelog/dstl/c", 1), file("hdfs://ns/x/d", 1))
	out, _, err := mustScan(t, b).Rebase(testDir, flinkmeta.Rebase{To: "file:/r"})
	if !errors.Is(err, flinkmeta.ErrOutside) || out != nil {
		t.Fatalf("%d bytes, %v; want ErrOutside", len(out), err)
	}
	for _, says := range []string{"3 files", "file:/changelog/dstl", "hdfs://ns/x", "file:/cp"} {
		if !strings.Contains(err.Error(), says) {
			t.Errorf("no %q in %q", says, err)
		}
	}
	b = keyedFile(file("file://host/x/shared/a", 1)) // a host of its own: not below file:/
	if _, _, err := mustScan(t, b).Rebase("file:/cp/chk-7", flinkmeta.Rebase{From: "file:/", To: "file:/r"}); !errors.Is(err, flinkmeta.ErrOutside) {
		t.Errorf("file://host/ from file:/: %v, want ErrOutside", err)
	}
}

func TestRebaseInfersTheBase(t *testing.T) {
	for _, dir := range []string{testDir, "file:/mnt/copy/" + testJobID + "/chk-7", "hdfs://ns/anywhere"} {
		got := mustRebase(t, mustScan(t, keyedFile(relative("m", 1), file(testJob+"/shared/a", 1))), dir, flinkmeta.Rebase{To: "hdfs://ns/r"})
		if want := keyedFile(relative("m", 1), file("hdfs://ns/r/"+testJobID+"/shared/a", 1)); !bytes.Equal(got, want) {
			t.Errorf("read from %s: other bytes", dir)
		}
	}
	two := keyedFile(file("file:/a/job1/shared/x", 1), file("file:/b/job2/shared/y", 1))
	_, _, err := mustScan(t, two).Rebase("file:/c/job3/chk-1", flinkmeta.Rebase{To: "file:/r"})
	if !errors.Is(err, flinkmeta.ErrNoBase) || !strings.Contains(err.Error(), "file:/a/job1, file:/b/job2") {
		t.Errorf("two bases: %v, want ErrNoBase with both", err)
	}
	// The name of the directory tells which of them is the job's own.
	if base, err := flinkmeta.InferBase(mustScan(t, two), "file:/c/job2/chk-1"); err != nil || base != "file:/b" {
		t.Errorf("InferBase = %s, %v; want file:/b", base, err)
	}
	if base, err := flinkmeta.InferBase(mustScan(t, keyedFile()), "file:/sp/savepoint-1-2"); err != nil || base != "file:/sp" {
		t.Errorf("InferBase of a savepoint = %s, %v; want file:/sp", base, err)
	}
}

func TestRebaseMakesRelativePathsThatLeadOutAbsolute(t *testing.T) {
	b := keyedFile(relative("../shared/a", 1), relative("meta", 1))
	out, warnings, err := mustScan(t, b).Rebase(testDir, flinkmeta.Rebase{From: "file:/cp", To: "hdfs://ns/r"})
	if err != nil {
		t.Fatal(err)
	}
	if want := keyedFile(file("hdfs://ns/r/"+testJobID+"/shared/a", 1), relative("meta", 1)); !bytes.Equal(out, want) {
		t.Error("other bytes than with an absolute path from the beginning")
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "1 relative paths") {
		t.Errorf("warnings %q", warnings)
	}
	out, warnings, err = mustScan(t, b).Rebase(testDir, flinkmeta.Rebase{From: "file:/cp", To: "hdfs://ns/r", Relative: true})
	if err != nil || !bytes.Equal(out, b) || len(warnings) != 1 || !strings.Contains(warnings[0], "NO_CLAIM only") {
		t.Errorf("relative: %v, same bytes %v, warnings %q", err, bytes.Equal(out, b), warnings)
	}
}

func TestRebaseRefusesRelativePathsWhereThereAreNone(t *testing.T) {
	dirs := oneOperatorState(func(w *metadatatest.Writer) {
		w.U8(17)
		w.I32(0)
		w.UTF(testJob + "/taskowned/job_1_tm_2")
		w.UTF(testJob + "/shared/job_1_op_2")
		w.U8(1)
		w.Empty()
	})
	changelog := oneKeyed(func(w *metadatatest.Writer) { nestedChangelog(w, 1) })
	for name, tc := range map[string]struct {
		b    []byte
		r    flinkmeta.Rebase
		want error
	}{
		"a merged file":               {keyedFile(segment(testJob+"/shared/job_1_op_2/x", 0, 1)), flinkmeta.Rebase{To: "file:/r", Relative: true}, flinkmeta.ErrNoRelativeForm},
		"directories of merged files": {dirs, flinkmeta.Rebase{To: "file:/r", Relative: true}, flinkmeta.ErrNoRelativeForm},
		"a changelog":                 {changelog, flinkmeta.Rebase{To: "file:/r", Relative: true}, flinkmeta.ErrNoRelativeForm},
		"another file system": {keyedFile(file(testJob+"/shared/a", 1)), flinkmeta.Rebase{To: "file:/r", Relative: true,
			Map: []flinkmeta.PrefixMove{{From: testJob + "/shared", To: "hdfs://ns/shared"}}}, flinkmeta.ErrNoRelativeForm},
		"a directory that does not move": {keyedFile(file(testJob+"/shared/a", 1)), flinkmeta.Rebase{From: testJob + "/shared", To: "file:/r", Relative: true},
			flinkmeta.ErrOutside},
		"no place to go":  {keyedFile(), flinkmeta.Rebase{}, flinkmeta.ErrPath},
		"a relative from": {keyedFile(), flinkmeta.Rebase{From: "cp", To: "file:/r"}, flinkmeta.ErrPath},
	} {
		if out, _, err := mustScan(t, tc.b).Rebase(testDir, tc.r); !errors.Is(err, tc.want) || out != nil {
			t.Errorf("%s: %d bytes, %v; want %v", name, len(out), err, tc.want)
		}
	}
	// Absolute, all of them move.
	moved := mustScan(t, mustRebase(t, mustScan(t, dirs), testDir, flinkmeta.Rebase{To: "hdfs://ns/r"}))
	if got := moved.Dirs[0].Path + " " + moved.Dirs[1].Path; got != "hdfs://ns/r/"+testJobID+"/taskowned/job_1_tm_2 hdfs://ns/r/"+testJobID+"/shared/job_1_op_2" {
		t.Errorf("directories %s", got)
	}
}

func TestRebaseRefusesToFoldTwoFilesIntoOne(t *testing.T) {
	b := keyedFile(file("file:/cp/old/shared/x", 1), file("file:/cp/new/shared/x", 1))
	r := flinkmeta.Rebase{From: "file:/cp", To: "file:/r", Map: []flinkmeta.PrefixMove{{From: "file:/cp/old", To: "file:/r/new"}}}
	if _, _, err := mustScan(t, b).Rebase(testDir, r); !errors.Is(err, flinkmeta.ErrCollision) {
		t.Errorf("%v, want ErrCollision", err)
	}
}

func TestRebaseRefusesToFoldAFileIntoTheCheckpointsDirectory(t *testing.T) {
	const old = "file:/cp/old/chk-3"
	r := flinkmeta.Rebase{From: "file:/cp", To: "file:/r", Map: []flinkmeta.PrefixMove{{From: old, To: "file:/r/" + testJobID + "/chk-7"}}}
	for name, b := range map[string][]byte{
		"both plain":        keyedFile(relative("x", 1), file(testJob+"/shared/y", 1), file(old+"/x", 1)),
		"one oddly spelled": keyedFile(relative("./x", 1), file(testJob+"/shared/y", 1), file("file://"+old[5:]+"/x", 1)),
	} {
		if _, _, err := mustScan(t, b).Rebase(testDir, r); !errors.Is(err, flinkmeta.ErrCollision) {
			t.Errorf("%s: %v, want ErrCollision", name, err)
		}
	}
	apart := r // the move of the job itself concerns no absolute path
	apart.Map = append([]flinkmeta.PrefixMove{{From: testJob + "/shared", To: "hdfs://ns/s"}}, r.Map...)
	b := keyedFile(relative("x", 1), file(testJob+"/shared/y", 1), file(old+"/x", 1))
	if _, _, err := mustScan(t, b).Rebase(testDir, apart); !errors.Is(err, flinkmeta.ErrCollision) {
		t.Errorf("moves apart: %v, want ErrCollision", err)
	}
	b = keyedFile(relative("x", 1), file(testJob+"/shared/y", 1), file(old+"/z", 1))
	want := keyedFile(relative("x", 1), file("file:/r/"+testJobID+"/shared/y", 1), file("file:/r/"+testJobID+"/chk-7/z", 1))
	if got := mustRebase(t, mustScan(t, b), testDir, r); !bytes.Equal(got, want) {
		t.Error("another name there: other bytes than with these paths from the beginning")
	}
}

func TestRebaseTakesAMoveWithinTheCheckpointsDirectory(t *testing.T) {
	b := keyedFile(relative("sub/x", 1), relative("y", 1), file(testJob+"/shared/z", 1))
	r := flinkmeta.Rebase{From: "file:/cp", To: "file:/r", Map: []flinkmeta.PrefixMove{{From: testDir + "/sub", To: "hdfs://ns/sub"}}}
	want := keyedFile(file("hdfs://ns/sub/x", 1), relative("y", 1), file("file:/r/"+testJobID+"/shared/z", 1))
	if got := mustRebase(t, mustScan(t, b), testDir, r); !bytes.Equal(got, want) {
		t.Error("other bytes than with these paths from the beginning")
	}
}

func TestRebaseMakesAFileThatIsNamedBothWaysAbsolute(t *testing.T) {
	b := keyedFile(relative("x", 1), file(testDir+"/x", 1), file(testJob+"/shared/y", 1))
	at := "file:/r/" + testJobID
	want := keyedFile(file(at+"/chk-7/x", 1), file(at+"/chk-7/x", 1), file(at+"/shared/y", 1))
	if got := mustRebase(t, mustScan(t, b), testDir, flinkmeta.Rebase{From: "file:/cp", To: "file:/r"}); !bytes.Equal(got, want) {
		t.Error("other bytes than with these paths from the beginning")
	}
}

func TestRebaseEncodesAndMeasuresTheNewRoot(t *testing.T) {
	b := keyedFile(file(testJob+"/shared/a", 1))
	got := mustRebase(t, mustScan(t, b), testDir, flinkmeta.Rebase{From: "file:/cp", To: "file:/é/😀"})
	if want := keyedFile(file("file:/é/😀/"+testJobID+"/shared/a", 1)); !bytes.Equal(got, want) {
		t.Error("other bytes than with that path from the beginning")
	}
	long := "file:/" + strings.Repeat("a", 65_500)
	if _, _, err := mustScan(t, b).Rebase(testDir, flinkmeta.Rebase{From: "file:/cp", To: long}); !errors.Is(err, flinkmeta.ErrPathTooLong) {
		t.Errorf("a long root: %v, want ErrPathTooLong", err)
	}
}

func TestOddlySpelledDirectoriesStayOnTheSameRoot(t *testing.T) {
	b := oneOperatorState(func(w *metadatatest.Writer) {
		w.U8(17)
		w.I32(0)
		w.UTF("file:///./cp//" + testJobID + "/taskowned/job_1_tm_2/")
		w.UTF("file:/cp/../cp/" + testJobID + "/shared/job_1_op_2")
		w.U8(1)
		w.Empty()
	})
	if got := mustRebase(t, mustScan(t, b), testDir, flinkmeta.Rebase{From: "file:/cp", To: "file:/cp"}); !bytes.Equal(got, b) {
		t.Error("other bytes")
	}
}

// oneOperatorState is a version 4 file with one operator and subtask, whose managed operator state is written by state.
func oneOperatorState(state func(*metadatatest.Writer)) []byte {
	var w metadatatest.Writer
	w.Header(4, 7)
	w.I32(0)
	w.I32(1)
	w.I64(0)
	w.I64(0)
	w.I32(1)
	w.I32(1)
	w.Null()
	w.I32(1)
	w.I32(0)
	w.I32(1)
	state(&w)
	w.I32(0)
	w.Null()
	w.Null()
	w.I32(0)
	w.I32(0)
	w.CheckpointTail()
	return w.B
}
