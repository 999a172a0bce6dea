package replicator

import (
	"bytes"
	"path"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/ckptferry/ckptferry/fsutil"
)

// wholeReplicas is the referee of this package's tests: it looks at a target with its own eyes (its own walk, its own
// comparison of bytes, none of the code under test) and fails when a visible replica is not whole. It gives the
// number of replicas that are visible.
//
// Every directory with a _metadata is visible. It is whole when its handles are those of the source's _metadata one by
// one, each naming a file below the target's root that holds the same bytes as the source's.
func (w *world) wholeReplicas(t testing.TB, dst *fsutil.Memory) int {
	t.Helper()
	n := 0
	for _, name := range names(t, dst, "replicas") {
		if path.Base(name) != metadataName || strings.HasPrefix(name, "replicas/"+ownDir+"/") {
			continue
		}
		n++
		w.whole(t, dst, path.Dir(name))
	}
	return n
}

// whole looks at one replica. Its checkpoint must be the one source checkpoint whose directory ends alike.
func (w *world) whole(t testing.TB, dst *fsutil.Memory, dir string) {
	t.Helper()
	suffix := "/" + strings.TrimPrefix(dir, "replicas/") + "/" + metadataName
	source := ""
	for _, name := range names(t, w.held(), "dc-a") {
		if strings.HasSuffix("/"+name, suffix) {
			source = path.Dir(name)
		}
	}
	if source == "" {
		t.Fatalf("%s is a replica of nothing", dir)
	}
	there, here := handles(t, w.held(), source, "file:/"+source), handles(t, dst, dir, "hdfs://dc-b/"+dir)
	if len(there) != len(here) {
		t.Fatalf("%s: %d files, the source has %d", dir, len(here), len(there))
	}
	for i, want := range there {
		got := here[i]
		name, inside := strings.CutPrefix(got.URI, "hdfs://dc-b/")
		if !inside || !strings.HasPrefix(name, "replicas/") {
			t.Fatalf("%s refers to %s, outside of the replica", dir, got.URI)
		}
		if got.Need != want.Need {
			t.Fatalf("%s: %s needs %d bytes, at the source %d", dir, got.URI, got.Need, want.Need)
		}
		_, original, _ := strings.Cut(want.URI, ":/")
		a, b := get(t, w.held(), original), get(t, dst, name)
		if want.Segment {
			a = a[:want.Need]
		}
		if int64(len(b)) < want.Need || !bytes.Equal(a, b) {
			t.Fatalf("%s: %s is not %s: %d and %d bytes", dir, name, original, len(b), len(a))
		}
	}
}

// handles are a checkpoint's files in the order of its _metadata, which relocation keeps.
func handles(t testing.TB, m *fsutil.Memory, dir, uri string) []flinkmeta.FileRef {
	t.Helper()
	meta, err := flinkmeta.Scan(get(t, m, dir+"/"+metadataName))
	if err != nil {
		t.Fatalf("%s: %v", dir, err)
	}
	refs, err := meta.Refs(uri)
	if err != nil {
		t.Fatalf("%s: %v", dir, err)
	}
	return refs
}

// held is the source as it was at its fullest.
func (w *world) held() *fsutil.Memory {
	if w.fullSource != nil {
		return w.fullSource
	}
	return w.src
}

func (w *world) sourceDigests(t testing.TB) map[string]string {
	t.Helper()
	return digests(t, w.src, "dc-a")
}
