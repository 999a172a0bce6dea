package flinkmeta

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// PrefixMove says that what lies below From is at the same place below To. Both are absolute directories; any spelling.
type PrefixMove struct{ From, To string }

// Rebase moves directory trees as a whole: what `metadata relocate` does.
type Rebase struct {
	From string // the directory that moves to To with all below it; "" takes InferBase
	To   string
	Map  []PrefixMove // further moves; the longest From that a path lies below wins, at equal length these
	// Relative writes files relative to the new directory of _metadata: portable, but sound for NO_CLAIM restores only.
	Relative bool
}

// Rebase gives the bytes of a _metadata whose files were moved, and what the reader of its result must know. dir is the
// directory that holds _metadata now (see InferDir).
//
// Absolute handles move with their prefix, in the spelling that they have (`file:/x`, `file:///x`). Relative handles
// below the directory of _metadata stay, as they move with it; one that leads out of it (`../shared/x`) is made
// absolute, or stays with r.Relative. Moving onto the same root gives the same bytes, and moving there and back as well.
//
// ErrOutside: paths below none of the prefixes, all their directories named; else the errors of Relocate and InferBase.
func (m *Metadata) Rebase(dir string, r Rebase) ([]byte, []string, error) {
	named, err := InferDir(m, dir)
	if err != nil {
		return nil, nil, fmt.Errorf("directory of _metadata: %w", err)
	}
	if r.From == "" {
		if r.From, err = InferBase(m, dir); err != nil {
			return nil, nil, err
		}
	}
	b := &rebase{dir: named, relative: r.Relative, inNewDir: map[string]string{}}
	if b.moves, err = r.moves(); err != nil {
		return nil, nil, err
	}
	if b.newDir, err = b.target(named); err != nil {
		if b.newDir = ""; r.Relative {
			return nil, nil, fmt.Errorf("the directory of _metadata itself: %w", err)
		}
	}
	if r.Relative && len(m.Dirs) > 0 {
		return nil, nil, fmt.Errorf("place directory %s: %w: the job merges files, and Flink has no relative form for that: use absolute paths",
			m.Dirs[0].Path, ErrNoRelativeForm)
	}
	if r.Relative && m.Changelog() {
		return nil, nil, fmt.Errorf("%w: the job uses the changelog state backend, which is restored with CLAIM only, and relative paths don't "+
			"survive that: use absolute paths", ErrNoRelativeForm)
	}
	if out, ok := b.exchange(m); ok {
		return out, b.warnings(m, dir), nil
	}
	out, err := m.Relocate(named, Placer{File: b.file, Dir: b.directory})
	if errors.Is(err, ErrOutside) {
		err = b.outside(m, err)
	}
	if err != nil {
		return nil, nil, err
	}
	return out, b.warnings(m, dir), nil
}

// move is a PrefixMove in the normal form, both sides without a slash at the end: the root is `file:`.
type move struct {
	from, to string
	used     bool // by exchange
}

// moves are the moves to make, the most specific first.
func (r Rebase) moves() ([]move, error) {
	var moves []move
	for _, p := range append(slices.Clone(r.Map), PrefixMove{r.From, r.To}) {
		from, err := NormalizePath(p.From)
		if err != nil {
			return nil, fmt.Errorf("move from %q: %w", p.From, err)
		}
		to, err := NormalizePath(p.To)
		if err != nil {
			return nil, fmt.Errorf("move to %q: %w", p.To, err)
		}
		moves = append(moves, move{from: strings.TrimSuffix(from, "/"), to: strings.TrimSuffix(to, "/")})
	}
	slices.SortStableFunc(moves, func(a, b move) int { return cmp.Compare(len(b.from), len(a.from)) })
	return moves, nil
}

// rebase is a Placer's state.
type rebase struct {
	moves    []move
	dir      string // the directory of _metadata as the job named it
	newDir   string // where that is moved to; "" when it is not
	relative bool
	inNewDir map[string]string // by place in newDir: the file that is there

	keptLeading int // relative handles that lead out of the directory and stay so
	madeAbs     int // those that were made absolute
	written     int // files that are relative now and were not
}

// find gives the move that a normalised path is subject to, with the rest of the path behind the prefix.
func (b *rebase) find(uri string) (mv *move, rest string, ok bool) {
	for i := range b.moves {
		mv := &b.moves[i]
		rest, ok := strings.CutPrefix(uri, mv.from)
		// Below a root without authority, `//` begins an authority: file://host/x is not below file:/.
		if ok && (rest == "" || rest[0] == '/' && !strings.HasPrefix(rest, "//")) {
			return mv, rest, true
		}
	}
	return nil, "", false
}

// target is where a normalised path is moved to, normalised.
func (b *rebase) target(uri string) (string, error) {
	mv, rest, ok := b.find(uri)
	if !ok {
		var froms []string
		for _, mv := range b.moves {
			froms = append(froms, joinPrefix(mv.from))
		}
		return "", fmt.Errorf("%w: %s is not below %s", ErrOutside, uri, listed(froms))
	}
	return rooted(mv.to, rest), nil
}

// rooted joins a prefix without its slash and the rest of a path.
func rooted(prefix, rest string) string {
	if rest == "" {
		if _, p, ok := strings.Cut(prefix, "//"); prefix == "" || strings.HasSuffix(prefix, ":") || ok && !strings.Contains(p, "/") {
			return prefix + "/"
		}
	}
	return prefix + rest
}

// file places one file, and refuses a second one in one place of the new directory of _metadata, where relative and
// absolute handles meet; Relocate compares the others.
func (b *rebase) file(ref FileRef) (Placement, error) {
	p, err := b.place(ref)
	if err != nil || b.newDir == "" {
		return p, err
	}
	var at string
	if p.Relative {
		at, err = ResolvePath(b.newDir, p.Path)
	} else {
		at, err = NormalizePath(p.Path)
	}
	if err != nil || !strings.HasPrefix(at, joinPrefix(b.newDir)) {
		return p, err
	}
	if first, taken := b.inNewDir[at]; taken {
		return p, fmt.Errorf("%w: %s would be at %s, as %s is", ErrCollision, ref.URI, at, first)
	}
	b.inNewDir[at] = ref.URI
	return p, nil
}

func (b *rebase) place(ref FileRef) (Placement, error) {
	if !ref.Relative && !b.relative {
		return b.absolutePlace(ref)
	}
	to, err := b.target(ref.URI)
	if b.relative {
		return b.relativePlace(ref, to, err)
	}
	name, inside := strings.CutPrefix(ref.URI, joinPrefix(b.dir))
	if !ref.Mixed && inside && (err != nil || b.newDir == "" || to == joinPrefix(b.newDir)+name) {
		return Placement{Path: ref.Path, Relative: true}, nil // it goes where _metadata goes
	}
	if err != nil {
		return Placement{}, err
	}
	b.madeAbs++
	return Placement{Path: to}, nil
}

func (b *rebase) absolutePlace(ref FileRef) (Placement, error) {
	mv, rest, ok := b.find(ref.URI)
	if !ok {
		_, err := b.target(ref.URI)
		return Placement{}, err
	}
	return Placement{Path: spelled(ref.Path, ref.URI, mv, rest)}, nil
}

// relativePlace places a file relative to the new directory of _metadata.
func (b *rebase) relativePlace(ref FileRef, to string, err error) (Placement, error) {
	if err != nil {
		return Placement{}, err
	}
	rel, err := relativePath(b.newDir, to)
	if err != nil {
		return Placement{}, err
	}
	if !ref.Relative {
		b.written++
	} else if strings.HasPrefix(rel, "../") {
		b.keptLeading++
	}
	return Placement{Path: rel, Relative: true}, nil
}

// relativePath is the way from a directory to a file, both normalised.
func relativePath(dir, file string) (string, error) {
	rootD, d := splitRoot(joinPrefix(dir))
	rootF, f := splitRoot(file)
	if rootD != rootF {
		return "", fmt.Errorf("%w: %s can't be relative to %s, it is another file system", ErrNoRelativeForm, file, dir)
	}
	common := 0
	for i := 0; i < len(d) && i < len(f) && d[i] == f[i]; i++ {
		if d[i] == '/' {
			common = i + 1
		}
	}
	rel := strings.Repeat("../", strings.Count(d[common:], "/")) + f[common:]
	return rel, checkRelative(rel)
}

// spelled moves an absolute path in the spelling that it is written in, as far as that is about slashes. rest is what
// of its normal form uri lies behind mv.from.
func spelled(written, uri string, mv *move, rest string) string {
	if written == uri {
		return rooted(mv.to, rest)
	}
	u, err := splitURI(written)
	if err != nil {
		return rooted(mv.to, rest)
	}
	root, base := splitRoot(mv.from + "/")
	base = strings.TrimSuffix(base, "/")
	if tail, ok := strings.CutPrefix(u.path, base); ok && strings.HasPrefix(tail, "/") {
		if again, err := NormalizePath(root + base + tail); err == nil && again == uri {
			rest = tail
		}
	}
	to := mv.to
	if u.authority == "" && strings.HasPrefix(written[len(u.scheme):], ":///") {
		if scheme, p, _ := strings.Cut(to, ":"); !strings.HasPrefix(p, "//") {
			to = scheme + "://" + p
		}
	}
	return to + rest
}

func (b *rebase) directory(path string) (string, error) {
	uri, err := NormalizePath(path)
	if err != nil {
		return "", err
	}
	place, err := b.absolutePlace(FileRef{Path: path, URI: uri})
	return place.Path, err
}

// outside names every directory that no move covers.
func (b *rebase) outside(m *Metadata, first error) error {
	refs, err := m.Refs(b.dir)
	if err != nil {
		return err
	}
	var dirs []string
	files := 0
	note := func(dir string) {
		if !slices.Contains(dirs, dir) && len(dirs) < 1000 {
			dirs = append(dirs, dir)
		}
	}
	for _, ref := range refs {
		_, _, ok := b.find(ref.URI)
		if inside := strings.HasPrefix(ref.URI, joinPrefix(b.dir)); !ok && (b.relative || !ref.Relative || !inside) {
			files++
			note(parentDir(ref.URI))
		}
	}
	for _, d := range m.Dirs {
		if uri, err := NormalizePath(d.Path); err == nil {
			if _, _, ok := b.find(uri); !ok {
				note(uri)
			}
		}
	}
	return fmt.Errorf("%d files and directories lie outside, in %s: say where these go, or move from %s: %w",
		files, listed(dirs), commonDir(append(dirs, b.dir)), first)
}

// warnings are what the user of the new bytes must know.
func (b *rebase) warnings(m *Metadata, dir string) []string {
	var w []string
	if normal, err := NormalizePath(dir); err == nil && normal != b.dir {
		w = append(w, fmt.Sprintf("the job named the directory of this _metadata %s, it is read from %s: moves apply to the former", b.dir, normal))
	}
	if b.relative && b.written+b.keptLeading > 0 {
		w = append(w, "paths are relative: restore with NO_CLAIM only; after a CLAIM restore Flink's next checkpoints point into the wrong directory (FLINK-39964)")
	}
	if b.madeAbs > 0 {
		w = append(w, fmt.Sprintf("%d relative paths that lead out of the checkpoint's directory were made absolute", b.madeAbs))
	}
	if m.Changelog() {
		w = append(w, "the job uses a state changelog: restore with CLAIM, Flink refuses NO_CLAIM")
	}
	return w
}
