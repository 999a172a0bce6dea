package demo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/ckptferry/ckptferry/fsutil"
)

// retained is how many checkpoints a job keeps: Flink's state.checkpoints.num-retained of the jobs that wrote the fixtures.
const retained = 2

// writtenBelow is where the jobs that wrote the fixtures kept them, so it is what their _metadata names.
const writtenBelow = "/dc-a"

// job is one job's consecutive checkpoints as Flink wrote them, and which of them are at the source now. It writes
// and deletes in Flink's own order. It is not safe for concurrent use.
type job struct {
	name        string
	written     fs.FS // below it "dc-a/flink/checkpoints/…"
	checkpoints []checkpoint

	root string // the directory that stands for dc-a's parent
	next int    // index of the checkpoint to come
	kept []checkpoint
}

// checkpoint is one chk-N. Names are slash-separated, below the parent of dc-a.
type checkpoint struct {
	id    int64
	dir   string
	needs map[string]int64 // files beside _metadata, and how many leading bytes of each this checkpoint reads
}

// readJobs reads the cases of written, one job each, by name; root is where they will be fed to.
func readJobs(written fs.FS, root string) ([]*job, error) {
	cases, err := fs.ReadDir(written, ".")
	if err != nil {
		return nil, fmt.Errorf("read the demo's checkpoints: %w", err)
	}
	var jobs []*job
	for _, c := range cases {
		j := &job{name: c.Name(), root: root}
		if j.written, err = fs.Sub(written, c.Name()); err == nil {
			err = j.read()
		}
		if err != nil {
			return nil, fmt.Errorf("read the demo's checkpoints of %s: %w", c.Name(), err)
		}
		jobs = append(jobs, j)
	}
	return jobs, nil
}

func (j *job) read() error {
	dirs, err := fs.Glob(j.written, "dc-a/flink/checkpoints/*/*/chk-*")
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		c := checkpoint{dir: dir, needs: map[string]int64{}}
		if c.id, err = strconv.ParseInt(strings.TrimPrefix(path.Base(dir), "chk-"), 10, 64); err != nil {
			return err
		}
		raw, err := fs.ReadFile(j.written, path.Join(dir, metadataName))
		if err != nil {
			return err
		}
		meta, err := flinkmeta.Scan(raw)
		if err != nil {
			return err
		}
		refs, err := meta.Refs("file:/" + dir)
		if err != nil {
			return err
		}
		for _, ref := range refs {
			u, err := fsutil.ParseURI(ref.URI)
			if err != nil {
				return err
			}
			c.needs[strings.TrimPrefix(u.Path, "/")] = ref.Need
		}
		j.checkpoints = append(j.checkpoints, c)
	}
	if len(j.checkpoints) == 0 {
		return fmt.Errorf("no checkpoint: %w", fs.ErrNotExist)
	}
	slices.SortFunc(j.checkpoints, func(a, b checkpoint) int { return int(a.id - b.id) })
	return nil
}

// done says whether all checkpoints were fed.
func (j *job) done() bool { return j.next == len(j.checkpoints) }

// feed completes the next checkpoint: its files first, then _metadata at once by a rename, and then what is older than
// the retained ones goes. It returns the checkpoint's id.
func (j *job) feed() (int64, error) {
	c := j.checkpoints[j.next]
	for name := range c.needs {
		if err := j.write(name, c); err != nil {
			return 0, fmt.Errorf("feed chk-%d of %s: %w", c.id, j.name, err)
		}
	}
	if err := j.complete(c); err != nil {
		return 0, fmt.Errorf("feed chk-%d of %s: %w", c.id, j.name, err)
	}
	j.next++
	j.kept = append(j.kept, c)
	for len(j.kept) > retained {
		oldest := j.kept[0]
		j.kept = j.kept[1:]
		if err := j.subsume(oldest); err != nil {
			return 0, fmt.Errorf("delete chk-%d of %s: %w", oldest.id, j.name, err)
		}
	}
	return c.id, nil
}

// write writes a file as it was when c was completed. A merged file grows at its end from checkpoint to checkpoint:
// what a later one reads of it wasn't there yet.
func (j *job) write(name string, c checkpoint) error {
	bytes, err := fs.ReadFile(j.written, name)
	if err != nil {
		return err
	}
	for _, other := range j.checkpoints {
		if other.id > c.id && other.needs[name] > c.needs[name] {
			bytes = bytes[:c.needs[name]]
			break
		}
	}
	to := j.at(name)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err == nil && fi.Size() < int64(len(bytes)) {
		_, err = f.Write(bytes[fi.Size():])
	}
	return errors.Join(err, f.Close())
}

// complete puts _metadata in place as Flink does: under another name, then renamed.
func (j *job) complete(c checkpoint) error {
	name := path.Join(c.dir, metadataName)
	bytes, err := fs.ReadFile(j.written, name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(j.at(c.dir), 0o755); err != nil {
		return err
	}
	unfinished := j.at(path.Join(c.dir, "."+metadataName+".inprogress.demo"))
	if err := os.WriteFile(unfinished, bytes, 0o644); err != nil {
		return err
	}
	return os.Rename(unfinished, j.at(name))
}

// subsume deletes a checkpoint: files that no retained one needs, _metadata, and the directory last. What somebody
// else deleted before is no error, as it is none for Flink.
func (j *job) subsume(c checkpoint) error {
	remove := func(name string) error {
		if err := os.Remove(j.at(name)); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	for name := range c.needs {
		needed := slices.ContainsFunc(j.kept, func(k checkpoint) bool { _, ok := k.needs[name]; return ok })
		if needed {
			continue
		}
		if err := remove(name); err != nil {
			return err
		}
	}
	return errors.Join(remove(path.Join(c.dir, metadataName)), remove(c.dir))
}

// cancel ends the job as one that retains nothing; it can be fed from its first checkpoint on again.
func (j *job) cancel() error {
	j.next, j.kept = 0, nil
	return os.RemoveAll(j.at(path.Dir(path.Dir(j.checkpoints[0].dir))))
}

func (j *job) at(name string) string { return filepath.Join(j.root, filepath.FromSlash(name)) }

const metadataName = "_metadata"
