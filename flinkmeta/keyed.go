package flinkmeta

// Keyed state handles. Source: MetadataV2V3SerializerBase.deserializeKeyedStateHandle, Flink 1.13 - 2.3; the layouts are
// in the package comment.
const (
	typeKeyGroups          = 3
	typeIncremental        = 5
	typeSavepointKeyGroups = 7
	typeChangelog          = 8
	typeChangelogByte      = 9
	typeChangelogFile      = 10
	typeIncrementalV2      = 11
	typeKeyGroupsV2        = 12
	typeChangelogFileV2    = 13
	typeChangelogV2        = 14
)

// keyed scans a keyed state handle and gives the bytes of state that it stands for. Null is allowed at the top only.
func (s *scanner) keyed(w Where, level int) int64 {
	at := s.pos
	switch t := s.u8("keyed handle type"); t {
	case 0:
		if level > 0 && s.err == nil {
			s.failf(at, "keyed handle", ErrHandleType, "a null handle within a changelog")
		}
		return 0
	case typeKeyGroups, typeSavepointKeyGroups, typeKeyGroupsV2:
		s.keyGroupRange()
		n := s.stream(w)
		if t == typeKeyGroupsV2 {
			s.utf("state handle id")
		}
		return n
	case typeIncremental, typeIncrementalV2:
		return s.incremental(w, t)
	case typeChangelog, typeChangelogV2:
		if level == maxNesting {
			s.fail(at, "changelog handle", ErrNesting)
			return 0
		}
		s.m.changelog = true
		return s.changelog(w, t, level)
	case typeChangelogByte:
		return s.changelogBytes()
	case typeChangelogFile, typeChangelogFileV2:
		return s.changelogFiles(w, t)
	default:
		s.failf(at, "keyed handle type", ErrHandleType, "%d (%s)", t, typeName(t))
		return 0
	}
}

// keyGroupRange passes a range with the offset of each key group.
func (s *scanner) keyGroupRange() {
	s.i32("start key group")
	s.skip(8*s.count("key group count", 8), "key group offsets")
}

func (s *scanner) incremental(w Where, t uint8) int64 {
	s.i64("incremental checkpoint id")
	s.utf("backend id")
	s.skip(8, "key group range")
	if t == typeIncrementalV2 {
		s.i64("checkpointed size")
	}
	n := s.stream(w | partMeta)
	n += s.localPaths(w|partShare, "shared file count")
	n += s.localPaths(w|partPriv, "private file count")
	if t == typeIncrementalV2 {
		s.utf("state handle id")
	}
	return n
}

// localPaths scans the files of an incremental handle, each with its name in the RocksDB directory.
func (s *scanner) localPaths(w Where, field string) int64 {
	var sum int64
	for range s.count(field, 3) {
		s.utf("local path")
		sum = addSize(sum, s.stream(w))
		if s.err != nil {
			break
		}
	}
	return sum
}

func (s *scanner) changelog(w Where, t uint8, level int) int64 {
	s.skip(8, "key group range")
	s.i64("checkpointed size")
	shift := nestShift + 2*level
	n := s.keyedList(w|nestMaterialized<<shift, "materialized handle count", level+1)
	n = addSize(n, s.keyedList(w|nestNonMaterialize<<shift, "non-materialized handle count", level+1))
	s.i64("materialization id")
	if t == typeChangelogV2 {
		s.i64("changelog checkpoint id")
	}
	s.utf("state handle id")
	return n
}

func (s *scanner) keyedList(w Where, field string, level int) int64 {
	var sum int64
	for range s.count(field, 1) {
		sum = addSize(sum, s.keyed(w, level))
		if s.err != nil {
			break
		}
	}
	return sum
}

// changelogBytes scans a changelog that is held inline; it has no stream handle.
func (s *scanner) changelogBytes() int64 {
	s.skip(8, "key group range")
	s.skip(16, "changelog sequence numbers")
	var sum int64
	for range s.count("change count", 8) {
		s.i32("change key group")
		sum += int64(len(s.raw("change length")))
		if s.err != nil {
			break
		}
	}
	s.utf("state handle id")
	return sum
}

// changelogFiles scans the handles of dstl files, the changelog's own storage. A file may serve many handles: the state
// is as large as the handle says, not as its files are (ChangelogStateHandleStreamImpl.getStateSize).
func (s *scanner) changelogFiles(w Where, t uint8) int64 {
	s.skip(8, "key group range")
	for range s.count("changelog stream count", 9) {
		s.i64("changelog stream offset")
		s.stream(w | partLog)
		if s.err != nil {
			break
		}
	}
	size := s.i64("changelog size")
	s.i64("changelog checkpointed size")
	s.utf("state handle id")
	if t == typeChangelogFileV2 {
		s.utf("changelog storage identifier")
	}
	return max(size, 0)
}

// addSize adds two sizes of state and stays at the largest number where a hostile file would overflow it.
func addSize(a, b int64) int64 {
	if a > maxSize-b {
		return maxSize
	}
	return a + b
}
