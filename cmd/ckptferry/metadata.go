package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/ckptferry/ckptferry/fsutil"
)

func (a *app) metadataCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "metadata", Short: "Look into, check and rewrite _metadata files; no agent needed",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{fmt.Errorf("%s: name a subcommand: inspect, verify, diff or relocate", cmd.CommandPath())}
		},
	}
	c.AddCommand(a.inspectCommand(), a.verifyCommand(), a.diffCommand(), a.relocateCommand())
	return c
}

// loaded is a _metadata that was read and scanned.
type loaded struct {
	file fsutil.URI // the _metadata file
	dir  fsutil.URI // the directory that relative handles resolve against
	raw  []byte
	meta *flinkmeta.Metadata
}

// load reads the _metadata that arg names: a _metadata file under whatever name, or the directory that holds one.
func (a *app) load(ctx context.Context, stores *fsutil.Stores, arg string) (loaded, error) {
	u, err := fsutil.ParseURI(arg)
	if err != nil {
		return loaded{}, usageError{err}
	}
	raw, file, err := readMetadataFile(ctx, stores, u)
	if err != nil {
		return loaded{}, err
	}
	l := loaded{file: file, dir: file.Dir(), raw: raw}
	if l.meta, err = flinkmeta.Scan(raw); err != nil {
		return l, fmt.Errorf("scan %s: %w", file, err)
	}
	return l, nil
}

// readMetadataFile reads u, or u/_metadata where u is a directory.
func readMetadataFile(ctx context.Context, stores *fsutil.Stores, u fsutil.URI) ([]byte, fsutil.URI, error) {
	root, err := stores.OpenRead(ctx, u.Dir())
	if err != nil {
		return nil, u, fmt.Errorf("open %s: %w", u.Dir(), err)
	}
	name := u.Base()
	if name == "/" {
		name = "."
	}
	fi, err := root.Stat(ctx, name)
	if err == nil && fi.IsDir {
		u = u.Join(metadataFile)
		if name == "." {
			name = metadataFile
		} else {
			name += "/" + metadataFile
		}
		fi, err = root.Stat(ctx, name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, u, fmt.Errorf("read %s: %w: name a _metadata file, or the directory of a completed checkpoint or savepoint", u, err)
	}
	if err != nil {
		return nil, u, fmt.Errorf("read %s: %w", u, err)
	}
	if fi.Size > 1<<30 {
		return nil, u, fmt.Errorf("read %s: %d bytes are more than a _metadata can have", u, fi.Size)
	}
	r, err := root.Open(ctx, name, 0)
	if err != nil {
		return nil, u, fmt.Errorf("read %s: %w", u, err)
	}
	defer func() { _ = r.Close() }() // only read
	b := make([]byte, 0, fi.Size+1)
	for {
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, u, nil
		}
		if err != nil {
			return nil, u, fmt.Errorf("read %s: %w", u, err)
		}
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
	}
}
