package main

import (
	"errors"
	"io/fs"
	"slices"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/node"
	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
	"github.com/ckptferry/ckptferry/replicator/drill"
	"github.com/ckptferry/ckptferry/rpc"
)

// Exit codes: a promise to scripts, fixed by testdata/script/exit.txtar and agentexit.txtar.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2   // flags, arguments, configuration
	exitNotFound    = 3   // no such checkpoint, or nothing of that name in the group
	exitUnreachable = 4   // a file system or agent can't be reached or does not answer, or there is no leader: try again
	exitDenied      = 5   // permission
	exitRefused     = 6   // doing it would break a promise
	exitVerify      = 7   // missing, short or different bytes; also: the source or its _metadata is broken, or a drill failed
	exitLag         = 8   // the lag is over the limit, or unknown
	exitPartial     = 9   // a part of what was asked for was done, the rest refused
	exitTimeout     = 10  // what was waited for did not come in time
	exitSuperseded  = 11  // Flink deleted the checkpoint meanwhile: take a newer one
	exitInterrupted = 130 // Ctrl-C
)

// usageError is a mistake in the command line.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() + "\nRun with --help for usage" }
func (e usageError) Unwrap() error { return e.err }

// configError is a mistake in a configuration file, or a file that can't be read.
type configError struct{ err error }

func (e configError) Error() string { return e.err.Error() }
func (e configError) Unwrap() error { return e.err }

// silentError has been told to the user already, or is an answer rather than an error (diff).
type silentError struct {
	code int
	err  error
}

func (e silentError) Error() string { return "" }
func (e silentError) Unwrap() error { return e.err }

// exitTable is the one table from errors to exit codes. The first row that fits decides: what a domain error means
// outweighs the file system's error inside of it. What no row knows is exitFailed.
var exitTable = []struct {
	code int
	fits func(error) bool
}{
	{exitUsage, isA[usageError]},
	{exitUsage, isA[configError]},
	{exitUsage, wraps(node.ErrConfig)},
	{exitPartial, isA[partialError]},
	{exitLag, isA[lagError]},
	{exitTimeout, isA[timeoutError]},
	{exitSuperseded, wraps(replicator.ErrSuperseded)},
	{exitVerify, wraps(replicator.ErrBroken, replicator.ErrVerify, drill.ErrFailed)},
	{exitRefused, wraps(replicator.ErrRefused, fsutil.ErrUnsupported, flinkmeta.ErrVersion, flinkmeta.ErrNoRelativeForm, flinkmeta.ErrOutside)},
	{exitRefused, wraps(raftstore.ErrForeign, raftstore.ErrNewer, raftstore.ErrDamaged, raftstore.ErrInUse)},
	{exitUnreachable, wraps(rpc.ErrUnavailable, rpc.ErrNotLeader)},
	{exitDenied, wraps(rpc.ErrDenied)},
	{exitUsage, wraps(rpc.ErrInvalid)},
	{exitNotFound, wraps(rpc.ErrNotFound)},
	{exitRefused, wraps(rpc.ErrRefused)},
	{exitDenied, wraps(fs.ErrPermission)},
	{exitUnreachable, wraps(fsutil.ErrUnavailable)},
	{exitNotFound, wraps(fs.ErrNotExist)},
	{exitVerify, wraps(fsutil.ErrCorrupt)},
	{exitVerify, isA[*flinkmeta.FormatError]},
}

func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	var silent silentError
	if errors.As(err, &silent) && silent.code != 0 {
		return silent.code
	}
	for _, row := range exitTable {
		if row.fits(err) {
			return row.code
		}
	}
	return exitFailed
}

// wraps fits an error that wraps any of the sentinels.
func wraps(sentinels ...error) func(error) bool {
	return func(err error) bool {
		return slices.ContainsFunc(sentinels, func(s error) bool { return errors.Is(err, s) })
	}
}

// isA fits an error that is or wraps one of type T.
func isA[T error](err error) bool {
	var as T
	return errors.As(err, &as)
}
