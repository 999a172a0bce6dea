package replicator

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"path"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
)

// endless is a source that has every file below shared/, of 16 bytes, and holds none of them in memory.
type endless struct {
	root     fsutil.URI
	metadata []byte
}

func (e *endless) Root() fsutil.URI { return e.root }

func (e *endless) content(name string) ([]byte, error) {
	switch {
	case strings.HasSuffix(name, "/"+metadataName):
		return e.metadata, nil
	case strings.Contains(name, "/shared/"):
		return []byte(name[len(name)-16:]), nil
	}
	return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
}

func (e *endless) Open(_ context.Context, name string, _ int64) (io.ReadCloser, error) {
	b, err := e.content(name)
	return io.NopCloser(bytes.NewReader(b)), err
}

func (e *endless) Stat(_ context.Context, name string) (fsutil.FileInfo, error) {
	b, err := e.content(name)
	return fsutil.FileInfo{Name: path.Base(name), Size: int64(len(b))}, err
}

func (e *endless) List(ctx context.Context, dir string) ([]fsutil.FileInfo, error) {
	if !strings.HasSuffix(dir, "/shared") {
		return nil, fmt.Errorf("list %s: %w", dir, fs.ErrNotExist)
	}
	infos := make([]fsutil.FileInfo, manyFiles)
	for i := range infos {
		infos[i] = fsutil.FileInfo{Name: manyName(i), Size: 16}
	}
	return infos, ctx.Err()
}

func manyName(i int) string { return fmt.Sprintf("%08x-1111-4111-8111-%012x", i, i) }

// liveHeap is what the last garbage collection has found in use.
func liveHeap() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// watchLiveHeap gives the highest live heap while a run plans and copies, until stop is called. Publishing streams, but
// for a target in memory the manifest is a large slice that grows.
func watchLiveHeap(m *Meter) (stop func() uint64) {
	quit, peak := make(chan struct{}), make(chan uint64)
	go func() {
		most := uint64(0)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if m.Phase() < PhasePublish {
					most = max(most, liveHeap())
				}
			case <-quit:
				peak <- most
				return
			}
		}
	}()
	return func() uint64 {
		close(quit)
		return <-peak
	}
}

func liveHeapNow() uint64 {
	runtime.GC()
	return liveHeap()
}

type endlessWorld struct {
	there *endless
	here  *fsutil.Memory
}

func (w endlessWorld) Open(_ context.Context, root fsutil.URI) (fsutil.FS, error) {
	return &view{root: root, at: strings.TrimPrefix(root.Path, "/"), all: w.here}, nil
}

func (w endlessWorld) OpenRead(_ context.Context, root fsutil.URI) (fsutil.ReadFS, error) {
	if root.Scheme == "file" {
		return w.there, nil
	}
	return &view{root: root, at: or(strings.TrimPrefix(root.Path, "/"), "."), all: w.here}, nil
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// TestMemoryIsBoundedByTheSizeOfMetadata replicates a checkpoint with very many files. Only runs after the first are
// measured, in which the target in memory does not grow until they publish.
func TestMemoryIsBoundedByTheSizeOfMetadata(t *testing.T) {
	const n = manyFiles
	// What is allocated while a collection marks counts as live: it is less when the collector is kept close.
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	dir, files := "dc-a/cp/"+jobA+"/chk-5", make([]stateFile, n)
	for i := range files {
		files[i] = absolute("file:/dc-a/cp/" + jobA + "/shared/" + manyName(i))
		files[i].size = 16
	}
	w := endlessWorld{&endless{root: mustURI("file:/dc-a/cp"), metadata: metadataOf(3, dir, files)}, fsutil.NewMemory(mustURI("hdfs://dc-b/"))}
	req := Request{Source: mustURI("file:/" + dir), Target: dcB, Meter: &Meter{}}
	if res, err := Replicate(t.Context(), w, req); err != nil || res.Files != n+1 || res.FilesSkipped != 0 {
		t.Fatalf("Replicate = %+v, %v", res, err)
	}
	for _, chk := range []string{"chk-5", "chk-6"} {
		req.Source.Path = path.Join(path.Dir(req.Source.Path), chk)
		before := liveHeapNow()
		stop := watchLiveHeap(req.Meter)
		res, err := Replicate(t.Context(), w, req)
		ours := int64(stop()) - int64(before)
		if err != nil || res.Files != n+1 || res.FilesSkipped < n {
			t.Fatalf("%s: Replicate = %+v, %v", chk, res, err)
		}
		t.Logf("%s: %d files, _metadata %d KiB: live heap %d KiB at its peak, in %s", chk, n, len(w.there.metadata)>>10, ours>>10, res.Duration)
		if limit := int64(2*DefaultParallel*copyBufferBytes + n*800); ours > limit {
			t.Errorf("%s: %d KiB, want at most %d KiB", chk, ours>>10, limit>>10)
		}
	}
}
