package flinkmeta

import (
	"fmt"
	"strings"
)

// Placement is where a file is named from now on. Path is written exactly as given.
type Placement struct {
	Path     string // an absolute URI as Flink writes it (`file:/a`, `hdfs://ns/a`), or a path relative to _metadata
	Relative bool   // write RelativeFileStateHandle instead of FileStateHandle
}

// Placer decides where things are.
type Placer struct {
	// File places one physical file. It is called once for each, in the order of Refs.
	File func(FileRef) (Placement, error)
	// Dir places a directory of file merging, absolute to absolute. It is called once for each distinct path; nil keeps
	// them all.
	Dir func(path string) (string, error)
}

// Relocate gives the bytes of a _metadata that names every file where p puts it. The scanned bytes stay as they are.
//
// It is a splice. A handle is left untouched when its placement is, normalised, the path that it has and of the same
// class; otherwise its class (type 2 or 6) and path are rewritten, with its size and everything around it copied. All
// handles of one physical file get the same class and path, as Flink's shared state registry demands. Inline names,
// ids and the properties never change. The order of the work is: ask p, check, then write; nothing is produced when
// something is wrong:
//
// ErrPath: a placement that is no path; ErrPathTooLong; ErrNoRelativeForm: a segment, a changelog file, or an absolute
// file of a job with a changelog was placed relative; ErrCollision: two files were given one place. Errors of p are
// wrapped with the file's path.
func (m *Metadata) Relocate(dir string, p Placer) ([]byte, error) {
	f, err := m.files(dir)
	if err != nil {
		return nil, err
	}
	r := &relocation{files: f, placed: make([]placed, len(f.physical)), byHead: map[string]uint32{}}
	for n := range r.physical {
		if err := r.place(n, p); err != nil {
			return nil, err
		}
	}
	if err := r.checkCollisions(); err != nil {
		return nil, err
	}
	if err := r.placeDirs(p); err != nil {
		return nil, err
	}
	return r.write(r.drop()), nil
}

// head is the beginning of new paths, and what it replaces.
type head struct {
	text        string
	old         string // what stands before the tail in the paths that the files had
	relative    bool   // class of the new path, of the old one
	oldRelative bool
	seen        bool // the three above are set
	mixed       bool // it replaces different things, or some path was not in the normal form
}

// placed is the new path of a file in 8 bytes: a head that many files share, and the end of the path that it had.
type placed struct {
	head     uint32 // index in relocation.heads
	tail     uint16 // how many of the last bytes of the first handle's path
	relative bool
	plain    bool // the path is in the normal form
}

type relocation struct {
	*files
	placed   []placed
	heads    []head
	byHead   map[string]uint32
	last     [4]uint32 // the heads used last: nearly every file has one of them
	dirs     map[string]string
	plainDir string // the directory of the last absolute placement in the normal form, with its slash
}

// place asks for the place of file n.
func (r *relocation) place(n int, p Placer) error {
	ref := r.ref(n)
	to, err := p.File(ref)
	if err != nil {
		return fmt.Errorf("place %s: %w", ref.Path, err)
	}
	plain, err := r.check(ref, to)
	if err != nil {
		return fmt.Errorf("place %s at %q: %w", ref.Path, to.Path, err)
	}
	encoded := to.Path
	if !plain || len(encoded) > maxUTF { // a plain path is ASCII
		if encoded, err = encodeMUTF8(encoded); err != nil {
			return fmt.Errorf("place %s: %w", ref.Path, err)
		}
	}
	r.placed[n] = r.split(n, encoded)
	r.placed[n].relative, r.placed[n].plain = to.Relative, plain
	r.noteHead(n)
	return nil
}

// check says whether a placement is possible, and whether its path is in the normal form.
func (r *relocation) check(ref FileRef, to Placement) (plain bool, err error) {
	switch {
	case !to.Relative:
		return r.checkAbsolute(to.Path)
	case ref.Segment:
		return false, fmt.Errorf("%w: Flink has none for a segment of a merged file (SegmentFileStateHandle): place it absolute", ErrNoRelativeForm)
	case ref.Changelog || r.m.changelog && !ref.Relative:
		return false, fmt.Errorf("%w: a job with a state changelog needs a CLAIM restore (Flink refuses NO_CLAIM), after which "+
			"relative handles break the next checkpoint: place it absolute", ErrNoRelativeForm)
	}
	return plainRelative(to.Path), checkRelative(to.Path)
}

func (r *relocation) checkAbsolute(p string) (plain bool, err error) {
	if inDir(p, r.plainDir) {
		return true, nil
	}
	if plainAbsolute(p) {
		r.plainDir = p[:strings.LastIndexByte(p, '/')+1]
		return true, nil
	}
	_, err = NormalizePath(p)
	return false, err
}

// split finds the longest part of the new path that the old one ends in, trying the latest heads first.
func (r *relocation) split(n int, path string) placed {
	old := view(r.m.rawPath(r.m.Handles[r.physical[n].first]))
	for i, last := range r.last {
		if int(last) >= len(r.heads) {
			continue
		}
		tail, ok := strings.CutPrefix(path, r.heads[last].text)
		if ok && strings.HasSuffix(old, tail) && (i == 0 || tail != "") {
			copy(r.last[1:], r.last[:i])
			r.last[0] = last
			return placed{head: last, tail: uint16(len(tail))}
		}
	}
	k := 0
	for k < len(path) && k < len(old) && path[len(path)-1-k] == old[len(old)-1-k] {
		k++
	}
	text := path[:len(path)-k]
	number, ok := r.byHead[text]
	if !ok {
		number = uint32(len(r.heads))
		text = strings.Clone(text)
		r.heads = append(r.heads, head{text: text})
		r.byHead[text] = number
	}
	copy(r.last[1:], r.last[:])
	r.last[0] = number
	return placed{head: number, tail: uint16(k)}
}

// noteHead keeps what file n shows of its head, for injective.
func (r *relocation) noteHead(n int) {
	p, h := r.placed[n], r.m.Handles[r.physical[n].first]
	old, oldRelative := view(r.m.rawPath(h)), h.Type == RelativeFileHandle
	old = old[:len(old)-int(p.tail)]
	was := &r.heads[p.head]
	switch {
	case !p.plain || h.flags&flagPlain == 0:
		was.mixed = true
	case !was.seen:
		was.seen, was.old, was.relative, was.oldRelative = true, old, p.relative, oldRelative
	case was.old != old || was.relative != p.relative || was.oldRelative != oldRelative:
		was.mixed = true
	}
}

// path is the new path of file n, encoded.
func (r *relocation) path(n int) pathKey {
	p := r.placed[n]
	old := view(r.m.rawPath(r.m.Handles[r.physical[n].first]))
	return pathKey{r.heads[p.head].text, old[len(old)-int(p.tail):]}
}

// checkCollisions refuses a second file at one place. It compares the paths as they are going to be written.
func (r *relocation) checkCollisions() error {
	if r.injective() {
		return nil
	}
	clear(r.set.slots)
	for n := range r.physical {
		path := r.path(n)
		if first := r.set.put(path, n, r.path); first != n {
			return fmt.Errorf("%w: %s and %s would both be %s", ErrCollision, r.ref(first).URI, r.ref(n).URI, path)
		}
	}
	return nil
}

// injective says that no two files can have one place, when that is plain from the heads: each head stands in the place
// of a single old one, and no head begins another. A hundred thousand files need not be compared then.
func (r *relocation) injective() bool {
	if len(r.heads) > 16 {
		return false
	}
	for i, a := range r.heads {
		if a.mixed {
			return false
		}
		for j, b := range r.heads {
			if i != j && a.relative == b.relative && strings.HasPrefix(a.text, b.text) {
				return false
			}
		}
	}
	return true
}

func (r *relocation) placeDirs(p Placer) error {
	if p.Dir == nil {
		return nil
	}
	r.dirs = map[string]string{}
	for _, d := range r.m.Dirs {
		if _, done := r.dirs[d.Path]; done {
			continue
		}
		to, err := p.Dir(d.Path)
		if err != nil {
			return fmt.Errorf("place directory %s: %w", d.Path, err)
		}
		if same, err := samePath(d.Path, to); err != nil {
			return fmt.Errorf("place directory %s at %q: %w", d.Path, to, err)
		} else if same {
			to = d.Path
		}
		encoded, err := encodeMUTF8(to)
		if err != nil {
			return fmt.Errorf("place directory %s: %w", d.Path, err)
		}
		r.dirs[d.Path] = encoded
	}
	return nil
}

// samePath compares two absolute paths in the normal form.
func samePath(a, b string) (bool, error) {
	a, err := NormalizePath(a)
	if err != nil {
		return false, err
	}
	b, err = NormalizePath(b)
	return a == b, err
}
