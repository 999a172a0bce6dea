package flinkmeta

import (
	"fmt"
	"slices"
)

// Role is what a file is to its job, as its place tells.
type Role string

// Roles of files. The file of another job's directory has the role that it has there.
const (
	RoleExclusive Role = "exclusive"  // of one checkpoint: in chk-N, a savepoint's directory, or below _metadata's own
	RoleShared    Role = "shared"     // of several checkpoints
	RoleTaskOwned Role = "task_owned" // of the task managers: changelog materialisation, merged exclusive files
	RoleOther     Role = "other"      // elsewhere: the changelog's own root, for example
)

// FileRef is one physical file that a _metadata names. Its strings may share the memory of the scanned bytes.
type FileRef struct {
	Path     string // as the first handle has it
	URI      string // absolute and normalised: the identity of the file
	Relative bool   // the first handle is relative (type 6)
	Mixed    bool   // some handles are relative, others absolute: Flink's registry would refuse that, it writes none

	Segment   bool // some handle is a segment of this (merged) file; such a file may grow
	Changelog bool // a file of the state changelog (dstl)

	// Need is how many leading bytes of the file are read: the largest size, or start+size for segments. The file may
	// be longer. 0 when Flink did not know.
	Need       int64
	Unsized    bool // some handle's size is unknown (-1): more than Need may be needed
	Role       Role
	References int // handles that name the file
	Operator   int // index in Metadata.Operators of the first handle's owner
	Subtask    int // of the first handle, -1 for a coordinator
}

// Refs lists the files that are needed beside _metadata, one entry for each physical file, in the order in which they
// occur. Two handles name one file when the normalised paths are equal; relative paths resolve against dir, the
// absolute URI of the directory that holds _metadata, as Flink named it (see JobDir).
//
// ErrPath in a *FormatError: a relative path that leads above the root or names the directory itself.
func (m *Metadata) Refs(dir string) ([]FileRef, error) {
	f, err := m.files(dir)
	if err != nil {
		return nil, err
	}
	refs := make([]FileRef, len(f.physical))
	for n := range refs {
		refs[n] = f.ref(n)
	}
	return refs, nil
}

// Owner is an operator that refers to a file, with its subtasks in ascending order.
type Owner struct {
	ID        OperatorID
	Name, UID string
	Subtasks  []int // -1 is the coordinator
}

func (o Owner) String() string {
	op := Operator{ID: o.ID, Name: o.Name}
	return fmt.Sprintf("operator %s, subtasks %v", op.label(), o.Subtasks)
}

// Owners says who needs a file, in the order of Metadata.Operators: for messages about a file that is missing or
// broken. uri may be any spelling of the path. Nobody: an empty list.
func (m *Metadata) Owners(dir, uri string) ([]Owner, error) {
	want, err := NormalizePath(uri)
	if err != nil {
		return nil, err
	}
	f, err := m.files(dir)
	if err != nil {
		return nil, err
	}
	var owners []Owner
	last := int32(-1)
	for i, h := range m.Handles {
		if f.of[i] == noFile || !f.key(uint32(i)).equal(pathKey{tail: want}) {
			continue
		}
		if h.Operator != last {
			op := &m.Operators[h.Operator]
			owners = append(owners, Owner{ID: op.ID, Name: op.Name, UID: op.UID})
			last = h.Operator
		}
		o := &owners[len(owners)-1]
		if at, found := slices.BinarySearch(o.Subtasks, int(h.Subtask)); !found {
			o.Subtasks = slices.Insert(o.Subtasks, at, int(h.Subtask))
		}
	}
	return owners, nil
}
