package flinkmeta

import (
	"encoding/hex"
	"fmt"
	"math"
	"strings"
)

// HandleType is the type byte of a leaf stream handle: a byte sequence somewhere.
// Source: o.a.f.runtime.checkpoint.metadata.MetadataV2V3SerializerBase, 1.20 and 2.3.
type HandleType uint8

// The leaf stream handles that exist on disk.
const (
	InlineHandle       HandleType = 1  // ByteStreamStateHandle: the bytes are in _metadata
	FileHandle         HandleType = 2  // FileStateHandle: absolute
	RelativeFileHandle HandleType = 6  // RelativeFileStateHandle: relative to the directory of _metadata
	SegmentHandle      HandleType = 15 // SegmentFileStateHandle: a part of a merged file, absolute; 1.20+
	EmptyHandle        HandleType = 16 // EmptySegmentFileStateHandle: no bytes, no file; 1.20+
)

// String is Flink's class name, without the package.
func (t HandleType) String() string {
	switch t {
	case InlineHandle:
		return "ByteStreamStateHandle"
	case FileHandle:
		return "FileStateHandle"
	case RelativeFileHandle:
		return "RelativeFileStateHandle"
	case SegmentHandle:
		return "SegmentFileStateHandle"
	case EmptyHandle:
		return "EmptySegmentFileStateHandle"
	}
	return fmt.Sprintf("HandleType(%d)", uint8(t))
}

// Scope is who may refer to a segment of a merged file (CheckpointedStateScope, 1.20).
type Scope uint8

// Scopes of segments, and of the other handles, which have none.
const (
	ScopeNone Scope = iota
	ScopeExclusive
	ScopeShared
)

func (s Scope) String() string { return [...]string{"", "EXCLUSIVE", "SHARED"}[s%3] }

// Where says which part of an operator's state a handle belongs to. It packs the kind of state, up to two levels of
// changelog nesting, and the place within an incremental or changelog handle.
type Where uint16

// Kinds of state: the lowest three bits of a Where.
const (
	Coordinator Where = 1 + iota
	ManagedOperatorState
	RawOperatorState
	ManagedKeyedState
	RawKeyedState
	InputChannelState
	ResultSubpartitionState

	kindMask Where = 7

	nestShift                = 3 // two levels of two bits
	maxNesting               = 2
	nestMaterialized   Where = 1
	nestNonMaterialize Where = 2

	partShift       = nestShift + 2*maxNesting
	partMeta  Where = 1 << partShift
	partShare Where = 2 << partShift
	partPriv  Where = 3 << partShift
	partLog   Where = 4 << partShift
)

// Kind is the kind of state alone: Coordinator to ResultSubpartitionState.
func (w Where) Kind() Where { return w & kindMask }

// Changelog says whether the handle is a changelog (dstl) file of the state changelog.
func (w Where) Changelog() bool { return w>>partShift == partLog>>partShift }

// String is e.g. "ManagedKeyedState.materialized.shared": the kind of state, then the way through the nested handles.
func (w Where) String() string {
	s := [...]string{"none", "coordinator", "ManagedOperatorState", "RawOperatorState", "ManagedKeyedState", "RawKeyedState",
		"InputChannelState", "ResultSubpartitionState"}[w.Kind()]
	for level := range maxNesting {
		s += [...]string{"", ".materialized", ".nonMaterialized", ""}[w>>(nestShift+2*level)&3]
	}
	return s + [...]string{"", ".meta", ".shared", ".private", ".log", "", "", ""}[w>>partShift&7]
}

// Handle is one leaf stream handle, in 40 bytes, since a _metadata may hold hundreds of thousands. Its strings stay in
// the file: ask the Metadata that it came from (Path, Name, Inline, LogicalFileID).
type Handle struct {
	Size     int64 // bytes of state; -1 unknown
	Start    int64 // first byte in the merged file; 0 but for segments
	Operator int32 // index in Metadata.Operators
	Subtask  int32 // -1 for the coordinator
	off      uint32
	str      uint32 // where the path's or name's length is; 0 when there is none
	Where    Where
	Type     HandleType
	flags    uint8
}

const (
	flagPlain    = 1 << iota // the path is in the normal form already
	flagRelative             // type 6
	flagShared               // a segment of shared scope
)

// IsFile says whether the handle names a file.
func (h Handle) IsFile() bool {
	return h.Type == FileHandle || h.Type == RelativeFileHandle || h.Type == SegmentHandle
}

// Scope is the scope of a segment, ScopeNone for other handles.
func (h Handle) Scope() Scope {
	switch {
	case h.Type != SegmentHandle:
		return ScopeNone
	case h.flags&flagShared != 0:
		return ScopeShared
	}
	return ScopeExclusive
}

// Offset is where the handle's type byte is in the file.
func (h Handle) Offset() int { return int(h.off) }

// need is how many leading bytes of the file the handle reads; 0 when unknown.
func (h Handle) need() int64 {
	if h.Size < 0 {
		return 0
	}
	return h.Start + h.Size
}

// Path is the path of a file handle as written, relative or absolute; "" for other handles. It shares memory with the file.
func (m *Metadata) Path(h Handle) string {
	if !h.IsFile() {
		return ""
	}
	if h.flags&flagPlain != 0 {
		return view(m.rawPath(h)) // ASCII, as a plain path is
	}
	return decodeMUTF8(m.rawPath(h))
}

func (m *Metadata) rawPath(h Handle) []byte { return utfAt(m.b, int(h.str)) }

// Name is the handleName of an inline handle: an identity, often the path that a file would have had, never opened.
func (m *Metadata) Name(h Handle) string {
	if h.Type != InlineHandle {
		return ""
	}
	return decodeMUTF8(utfAt(m.b, int(h.str)))
}

// Inline is the state in an inline handle, nil for other handles. It aliases the file: do not change it.
func (m *Metadata) Inline(h Handle) []byte {
	if h.Type != InlineHandle {
		return nil
	}
	at := int(h.str) + 2 + len(utfAt(m.b, int(h.str))) + 4
	return m.b[at : at+int(h.Size) : at+int(h.Size)]
}

// LogicalFileID is the id of a segment, "" for other handles.
func (m *Metadata) LogicalFileID(h Handle) string {
	if h.Type != SegmentHandle {
		return ""
	}
	return decodeMUTF8(utfAt(m.b, int(h.str)+2+len(m.rawPath(h))))
}

// OperatorID is the 16 bytes that name an operator across restarts.
type OperatorID [16]byte

// String is the id as Flink prints it.
func (id OperatorID) String() string { return hex.EncodeToString(id[:]) }

// maxStreamNesting bounds KeyGroupsStateHandle as a stream (type 3) within itself. Flink writes none.
const maxStreamNesting = 4

// stream scans a stream handle that must be there, and gives the bytes of state that it stands for.
func (s *scanner) stream(w Where) int64 { return s.streamNested(w, 0) }

func (s *scanner) streamNested(w Where, depth int) int64 {
	at := s.pos
	switch t := s.u8("stream handle type"); t {
	case 0:
		if s.err == nil {
			s.failf(at, "stream handle", ErrHandleType, "a null handle where Flink needs one")
		}
		return 0
	case 3:
		if depth == maxStreamNesting {
			s.fail(at, "key group stream handle", ErrNesting)
			return 0
		}
		s.keyGroupRange()
		return s.streamNested(w, depth+1)
	default:
		return s.leaf(at, HandleType(t), w)
	}
}

// coordinatorState scans the state of an operator coordinator: null or inline, and says whether there was any.
func (s *scanner) coordinatorState() bool {
	at := s.pos
	switch t := s.u8("coordinator state type"); t {
	case 0:
		return false
	case uint8(InlineHandle):
		s.addState(s.leaf(at, InlineHandle, Coordinator))
		return true
	default:
		s.failf(at, "coordinator state type", ErrHandleType, "%d (%s), only inline state is known here", t, typeName(t))
		return false
	}
}

// leaf scans the body of the stream handle whose type byte was at `at`.
func (s *scanner) leaf(at int, t HandleType, w Where) int64 {
	h := Handle{Operator: s.opIndex, Subtask: s.subtask, Where: w, Type: t, off: uint32(at)}
	switch t {
	case InlineHandle:
		h.str = uint32(s.pos)
		s.utf("inline handle name")
		h.Size = int64(len(s.raw("inline state length")))
	case FileHandle:
		h.Size = s.size("file handle size")
		h.str = uint32(s.pos)
		h.flags = s.absolutePath("file handle path")
	case RelativeFileHandle:
		h.str = uint32(s.pos)
		h.flags = s.relativePath("relative file handle path") | flagRelative
		h.Size = s.size("relative file handle size")
	case SegmentHandle:
		s.segment(&h)
	case EmptyHandle:
	default:
		s.failf(at, "stream handle type", ErrHandleType, "%d (%s)", uint8(t), typeName(uint8(t)))
	}
	if s.err != nil {
		return 0
	}
	s.add(h)
	return max(h.Size, 0)
}

func (s *scanner) segment(h *Handle) {
	at := s.pos
	h.Start = s.i64("segment start")
	h.Size = s.size("segment size")
	if s.err == nil && (h.Start < 0 || h.Start > math.MaxInt64-max(h.Size, 0)) {
		s.failf(at, "segment start", ErrValue, "%d, size %d", h.Start, h.Size)
	}
	at = s.pos
	switch scope := s.i32("segment scope"); scope {
	case 0:
	case 1:
		h.flags |= flagShared
	default:
		s.failf(at, "segment scope", ErrValue, "%d", scope)
	}
	h.str = uint32(s.pos)
	h.flags |= s.absolutePath("segment path")
	s.utf("segment logical file id")
}

// size reads a state size. FileStateHandle's constructor refuses what is below -1 (unknown).
func (s *scanner) size(field string) int64 {
	at := s.pos
	n := s.i64(field)
	if n < -1 {
		s.failf(at, field, ErrValue, "%d", n)
	}
	return n
}

// absolutePath reads and checks a path, and says whether it is in the normal form.
func (s *scanner) absolutePath(field string) uint8 {
	at := s.pos
	if n := s.left(); n >= 2 {
		end := at + 2 + (int(s.b[at])<<8 | int(s.b[at+1]))
		if end <= len(s.b) && inDir(view(s.b[at+2:end]), s.plainDir) {
			s.pos = end
			return flagPlain
		}
	}
	raw := s.utf(field)
	if s.err != nil {
		return 0
	}
	if p := view(raw); plainAbsolute(p) {
		s.plainDir = p[:strings.LastIndexByte(p, '/')+1]
		s.noteJobDir(p)
		return flagPlain
	}
	if text, ok := s.pathText(at, field, raw); ok {
		if normal, err := NormalizePath(text); err != nil {
			s.fail(at, field, err)
		} else {
			s.noteJobDir(normal)
		}
	}
	return 0
}

func (s *scanner) relativePath(field string) uint8 {
	at := s.pos
	raw := s.utf(field)
	if s.err != nil {
		return 0
	}
	text, ok := s.pathText(at, field, raw)
	if !ok {
		return 0
	}
	if err := checkRelative(text); err != nil {
		s.fail(at, field, err)
		return 0
	}
	if plainRelative(text) {
		return flagPlain
	}
	return 0
}

// pathText decodes a path. One that would not be encoded to the same bytes (over-long forms, lone surrogates) is refused:
// it could not be compared with others.
func (s *scanner) pathText(at int, field string, raw []byte) (string, bool) {
	text := decodeMUTF8(raw)
	if again, err := encodeMUTF8(text); err != nil || again != view(raw) {
		s.failf(at, field, ErrPath, "%q is not encoded as Java does", raw)
		return "", false
	}
	return text, true
}

// add keeps a handle. Growing is by what the part of the file that is behind us predicts, not by doubling, as handles
// are the largest thing that a scan allocates; but never so much that a dense beginning could make it large.
func (s *scanner) add(h Handle) {
	hs := s.m.Handles
	if len(hs) == cap(hs) {
		predicted := int(float64(len(hs)) * float64(len(s.b)) / float64(s.pos) * 1.04)
		grown := make([]Handle, len(hs), max(min(predicted, 8*len(hs)), len(hs)+len(hs)/4, 64))
		copy(grown, hs)
		hs = grown
	}
	s.m.Handles = append(hs, h)
	if !h.IsFile() {
		return
	}
	s.m.fileHandles++
	if h.flags&flagPlain == 0 {
		s.m.oddPaths++
	}
	if h.Type == RelativeFileHandle {
		s.m.relatives++
	}
}

// typeName is Flink's name of a handle type byte, for errors.
func typeName(t uint8) string {
	names := [...]string{"null", "ByteStreamStateHandle", "FileStateHandle", "KeyGroupsStateHandle", "OperatorStreamStateHandle",
		"IncrementalRemoteKeyedStateHandle", "RelativeFileStateHandle", "KeyGroupsSavepointStateHandle", "ChangelogStateBackendHandle",
		"InMemoryChangelogStateHandle", "ChangelogStateHandleStreamImpl", "IncrementalRemoteKeyedStateHandle V2", "KeyGroupsStateHandle V2",
		"ChangelogStateHandleStreamImpl V2", "ChangelogStateBackendHandle V2", "SegmentFileStateHandle", "EmptySegmentFileStateHandle",
		"FileMergingOperatorStreamStateHandle"}
	if int(t) < len(names) {
		return names[t]
	}
	return "unknown to this version"
}
