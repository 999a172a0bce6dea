package fsutiltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var concurrencyTests = map[string]func(*testing.T, Place){
	"many goroutines write, rename, read and list":   testManyWriters,
	"one of many creators of a name wins":            testOneCreatorWins,
	"readers see a whole file while many replace it": testManyReplace,
	"many readers of one file":                       testManyReaders,
}

var contextTests = map[string]func(*testing.T, Place){
	"a ctx that is over is the error of every method, and nothing changes": testContextOver,
	"a ctx that ends while reading ends the reader":                        testContextEndsReading,
	"a ctx that ends while writing ends the file, and abort removes it":    testContextEndsWriting,
}

const workers = 16

// inParallel calls do(0) … do(n-1) from several goroutines.
func inParallel(t *testing.T, n int, do func(i int) error) {
	t.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

func testManyWriters(t *testing.T, p Place) {
	const files = 200
	f, ctx := p.FS, t.Context()
	name := func(i int) string { return fmt.Sprintf("job/%d/f%03d", i%4, i) }
	inParallel(t, files, func(i int) error {
		data, tmp := content(uint64(i), i*100), fmt.Sprint("tmp/", i)
		if err := putFile(ctx, f, tmp, data); err != nil {
			return err
		}
		if err := f.Rename(ctx, tmp, name(i)); err != nil {
			return err
		}
		if got, err := get(ctx, f, name(i), 0); err != nil || !bytes.Equal(got, data) {
			return fmt.Errorf("read %s: %d bytes, %v", name(i), len(got), err)
		}
		_, err := f.List(ctx, fmt.Sprint("job/", i%4))
		return err
	})
	reopened := p.Reopen(t)
	for i := range files {
		wantContent(t, reopened, name(i), content(uint64(i), i*100))
	}
	if got := listed(t, reopened, "tmp"); len(got) != 0 {
		t.Errorf("left in tmp: %q", got)
	}
}

func testOneCreatorWins(t *testing.T, p Place) {
	for round := range 3 {
		name := fmt.Sprintf("new%d/deep/f", round)
		var won atomic.Int64
		inParallel(t, workers, func(i int) error {
			err := putFile(t.Context(), p.FS, name, content(uint64(i), 1000+i))
			if err == nil {
				won.Add(1000 + int64(i))
			} else if !errors.Is(err, fs.ErrExist) {
				return err
			}
			return nil
		})
		size := int(won.Load())
		if size < 1000 || size >= 2000 {
			t.Fatalf("not exactly one of %d creators won", workers)
		}
		wantContent(t, p.FS, name, content(uint64(size-1000), size))
	}
}

func testManyReplace(t *testing.T, p Place) {
	versions := make([][]byte, 8)
	for i := range versions {
		versions[i] = content(uint64(i), 20_000+i*1000)
	}
	put(t, p.FS, "f", versions[0])
	var whole atomic.Int64
	inParallel(t, 96, func(i int) error {
		if i%2 == 0 {
			tmp := fmt.Sprint("tmp", i)
			if err := putFile(t.Context(), p.FS, tmp, versions[i/2%len(versions)]); err != nil {
				return err
			}
			return p.FS.Rename(t.Context(), tmp, "f")
		}
		got, err := get(t.Context(), p.FS, "f", 0)
		if err != nil {
			// The old file's bytes may be gone; that it is there under its name may never be in doubt.
			if errors.Is(err, fs.ErrNotExist) {
				_, err := p.FS.Stat(t.Context(), "f")
				return err
			}
			return nil
		}
		if !slices.ContainsFunc(versions, func(v []byte) bool { return bytes.Equal(v, got) }) {
			return fmt.Errorf("read %d bytes that no version has", len(got))
		}
		whole.Add(1)
		return nil
	})
	if whole.Load() == 0 {
		t.Error("no reader got a whole file")
	}
}

func testManyReaders(t *testing.T, p Place) {
	data := content(1, 2<<20)
	put(t, p.FS, "f", data)
	inParallel(t, 48, func(i int) error {
		offset := i * 40_000
		got, err := get(t.Context(), p.FS, "f", int64(offset))
		if err != nil || !bytes.Equal(got, data[offset:]) {
			return fmt.Errorf("from offset %d: %d bytes, %v", offset, len(got), err)
		}
		return nil
	})
}

func testContextOver(t *testing.T, p Place) {
	f := p.FS
	put(t, f, "d/f", []byte("x"))
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancelLate := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancelLate()
	for _, ctx := range []context.Context{canceled, late} {
		_, err := get(ctx, f, "d/f", 0)
		wantErr(t, "read", err, ctx.Err())
		_, err = f.Stat(ctx, "d/f")
		wantErr(t, "Stat", err, ctx.Err())
		_, err = f.List(ctx, "d")
		wantErr(t, "List", err, ctx.Err())
		_, err = f.Create(ctx, "d/g")
		wantErr(t, "Create", err, ctx.Err())
		wantErr(t, "Rename", f.Rename(ctx, "d/f", "d/g"), ctx.Err())
		wantErr(t, "Remove", f.Remove(ctx, "d/f"), ctx.Err())
		w := create(t, f, "d/w")
		wantErr(t, "Commit", w.Commit(ctx), ctx.Err())
		if err := w.Commit(t.Context()); err == nil {
			t.Error("Commit after a Commit that failed is no error")
		}
		if err := w.Abort(); err != nil {
			t.Errorf("Abort after a Commit that failed = %v", err)
		}
	}
	if got := listed(t, f, "d"); !slices.Equal(got, []string{"f"}) {
		t.Errorf("List(d) = %q", got)
	}
	wantContent(t, f, "d/f", []byte("x"))
}

func testContextEndsReading(t *testing.T, p Place) {
	put(t, p.FS, "f", content(1, bigBytes))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := p.FS.Open(ctx, "f", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close() // only read
	buf := make([]byte, 1000)
	if _, err := r.Read(buf); err != nil {
		t.Fatal(err)
	}
	cancel()
	_, err = r.Read(buf)
	wantErr(t, "Read", err, context.Canceled)
}

func testContextEndsWriting(t *testing.T, p Place) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w, err := p.FS.Create(ctx, "d/f")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content(1, 100_000)); err != nil {
		t.Fatal(err)
	}
	cancel()
	_, err = w.Write([]byte("x"))
	wantErr(t, "Write", err, context.Canceled)
	if err := w.Commit(t.Context()); err == nil {
		t.Error("Commit after a Write that failed is no error")
	}
	if err := w.Abort(); err != nil {
		t.Errorf("Abort = %v", err)
	}
	wantAbsent(t, p.FS, "d/f")
}
