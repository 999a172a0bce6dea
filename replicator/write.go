package replicator

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/ckptferry/ckptferry/fsutil"
)

// copyBufferBytes is how much is read and written at a time. On Linux a write of a megabyte takes its page cache in large
// pieces; on a virtual machine these are memory that the host has to give first, which tripled the cost of a copy
// (kernel 6.18, free page reporting). Less than 128 KiB costs system calls.
const copyBufferBytes = 256 << 10

// allBuffersBytes is what all buffers of a run may take; with many files at a time each gets less.
const allBuffersBytes = 64 << 20

// bufferPool lends buffers for copying and reading back.
type bufferPool struct {
	bytes int
	pool  sync.Pool
}

func newBufferPool(parallel int) *bufferPool {
	return &bufferPool{bytes: min(copyBufferBytes, allBuffersBytes/parallel)}
}

func (b *bufferPool) get() *[]byte {
	if v, ok := b.pool.Get().(*[]byte); ok {
		return v
	}
	v := make([]byte, b.bytes)
	return &v
}

func (b *bufferPool) put(v *[]byte) { b.pool.Put(v) }

// uncheckedOpener is an fsutil file system that can leave out its own check of what is read, for a reader that
// compares a digest of its own.
type uncheckedOpener interface {
	OpenUnchecked(ctx context.Context, name string, offset int64) (io.ReadCloser, error)
}

// readBack reads a file at the target whole. What it returns is what the file system gives now, to be compared by
// the caller.
func readBack(ctx context.Context, dst fsutil.ReadFS, name string, buf []byte) (crc CRC, n int64, err error) {
	open := dst.Open
	if u, ok := dst.(uncheckedOpener); ok {
		open = u.OpenUnchecked
	}
	r, err := open(ctx, name, 0)
	if err != nil {
		return 0, 0, fmt.Errorf("read back %s: %w", dst.Root().Join(name), err)
	}
	defer func() { _ = r.Close() }() // only read
	var sum uint32
	for {
		got, err := r.Read(buf)
		sum = crc32.Update(sum, castagnoli, buf[:got])
		n += int64(got)
		if err == io.EOF {
			return CRC(sum), n, nil
		}
		if err != nil {
			return 0, n, fmt.Errorf("read back %s: %w", dst.Root().Join(name), err)
		}
	}
}

// sameBytes says whether a file holds what is wanted. It does not read the file into memory at once.
func sameBytes(ctx context.Context, from fsutil.ReadFS, name string, want []byte) (bool, error) {
	r, err := from.Open(ctx, name, 0)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", from.Root().Join(name), err)
	}
	defer func() { _ = r.Close() }() // only read
	buf := make([]byte, ownBufferBytes)
	for {
		n, err := r.Read(buf)
		if !bytes.HasPrefix(want, buf[:n]) {
			return false, nil
		}
		want = want[n:]
		if err == io.EOF {
			return len(want) == 0, nil
		}
		if err != nil {
			return false, fmt.Errorf("read %s: %w", from.Root().Join(name), err)
		}
	}
}

// written is a file that ckptferry itself makes: the temporary name it is written under, its own name, and its
// content, which may be asked for more than once. No content is an empty file.
type written struct {
	tmp, name string
	content   func(io.Writer) error
}

func verbatim(b []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	}
}

// writeFile writes a file so that it is visible whole or not at all, and read back before it is visible. It may be
// repeated.
func writeFile(ctx context.Context, dst fsutil.FS, w written) error {
	if err := dst.Remove(ctx, w.tmp); err != nil {
		return fmt.Errorf("remove %s: %w", dst.Root().Join(w.tmp), err)
	}
	f, err := dst.Create(ctx, w.tmp)
	if err != nil {
		return fmt.Errorf("write %s: %w", dst.Root().Join(w.name), err)
	}
	var sent digest
	if w.content != nil {
		out := bufio.NewWriterSize(io.MultiWriter(f, &sent), ownBufferBytes)
		if err = w.content(out); err == nil {
			err = out.Flush()
		}
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", dst.Root().Join(w.tmp), err), f.Abort())
	}
	if err := f.Commit(ctx); err != nil {
		return errors.Join(fmt.Errorf("commit %s: %w", dst.Root().Join(w.tmp), err), f.Abort())
	}
	crc, n, err := readBack(ctx, dst, w.tmp, make([]byte, ownBufferBytes))
	if err != nil {
		return err
	}
	if crc != sent.crc || n != sent.n {
		return fmt.Errorf("%w: %s gives %d bytes, CRC32C %s; %d bytes, %s were written", errReadBack, dst.Root().Join(w.tmp), n, crc, sent.n, sent.crc)
	}
	if err := dst.Rename(ctx, w.tmp, w.name); err != nil {
		return fmt.Errorf("rename %s to %s: %w", w.tmp, dst.Root().Join(w.name), err)
	}
	return nil
}

// ownBufferBytes is how much of ckptferry's own files is written and read at a time.
const ownBufferBytes = 1 << 16

// digest counts bytes and computes their CRC32C.
type digest struct {
	crc CRC
	n   int64
}

func (d *digest) Write(b []byte) (int, error) {
	d.crc = CRC(crc32.Update(uint32(d.crc), castagnoli, b))
	d.n += int64(len(b))
	return len(b), nil
}
