package replicator

import (
	"errors"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/fsutil/faultfs"
)

// claim marks a replica as the promoter does.
func (w *world) claim(t *testing.T, replica string) {
	t.Helper()
	wrote, err := MarkClaimed(t.Context(), w.targetFS(t), ClaimMark{Replica: replica, Plan: "p1", Actor: "ann", Time: time.Unix(1_790_000_000, 0).UTC()})
	if err != nil || !wrote {
		t.Fatalf("MarkClaimed = %t, %v", wrote, err)
	}
}

func TestMarkIsWholeAndMadeOnce(t *testing.T) {
	w, req, _, _ := twoOfOne(t)
	replica := path.Join(req.Source.Dir().Base(), "chk-4")
	mark := "replicas/.ckptferry/claimed/" + replica + ".json"
	w.here.Inject(faultfs.Fault{Last: faultfs.Forever, Do: faultfs.Fail(fsutil.ErrUnavailable)})
	if _, err := MarkClaimed(t.Context(), w.targetFS(t), ClaimMark{Replica: replica}); !errors.Is(err, fsutil.ErrUnavailable) {
		t.Fatalf("on storage that does not answer: %v", err)
	}
	w.calm()
	w.claim(t, replica)
	before := get(t, w.dst, mark)
	for _, want := range []string{`"replica":"` + replica + `"`, `"plan":"p1"`, `"actor":"ann"`, `"time":"2026-09-21T`} {
		if !strings.Contains(string(before), want) {
			t.Errorf("the mark %s lacks %s", before, want)
		}
	}
	if wrote, err := MarkClaimed(t.Context(), w.targetFS(t), ClaimMark{Replica: replica, Plan: "p2"}); err != nil || wrote {
		t.Errorf("marked twice: %t, %v", wrote, err)
	}
	if string(get(t, w.dst, mark)) != string(before) {
		t.Error("the first mark is gone")
	}
	if left := names(t, w.dst, "replicas/"+ownDir+"/tmp"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	for range 2 {
		if err := UnmarkClaimed(t.Context(), w.targetFS(t), replica); err != nil {
			t.Error(err)
		}
	}
	if left := names(t, w.dst, "replicas/"+ownDir+"/claimed"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	for _, name := range []string{"", "..", ".ckptferry/chk-1", "a/b/c"} {
		if _, err := MarkClaimed(t.Context(), w.targetFS(t), ClaimMark{Replica: name}); !errors.Is(err, ErrRefused) {
			t.Errorf("mark of %q: %v", name, err)
		}
	}
}

// Flink deletes what it claimed without a word: what only a claimed replica vouches for is read, also with VerifyCopied, and
// nothing takes the place of what Flink has.
func TestClaimedReplicaVouchesForNothing(t *testing.T) {
	for what, damage := range rot {
		t.Run(what, func(t *testing.T) {
			w, req, there, here := twoOfOne(t)
			w.claim(t, path.Join(req.Source.Dir().Base(), "chk-4"))
			damage(t, w.dst, here)
			req.Verify = VerifyCopied
			res, err := Replicate(t.Context(), w, req)
			if err != nil {
				t.Fatal(err)
			}
			if string(get(t, w.dst, here)) != string(get(t, w.src, there)) {
				t.Error("the file was believed by its length")
			}
			if _, err := Check(t.Context(), w, CheckRequest{Dir: mustURI(res.Replica)}); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("another file at the source", func(t *testing.T) {
		w, req, there, here := twoOfOne(t)
		w.claim(t, path.Join(req.Source.Dir().Base(), "chk-4"))
		before := get(t, w.dst, here)
		put(t, w.src, there, append([]byte("other"), get(t, w.src, there)[5:]...))
		if _, err := Replicate(t.Context(), w, req); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "chk-4") {
			t.Errorf("Replicate: %v", err)
		}
		if string(get(t, w.dst, here)) != string(before) {
			t.Error("a file of Flink's was replaced")
		}
	})
}

func TestReplicaBesideAClaimedOneSaysSo(t *testing.T) {
	w, req, _, _ := twoOfOne(t)
	job := req.Source.Dir().Base()
	dir := func(name string) fsutil.URI { return dcB.Join(path.Join(job, name)) }
	if res := w.mustReplicate(t, req); res.AtRisk != "" {
		t.Fatalf("at risk without any claim: %s", res.AtRisk)
	}
	w.claim(t, path.Join(job, "chk-4"))
	res := w.mustReplicate(t, req) // READY already
	if !strings.Contains(res.AtRisk, "chk-4") || !slices.Contains(res.Warnings, res.AtRisk) {
		t.Errorf("Replicate = %+v", res)
	}
	older := w.request(one(t, "1.20.0-rocksdb-incremental", "chk-4").named())
	// Who makes the claimed one again knows nothing of the claim: it must not go on record as one to start from.
	if res := w.mustReplicate(t, older); !strings.Contains(res.AtRisk, "this very replica") || !slices.Contains(res.Warnings, res.AtRisk) {
		t.Errorf("Replicate of the claimed one = %+v", res)
	}
	look := func() map[string]Standing {
		found := map[string]Standing{}
		err := Survey(t.Context(), w, SurveyRequest{Root: dcB}, func(s Surveyed) error {
			if s.Problem != "" {
				t.Errorf("%s: %s", s.Replica, s.Problem)
			}
			found[path.Base(s.Replica)] = s.Standing
			alone, err := StandingOf(t.Context(), w, s.Dir)
			if err != nil || alone != s.Standing {
				t.Errorf("StandingOf %s = %+v, %v; the survey has %+v", s.Dir, alone, err, s.Standing)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	found := look()
	if s := found["chk-4"]; !s.Claimed || s.AtRisk != "" {
		t.Errorf("chk-4: %+v", s)
	}
	if s := found["chk-5"]; s.Claimed || !strings.Contains(s.AtRisk, "chk-4") {
		t.Errorf("chk-5: %+v", s)
	}
	// What is in a mark doesn't count, nor does Flink's own deletion of what it claimed.
	put(t, w.dst, "replicas/.ckptferry/claimed/"+job+"/chk-4.json", nil)
	remove(t, w.dst, "replicas/"+job+"/chk-4")
	if s, err := StandingOf(t.Context(), w, dir("chk-5")); err != nil || s.AtRisk == "" {
		t.Errorf("after Flink deleted chk-4: %+v, %v", s, err)
	}
	if s, err := StandingOf(t.Context(), w, mustURI("hdfs://dc-b/")); err != nil || s != (Standing{}) {
		t.Errorf("of no replica: %+v, %v", s, err)
	}
}

// Who borrows from a job is at risk by a claim there, and puts that job's replicas at risk when it is claimed itself.
func TestClaimReachesAsFarAsTheFiles(t *testing.T) {
	w, req, _, _ := twoOfOne(t)
	w.mustReplicate(t, req)
	job, other := req.Source.Dir().Base(), strings.Repeat("b", 32)
	// A replica of another JobID whose manifest says that it needs a file of the first one.
	here := "replicas/" + ownDir + "/"
	borrowing := other + "/chk-1"
	put(t, w.dst, here+"borrowed/"+job+"/"+shortDigest([]byte(borrowing)), []byte(borrowing))
	standing := func(replica string, tops ...string) Standing {
		t.Helper()
		c, err := readClaims(t.Context(), w.targetFS(t))
		if err != nil {
			t.Fatal(err)
		}
		set := map[string]bool{}
		for _, top := range tops {
			set[top] = true
		}
		s, err := c.standing(t.Context(), replica, set)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	w.claim(t, borrowing)
	if s := standing(job+"/chk-5", job); !strings.Contains(s.AtRisk, borrowing) {
		t.Errorf("the lender's replica: %+v", s)
	}
	if s := standing(borrowing, other, job); !s.Claimed || s.AtRisk != "" {
		t.Errorf("the borrower: %+v", s)
	}
	if err := UnmarkClaimed(t.Context(), w.targetFS(t), borrowing); err != nil {
		t.Fatal(err)
	}
	w.claim(t, job+"/chk-4")
	if s := standing(borrowing, other, job); !strings.Contains(s.AtRisk, "chk-4") {
		t.Errorf("the borrower, and the lender is claimed: %+v", s)
	}
	if s := standing(other+"/chk-2", other); s != (Standing{}) {
		t.Errorf("one that borrows nothing: %+v", s)
	}
}

// A sweep takes nothing of what is Flink's, also after Flink has deleted part of it, and with the group's record lost.
func TestSweepLeavesAClaimedReplicaAlone(t *testing.T) {
	for _, what := range []string{"as it was", "without _metadata", "with a directory that Flink made"} {
		t.Run(what, func(t *testing.T) {
			w, req, _, _ := twoOfOne(t)
			w.mustReplicate(t, req)
			job := req.Source.Dir().Base()
			w.claim(t, job+"/chk-4")
			if _, err := RemoveReplica(t.Context(), w.targetFS(t), removeRequest(t, w, job+"/chk-5")); err != nil {
				t.Fatal(err)
			}
			needed := map[string]string{}
			if _, err := readManifest(t.Context(), w.targetFS(t), job+"/chk-4", func(f ManifestFile) error {
				needed["replicas/"+f.Name] = ""
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			flinks := ""
			switch what {
			case "without _metadata":
				remove(t, w.dst, "replicas/"+job+"/chk-4/"+metadataName)
			case "with a directory that Flink made":
				flinks = "replicas/" + job + "/chk-9/" + metadataName
				put(t, w.dst, flinks, []byte("Flink's"))
			}
			before := digests(t, w.dst, "replicas/"+job)
			_, err := sweepAll(t.Context(), w.targetFS(t), SweepConfig{})
			if flinks != "" && !errors.Is(err, ErrUnsure) || flinks == "" && err != nil {
				t.Fatalf("sweep: %v", err)
			}
			after := digests(t, w.dst, "replicas/"+job)
			for name := range before {
				if _, of := needed[name]; of && after[name] != before[name] {
					t.Errorf("%s is Flink's, and gone", name)
				}
			}
			switch swept := len(before) - len(after); {
			case flinks != "" && !maps.Equal(before, after):
				t.Error("something beside a checkpoint of Flink's own was swept away")
			case flinks == "" && swept == 0:
				t.Error("nothing was swept: the test proves nothing")
			}
			if got := names(t, w.dst, "replicas/"+ownDir+"/claimed"); len(got) != 1 {
				t.Errorf("marks after the sweep: %v", got)
			}
		})
	}
}
