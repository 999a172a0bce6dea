package replicator

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/fsutil/faultfs"
)

const (
	jobA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	jobB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

func TestWhereFilesOfOddCheckpointsGo(t *testing.T) {
	for name, c := range map[string]struct {
		dir   string
		files []stateFile
		want  []string // below the root, ".ckptferry" aside; a * is a label's digest
	}{
		"a job's directory": {"dc-a/cp/" + jobA + "/chk-5",
			[]stateFile{absolute("file:/dc-a/cp/" + jobA + "/shared/f"), relative("r"), absolute("file:/dc-a/cp/" + jobA + "/taskowned/t")},
			[]string{jobA + "/chk-5/_metadata", jobA + "/chk-5/r", jobA + "/shared/f", jobA + "/taskowned/t"}},
		"two jobs' directories": {"dc-a/cp/" + jobA + "/chk-5",
			[]stateFile{absolute("file:/dc-a/cp/" + jobA + "/shared/f"), absolute("file:/dc-a/cp/" + jobB + "/shared/f")},
			[]string{jobA + "/chk-5/_metadata", jobA + "/shared/f", jobB + "/shared/f"}},
		"create-subdir is false": {"dc-a/my-job/chk-5",
			[]stateFile{absolute("file:/dc-a/my-job/shared/f"), relative("r")},
			[]string{"my-job/chk-5/_metadata", "my-job/chk-5/r", "my-job/shared/f"}},
		"create-subdir is false, right below the root": {"dc-a/chk-5",
			[]stateFile{absolute("file:/dc-a/shared/f")},
			[]string{"dc-a/chk-5/_metadata", "dc-a/shared/f"}},
		"a savepoint": {"dc-a/sp/savepoint-5f24a5-0123456789ab",
			[]stateFile{relative("f")},
			[]string{"savepoint-5f24a5-0123456789ab/_metadata", "savepoint-5f24a5-0123456789ab/f"}},
		"two places with files of one name": {"dc-a/cp/" + jobA + "/chk-5",
			[]stateFile{absolute("file:/dc-a/x/cp/" + jobA + "/shared/f"), absolute("file:/dc-a/y/cp/" + jobA + "/shared/f"), absolute("ent:/dc-a/y/cp/" + jobA + "/shared/f")},
			[]string{jobA + "/chk-5/_metadata", jobA + "/external/cp-*/" + jobA + "/shared/f", jobA + "/external/cp-*/" + jobA + "/shared/f", jobA + "/external/cp-*/" + jobA + "/shared/f"}},
		"a place without a job": {"dc-a/cp/" + jobA + "/chk-5",
			[]stateFile{absolute("file:/dc-a/old/shared/f"), absolute("file:/dc-a/elsewhere/f")},
			[]string{jobA + "/chk-5/_metadata", jobA + "/external/elsewhere-*/f", jobA + "/external/old-*/shared/f"}},
		"a deep place": {"dc-a/cp/" + jobA + "/chk-5",
			[]stateFile{absolute("file:/dc-a/" + strings.Repeat("deep/", 200) + jobB + "/dstl/f")},
			[]string{jobA + "/chk-5/_metadata", jobA + "/external/deep-*/" + jobB + "/dstl/f"}},
		"names that are odd": {"dc-a/cp/" + jobA + "/chk-5",
			[]stateFile{absolute("file:/dc-a/cp/" + jobA + "/shared/ä b%20c"), absolute("file:/dc-a/ö ü/f")},
			[]string{jobA + "/chk-5/_metadata", jobA + "/external/file-*/f", jobA + "/shared/ä b%20c"}},
		"files of no bytes": {"dc-a/cp/" + jobA + "/chk-5",
			[]stateFile{{path: "file:/dc-a/cp/" + jobA + "/shared/f"}, {path: "r", relative: true}},
			[]string{jobA + "/chk-5/_metadata", jobA + "/chk-5/r", jobA + "/shared/f"}},
		"no files": {"dc-a/cp/" + jobA + "/chk-5", nil, []string{jobA + "/chk-5/_metadata"}},
		// Reached by one name, written by Flink under another: what is said of the job's directory is the same place.
		"another name of the base": {"dc-a/cp/" + jobA + "/chk-5",
			[]stateFile{absolute("ent:/dc-a/cp/" + jobA + "/shared/f"), relative("r")},
			[]string{jobA + "/chk-5/_metadata", jobA + "/chk-5/r", jobA + "/shared/f"}},
	} {
		for _, version := range []int{2, 3} {
			t.Run(fmt.Sprintf("%s, version %d", name, version), func(t *testing.T) {
				w := newWorld()
				res := w.mustReplicate(t, w.request(w.checkpointOf(t, version, c.dir, c.files...)))
				var got []string
				for _, name := range names(t, w.dst, "replicas") {
					name = strings.TrimPrefix(name, "replicas/")
					if at := strings.Index(name, "external/"); at >= 0 {
						end := at + len("external/") + strings.IndexByte(name[at+len("external/"):], '/')
						name = name[:end-12] + "*" + name[end:]
					}
					if !strings.HasPrefix(name, ownDir+"/") {
						got = append(got, name)
					}
				}
				slices.Sort(got)
				if !slices.Equal(got, c.want) || res.Files != len(c.want) {
					t.Errorf("there are %d files:\n%s\nwant\n%s", res.Files, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
				}
				w.checkAll(t, 1)
				if again := w.mustReplicate(t, w.request(mustURI("file:/"+c.dir))); again.BytesCopied != 0 || again.FilesSkipped != res.Files {
					t.Errorf("again: %+v", again)
				}
			})
		}
	}
}

func TestThousandsOfSmallFiles(t *testing.T) {
	w := newWorld()
	files := make([]stateFile, smallFiles)
	for i := range files {
		files[i] = absolute(fmt.Sprintf("file:/dc-a/cp/%s/shared/%05d", jobA, i))
		files[i].size = int64(i % 50)
	}
	res := w.mustReplicate(t, w.request(w.checkpoint(t, "dc-a/cp/"+jobA+"/chk-5", files...)))
	if res.Files != smallFiles+1 {
		t.Errorf("Replicate = %+v", res)
	}
	files = append(files[1:], absolute("file:/dc-a/cp/"+jobA+"/shared/new"))
	res = w.mustReplicate(t, w.request(w.checkpoint(t, "dc-a/cp/"+jobA+"/chk-6", files...)))
	if res.FilesSkipped != smallFiles-1 || res.BytesCopied != 100 {
		t.Errorf("Replicate = %+v", res)
	}
}

func TestWhatUserFunctionsKeepInTaskownedIsTakenAlong(t *testing.T) {
	const own = "dc-a/cp/" + jobA + "/taskowned/"
	for name, c := range map[string]struct {
		fault   func(t *testing.T, w *world)
		left    bool
		warning string
	}{
		"there": {func(*testing.T, *world) {}, false, "1 file(s) in taskowned/ are not referred to"},
		"vanishes": {func(t *testing.T, w *world) {
			w.when(faultfs.Open, own+"extra", 1, func() { remove(t, w.src, own+"extra") })
		}, true, "left out"},
		"grows": {func(t *testing.T, w *world) {
			w.when(faultfs.Open, own+"extra", 1, func() { put(t, w.src, own+"extra", make([]byte, 999)) })
		}, true, "left out"},
		"shrinks": {func(t *testing.T, w *world) {
			w.when(faultfs.Open, own+"extra", 1, func() { put(t, w.src, own+"extra", nil) })
		}, true, "left out"},
		"can't be read": {func(_ *testing.T, w *world) {
			w.there.Inject(faultfs.Fault{Op: faultfs.Open, Name: own + "extra", Last: faultfs.Forever, Do: faultfs.Fail(fsutil.ErrUnsupported)})
		}, true, "left out"},
		"_metadata": {func(t *testing.T, w *world) { put(t, w.src, own+"_metadata", nil) }, false, `"_metadata" in taskowned/`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				source := w.checkpoint(t, "dc-a/cp/"+jobA+"/chk-5", absolute("file:/dc-a/cp/"+jobA+"/taskowned/state"), absolute("file:/dc-a/cp/"+jobA+"/shared/f"))
				put(t, w.src, own+"extra", []byte("of a user function"))
				put(t, w.src, own+"job_x_tm_y/segment", []byte("merged, and nobody's"))
				w.fullSource = w.src.CrashClone()
				c.fault(t, w)
				req := w.request(source)
				res := w.mustReplicate(t, req)
				want := []string{"replicas/" + jobA + "/taskowned/extra", "replicas/" + jobA + "/taskowned/state"}
				if c.left {
					want = want[1:]
				}
				if got := names(t, w.dst, "replicas/"+jobA+"/taskowned"); !slices.Equal(got, want) || res.Files != len(want)+2 {
					t.Errorf("taken along: %v, Replicate = %+v", got, res)
				}
				if !slices.ContainsFunc(res.Warnings, func(s string) bool { return strings.Contains(s, c.warning) }) {
					t.Errorf("warnings %q, want %q", res.Warnings, c.warning)
				}
				w.checkAll(t, 1)
				w.calm()
				remove(t, w.src, own+"extra")
				if again := w.mustReplicate(t, req); again.BytesCopied != 0 {
					t.Errorf("again: %+v", again)
				}
				w.checkAll(t, 1)
			})
		})
	}
}

func TestWhatIsNoFileInTaskownedIsLeftOut(t *testing.T) {
	f := one(t, "1.20.0-rocksdb-incremental", "chk-5").private(t)
	dir := filepath.Join(filepath.Dir(f.dir), "taskowned")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for name, link := range map[string]string{"dangling": "nowhere", "outside": "/etc/passwd"} {
		if err := os.Symlink(link, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"no \xff text", "of a user function"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	stores, target := newStores(t), filepath.Join(t.TempDir(), "r")
	req := Request{Source: f.source(), Target: fileURI(target), Maps: f.maps()}
	if res, err := Preview(t.Context(), stores, req); err != nil {
		t.Fatalf("Preview = %+v, %v", res, err)
	}
	res, err := Replicate(t.Context(), stores, req)
	if err != nil {
		t.Fatal(err)
	}
	taken, err := filepath.Glob(filepath.Join(target, res.Job, "taskowned", "*"))
	if err != nil || len(taken) != 1 || filepath.Base(taken[0]) != "of a user function" {
		t.Errorf("taken along: %q, %v", taken, err)
	}
	if report, err := Check(t.Context(), stores, CheckRequest{Dir: mustURI(res.Replica)}); err != nil {
		t.Errorf("Check = %+v, %v", report, err)
	}
}

func TestMetadataThatNobodyCanReadIsAnErrorBeforeAnythingIsWritten(t *testing.T) {
	good := metadataOf(3, "d", []stateFile{relative("f")})
	for name, b := range map[string][]byte{
		"empty":             {},
		"no _metadata":      []byte("<html>"),
		"cut off":           good[:len(good)-1],
		"one byte more":     append(slices.Clone(good), 0),
		"version 1":         append([]byte{0x49, 0x60, 0x67, 0x2d, 0, 0, 0, 1}, good[8:]...),
		"version 99":        append([]byte{0x49, 0x60, 0x67, 0x2d, 0, 0, 0, 99}, good[8:]...),
		"leads outside":     metadataOf(3, "d", []stateFile{relative("../../../../../../f")}),
		"refers to itself":  metadataOf(3, "d", []stateFile{relative("_metadata")}),
		"refers to another": metadataOf(3, "d", []stateFile{absolute("file:/dc-a/cp/" + jobA + "/chk-4/_metadata")}),
		"refers to ours":    metadataOf(3, "d", []stateFile{absolute("file:/dc-a/cp/.ckptferry/manifest/x")}),
		"no scheme":         metadataOf(3, "d", []stateFile{absolute("c:/x")}),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				put(t, w.src, "dc-a/cp/"+jobA+"/chk-5/"+metadataName, b)
				put(t, w.src, "dc-a/cp/"+jobA+"/chk-4/"+metadataName, good)
				put(t, w.src, "dc-a/cp/.ckptferry/manifest/x", make([]byte, 1000))
				res, err := Replicate(t.Context(), w, w.request(mustURI("file:/dc-a/cp/"+jobA+"/chk-5")))
				if err == nil || res.Status != StatusFailed {
					t.Fatalf("Replicate = %+v, %v", res, err)
				}
				if left := names(t, w.dst, "."); len(left) > 0 {
					t.Errorf("%v, and something was written: %v", err, left)
				}
			})
		})
	}
}

func TestTheContextOfADeadCallerStopsAtOnce(t *testing.T) {
	w := newWorld()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Replicate(ctx, w, w.request(w.checkpoint(t, "dc-a/cp/"+jobA+"/chk-5"))); err == nil || len(names(t, w.dst, ".")) > 0 {
		t.Errorf("Replicate: %v", err)
	}
}
