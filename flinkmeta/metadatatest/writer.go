// Package metadatatest writes _metadata bytes for tests: shapes that no collected file has, and large ones. It writes
// what it is told, also what no loader accepts. Start at Writer and Large.
package metadatatest

import (
	"encoding/binary"
	"unicode/utf16"
)

// Writer appends the primitives and handles of the format (package flinkmeta) to B. It checks nothing.
type Writer struct{ B []byte }

// U8 appends a byte.
func (w *Writer) U8(v byte) { w.B = append(w.B, v) }

// I32 appends a big-endian int.
func (w *Writer) I32(v int) { w.B = binary.BigEndian.AppendUint32(w.B, uint32(int32(v))) }

// I64 appends a big-endian long.
func (w *Writer) I64(v int64) { w.B = binary.BigEndian.AppendUint64(w.B, uint64(v)) }

// I64s appends a count and that many longs.
func (w *Writer) I64s(v ...int64) {
	w.I32(len(v))
	for _, n := range v {
		w.I64(n)
	}
}

// Raw appends a length and bytes.
func (w *Writer) Raw(b []byte) {
	w.I32(len(b))
	w.B = append(w.B, b...)
}

// UTF appends a string as java.io.DataOutputStream.writeUTF does.
func (w *Writer) UTF(s string) {
	at := len(w.B)
	w.B = append(w.B, 0, 0)
	for _, u := range utf16.Encode([]rune(s)) {
		switch {
		case u >= 1 && u <= 0x7F:
			w.B = append(w.B, byte(u))
		case u <= 0x7FF:
			w.B = append(w.B, 0xC0|byte(u>>6), 0x80|byte(u&0x3F))
		default:
			w.B = append(w.B, 0xE0|byte(u>>12), 0x80|byte(u>>6&0x3F), 0x80|byte(u&0x3F))
		}
	}
	binary.BigEndian.PutUint16(w.B[at:], uint16(len(w.B)-at-2))
}

// Header begins a file. Master states (Master) or a count of 0 follow, then the operators.
func (w *Writer) Header(version int, checkpointID int64) {
	w.I32(0x4960672D)
	w.I32(version)
	w.I64(checkpointID)
}

// Master appends a master state.
func (w *Writer) Master(version int, name string, state []byte) {
	var body Writer
	body.I32(version)
	body.UTF(name)
	body.Raw(state)
	w.B = binary.BigEndian.AppendUint32(w.B, 0xC96B1696)
	w.Raw(body.B)
}

// Null appends a null handle.
func (w *Writer) Null() { w.U8(0) }

// Inline appends a ByteStreamStateHandle.
func (w *Writer) Inline(name string, state []byte) {
	w.U8(1)
	w.UTF(name)
	w.Raw(state)
}

// File appends a FileStateHandle: absolute.
func (w *Writer) File(path string, size int64) {
	w.U8(2)
	w.I64(size)
	w.UTF(path)
}

// Relative appends a RelativeFileStateHandle.
func (w *Writer) Relative(path string, size int64) {
	w.U8(6)
	w.UTF(path)
	w.I64(size)
}

// Segment is a SegmentFileStateHandle.
type Segment struct {
	Path, LogicalFileID string
	Start, Size         int64
	Scope               int // 0 exclusive, 1 shared
}

// Segment appends a SegmentFileStateHandle.
func (w *Writer) Segment(s Segment) {
	w.U8(15)
	w.I64(s.Start)
	w.I64(s.Size)
	w.I32(s.Scope)
	w.UTF(s.Path)
	w.UTF(s.LogicalFileID)
}

// Empty appends an EmptySegmentFileStateHandle.
func (w *Writer) Empty() { w.U8(16) }

// EmptySubtask appends a subtask of a version that has no state at all, from its index on.
func (w *Writer) EmptySubtask(version, index int) {
	w.I32(index)
	if version == 2 {
		w.I64(-1)
		w.I32(0)
	}
	w.I32(0)
	w.I32(0)
	w.Null()
	w.Null()
	if version >= 3 {
		w.I32(0)
		w.I32(0)
	}
}
