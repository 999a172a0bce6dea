package replicator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/ckptferry/ckptferry/fsutil"
)

// known is what the target has on record of one file of the plan.
type known struct {
	bytes int64
	crc   CRC
	// unchanged says that the record (there is one) is about the very bytes that the source has now, as far as length,
	// origin and modification time tell.
	unchanged bool
	// replica is the READY replica that vouches for the file; empty when only an unfinished run does, or nobody.
	replica string
	journal journaled
	// unsure is a READY replica that may need the file: its manifest can't be read.
	unsure string
	// claimed is a replica that needs the file and is Flink's, which may delete the file: it vouches for nothing.
	claimed string
}

// journaled is what the journals of this very checkpoint say of a file: that it was read back, with this digest. Records
// that contradict each other say nothing.
type journaled struct {
	crc            CRC
	there, differs bool
}

func (j journaled) and(crc CRC) journaled {
	return journaled{crc: crc, there: true, differs: j.differs || j.there && j.crc != crc}
}

// trusted says whether a journal vouches for the file, and no READY replica says otherwise.
func (k known) trusted(f *planFile) bool {
	return k.journal.there && !k.journal.differs && k.unsure == "" && k.claimed == "" && (k.replica == "" || k.bytes == f.bytes && k.crc == k.journal.crc)
}

// take is what a record says about a file of the plan.
func (f *planFile) take(r ManifestFile) known {
	same := r.Bytes == f.bytes && r.Source == f.source.String()
	// The name of a segment's copy holds its length, and Flink only appends: a later time means more at the end.
	return known{bytes: r.Bytes, crc: r.CRC, unchanged: same && (f.segment || r.ModTime.Equal(f.modTime))}
}

// knownFiles looks up each file of the plan in the manifests and journals at the target. A manifest that can't be
// read is passed over with a warning: what it vouched for is copied again, or compared. What Flink claimed vouches for nothing.
func knownFiles(ctx context.Context, dst fsutil.ReadFS, p *plan) (found []known, warnings []string, err error) {
	found = make([]known, len(p.files))
	index := make(map[string]int, len(p.files))
	tops := map[string]bool{p.layout.top(): true}
	for i, f := range p.files {
		index[f.target] = i
		top, _, _ := strings.Cut(f.target, "/")
		tops[top] = true
	}
	for top := range tops {
		here := own("journal", p.layout.name(), "/")
		err := readJournals(ctx, dst, own("journal", top, ""), func(segment string, f ManifestFile) {
			i, ok := index[f.Name]
			if !ok {
				return
			}
			k := p.files[i].take(f)
			k.journal = found[i].journal
			if k.unchanged && strings.HasPrefix(segment, here) {
				k.journal = k.journal.and(f.CRC)
			}
			found[i] = k
		})
		if err != nil {
			return nil, nil, err
		}
	}
	manifests, err := manifestsOf(ctx, dst, tops)
	if err != nil {
		return nil, nil, err
	}
	claims, err := readClaims(ctx, dst)
	if err != nil {
		return nil, nil, err
	}
	for _, replica := range manifests {
		ready, err := exists(ctx, dst, path.Join(replica, metadataName))
		if err != nil {
			return nil, nil, err
		}
		claimed := claims.marked[replica]
		type record struct {
			i int
			known
		}
		var records []record
		_, err = readManifest(ctx, dst, replica, func(f ManifestFile) error {
			if i, ok := index[f.Name]; ok {
				records = append(records, record{i, p.files[i].take(f)})
			}
			return nil
		})
		switch {
		case errors.Is(err, errManifest):
			warnings = append(warnings, fmt.Sprintf("%v; what only it vouches for is copied again", err))
			for i := range found {
				if ready || claimed {
					found[i].unsure = replica
				}
			}
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return nil, nil, err
		case err == nil:
			for _, r := range records {
				if claimed { // the file is looked at whoever vouches for it, and what Flink has is not replaced
					found[r.i].claimed = replica
				}
				if ready && !claimed {
					r.replica = replica
				} else if found[r.i].replica != "" || !claimed && found[r.i].claimed != "" {
					continue
				}
				r.unsure, r.claimed, r.journal = found[r.i].unsure, found[r.i].claimed, found[r.i].journal
				found[r.i] = r.known
			}
		}
	}
	return found, warnings, nil
}

// manifestsOf names the replicas that may vouch for files of the given jobs (or savepoints): their own, and those that
// have borrowed some.
func manifestsOf(ctx context.Context, dst fsutil.ReadFS, tops map[string]bool) ([]string, error) {
	const suffix = ".jsonl"
	base := path.Join(ownDir, "manifest")
	found := map[string]bool{}
	for top := range tops {
		ofSavepoint, err := exists(ctx, dst, path.Join(base, top+suffix))
		if err != nil {
			return nil, err
		}
		if ofSavepoint {
			found[top] = true
		}
		err = walkFiles(ctx, dst, path.Join(base, top), func(name string) error {
			if replica, ok := strings.CutSuffix(strings.TrimPrefix(name, base+"/"), suffix); ok {
				found[replica] = true
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		err = walkFiles(ctx, dst, own("borrowed", top, ""), func(name string) error {
			replica, err := readBorrower(ctx, dst, name)
			if replica != "" {
				found[replica] = true
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// borrower is the name of the note that a replica needs files from the directory of another job, or of a savepoint:
// one that claimed a checkpoint does. Who works on files there must know, and can't read the manifests of all jobs.
func borrower(top, replica string) string {
	return own("borrowed", top, "/"+shortDigest([]byte(replica)))
}

// readBorrower gives the replica that such a note names; empty when it names none.
func readBorrower(ctx context.Context, dst fsutil.ReadFS, name string) (string, error) {
	r, err := dst.Open(ctx, name, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("open %s: %w", name, err)
	}
	defer func() { _ = r.Close() }() // only read
	b, err := io.ReadAll(io.LimitReader(r, maxLineBytes))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	if replica := string(b); fs.ValidPath(replica) && borrower(path.Base(path.Dir(name)), replica) == name {
		return replica, nil
	}
	return "", nil
}

// exists says whether a file is there.
func exists(ctx context.Context, dst fsutil.ReadFS, name string) (bool, error) {
	_, err := dst.Stat(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", dst.Root().Join(name), err)
	}
	return true, nil
}
