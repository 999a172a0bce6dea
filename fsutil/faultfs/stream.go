package faultfs

import (
	"context"
	"fmt"
	"io"
	"io/fs"

	"github.com/ckptferry/ckptferry/fsutil"
)

// room is how many of n bytes at pos come before the fault; all if it doesn't stop the stream.
func (s stream) room(pos int64, n int) int {
	switch s.kind {
	case streamEnd, streamFail, streamFreeze:
		return int(max(0, min(int64(n), s.at-pos)))
	}
	return n
}

// flip spoils its byte of p, which lies at pos.
func (s stream) flip(p []byte, pos int64) {
	if i := s.at - pos; s.kind == streamFlip && i >= 0 && i < int64(len(p)) {
		p[i] ^= 0x10
	}
}

// stop is the error of a stream that has reached the fault.
func (s stream) stop(ctx context.Context) error {
	switch s.kind {
	case streamFail:
		return s.err
	case streamFreeze:
		<-ctx.Done()
		return ctx.Err()
	}
	return io.EOF
}

type reader struct {
	f      *FS
	r      io.ReadCloser
	name   string
	wait   context.Context // of Open: it bounds the reading, and a frozen Read waits for its end
	pos    int64
	stream stream
}

func (r *reader) Read(p []byte) (n int, err error) {
	_, err = r.f.call(r.wait, Call{Op: Read, Name: r.name}, func() error {
		room := r.stream.room(r.pos, len(p))
		if room == 0 && len(p) > 0 {
			return r.stream.stop(r.wait)
		}
		n, err = r.r.Read(p[:room])
		r.stream.flip(p[:n], r.pos)
		r.pos += int64(n)
		return err
	})
	return n, err
}

func (r *reader) Close() error { return r.r.Close() }

type file struct {
	f      *FS
	w      fsutil.File
	name   string
	wait   context.Context // of Create: it bounds the writing, and a frozen Write waits for its end
	pos    int64
	stream stream

	err       error // the first failure, or ErrClosed after Commit and Abort
	done      bool  // Commit said that it succeeded, or Abort was called
	committed bool  // whatever Commit said
}

func (w *file) Write(p []byte) (n int, err error) {
	if w.err != nil {
		return 0, fmt.Errorf("write %s: %w", w.name, w.err)
	}
	_, w.err = w.f.call(w.wait, Call{Op: Write, Name: w.name}, func() error {
		n, err = w.write(p)
		return err
	})
	return n, w.err
}

func (w *file) write(p []byte) (int, error) {
	room := w.stream.room(w.pos, len(p))
	kept := append([]byte(nil), p[:room]...) // the caller's bytes stay as they are
	w.stream.flip(kept, w.pos)
	n, err := w.w.Write(kept)
	w.pos += int64(n)
	if err != nil || room == len(p) {
		return n, err
	}
	if w.stream.kind == streamEnd {
		return len(p), nil // lost
	}
	return n, w.stream.stop(w.wait)
}

func (w *file) Commit(ctx context.Context) error {
	if w.err != nil {
		return fmt.Errorf("commit %s: %w", w.name, w.err)
	}
	_, w.err = w.f.call(ctx, Call{Op: Commit, Name: w.name}, func() error {
		err := w.w.Commit(ctx)
		w.committed = err == nil
		return err
	})
	if w.err != nil {
		return w.err
	}
	w.err, w.done = fs.ErrClosed, true
	return nil
}

// Keep implements fsutil.Keeper; a file that can't be kept is aborted.
func (w *file) Keep(ctx context.Context) error {
	if w.done {
		return nil
	}
	_, err := w.f.call(ctx, Call{Op: Keep, Name: w.name}, func() error {
		if keeper, ok := w.w.(fsutil.Keeper); ok {
			return keeper.Keep(ctx)
		}
		return w.w.Abort()
	})
	w.err, w.done = fs.ErrClosed, true
	return err
}

func (w *file) Abort() error {
	if w.done {
		return nil
	}
	ctx := context.Background()
	_, err := w.f.call(ctx, Call{Op: Abort, Name: w.name}, func() error {
		if w.committed { // and said to have failed
			return w.f.under.Remove(ctx, w.name)
		}
		return w.w.Abort()
	})
	w.err, w.done = fs.ErrClosed, err == nil
	return err
}
