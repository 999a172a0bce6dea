package fsutil

import (
	"context"
	"fmt"
)

// StoresConfig is what Stores needs to reach a place beside its URI.
type StoresConfig struct {
	HDFS HDFSConfig
}

// Stores opens places by their URI. All methods are safe for concurrent use. What it opened may be used until Close.
type Stores struct{ hdfs *HDFS }

// NewStores connects to nothing yet.
func NewStores(cfg StoresConfig) *Stores { return &Stores{hdfs: NewHDFS(cfg.HDFS)} }

// Open is for reading and writing below root. A place that can't be used here is ErrUnsupported.
func (s *Stores) Open(ctx context.Context, root URI) (FS, error) {
	switch root.Scheme {
	case "file":
		l, err := OpenLocal(root)
		if err != nil {
			return nil, err
		}
		return l, nil
	case "hdfs":
		return s.hdfs.Open(ctx, root)
	}
	return nil, unknownScheme(root)
}

// OpenRead is Open for reading alone: what it returns has no method that writes.
func (s *Stores) OpenRead(ctx context.Context, root URI) (ReadFS, error) {
	switch root.Scheme {
	case "file":
		l, err := OpenLocalRead(root)
		if err != nil {
			return nil, err
		}
		return l, nil
	case "hdfs":
		return s.hdfs.OpenRead(ctx, root)
	}
	return nil, unknownScheme(root)
}

// Close ends all connections. Closing again does nothing.
func (s *Stores) Close() error { return s.hdfs.Close() }

// SchemeError says that a place is named by a scheme that is none of file and hdfs. It is ErrUnsupported. The place may
// be reached under another name all the same.
type SchemeError struct {
	Root URI // as it was asked for
	// From and To are a pair that may name it: what lies below From is reached below To, which has a part that the reader
	// must fill in. Empty where the scheme is.
	From URI
	To   string
}

func (e *SchemeError) Error() string {
	hint := "the place may be reached as a directory or on HDFS"
	switch e.Root.Scheme {
	case "":
		hint = "name a directory, file:/… or hdfs://…"
	case "viewfs":
		hint = "the HDFS namespace behind the mount has a name of its own, " + e.To
	case "webhdfs", "swebhdfs", "hftp", "hsftp":
		hint = "the cluster is reached by its RPC address, " + e.To
	case "s3", "s3a", "s3n", "s3p", "gs", "oss", "abfs", "abfss", "wasb", "wasbs", "cosn", "obs":
		hint = "object stores are not read or written here; " + hint
	}
	return fmt.Sprintf("open %q: scheme %q is none of file and hdfs; %s: %v", e.Root, e.Root.Scheme, hint, ErrUnsupported)
}

// Is makes the error match ErrUnsupported.
func (e *SchemeError) Is(target error) bool { return target == ErrUnsupported }

func unknownScheme(root URI) error {
	e := &SchemeError{Root: root, From: URI{root.Scheme, root.Authority, "/"}, To: "file:/…"}
	switch root.Scheme {
	case "":
		e.From, e.To = URI{}, ""
	case "viewfs":
		e.From, e.To = root, "hdfs://NAMESERVICE/…"
	case "webhdfs", "swebhdfs", "hftp", "hsftp":
		e.From, e.To = root, "hdfs://HOST:8020"+root.Path
	}
	return e
}
