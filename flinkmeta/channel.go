package flinkmeta

// Channel state of unaligned checkpoints. Many handles share one file; each says how many bytes of it are its own.
// Source: ChannelStateHandleSerializerV1 / V2 (kinds, Flink 2.1+).
const (
	channelInput        = 1
	channelOutput       = 2
	channelMergedInput  = 3
	channelMergedOutput = 4
)

// channelList scans the channel state of one direction.
func (s *scanner) channelList(w Where) {
	field, min := "channel state count", 4+4+4+4+8+1
	if s.m.Version >= 6 {
		min = 1 + 4 + 8 + 1 + 4
	}
	for range s.count(field, min) {
		if s.m.Version >= 6 {
			s.channelKind(w)
		} else {
			s.channel(w)
		}
		if s.err != nil {
			return
		}
	}
}

func (s *scanner) channelKind(w Where) {
	at := s.pos
	single, merged := uint8(channelInput), uint8(channelMergedInput)
	if w == ResultSubpartitionState {
		single, merged = channelOutput, channelMergedOutput
	}
	switch kind := s.u8("channel state kind"); kind {
	case single:
		s.channel(w)
	case merged:
		s.i32("channel subtask")
		s.addState(s.channelSize())
		s.stream(w)
		s.raw("merged channel offsets length")
	default:
		if s.err == nil {
			s.failf(at, "channel state kind", ErrHandleType, "kind %d", kind)
		}
	}
}

func (s *scanner) channel(w Where) {
	s.skip(12, "channel subtask and indices")
	s.skip(8*s.count("channel offset count", 8), "channel offsets")
	s.addState(s.channelSize())
	s.stream(w)
}

func (s *scanner) channelSize() int64 { return max(s.i64("channel state size"), 0) }
