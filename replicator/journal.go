package replicator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"sync"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
)

// A journal is what an unfinished run leaves on record of the files that it copied and read back, so that the next
// run can tell them by their digest and need not copy them again. It is a directory of segments, since not every
// file system lets a reader see what was appended to a file: each segment is a file of its own, renamed in whole.
// The first comes after journalFirst, each later one after twice the time, up to journalMost: a killed run loses at
// most that much, and a long one does not leave thousands of segments.
const (
	journalFirst = 2 * time.Second
	journalMost  = 30 * time.Second
	// journalWrite bounds the writing of one segment, for whoever interrupts a run does not wait long.
	journalWrite = 5 * time.Second
)

type journal struct {
	dst     fsutil.FS
	dir     string // below the replica's root
	tmp     string // directory for the file being written
	attempt string

	line func(i int) ManifestFile // of file i of the plan

	mu      sync.Mutex
	pending []int // files of the plan; grows at its end, and is cut at its beginning by the journal's own goroutine alone

	stop chan struct{}
	done chan error
}

// startJournal runs until close. Errors of the journal do not fail a run: it only saves work.
func startJournal(ctx context.Context, a *attempt, p *plan) *journal {
	j := &journal{dst: a.dst, dir: own("journal", p.layout.name(), ""), tmp: a.dir(), attempt: a.id, line: p.manifestFile,
		stop: make(chan struct{}), done: make(chan error, 1)}
	go func() { j.done <- j.run(ctx) }()
	return j
}

func (j *journal) run(ctx context.Context) error {
	wait := journalFirst
	for n := 0; ; n++ {
		last := false
		select {
		case <-j.stop:
			last = true
		case <-ctx.Done():
			last = true
		case <-time.After(wait):
		}
		// The last segment is written also when the run was interrupted: it is what a resume lives on.
		wctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), journalWrite)
		err := j.flush(wctx, n)
		cancel()
		if last || ctx.Err() != nil && errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		wait = min(2*wait, journalMost)
	}
}

// record notes file i of the plan, which is at the target under its final name and was read back: nothing of it
// changes any more.
func (j *journal) record(i int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pending = append(j.pending, i)
}

// flush writes a segment with what was recorded since the last. What it can't write is left for the next.
func (j *journal) flush(ctx context.Context, n int) error {
	j.mu.Lock()
	lines := j.pending
	j.mu.Unlock()
	if len(lines) == 0 {
		return nil
	}
	err := writeFile(ctx, j.dst, written{
		tmp:  path.Join(j.tmp, "journal-"+strconv.Itoa(n)),
		name: path.Join(j.dir, j.attempt+"-"+strconv.Itoa(n)+".jsonl"),
		content: func(out io.Writer) error {
			w := manifestWriter{w: out}
			for _, i := range lines {
				if err := w.file(j.line(i)); err != nil {
					return err
				}
			}
			return w.close()
		},
	})
	if err != nil {
		return err
	}
	j.mu.Lock()
	j.pending = j.pending[len(lines):]
	j.mu.Unlock()
	return nil
}

// close writes the last segment and ends the journal.
func (j *journal) close() error {
	close(j.stop)
	return <-j.done
}

// readJournals hands out what unfinished runs below the directory (of one job or one replica) have recorded. Only
// whole segments count; a damaged one is passed over, since it only costs copying again.
func readJournals(ctx context.Context, dst fsutil.ReadFS, dir string, each func(segment string, f ManifestFile)) error {
	return walkFiles(ctx, dst, dir, func(name string) error {
		files, err := readSegment(ctx, dst, name)
		if errors.Is(err, errManifest) || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		for _, f := range files {
			each(name, f)
		}
		return err
	})
}

func readSegment(ctx context.Context, dst fsutil.ReadFS, name string) ([]ManifestFile, error) {
	r, err := dst.Open(ctx, name, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // only read
	var files []ManifestFile
	err = newLineReader(r).files(func(f ManifestFile) error {
		files = append(files, f)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read journal %s: %w", name, err)
	}
	return files, nil
}

// walkFiles visits every file below dir, depth first; an absent dir has none.
func walkFiles(ctx context.Context, dst fsutil.ReadFS, dir string, visit func(name string) error) error {
	return walkInfos(ctx, dst, dir, func(name string, _ fsutil.FileInfo) error { return visit(name) })
}

// removeTree removes dir with all that is below it. For ckptferry's own directories only.
func removeTree(ctx context.Context, dst fsutil.FS, dir string) error {
	infos, err := dst.List(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, fi := range infos {
		name := path.Join(dir, fi.Name)
		if fi.IsDir {
			err = removeTree(ctx, dst, name)
		} else {
			err = dst.Remove(ctx, name)
		}
		if err != nil {
			return err
		}
	}
	return dst.Remove(ctx, dir)
}
