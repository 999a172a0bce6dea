package replicator

import (
	"context"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/fsutil/faultfs"
)

// dieAt makes the n-th writing operation on the target, counted from 1, the last. alive tells afterwards that there
// were no more.
func (w *world) dieAt(n int64) (alive func() bool) {
	var count atomic.Int64
	w.here.Inject(always(func(_ context.Context, c faultfs.Call) error {
		reads := c.Op == faultfs.Open || c.Op == faultfs.Read || c.Op == faultfs.Stat || c.Op == faultfs.List
		if count.Load() > n || !reads && count.Add(1) > n {
			return faultfs.ErrStopped
		}
		return nil
	}))
	return func() bool { return count.Load() <= n }
}

func TestACrashAtAnyOperationLeavesNoReplicaThatIsNotWhole(t *testing.T) {
	after := func(fixture string) func(*testing.T, *world) fsutil.URI {
		return func(t *testing.T, w *world) fsutil.URI {
			source := w.load(t, one(t, fixture, "chk-5"))
			w.mustReplicate(t, w.request(one(t, fixture, "chk-4").named()))
			return source
		}
	}
	for name, c := range map[string]struct {
		batches bool
		load    func(*testing.T, *world) fsutil.URI
	}{
		"with files of an earlier replica":    {false, after("1.20.0-rocksdb-incremental")},
		"with files that grew, in batches":    {true, after("1.20.0-filemerging-across")},
		"with files of every kind":            {false, func(t *testing.T, w *world) fsutil.URI { return w.allKinds(t) }},
		"with files of every kind in batches": {true, func(t *testing.T, w *world) fsutil.URI { return w.allKinds(t) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.batches = c.batches
				req := w.request(c.load(t, w))
				req.Parallel = 2
				if c.batches {
					req.Parallel = 1
				}
				source, target := w.sourceDigests(t), w.dst
				for n := int64(1); ; n++ {
					w.dst = target.CrashClone()
					w.calm()
					w.slow()
					alive := w.dieAt(n)
					_, err := Replicate(t.Context(), w, req)
					w.calm()
					if alive() {
						if err != nil || n < 30 {
							t.Fatalf("Replicate, after %d operations on the target: %v", n, err)
						}
						break
					}
					w.wholeReplicas(t, w.dst)
					// A process that was killed leaves what it wrote; a power loss takes some or all that was not synced.
					switch killed := w.dst; n % 3 {
					case 1:
						w.dst = killed.CrashClone()
					case 2:
						w.dst = killed.CrashCloneRandom(rand.New(rand.NewPCG(1, uint64(n))))
					}
					w.resumeAfterCrash(t, req, n%8 == 0)
				}
				if !maps.Equal(source, w.sourceDigests(t)) {
					t.Fatal("the source was changed")
				}
			})
		})
	}
}

// slow makes every file of the source take a while, so that journals are written between.
func (w *world) slow() {
	w.there.Inject(faultfs.Fault{Op: faultfs.Open, Last: faultfs.Forever, Do: faultfs.Before(func(ctx context.Context, _ faultfs.Call) error {
		return pause(ctx, 700*time.Millisecond)
	})})
}

// resumeAfterCrash looks at what a crash left, runs again, and holds that nothing that was on record was copied again;
// if later is set, also on the next day, when what the dead run left must go.
func (w *world) resumeAfterCrash(t *testing.T, req Request, later bool) {
	t.Helper()
	recorded, needs := recordedSources(t, w.dst), map[string]int64{}
	for _, ref := range handles(t, w.src, strings.TrimPrefix(req.Source.Path, "/"), req.Source.String()) {
		if ref.Segment {
			needs[ref.URI] = ref.Need
		}
	}
	w.calm()
	w.there.Inject(always(func(_ context.Context, c faultfs.Call) error {
		source := "file:/" + c.Name
		if have, ok := recorded[source]; c.Op == faultfs.Open && ok && (needs[source] == 0 || needs[source] == have) {
			t.Errorf("%s was on record and is copied again", source)
		}
		return nil
	}))
	res, err := Replicate(t.Context(), w, req)
	if err != nil || res.Status != StatusReady {
		t.Fatalf("Replicate after the crash = %+v, %v", res, err)
	}
	w.calm()
	if w.wholeReplicas(t, w.dst) == 0 {
		t.Fatal("READY, and there is no replica")
	}
	report, err := Check(t.Context(), w, CheckRequest{Dir: mustURI(res.Replica)})
	if err != nil || !report.Digests {
		t.Fatalf("Check = %+v, %v", report, err)
	}
	if !later {
		return
	}
	// What the dead run was writing is kept for a while, since it may be alive somewhere.
	_ = pause(t.Context(), staleAttempt+time.Hour)
	again := w.mustReplicate(t, req)
	if again.BytesCopied != 0 {
		t.Fatalf("a READY replica was copied again: %+v", again)
	}
	if left := names(t, w.dst, "replicas/"+ownDir+"/journal"); len(left) > 0 {
		t.Fatalf("journals are left: %v", left)
	}
}

// recordedSources are the sources of all files that the journals and manifests of a target tell of, with the most bytes that
// were copied of each.
func recordedSources(t testing.TB, dst *fsutil.Memory) map[string]int64 {
	t.Helper()
	out := map[string]int64{}
	for _, kind := range []string{"journal", "manifest"} {
		for _, name := range names(t, dst, "replicas/"+ownDir+"/"+kind) {
			for line := range strings.Lines(string(get(t, dst, name))) {
				var f struct {
					Source, Name string
					Bytes        int64
				}
				if err := json.Unmarshal([]byte(line), &f); err != nil {
					t.Fatalf("%s: %v: %s", name, err, line)
				}
				if f.Name != "" {
					out[f.Source] = max(out[f.Source], f.Bytes)
				}
			}
		}
	}
	return out
}
