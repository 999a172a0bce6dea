package fsutil

import (
	"context"
	"fmt"
	"path"
	"sync"
)

// Renaming is one move of RenameAll.
type Renaming struct{ From, To string }

// AllRenamer is what an FS may have beside its methods, where a rename costs more than its own system call.
type AllRenamer interface {
	// RenameAll is Rename of each, in order, and durable for all when it returns nil. After an error each of them may
	// have been renamed or not, durably or not; the first error is returned.
	RenameAll(ctx context.Context, moves []Renaming) error
}

var _ AllRenamer = (*Local)(nil)

// RenameAll implements AllRenamer: each directory is synced once, after the last of the renames.
func (l *Local) RenameAll(ctx context.Context, moves []Renaming) error {
	changed := map[string]bool{}
	for _, m := range moves {
		if err := checkEntry("rename", l.root, m.From); err != nil {
			return err
		}
		if err := checkEntry("rename to", l.root, m.To); err != nil {
			return err
		}
		if err := l.withParents("rename to", m.To, func() error { return l.rename(ctx, m.From, m.To) }); err != nil {
			return err
		}
		changed[path.Dir(m.From)], changed[path.Dir(m.To)] = true, true
	}
	var (
		commits sync.WaitGroup
		mu      sync.Mutex
		failed  error
	)
	for dir := range changed {
		commits.Go(func() {
			if err := l.synced.commit(ctx, dir); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = l.fail("rename", dir, fmt.Errorf("files were renamed, but sync their directory: %w", causeOf(err)))
			}
		})
	}
	commits.Wait()
	return failed
}
