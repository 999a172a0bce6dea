package flinkmeta

import (
	"encoding/binary"
	"fmt"
)

// reader walks big-endian java.io.DataOutputStream bytes. The first thing that is wrong is kept in err and moves pos to
// the end, so that every later read fails too and loops end; callers check err where they decide something.
type reader struct {
	b   []byte
	pos int
	err *FormatError
	op  *Operator // whose bytes these are, for errors; nil outside of operators
}

// fail keeps the first error.
func (r *reader) fail(at int, field string, err error) {
	if r.err == nil {
		r.err = &FormatError{Offset: at, Field: field, Err: err}
		if r.op != nil {
			r.err.Operator = r.op.label()
		}
	}
	r.pos = len(r.b)
}

func (r *reader) failf(at int, field string, sentinel error, format string, args ...any) {
	r.fail(at, field, fmt.Errorf("%w: %s", sentinel, fmt.Sprintf(format, args...)))
}

// truncated reports that n more bytes were needed.
func (r *reader) truncated(field string, n int) {
	r.failf(r.pos, field, ErrTruncated, "%d bytes needed, %d left", n, len(r.b)-r.pos)
}

func (r *reader) left() int { return len(r.b) - r.pos }

func (r *reader) u8(field string) byte {
	if r.left() < 1 {
		r.truncated(field, 1)
		return 0
	}
	r.pos++
	return r.b[r.pos-1]
}

func (r *reader) u16(field string) int {
	if r.left() < 2 {
		r.truncated(field, 2)
		return 0
	}
	r.pos += 2
	return int(binary.BigEndian.Uint16(r.b[r.pos-2:]))
}

func (r *reader) i32(field string) int32 {
	if r.left() < 4 {
		r.truncated(field, 4)
		return 0
	}
	r.pos += 4
	return int32(binary.BigEndian.Uint32(r.b[r.pos-4:]))
}

func (r *reader) i64(field string) int64 {
	if r.left() < 8 {
		r.truncated(field, 8)
		return 0
	}
	r.pos += 8
	return int64(binary.BigEndian.Uint64(r.b[r.pos-8:]))
}

// skip passes n bytes, 0 <= n.
func (r *reader) skip(n int, field string) {
	if r.left() < n {
		r.truncated(field, n)
		return
	}
	r.pos += n
}

// count reads how many elements follow, each of at least min bytes; more than the rest of the file can hold is refused
// here, before anybody sizes something by it. It is 0 after an error.
func (r *reader) count(field string, min int) int {
	at := r.pos
	n := int(r.i32(field))
	if r.err != nil {
		return 0
	}
	if n < 0 {
		r.failf(at, field, ErrCount, "%d", n)
		return 0
	}
	if n > r.left()/min {
		r.failf(at, field, ErrTruncated, "%d elements of at least %d bytes announced, %d bytes left", n, min, r.left())
		return 0
	}
	return n
}

// raw reads an i32 length and passes that many bytes.
func (r *reader) raw(field string) []byte {
	n := r.count(field, 1)
	r.pos += n
	return r.b[r.pos-n : r.pos]
}

// utf reads a modified UTF-8 string and gives its bytes, which alias the file.
func (r *reader) utf(field string) []byte {
	at := r.pos
	n := r.u16(field)
	if r.left() < n {
		r.truncated(field, n)
		return nil
	}
	s := r.b[r.pos : r.pos+n]
	if r.err == nil && !validMUTF8(s) {
		r.fail(at, field, ErrUTF)
		return nil
	}
	r.pos += n
	return s
}

// utfAt is the string whose length field is at off, in a file that was scanned before.
func utfAt(b []byte, off int) []byte {
	n := int(binary.BigEndian.Uint16(b[off:]))
	return b[off+2 : off+2+n]
}
