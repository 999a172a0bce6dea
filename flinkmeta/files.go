package flinkmeta

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math/bits"
	"strings"
)

// pathKey is a path in the normal form, as two pieces that are never joined: most paths of a file can be compared and
// hashed where they lie, a relative one with its directory in front.
type pathKey struct{ head, tail string }

func (k pathKey) len() int       { return len(k.head) + len(k.tail) }
func (k pathKey) String() string { return k.head + k.tail }

func (k pathKey) equal(o pathKey) bool {
	if len(k.head) > len(o.head) {
		k, o = o, k
	}
	d := len(o.head) - len(k.head)
	return k.len() == o.len() && k.head == o.head[:len(k.head)] && k.tail[:d] == o.head[len(k.head):] && k.tail[d:] == o.tail
}

// pathSet finds the number that was given to a path. A Go map would hold every path as a string of its own.
type pathSet struct {
	seed  maphash.Seed
	slots []uint32 // number+1 in the low bits, above them as much of the hash as fits; 0 is free
	shift uint     // bits for the number
}

func newPathSet(n int) *pathSet {
	return &pathSet{seed: maphash.MakeSeed(), slots: make([]uint32, 1<<bits.Len(uint(n+n/2))), shift: uint(bits.Len(uint(n + 1)))}
}

func (s *pathSet) hash(k pathKey) uint64 {
	if k.head == "" {
		return maphash.String(s.seed, k.tail)
	}
	var h maphash.Hash
	h.SetSeed(s.seed)
	_, _ = h.WriteString(k.head) // never fails
	_, _ = h.WriteString(k.tail)
	return h.Sum64()
}

// put gives k the number n, unless it has one already, which is returned then. keyOf gives the path of a number.
func (s *pathSet) put(k pathKey, n int, keyOf func(int) pathKey) int {
	h := s.hash(k)
	mask := uint64(len(s.slots) - 1)
	tag := uint32(h>>32) >> s.shift << s.shift
	for i := h & mask; ; i = (i + 1) & mask {
		switch slot := s.slots[i]; {
		case slot == 0:
			s.slots[i] = tag | uint32(n+1)
			return n
		case slot>>s.shift<<s.shift == tag:
			if old := int(slot&(1<<s.shift-1)) - 1; keyOf(old).equal(k) {
				return old
			}
		}
	}
}

// physical is one file, however many handles name it.
type physical struct {
	need  int64
	first uint32 // its first handle
	refs  uint32
	flags uint8
}

const (
	fileRelative  = 1 << iota // some handle is relative
	fileAbsolute              // some handle is absolute
	fileSegment               // some handle is a segment
	fileChangelog             // some handle is of the changelog
	fileUnsized               // some handle does not say how much it needs
)

// files tells which handles name the same file, given the directory of _metadata.
type files struct {
	m        *Metadata
	dir      string // normalised, with a slash at the end
	physical []physical
	of       []uint32          // per handle: its file; noFile for handles without
	odd      map[uint32]string // per handle: the normal form, where that is not the bytes of the path
	set      *pathSet

	roleDir string // the directory of the file described last, with its slash
	role    Role   // of the files in it
}

const noFile = ^uint32(0)

func (m *Metadata) files(dir string) (*files, error) {
	normal, err := NormalizePath(dir)
	if err != nil {
		return nil, fmt.Errorf("directory of _metadata: %w", err)
	}
	f := &files{m: m, dir: joinPrefix(normal), of: make([]uint32, len(m.Handles)), set: newPathSet(m.fileHandles),
		physical: make([]physical, 0, m.fileHandles)}
	for i := range m.Handles {
		if err := f.number(uint32(i)); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// number tells which file handle i names.
func (f *files) number(i uint32) error {
	h := f.m.Handles[i]
	if !h.IsFile() {
		f.of[i] = noFile
		return nil
	}
	if h.flags&flagPlain == 0 {
		if err := f.addOdd(i); err != nil {
			return err
		}
	}
	n := f.set.put(f.key(i), len(f.physical), f.firstKey)
	if n == len(f.physical) {
		f.physical = append(f.physical, physical{first: i})
	}
	f.of[i] = uint32(n)
	f.physical[n].add(h)
	return nil
}

// firstKey is the path of file n.
func (f *files) firstKey(n int) pathKey { return f.key(f.physical[n].first) }

func (p *physical) add(h Handle) {
	p.refs++
	p.need = max(p.need, h.need())
	switch h.Type {
	case RelativeFileHandle:
		p.flags |= fileRelative
	case SegmentHandle:
		p.flags |= fileAbsolute | fileSegment
	default:
		p.flags |= fileAbsolute
	}
	if h.Where.Changelog() {
		p.flags |= fileChangelog
	}
	if h.Size < 0 {
		p.flags |= fileUnsized
	}
}

// key is the normal form of a file handle's path.
func (f *files) key(i uint32) pathKey {
	h := f.m.Handles[i]
	switch {
	case h.flags&flagPlain == 0:
		return pathKey{tail: f.odd[i]}
	case h.flags&flagRelative != 0:
		return pathKey{f.dir, view(f.m.rawPath(h))}
	}
	return pathKey{tail: view(f.m.rawPath(h))}
}

func (f *files) addOdd(i uint32) (err error) {
	h := f.m.Handles[i]
	if f.odd == nil {
		f.odd = map[uint32]string{}
	}
	if h.flags&flagRelative != 0 {
		f.odd[i], err = ResolvePath(f.dir, f.m.Path(h))
	} else {
		f.odd[i], err = NormalizePath(f.m.Path(h))
	}
	if err != nil {
		return &FormatError{Offset: int(h.off), Field: "file path", Operator: f.m.Operators[h.Operator].label(), Err: err}
	}
	return nil
}

// ref describes file n to the outside.
func (f *files) ref(n int) FileRef {
	p := &f.physical[n]
	h := f.m.Handles[p.first]
	r := FileRef{
		Path:       f.m.Path(h),
		Relative:   h.Type == RelativeFileHandle,
		Mixed:      p.flags&fileRelative != 0 && p.flags&fileAbsolute != 0,
		Segment:    p.flags&fileSegment != 0,
		Changelog:  p.flags&fileChangelog != 0,
		Need:       p.need,
		Unsized:    p.flags&fileUnsized != 0,
		References: int(p.refs),
		Operator:   int(h.Operator),
		Subtask:    int(h.Subtask),
	}
	if h.flags == flagPlain || h.flags == flagPlain|flagShared {
		r.URI = r.Path
	} else {
		r.URI = f.key(p.first).String()
	}
	if !inDir(r.URI, f.roleDir) {
		f.roleDir = r.URI[:strings.LastIndexByte(r.URI, '/')+1]
		f.role = roleOf(r.URI, f.dir)
	}
	r.Role = f.role
	return r
}

// roleOf tells from the place of a file what it is to its job: Flink's layout is <job>/{chk-N,shared,taskowned}/<uuid>,
// with one more directory in the latter two when files are merged.
func roleOf(uri, dir string) Role {
	if strings.HasPrefix(uri, dir) {
		return RoleExclusive
	}
	_, p := splitRoot(uri)
	_, rest := lastSegment(p)
	parent, rest := lastSegment(rest)
	grand := ""
	if strings.HasPrefix(parent, "job_") {
		grand, _ = lastSegment(rest)
	}
	switch {
	case parent == "shared" || grand == "shared":
		return RoleShared
	case parent == "taskowned" || grand == "taskowned":
		return RoleTaskOwned
	case isCheckpointDir(parent):
		return RoleExclusive
	}
	return RoleOther
}

// isCheckpointDir says whether Flink gives this name to the directory of a checkpoint or savepoint.
func isCheckpointDir(name string) bool {
	if strings.HasPrefix(name, "savepoint-") {
		return true
	}
	number, ok := strings.CutPrefix(name, "chk-")
	return ok && number != "" && strings.Trim(number, "0123456789") == ""
}

// lastSegment splits a path into its last segment and what stands before the slash in front of it.
func lastSegment(p string) (segment, rest string) {
	i := strings.LastIndexByte(p, '/')
	return p[i+1:], p[:max(i, 0)]
}

// pathSpan is where the path of a file handle lies, without its length field.
func (m *Metadata) pathSpan(h Handle) (from, to int) {
	from = int(h.str) + 2
	return from, from + int(binary.BigEndian.Uint16(m.b[h.str:]))
}
