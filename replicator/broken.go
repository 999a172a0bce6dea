package replicator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/ckptferry/ckptferry/fsutil"
)

// vanishGrace is how long a plan waits for _metadata to vanish after a file was found missing: Flink deletes a
// subsumed checkpoint's files in no fixed order, shared files often before _metadata (Flink 1.20, measured).
const vanishGrace = 2 * time.Second

// brokenOrSuperseded decides what missing files mean: a checkpoint that Flink is deleting just now, or one that is
// there and no Flink can restore from.
func (p *plan) brokenOrSuperseded(ctx context.Context, problems []Problem) error {
	const every = 100 * time.Millisecond
	for waited := time.Duration(0); ; waited += every {
		_, err := p.sources.base.Stat(ctx, path.Join(p.layout.name(), metadataName))
		if errors.Is(err, fs.ErrNotExist) {
			u, _ := fsutil.ParseURI(problems[0].File)
			return &SupersededError{Checkpoint: p.req.Source, File: u}
		}
		if err != nil {
			return fmt.Errorf("look whether %s is still there: %w", p.req.Source, err)
		}
		if waited >= vanishGrace {
			return &BrokenError{Checkpoint: p.req.Source, Problems: problems}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(every):
		}
	}
}

func (p *plan) owners(ref flinkmeta.FileRef, nth int) []string {
	return owners(p.meta, p.layout.dir, ownersAsked{ref, nth})
}

// ownersAsked is the nth file that something is wrong with.
type ownersAsked struct {
	ref flinkmeta.FileRef
	nth int
}

// allOwnersOf is of how many files all owners are looked up, which takes a walk through all handles for each.
const allOwnersOf = 20

// owners names the operators that need a file: of the first files all, of the others the first.
func owners(m *flinkmeta.Metadata, dir fsutil.URI, of ownersAsked) []string {
	if of.nth >= allOwnersOf {
		op := m.Operators[of.ref.Operator]
		return []string{flinkmeta.Owner{ID: op.ID, Name: op.Name, UID: op.UID, Subtasks: []int{of.ref.Subtask}}.String()}
	}
	found, err := m.Owners(dir.String(), of.ref.URI)
	if err != nil {
		return nil // the URI came from Refs, which has normalised it
	}
	out := make([]string, 0, len(found))
	for _, o := range found {
		out = append(out, o.String())
	}
	return out
}
