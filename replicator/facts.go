package replicator

import (
	"fmt"
	"slices"

	"github.com/ckptferry/ckptferry/flinkmeta"
)

// RestoreFacts are what the ways of starting Flink from a checkpoint depend on. They are small, so that they can be kept
// for each replica: start lines then need no look at its _metadata.
type RestoreFacts struct {
	// MetadataVersion is _metadata's, 2 to 6; 0: nothing is known.
	MetadataVersion int32
	// OldestFlink is the oldest Flink that loads it, "1.20", and OldestFlinkWhy what in it asks for that.
	OldestFlink    string
	OldestFlinkWhy string
	// Changelog: the job uses the changelog state backend; Flink refuses NO_CLAIM.
	Changelog bool
	// Unaligned: in-flight data is part of it.
	Unaligned bool
	// RelativeReused: shared files have relative paths, which do not outlive a CLAIM restore.
	RelativeReused bool
	// HiddenHandles: files lie in taskowned/ that _metadata does not refer to, so some user function owns them and names
	// them in bytes that only it understands. Those names are the source's. _metadata alone never tells: a plan has seen
	// the directory, and false from FactsOf says nothing.
	HiddenHandles bool
}

// FactsOf are the facts that a _metadata tells by itself: all but HiddenHandles.
func FactsOf(m *flinkmeta.Metadata) RestoreFacts {
	oldest, why := oldestFor(m)
	return RestoreFacts{MetadataVersion: int32(m.Version), OldestFlink: oldest.String(), OldestFlinkWhy: why, // 2 to 6
		Changelog: m.Changelog(), Unaligned: m.Unaligned(), RelativeReused: m.RelativeReused()}
}

// oldest is the oldest Flink that loads the _metadata. An error when nothing is known of it: no start line may be
// guessed.
func (f RestoreFacts) oldest() (FlinkVersion, error) {
	if f.OldestFlink == "" {
		return FlinkVersion{}, fmt.Errorf("%w: nothing is known of the checkpoint's _metadata: read it first", ErrRefused)
	}
	return ParseFlinkVersion(f.OldestFlink)
}

// oldestFor is the oldest Flink release that loads a _metadata, and what in it asks for that. Source: Flink
// MetadataSerializers of 1.3 - 2.3 and the handle types of MetadataV2V3SerializerBase (flinkmeta/doc.go).
func oldestFor(m *flinkmeta.Metadata) (oldest FlinkVersion, why string) {
	oldest = map[int]FlinkVersion{2: {1, 3}, 3: {1, 11}, 4: {1, 16}, 5: {2, 0}, 6: {2, 1}}[m.Version]
	why = fmt.Sprintf("_metadata version %d", m.Version)
	if m.Changelog() && !oldest.atLeast(1, 15) {
		oldest, why = FlinkVersion{1, 15}, "changelog state"
	}
	merged := len(m.Dirs) > 0 || slices.ContainsFunc(m.Handles, func(h flinkmeta.Handle) bool {
		return h.Type == flinkmeta.SegmentHandle || h.Type == flinkmeta.EmptyHandle
	})
	if merged && !oldest.atLeast(1, 20) {
		oldest, why = FlinkVersion{1, 20}, "merged files"
	}
	return oldest, why
}
