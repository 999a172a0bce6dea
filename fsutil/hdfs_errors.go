package fsutil

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/colinmarc/hdfs/v2"
)

// remoteError is an exception that a namenode threw.
type remoteError struct {
	class   string // Java class without its package
	message string // first line
	kind    error  // a sentinel of this package or of io/fs; nil when none fits
}

func (e *remoteError) Error() string {
	if e.kind == nil {
		return e.class + ": " + e.message
	}
	return e.class + ": " + e.message + ": " + e.kind.Error()
}

func (e *remoteError) Unwrap() error { return e.kind }

const parentNotDirectory = "ParentNotDirectoryException"

// kindOfException maps Java's classes, without their package. Absent: no sentinel fits.
var kindOfException = map[string]error{
	"FileNotFoundException":                 fs.ErrNotExist,
	"AccessControlException":                fs.ErrPermission,
	"AuthorizationException":                fs.ErrPermission,
	"AccessControlException$Forbidden":      fs.ErrPermission,
	"FileAlreadyExistsException":            fs.ErrExist,
	"AlreadyBeingCreatedException":          fs.ErrExist,
	"RecoveryInProgressException":           fs.ErrExist, // of a create: somebody's unfinished file has the name
	"PathIsNotEmptyDirectoryException":      fs.ErrExist,
	"HadoopIllegalArgumentException":        fs.ErrInvalid,
	"InvalidPathException":                  fs.ErrInvalid,
	parentNotDirectory:                      fs.ErrInvalid,
	"PathComponentTooLongException":         fs.ErrInvalid,
	"NSQuotaExceededException":              ErrNoSpace,
	"DSQuotaExceededException":              ErrNoSpace,
	"QuotaByStorageTypeExceededException":   ErrNoSpace,
	"QuotaExceededException":                ErrNoSpace,
	"MaxDirectoryItemsExceededException":    ErrNoSpace,
	"DiskOutOfSpaceException":               ErrNoSpace,
	"UnknownCryptoProtocolVersionException": ErrUnsupported,
	"UnsupportedOperationException":         ErrUnsupported,
	"StandbyException":                      ErrUnavailable,
	"ObserverRetryOnActiveException":        ErrUnavailable,
	"SafeModeException":                     ErrUnavailable,
	"RetriableException":                    ErrUnavailable,
	"RetryStartFileException":               ErrUnavailable,
	"ServerTooBusyException":                ErrUnavailable,
	"NotReplicatedYetException":             ErrUnavailable,
	"LeaseExpiredException":                 ErrUnavailable, // the file was removed under its writer: write it again
	"SocketTimeoutException":                ErrUnavailable,
	"NoRouteToHostException":                ErrUnavailable,
	"ConnectException":                      ErrUnavailable,
}

// transientException are those that end by themselves: the namenode changes its role or starts.
var transientException = map[string]bool{
	"StandbyException": true, "SafeModeException": true, "RetriableException": true, "ObserverRetryOnActiveException": true,
	"ServerTooBusyException": true, "RetryStartFileException": true,
	"NotReplicatedYetException": true, // the namenode has not heard of the block before: of addBlock
}

// asRemote is the namenode's exception in err, or nil.
func asRemote(err error) *remoteError {
	var known *remoteError
	if errors.As(err, &known) {
		return known
	}
	var remote hdfs.Error
	if !errors.As(err, &remote) {
		return nil
	}
	class := remote.Exception()
	class = class[strings.LastIndexByte(class, '.')+1:]
	message, _, _ := strings.Cut(remote.Message(), "\n")
	e := &remoteError{class: class, message: message, kind: kindOfException[class]}
	switch {
	case class == "AccessControlException" && strings.HasSuffix(message, "(is not a directory)"):
		e.class, e.kind = parentNotDirectory, fs.ErrInvalid // a file on the way, as FSPermissionChecker says it
	case class == "UnknownCryptoProtocolVersionException": // our create offers no way to encrypt
		e.message = inEncryptionZone
	case class == "":
		e.class, e.kind = "no exception class", ErrUnavailable
	case class == "FileNotFoundException" && strings.HasPrefix(message, "Path is not a file"):
		e.kind = fs.ErrInvalid
	case e.kind == nil && strings.Contains(message, "must both be"): // rename of a file over a directory
		e.kind = fs.ErrInvalid
	case e.kind == nil && strings.Contains(message, "could only be "): // "… written to 0 of the 1 minReplication nodes"
		e.kind = ErrUnavailable
	}
	return e
}

// isTransient says that the call may succeed by itself within seconds: the namenode did not answer, or said so.
func isTransient(err error) bool {
	if remote := asRemote(err); remote != nil {
		return transientException[remote.class]
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, ErrUnsupported), errors.Is(err, errClosed),
		errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrExist), errors.Is(err, fs.ErrPermission):
		return false
	}
	// What is left comes from the connection or from the client's own words about it ("no available namenodes").
	// There the refusal of our identity is text.
	return !isRefusedIdentity(err) && !strings.Contains(err.Error(), "no such host")
}

func isRefusedIdentity(err error) bool {
	text := err.Error()
	return strings.Contains(text, "AccessControlException") || strings.Contains(text, "AuthorizationException") ||
		strings.Contains(text, "KRB Error") || strings.Contains(text, "[Root cause: ")
}

// hdfsError gives an error of the client its sentinel.
func hdfsError(err error) error {
	if err == nil {
		return nil
	}
	if hasSentinel(err) {
		return err
	}
	if remote := asRemote(err); remote != nil {
		return remote
	}
	var onPath *os.PathError // its path is said by our own wrap
	if errors.As(err, &onPath) {
		err = onPath.Err
	}
	switch {
	case err.Error() == "invalid checksum": // internal/transfer.errInvalidChecksum: the last replica was bad as well
		return fmt.Errorf("every replica that answered fails its checksum: %w", ErrCorrupt)
	case isRefusedIdentity(err):
		return fmt.Errorf("%w: %w", err, fs.ErrPermission)
	case strings.Contains(err.Error(), "cannot parse invalid wire-format data"), strings.Contains(err.Error(), "invalid qop"):
		return fmt.Errorf("%w: the datanode's answer can't be read, as with dfs.data.transfer.protection=integrity or privacy: authentication works, and so does dfs.encrypt.data.transfer: %w", err, ErrUnsupported)
	}
	return fmt.Errorf("%w: %w", err, ErrUnavailable)
}

// hasSentinel says that callers can tell already what the error is.
func hasSentinel(err error) bool {
	for _, sentinel := range []error{
		context.Canceled, context.DeadlineExceeded, ErrUnsupported, ErrUnavailable, ErrCorrupt, ErrNoSpace,
		fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, fs.ErrInvalid, fs.ErrClosed,
	} {
		if errors.Is(err, sentinel) {
			return true
		}
	}
	return false
}
