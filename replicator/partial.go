package replicator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
)

// A large file is written below .ckptferry/partial, with a record beside it: how many of its bytes were read at the source
// by then, and what their CRC32C was. When the copy is cut, whoever copies the file next reads what lies there, compares
// it with the record, takes it over into a file of its own, and reads only the rest at the source. Nothing is ever
// appended to a file that somebody else began: a writer that was thought dead and is not could write to it after it was
// read back. (docs/adr/0017)
const (
	partialDir    = "partial"
	partialFormat = 1
	// largeBytes is from what length on a file is large; smaller ones are copied from their start again.
	largeBytes = 64 << 20
	// pointsMost bounds a record. Points are a multiple of largeBytes apart, so that with HDFS' default block size every
	// second one is a block's beginning, from where its reader can compare the block's digest.
	pointsMost = 512
)

// partialRule says which files are large. Tests have smaller ones.
type partialRule struct{ from, every int64 }

// spacing is how far apart the points of a file are.
func (r partialRule) spacing(bytes int64) int64 {
	return r.every * max(1, (bytes/pointsMost+r.every-1)/r.every)
}

// partialPoint says that the first Bytes bytes, as they were read at the source, have this CRC32C.
type partialPoint struct {
	Bytes int64 `json:"bytes"`
	CRC   CRC   `json:"crc32c"`
}

// partialRecord is what is on record of a partial file.
type partialRecord struct {
	Format  int            `json:"partial_format"`
	Name    string         `json:"name"` // that it is to have, below the root
	Source  string         `json:"source"`
	Bytes   int64          `json:"bytes"` // of the source's file
	ModTime time.Time      `json:"source_modified"`
	Points  []partialPoint `json:"points"`
	// Left says that nobody writes to it any more. Without that its writer may be dead, or slow.
	Left bool `json:"left,omitempty"`

	data string // the file's name below the root
}

// recordName is the record's file beside the data.
func recordName(data string) string { return data + ".json" }

// is says whether the record is about the very file that the plan has.
func (r partialRecord) is(f *planFile) bool {
	return r.Name == f.target && r.Source == f.source.String() && r.Bytes == f.bytes && r.ModTime.Equal(f.modTime)
}

// findPartials lists the partial files at the target that may belong to large files of the plan, by their target. It only saves
// work: what can't be read is passed over.
func (c *copier) findPartials(ctx context.Context) map[string][]partialRecord {
	if !slices.ContainsFunc(c.mine, c.isLarge) {
		return nil
	}
	infos, err := c.dst.List(ctx, path.Join(ownDir, partialDir))
	if err != nil {
		return nil
	}
	found := map[string][]partialRecord{}
	for _, fi := range infos {
		data, ok := strings.CutSuffix(path.Join(ownDir, partialDir, fi.Name), ".json")
		if !ok {
			continue
		}
		if r, err := readPartial(ctx, c.dst, data); err == nil {
			found[r.Name] = append(found[r.Name], r)
		}
	}
	return found
}

func readPartial(ctx context.Context, dst fsutil.ReadFS, data string) (partialRecord, error) {
	r := partialRecord{data: data}
	in, err := dst.Open(ctx, recordName(data), 0)
	if err != nil {
		return r, err
	}
	defer func() { _ = in.Close() }() // only read
	b, err := io.ReadAll(io.LimitReader(in, maxLineBytes))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err == nil && (r.Format != partialFormat || !slices.IsSortedFunc(r.Points, func(a, b partialPoint) int { return int(min(1, max(-1, a.Bytes-b.Bytes))) })) {
		err = fmt.Errorf("%s: %w", recordName(data), errManifest)
	}
	return r, err
}

// removePartials removes partial files: those with nothing on record for staleAttempt, and those that drop says are of no
// use to anybody. now is the target's.
func removePartials(ctx context.Context, dst fsutil.FS, now time.Time, drop func(partialRecord) bool) error {
	dir := path.Join(ownDir, partialDir)
	infos, err := dst.List(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	last := map[string]time.Time{} // of each data file: when it was last heard of
	for _, fi := range infos {
		data := strings.TrimSuffix(fi.Name, ".json")
		if at, ok := last[data]; !ok || fi.ModTime.After(at) {
			last[data] = fi.ModTime
		}
	}
	for name, at := range last {
		data := path.Join(dir, name)
		stale := now.Sub(at) >= staleAttempt
		if !stale && drop != nil {
			r, err := readPartial(ctx, dst, data)
			stale = err == nil && drop(r)
		}
		if !stale {
			continue
		}
		for _, file := range []string{recordName(data), data} {
			if err := dst.Remove(ctx, file); err != nil {
				return err
			}
		}
	}
	return nil
}
