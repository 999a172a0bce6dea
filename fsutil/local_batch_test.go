package fsutil

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestRenameAllSyncsEachDirectoryOnceForAllFiles(t *testing.T) {
	dir := t.TempDir()
	l, err := OpenLocal(URI{Scheme: "file", Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	synced := map[string]int{}
	l.synced = newDirSync(func(dir string) error {
		mu.Lock()
		defer mu.Unlock()
		synced[dir]++
		return l.fsyncDir(dir)
	})
	var moves []Renaming
	for i := range 20 {
		name := fmt.Sprintf("tmp/%d", i)
		w, err := l.Create(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		moves = append(moves, Renaming{name, fmt.Sprintf("job/shared/%d", i)})
	}
	if err := l.RenameAll(t.Context(), moves); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if _, err := os.Stat(filepath.Join(dir, "job", "shared", fmt.Sprint(i))); err != nil {
			t.Error(err)
		}
	}
	// job/shared and tmp for the files; job and the root, more than once perhaps, for the new directories.
	if synced["job/shared"] != 1 || synced["tmp"] != 1 || synced["job"] == 0 || synced["."] == 0 {
		t.Errorf("synced %v", synced)
	}
}

func TestRenameAllSaysWhatFailed(t *testing.T) {
	l, err := OpenLocal(URI{Scheme: "file", Path: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.RenameAll(t.Context(), []Renaming{{"gone", "there"}}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("RenameAll of an absent file: %v", err)
	}
	if err := l.RenameAll(t.Context(), []Renaming{{"../a", "b"}}); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("RenameAll out of the root: %v", err)
	}
	w, err := l.Create(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("the disk is broken")
	l.synced = newDirSync(func(string) error { return broken })
	if err := l.RenameAll(t.Context(), []Renaming{{"a", "b"}}); !errors.Is(err, broken) {
		t.Errorf("RenameAll whose directory can't be synced: %v", err)
	}
}
