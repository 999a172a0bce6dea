package fsutil

import (
	"context"
	"io"
)

// AllOpener is what a ReadFS may have beside its methods, where the beginning of each file costs a round trip.
type AllOpener interface {
	// OpenAll is for files that are read whole, one after the other in this order. It doesn't wait: each Next says
	// what came of its file. Names that are none are fs.ErrInvalid.
	OpenAll(ctx context.Context, names []string) (Opened, error)
}

// Opened are the files of an OpenAll. It is used by one goroutine at a time.
type Opened interface {
	// Next is the next of the files, as Open gives it from offset 0 on, with Open's errors; after an error the ones after
	// it can still be had. It ends the reading of the file before.
	Next(ctx context.Context) (io.ReadCloser, error)
	// Close gives up what Next was not asked for, and what is being read. Closing again does nothing.
	Close() error
}
