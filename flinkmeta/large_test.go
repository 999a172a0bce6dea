package flinkmeta_test

import (
	"bytes"
	"runtime"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/ckptferry/ckptferry/flinkmeta/metadatatest"
)

const largeFiles = 100_000

var largeMove = flinkmeta.Rebase{From: metadatatest.LargeBase, To: "hdfs://dc-b/flink/replicas/orders-enrichment"}

func BenchmarkScan(b *testing.B) {
	file := metadatatest.Large(largeFiles)
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		mustScan(b, file)
	}
}

func BenchmarkScanAndRebase(b *testing.B) {
	file := metadatatest.Large(largeFiles)
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		mustRebase(b, mustScan(b, file), metadatatest.LargeDir, largeMove)
	}
}

func BenchmarkRefs(b *testing.B) {
	file := metadatatest.Large(largeFiles)
	m := mustScan(b, file)
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		mustRefs(b, m, metadatatest.LargeDir)
	}
}

func BenchmarkScanAndRelocate(b *testing.B) {
	file := metadatatest.Large(largeFiles)
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		relocateLarge(b, file)
	}
}

// relocateLarge moves all as largeMove does, by a Placer of the user.
func relocateLarge(t testing.TB, file []byte) []byte {
	t.Helper()
	out, err := mustScan(t, file).Relocate(metadatatest.LargeDir, flinkmeta.Placer{File: func(r flinkmeta.FileRef) (flinkmeta.Placement, error) {
		if r.Relative {
			return flinkmeta.Placement{Path: r.Path, Relative: true}, nil
		}
		return flinkmeta.Placement{Path: largeMove.To + strings.TrimPrefix(r.URI, largeMove.From)}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Everything that is allocated, garbage included, with the input: no garbage collector can make the peak larger.
func TestALargeFileTakesBelowFourTimesItsSizeInAll(t *testing.T) {
	file := metadatatest.Large(largeFiles)
	var outs [][]byte
	for name, run := range map[string]func() []byte{
		"rebase":   func() []byte { return mustRebase(t, mustScan(t, file), metadatatest.LargeDir, largeMove) },
		"relocate": func() []byte { return relocateLarge(t, file) },
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		outs = append(outs, run())
		runtime.ReadMemStats(&after)
		total := int(after.TotalAlloc-before.TotalAlloc) + len(file)
		t.Logf("%s: %d bytes in, %d in all: %.2f times the file", name, len(file), total, float64(total)/float64(len(file)))
		if total > 4*len(file) {
			t.Errorf("%s: %d bytes for a file of %d", name, total, len(file))
		}
	}
	if !bytes.Equal(outs[0], outs[1]) {
		t.Error("rebase and relocate give different bytes")
	}
	m := mustScan(t, outs[0])
	refs := mustRefs(t, m, largeMove.To+strings.TrimPrefix(metadatatest.LargeDir, largeMove.From))
	if len(refs) != largeFiles {
		t.Errorf("%d files, want %d", len(refs), largeFiles)
	}
	for _, r := range refs {
		if !strings.HasPrefix(r.URI, largeMove.To+"/"+metadatatest.LargeJob) {
			t.Fatalf("%s did not move", r.URI)
		}
	}
}
