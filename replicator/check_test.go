package replicator

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/fsutil/faultfs"
)

func TestCheckFindsEveryKindOfProblemOfAReplica(t *testing.T) {
	manifestOf := func(req Request) string {
		return "replicas/" + ownDir + "/manifest/" + req.Source.Dir().Base() + "/chk-5.jsonl"
	}
	metadataOf := func(req Request) string { return "replicas/" + req.Source.Dir().Base() + "/chk-5/" + metadataName }
	for what, c := range map[string]struct {
		damage func(t *testing.T, w *world, req Request, shared string)
		kind   ProblemKind
		file   func(req Request, shared string) string // as the report names it, below the root
		detail string
		owned  bool
	}{
		"missing": {func(t *testing.T, w *world, _ Request, shared string) { remove(t, w.dst, shared) },
			Missing, func(_ Request, shared string) string { return shared }, "", true},
		"short": {func(t *testing.T, w *world, _ Request, shared string) {
			put(t, w.dst, shared, get(t, w.dst, shared)[1:])
		},
			Short, func(_ Request, shared string) string { return shared }, "", true},
		"longer": {func(t *testing.T, w *world, _ Request, shared string) {
			put(t, w.dst, shared, append(get(t, w.dst, shared), 1))
		},
			Different, func(_ Request, shared string) string { return shared }, "", true},
		"other bytes": {func(t *testing.T, w *world, _ Request, shared string) { flip(t, w.dst, shared, 0) },
			Different, func(_ Request, shared string) string { return shared }, "the manifest records", true},
		"bytes that can't be read right": {func(_ *testing.T, w *world, _ Request, shared string) {
			w.here.Inject(faultfs.Fault{Op: faultfs.Open, Name: shared, Do: faultfs.FailAt(3, fsutil.ErrCorrupt)})
		}, Different, func(_ Request, shared string) string { return shared }, "corrupt", true},
		"gone between two looks": {func(_ *testing.T, w *world, _ Request, shared string) {
			w.here.Inject(faultfs.Fault{Op: faultfs.Open, Name: shared, Do: faultfs.Fail(fs.ErrNotExist)})
		}, Missing, func(_ Request, shared string) string { return shared }, "", true},
		"_metadata that still scans": {func(t *testing.T, w *world, req Request, _ string) {
			b := bytes.Replace(get(t, w.dst, metadataOf(req)), []byte("CURRENT"), []byte("currenT"), 1)
			put(t, w.dst, metadataOf(req), b)
		}, Different, func(req Request, _ string) string { return metadataOf(req) }, "the manifest records", false},
		"_metadata that does not scan": {func(t *testing.T, w *world, req Request, _ string) {
			put(t, w.dst, metadataOf(req), get(t, w.dst, metadataOf(req))[:100])
		}, Different, func(req Request, _ string) string { return metadataOf(req) }, "no Flink can read it", false},
		"the original": {func(t *testing.T, w *world, req Request, _ string) {
			flip(t, w.dst, strings.Replace(manifestOf(req), "manifest", "original", 1)[:len(manifestOf(req))-len(".jsonl")]+"/"+metadataName, 9)
		}, Different, func(req Request, _ string) string {
			return "replicas/" + ownDir + "/original/" + req.Source.Dir().Base() + "/chk-5/" + metadataName
		}, "the manifest records", false},
		"the manifest": {func(t *testing.T, w *world, req Request, _ string) { flip(t, w.dst, manifestOf(req), 400) },
			Different, func(req Request, _ string) string { return manifestOf(req) }, "damaged", false},
		"no manifest": {func(t *testing.T, w *world, req Request, _ string) { remove(t, w.dst, manifestOf(req)) },
			Missing, func(req Request, _ string) string { return manifestOf(req) }, "lost", false},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld()
			req := w.request(w.load(t, one(t, "1.20.0-rocksdb-incremental", "chk-5")))
			res := w.mustReplicate(t, req)
			_, shared := w.aSharedFile(t, req.Source)
			whole, err := Check(t.Context(), w, CheckRequest{Dir: mustURI(res.Replica)})
			if err != nil || len(whole.Problems) > 0 || whole.Files != res.Files || whole.Bytes != res.Bytes {
				t.Fatalf("Check = %+v, %v", whole, err)
			}
			c.damage(t, w, req, shared)
			before := digests(t, w.dst, ".")
			report, err := Check(t.Context(), w, CheckRequest{Dir: mustURI(res.Replica)})
			if !errors.Is(err, ErrVerify) || len(report.Problems) != 1 {
				t.Fatalf("Check = %+v, %v", report, err)
			}
			p := report.Problems[0]
			if p.Kind != c.kind || p.File != "hdfs://dc-b/"+c.file(req, shared) || !strings.Contains(p.Detail, c.detail) || c.owned != (len(p.Owners) > 0) {
				t.Errorf("problem %+v", p)
			}
			if !strings.Contains(p.String(), p.File) || !strings.Contains(p.String(), string(p.Kind)) {
				t.Errorf("as text: %s", p)
			}
			if !maps.Equal(before, digests(t, w.dst, ".")) {
				t.Error("Check has written something")
			}
		})
	}
}

func TestCheckOfAReplicaThatRefersToTheSource(t *testing.T) {
	w := newWorld()
	req := w.request(w.load(t, one(t, "1.20.0-rocksdb-incremental", "chk-5")))
	res := w.mustReplicate(t, req)
	// Somebody has put the source's own _metadata in the place of the replica's, manifest and all: while the source is
	// there, every file is.
	job := req.Source.Dir().Base()
	put(t, w.dst, "replicas/"+job+"/chk-5/"+metadataName, get(t, w.src, strings.TrimPrefix(req.Source.Path, "/")+"/"+metadataName))
	report, err := Check(t.Context(), w, CheckRequest{Dir: mustURI(res.Replica)})
	if !errors.Is(err, ErrVerify) || report.Problems[0].Kind != Outside && report.Problems[0].Kind != Different {
		t.Fatalf("Check = %+v, %v", report, err)
	}
	outside := 0
	for _, p := range report.Problems {
		if p.Kind == Outside {
			outside++
		}
	}
	if outside < 10 {
		t.Errorf("%d files outside: %+v", outside, report.Problems)
	}
}

func TestCheckOfACheckpointThatFlinkWrote(t *testing.T) {
	for _, f := range fixtures(t, "*") {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			stores := newStores(t)
			report, err := Check(t.Context(), stores, CheckRequest{Dir: f.source(), Maps: f.maps()})
			if err != nil || report.Digests || report.Files < 1 {
				t.Fatalf("Check = %+v, %v", report, err)
			}
			f := f.private(t)
			if err := checkOne(t, f, func(string) {}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// checkOne checks a private fixture after something was done to one of the files that it refers to.
func checkOne(t *testing.T, f fixture, do func(path string)) error {
	t.Helper()
	refs, err := scanned(t, f).Refs(f.named().String())
	if err != nil {
		t.Fatal(err)
	}
	if len(refs) == 0 {
		return nil
	}
	do(filepath.Join(f.root, strings.TrimPrefix(mustURI(refs[0].URI).Path, "/dc-a")))
	report, err := Check(t.Context(), newStores(t), CheckRequest{Dir: f.source(), Maps: f.maps()})
	if err != nil && (len(report.Problems) != 1 || report.Problems[0].File != refs[0].URI || len(report.Problems[0].Owners) == 0) {
		t.Errorf("Check = %+v, %v", report, err)
	}
	return err
}

func TestCheckOfABrokenCheckpointThatFlinkWrote(t *testing.T) {
	for _, name := range []string{"1.20.0-rocksdb-incremental", "1.20.0-claimed", "1.20.0-entropy", "1.20.0-changelog", "1.20.0-filemerging", "2.3.0-unaligned"} {
		t.Run(name, func(t *testing.T) {
			f := fixtures(t, name)[0].private(t)
			err := checkOne(t, f, func(path string) {
				if err := os.Truncate(path, 10); err != nil {
					t.Fatal(err)
				}
			})
			if !errors.Is(err, ErrVerify) {
				t.Errorf("a short file: %v", err)
			}
			err = checkOne(t, f, func(path string) {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			})
			if !errors.Is(err, ErrVerify) {
				t.Errorf("a missing file: %v", err)
			}
		})
	}
}

func TestCheckOfNothingIsNotThere(t *testing.T) {
	w := newWorld()
	if _, err := Check(t.Context(), w, CheckRequest{Dir: dcB.Join(aReplica)}); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrVerify) {
		t.Errorf("Check: %v", err)
	}
	put(t, w.dst, "replicas/"+aReplica+"/"+metadataName, []byte("nonsense"))
	if _, err := Check(t.Context(), w, CheckRequest{Dir: dcB.Join(aReplica)}); err == nil {
		t.Error("Check of nonsense: no error")
	}
}

func TestCheckDoesNotTakeAFileSystemThatIsAwayForAMissingFile(t *testing.T) {
	w := newWorld()
	req := w.request(w.load(t, one(t, "1.20.0-rocksdb-incremental", "chk-5")))
	res := w.mustReplicate(t, req)
	there, here := w.aSharedFile(t, req.Source)
	for _, op := range []faultfs.Op{faultfs.Stat, faultfs.Open, faultfs.Read} {
		w.calm()
		w.here.Inject(faultfs.Fault{Op: op, Name: here, Do: faultfs.Fail(fsutil.ErrUnavailable)})
		if _, err := Check(t.Context(), w, CheckRequest{Dir: mustURI(res.Replica)}); !errors.Is(err, fsutil.ErrUnavailable) || errors.Is(err, ErrVerify) {
			t.Errorf("%s: %v", op, err)
		}
	}
	w.there.Inject(faultfs.Fault{Op: faultfs.Stat, Name: there, Do: faultfs.Fail(fsutil.ErrUnavailable)})
	if _, err := Check(t.Context(), w, CheckRequest{Dir: req.Source}); !errors.Is(err, fsutil.ErrUnavailable) || errors.Is(err, ErrVerify) {
		t.Errorf("source: %v", err)
	}
}
