package replicator

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"strconv"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// manifestFormat is the version of the manifest's format; a reader refuses any other.
const manifestFormat = 1

// CRC is a CRC32C (Castagnoli), written as eight hex digits.
type CRC uint32

func (c CRC) String() string { return fmt.Sprintf("%08x", uint32(c)) }

// MarshalText writes eight hex digits.
func (c CRC) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads eight hex digits.
func (c *CRC) UnmarshalText(b []byte) error {
	v, err := strconv.ParseUint(string(b), 16, 32)
	if err != nil || len(b) != 8 {
		return fmt.Errorf("CRC32C %q: want eight hex digits", b)
	}
	*c = CRC(v)
	return nil
}

// ManifestHeader is the first line of a manifest: which replica it is about and what its _metadata is.
type ManifestHeader struct {
	Format int `json:"manifest_format"`
	// Replica is the name below the root, "<job id>/chk-42".
	Replica string `json:"replica"`
	// Root is the replica's root as Flink at the target names it; absolute handles begin with it.
	Root string `json:"root"`
	// WrittenTo is the root as it was reached when the replica was made; it tells one that was moved since.
	WrittenTo string `json:"written_to,omitempty"`
	// Source is the checkpoint's directory as its _metadata names it.
	Source       string `json:"source"`
	CheckpointID int64  `json:"checkpoint_id"`
	Kind         string `json:"kind,omitempty"`
	FlinkFormat  int    `json:"flink_metadata_version"`
	Paths        string `json:"paths"`
	// The two _metadata files: as the source wrote it, and as the replica has it.
	OriginalBytes int64     `json:"original_metadata_bytes"`
	OriginalCRC   CRC       `json:"original_metadata_crc32c"`
	MetadataBytes int64     `json:"metadata_bytes"`
	MetadataCRC   CRC       `json:"metadata_crc32c"`
	Created       time.Time `json:"created"`
	Warnings      []string  `json:"warnings,omitempty"`
	// Label is what the group knew that had the replica made; of one that was made by hand the time alone, of one made long ago nothing.
	Label Label `json:"label,omitzero"`
}

// ManifestFile is one line of a manifest: one file of the replica, _metadata aside.
type ManifestFile struct {
	Name       string    `json:"name"`   // below the root
	Source     string    `json:"source"` // as the source's _metadata names it
	Bytes      int64     `json:"bytes"`
	CRC        CRC       `json:"crc32c"`
	ModTime    time.Time `json:"source_modified"`
	Role       string    `json:"role"`
	References int       `json:"references"`
}

// manifestEnd is the last line. A manifest without it was cut off and is not believed.
type manifestEnd struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
	// LinesCRC is over every byte before this line.
	LinesCRC CRC `json:"lines_crc32c"`
}

// manifestWriter writes a manifest line by line, so that its size does not matter.
type manifestWriter struct {
	w   io.Writer
	crc uint32
	end manifestEnd
}

func (m *manifestWriter) line(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode manifest line: %w", err)
	}
	b = append(b, '\n')
	m.crc = crc32.Update(m.crc, castagnoli, b)
	_, err = m.w.Write(b)
	return err
}

func (m *manifestWriter) file(f ManifestFile) error {
	m.end.Files++
	m.end.Bytes += f.Bytes
	return m.line(f)
}

func (m *manifestWriter) close() error {
	m.end.LinesCRC = CRC(m.crc)
	return m.line(m.end)
}

// errManifest says that a manifest or journal can't be believed.
var errManifest = errors.New("manifest is damaged")

// maxLineBytes bounds one line: far above two paths of Flink's 64 KiB with everything in them escaped.
const maxLineBytes = 4 << 20

// readManifest reads the manifest of a replica and hands each file to `each`. What was handed out is to be believed
// only when the error is nil: the last line vouches for all before it. Errors: fs.ErrNotExist, errManifest, that of
// `each`, or the file system's.
func readManifest(ctx context.Context, dst fsutil.ReadFS, replica string, each func(ManifestFile) error) (ManifestHeader, error) {
	var head ManifestHeader
	name := own("manifest", replica, ".jsonl")
	r, err := dst.Open(ctx, name, 0)
	if err != nil {
		return head, fmt.Errorf("open manifest %s: %w", name, err)
	}
	defer func() { _ = r.Close() }() // only read
	lines := newLineReader(r)
	first, err := lines.next()
	if err == nil {
		err = head.read(first, replica)
	}
	if err == nil {
		err = lines.files(each)
	}
	if err != nil {
		return head, fmt.Errorf("read manifest %s: line %d: %w", name, lines.n, err)
	}
	return head, nil
}

func (h *ManifestHeader) read(line []byte, replica string) error {
	if err := json.Unmarshal(line, h); err != nil || h.Format == 0 {
		return fmt.Errorf("%w: no manifest header", errManifest)
	}
	if h.Format != manifestFormat {
		return fmt.Errorf("%w: format %d, this ckptferry reads %d: use the version that wrote it or a newer one", errManifest, h.Format, manifestFormat)
	}
	if h.Replica != replica {
		return fmt.Errorf("%w: it is the manifest of %q", errManifest, h.Replica)
	}
	return nil
}

// lineReader reads a manifest, or a journal's segment: lines of JSON, the last of which vouches for all before it.
type lineReader struct {
	in    *bufio.Scanner
	n     int // of the line read last, from 1
	crc   uint32
	count manifestEnd
}

func newLineReader(r io.Reader) *lineReader {
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 0, 1<<12), maxLineBytes)
	in.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		if i := bytes.IndexByte(data, '\n'); i >= 0 {
			return i + 1, data[:i+1], nil
		}
		if atEOF && len(data) > 0 {
			return 0, nil, fmt.Errorf("%w: cut off within a line", errManifest)
		}
		return 0, nil, nil
	})
	return &lineReader{in: in}
}

// next is the next line with its end, valid until the one after it is read.
func (l *lineReader) next() ([]byte, error) {
	l.n++
	if l.in.Scan() {
		l.count.LinesCRC = CRC(l.crc)
		l.crc = crc32.Update(l.crc, castagnoli, l.in.Bytes())
		return l.in.Bytes(), nil
	}
	err := l.in.Err()
	switch {
	case err == nil:
		return nil, fmt.Errorf("%w: it ends before its last line", errManifest)
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("%w: a line of more than %d bytes", errManifest, maxLineBytes)
	}
	return nil, err
}

// files reads the lines of files, and the last line.
func (l *lineReader) files(each func(ManifestFile) error) error {
	for {
		line, err := l.next()
		if err != nil {
			return err
		}
		var f ManifestFile
		if err := json.Unmarshal(line, &f); err != nil {
			return fmt.Errorf("%w: %w", errManifest, err)
		}
		if f.Name == "" {
			return l.last(line)
		}
		// What is on a disk may have been changed by anybody: a name must not lead anywhere else.
		if !fs.ValidPath(f.Name) || f.Name == "." || f.Bytes < 0 {
			return fmt.Errorf("%w: no name below the root, or no length: %q, %d bytes", errManifest, f.Name, f.Bytes)
		}
		l.count.Files++
		l.count.Bytes += f.Bytes
		if each != nil {
			if err := each(f); err != nil {
				return err
			}
		}
	}
}

// last compares what was read with what the last line says, and reads to the end: only there the file system says
// whether the bytes were right.
func (l *lineReader) last(line []byte) error {
	var end manifestEnd
	if err := json.Unmarshal(line, &end); err != nil {
		return fmt.Errorf("%w: %w", errManifest, err)
	}
	if l.count != end {
		return fmt.Errorf("%w: it holds %d files, %d bytes, CRC32C %s and its last line says %d, %d, %s",
			errManifest, l.count.Files, l.count.Bytes, l.count.LinesCRC, end.Files, end.Bytes, end.LinesCRC)
	}
	if l.in.Scan() {
		return fmt.Errorf("%w: something follows its last line", errManifest)
	}
	return l.in.Err()
}

// findManifest is readManifest for a checkpoint that need not be a replica: ok is false when there is no manifest,
// which is so for every checkpoint that Flink itself wrote.
func findManifest(ctx context.Context, root fsutil.ReadFS, replica string, each func(ManifestFile) error) (head ManifestHeader, ok bool, err error) {
	head, err = readManifest(ctx, root, replica, each)
	if errors.Is(err, fs.ErrNotExist) {
		return head, false, nil
	}
	return head, err == nil, err
}
