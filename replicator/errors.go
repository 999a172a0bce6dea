package replicator

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ckptferry/ckptferry/fsutil"
)

// What a run can end in beside success; errors.Is tells them apart. The command line has an exit code for each.
var (
	// ErrSuperseded says that Flink deleted the checkpoint while it was copied: a normal outcome, take the next.
	ErrSuperseded = errors.New("superseded")
	// ErrBroken says that the checkpoint at the source is itself not whole: no Flink restores from it.
	ErrBroken = errors.New("checkpoint is broken")
	// ErrRefused says that doing what was asked would break a promise; nothing was changed.
	ErrRefused = errors.New("refused")
	// ErrVerify says that bytes at the target are not the bytes that were read at the source.
	ErrVerify = errors.New("verification failed")
)

// SupersededError names the file that vanished. It is ErrSuperseded.
type SupersededError struct {
	Checkpoint fsutil.URI
	File       fsutil.URI
}

func (e *SupersededError) Error() string {
	return fmt.Sprintf("checkpoint %s was superseded while it was read: %s is gone. Nothing of it is visible at the target, shared files that were copied stay for the next. Take a newer checkpoint; raise Flink's state.checkpoints.num-retained if this repeats",
		e.Checkpoint, e.File)
}

// Is makes the error match ErrSuperseded.
func (e *SupersededError) Is(target error) bool { return target == ErrSuperseded }

// ProblemKind says what is wrong with a file.
type ProblemKind string

// The kinds of problems, as scripts see them.
const (
	Missing   ProblemKind = "missing"
	Short     ProblemKind = "short"     // fewer bytes than _metadata needs
	Different ProblemKind = "different" // other bytes or another length than the manifest records
	Outside   ProblemKind = "outside"   // a replica refers to a file that is not below its own root
)

// Problem is one file that keeps Flink from restoring.
type Problem struct {
	File string      `json:"file"` // as _metadata names it
	Kind ProblemKind `json:"kind"`
	Need int64       `json:"need_bytes"`
	Have int64       `json:"have_bytes"` // -1: not there
	// Owners are the operators (and subtasks) whose state lies in the file.
	Owners []string `json:"owners,omitempty"`
	Detail string   `json:"detail,omitempty"`
}

func (p Problem) String() string {
	var b strings.Builder
	switch p.Kind {
	case Missing:
		fmt.Fprintf(&b, "missing: %s (needs %d bytes)", p.File, p.Need)
	case Short:
		fmt.Fprintf(&b, "short: %s has %d bytes, needs %d", p.File, p.Have, p.Need)
	default:
		fmt.Fprintf(&b, "%s: %s", p.Kind, p.File)
	}
	if p.Detail != "" {
		fmt.Fprintf(&b, ": %s", p.Detail)
	}
	if len(p.Owners) > 0 {
		fmt.Fprintf(&b, " [state of %s]", strings.Join(p.Owners, "; "))
	}
	return b.String()
}

// BrokenError lists what a checkpoint lacks. It is ErrBroken.
type BrokenError struct {
	Checkpoint fsutil.URI
	Problems   []Problem
}

func (e *BrokenError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "checkpoint %s is itself broken, Flink can't restore from it: %d file(s) it refers to are not as they must be", e.Checkpoint, len(e.Problems))
	for i, p := range e.Problems {
		if i == 20 {
			fmt.Fprintf(&b, "\n  … and %d more", len(e.Problems)-i)
			break
		}
		b.WriteString("\n  " + p.String())
	}
	return b.String()
}

// Is makes the error match ErrBroken.
func (e *BrokenError) Is(target error) bool { return target == ErrBroken }

// ReachError says that a place which _metadata refers to can't be opened from here. It may be reached under another name:
// PrefixMaps say so.
type ReachError struct {
	Place fsutil.URI // as it was tried
	Err   error
}

func (e *ReachError) Error() string {
	return fmt.Sprintf("open %s, which _metadata refers to: %v", e.Place, e.Err)
}

func (e *ReachError) Unwrap() error { return e.Err }

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}
