package flinkmeta

import (
	"fmt"
	"math"
)

const (
	magic       = 0x4960672D // "I`g-"; o.a.f.runtime.checkpoint.Checkpoints.HEADER_MAGIC_NUMBER
	masterMagic = 0xC96B1696 // MetadataV2V3SerializerBase.MASTER_STATE_MAGIC_NUMBER

	minVersion = 2 // Flink 1.3 - 1.10
	maxVersion = 6 // Flink 2.1 - 2.3

	maxSize = math.MaxInt64
)

// Kind is what the file was written as. Empty before version 4 (Flink 1.16), which does not say.
type Kind string

// Kinds of completed snapshots.
const (
	KindCheckpoint Kind = "checkpoint"
	KindSavepoint  Kind = "savepoint"
)

// Metadata is one scanned _metadata file. It is safe for concurrent use, as nothing in it changes.
type Metadata struct {
	Version      int // 2 to 6
	CheckpointID int64
	Kind         Kind
	Properties   Properties // version 4 and later
	MasterStates []MasterState
	Operators    []Operator // in file order
	Handles      []Handle   // all leaf stream handles, in file order
	Dirs         []Dir      // the directories of file merging, in file order; 1.20+

	b           []byte
	fileHandles int
	relatives   int      // of fileHandles: relative
	oddPaths    int      // of fileHandles: not in the normal form
	jobDirs     []string // the job directories that absolute paths name, in order of appearance
	changelog   bool     // some keyed state is a changelog handle
}

// MasterState is the state of a master hook: opaque bytes of the JobManager.
type MasterState struct {
	Name    string
	Version int32
	State   []byte // aliases the file
}

// Operator is one operator and how much state it has.
type Operator struct {
	ID               OperatorID
	Name, UID        string // "" before version 5 (Flink 2.0), and where the job gives none
	Parallelism      int
	MaxParallelism   int
	Subtasks         int  // entries in the file; subtasks without state may have none
	FinishedSubtasks int  // of Subtasks
	FullyFinished    bool // every subtask had finished; then there is no entry

	// StateBytes is the size of the state as Flink counts it (OperatorState.getStateSize): the sum over the handles,
	// inline ones included; for channel state and changelogs the part of the shared file that is the handle's. Unknown
	// counts 0.
	StateBytes int64
}

// label is the operator as a person finds it in Flink's web interface.
func (o *Operator) label() string {
	if o.Name == "" {
		return o.ID.String()
	}
	return fmt.Sprintf("%q (%s)", o.Name, o.ID)
}

// Scan reads a whole _metadata file. It keeps b, and strings of the result share its memory: the caller must not change
// b afterwards. Memory beside b is some 40 bytes a handle. It accepts what Flink's loader of that version accepts, and
// nothing behind it: a cut at any byte is an error.
//
// All errors are a *FormatError around one of the sentinels of this package: ErrMagic, ErrVersion (version 1 and
// unknown ones), ErrHandleType, ErrTruncated, ErrCount, ErrValue, ErrTrailing, ErrProperties, ErrPath, …
func Scan(b []byte) (*Metadata, error) {
	m := &Metadata{b: b}
	s := &scanner{reader: reader{b: b}, m: m}
	if uint64(len(b)) > math.MaxUint32 {
		s.fail(0, "file", ErrTooLarge)
		return nil, s.err
	}
	s.file()
	if s.err != nil {
		return nil, s.err
	}
	return m, nil
}

type scanner struct {
	reader
	m        *Metadata
	opIndex  int32
	subtask  int32
	plainDir string // the directory of the last absolute path in normal form, with its slash
	seenJobs map[string]bool
}

// addState counts n bytes of state to the operator at hand.
func (s *scanner) addState(n int64) {
	if s.op != nil {
		s.op.StateBytes = addSize(s.op.StateBytes, n)
	}
}

func (s *scanner) file() {
	if got := uint32(s.i32("magic number")); s.err == nil && got != magic {
		s.failf(0, "magic number", ErrMagic, "%#08x", got)
	}
	version := s.i32("metadata version")
	if s.err == nil && (version < minVersion || version > maxVersion) {
		s.failf(4, "metadata version", ErrVersion, "%s", versionText(version))
	}
	s.m.Version = int(version)
	if s.m.CheckpointID = s.i64("checkpoint id"); s.m.CheckpointID < 0 {
		s.failf(8, "checkpoint id", ErrValue, "%d", s.m.CheckpointID)
	}
	for range s.count("master state count", 4+4+1) {
		s.masterState()
	}
	s.operators()
	if s.err != nil {
		return
	}
	if s.m.Version >= 4 {
		s.properties()
	} else if s.left() > 0 {
		s.failf(s.pos, "end of file", ErrTrailing, "%d bytes", s.left())
	}
}

func versionText(v int32) string {
	if v == 1 {
		return "version 1 (Flink 1.2), which Flink itself no longer reads: load it with Flink 1.3 - 1.10 and take a new savepoint"
	}
	return fmt.Sprintf("version %d; known are %d to %d (Flink 1.3 - 2.3)", v, minVersion, maxVersion)
}

func (s *scanner) masterState() {
	if s.err != nil {
		return
	}
	at := s.pos
	if got := uint32(s.i32("master state magic number")); s.err == nil && got != masterMagic {
		s.failf(at, "master state magic number", ErrValue, "%#08x", got)
		return
	}
	at = s.pos
	n := s.count("master state length", 1)
	if s.err == nil && n == 0 {
		s.failf(at, "master state length", ErrCount, "0")
	}
	end := s.pos + n
	version := s.i32("master state version")
	name := s.utf("master state name")
	state := s.raw("master state bytes")
	if s.err != nil {
		return
	}
	if s.pos != end {
		s.failf(s.pos, "master state end", ErrValue, "ends at %d, announced was %d", s.pos, end)
		return
	}
	s.m.MasterStates = append(s.m.MasterStates, MasterState{Name: decodeMUTF8(name), Version: version, State: state})
}

func (s *scanner) operators() {
	min := 16 + 4 + 4 + 1 + 4
	if s.m.Version == 2 {
		min = 16 + 4 + 4 + 4 + 4
	} else if s.m.Version >= 5 {
		min += 4
	}
	n := s.count("operator count", min)
	if n == 0 || s.err != nil {
		return
	}
	s.m.Operators = make([]Operator, n)
	for i := range s.m.Operators {
		s.opIndex, s.op = int32(i), &s.m.Operators[i]
		s.operator()
		if s.err != nil {
			return
		}
	}
	s.op = nil
}

func (s *scanner) operator() {
	o := s.op
	if s.m.Version >= 5 {
		o.Name = decodeMUTF8(s.utf("operator name"))
		o.UID = decodeMUTF8(s.utf("operator uid"))
	}
	at := s.pos
	s.skip(len(o.ID), "operator id")
	if s.err != nil {
		return
	}
	copy(o.ID[:], s.b[at:])
	at = s.pos
	o.Parallelism = int(s.i32("parallelism"))
	o.MaxParallelism = int(s.i32("max parallelism"))
	if s.err == nil && o.Parallelism > o.MaxParallelism {
		s.failf(at, "parallelism", ErrValue, "%d is above the max parallelism %d", o.Parallelism, o.MaxParallelism)
	}
	if s.m.Version == 2 {
		s.i32("chain length")
	}
	s.subtask = -1
	hasCoordinator := s.m.Version >= 3 && s.coordinatorState()
	if s.subtaskCount(hasCoordinator) {
		for range o.Subtasks {
			s.subtaskState()
			if s.err != nil {
				return
			}
		}
	}
}

// subtaskCount reads the number of subtasks; false for an operator that has finished, of which nothing follows.
func (s *scanner) subtaskCount(hasCoordinator bool) bool {
	at, min := s.pos, 4
	if s.m.Version == 2 {
		min = 4 + 8 + 4 + 4 + 4 + 1 + 1
	}
	if s.m.Version > 2 && s.left() >= 4 && int8(s.b[at]) < 0 {
		s.i32("subtask count")
		if hasCoordinator {
			s.failf(at, "subtask count", ErrValue, "the operator has finished, and yet has coordinator state")
		}
		s.op.FullyFinished = true
		return false
	}
	s.op.Subtasks = s.count("subtask count", min)
	return true
}

func (s *scanner) subtaskState() {
	at := s.pos
	index := s.i32("subtask index")
	finished := s.m.Version > 2 && index < 0
	if finished {
		index = -(index + 1)
	}
	if s.err == nil && (index < 0 || int(index) >= s.op.Parallelism) {
		s.failf(at, "subtask index", ErrValue, "%d, parallelism is %d", index, s.op.Parallelism)
		return
	}
	s.subtask = index
	if finished {
		s.op.FinishedSubtasks++
		return
	}
	if s.m.Version == 2 {
		s.i64("duration")
		at = s.pos
		if n := s.i32("legacy state count"); n != 0 {
			s.failf(at, "legacy state count", ErrValue, "%d: state of Flink 1.1 is not supported", n)
		}
	}
	s.operatorState(ManagedOperatorState)
	s.operatorState(RawOperatorState)
	s.addState(s.keyed(ManagedKeyedState, 0))
	s.addState(s.keyed(RawKeyedState, 0))
	if s.m.Version >= 3 {
		s.channelList(InputChannelState)
		s.channelList(ResultSubpartitionState)
	}
}
