// Package fsutil reads and writes the file systems that Flink checkpoints live on: local directories, HDFS and
// memory (for tests).
//
// It owns everything that is odd about a file system: what makes a write durable, what a client library gets
// wrong, which errors may be retried. Above this package a file system is one of the two interfaces here and
// nothing else. Code that works on the source of a replication is handed a ReadFS, so it cannot write by type.
//
// Start at ReadFS and FS; URI says how a place is named; Stores opens a place by its URI.
package fsutil

import (
	"context"
	"errors"
	"io"
	"time"
)

// Errors that callers tell apart beside io/fs's ErrNotExist, ErrExist, ErrPermission and ErrInvalid. Every
// implementation wraps one of them where it fits, so errors.Is decides and nobody reads messages.
var (
	// ErrCorrupt says that bytes which were read are not the bytes that were written: a checksum differs, or a
	// file ended before its length. What was read up to then must be thrown away.
	ErrCorrupt = errors.New("bytes are corrupt")
	// ErrUnavailable says that the file system could not be asked or did not answer in time. The outcome of a
	// write is unknown; asking again later may work. It says nothing against the bytes that were read before.
	ErrUnavailable = errors.New("file system unavailable")
	// ErrUnsupported says that the place or the cluster works in a way that can't be read or written correctly
	// here (an encryption zone, an erasure-coded directory, a wire protection mode). Retrying never helps.
	ErrUnsupported = errors.New("not supported")
	// ErrNoSpace says that a disk is full or a quota is used up.
	ErrNoSpace = errors.New("no space left")
)

// FileInfo describes one file or directory.
type FileInfo struct {
	Name    string    // base name
	Size    int64     // bytes; 0 for a directory
	ModTime time.Time // as the file system keeps it: milliseconds on HDFS
	IsDir   bool
}

// ReadFS reads the files below one root. Names are slash-separated and relative to Root (io/fs.ValidPath; "." is
// the root itself): a name that came over a wire cannot escape. A name that isn't valid, or has more than 255 bytes
// between two slashes, is fs.ErrInvalid; a backslash is a character like any other. All methods are safe for
// concurrent use, change nothing and may be repeated. When ctx is over they return its error.
type ReadFS interface {
	// Root is where names start. It may be absent: then so is everything below it.
	Root() URI
	// Open reads a file from offset (bytes) to its end. An absent file is fs.ErrNotExist, here or at the first
	// Read. Read returns io.EOF only when every byte from offset on was delivered and none is known to be wrong;
	// else it is ErrCorrupt, ErrUnavailable or another error, and what was read before is not to be believed. But for
	// ErrUnavailable: then the bytes before it hold as far as could be told when they were handed out (each chunk or piece
	// was checked, digests of what was not read to its end were not).
	// A directory, and an offset beyond the end, are fs.ErrInvalid. ctx bounds the reading as well.
	// A file that is replaced meanwhile is read to its end as it was, or fails: bytes of two files never mix.
	Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error)
	// Stat describes one file or directory; an absent one is fs.ErrNotExist, as is what lies "below" a file. The
	// length of a file that is being written is not to be believed.
	Stat(ctx context.Context, name string) (FileInfo, error)
	// List describes the children of a directory, sorted by name (bytewise); an absent one is fs.ErrNotExist, a
	// file is fs.ErrInvalid.
	List(ctx context.Context, dir string) ([]FileInfo, error)
}

// FS is a ReadFS that also writes. Every method is idempotent where that can be; Create is the exception. The root
// itself can't be created, renamed or removed (fs.ErrInvalid); it is made when the first file is created. After
// ErrUnavailable or the error of ctx a change may have been made or not.
type FS interface {
	ReadFS
	// Create starts a new file under its own name, at once visible to others, and makes its parent directories.
	// A file or directory that is there is fs.ErrExist, a file where a parent should be is fs.ErrInvalid.
	// ctx bounds the writing as well, until Commit.
	Create(ctx context.Context, name string) (File, error)
	// Rename moves a file, replaces `to` if that is a file, and makes to's parent directories. It is atomic, and
	// durable when it returns nil. An absent `from` is fs.ErrNotExist; a directory, as either, is fs.ErrInvalid.
	// Rename to the same name does nothing.
	Rename(ctx context.Context, from, to string) error
	// Remove deletes a file or an empty directory, durably when it returns nil: an order of removals is their
	// order on the disk. An absent one is not an error; a directory that is not empty is fs.ErrExist.
	Remove(ctx context.Context, name string) error
}

// File is a file being written, by one goroutine at a time. One of Commit and Abort must be called.
type File interface {
	// Write appends. After an error every further Write and Commit fails too. After Commit or Abort it is
	// fs.ErrClosed.
	io.Writer
	// Commit makes the bytes that were written durable (flushed, synced, closed). The name that the file was
	// created with is durable only when it was renamed. After an error the file must be aborted and written again
	// from its start: Commit is not tried twice. After Commit or Abort it is fs.ErrClosed.
	Commit(ctx context.Context) error
	// Abort gives the file up and removes it as far as that can be done. After Commit, and again, it does nothing.
	Abort() error
}

// Keeper is what a File may have beside its methods: a large one that was cut is worth something.
type Keeper interface {
	// Keep ends the writing and leaves what was written under the file's name, as far as that goes: nothing is promised to
	// be there or durable, and all of it must be compared by whoever makes use of it. It may follow a failed Write or
	// Commit. After Commit or Abort it does nothing, and after Keep they do nothing.
	Keep(ctx context.Context) error
}
