// Package faultfs wraps a file system for tests, and makes it fail: a call that is refused, done but reported as
// failed, or frozen; bytes that rot, are missing or are lost; a process that dies at any call.
//
// A crash at every step of a flow is a loop:
//
//	for n := 0; ; n++ {
//		disk := fsutil.NewMemory(root)
//		f := faultfs.New(disk)
//		f.StopAfter(n)
//		if err := flow(ctx, f); err == nil {
//			break // n calls are enough
//		}
//		after := disk.CrashClone()
//		… // what is there now must look unfinished, and flow(ctx, after) must finish it
//	}
package faultfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"sync"

	"github.com/ckptferry/ckptferry/fsutil"
)

// Op is a method of fsutil.FS, its readers and its files.
type Op string

// The calls that a Fault can hit. Close of a reader is none.
const (
	Any    Op = ""
	Open   Op = "open"
	Read   Op = "read"
	Stat   Op = "stat"
	List   Op = "list"
	Create Op = "create"
	Write  Op = "write"
	Commit Op = "commit"
	Abort  Op = "abort"
	Keep   Op = "keep"
	Rename Op = "rename"
	Remove Op = "remove"
)

// Forever as Fault.Last hits every call from First on.
const Forever = math.MaxInt

// ErrStopped is the error of all calls after StopAfter: the process is dead.
var ErrStopped = errors.New("the process stopped here")

// Call is one call as it was made, also if a fault kept it from the file system.
type Call struct {
	Op   Op
	Name string
	To   string // of Rename
}

func (c Call) String() string {
	if c.To != "" {
		return fmt.Sprintf("%s %s to %s", c.Op, c.Name, c.To)
	}
	return fmt.Sprintf("%s %s", c.Op, c.Name)
}

// Fault hits some of the calls that match Op and Name.
type Fault struct {
	Op   Op     // Any: all
	Name string // a pattern of path.Match for the name, or of Rename's either name; empty: all
	// First and Last count the matching calls since Inject, from 1. First 0 is 1, Last 0 is First.
	First, Last int
	Do          Action
}

// Action is what happens to a call that is hit: see the functions that return one.
type Action struct {
	before func(ctx context.Context, c Call) error
	after  error
	stream stream
}

// stream changes the bytes of an opened or created file, from the byte at offset `at` of the file on.
type stream struct {
	kind streamKind
	at   int64
	err  error
}

type streamKind int

const (
	streamWhole streamKind = iota
	streamFlip
	streamEnd
	streamFail
	streamFreeze
)

// Fail refuses the call. Nothing is changed by it.
func Fail(err error) Action {
	return Action{before: func(context.Context, Call) error { return err }}
}

// FailAfter makes the call, and then says that it failed: the caller can't know what is there now.
func FailAfter(err error) Action { return Action{after: err} }

// Freeze waits until the call's ctx ends, and returns its error. For Read and Write that is the ctx of Open and
// Create. Abort, which has none, isn't frozen.
func Freeze() Action {
	return Action{before: func(ctx context.Context, c Call) error {
		if c.Op == Abort {
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	}}
}

// Before runs do before the call, which is refused if do returns an error.
func Before(do func(ctx context.Context, c Call) error) Action { return Action{before: do} }

// FlipBit is for Open and Create: one bit of the byte at this offset of the file is wrong, as it is read or written.
func FlipBit(at int64) Action { return Action{stream: stream{kind: streamFlip, at: at}} }

// EndAt is for Open and Create: reading ends there with io.EOF, as if the file were shorter; what is written from
// there on is lost, and nobody says so.
func EndAt(at int64) Action { return Action{stream: stream{kind: streamEnd, at: at}} }

// FailAt is for Open and Create: the bytes before are read or written, then Read or Write returns err.
func FailAt(at int64, err error) Action {
	return Action{stream: stream{kind: streamFail, at: at, err: err}}
}

// FreezeAt is for Open and Create: the bytes before are read or written, then Read or Write waits for the end of ctx.
func FreezeAt(at int64) Action { return Action{stream: stream{kind: streamFreeze, at: at}} }

// FS is a file system with faults. It is safe for concurrent use.
type FS struct {
	under fsutil.FS

	mu     sync.Mutex
	calls  []Call
	faults []*armed
}

type armed struct {
	Fault
	matched, fired int
}

var _ fsutil.FS = (*FS)(nil)

// New wraps under, without faults.
func New(under fsutil.FS) *FS { return &FS{under: under} }

// Inject adds faults. Of those that hit a call, the one that was injected first acts.
func (f *FS) Inject(faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fault := range faults {
		if _, err := path.Match(fault.Name, ""); err != nil {
			panic(fmt.Sprintf("faultfs: pattern %q: %v", fault.Name, err))
		}
		fault.First = max(fault.First, 1)
		fault.Last = max(fault.Last, fault.First)
		f.faults = append(f.faults, &armed{Fault: fault})
	}
}

// StopAfter lets n more calls pass; from then on all are refused with ErrStopped, also Abort.
func (f *FS) StopAfter(n int) { f.Inject(Fault{First: n + 1, Last: Forever, Do: Fail(ErrStopped)}) }

// Calls are all calls up to now, in the order in which they began.
func (f *FS) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Call(nil), f.calls...)
}

// Unfired are the faults that hit nothing yet. A test that expects its faults to matter expects none.
func (f *FS) Unfired() []Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	var unfired []Fault
	for _, a := range f.faults {
		if a.fired == 0 {
			unfired = append(unfired, a.Fault)
		}
	}
	return unfired
}

// begin records a call and finds what is to happen to it.
func (f *FS) begin(c Call) Action {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, c)
	var do Action
	hit := false
	for _, a := range f.faults {
		if !a.matches(c) {
			continue
		}
		a.matched++
		if !hit && a.First <= a.matched && a.matched <= a.Last {
			do, hit = a.Do, true
			a.fired++
		}
	}
	return do
}

func (a *armed) matches(c Call) bool {
	if a.Op != Any && a.Op != c.Op {
		return false
	}
	if a.Name == "" {
		return true
	}
	name, _ := path.Match(a.Name, c.Name) // the pattern was checked by Inject
	to, _ := path.Match(a.Name, c.To)
	return name || to
}

// call makes a call with its fault.
func (f *FS) call(ctx context.Context, c Call, do func() error) (stream, error) {
	a := f.begin(c)
	if a.before != nil {
		if err := a.before(ctx, c); err != nil {
			return stream{}, fmt.Errorf("%s: %w", c, err)
		}
	}
	if err := do(); err != nil {
		return stream{}, err
	}
	if a.after != nil {
		return stream{}, fmt.Errorf("%s: %w", c, a.after)
	}
	return a.stream, nil
}

// Root implements fsutil.ReadFS.
func (f *FS) Root() fsutil.URI { return f.under.Root() }

// Open implements fsutil.ReadFS.
func (f *FS) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	var r io.ReadCloser
	s, err := f.call(ctx, Call{Op: Open, Name: name}, func() (err error) {
		r, err = f.under.Open(ctx, name, offset)
		return err
	})
	if err != nil {
		if r != nil {
			_ = r.Close() // opened, and then said to have failed
		}
		return nil, err
	}
	return &reader{f: f, r: r, name: name, wait: ctx, pos: offset, stream: s}, nil
}

// Stat implements fsutil.ReadFS.
func (f *FS) Stat(ctx context.Context, name string) (fsutil.FileInfo, error) {
	var info fsutil.FileInfo
	_, err := f.call(ctx, Call{Op: Stat, Name: name}, func() (err error) {
		info, err = f.under.Stat(ctx, name)
		return err
	})
	if err != nil {
		return fsutil.FileInfo{}, err
	}
	return info, nil
}

// List implements fsutil.ReadFS.
func (f *FS) List(ctx context.Context, dir string) ([]fsutil.FileInfo, error) {
	var infos []fsutil.FileInfo
	_, err := f.call(ctx, Call{Op: List, Name: dir}, func() (err error) {
		infos, err = f.under.List(ctx, dir)
		return err
	})
	if err != nil {
		return nil, err
	}
	return infos, nil
}

// Create implements fsutil.FS. After FailAfter an empty file is there.
func (f *FS) Create(ctx context.Context, name string) (fsutil.File, error) {
	var w fsutil.File
	s, err := f.call(ctx, Call{Op: Create, Name: name}, func() (err error) {
		w, err = f.under.Create(ctx, name)
		return err
	})
	if err != nil && w != nil {
		return nil, errors.Join(err, w.Commit(ctx))
	} else if err != nil {
		return nil, err
	}
	return &file{f: f, w: w, name: name, wait: ctx, stream: s}, nil
}

// Rename implements fsutil.FS.
func (f *FS) Rename(ctx context.Context, from, to string) error {
	_, err := f.call(ctx, Call{Op: Rename, Name: from, To: to}, func() error { return f.under.Rename(ctx, from, to) })
	return err
}

// Remove implements fsutil.FS.
func (f *FS) Remove(ctx context.Context, name string) error {
	_, err := f.call(ctx, Call{Op: Remove, Name: name}, func() error { return f.under.Remove(ctx, name) })
	return err
}
