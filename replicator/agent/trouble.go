package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
)

// definite says that an error tells how things are, not that they couldn't be asked for: it hides no news.
func definite(err error) bool {
	for _, known := range []error{fs.ErrPermission, fs.ErrInvalid, fs.ErrNotExist, fsutil.ErrUnsupported, errUnreadable} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

func passing(err error) bool { return !definite(err) }

// failedAt is failed for something that has its own place. It hides nothing but itself when the same was done elsewhere
// since it began to fail: one bad disk block must not make the whole export look silent.
func (p *poll) failedAt(err error, h *health) {
	whole := p.whole
	p.failed(err)
	var at *placeError
	if errors.As(err, &at) && h.since(at.reading, at.since) {
		p.whole = whole
	}
}

// placeError is an error about one directory or file, which has been there since.
type placeError struct {
	since   time.Time
	reading bool // a file could not be read; else a directory not be listed
	err     error
}

func (e *placeError) Error() string { return e.err.Error() }
func (e *placeError) Unwrap() error { return e.err }

// health is in which poll a directory of a job was last listed, and a file read: when it began.
type health struct{ listed, read atomic.Int64 }

func (h *health) done(reading bool, poll time.Time) {
	if reading {
		h.read.Store(poll.UnixNano())
	} else {
		h.listed.Store(poll.UnixNano())
	}
}

// since says whether such a thing was done in a poll after that.
func (h *health) since(reading bool, poll time.Time) bool {
	if reading {
		return h.read.Load() > poll.UnixNano()
	}
	return h.listed.Load() > poll.UnixNano()
}

// failing is since when a place has failed; zero: it doesn't.
type failing struct{ since time.Time }

// problem notes what came of an operation, nil when it is well.
func (f *failing) problem(err error, reading bool, poll time.Time, h *health) error {
	switch {
	case err == nil:
		f.since = time.Time{}
		h.done(reading, poll)
		return nil
	case f.since.IsZero():
		f.since = poll
	}
	return &placeError{since: f.since, reading: reading, err: err}
}

// wrapped says what was done where. No error stays none.
func wrapped(err error, what string, where fsutil.URI) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", what, where, err)
}
