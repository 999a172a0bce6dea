package replicator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
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

// writtenView is a source on which one file is still being written, as HDFS shows that: its length is unknown, Open
// refuses it, its first bytes can be read as far as they are there.
type writtenView struct {
	fsutil.ReadFS
	file string // by its name from the root of all
	have int64  // how many bytes a reader can see
}

func (v writtenView) is(name string) bool {
	return strings.HasSuffix(v.Root().Join(name).Path, v.file)
}

func (v writtenView) Stat(ctx context.Context, name string) (fsutil.FileInfo, error) {
	fi, err := v.ReadFS.Stat(ctx, name)
	if err == nil && v.is(name) {
		fi.Size = 0
	}
	return fi, err
}

func (v writtenView) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	if v.is(name) {
		return nil, fmt.Errorf("open %s: %w", name, fsutil.ErrUnavailable)
	}
	return v.ReadFS.Open(ctx, name, offset)
}

func (v writtenView) OpenPrefix(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	switch {
	case !v.is(name):
		return nil, fmt.Errorf("open %s: %w", name, fs.ErrInvalid)
	case length > v.have:
		return nil, fmt.Errorf("open %s: %w", name, fsutil.ErrUnavailable)
	}
	r, err := v.ReadFS.Open(ctx, name, offset)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(r, length-offset), r}, nil
}

// writtenWorld is a world whose source has one file that is still being written.
type writtenWorld struct {
	*world
	written writtenView
}

func (w *writtenWorld) OpenRead(ctx context.Context, root fsutil.URI) (fsutil.ReadFS, error) {
	opened, err := w.world.OpenRead(ctx, root)
	if err != nil || root.Scheme == "hdfs" {
		return opened, err
	}
	v := w.written
	v.ReadFS = opened
	return v, nil
}

func TestAMergedFileThatFlinkHasOpenIsCopiedAsFarAsItIsReferredTo(t *testing.T) {
	const job = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	const file = "dc-a/cp/" + job + "/shared/job_x_op_y_0_1/m"
	for name, c := range map[string]struct {
		open string // the file that is being written
		have int64
		want error
	}{
		"all is there":                  {open: file, have: 50},
		"not all is to be seen":         {open: file, have: 49, want: fsutil.ErrUnavailable},
		"another file is being written": {open: "another", have: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			source := w.checkpoint(t, "dc-a/cp/"+job+"/chk-1", segment("file:/"+file, 50))
			w.fullSource = w.src.CrashClone()
			ww := &writtenWorld{world: w, written: writtenView{file: c.open, have: c.have}}
			res, err := Replicate(t.Context(), ww, w.request(source))
			if !errors.Is(err, c.want) {
				t.Fatalf("Replicate = %+v, %v; want %v", res, err, c.want)
			}
			_, checked := Check(t.Context(), ww, CheckRequest{Dir: source})
			if !errors.Is(checked, c.want) {
				t.Errorf("Check of the source: %v; want %v", checked, c.want)
			}
			if c.want == nil {
				w.checkAll(t, 1)
			} else if n := w.wholeReplicas(t, w.dst); n != 0 {
				t.Errorf("%d replicas", n)
			}
		})
	}
}

func TestAMergedFileThatIsFinishedAndShortIsBroken(t *testing.T) {
	const job = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	w := newWorld()
	source := w.checkpoint(t, "dc-a/cp/"+job+"/chk-1", segment("file:/dc-a/cp/"+job+"/shared/d/m", 50))
	put(t, w.src, "dc-a/cp/"+job+"/shared/d/m", make([]byte, 49))
	ww := &writtenWorld{world: w, written: writtenView{file: "another"}}
	if _, err := Replicate(t.Context(), ww, w.request(source)); !errors.Is(err, ErrBroken) {
		t.Errorf("Replicate: %v; want ErrBroken", err)
	}
}
