package rpc

import (
	"context"
	"errors"
	"io/fs"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ckptferry/ckptferry/fsutil"
	peerv1 "github.com/ckptferry/ckptferry/proto/ckptferry/peer/v1"
)

// kindOther is what a file's error is that none of the sentinels fits.
const kindOther = "other"

// kindTable maps errors about files to FileError.kind and back. It is tried from its top: an error that wraps two is
// told as the one that a caller may conclude less from. "not_exist" is last, because a file that is gone supersedes a
// checkpoint.
var kindTable = []struct {
	kind string
	err  error
}{
	{"corrupt", fsutil.ErrCorrupt},
	{"unavailable", fsutil.ErrUnavailable},
	{"unavailable", context.Canceled}, // the answering side gave up, the asking one did not
	{"unavailable", context.DeadlineExceeded},
	{"unsupported", fsutil.ErrUnsupported},
	{"no_space", fsutil.ErrNoSpace},
	{"permission", fs.ErrPermission},
	{"invalid", fs.ErrInvalid},
	{"exist", fs.ErrExist},
	{"not_exist", fs.ErrNotExist},
}

func kindOf(err error) string {
	for _, row := range kindTable {
		if errors.Is(err, row.err) {
			return row.kind
		}
	}
	return kindOther
}

// fileError is an error about one file, for the wire.
func fileError(err error) *peerv1.FileError {
	return &peerv1.FileError{Kind: kindOf(err), Message: clipped(err.Error())}
}

// fromFileError is fileError's opposite. A kind that is not known, of a newer peer, wraps nothing.
func fromFileError(e *peerv1.FileError) error {
	out := &remoteError{message: clipped(e.GetMessage())}
	for _, row := range kindTable {
		if row.kind == e.GetKind() {
			out.is = row.err
			break
		}
	}
	return out
}

// callErrors is what the failure of a whole call means for whoever reads files. It never is fs.ErrNotExist, which is
// for a file alone: a checkpoint would be given up for it.
var callErrors = map[codes.Code]error{
	codes.PermissionDenied:   fs.ErrPermission,
	codes.Unauthenticated:    fs.ErrPermission,
	codes.NotFound:           fs.ErrPermission,
	codes.InvalidArgument:    fs.ErrInvalid,
	codes.OutOfRange:         fs.ErrInvalid,
	codes.Unimplemented:      fsutil.ErrUnsupported,
	codes.FailedPrecondition: fsutil.ErrUnsupported,
	codes.DataLoss:           fsutil.ErrCorrupt,
}

// callError is the error of a call between agents. All that may pass is fsutil.ErrUnavailable.
func callError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s, ok := status.FromError(err)
	if !ok {
		return err // found on this side
	}
	is, ok := callErrors[s.Code()]
	if !ok {
		is = fsutil.ErrUnavailable
	}
	return &remoteError{message: clipped(s.Message()), is: is}
}
