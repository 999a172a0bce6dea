package main

import (
	"errors"
	"io/fs"

	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/replicator"
)

// Exit codes: a promise to scripts, fixed by testdata/script/exit.txtar. 8 to 10 belong to commands to come.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2   // flags, arguments, configuration
	exitNotFound    = 3   // no such checkpoint
	exitUnreachable = 4   // a file system can't be reached or does not answer: try again
	exitDenied      = 5   // permission
	exitRefused     = 6   // doing it would break a promise
	exitVerify      = 7   // missing, short or different bytes; also: the source or its _metadata is broken
	exitSuperseded  = 11  // Flink deleted the checkpoint meanwhile: take a newer one
	exitInterrupted = 130 // Ctrl-C
)

// usageError is a mistake in the command line.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() + "\nRun with --help for usage" }
func (e usageError) Unwrap() error { return e.err }

// silentError has been told to the user already, or is an answer rather than an error (diff).
type silentError struct {
	code int
	err  error
}

func (e silentError) Error() string { return "" }
func (e silentError) Unwrap() error { return e.err }

// exitCode is the one table from errors to exit codes. The order matters: what a domain error means outweighs the
// file system's error inside of it.
func exitCode(err error) int {
	var silent silentError
	var usage usageError
	var format *flinkmeta.FormatError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &silent) && silent.code != 0:
		return silent.code
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, replicator.ErrSuperseded):
		return exitSuperseded
	case errors.Is(err, replicator.ErrBroken), errors.Is(err, replicator.ErrVerify):
		return exitVerify
	case errors.Is(err, replicator.ErrRefused), errors.Is(err, fsutil.ErrUnsupported),
		errors.Is(err, flinkmeta.ErrVersion), errors.Is(err, flinkmeta.ErrNoRelativeForm), errors.Is(err, flinkmeta.ErrOutside):
		return exitRefused
	case errors.Is(err, fs.ErrPermission):
		return exitDenied
	case errors.Is(err, fsutil.ErrUnavailable):
		return exitUnreachable
	case errors.Is(err, fs.ErrNotExist):
		return exitNotFound
	case errors.Is(err, fsutil.ErrCorrupt), errors.As(err, &format):
		return exitVerify
	default:
		return exitFailed
	}
}
