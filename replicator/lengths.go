package replicator

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"

	"github.com/ckptferry/ckptferry/fsutil"
)

// LengthsRequest is a READY replica that is to be looked at.
type LengthsRequest struct {
	Dir fsutil.URI // the directory that holds _metadata, as Flink here names it
	// Manifest is the CRC32C of the manifest that is on record elsewhere; nil: any whole manifest is believed.
	Manifest *CRC
}

// CheckLengths looks whether a replica is what its manifest says, without reading its files: the manifest is whole (and
// the one on record), _metadata has its length and CRC32C, and every file is there with its length. It costs one look
// at each file; rot inside of a file is found by Check alone. ErrVerify when something is wrong, with what; other
// errors are those that kept it from being looked at. Nothing is written.
func CheckLengths(ctx context.Context, opener ReadOpener, req LengthsRequest) error {
	l := newLayout(req.Dir)
	root, err := opener.OpenRead(ctx, l.base)
	if err != nil {
		return fmt.Errorf("open %s: %w", l.base, err)
	}
	head, files, err := recordedFiles(ctx, root, l.name(), req.Manifest)
	if err != nil {
		return err
	}
	raw, err := readMetadata(ctx, root, l.name())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %s is missing: Flink sees no checkpoint there", ErrVerify, req.Dir.Join(metadataName))
	case err != nil:
		return err
	case head.MetadataBytes != int64(len(raw)) || head.MetadataCRC != checksum(raw):
		return fmt.Errorf("%w: %s has CRC32C %s over %d bytes, and its manifest says %s over %d: it is not the file that was published",
			ErrVerify, req.Dir.Join(metadataName), checksum(raw), len(raw), head.MetadataCRC, head.MetadataBytes)
	}
	return sameLengths(ctx, root, files)
}

// recordedFiles reads a manifest to its end and compares it with the checksum that is on record of it.
func recordedFiles(ctx context.Context, root fsutil.ReadFS, replica string, want *CRC) (head ManifestHeader, files []ManifestFile, err error) {
	name := own("manifest", replica, ".jsonl")
	r, err := root.Open(ctx, name, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return head, nil, fmt.Errorf("%w: %s is missing, so nobody knows what the replica holds", ErrVerify, root.Root().Join(name))
	}
	if err != nil {
		return head, nil, fmt.Errorf("open manifest %s: %w", name, err)
	}
	defer func() { _ = r.Close() }() // only read
	sum := crc32.New(castagnoli)
	lines := newLineReader(io.TeeReader(r, sum))
	first, err := lines.next()
	if err == nil {
		err = head.read(first, replica)
	}
	if err == nil {
		err = lines.files(func(f ManifestFile) error {
			files = append(files, f)
			return nil
		})
	}
	switch {
	case errors.Is(err, errManifest), errors.Is(err, fsutil.ErrCorrupt):
		return head, nil, fmt.Errorf("%w: %s: %w", ErrVerify, root.Root().Join(name), err)
	case err != nil:
		return head, nil, fmt.Errorf("read manifest %s: %w", name, err)
	case want != nil && CRC(sum.Sum32()) != *want:
		return head, nil, fmt.Errorf("%w: %s has CRC32C %s, and %s is on record: it was replaced since the replica became READY",
			ErrVerify, root.Root().Join(name), CRC(sum.Sum32()), *want)
	}
	return head, files, nil
}
