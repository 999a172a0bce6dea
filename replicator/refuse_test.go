package replicator

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/ckptferry/ckptferry/fsutil"
)

// refused holds that a run is refused with a reason, and changes nothing at the target.
func (w *world) refused(t *testing.T, req Request, reason string) {
	t.Helper()
	before := digests(t, w.dst, ".")
	for name, act := range map[string]func() (Result, error){
		"Preview":   func() (Result, error) { return Preview(t.Context(), w, req) },
		"Replicate": func() (Result, error) { return Replicate(t.Context(), w, req) },
	} {
		if res, err := act(); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), reason) || res.Status != StatusFailed {
			t.Errorf("%s = %+v, %v; want a refusal: %s", name, res, err, reason)
		}
	}
	if after := digests(t, w.dst, "."); !maps.Equal(before, after) {
		t.Errorf("the target was changed: %v, was %v", after, before)
	}
}

func TestATargetInFlinksWayIsRefused(t *testing.T) {
	f := one(t, "1.20.0-rocksdb-incremental", "chk-5").private(t)
	job := filepath.Dir(f.dir)
	base := filepath.Dir(job)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(base, link); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"other/base/" + jobA + "/shared", "other/base/" + jobB, "subdir-false/chk-7", "innocent/" + jobA} {
		if err := os.MkdirAll(filepath.Join(f.root, "..", d), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(f.root, "..", "innocent", jobA, "notes"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	around := filepath.Dir(f.root)
	before := tree(t, around)
	for name, c := range map[string]struct{ target, reason string }{
		"the base":                          {base, "below"},
		"below the base":                    {base + "/replicas", "below"},
		"above the base":                    {filepath.Dir(base), "disjoint"},
		"the root of all":                   {"/", "disjoint"},
		"a link to the base":                {link, "below"},
		"below a link to the base":          {link + "/not/there/yet", "below"},
		"the job's directory":               {job, "below"},
		"the checkpoint":                    {f.dir, "below"},
		"another job's base":                {around + "/other/base", "looks like a Flink checkpoint base"},
		"below another job's base":          {around + "/other/base/replicas", "looks like a Flink checkpoint base"},
		"far below another job's base":      {around + "/other/base/a/b/c", "looks like a Flink checkpoint base"},
		"in another job's directory":        {around + "/other/base/" + jobA + "/replicas", "named as Flink names"},
		"named like a job":                  {around + "/other/" + jobA, "named as Flink names"},
		"beside a checkpoint without a job": {around + "/subdir-false/replicas", "looks like a Flink checkpoint base"},
		"a base without job directories":    {around + "/subdir-false", "looks like a Flink checkpoint base"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Replicate(t.Context(), newStores(t), Request{Source: f.source(), Target: fileURI(c.target), Maps: f.maps()})
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.reason) {
				t.Errorf("Replicate: %v; want a refusal: %s", err, c.reason)
			}
			if after := tree(t, around); !maps.Equal(before, after) {
				t.Error("something was written")
			}
		})
	}
	t.Run("beside a directory that only has a job's name", func(t *testing.T) {
		if _, err := Replicate(t.Context(), newStores(t), Request{Source: f.source(), Target: fileURI(around + "/innocent/replicas"), Maps: f.maps()}); err != nil {
			t.Error(err)
		}
	})
	t.Run("in a replica root", func(t *testing.T) {
		_, err := Replicate(t.Context(), newStores(t), Request{Source: f.source(), Target: fileURI(around + "/innocent/replicas/more"), Maps: f.maps()})
		if !errors.Is(err, ErrRefused) {
			t.Errorf("Replicate: %v", err)
		}
	})
}

func TestACheckpointWithoutAJobDirectoryMayGoBesideIt(t *testing.T) {
	w := newWorld()
	source := w.checkpoint(t, "my-job/chk-5", absolute("file:/my-job/shared/f"))
	if err := refuseOverlap(mustURI("file:/replicas"), []fsutil.URI{newLayout(source).flinks()}); err != nil {
		t.Error(err)
	}
	if err := refuseOverlap(mustURI("file:/my-job/replicas"), []fsutil.URI{newLayout(source).flinks()}); !errors.Is(err, ErrRefused) {
		t.Errorf("refuseOverlap: %v", err)
	}
}

func TestWhatIsReadyIsNeverReplacedBySomethingElse(t *testing.T) {
	const chk = "1.20.0-rocksdb-incremental"
	name := func(req Request) string { return "replicas/" + req.Source.Dir().Base() + "/chk-5" }
	for what, c := range map[string]struct {
		change func(t *testing.T, w *world, req *Request)
		reason string
	}{
		"another life of the job": {func(t *testing.T, w *world, req *Request) {
			metadata := strings.TrimPrefix(req.Source.Path, "/") + "/" + metadataName
			put(t, w.src, metadata, get(t, w.src, strings.Replace(metadata, "chk-5", "chk-4", 1)))
			put(t, w.src, strings.TrimPrefix(req.Source.Path, "/")+"/x", nil)
			for _, f := range names(t, w.src, strings.Replace(strings.TrimPrefix(req.Source.Path, "/"), "chk-5", "chk-4", 1)) {
				if !strings.HasSuffix(f, metadataName) {
					put(t, w.src, strings.Replace(f, "chk-4", "chk-5", 1), get(t, w.src, f))
				}
			}
		}, "another checkpoint with the same job id and number"},
		"another --as":    {func(_ *testing.T, _ *world, req *Request) { req.As = mustURI("hdfs://elsewhere/r") }, "Choose another target"},
		"another --paths": {func(_ *testing.T, _ *world, req *Request) { req.Paths = PathsRelative }, "Choose another target"},
		"a _metadata that isn't ours": {func(t *testing.T, w *world, req *Request) {
			remove(t, w.dst, "replicas/"+ownDir+"/manifest/"+req.Source.Dir().Base()+"/chk-5.jsonl")
			put(t, w.dst, name(*req)+"/"+metadataName, []byte("of somebody else"))
		}, "no record of"},
		"a _metadata that has rotted, or was relocated in place": {func(t *testing.T, w *world, req *Request) { flip(t, w.dst, name(*req)+"/"+metadataName, 77) }, "_metadata there has other bytes"},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				req := w.request(w.load(t, one(t, chk, "chk-5")))
				w.mustReplicate(t, req)
				c.change(t, w, &req)
				w.refused(t, req, c.reason)
			})
		})
	}
}

func TestRelativePathsAreRefusedWhereTheyBreakRestores(t *testing.T) {
	for _, f := range []string{"1.20.0-changelog", "1.20.0-changelog-inmem", "1.20.0-changelog-materialized", "1.20.0-filemerging", "1.20.0-filemerging-across", "2.3.0-filemerging"} {
		t.Run(f, func(t *testing.T) {
			w := newWorld()
			req := w.request(w.load(t, fixtures(t, f)[0]))
			req.Paths = PathsRelative
			w.refused(t, req, "use absolute paths")
		})
	}
}

func TestMapsThatContradictEachOtherAreRefused(t *testing.T) {
	w := newWorld()
	w.checkpoint(t, "mnt/x/cp/"+jobA+"/chk-5")
	w.checkpoint(t, "mnt/y/cp/"+jobA+"/chk-5")
	req := w.request(mustURI("file:/mnt/x/cp/" + jobA + "/chk-5"))
	req.Maps = PrefixMaps{{From: mustURI("file:/a"), To: mustURI("file:/mnt/x")}, {From: mustURI("file:/a/cp"), To: mustURI("file:/mnt/y/cp")}}
	w.refused(t, req, "contradict")
}

func TestRequestsThatCantBeAreRefusedBeforeAnythingIsOpened(t *testing.T) {
	for name, req := range map[string]Request{
		"paths":     {Paths: "both"},
		"verify":    {Verify: "none"},
		"parallel":  {Parallel: 5000},
		"negative":  {Parallel: -1},
		"bandwidth": {BytesPerSecond: -1},
	} {
		if err := req.Validate(); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := Replicate(t.Context(), nil, req); err == nil {
			t.Errorf("%s: Replicate went on", name)
		}
		if _, err := Preview(t.Context(), nil, req); err == nil {
			t.Errorf("%s: Preview went on", name)
		}
	}
}

// An agent gives these texts as its reasons: nobody there has a command line to add a flag to.
func TestErrorsNameNoFlags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // a file that is missing is waited for
		w := newWorld()
		source := w.checkpoint(t, "dc-a/cp/"+jobA+"/chk-5", absolute("file:/dc-a/cp/"+jobA+"/shared/f"), absolute("file:/dc-a/cp/"+jobA+"/shared/g"))
		remove(t, w.src, "dc-a/cp/"+jobA+"/shared/f")
		elsewhere := w.checkpoint(t, "dc-a/cp/"+jobB+"/chk-5", absolute("s3://bucket/"+jobB+"/shared/f"))
		for _, c := range []struct {
			source fsutil.URI
			want   error
		}{{source, ErrBroken}, {elsewhere, fsutil.ErrUnsupported}} {
			_, err := Replicate(t.Context(), w, w.request(c.source))
			if !errors.Is(err, c.want) || strings.Contains(err.Error(), "--") {
				t.Errorf("Replicate(%s) = %v", c.source, err)
			}
		}
	})
}
