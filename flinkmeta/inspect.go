package flinkmeta

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Inspection is what `metadata inspect -o json` prints. Sizes are in bytes; lists are never null.
type Inspection struct {
	Path         string              `json:"path"` // filled in by the caller
	Version      int                 `json:"version"`
	CheckpointID int64               `json:"checkpoint_id"`
	Kind         Kind                `json:"kind"` // before version 4 from the name of the directory, "" when that does not tell
	Operators    []InspectedOperator `json:"operators"`
	Files        []InspectedFile     `json:"files"`
	Handles      []InspectedHandle   `json:"handles"`
	Warnings     []string            `json:"warnings"`
}

// InspectedOperator is an Operator.
type InspectedOperator struct {
	ID             string `json:"id"`
	Name           string `json:"name"`
	UID            string `json:"uid"`
	Parallelism    int    `json:"parallelism"`
	MaxParallelism int    `json:"max_parallelism"`
	Subtasks       int    `json:"subtasks"`
	Finished       int    `json:"finished_subtasks"`
	FullyFinished  bool   `json:"fully_finished"`
	StateBytes     int64  `json:"state_bytes"`
}

// InspectedFile is a FileRef.
type InspectedFile struct {
	Path       string `json:"path"` // as written
	URI        string `json:"uri"`
	Relative   bool   `json:"relative"`
	NeedBytes  int64  `json:"need_bytes"`
	Role       Role   `json:"role"`
	References int    `json:"references"`
	Segment    bool   `json:"segment"`
	Changelog  bool   `json:"changelog"`
	Outside    bool   `json:"outside"`  // of the checkpoint's own job directory
	Operator   string `json:"operator"` // of the first handle: hex id
	Subtask    int    `json:"subtask"`  // of the first handle; -1 is the coordinator
}

// InspectedHandle is a leaf stream handle. Path and URI are of files, Name and the like of the classes that have them.
type InspectedHandle struct {
	Operator      string `json:"operator"` // hex id
	Subtask       int    `json:"subtask"`  // -1 is the coordinator
	Where         string `json:"where"`    // e.g. "ManagedKeyedState.shared"
	Kind          string `json:"kind"`     // Flink's class, e.g. "RelativeFileStateHandle"
	Path          string `json:"path,omitempty"`
	URI           string `json:"uri,omitempty"`
	Relative      bool   `json:"relative"`
	Size          int64  `json:"size"` // -1 is unknown
	Start         int64  `json:"start"`
	Name          string `json:"name,omitempty"` // of inline state: an identity, not a file
	Scope         string `json:"scope,omitempty"`
	LogicalFileID string `json:"logical_file_id,omitempty"`
	Offset        int    `json:"offset"` // in _metadata
}

// Inspect describes a _metadata that lies in dir. URIs are what Flink opens when it loads it from there.
func (m *Metadata) Inspect(dir string) (*Inspection, error) {
	f, err := m.files(dir)
	if err != nil {
		return nil, err
	}
	named, err := InferDir(m, dir)
	if err != nil {
		return nil, err
	}
	i := &Inspection{
		Version: m.Version, CheckpointID: m.CheckpointID, Kind: m.kindIn(named),
		Operators: make([]InspectedOperator, 0, len(m.Operators)),
		Files:     make([]InspectedFile, 0, len(f.physical)),
		Handles:   make([]InspectedHandle, 0, len(m.Handles)),
		Warnings:  []string{},
	}
	for _, o := range m.Operators {
		i.Operators = append(i.Operators, InspectedOperator{ID: o.ID.String(), Name: o.Name, UID: o.UID, Parallelism: o.Parallelism,
			MaxParallelism: o.MaxParallelism, Subtasks: o.Subtasks, Finished: o.FinishedSubtasks, FullyFinished: o.FullyFinished,
			StateBytes: o.StateBytes})
	}
	own := []string{f.dir, joinPrefix(jobDirOfCheckpoint(named))}
	for n := range f.physical {
		r := f.ref(n)
		i.Files = append(i.Files, InspectedFile{Path: r.Path, URI: r.URI, Relative: r.Relative, NeedBytes: r.Need, Role: r.Role,
			References: r.References, Segment: r.Segment, Changelog: r.Changelog, Operator: i.Operators[r.Operator].ID, Subtask: r.Subtask,
			Outside: !slices.ContainsFunc(own, func(dir string) bool { return strings.HasPrefix(r.URI, dir) })})
	}
	for n, h := range m.Handles {
		ih := InspectedHandle{Operator: i.Operators[h.Operator].ID, Subtask: int(h.Subtask), Where: h.Where.String(), Kind: h.Type.String(),
			Path: m.Path(h), Relative: h.Type == RelativeFileHandle, Size: h.Size, Start: h.Start, Name: m.Name(h), Scope: h.Scope().String(),
			LogicalFileID: m.LogicalFileID(h), Offset: h.Offset()}
		if f.of[n] != noFile {
			ih.URI = i.Files[f.of[n]].URI
		}
		i.Handles = append(i.Handles, ih)
	}
	i.warn(f, named)
	return i, nil
}

// kindIn is the kind of the snapshot; versions 2 and 3 don't hold it, but Flink's names of directories do.
func (m *Metadata) kindIn(dir string) Kind {
	switch name := path.Base(dir); {
	case m.Kind != "" || !isCheckpointDir(name):
		return m.Kind
	case strings.HasPrefix(name, "savepoint-"):
		return KindSavepoint
	}
	return KindCheckpoint
}

// jobDirOfCheckpoint is the directory of the job whose checkpoint lies in dir; a savepoint is on its own.
func jobDirOfCheckpoint(dir string) string {
	if strings.HasPrefix(path.Base(dir), "chk-") {
		return parentDir(dir)
	}
	return dir
}

func (i *Inspection) warn(f *files, named string) {
	var outside []string
	var outsideN, unknown, leading, mixed int
	for n, file := range i.Files {
		if file.Outside {
			outsideN++
			if dir := parentDir(file.URI); !slices.Contains(outside, dir) && len(outside) < 1000 {
				outside = append(outside, dir)
			}
		}
		if file.Relative && !strings.HasPrefix(file.URI, f.dir) {
			leading++
		}
		r := f.ref(n)
		if r.Mixed {
			mixed++
		}
		if r.Unsized {
			unknown++
		}
	}
	add := func(when int, format string, args ...any) {
		if when > 0 {
			i.Warnings = append(i.Warnings, fmt.Sprintf(format, args...))
		}
	}
	if joinPrefix(named) != f.dir {
		add(1, "_metadata lies in %s, but names its files as if in %s: absolute paths point there", strings.TrimSuffix(f.dir, "/"), named)
	}
	add(outsideN, "%d files lie outside of the job's own directory %s, in %s", outsideN, jobDirOfCheckpoint(named), listed(outside))
	if leading == 0 && f.m.RelativeReused() {
		add(1, "shared state is written with relative paths: restore with NO_CLAIM; after a CLAIM restore Flink's next checkpoints point "+
			"into the wrong directory (FLINK-39964)")
	}
	add(leading, "%d relative paths lead out of the checkpoint's directory: restore with NO_CLAIM only; after a CLAIM restore Flink's next "+
		"checkpoints point into the wrong directory (FLINK-39964)", leading)
	add(mixed, "%d files are named by relative and by absolute handles: Flink refuses that when both are registered", mixed)
	add(unknown, "%d files are of unknown size: that they are long enough can't be verified", unknown)
	if f.m.Changelog() {
		add(1, "the job uses a state changelog: restore with CLAIM, Flink refuses NO_CLAIM")
	}
}
