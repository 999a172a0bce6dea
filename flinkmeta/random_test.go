package flinkmeta_test

import (
	"fmt"
	"strings"

	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/ckptferry/ckptferry/flinkmeta/metadatatest"
	"pgregory.net/rapid"
)

// randomFile is a _metadata of any version with any handles, drawn by rapid. It can be written with any root directory,
// so that what a relocation must give is known byte by byte.
type randomFile struct {
	version int
	parts   []func(w *metadatatest.Writer, root string)
	handles []randomHandle // what Scan must find
}

// randomHandle is what is known of a leaf handle when it is drawn.
type randomHandle struct {
	Type    flinkmeta.HandleType
	Where   string
	Subtask int
	Size    int64
	Start   int64
	Path    string // below the root when absolute, as written when relative
	Name    string
}

const randomJob = "/cp/5f24a551be2324b1f70cae10026b14a1"

func (f *randomFile) dir(root string) string { return root + randomJob + "/chk-7" }

// bytes writes the file with its paths below root, a normalised directory without a slash at its end.
func (f *randomFile) bytes(root string) []byte {
	var w metadatatest.Writer
	for _, part := range f.parts {
		part(&w, root)
	}
	return w.B
}

// spell writes an absolute path below a root in a spelling of its own.
func spell(root, path string, spelling int) string {
	if scheme, rest, _ := strings.Cut(root, ":"); spelling == 1 && !strings.HasPrefix(rest, "//") {
		root = scheme + "://" + rest
	}
	return root + path
}

// randomPath is a file that handles may name: always in the same class and spelling, as Flink does.
type randomPath struct {
	relative bool
	path     string
	spelling int
}

var randomPaths = []randomPath{
	{path: randomJob + "/shared/11111111-2222-3333-4444-555555555555"},
	{path: randomJob + "/shared/66666666-2222-3333-4444-555555555555"},
	{path: randomJob + "/taskowned/job_1_tm_2/a"},
	{path: "/changelog/dstl/x", spelling: 1},
	{path: "/odd//double/./slashes"},
	{path: "/unicode/zażółć/😀/b"},
	{path: "/blank within/c"},
	{relative: true, path: "meta-1"},
	{relative: true, path: "sub/meta-2"},
	{relative: true, path: "./odd//meta-3"},
	{relative: true, path: "unicode-é😀"},
}

type drawer struct {
	t       *rapid.T
	f       *randomFile
	subtask int
}

func (d *drawer) int(name string, min, max int) int { return rapid.IntRange(min, max).Draw(d.t, name) }

func (d *drawer) emit(part func(w *metadatatest.Writer, root string)) {
	d.f.parts = append(d.f.parts, part)
}

// fixed emits what does not depend on the root.
func (d *drawer) fixed(part func(w *metadatatest.Writer)) {
	d.emit(func(w *metadatatest.Writer, _ string) { part(w) })
}

func (d *drawer) i32(v int)    { d.fixed(func(w *metadatatest.Writer) { w.I32(v) }) }
func (d *drawer) i64(v int64)  { d.fixed(func(w *metadatatest.Writer) { w.I64(v) }) }
func (d *drawer) u8(v byte)    { d.fixed(func(w *metadatatest.Writer) { w.U8(v) }) }
func (d *drawer) utf(s string) { d.fixed(func(w *metadatatest.Writer) { w.UTF(s) }) }
func (d *drawer) text(n string) string {
	return rapid.SampledFrom([]string{"", "a", "000012.sst", "Source: zażółć 😀", "nul\x00"}).Draw(d.t, n)
}
func (d *drawer) raw(name string) []byte {
	return rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(d.t, name)
}
func (d *drawer) offsets() {
	n := d.int("offsets", 0, 3)
	d.i32(n)
	for range n {
		d.i64(rapid.Int64().Draw(d.t, "offset"))
	}
}

func (d *drawer) leaf(h randomHandle) {
	h.Subtask = d.subtask
	d.f.handles = append(d.f.handles, h)
}

// stream draws a stream handle of one of the types.
func (d *drawer) stream(where string, types ...flinkmeta.HandleType) {
	if len(types) == 0 {
		types = []flinkmeta.HandleType{1, 2, 6, 15, 16, 3}
	}
	t := rapid.SampledFrom(types).Draw(d.t, "stream type")
	size := rapid.Int64Range(-1, 1<<40).Draw(d.t, "size")
	switch t {
	case flinkmeta.InlineHandle:
		name, raw := d.text("handle name"), d.raw("inline")
		d.fixed(func(w *metadatatest.Writer) { w.Inline(name, raw) })
		d.leaf(randomHandle{Type: t, Where: where, Size: int64(len(raw)), Name: name})
	case flinkmeta.FileHandle:
		p := d.path(false)
		d.emit(func(w *metadatatest.Writer, root string) { w.File(spell(root, p.path, p.spelling), size) })
		d.leaf(randomHandle{Type: t, Where: where, Size: size, Path: p.path})
	case flinkmeta.RelativeFileHandle:
		p := d.path(true)
		d.fixed(func(w *metadatatest.Writer) { w.Relative(p.path, size) })
		d.leaf(randomHandle{Type: t, Where: where, Size: size, Path: p.path})
	case flinkmeta.SegmentHandle:
		p, start, scope := d.path(false), rapid.Int64Range(0, 1<<40).Draw(d.t, "start"), d.int("scope", 0, 1)
		d.emit(func(w *metadatatest.Writer, root string) {
			w.Segment(metadatatest.Segment{Path: spell(root, p.path, p.spelling), LogicalFileID: "id", Start: start, Size: size, Scope: scope})
		})
		d.leaf(randomHandle{Type: t, Where: where, Size: size, Start: start, Path: p.path})
	case flinkmeta.EmptyHandle:
		d.fixed(func(w *metadatatest.Writer) { w.Empty() })
		d.leaf(randomHandle{Type: t, Where: where})
	default: // KeyGroupsStateHandle as a stream
		d.u8(3)
		d.i32(0)
		d.offsets()
		d.stream(where, 1, 2, 6)
	}
}

func (d *drawer) path(relative bool) randomPath {
	return rapid.SampledFrom(randomPaths).Filter(func(p randomPath) bool { return p.relative == relative }).Draw(d.t, "path")
}

func (d *drawer) paths(where string) {
	n := d.int("paths", 0, 3)
	d.i32(n)
	for range n {
		d.utf(d.text("local path"))
		d.stream(where)
	}
}

// keyed draws a keyed handle; within a changelog none is null.
func (d *drawer) keyed(where string, level int) {
	types := []byte{3, 5, 7, 9, 10, 11, 12, 13}
	if level == 0 {
		types = append(types, 0)
	}
	if level < 2 {
		types = append(types, 8, 14)
	}
	t := rapid.SampledFrom(types).Draw(d.t, "keyed type")
	d.u8(t)
	switch t {
	case 3, 7, 12:
		d.i32(0)
		d.offsets()
		d.stream(where)
	case 5, 11:
		d.i64(4)
		d.utf("backend")
		d.i64(5)
		if t == 11 {
			d.i64(6)
		}
		d.stream(where + ".meta")
		d.paths(where + ".shared")
		d.paths(where + ".private")
	case 8, 14:
		d.i64(0)
		d.i64(7)
		for _, list := range []string{".materialized", ".nonMaterialized"} {
			n := d.int("nested", 0, 2)
			d.i32(n)
			for range n {
				d.keyed(where+list, level+1)
			}
		}
		d.i64(8)
		if t == 14 {
			d.i64(9)
		}
	case 9:
		d.i64(0)
		d.i64(1)
		d.i64(2)
		n := d.int("changes", 0, 3)
		d.i32(n)
		for range n {
			d.i32(-1)
			raw := d.raw("change")
			d.fixed(func(w *metadatatest.Writer) { w.Raw(raw) })
		}
	case 10, 13:
		d.i64(0)
		n := d.int("streams", 0, 2)
		d.i32(n)
		for range n {
			d.i64(3)
			d.stream(where+".log", 1, 2)
		}
		d.i64(4)
		d.i64(5)
	}
	if t >= 8 || t == 12 {
		d.utf("state handle id")
	}
	if t == 13 {
		d.utf("filesystem")
	}
}

func (d *drawer) operatorState(where string) {
	has := d.int("has", 0, 2)
	d.i32(has)
	if has == 0 {
		return
	}
	t := rapid.SampledFrom([]byte{4, 17}).Draw(d.t, "operator state type")
	d.u8(t)
	n := d.int("states", 0, 2)
	d.i32(n)
	for i := range n {
		d.utf(fmt.Sprint("state", i))
		d.u8(byte(i))
		d.offsets()
	}
	if t == 4 {
		d.stream(where)
		return
	}
	d.emit(func(w *metadatatest.Writer, root string) {
		w.UTF(root + randomJob + "/taskowned/job_1_tm_2")
		w.UTF(spell(root, randomJob+"/shared//job_1_op_2", 1))
		w.U8(1)
	})
	d.stream(where, 15, 16)
}

func (d *drawer) channels(where string, single, merged byte) {
	n := d.int("channels", 0, 2)
	d.i32(n)
	for range n {
		kind := single
		if d.f.version >= 6 {
			kind = rapid.SampledFrom([]byte{single, merged}).Draw(d.t, "kind")
			d.u8(kind)
		}
		d.i32(0)
		if kind == merged {
			d.i64(10)
			d.stream(where)
			raw := d.raw("merged offsets")
			d.fixed(func(w *metadatatest.Writer) { w.Raw(raw) })
			continue
		}
		d.i64(1)
		d.offsets()
		d.i64(10)
		d.stream(where)
	}
}

func (d *drawer) subtaskState(index int) {
	d.subtask = index
	if d.f.version >= 3 && d.int("finished", 0, 9) == 0 {
		d.i32(-1 - index)
		return
	}
	d.i32(index)
	if d.f.version == 2 {
		d.i64(-1)
		d.i32(0)
	}
	d.operatorState("ManagedOperatorState")
	d.operatorState("RawOperatorState")
	d.keyed("ManagedKeyedState", 0)
	d.keyed("RawKeyedState", 0)
	if d.f.version >= 3 {
		d.channels("InputChannelState", 1, 3)
		d.channels("ResultSubpartitionState", 2, 4)
	}
}

func (d *drawer) operator() {
	d.subtask = -1
	if d.f.version >= 5 {
		d.utf(d.text("operator name"))
		d.utf(d.text("operator uid"))
	}
	d.i64(rapid.Int64().Draw(d.t, "id"))
	d.i64(1)
	d.i32(3)
	d.i32(128)
	if d.f.version == 2 {
		d.i32(1)
	}
	finished := d.f.version >= 3 && d.int("fully finished", 0, 9) == 0
	if d.f.version >= 3 {
		if !finished && d.int("coordinator", 0, 1) == 1 {
			d.stream("coordinator", 1)
		} else {
			d.u8(0)
		}
	}
	if finished {
		d.i32(-1)
		return
	}
	n := d.int("subtasks", 0, 3)
	d.i32(n)
	for i := range n {
		d.subtaskState((i + 1) % 3) // not sorted
	}
}

// drawFile draws a whole file.
func drawFile(t *rapid.T) *randomFile {
	d := &drawer{t: t, f: &randomFile{version: rapid.IntRange(2, 6).Draw(t, "version")}}
	d.fixed(func(w *metadatatest.Writer) { w.Header(d.f.version, 7) })
	masters := d.int("masters", 0, 1)
	d.i32(masters)
	for range masters {
		raw := d.raw("master")
		d.fixed(func(w *metadatatest.Writer) { w.Master(3, "hook", raw) })
	}
	operators := d.int("operators", 0, 3)
	d.i32(operators)
	for range operators {
		d.operator()
	}
	if d.f.version >= 4 {
		if d.int("savepoint", 0, 1) == 1 {
			d.fixed((*metadatatest.Writer).SavepointTail)
		} else {
			d.fixed((*metadatatest.Writer).CheckpointTail)
		}
	}
	return d.f
}
