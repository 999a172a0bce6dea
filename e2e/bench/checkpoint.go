package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/ckptferry/ckptferry/flinkmeta/metadatatest"
	"github.com/ckptferry/ckptferry/fsutil"
)

const (
	jobID    = "5f24a551be2324b1f70cae10026b14a1"
	subtasks = 16
)

// checkpoint is one of incremental RocksDB state as Flink 1.20 leaves it: per subtask one file in chk-N, relative, and
// all others in shared/, absolute.
type checkpoint struct {
	base   string // URI of the directory that holds the job's, as _metadata names it
	id     string // JobID; empty: jobID
	number int64
	files  []stateFile
	// handles is how many handles refer to the files; at least one to each.
	handles int
}

// stateFile is one file of state, with bytes that are told by its name.
type stateFile struct {
	name   string // below the job's directory: "shared/…" or "chk-7/…"
	size   int64
	sparse bool // a hole of that size
}

// newCheckpoint has n files of the sizes that size gives; the first ones are the subtasks' own.
func newCheckpoint(base string, number int64, n int, size func(i int) int64) checkpoint {
	c := checkpoint{base: base, number: number, handles: n}
	r := rand.New(rand.NewPCG(uint64(number), uint64(n)))
	for i := range n {
		dir := "shared"
		if i < subtasks {
			dir = fmt.Sprintf("chk-%d", number)
		}
		c.files = append(c.files, stateFile{name: dir + "/" + uuid(r), size: size(i)})
	}
	return c
}

func sized(bytes int64) func(int) int64 { return func(int) int64 { return bytes } }

func (c checkpoint) jobID() string { return cmp.Or(c.id, jobID) }
func (c checkpoint) job() string   { return c.base + "/" + c.jobID() }
func (c checkpoint) dir() string   { return fmt.Sprintf("%s/chk-%d", c.job(), c.number) }

func (c checkpoint) bytes() int64 {
	var sum int64
	for _, f := range c.files {
		sum += f.size
	}
	return sum
}

// metadata is the checkpoint's _metadata, version 4.
func (c checkpoint) metadata() []byte {
	var own, shared []stateFile
	for _, f := range c.files {
		if strings.HasPrefix(f.name, "shared/") {
			shared = append(shared, f)
		} else {
			own = append(own, f)
		}
	}
	references := max(c.handles-len(own), len(shared))
	if len(shared) == 0 {
		references = 0
	}
	r := rand.New(rand.NewPCG(uint64(c.number), 1))
	w := &metadatatest.Writer{B: make([]byte, 0, 170*c.handles+64<<10)}
	w.Header(4, c.number)
	w.I32(0) // master states
	w.I32(1) // operators
	w.I64(r.Int64())
	w.I64(r.Int64())
	w.I32(subtasks)
	w.I32(128)
	w.Null() // coordinator
	w.I32(subtasks)
	for i := range subtasks {
		w.I32(i)
		w.I32(0) // managed, raw operator state
		w.I32(0)
		w.U8(11) // INCREMENTAL_V2
		w.I64(c.number)
		w.UTF(uuid(r))
		w.I32(i * 8)
		w.I32(8)
		w.I64(1 << 20)
		if i < len(own) {
			w.Relative(path.Base(own[i].name), own[i].size)
		} else {
			w.Inline(uuid(r), make([]byte, 100))
		}
		from, to := references*i/subtasks, references*(i+1)/subtasks
		w.I32(to - from)
		for k := from; k < to; k++ {
			f := shared[k%len(shared)]
			w.UTF(fmt.Sprintf("%06d.sst", k))
			w.File(c.job()+"/"+f.name, f.size)
		}
		w.I32(1)
		w.UTF("CURRENT")
		w.Inline(uuid(r), []byte("MANIFEST-000004\n"))
		w.UTF(uuid(r))
		w.Null() // raw keyed state
		w.I32(0) // channel state
		w.I32(0)
	}
	w.CheckpointTail()
	return w.B
}

// content are the bytes of a file: as random as compressed sst files, and the same at every call.
func (f stateFile) content() io.Reader {
	var seed [32]byte
	copy(seed[:], f.name[max(0, len(f.name)-32):])
	return io.LimitReader(rand.NewChaCha8(seed), f.size)
}

// writeLocal writes the checkpoint below root, an absolute path, where base must lead; what is there already stays.
func (c checkpoint) writeLocal(root string) error {
	if err := c.writeState(root); err != nil {
		return err
	}
	return os.WriteFile(c.metadataFile(root), c.metadata(), 0o644)
}

func (c checkpoint) metadataFile(root string) string {
	return filepath.Join(root, c.jobID(), fmt.Sprintf("chk-%d", c.number), "_metadata")
}

// writeState is writeLocal without _metadata: the checkpoint isn't completed yet.
func (c checkpoint) writeState(root string) error {
	job := filepath.Join(root, c.jobID())
	for _, dir := range []string{"shared", "taskowned", fmt.Sprintf("chk-%d", c.number)} {
		if err := os.MkdirAll(filepath.Join(job, dir), 0o755); err != nil {
			return err
		}
	}
	buf := make([]byte, 1<<20)
	for _, f := range c.files {
		if err := f.writeLocal(filepath.Join(job, f.name), buf); err != nil {
			return fmt.Errorf("write the source: %w", err)
		}
	}
	return nil
}

func (f stateFile) writeLocal(name string, buf []byte) error {
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if os.IsExist(err) {
		return nil // of an earlier checkpoint of the job
	}
	if err != nil {
		return err
	}
	defer out.Close()
	if f.sparse {
		return out.Truncate(f.size)
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{out}, f.content(), buf); err != nil {
		return err
	}
	return out.Close()
}

// writeTo writes the checkpoint to a file system whose root is where base leads.
func (c checkpoint) writeTo(ctx context.Context, dst fsutil.FS) error {
	write := func(ctx context.Context, name string, content io.Reader) error {
		w, err := dst.Create(ctx, jobID+"/"+name)
		if err != nil {
			return err
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{w}, content, make([]byte, 256<<10)); err != nil {
			_ = w.Abort() // the first error tells more
			return err
		}
		return w.Commit(ctx)
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for _, f := range c.files {
		group.Go(func() error { return write(gctx, f.name, f.content()) })
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("write the source: %w", err)
	}
	return write(ctx, fmt.Sprintf("chk-%d/_metadata", c.number), strings.NewReader(string(c.metadata())))
}

func uuid(r *rand.Rand) string {
	a, b := r.Uint64(), r.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", a>>32, a>>16&0xFFFF, a&0xFFF, 0x8000|b>>48&0x3FFF, b&0xFFFFFFFFFFFF)
}
