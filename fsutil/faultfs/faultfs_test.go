package faultfs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/fsutil/faultfs"
	"github.com/ckptferry/ckptferry/fsutil/fsutiltest"
)

var errBroken = errors.New("broken")

func newFS() *faultfs.FS {
	return faultfs.New(fsutil.NewMemory(fsutil.URI{Scheme: "file", Path: "/m"}))
}

func TestWithoutFaultsItKeepsTheContract(t *testing.T) {
	fsutiltest.Run(t, func(*testing.T) fsutiltest.Place {
		f := newFS()
		return fsutiltest.Place{FS: f, Reopen: func(*testing.T) fsutil.FS { return f }}
	})
}

func put(ctx context.Context, f fsutil.FS, name string, data []byte) error {
	w, err := f.Create(ctx, name)
	if err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return errors.Join(err, w.Abort())
	}
	if err := w.Commit(ctx); err != nil {
		return errors.Join(err, w.Abort())
	}
	return nil
}

func get(ctx context.Context, f fsutil.ReadFS, name string, offset int64) ([]byte, error) {
	r, err := f.Open(ctx, name, offset)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

func mustPut(t *testing.T, f fsutil.FS, name string, data []byte) {
	t.Helper()
	if err := put(t.Context(), f, name, data); err != nil {
		t.Fatal(err)
	}
}

func TestFaultHitsTheCallsItNames(t *testing.T) {
	f, ctx := newFS(), t.Context()
	f.Inject(
		faultfs.Fault{Op: faultfs.Stat, Name: "d/*", First: 2, Last: 3, Do: faultfs.Fail(errBroken)},
		faultfs.Fault{Op: faultfs.Rename, Name: "never", Do: faultfs.Fail(errBroken)},
		faultfs.Fault{Op: faultfs.Rename, Name: "to", Do: faultfs.Fail(errBroken)},
	)
	mustPut(t, f, "d/f", nil)
	var failed []int
	for i := range 5 {
		_, _ = f.Stat(ctx, "d") // matches no pattern
		if _, err := f.Stat(ctx, "d/f"); errors.Is(err, errBroken) {
			failed = append(failed, i)
		}
	}
	if !slices.Equal(failed, []int{1, 2}) {
		t.Errorf("failed: %v", failed)
	}
	if err := f.Rename(ctx, "d/f", "to"); !errors.Is(err, errBroken) {
		t.Errorf("Rename = %v", err)
	}
	if got := f.Unfired(); len(got) != 1 || got[0].Name != "never" {
		t.Errorf("Unfired = %+v", got)
	}
	calls := f.Calls()
	if got := fmt.Sprint(calls[:2], calls[len(calls)-1:]); got != "[create d/f write d/f] [rename d/f to to]" {
		t.Errorf("Calls = %s", got)
	}
}

func TestFailChangesNothingAndFailAfterDoes(t *testing.T) {
	for name, tc := range map[string]struct {
		do   faultfs.Action
		done bool
	}{"Fail": {faultfs.Fail(errBroken), false}, "FailAfter": {faultfs.FailAfter(errBroken), true}} {
		t.Run(name, func(t *testing.T) {
			f, ctx := newFS(), t.Context()
			for _, file := range []string{"from", "gone"} {
				mustPut(t, f, file, []byte("x"))
			}
			for _, op := range []faultfs.Op{faultfs.Rename, faultfs.Remove, faultfs.Create, faultfs.Open, faultfs.List} {
				f.Inject(faultfs.Fault{Op: op, Do: tc.do})
			}
			_, createErr := f.Create(ctx, "new")
			_, openErr := f.Open(ctx, "from", 0)
			_, listErr := f.List(ctx, ".")
			for call, err := range map[string]error{"Rename": f.Rename(ctx, "from", "to"), "Remove": f.Remove(ctx, "gone"), "Create": createErr, "Open": openErr, "List": listErr} {
				if !errors.Is(err, errBroken) {
					t.Errorf("%s = %v", call, err)
				}
			}
			there := func(name string) bool {
				_, err := f.Stat(ctx, name)
				return err == nil
			}
			if there("to") != tc.done || there("gone") == tc.done || there("new") != tc.done {
				t.Errorf("renamed %v, removed %v, created %v; want all %v", there("to"), !there("gone"), there("new"), tc.done)
			}
		})
	}
}

func TestCommitThatFailsIsFinalAndAbortCleansUp(t *testing.T) {
	for name, do := range map[string]faultfs.Action{"Fail": faultfs.Fail(errBroken), "FailAfter": faultfs.FailAfter(errBroken)} {
		t.Run(name, func(t *testing.T) {
			f, ctx := newFS(), t.Context()
			f.Inject(faultfs.Fault{Op: faultfs.Commit, Do: do})
			w, err := f.Create(ctx, "f")
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := w.Commit(ctx); !errors.Is(err, errBroken) {
					t.Errorf("Commit = %v", err)
				}
			}
			if err := w.Abort(); err != nil {
				t.Errorf("Abort = %v", err)
			}
			if _, err := f.Stat(ctx, "f"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Stat = %v", err)
			}
		})
	}
}

func TestBytesRotAndGetLost(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 100)
	flipped := bytes.Clone(data)
	flipped[555] ^= 0x10
	for name, tc := range map[string]struct {
		do      faultfs.Action
		read    []byte // with the fault on Open
		readErr error
		stored  []byte // with the fault on Create; nil: writing fails
	}{
		"FlipBit": {faultfs.FlipBit(555), flipped, nil, flipped},
		"EndAt":   {faultfs.EndAt(555), data[:555], nil, data[:555]},
		"FailAt":  {faultfs.FailAt(555, fsutil.ErrNoSpace), data[:555], fsutil.ErrNoSpace, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFS()
			mustPut(t, f, "f", data)
			f.Inject(faultfs.Fault{Op: faultfs.Open, First: 1, Last: 2, Do: tc.do})
			got, err := get(t.Context(), f, "f", 0)
			if !bytes.Equal(got, tc.read) || !errors.Is(err, tc.readErr) {
				t.Errorf("read %d bytes, %v", len(got), err)
			}
			got, err = get(t.Context(), f, "f", 500)
			if !bytes.Equal(got, tc.read[500:]) || !errors.Is(err, tc.readErr) {
				t.Errorf("read %d bytes from offset 500, %v", len(got), err)
			}
			if got, err = get(t.Context(), f, "f", 0); !bytes.Equal(got, data) || err != nil {
				t.Errorf("read %d bytes after the faults, %v", len(got), err)
			}

			f.Inject(faultfs.Fault{Op: faultfs.Create, Do: tc.do})
			mine := bytes.Clone(data)
			err = put(t.Context(), f, "g", mine)
			if !bytes.Equal(mine, data) {
				t.Error("the writer's own bytes were changed")
			}
			if tc.stored == nil {
				if !errors.Is(err, fsutil.ErrNoSpace) {
					t.Errorf("write = %v", err)
				}
			} else if got, readErr := get(t.Context(), f, "g", 0); err != nil || readErr != nil || !bytes.Equal(got, tc.stored) {
				t.Errorf("write = %v, and stored are %d bytes, %v", err, len(got), readErr)
			}
			if left := f.Unfired(); len(left) > 0 {
				t.Errorf("unfired: %+v", left)
			}
		})
	}
}

func TestFreezeEndsWithTheContext(t *testing.T) {
	for name, fault := range map[string]faultfs.Fault{
		"Open":            {Op: faultfs.Open, Do: faultfs.Freeze()},
		"Read":            {Op: faultfs.Read, First: 2, Do: faultfs.Freeze()},
		"inside a file":   {Op: faultfs.Open, Do: faultfs.FreezeAt(3)},
		"Create":          {Op: faultfs.Create, Name: "g", Do: faultfs.Freeze()},
		"Write":           {Op: faultfs.Write, Name: "g", Do: faultfs.Freeze()},
		"while writing":   {Op: faultfs.Create, Name: "g", Do: faultfs.FreezeAt(3)},
		"Commit":          {Op: faultfs.Commit, Name: "g", Do: faultfs.Freeze()},
		"Rename":          {Op: faultfs.Rename, Do: faultfs.Freeze()},
		"anything at all": {Do: faultfs.Freeze()},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFS()
				mustPut(t, f, "f", []byte("0123456789"))
				f.Inject(fault)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				start := time.Now()
				_, err := get(ctx, f, "f", 0)
				if err == nil {
					err = put(ctx, f, "g", []byte("0123456789"))
				}
				if err == nil {
					err = f.Rename(ctx, "g", "h")
				}
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
					t.Errorf("%v after %v; want the end of ctx after a minute", err, time.Since(start))
				}
			})
		})
	}
}

func TestBeforeActsBeforeTheCall(t *testing.T) {
	f := newFS()
	mustPut(t, f, "f", []byte("x"))
	f.Inject(faultfs.Fault{Op: faultfs.Open, Do: faultfs.Before(func(ctx context.Context, c faultfs.Call) error {
		return f.Remove(ctx, c.Name) // vanishes at the last moment
	})})
	if _, err := f.Open(t.Context(), "f", 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open = %v", err)
	}
}

// The flow of every file: written under a temporary name, committed, renamed.
func TestStopAfterEveryCallOfAFlow(t *testing.T) {
	flow := func(f fsutil.FS) error {
		if err := f.Remove(t.Context(), "tmp"); err != nil {
			return err
		}
		if err := put(t.Context(), f, "tmp", []byte("whole")); err != nil {
			return err
		}
		return f.Rename(t.Context(), "tmp", "d/f")
	}
	for n := 0; ; n++ {
		disk := fsutil.NewMemory(fsutil.URI{Scheme: "file", Path: "/m"})
		f := faultfs.New(disk)
		f.StopAfter(n)
		err := flow(f)
		if err == nil {
			if n != 5 {
				t.Errorf("the flow takes %d calls; want 5: %v", n, f.Calls())
			}
			break
		}
		if !errors.Is(err, faultfs.ErrStopped) {
			t.Fatalf("stopped after %d calls: %v", n, err)
		}
		for name, after := range map[string]*fsutil.Memory{"process": disk, "machine": disk.CrashClone()} {
			if _, err := after.Stat(t.Context(), "d/f"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the %s died after %d calls, and the file is there: %v", name, n, err)
			}
			if err := flow(after); err != nil {
				t.Errorf("the %s died after %d calls, and the next try ends with %v", name, n, err)
			}
			if got, err := get(t.Context(), after, "d/f", 0); string(got) != "whole" || err != nil {
				t.Errorf("read %q, %v", got, err)
			}
		}
	}
}
