package replicator

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/fsutil/faultfs"
)

// manyFiles is a checkpoint with enough files for several shares, one of them larger than the others together.
func (w *world) manyFiles(t testing.TB) fsutil.URI {
	t.Helper()
	job := "file:/dc-a/cp/" + jobA
	large := absolute(job + "/shared/large")
	large.size = 5000
	files := []stateFile{large}
	for i := range 12 {
		files = append(files, relative(fmt.Sprintf("x%02d", i)), absolute(fmt.Sprintf("%s/shared/s%02d", job, i)))
	}
	return w.checkpoint(t, "dc-a/cp/"+jobA+"/chk-5", files...)
}

// opened counts how often each file was opened, _metadata aside.
func opened(f *faultfs.FS, prefix string) map[string]int {
	out := map[string]int{}
	for _, c := range f.Calls() {
		if c.Op == faultfs.Open && strings.HasPrefix(c.Name, prefix) && !strings.HasSuffix(c.Name, metadataName) {
			out[c.Name]++
		}
	}
	return out
}

// replicateShares runs the given shares of a request at the same time.
func (w *world) replicateShares(t testing.TB, req Request, of int, which ...int) {
	t.Helper()
	var group errgroup.Group
	for _, i := range which {
		group.Go(func() error {
			mine := req
			mine.Share = &Share{Index: i, Of: of}
			res, err := Replicate(t.Context(), w, mine)
			if err == nil && res.Status != StatusCopied {
				err = fmt.Errorf("share %d = %+v", i, res)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestSharesAndTheRunThatPublishesCopyEachFileOnce(t *testing.T) {
	for name, c := range map[string]struct {
		batches bool
		missing int // a share that nobody copies; -1: none
	}{
		"all shares":               {false, -1},
		"all shares in batches":    {true, -1},
		"a share that is missing":  {false, 1},
		"a missing one in batches": {true, 2},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.batches = c.batches
			req := w.request(w.manyFiles(t))
			req.Parallel = 1
			const of = 3
			which := slices.DeleteFunc([]int{0, 1, 2}, func(i int) bool { return i == c.missing })
			w.replicateShares(t, req, of, which...)
			if n := w.wholeReplicas(t, w.dst); n != 0 {
				t.Fatalf("shares have published %d replicas", n)
			}
			shared := opened(w.there, "dc-a/")
			before := len(w.here.Calls())
			req.TrustJournal = true
			res := w.mustReplicate(t, req)
			for name, n := range opened(w.there, "dc-a/") {
				if n != 1 {
					t.Errorf("%s was read %d times at the source", name, n)
				}
			}
			if len(opened(w.there, "dc-a/")) != res.Files-1 {
				t.Errorf("%d files were read, the replica has %d", len(opened(w.there, "dc-a/")), res.Files)
			}
			if c.missing < 0 && res.BytesCopied != 0 || c.missing >= 0 && (res.BytesCopied == 0 || res.FilesSkipped != len(shared)) {
				t.Errorf("the run that publishes: %+v", res)
			}
			for _, call := range w.here.Calls()[before:] {
				if call.Op == faultfs.Open && strings.HasPrefix(call.Name, "replicas/"+jobA+"/") && !strings.HasSuffix(call.Name, metadataName) {
					t.Errorf("%s was read back a second time", call.Name)
				}
			}
			w.checkAll(t, 1)
		})
	}
}

// Two shares that can't know of each other's plan: what is in both is copied twice, what is in neither by the last run.
func TestSharesOfDifferentPlansMissNothing(t *testing.T) {
	w := newWorld()
	source := w.manyFiles(t)
	w.replicateShares(t, w.request(source), 2, 0)
	put(t, w.src, "dc-a/cp/"+jobA+"/taskowned/new", make([]byte, 3000))
	w.replicateShares(t, w.request(source), 2, 1)
	remove(t, w.src, "dc-a/cp/"+jobA+"/taskowned/new")
	req := w.request(source)
	req.TrustJournal = true
	w.mustReplicate(t, req)
	w.checkAll(t, 1)
}

func TestWithoutTrustEverythingIsReadBackAgain(t *testing.T) {
	w := newWorld()
	req := w.request(w.manyFiles(t))
	w.replicateShares(t, req, 1, 0)
	w.calm()
	flip(t, w.dst, "replicas/"+jobA+"/shared/large", 77)
	if res := w.mustReplicate(t, req); res.BytesCopied != 5000 {
		t.Errorf("Replicate = %+v; want the file copied that was damaged meanwhile", res)
	}
}

func modTimeIn(t testing.TB, line string) time.Time {
	t.Helper()
	var f ManifestFile
	if err := json.Unmarshal([]byte(line), &f); err != nil {
		t.Fatal(err)
	}
	return f.ModTime
}

// A journal is believed for what the source has now, and what the target has.
func TestTrustEndsWhereThingsChanged(t *testing.T) {
	for name, change := range map[string]func(*testing.T, *world){
		"the source's file": func(t *testing.T, w *world) {
			put(t, w.src, "dc-a/cp/"+jobA+"/shared/s03", []byte(strings.Repeat("other", 20)))
		},
		"the copy's length": func(t *testing.T, w *world) { put(t, w.dst, "replicas/"+jobA+"/shared/s03", []byte("short")) },
		"the copy is gone":  func(t *testing.T, w *world) { remove(t, w.dst, "replicas/"+jobA+"/shared/s03") },
		"two journals that differ": func(t *testing.T, w *world) {
			for _, name := range names(t, w.dst, "replicas/"+ownDir+"/journal") {
				if b := string(get(t, w.dst, name)); strings.Contains(b, "/shared/s03") {
					lines := strings.SplitAfter(b, "\n")
					i := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "/shared/s03") })
					var out strings.Builder
					m := manifestWriter{w: &out}
					if err := m.file(ManifestFile{Name: jobA + "/shared/s03", Source: "file:/dc-a/cp/" + jobA + "/shared/s03", Bytes: 100, CRC: 1, ModTime: modTimeIn(t, lines[i])}); err != nil {
						t.Fatal(err)
					}
					if err := m.close(); err != nil {
						t.Fatal(err)
					}
					put(t, w.dst, name+"-other.jsonl", []byte(out.String()))
					return
				}
			}
			t.Fatal("no journal has the file")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				req := w.request(w.manyFiles(t))
				w.replicateShares(t, req, 1, 0)
				_ = pause(t.Context(), time.Second) // the source's files have the time of their last change
				change(t, w)
				w.calm()
				req.TrustJournal = true
				w.mustReplicate(t, req)
				if opened(w.there, "dc-a/")["dc-a/cp/"+jobA+"/shared/s03"] != 1 {
					t.Error("the file was not copied again")
				}
				w.checkAll(t, 1)
			})
		})
	}
}

func TestACrashOfAShareAtAnyOperationLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		req := w.request(w.allKinds(t))
		req.Parallel = 2
		source := w.sourceDigests(t)
		for n := int64(1); ; n++ {
			w.dst = fsutil.NewMemory(mustURI("hdfs://dc-b/"))
			w.calm()
			w.batches = n%2 == 0
			w.replicateShares(t, req, 2, 0)
			w.slow()
			alive := w.dieAt(n)
			mine := req
			mine.Share = &Share{Index: 1, Of: 2}
			_, err := Replicate(t.Context(), w, mine)
			w.calm()
			if alive() {
				if err != nil || n < 10 {
					t.Fatalf("Replicate, after %d operations on the target: %v", n, err)
				}
				break
			}
			if w.wholeReplicas(t, w.dst) != 0 {
				t.Fatal("a share has published")
			}
			switch killed := w.dst; n % 3 {
			case 1:
				w.dst = killed.CrashClone()
			case 2:
				w.dst = killed.CrashCloneRandom(rand.New(rand.NewPCG(2, uint64(n))))
			}
			last := req
			last.TrustJournal = true
			w.resumeAfterCrash(t, last, n%8 == 0)
		}
		if !maps.Equal(source, w.sourceDigests(t)) {
			t.Fatal("the source was changed")
		}
	})
}

func TestAShareThatCouldNotBeRecordedIsNotCopied(t *testing.T) {
	w := newWorld()
	req := w.request(w.manyFiles(t))
	req.Share = &Share{Index: 0, Of: 2}
	w.here.Inject(faultfs.Fault{Op: faultfs.Rename, Name: "replicas/" + ownDir + "/journal/" + jobA + "/chk-5/*", Last: faultfs.Forever, Do: faultfs.Fail(fsutil.ErrNoSpace)})
	if res, err := Replicate(t.Context(), w, req); !errors.Is(err, fsutil.ErrNoSpace) || res.Status != StatusFailed {
		t.Errorf("Replicate = %+v, %v", res, err)
	}
}

func TestSharesAreBalancedAndTheSameEverywhere(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		p := &plan{}
		var largest int64
		for i := range 1 + r.IntN(200) {
			f := planFile{target: fmt.Sprintf("j/shared/%d", i), bytes: r.Int64N(1 << (1 + r.IntN(35)))}
			largest = max(largest, f.bytes+fileCostBytes)
			p.files = append(p.files, f)
		}
		of := 1 + r.IntN(7)
		first := map[string]int{}
		loads := make([]int64, of)
		for i, k := range p.shares(of) {
			first[p.files[i].target] = k
			loads[k] += p.files[i].bytes + fileCostBytes
		}
		if slices.Max(loads)-slices.Min(loads) > largest {
			t.Fatalf("%d files in %d shares: %v", len(p.files), of, loads)
		}
		r.Shuffle(len(p.files), func(i, j int) { p.files[i], p.files[j] = p.files[j], p.files[i] })
		for i, k := range p.shares(of) {
			if first[p.files[i].target] != k {
				t.Fatal("another order of the plan gives other shares")
			}
		}
	}
	for _, s := range []Share{{0, 0}, {-1, 2}, {2, 2}, {0, sharesMost + 1}} {
		if err := (Request{Share: &s}).Validate(); err == nil {
			t.Errorf("share %+v is accepted", s)
		}
	}
}
