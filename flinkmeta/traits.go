package flinkmeta

// Changelog says whether a keyed state was written by the changelog state backend (handles 8 and 14). Flink refuses to
// restore such a job with NO_CLAIM. Source: ChangelogStateBackendHandleImpl, 1.15 - 2.3.
func (m *Metadata) Changelog() bool { return m.changelog }

// Unaligned says whether the checkpoint holds channel state: bytes that were in flight between operators.
func (m *Metadata) Unaligned() bool {
	for _, h := range m.Handles {
		if k := h.Where.Kind(); k == InputChannelState || k == ResultSubpartitionState {
			return true
		}
	}
	return false
}

// RelativeReused says whether a handle that Flink may carry into later checkpoints after a CLAIM restore is relative:
// a shared file of an incremental checkpoint, or anything within a changelog's materialisation. Written again, its
// path would lead from the later checkpoint's directory, where the file is not (seen with 1.20.0 and 2.3.0, native
// savepoints among them; FLINK-39964).
func (m *Metadata) RelativeReused() bool {
	for _, h := range m.Handles {
		shared := h.Where>>partShift == partShare>>partShift
		nested := h.Where>>nestShift&(1<<(2*maxNesting)-1) != 0
		if h.Type == RelativeFileHandle && (shared || nested) {
			return true
		}
	}
	return false
}
