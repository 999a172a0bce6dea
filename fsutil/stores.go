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

// unknownScheme says what to do about a place that isn't reached by its own name.
func unknownScheme(root URI) error {
	hint := "if the place can be reached as a directory or on HDFS, say where: --map " + URI{root.Scheme, root.Authority, "/"}.String() + "=file:/…"
	switch root.Scheme {
	case "":
		hint = "name a directory, file:/… or hdfs://…"
	case "viewfs":
		hint = "name the HDFS namespace behind the mount: --map " + root.String() + "=hdfs://NAMESERVICE/…"
	case "webhdfs", "swebhdfs", "hftp", "hsftp":
		hint = "the cluster is reached by its RPC address: --map " + root.String() + "=hdfs://HOST:8020" + root.Path
	case "s3", "s3a", "s3n", "s3p", "gs", "oss", "abfs", "abfss", "wasb", "wasbs", "cosn", "obs":
		hint = "object stores are not read or written here; " + hint
	}
	return fmt.Errorf("open %q: scheme %q is none of file and hdfs; %s: %w", root, root.Scheme, hint, ErrUnsupported)
}
