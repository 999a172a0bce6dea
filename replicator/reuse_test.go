package replicator

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/fsutil/faultfs"
)

// twoOfOne puts a job with two checkpoints into a world, replicates the older, and gives the request for the newer and
// one shared file of both.
func twoOfOne(t *testing.T) (w *world, newer Request, there, here string) {
	t.Helper()
	w = newWorld()
	older := w.load(t, one(t, "1.20.0-rocksdb-incremental", "chk-4"))
	w.mustReplicate(t, w.request(older))
	newer = w.request(one(t, "1.20.0-rocksdb-incremental", "chk-5").named())
	for _, ref := range handles(t, w.src, strings.TrimPrefix(newer.Source.Path, "/"), newer.Source.String()) {
		there = strings.TrimPrefix(mustURI(ref.URI).Path, "/")
		if _, rest, ok := strings.Cut(there, "1.20.0-rocksdb-incremental/"); ok && ref.Need > 1000 {
			if here = "replicas/" + rest; len(names(t, w.dst, here[:strings.LastIndexByte(here, '/')])) > 0 {
				if _, err := w.dst.Stat(t.Context(), here); err == nil {
					return w, newer, there, here
				}
			}
		}
	}
	t.Fatal("the two checkpoints share nothing")
	return nil, Request{}, "", ""
}

// rot is what may have happened to a shared file at the target since.
var rot = map[string]func(t *testing.T, m *fsutil.Memory, name string){
	"a bit flipped": func(t *testing.T, m *fsutil.Memory, name string) { flip(t, m, name, 500) },
	"cut off":       func(t *testing.T, m *fsutil.Memory, name string) { put(t, m, name, get(t, m, name)[:100]) },
	"longer":        func(t *testing.T, m *fsutil.Memory, name string) { put(t, m, name, append(get(t, m, name), 0)) },
	"removed":       func(t *testing.T, m *fsutil.Memory, name string) { remove(t, m, name) },
}

func TestASharedFileThatRottedIsRepairedByTheNextReplica(t *testing.T) {
	for what, damage := range rot {
		for _, verify := range []VerifyMode{VerifyAll, VerifyCopied} {
			t.Run(what+", verify "+string(verify), func(t *testing.T) {
				w, req, there, here := twoOfOne(t)
				damage(t, w.dst, here)
				req.Verify = verify
				res, err := Replicate(t.Context(), w, req)
				if err != nil {
					t.Fatal(err)
				}
				if what == "a bit flipped" && verify == VerifyCopied {
					// The one thing that VerifyCopied can't see. Check does.
					if _, err := Check(t.Context(), w, CheckRequest{Dir: mustURI(res.Replica)}); !errors.Is(err, ErrVerify) {
						t.Errorf("Check: %v", err)
					}
					req.Verify = VerifyAll
					w.mustReplicate(t, req)
				}
				if string(get(t, w.dst, here)) != string(get(t, w.src, there)) {
					t.Error("it was not repaired")
				}
				w.checkAll(t, 2)
			})
		}
	}
}

func TestAReadyReplicaThatRottedIsRepairedByTheSameRunAgain(t *testing.T) {
	for _, kind := range []string{"exclusive", "manifest", "original"} {
		for what, damage := range rot {
			t.Run(kind+" "+what, func(t *testing.T) {
				w, req, _, _ := twoOfOne(t)
				first := w.mustReplicate(t, req)
				job := req.Source.Dir().Base()
				file := map[string]string{
					"manifest": "replicas/" + ownDir + "/manifest/" + job + "/chk-5.jsonl",
					"original": "replicas/" + ownDir + "/original/" + job + "/chk-5/" + metadataName,
				}[kind]
				if file == "" {
					for _, name := range names(t, w.dst, "replicas/"+job+"/chk-5") {
						if !strings.HasSuffix(name, metadataName) {
							file = name
						}
					}
				}
				damage(t, w.dst, file)
				if _, err := Check(t.Context(), w, CheckRequest{Dir: mustURI(first.Replica)}); !errors.Is(err, ErrVerify) {
					t.Fatalf("Check: %v", err)
				}
				w.mustReplicate(t, req)
				w.checkAll(t, 2)
			})
		}
	}
}

func TestASourceFileThatChangedUnderAReadyReplicaIsRefused(t *testing.T) {
	for _, manifest := range []string{"readable", "damaged"} {
		t.Run(manifest+" manifest", func(t *testing.T) {
			w, req, there, here := twoOfOne(t)
			w.fullSource = w.src.CrashClone()
			if manifest == "damaged" {
				flip(t, w.dst, "replicas/"+ownDir+"/manifest/"+req.Source.Dir().Base()+"/chk-4.jsonl", 1000)
			}
			before := get(t, w.dst, here)
			put(t, w.src, there, append([]byte("other"), get(t, w.src, there)[5:]...))
			_, err := Replicate(t.Context(), w, req)
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), there) || !strings.Contains(err.Error(), "chk-4") {
				t.Fatalf("Replicate: %v", err)
			}
			if string(get(t, w.dst, here)) != string(before) || w.wholeReplicas(t, w.dst) != 1 {
				t.Error("the READY replica was changed")
			}
		})
	}
}

func TestADamagedManifestCostsCopyingAgainAndAWarning(t *testing.T) {
	w, req, _, _ := twoOfOne(t)
	flip(t, w.dst, "replicas/"+ownDir+"/manifest/"+req.Source.Dir().Base()+"/chk-4.jsonl", 1000)
	res := w.mustReplicate(t, req)
	if res.FilesSkipped != 0 || len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], "chk-4.jsonl") {
		t.Errorf("Replicate = %+v", res)
	}
	w.wholeReplicas(t, w.dst)
}

func TestADryRunSaysWhatARunDoesAndWritesNothing(t *testing.T) {
	for _, f := range fixtures(t, "1.20.0-[c-h]*") {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				req := w.request(w.load(t, f))
				for range 2 { // nothing there; everything there
					before := digests(t, w.dst, ".")
					planned, err := Preview(t.Context(), w, req)
					if err != nil || planned.Status != StatusPlanned {
						t.Fatalf("Preview = %+v, %v", planned, err)
					}
					if !maps.Equal(before, digests(t, w.dst, ".")) {
						t.Fatal("the dry run wrote something")
					}
					for _, c := range w.here.Calls() {
						if c.Op != faultfs.Open && c.Op != faultfs.Read && c.Op != faultfs.Stat && c.Op != faultfs.List {
							t.Fatalf("the dry run did %v", c)
						}
					}
					req.Meter = &Meter{}
					res := w.mustReplicate(t, req)
					w.calm()
					copied := req.Meter.BytesDone.Load() - skippedBytes(res, req.Meter)
					if planned.FilesSkipped != res.FilesSkipped || planned.Files != res.Files || planned.Bytes != res.Bytes ||
						planned.BytesToCopy != copied || planned.Replica != res.Replica || planned.Manifest != res.Manifest {
						t.Errorf("Preview = %+v\nReplicate = %+v, copied %d", planned, res, copied)
					}
				}
			})
		})
	}
}

// skippedBytes is what a run that copied all or nothing has skipped.
func skippedBytes(res Result, m *Meter) int64 {
	if res.FilesSkipped > 0 {
		return m.Bytes.Load()
	}
	return 0
}

func TestADryRunWithSharedFilesSaysHowMuchIsNew(t *testing.T) {
	w, req, _, _ := twoOfOne(t)
	planned, err := Preview(t.Context(), w, req)
	if err != nil {
		t.Fatal(err)
	}
	res := w.mustReplicate(t, req)
	if planned.BytesToCopy != res.BytesCopied || planned.FilesSkipped != res.FilesSkipped || res.FilesSkipped == 0 || planned.BytesCopied != 0 {
		t.Errorf("Preview = %+v\nReplicate = %+v", planned, res)
	}
}

func TestAReplicaForAnotherNameOfTheTarget(t *testing.T) {
	w := newWorld()
	req := w.request(w.load(t, one(t, "1.20.0-claimed", "chk-8")))
	req.As = mustURI("hdfs://dc-b/mounted/elsewhere")
	res, err := Replicate(t.Context(), w, req)
	if err != nil || !strings.HasPrefix(res.Replica, req.As.String()+"/") || !strings.HasPrefix(res.Manifest, req.As.String()+"/") {
		t.Fatalf("Replicate = %+v, %v", res, err)
	}
	// Reached as it was written, it is whole, although its files are named elsewhere.
	reached := dcB.Join(strings.TrimPrefix(res.Replica, req.As.String()))
	if report, err := Check(t.Context(), w, CheckRequest{Dir: reached}); err != nil || !report.Digests {
		t.Fatalf("Check = %+v, %v", report, err)
	}
	raw := get(t, w.dst, strings.TrimPrefix(reached.Path, "/")+"/"+metadataName)
	if found, err := LookUp(t.Context(), w, LookupRequest{Dir: reached, Raw: raw}); err != nil || found.Path != res.Replica || len(found.Advice) > 0 {
		t.Errorf("LookUp = %+v, %v; want %s without advice", found, err, res.Replica)
	}
	// And moved to where it is named, it is whole to the referee as well.
	for _, name := range names(t, w.dst, "replicas") {
		put(t, w.dst, strings.Replace(name, "replicas", "mounted/elsewhere", 1), get(t, w.dst, name))
	}
	if report, err := Check(t.Context(), w, CheckRequest{Dir: mustURI(res.Replica)}); err != nil || !report.Digests {
		t.Fatalf("Check = %+v, %v", report, err)
	}
}
