package flinkmeta

// Operator (non-keyed) state handles. Source: MetadataV2V3SerializerBase.deserializeOperatorStateHandle, Flink 1.20.
const (
	typeOperatorStream            = 4
	typeFileMergingOperatorStream = 17 // 1.20+
)

// Dir is a directory that a FileMergingOperatorStreamStateHandle names: Flink registers it to delete merged files in it.
type Dir struct {
	Path     string // as written; shares memory with the file
	Operator int32  // index in Metadata.Operators
	Subtask  int32
	Shared   bool // the shared directory, else the task-owned one
	off      uint32
}

// Offset is where the path's length field is in the file.
func (d Dir) Offset() int { return int(d.off) }

// operatorState scans a managed or raw operator state handle, if there is one.
func (s *scanner) operatorState(w Where) {
	if s.i32("operator state flag") == 0 {
		return
	}
	at := s.pos
	switch t := s.u8("operator handle type"); t {
	case 0:
	case typeOperatorStream:
		s.stateNames()
		s.addState(s.stream(w))
	case typeFileMergingOperatorStream:
		s.stateNames()
		s.directory(false)
		s.directory(true)
		s.u8("empty flag")
		s.segmentDelegate(w)
	default:
		s.failf(at, "operator handle type", ErrHandleType, "%d (%s)", t, typeName(t))
	}
}

// stateNames passes the named states with their offsets in the delegate.
func (s *scanner) stateNames() {
	for range s.count("operator state count", 2+1+4) {
		s.utf("operator state name")
		at := s.pos
		if mode := s.u8("distribution mode"); mode > 2 {
			s.failf(at, "distribution mode", ErrValue, "%d", mode)
		}
		s.skip(8*s.count("partition offset count", 8), "partition offsets")
		if s.err != nil {
			return
		}
	}
}

func (s *scanner) directory(shared bool) {
	field := "task-owned directory"
	if shared {
		field = "shared directory"
	}
	at := s.pos
	raw := s.utf(field)
	if s.err != nil {
		return
	}
	text, ok := s.pathText(at, field, raw)
	if !ok {
		return
	}
	normal, err := NormalizePath(text)
	if err != nil {
		s.fail(at, field, err)
		return
	}
	s.noteJobDir(joinPrefix(normal) + "_")
	s.m.Dirs = append(s.m.Dirs, Dir{Path: text, Operator: s.opIndex, Subtask: s.subtask, Shared: shared, off: uint32(at)})
}

// segmentDelegate scans the delegate of a file merging handle, which the loader wants to be a segment.
func (s *scanner) segmentDelegate(w Where) {
	at := s.pos
	switch t := s.u8("merged operator state type"); HandleType(t) {
	case SegmentHandle, EmptyHandle:
		s.addState(s.leaf(at, HandleType(t), w))
	default:
		if s.err == nil {
			s.failf(at, "merged operator state type", ErrHandleType, "%d (%s), a segment is needed", t, typeName(t))
		}
	}
}
