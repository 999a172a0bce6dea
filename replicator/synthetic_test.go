package replicator

import (
	"errors"
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/flinkmeta/metadatatest"
	"github.com/ckptferry/ckptferry/fsutil"
)

// stateFile is one shared file of a made-up checkpoint.
type stateFile struct {
	path     string // as _metadata names it
	relative bool
	segment  int64 // bytes of a segment from the start of a merged file; 0: a whole file
	size     int64 // of a whole file; -1: as put here
}

func absolute(uri string) stateFile { return stateFile{path: uri, size: -1} }

func relative(name string) stateFile { return stateFile{path: name, relative: true, size: -1} }

func segment(uri string, need int64) stateFile { return stateFile{path: uri, segment: need} }

func (f stateFile) name(dir string) string {
	if f.relative {
		return path.Join(dir, f.path)
	}
	return strings.TrimPrefix(mustURI(f.path).Path, "/")
}

// content is what a made-up file holds: 100 bytes that tell it from all others, or what was asked for.
func (f stateFile) content(dir string) []byte {
	n := max(f.size, f.segment)
	if f.size < 0 {
		n = 100
	}
	text := strings.Repeat(f.name(dir)+"\n", int(n)/len(f.name(dir))+1)
	return []byte(text[:n])
}

// checkpoint makes a checkpoint of version 3 (a directory from the root of src) whose only operator has the given
// files as shared state, and puts the files where they are named, unless they are there.
func (w *world) checkpoint(t testing.TB, dir string, files ...stateFile) fsutil.URI {
	t.Helper()
	return w.checkpointOf(t, 3, dir, files...)
}

func (w *world) checkpointOf(t testing.TB, version int, dir string, files ...stateFile) fsutil.URI {
	t.Helper()
	for _, f := range files {
		if _, err := w.src.Stat(t.Context(), f.name(dir)); errors.Is(err, fs.ErrNotExist) {
			put(t, w.src, f.name(dir), f.content(dir))
		}
	}
	put(t, w.src, path.Join(dir, metadataName), metadataOf(version, dir, files))
	return mustURI("file:/" + dir)
}

// allKinds makes a checkpoint with files of each kind, enough for a batch of two.
func (w *world) allKinds(t testing.TB) fsutil.URI {
	t.Helper()
	job := "file:/dc-a/cp/" + jobA
	return w.checkpoint(t, "dc-a/cp/"+jobA+"/chk-5", relative("1"), relative("2"), relative("3"), absolute(job+"/shared/1"), absolute(job+"/shared/2"),
		segment(job+"/shared/job_x_op_y_0_1/m", 70), absolute("file:/dc-a/cp/"+jobB+"/shared/claimed"), absolute("file:/dc-a/log/"+jobA+"/dstl/l"))
}

func metadataOf(version int, dir string, files []stateFile) []byte {
	m := &metadatatest.Writer{}
	m.Header(version, 1)
	m.I32(0) // master states
	m.I32(1) // operators
	m.I64(1)
	m.I64(2)
	m.I32(1) // parallelism
	m.I32(128)
	if version == 2 {
		m.I32(1) // chain length
	} else {
		m.Null() // coordinator
	}
	m.I32(1) // subtasks
	m.I32(0)
	if version == 2 {
		m.I64(0) // duration
		m.I32(0)
	}
	m.I32(0) // managed, raw operator state
	m.I32(0)
	m.U8(5) // IncrementalRemoteKeyedStateHandle
	m.I64(1)
	m.UTF("11111111-2222-3333-4444-555555555555")
	m.I32(0)
	m.I32(128)
	m.Inline("meta", []byte("meta"))
	m.I32(len(files))
	for _, f := range files {
		m.UTF(path.Base(f.path))
		size := int64(len(f.content(dir)))
		switch {
		case f.segment > 0:
			m.Segment(metadatatest.Segment{Size: f.segment, Scope: 1, Path: f.path, LogicalFileID: "logical"})
		case f.relative:
			m.Relative(f.path, size)
		default:
			m.File(f.path, size)
		}
	}
	m.I32(0) // private
	m.Null() // raw keyed state
	if version > 2 {
		m.I32(0) // channel state
		m.I32(0)
	}
	return m.B
}
