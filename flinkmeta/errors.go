package flinkmeta

import (
	"errors"
	"fmt"
	"strings"
)

// What can be wrong with the bytes of a _metadata file. All of them reach the caller wrapped in a *FormatError.
var (
	// ErrMagic: the file does not begin with Flink's magic number, it is no _metadata file at all.
	ErrMagic = errors.New("no Flink checkpoint metadata: the magic number is missing")
	// ErrVersion: version 1 (Flink 1.2), or one that this package does not know. The message names it.
	ErrVersion = errors.New("metadata version is not supported")
	// ErrHandleType: a type byte that is unknown, or that may not stand where it was found.
	ErrHandleType = errors.New("unexpected state handle type")
	// ErrTruncated: the file ends before the value does.
	ErrTruncated = errors.New("file ends early: it is truncated")
	// ErrCount: a negative length or count, or one that the rest of the file can't hold.
	ErrCount = errors.New("impossible count")
	// ErrValue: a number outside of what Flink's loader accepts.
	ErrValue = errors.New("impossible value")
	// ErrTrailing: bytes behind the end of the metadata.
	ErrTrailing = errors.New("bytes behind the end of the metadata")
	// ErrNesting: handles within handles, deeper than Flink writes them.
	ErrNesting = errors.New("handles are nested too deep")
	// ErrUTF: a string that is not modified UTF-8.
	ErrUTF = errors.New("string is not modified UTF-8")
	// ErrProperties: the Java serialised CheckpointProperties at the end are not one complete object.
	ErrProperties = errors.New("checkpoint properties are not one complete object")
	// ErrTooLarge: larger than 4 GiB, which Flink (Java arrays) can't load either.
	ErrTooLarge = errors.New("metadata is larger than 4 GiB")
)

// What can be wrong with a path or with a relocation.
var (
	// ErrPath: a path that names no file by the rules of Flink's Path.
	ErrPath = errors.New("not a path that Flink can open")
	// ErrPathTooLong: longer than the 65,535 bytes of modified UTF-8 that java.io.DataOutputStream.writeUTF can write.
	ErrPathTooLong = errors.New("path is longer than 65535 bytes of modified UTF-8")
	// ErrNoRelativeForm: a changelog file or a segment of a merged file, asked to be written relative.
	ErrNoRelativeForm = errors.New("no relative form")
	// ErrCollision: two different files were given the same place.
	ErrCollision = errors.New("two files would become one")
	// ErrOutside: a path below none of the prefixes that are moved.
	ErrOutside = errors.New("outside of what is relocated")
	// ErrNoBase: the base directory can't be told from the metadata.
	ErrNoBase = errors.New("the base directory can't be inferred")
)

// FormatError says where the bytes stop making sense.
type FormatError struct {
	Offset   int    // of the value in the file, in bytes
	Field    string // what was being read, e.g. "key group count"
	Operator string // name and hex id of the operator it belongs to; empty outside of operators
	Err      error  // one of the sentinels of this package, usually with details
}

func (e *FormatError) Error() string {
	var s strings.Builder
	fmt.Fprintf(&s, "_metadata at offset %d: ", e.Offset)
	if e.Operator != "" {
		fmt.Fprintf(&s, "operator %s: ", e.Operator)
	}
	fmt.Fprintf(&s, "%s: %v", e.Field, e.Err)
	return s.String()
}

func (e *FormatError) Unwrap() error { return e.Err }
