package replicator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/ckptferry/ckptferry/fsutil"
)

// counting counts the questions that a file system is asked.
type counting struct {
	fsutil.ReadFS
	stats, lists atomic.Int64
}

func (c *counting) Stat(ctx context.Context, name string) (fsutil.FileInfo, error) {
	c.stats.Add(1)
	return c.ReadFS.Stat(ctx, name)
}

func (c *counting) List(ctx context.Context, dir string) ([]fsutil.FileInfo, error) {
	c.lists.Add(1)
	return c.ReadFS.List(ctx, dir)
}

func TestManyFilesOfADirectoryAreLookedAtByListingIt(t *testing.T) {
	dir := t.TempDir()
	local, err := fsutil.OpenLocalRead(fileURI(dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"many/dir", "other"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := &counting{ReadFS: local}
	files := []located{{c, "many/gone"}, {}, {c, "many/dir"}, {c, "none/gone"}}
	for i := range 2 * listFrom {
		name := fmt.Sprintf("many/%d", i)
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, i), 0o644); err != nil {
			t.Fatal(err)
		}
		files = append(files, located{c, name})
	}
	found, err := lookAt(t.Context(), files)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range found {
		if want := i >= 4; f.there != want || want && f.info.Size != int64(i-4) {
			t.Errorf("%s = %+v", files[i].name, f)
		}
	}
	// Of the file of no bytes, and of the one in another directory.
	if lists, stats := c.lists.Load(), c.stats.Load(); lists != 1 || stats != 2 {
		t.Errorf("%d lists, %d stats; want 1 and 2", lists, stats)
	}
}

func TestALinkThatLeadsOutOfTheRootIsSaidToDoSoAmongManyFiles(t *testing.T) {
	dir := t.TempDir()
	local, err := fsutil.OpenLocalRead(fileURI(dir))
	if err != nil {
		t.Fatal(err)
	}
	files := []located{{local, "link"}}
	if err := os.Symlink("/", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for i := range listFrom {
		name := fmt.Sprint(i)
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		files = append(files, located{local, name})
	}
	if _, err := lookAt(t.Context(), files); !errors.Is(err, fsutil.ErrUnsupported) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("lookAt: %v", err)
	}
}
