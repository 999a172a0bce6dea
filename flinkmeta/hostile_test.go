package flinkmeta_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/ckptferry/ckptferry/flinkmeta/metadatatest"
)

func TestEveryCutOfEveryFixtureIsAnError(t *testing.T) {
	for _, f := range loadFixtures(t) {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			for n := len(f.b) - 1; n >= 0; n-- {
				_, err := flinkmeta.Scan(f.b[:n:n])
				var fe *flinkmeta.FormatError
				if !errors.As(err, &fe) {
					t.Fatalf("the first %d of %d bytes: %v, want a FormatError", n, len(f.b), err)
				}
				if fe.Offset < 0 || fe.Offset > n || fe.Field == "" {
					t.Fatalf("the first %d bytes: %+v", n, fe)
				}
				switch {
				case strings.HasSuffix(filepath.Base(f.root), "-rocksdb-incremental") || !errors.Is(err, flinkmeta.ErrTruncated):
					// Every byte, one by one.
				case len(f.b) < 200<<10:
					// A value that lacks bytes at this cut lacks them at every cut down to where it begins.
					n = min(n, fe.Offset+1)
				default:
					// 400 KB of changelog in memory, thousands of equal changes: the property test cuts those at every byte.
					n = min(n, fe.Offset+1) - 300
				}
			}
		})
	}
}

func TestBytesBehindTheEndAreAnError(t *testing.T) {
	eachFixture(t, func(t *testing.T, f fixture, _ *flinkmeta.Metadata) {
		for _, more := range [][]byte{{0}, {'p'}, {'x'}, {'q', 0, 0x7E, 0, 0}, f.b} {
			if _, err := flinkmeta.Scan(bytes.Join([][]byte{f.b, more}, nil)); err == nil {
				t.Errorf("%d bytes more are accepted", len(more))
			}
		}
	})
}

func TestAChangedByteNeverPanics(t *testing.T) {
	const stride = 23 // every byte of a shape is hit in one of the many fixtures that have it; fuzzing does the rest
	for n, f := range loadFixtures(t) {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			b := bytes.Clone(f.b)
			for i := n % stride; i < min(len(b), 32<<10); i += stride {
				was := b[i]
				b[i] = [...]byte{was ^ 0x80, was + 1, 0, 0xFF}[i/stride%4]
				checkScanned(t, b, f.dir)
				b[i] = was
			}
		})
	}
}

// checkScanned scans bytes that may be wrong, and when they are accepted, whether the rest of the package copes.
func checkScanned(t *testing.T, b []byte, dir string) {
	t.Helper()
	m, err := flinkmeta.Scan(b)
	if err != nil {
		var fe *flinkmeta.FormatError
		if !errors.As(err, &fe) || fe.Offset < 0 || fe.Offset > len(b) || fe.Field == "" {
			t.Fatalf("error without a place: %v", err)
		}
		return
	}
	refs, err := m.Refs(dir)
	if err != nil {
		if !errors.Is(err, flinkmeta.ErrPath) {
			t.Fatalf("Refs: %v", err)
		}
		return
	}
	for _, r := range refs {
		if r.Mixed {
			return // such a file is made one class, so its bytes change
		}
	}
	out, err := m.Relocate(dir, flinkmeta.Placer{File: stay, Dir: func(p string) (string, error) { return p, nil }})
	if err != nil {
		t.Fatalf("relocate onto itself: %v", err)
	}
	if !bytes.Equal(out, b) {
		t.Fatal("relocated onto itself: other bytes")
	}
}

func TestErrorsNameOffsetFieldAndOperator(t *testing.T) {
	good := keyedFile(file(testJob+"/shared/x", 1))
	at := bytes.Index(good, []byte(testJob+"/shared/x")) - 2 - 8 - 1 // the type byte of its first handle
	const operator = `"agg" (00000000000000010000000000000002)`
	type patch struct {
		at int
		b  []byte
	}
	for name, tc := range map[string]struct {
		patch patch
		want  flinkmeta.FormatError
		says  string
	}{
		"no metadata":              {patch{0, []byte("PK")}, flinkmeta.FormatError{Offset: 0, Field: "magic number", Err: flinkmeta.ErrMagic}, "magic"},
		"version 1":                {patch{4, []byte{0, 0, 0, 1}}, flinkmeta.FormatError{Offset: 4, Field: "metadata version", Err: flinkmeta.ErrVersion}, "version 1 (Flink 1.2)"},
		"version 7":                {patch{4, []byte{0, 0, 0, 7}}, flinkmeta.FormatError{Offset: 4, Field: "metadata version", Err: flinkmeta.ErrVersion}, "version 7; known are 2 to 6"},
		"negative id":              {patch{8, []byte{0x80}}, flinkmeta.FormatError{Offset: 8, Field: "checkpoint id", Err: flinkmeta.ErrValue}, "-"},
		"negative master states":   {patch{16, []byte{0xFF}}, flinkmeta.FormatError{Offset: 16, Field: "master state count", Err: flinkmeta.ErrCount}, "-"},
		"2^31-1 operators":         {patch{20, []byte{0x7F, 0xFF, 0xFF, 0xFF}}, flinkmeta.FormatError{Offset: 20, Field: "operator count", Err: flinkmeta.ErrTruncated}, "2147483647"},
		"unknown handle":           {patch{at, []byte{200}}, flinkmeta.FormatError{Offset: at, Field: "stream handle type", Operator: operator, Err: flinkmeta.ErrHandleType}, "200 (unknown"},
		"operator handle in place": {patch{at, []byte{4}}, flinkmeta.FormatError{Offset: at, Field: "stream handle type", Operator: operator, Err: flinkmeta.ErrHandleType}, "4 (OperatorStreamStateHandle)"},
		"null handle":              {patch{at, []byte{0}}, flinkmeta.FormatError{Offset: at, Field: "stream handle", Operator: operator, Err: flinkmeta.ErrHandleType}, "null"},
		"size below -1":            {patch{at + 1, []byte{0xFF, 0, 0, 0, 0, 0, 0, 0}}, flinkmeta.FormatError{Offset: at + 1, Field: "file handle size", Operator: operator, Err: flinkmeta.ErrValue}, "-"},
		"relative path in type 2":  {patch{at + 11, []byte("../x")}, flinkmeta.FormatError{Offset: at + 9, Field: "file handle path", Operator: operator, Err: flinkmeta.ErrPath}, "../x"},
		"path that is no UTF-8":    {patch{at + 14, []byte{0xFF}}, flinkmeta.FormatError{Offset: at + 9, Field: "file handle path", Operator: operator, Err: flinkmeta.ErrUTF}, ""},
		"lone surrogate in a path": {patch{at + 20, []byte{0xED, 0xA0, 0x80}}, flinkmeta.FormatError{Offset: at + 9, Field: "file handle path", Operator: operator, Err: flinkmeta.ErrPath}, "encoded"},
	} {
		t.Run(name, func(t *testing.T) {
			b := bytes.Clone(good)
			copy(b[tc.patch.at:], tc.patch.b)
			_, err := flinkmeta.Scan(b)
			var got *flinkmeta.FormatError
			if !errors.As(err, &got) {
				t.Fatalf("Scan: %v", err)
			}
			if got.Offset != tc.want.Offset || got.Field != tc.want.Field || got.Operator != tc.want.Operator || !errors.Is(got, tc.want.Err) {
				t.Errorf("got %d %q %q %v\nwant %+v", got.Offset, got.Field, got.Operator, got.Err, tc.want)
			}
			if !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), fmt.Sprint("offset ", tc.want.Offset)) {
				t.Errorf("message %q", err)
			}
		})
	}
}

// oneKeyed is a version 6 file with one operator and subtask, whose managed keyed state is written by keyed.
func oneKeyed(keyed func(*metadatatest.Writer)) []byte {
	var w metadatatest.Writer
	w.Header(6, 7)
	w.I32(0)
	w.I32(1)
	w.UTF("agg")
	w.UTF("")
	w.I64(0)
	w.I64(0)
	w.I32(1)
	w.I32(1)
	w.Null()
	w.I32(1)
	w.I32(0)
	w.I32(0)
	w.I32(0)
	keyed(&w)
	w.Null()
	w.I32(0)
	w.I32(0)
	w.CheckpointTail()
	return w.B
}

// nestedChangelog writes changelog handles within each other.
func nestedChangelog(w *metadatatest.Writer, depth int) {
	w.U8(14)
	w.I64(0)
	w.I64(0)
	w.I32(1)
	if depth > 1 {
		nestedChangelog(w, depth-1)
	} else {
		w.U8(3)
		w.I32(0)
		w.I32(0)
		w.Inline("x", nil)
	}
	w.I32(0)
	w.I64(0)
	w.I64(0)
	w.UTF("id")
}

func TestNestingIsBounded(t *testing.T) {
	for depth, want := range map[int]error{1: nil, 2: nil, 3: flinkmeta.ErrNesting, 100_000: flinkmeta.ErrNesting} {
		b := oneKeyed(func(w *metadatatest.Writer) { nestedChangelog(w, depth) })
		if _, err := flinkmeta.Scan(b); !errors.Is(err, want) {
			t.Errorf("changelogs %d deep: %v, want %v", depth, err, want)
		}
	}
	for depth, want := range map[int]error{4: nil, 5: flinkmeta.ErrNesting, 100_000: flinkmeta.ErrNesting} {
		b := oneKeyed(func(w *metadatatest.Writer) {
			for range depth + 1 {
				w.U8(3)
				w.I32(0)
				w.I32(0)
			}
			w.Inline("x", nil)
		})
		if _, err := flinkmeta.Scan(b); !errors.Is(err, want) {
			t.Errorf("key group streams %d deep: %v, want %v", depth, err, want)
		}
	}
}

func TestSegmentsThatEndBehindTheLargestNumberAreRefused(t *testing.T) {
	for _, s := range []metadatatest.Segment{
		{Path: "file:/x", Start: math.MaxInt64, Size: 1}, {Path: "file:/x", Start: -1, Size: 1}, {Path: "file:/x", Size: -2}, {Path: "file:/x", Scope: 2},
	} {
		b := keyedFile(func(w *metadatatest.Writer) { w.Segment(s) })
		if _, err := flinkmeta.Scan(b); !errors.Is(err, flinkmeta.ErrValue) {
			t.Errorf("%+v: %v, want ErrValue", s, err)
		}
	}
}

// A file made of nothing but the smallest handles: what is allocated is bounded by the input.
func TestMemoryIsBoundedByTheInput(t *testing.T) {
	const n = 200_000
	incremental := func(handle func(*metadatatest.Writer)) []byte {
		return oneKeyed(func(w *metadatatest.Writer) {
			w.U8(5)
			w.I64(0)
			w.UTF("")
			w.I64(0)
			w.Inline("", nil)
			w.I32(n)
			for range n {
				w.UTF("")
				handle(w)
			}
			w.I32(0)
		})
	}
	operators := func() []byte {
		var w metadatatest.Writer
		w.Header(3, 0)
		w.I32(0)
		w.I32(n)
		for range n {
			w.I64(0)
			w.I64(0)
			w.I32(0)
			w.I32(0)
			w.Null()
			w.I32(-1)
		}
		return w.B
	}
	dense := incremental((*metadatatest.Writer).Empty)
	for name, b := range map[string][]byte{
		"empty segments":                      dense,
		"the same, behind them one large one": append(dense[:len(dense)/2:len(dense)/2], make([]byte, 10*len(dense))...),
		"odd paths":                           incremental(func(w *metadatatest.Writer) { w.File("/a", 0) }),
		"different job directories": incremental(func(w *metadatatest.Writer) {
			w.File(fmt.Sprintf("file:/%d/shared/x", len(w.B)), 0)
		}),
		"operators": operators(),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m, err := flinkmeta.Scan(b)
		if err == nil {
			_, err = m.Relocate("file:/d", flinkmeta.Placer{File: stay})
		}
		runtime.ReadMemStats(&after)
		factor := float64(after.TotalAlloc-before.TotalAlloc) / float64(len(b))
		t.Logf("%s: %d bytes, %.1f times that allocated (%v)", name, len(b), factor, err != nil)
		if factor > 32 {
			t.Errorf("%s: %.1f times the input allocated", name, factor)
		}
	}
}

// What a dense beginning predicts must not be believed.
func TestAFewHandlesBeforeMuchInlineStateTakeLittleMemory(t *testing.T) {
	b := oneKeyed(func(w *metadatatest.Writer) {
		w.U8(5)
		w.I64(0)
		w.UTF("")
		w.I64(0)
		w.Inline("", nil)
		w.I32(1001)
		for range 1000 {
			w.UTF("")
			w.Empty()
		}
		w.UTF("")
		w.Inline("", make([]byte, 10<<20))
		w.I32(0)
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	m := mustScan(t, b)
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; len(m.Handles) != 1002 || got > 1<<20 {
		t.Errorf("%d bytes for %d handles", got, len(m.Handles))
	}
}

func TestAMergedOperatorStateNeedsASegment(t *testing.T) {
	for name, delegate := range map[string]func(*metadatatest.Writer){
		"a file": file("file:/x", 1), "inline state": func(w *metadatatest.Writer) { w.Inline("x", nil) }, "null": (*metadatatest.Writer).Null,
	} {
		b := oneOperatorState(func(w *metadatatest.Writer) {
			w.U8(17)
			w.I32(0)
			w.UTF("file:/taskowned")
			w.UTF("file:/shared")
			w.U8(0)
			delegate(w)
		})
		if _, err := flinkmeta.Scan(b); !errors.Is(err, flinkmeta.ErrHandleType) {
			t.Errorf("%s: %v, want ErrHandleType", name, err)
		}
	}
}
