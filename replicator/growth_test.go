package replicator

import (
	"path"
	"strconv"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/fsutil"
)

// checkAll holds that all replicas are whole, by the referee and by Check.
func (w *world) checkAll(t testing.TB, want int) {
	t.Helper()
	if n := w.wholeReplicas(t, w.dst); n != want {
		t.Fatalf("%d replicas, want %d", n, want)
	}
	for _, name := range names(t, w.dst, "replicas") {
		if path.Base(name) == metadataName && !strings.HasPrefix(name, "replicas/"+ownDir) {
			report, err := Check(t.Context(), w, CheckRequest{Dir: mustURI("hdfs://dc-b/" + path.Dir(name))})
			if err != nil || !report.Digests {
				t.Fatalf("Check(%s) = %+v, %v", name, report, err)
			}
		}
	}
}

func TestReplicasOfMergedFilesStayWholeAsTheFilesGrow(t *testing.T) {
	const across = "1.20.0-filemerging-across"
	chks := []string{"chk-3", "chk-4", "chk-5"}
	// Either the source is seen with all that Flink appended up to the end, or as it was at each checkpoint.
	for name, grow := range map[string]bool{"as it was in the end": false, "as it grew": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.load(t, one(t, across, "chk-5"))
			w.fullSource = w.src.CrashClone()
			if grow {
				w.src = fsutil.NewMemory(mustURI("file:/"))
				w.calm()
			}
			lengths := map[string]map[int64]bool{}
			for i, chk := range chks {
				source := one(t, across, chk).named()
				for _, ref := range handles(t, w.fullSource, strings.TrimPrefix(source.Path, "/"), source.String()) {
					if !ref.Segment {
						t.Fatalf("%s is no segment", ref.URI)
					}
					file := strings.TrimPrefix(mustURI(ref.URI).Path, "/")
					if lengths[file] == nil {
						lengths[file] = map[int64]bool{}
					}
					lengths[file][ref.Need] = true
					if grow {
						put(t, w.src, file, get(t, w.fullSource, file)[:ref.Need])
					}
				}
				if grow {
					metadata := strings.TrimPrefix(source.Path, "/") + "/" + metadataName
					put(t, w.src, metadata, get(t, w.fullSource, metadata))
				}
				w.mustReplicate(t, w.request(source))
				w.checkAll(t, i+1)
			}
			grown := 0
			for file, needs := range lengths {
				if len(needs) > 1 {
					grown++
				}
				_, rest, _ := strings.Cut(file, across+"/")
				for n := range needs {
					fi, err := w.dst.Stat(t.Context(), "replicas/"+rest+"."+strconv.FormatInt(n, 10))
					if err != nil || fi.Size != n {
						t.Errorf("%d bytes of %s: %+v, %v", n, file, fi, err)
					}
				}
			}
			if grown < 5 {
				t.Errorf("only %d files grew", grown)
			}
		})
	}
}

func TestAMergedFileThatGrowsWhileItIsCopiedIsCopiedToItsOldEnd(t *testing.T) {
	w := newWorld()
	const job = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	merged := "file:/dc-a/cp/" + job + "/shared/job_x_op_y_0_1/m"
	source := w.checkpoint(t, "dc-a/cp/"+job+"/chk-1", segment(merged, 50))
	w.fullSource = w.src.CrashClone()
	file := "dc-a/cp/" + job + "/shared/job_x_op_y_0_1/m"
	w.when("open", file, 1, func() { put(t, w.src, file, append(get(t, w.src, file), "more"...)) })
	w.mustReplicate(t, w.request(source))
	w.checkAll(t, 1)
}
