package flinkmeta

import "strings"

// exchange is Relocate for the common case, at the cost of little more than copying the file: absolute paths in the
// normal form, of which nothing but the prefix changes, and relative ones that go where _metadata goes. What an absolute
// handle becomes then depends on its own path alone, so which handles name one file need not be known.
//
// It declines whenever that is not certain, and whenever there is anything to complain about: Relocate says what.
func (b *rebase) exchange(m *Metadata) (out []byte, ok bool) {
	if b.relative || m.oddPaths > 0 || !b.plainMoves() {
		return nil, false
	}
	dir := joinPrefix(b.dir)
	length := len(m.b)
	for _, h := range m.Handles {
		if !h.IsFile() || h.Type == RelativeFileHandle {
			continue
		}
		path := view(m.rawPath(h))
		mv, rest, ok := b.find(path)
		if !ok || rest == "" || len(mv.to)+len(rest) > maxUTF {
			return nil, false
		}
		if m.relatives > 0 && strings.HasPrefix(path, dir) {
			return nil, false // a relative handle may name the same file
		}
		mv.used = true
		length += len(mv.to) - len(mv.from)
	}
	if !b.apartMoves() {
		return nil, false
	}
	dirs, ok := b.exchangedDirs(m)
	if !ok {
		return nil, false
	}
	for _, d := range m.Dirs {
		length += len(dirs[d.Path]) - len(utfAt(m.b, int(d.off)))
	}
	return b.write(m, dirs, length), true
}

// plainMoves says that a plain path stays one under every move, and that all that is below the directory of _metadata
// moves with it.
func (b *rebase) plainMoves() bool {
	for _, mv := range b.moves {
		if !plainAbsolute(mv.to+"/x") || strings.HasPrefix(mv.from, joinPrefix(b.dir)) {
			return false
		}
	}
	return true
}

// apartMoves says that no two of the used moves can give one path to different files, nor one the path of a file that
// goes with _metadata.
func (b *rebase) apartMoves() bool {
	own, _, covered := b.find(b.dir)
	for i := range b.moves {
		x := &b.moves[i]
		for j, y := range b.moves {
			if i != j && x.used && y.used && strings.HasPrefix(x.to, y.to) {
				return false
			}
		}
		if x.used && covered && x != own && (strings.HasPrefix(x.to, b.newDir) || strings.HasPrefix(b.newDir, x.to)) {
			return false
		}
	}
	return true
}

// exchangedDirs are the new paths of the directories of file merging, encoded.
func (b *rebase) exchangedDirs(m *Metadata) (map[string]string, bool) {
	dirs := map[string]string{}
	for _, d := range m.Dirs {
		if _, done := dirs[d.Path]; done {
			continue
		}
		to, err := b.directory(d.Path)
		if err != nil {
			return nil, false
		}
		if same, err := samePath(d.Path, to); err == nil && same {
			to = d.Path
		}
		if dirs[d.Path], err = encodeMUTF8(to); err != nil {
			return nil, false
		}
	}
	return dirs, true
}

func (b *rebase) write(m *Metadata, dirs map[string]string, length int) []byte {
	s := &splicer{b: m.b, out: make([]byte, 0, length)}
	left := m.Dirs
	for _, h := range m.Handles {
		for ; len(left) > 0 && left[0].off < h.off; left = left[1:] {
			s.replace(int(left[0].off), pathKey{tail: dirs[left[0].Path]})
		}
		if h.IsFile() && h.Type != RelativeFileHandle {
			mv, rest, _ := b.find(view(m.rawPath(h)))
			s.replace(int(h.str), pathKey{mv.to, rest})
		}
	}
	for _, d := range left {
		s.replace(int(d.off), pathKey{tail: dirs[d.Path]})
	}
	s.copyTo(len(s.b))
	return s.out
}
