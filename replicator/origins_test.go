package replicator

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/fsutil/faultfs"
)

// failback is a world whose first datacenter has a replica root too, hdfs://dc-a/back, beside what its Flink wrote.
type failback struct {
	*world
	home   *fsutil.Memory
	asHome *faultfs.FS
}

func newFailback() *failback {
	b := &failback{world: newWorld(), home: fsutil.NewMemory(mustURI("hdfs://dc-a/"))}
	b.asHome = faultfs.New(b.home)
	return b
}

func (b *failback) Open(_ context.Context, root fsutil.URI) (fsutil.FS, error) {
	if root.Authority == "dc-a" {
		return &view{root: root, at: strings.TrimPrefix(root.Path, "/"), all: b.asHome}, nil
	}
	return nil, fmt.Errorf("open %s for writing: the test forbids it: %w", root, fs.ErrPermission)
}

func (b *failback) OpenRead(_ context.Context, root fsutil.URI) (fsutil.ReadFS, error) {
	if root.Authority == "dc-a" {
		at := strings.TrimPrefix(root.Path, "/")
		if at == "" {
			at = "."
		}
		return fsutil.ReadOnly(&view{root: root, at: at, all: b.asHome}), nil
	}
	return nil, fmt.Errorf("open %s: only the source's opener has it: %w", root, fs.ErrPermission)
}

// back is the request that brings a checkpoint of the second datacenter to the first.
func (b *failback) back(source fsutil.URI) Request {
	return Request{Source: source, SourceOpener: b.world, Target: mustURI("hdfs://dc-a/back"), Origins: onlyFiles{b.world}, originsFrom: 1}
}

// onlyFiles opens what the first datacenter's Flink wrote.
type onlyFiles struct{ w *world }

func (o onlyFiles) OpenRead(ctx context.Context, root fsutil.URI) (fsutil.ReadFS, error) {
	if root.Scheme != "file" {
		return nil, fmt.Errorf("open %s: %w", root, fs.ErrPermission)
	}
	return o.w.OpenRead(ctx, root)
}

// isWhole holds that the replica that came back is whole, by Check and byte for byte.
func (b *failback) isWhole(t *testing.T, res Result, source string) {
	t.Helper()
	if report, err := Check(t.Context(), b, CheckRequest{Dir: mustURI(res.Replica)}); err != nil || !report.Digests {
		t.Fatalf("Check = %+v, %v", report, err)
	}
	there := handles(t, b.dst, source, "hdfs://dc-b/"+source)
	here := handles(t, b.home, strings.TrimPrefix(mustURI(res.Replica).Path, "/"), res.Replica)
	if len(there) == 0 || len(there) != len(here) {
		t.Fatalf("%d files, the source has %d", len(here), len(there))
	}
	for i := range there {
		want, got := get(t, b.dst, strings.TrimPrefix(mustURI(there[i].URI).Path, "/")), get(t, b.home, strings.TrimPrefix(mustURI(here[i].URI).Path, "/"))
		if string(want[:there[i].Need]) != string(got[:there[i].Need]) {
			t.Errorf("%s is not %s", here[i].URI, there[i].URI)
		}
	}
}

func TestAReplicaThatGoesBackIsReadWhereItCameFrom(t *testing.T) {
	const shared = "dc-a/cp/" + jobA + "/shared/s1"
	for name, c := range map[string]struct {
		partials partialRule
		change   func(t *testing.T, b *failback, req *Request)
		wire     int64 // bytes that are read at the second datacenter
	}{
		"as it was":            {},
		"as it was, and large": {partials: partialRule{50, 50}},
		"the origin is damaged": {wire: 100, change: func(t *testing.T, b *failback, _ *Request) {
			flip(t, b.src, shared, 50)
		}},
		"the origin is damaged, and large": {partials: partialRule{50, 50}, wire: 100, change: func(t *testing.T, b *failback, _ *Request) {
			flip(t, b.src, shared, 50)
		}},
		"the origin is gone": {wire: 100, change: func(t *testing.T, b *failback, _ *Request) {
			remove(t, b.src, shared)
		}},
		"the origin is shorter": {wire: 100, change: func(t *testing.T, b *failback, _ *Request) {
			put(t, b.src, shared, get(t, b.src, shared)[:99])
		}},
		"the origin can't be read to its end": {wire: 100, change: func(_ *testing.T, b *failback, _ *Request) {
			b.there.Inject(faultfs.Fault{Op: faultfs.Open, Name: shared, Do: faultfs.FailAt(30, fsutil.ErrCorrupt)})
		}},
		"the origin ends early": {wire: 100, change: func(_ *testing.T, b *failback, _ *Request) {
			b.there.Inject(faultfs.Fault{Op: faultfs.Open, Name: shared, Do: faultfs.EndAt(30)})
		}},
		"its origins may not be read": {wire: 400, change: func(_ *testing.T, b *failback, req *Request) {
			req.Origins = b // which has none of them
		}},
		"too little to ask for": {wire: 400, change: func(_ *testing.T, _ *failback, req *Request) {
			req.originsFrom = 401
		}},
		"nobody asked for origins": {wire: 400, change: func(_ *testing.T, _ *failback, req *Request) {
			req.Origins = nil
		}},
		"the manifest is damaged": {wire: 400, change: func(t *testing.T, b *failback, _ *Request) {
			flip(t, b.dst, "replicas/"+ownDir+"/manifest/"+jobA+"/chk-5.jsonl", 900)
		}},
		"the manifests can't be read": {wire: 400, change: func(_ *testing.T, b *failback, _ *Request) {
			b.here.Inject(faultfs.Fault{Op: faultfs.List, Name: "replicas/" + ownDir + "/manifest/" + jobA, Last: faultfs.Forever, Do: faultfs.Fail(fs.ErrPermission)})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newFailback()
			job := "file:/dc-a/cp/" + jobA
			there := b.mustReplicate(t, b.request(b.checkpoint(t, "dc-a/cp/"+jobA+"/chk-5", relative("x"), absolute(job+"/shared/s1"), absolute(job+"/shared/s2"),
				absolute("file:/dc-a/log/"+jobB+"/dstl/l"))))
			b.calm()
			req := b.back(mustURI(there.Replica))
			req.partials = c.partials
			if c.change != nil {
				c.change(t, b, &req)
			}
			before := digests(t, b.src, ".")
			res, err := Replicate(t.Context(), b, req)
			if err != nil {
				t.Fatal(err)
			}
			if res.BytesCopied != c.wire || res.BytesLocal != 400-c.wire {
				t.Errorf("%d bytes came over the wire, %d are from here; want %d and %d", res.BytesCopied, res.BytesLocal, c.wire, 400-c.wire)
			}
			var read int64
			for name, n := range opened(b.here, "replicas/"+jobA+"/") {
				read += int64(n) * int64(len(get(t, b.dst, name)))
			}
			if read != c.wire {
				t.Errorf("%d bytes of files were asked for at the second datacenter, want %d", read, c.wire)
			}
			if !maps.Equal(before, digests(t, b.src, ".")) {
				t.Error("what Flink wrote was changed")
			}
			b.isWhole(t, res, "replicas/"+jobA+"/chk-5")
			if left := names(t, b.home, "back/"+ownDir+"/tmp"); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// After a failover with CLAIM the job's checkpoints refer to files of the replica, which came from here, beside new ones.
func TestACheckpointOnAReplicaTakesWhatCameFromHere(t *testing.T) {
	b := newFailback()
	job := "file:/dc-a/cp/" + jobA
	b.mustReplicate(t, b.request(b.checkpoint(t, "dc-a/cp/"+jobA+"/chk-5", absolute(job+"/shared/s1"), absolute(job+"/shared/s2"))))
	b.calm()
	dir := "cp/" + jobB + "/chk-9"
	files := []stateFile{absolute("hdfs://dc-b/replicas/" + jobA + "/shared/s1"), absolute("hdfs://dc-b/replicas/" + jobA + "/shared/s2"),
		absolute("hdfs://dc-b/cp/" + jobB + "/shared/new"), relative("x")}
	put(t, b.dst, "cp/"+jobB+"/shared/new", []byte(strings.Repeat("n", 100)))
	put(t, b.dst, path.Join(dir, "x"), []byte(strings.Repeat("x", 100)))
	put(t, b.dst, path.Join(dir, metadataName), metadataOf(3, dir, files))
	res, err := Replicate(t.Context(), b, b.back(mustURI("hdfs://dc-b/"+dir)))
	if err != nil {
		t.Fatal(err)
	}
	if res.BytesCopied != 200 || res.BytesLocal != 200 {
		t.Errorf("%d bytes came over the wire, %d are from here; want 200 each", res.BytesCopied, res.BytesLocal)
	}
	b.isWhole(t, res, dir)
}
