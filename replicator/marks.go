package replicator

import (
	"sync/atomic"
	"time"
)

// Marks are the moments of a run that its phases don't tell. The zero time: it has not come to that, or never will, as
// the first byte of a run that finds every file at the target.
type Marks struct {
	FirstByte time.Time // the first byte was read of a file at the source
	LastByte  time.Time // the last file that was read at the source was read to its end
	Verified  time.Time // every file is at the target and was read back
}

// Marks may be read while the run goes on.
func (m *Meter) Marks() Marks {
	return Marks{FirstByte: m.marks.first.load(), LastByte: m.marks.last.load(), Verified: m.marks.verified.load()}
}

// marks are the Marks of a run that goes on.
type marks struct{ first, last, verified mark }

func (m *marks) reset() {
	for _, each := range []*mark{&m.first, &m.last, &m.verified} {
		each.at.Store(nil)
	}
}

// mark is a moment that many goroutines may note.
type mark struct{ at atomic.Pointer[time.Time] }

func (m *mark) load() time.Time {
	if at := m.at.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// set notes now as the moment.
func (m *mark) set() {
	now := time.Now()
	m.at.Store(&now)
}

// setFirst notes now, unless the moment is noted already; asking that costs next to nothing.
func (m *mark) setFirst() {
	if m.at.Load() != nil {
		return
	}
	now := time.Now()
	m.at.CompareAndSwap(nil, &now)
}
