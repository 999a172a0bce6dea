package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
	gib = int64(1) << 30
)

// localPair is a checkpoint on this machine's disk, and where copies of it go.
type localPair struct {
	source checkpoint
	from   string // path of the job's directory
	root   string // path of a directory for the targets
	keep   bool   // the targets stay until the section's end
}

// newLocalPair writes a source. Copies are made on the same file system as it lies on.
func (b *bench) newLocalPair(name string, n int, size func(int) int64) (localPair, error) {
	root := filepath.Join(b.dir, name)
	source := filepath.Join(root, "source")
	p := localPair{source: newCheckpoint("file:"+source, 7, n, size), root: root, from: filepath.Join(source, jobID)}
	b.logf("%s: writing %d files, %d MiB", name, n, p.source.bytes()/mib)
	return p, p.source.writeLocal(source)
}

// timed runs do on a new target, with the source in the page cache and nothing dirty from before.
func (p localPair) timed(do func(target string) error) (time.Duration, error) {
	target, err := os.MkdirTemp(p.root, "target-")
	if err != nil {
		return 0, err
	}
	if err := readAll(p.from); err != nil {
		return 0, err
	}
	syscall.Sync()
	if err := backMemory(p.source.bytes() + gib/2); err != nil {
		return 0, err
	}
	began := time.Now()
	err = do(target)
	took := time.Since(began)
	if err != nil {
		return 0, err
	}
	if p.keep {
		return took, nil
	}
	err = os.RemoveAll(target)
	syscall.Sync()
	return took, err
}

// backMemory touches that much memory and gives it back. A virtual machine returns memory that was freed some seconds
// ago to its host, and a side that then fills the page cache would wait for the host at each page: three times the cost
// of the copy itself, on some machines.
func backMemory(bytes int64) error {
	m, err := syscall.Mmap(-1, 0, int(bytes), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return fmt.Errorf("touch %d MiB of memory: %w", bytes/mib, err)
	}
	for i := 0; i < len(m); i += os.Getpagesize() {
		m[i] = 1
	}
	return syscall.Munmap(m)
}

// readAll brings a tree into the page cache.
func readAll(dir string) error {
	buf := make([]byte, mib)
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, buf)
		return err
	})
}

// ours is ckptferry as a whole process.
func (b *bench) ours(p localPair) side {
	return side{name: "ckptferry replicate", run: func(ctx context.Context, _ int) (time.Duration, error) {
		return p.timed(func(target string) error {
			r, _, err := b.replicate(ctx, p.source, target)
			if err == nil && r.BytesCopied != p.source.bytes() {
				err = fmt.Errorf("copied %d bytes of %d", r.BytesCopied, p.source.bytes())
			}
			return err
		})
	}}
}

// shell is a peer that is a line of sh: $1 is the job's directory at the source, $2 the target.
func (p localPair) shell(name, line string) side {
	return side{name: name, run: func(ctx context.Context, _ int) (time.Duration, error) {
		return p.timed(func(target string) error {
			out, err := exec.CommandContext(ctx, "sh", "-c", line, "sh", p.from, target).CombinedOutput()
			if err != nil {
				return fmt.Errorf("%s: %w\n%s", line, err, out)
			}
			return nil
		})
	}}
}

func measureLocal(ctx context.Context, b *bench) error {
	if err := measureLarge(ctx, b); err != nil {
		return err
	}
	return measureSmall(ctx, b)
}

// copyAndCompare is cp, then one cmp for each file in one sh.
const copyAndCompare = `set -e; cp -r "$1" "$2"/job; cd "$1"; find . -type f | while read -r f; do cmp "$f" "$2/job/$f"; done`

func measureLarge(ctx context.Context, b *bench) error {
	p, err := b.newLocalPair("local-large", 256, sized(4*mib))
	if err != nil {
		return err
	}
	defer os.RemoveAll(p.root)
	sides := []side{b.ours(p), p.shell("cp -r, cmp", copyAndCompare), p.shell("cp -r, sync -f, cmp", `set -e; cp -r "$1" "$2"/job; sync -f "$2"; cd "$1"; find . -type f | while read -r f; do cmp "$f" "$2/job/$f"; done`)}
	what := "1 GiB in 256 files, file → file"
	took, err := b.race(ctx, what, sides...)
	if err != nil {
		return err
	}
	b.compare(versus{section: "local", what: what, goal: 0.9, ours: 0, peer: 1,
		note: "ckptferry reads the source once, writes, fsyncs, reads every byte back and compares CRC32C; cp leaves the bytes in the page cache and cmp reads both sides from there. Source in the page cache for both, sync before and after each"}, took, sides...)
	b.compare(versus{section: "local", what: what + ", peer on the disk too", ours: 0, peer: 2,
		note: "for information: cp with one sync of the file system at its end, as durable as what ckptferry leaves"}, took, sides...)
	return nil
}

func measureSmall(ctx context.Context, b *bench) error {
	const what, goal = "10,000 files of 16 KiB, file → file", 1.5
	if _, err := exec.LookPath("rclone"); err != nil {
		b.add(row{Section: "local", What: what, Unit: "×", Least: goal, Skipped: "rclone is not installed (apt-get install rclone)"})
		return nil
	}
	p, err := b.newLocalPair("local-small", 10_000, sized(16*kib))
	if err != nil {
		return err
	}
	defer os.RemoveAll(p.root)
	// ext4 walks around inodes that were freed a moment ago: the next side would pay for what was removed.
	p.keep = true
	sides := []side{b.ours(p),
		p.shell("rclone copy --transfers 32 --checksum", `rclone copy --config "" --transfers 32 --checksum "$1" "$2"/job`),
		p.shell("rclone copy …, sync -f", `set -e; rclone copy --config "" --transfers 32 --checksum "$1" "$2"/job; sync -f "$2"`)}
	took, err := b.race(ctx, what, sides...)
	if err != nil {
		return err
	}
	b.compare(versus{section: "local", what: what, goal: goal, ours: 0, peer: 1,
		note: firstLine(ctx, "rclone", "version") + "; it compares checksums of what it read and wrote, and neither fsyncs nor reads back; ckptferry does both for each file"}, took, sides...)
	b.compare(versus{section: "local", what: what + ", peer on the disk too", ours: 0, peer: 2,
		note: "for information: rclone with one sync of the file system at its end, as durable as what ckptferry leaves"}, took, sides...)
	return nil
}
