package flinkmeta

import (
	"encoding/binary"
	"math"
)

// drop takes the handles that stay as they are out of r.of, and gives the length of the new file.
func (r *relocation) drop() int {
	n := len(r.m.b)
	for i, h := range r.m.Handles {
		if r.of[i] == noFile {
			continue
		}
		if r.keeps(uint32(i), h, int(r.of[i])) {
			r.of[i] = noFile
			continue
		}
		from, to := r.m.pathSpan(h)
		n += r.pathLen(int(r.of[i])) - (to - from)
	}
	for _, d := range r.m.Dirs {
		if to, ok := r.dirs[d.Path]; ok {
			n += len(to) - len(utfAt(r.m.b, int(d.off)))
		}
	}
	return n
}

// pathLen is the length of the new path of file n, in bytes.
func (r *relocation) pathLen(n int) int {
	p := r.placed[n]
	return len(r.heads[p.head].text) + int(p.tail)
}

// keeps says whether handle i already is what the placement of its file n says: of that class, and with a path of the
// same normal form.
func (r *relocation) keeps(i uint32, h Handle, n int) bool {
	to, relative := r.placed[n], h.Type == RelativeFileHandle
	if relative != to.relative {
		return false
	}
	plain := to.plain && h.flags&flagPlain != 0
	if from, end := r.m.pathSpan(h); plain && end-from != r.pathLen(n) {
		return false
	}
	path := r.path(n)
	if raw := view(r.m.rawPath(h)); i == r.physical[n].first && plain {
		return raw[:len(path.head)] == path.head // the tail is its own
	} else if path.equal(pathKey{tail: raw}) {
		return true
	}
	if plain {
		return false
	}
	old, now := r.m.Path(h), decodeMUTF8([]byte(path.String()))
	if relative {
		now, err := cleanRelative(now)
		if err != nil {
			return false
		}
		old, err := cleanRelative(old)
		return err == nil && old == now
	}
	same, err := samePath(old, now)
	return err == nil && same
}

// splicer copies a file with some strings in it replaced.
type splicer struct {
	b, out []byte
	done   int // b has been dealt with up to here
}

// copyTo copies what is left in front of at.
func (s *splicer) copyTo(at int) { s.out = append(s.out, s.b[s.done:at]...) }

// replace puts a string in the place of the one whose length field is at `at`.
func (s *splicer) replace(at int, k pathKey) {
	s.copyTo(at)
	s.out = appendUTF(s.out, k)
	s.done = at + 2 + len(utfAt(s.b, at))
}

// write splices the new paths into a copy of the file, whose length will be n.
func (r *relocation) write(n int) []byte {
	s := &splicer{b: r.m.b, out: make([]byte, 0, n)}
	dirs := r.m.Dirs
	if r.dirs == nil {
		dirs = nil
	}
	for i, h := range r.m.Handles {
		for ; len(dirs) > 0 && dirs[0].off < h.off; dirs = dirs[1:] {
			s.replace(int(dirs[0].off), pathKey{tail: r.dirs[dirs[0].Path]})
		}
		if r.of[i] == noFile {
			continue
		}
		s.copyTo(int(h.off))
		s.out = r.writeHandle(s.out, h, int(r.of[i]))
		s.done = r.handleEnd(h)
	}
	for _, d := range dirs {
		s.replace(int(d.off), pathKey{tail: r.dirs[d.Path]})
	}
	s.copyTo(len(s.b))
	return s.out
}

// handleEnd is the end of what writeHandle replaces: the path, and behind it the size where the class has it there.
func (r *relocation) handleEnd(h Handle) int {
	_, end := r.m.pathSpan(h)
	if h.Type == RelativeFileHandle {
		end += 8
	}
	return end
}

// writeHandle writes a file handle from its type byte to handleEnd with the new path of file n. Types 2 and 6 have path
// and size in opposite orders.
func (r *relocation) writeHandle(out []byte, h Handle, n int) []byte {
	path := r.path(n)
	switch {
	case h.Type == SegmentHandle:
		out = append(out, r.m.b[h.off:h.str]...)
		return appendUTF(out, path)
	case r.placed[n].relative:
		out = append(out, byte(RelativeFileHandle))
		out = appendUTF(out, path)
		return binary.BigEndian.AppendUint64(out, uint64(h.Size))
	default:
		out = append(out, byte(FileHandle))
		out = binary.BigEndian.AppendUint64(out, uint64(h.Size))
		return appendUTF(out, path)
	}
}

// appendUTF appends a string that encodeMUTF8 has measured.
func appendUTF(out []byte, k pathKey) []byte {
	if k.len() > math.MaxUint16 {
		panic("flinkmeta: path of unchecked length")
	}
	out = binary.BigEndian.AppendUint16(out, uint16(k.len()))
	return append(append(out, k.head...), k.tail...)
}
