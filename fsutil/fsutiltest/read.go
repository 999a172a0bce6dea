package fsutiltest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"testing"
	"testing/iotest"
	"time"
)

var readTests = map[string]func(*testing.T, Place){
	"open delivers exactly the bytes from the offset on":  testOffsets,
	"an offset outside of the file is refused":            testOffsetOutside,
	"open refuses what is not a file":                     testOpenNoFile,
	"a reader behaves as a reader":                        testReader,
	"a reader delivers a large file into large buffers":   testLargeBuffers,
	"a file replaced while it is read is never a mixture": testReplacedWhileRead,
	"stat tells files from directories":                   testStat,
	"list is sorted and complete":                         testList,
	"list of more entries than a page":                    testLongList,
}

func testOffsets(t *testing.T, p Place) {
	for seed, size := range []int{0, 1, 1000, 3<<20 + 7} {
		name, data := fmt.Sprint("f", size), content(uint64(seed), size)
		put(t, p.FS, name, data)
		for _, offset := range []int{0, 1, 511, 512, 513, size / 2, size - 1, size} {
			if offset < 0 || offset > size {
				continue
			}
			got, err := get(t.Context(), p.FS, name, int64(offset))
			if err != nil || !bytes.Equal(got, data[offset:]) {
				t.Errorf("%d bytes from offset %d: %d bytes, %v", size, offset, len(got), err)
			}
		}
	}
}

func testOffsetOutside(t *testing.T, p Place) {
	put(t, p.FS, "f", content(1, 100))
	put(t, p.FS, "empty", nil)
	for _, tc := range []struct {
		name   string
		offset int64
	}{{"f", -1}, {"f", 101}, {"f", 1 << 40}, {"empty", 1}} {
		got, err := get(t.Context(), p.FS, tc.name, tc.offset)
		wantErr(t, fmt.Sprintf("read %s from offset %d", tc.name, tc.offset), err, fs.ErrInvalid)
		if len(got) > 0 {
			t.Errorf("read %s from offset %d: got %d bytes", tc.name, tc.offset, len(got))
		}
	}
}

func testOpenNoFile(t *testing.T, p Place) {
	put(t, p.FS, "d/f", []byte("x"))
	for name, want := range map[string]error{
		"d":        fs.ErrInvalid,
		".":        fs.ErrInvalid,
		"none":     fs.ErrNotExist,
		"none/f":   fs.ErrNotExist,
		"d/f/none": fs.ErrNotExist,
	} {
		_, err := get(t.Context(), p.FS, name, 0)
		wantErr(t, "read "+name, err, want)
	}
}

func testReader(t *testing.T, p Place) {
	data := content(7, 5000)
	put(t, p.FS, "f", data)
	r, err := p.FS.Open(t.Context(), "f", 10)
	if err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(r, data[10:]); err != nil {
		t.Error(err)
	}
	if n, err := r.Read(make([]byte, 10)); n != 0 || err != io.EOF {
		t.Errorf("Read at the end again = %d, %v", n, err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	if n, err := r.Read(make([]byte, 10)); n != 0 || err == nil || err == io.EOF {
		t.Errorf("Read after Close = %d, %v; want an error", n, err)
	}
}

func testLargeBuffers(t *testing.T, p Place) {
	data := content(3, bigBytes)
	put(t, p.FS, "f", data)
	r, err := p.FS.Open(t.Context(), "f", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close() // only read
	var got []byte
	buf := make([]byte, 4<<20)
	for {
		n, err := r.Read(buf)
		got = append(got, buf[:n]...)
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, data) {
		t.Errorf("%d bytes, not the %d that were written", len(got), len(data))
	}
}

func testReplacedWhileRead(t *testing.T, p Place) {
	old, replacement := content(1, bigBytes), content(2, bigBytes-99)
	put(t, p.FS, "f", old)
	put(t, p.FS, "tmp", replacement)
	r, err := p.FS.Open(t.Context(), "f", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close() // only read
	start := make([]byte, 1<<20)
	if _, err := io.ReadFull(r, start); err != nil {
		t.Fatal(err)
	}
	rename(t, p.FS, "tmp", "f")
	rest, err := io.ReadAll(r)
	if err == nil && !bytes.Equal(append(start, rest...), old) {
		t.Error("a reader that was opened before the rename ended without an error, and not with the old bytes")
	}
	wantContent(t, p.FS, "f", replacement)

	// Opened, replaced, and only then read: some clients look the file up at the first Read.
	put(t, p.FS, "tmp", old)
	late, err := p.FS.Open(t.Context(), "f", 5)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close() // only read
	rename(t, p.FS, "tmp", "f")
	rest, err = io.ReadAll(late)
	if err == nil && !bytes.Equal(rest, replacement[5:]) && !bytes.Equal(rest, old[5:]) {
		t.Error("a reader that was opened before the rename, and read after it, got neither file")
	}
}

func testStat(t *testing.T, p Place) {
	before := time.Now().Add(-time.Minute) // clocks differ, file systems round
	put(t, p.FS, "d/f", []byte("hello"))
	i, err := p.FS.Stat(t.Context(), "d/f")
	if err != nil || i.Name != "f" || i.Size != 5 || i.IsDir || i.ModTime.Before(before) || i.ModTime.After(time.Now().Add(time.Minute)) {
		t.Errorf("Stat of a file = %+v, %v", i, err)
	}
	i, err = p.FS.Stat(t.Context(), "d")
	if err != nil || i.Name != "d" || i.Size != 0 || !i.IsDir {
		t.Errorf("Stat of a directory = %+v, %v", i, err)
	}
	wantDir(t, p.FS, ".")
	for _, name := range []string{"none", "d/none", "none/none", "d/f/none", "d/f/none/none"} {
		wantAbsent(t, p.FS, name)
	}
}

func testList(t *testing.T, p Place) {
	for i, name := range []string{"b", "a/x", "c-1", "c", "c/none", "B", "c1", "a.b", "é", "_metadata", "10", "9"} {
		if name != "c/none" {
			put(t, p.FS, "d/"+name, content(1, i))
		}
	}
	want := []string{"10", "9", "B", "_metadata", "a/", "a.b", "b", "c", "c-1", "c1", "é"}
	if got := listed(t, p.FS, "d"); !slices.Equal(got, want) {
		t.Errorf("List = %q; want %q", got, want)
	}
	infos, err := p.FS.List(t.Context(), "d")
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range infos {
		if stat, err := p.FS.Stat(t.Context(), "d/"+i.Name); err != nil || stat.Size != i.Size || stat.IsDir != i.IsDir || !stat.ModTime.Equal(i.ModTime) {
			t.Errorf("List says %+v, Stat says %+v, %v", i, stat, err)
		}
	}
	if got := listed(t, p.FS, "."); !slices.Equal(got, []string{"d/"}) {
		t.Errorf("List(.) = %q", got)
	}
	for name, want := range map[string]error{"none": fs.ErrNotExist, "d/none/none": fs.ErrNotExist, "d/b/none": fs.ErrNotExist, "d/b": fs.ErrInvalid} {
		infos, err := p.FS.List(t.Context(), name)
		if !errors.Is(err, want) || len(infos) > 0 {
			t.Errorf("List(%q) = %v, %v; want %v", name, infos, err, want)
		}
	}
}

func testLongList(t *testing.T, p Place) {
	const n = 1100 // HDFS lists 1000 at a time
	want := make([]string, n)
	for i := range want {
		want[i] = fmt.Sprintf("f%05d", i)
	}
	inParallel(t, n, func(i int) error { return putFile(t.Context(), p.FS, "d/"+want[i], nil) })
	if got := listed(t, p.FS, "d"); !slices.Equal(got, want) {
		t.Errorf("List gives %d names", len(got))
	}
}
