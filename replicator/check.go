package replicator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/ckptferry/ckptferry/fsutil"
)

// CheckRequest is one checkpoint, savepoint or replica to be checked.
type CheckRequest struct {
	Dir      fsutil.URI // the directory that holds _metadata, as reached from here
	Maps     PrefixMaps
	Parallel int // files read at a time; zero: DefaultParallel
	// Limits bound what is read, each together with whatever else shares it.
	Limits []*Limit
	// Seen, if set, is asked about each file of a replica before it is read, and told what was seen: replicas of one job share
	// files, which needn't be read once for each.
	Seen *Seen
}

// CheckReport says whether every file that _metadata refers to is as it must be.
type CheckReport struct {
	Dir string `json:"path"`
	// Files and Bytes are what was looked at, _metadata included.
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
	// BytesRead is what was read of Bytes: less where others had been seen before.
	BytesRead int64 `json:"-"`
	// Digests says that every byte was read and compared with the manifest. Without a manifest (a checkpoint that
	// Flink itself wrote) only presence and lengths can be checked.
	Digests  bool      `json:"digests"`
	Problems []Problem `json:"problems"`
}

// Check reads a checkpoint's _metadata and looks at every file that it refers to: there, and long enough. Where the
// checkpoint is a replica, its manifest is believed for the rest: every file is read and its length and CRC32C are
// compared, _metadata's too, and a file outside of the replica's root is a problem. Nothing is written. Problems are
// in the report, together with an error that is ErrVerify; other errors are those that kept it from being checked.
func Check(ctx context.Context, opener Opener, req CheckRequest) (CheckReport, error) {
	if req.Parallel == 0 {
		req.Parallel = DefaultParallel
	}
	report := CheckReport{Dir: req.Dir.String(), Problems: []Problem{}}
	c := checker{req: req, report: &report, buffers: newBufferPool(req.Parallel)}
	if err := c.check(ctx, opener); err != nil {
		return report, err
	}
	slices.SortFunc(report.Problems, func(a, b Problem) int { return strings.Compare(a.File, b.File) })
	report.Files = int(c.files.Load())
	report.Bytes = c.bytes.Load()
	report.BytesRead = c.bytesRead.Load()
	if n := len(report.Problems); n > 0 {
		return report, fmt.Errorf("%w: %s: %d problem(s): Flink can't be trusted to restore from it", ErrVerify, req.Dir, n)
	}
	return report, nil
}

type checker struct {
	req     CheckRequest
	buffers *bufferPool
	files   atomic.Int64
	bytes   atomic.Int64

	bytesRead atomic.Int64

	mu     sync.Mutex
	report *CheckReport
}

func (c *checker) problem(p Problem) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Problems = append(c.report.Problems, p)
}

// problemOf is problem for a file that _metadata refers to.
func (c *checker) problemOf(s *state, ref flinkmeta.FileRef, p Problem) {
	c.mu.Lock()
	nth := len(c.report.Problems)
	c.mu.Unlock()
	p.Owners = owners(s.meta, s.dir, ownersAsked{ref, nth})
	c.problem(p)
}

// state is what a _metadata says.
type state struct {
	dir  fsutil.URI // of _metadata, as named in it
	meta *flinkmeta.Metadata
	refs []flinkmeta.FileRef
}

func readState(raw []byte, dir fsutil.URI) (*state, error) {
	meta, err := flinkmeta.Scan(raw)
	if err != nil {
		return nil, fmt.Errorf("scan %s: %w", dir.Join(metadataName), err)
	}
	refs, err := meta.Refs(dir.String())
	if err != nil {
		return nil, fmt.Errorf("read the references of %s: %w", dir.Join(metadataName), err)
	}
	return &state{dir: dir, meta: meta, refs: refs}, nil
}

func (c *checker) check(ctx context.Context, opener Opener) error {
	reached := newLayout(c.req.Dir)
	root, err := opener.OpenRead(ctx, reached.base)
	if err != nil {
		return fmt.Errorf("open %s: %w", reached.base, err)
	}
	name := reached.name()
	raw, err := readMetadata(ctx, root, name)
	if err != nil {
		return err
	}
	c.files.Add(1)
	c.bytes.Add(int64(len(raw)))

	r := replica{root: root, files: map[string]ManifestFile{}}
	isReplica := false
	r.head, isReplica, err = findManifest(ctx, root, name, func(f ManifestFile) error {
		r.files[f.Name] = f
		return nil
	})
	manifest := root.Root().Join(own("manifest", name, ".jsonl")).String()
	switch {
	case errors.Is(err, errManifest):
		c.problem(Problem{File: manifest, Kind: Different, Detail: err.Error()})
		return c.lengths(ctx, opener, raw)
	case err != nil:
		return err
	case isReplica:
		return c.replica(ctx, r, raw)
	}
	lost, err := exists(ctx, root, own("original", name, "/"+metadataName))
	if err != nil {
		return err
	}
	if lost {
		c.problem(Problem{File: manifest, Kind: Missing, Have: -1, Detail: "the replica's manifest is lost, so its bytes can't be compared"})
	}
	return c.lengths(ctx, opener, raw)
}

// lengths checks a checkpoint that there is no manifest of.
func (c *checker) lengths(ctx context.Context, opener Opener, raw []byte) error {
	l := newLayout(c.req.Maps.Named(c.req.Dir))
	s, err := newSources(ctx, opener, c.req.Maps, l)
	if err != nil {
		return err
	}
	st, err := readState(raw, l.dir)
	if err != nil {
		return err
	}
	uris := make([]fsutil.URI, len(st.refs))
	for i, ref := range st.refs {
		u, err := fsutil.ParseURI(ref.URI)
		if err != nil {
			return fmt.Errorf("understand the path of a file that _metadata refers to: %w", err)
		}
		uris[i] = u
	}
	if err := s.reach(ctx, uris); err != nil {
		return err
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(statParallel)
	for i, ref := range st.refs {
		group.Go(func() error {
			p := Problem{File: ref.URI, Kind: Missing, Need: ref.Need, Have: -1}
			at, err := s.locate(uris[i])
			if err == nil {
				var fi fsutil.FileInfo
				if fi, err = at.fs.Stat(gctx, at.name); err == nil && !fi.IsDir {
					c.files.Add(1)
					c.bytes.Add(fi.Size)
					enough := fi.Size >= ref.Need
					if !enough && ref.Segment {
						enough, err = at.holdsMore(gctx, ref.Need)
					}
					if enough {
						return nil
					}
					p.Kind, p.Have = Short, fi.Size
				}
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("look at %s: %w", ref.URI, err)
			}
			c.problemOf(st, ref, p)
			return nil
		})
	}
	return group.Wait()
}

// replica is what a root has on record of a replica.
type replica struct {
	root  fsutil.ReadFS
	head  ManifestHeader
	files map[string]ManifestFile // by name below the root
}

// replica checks a replica: its _metadata is the one that was published, what it refers to lies inside and is in the
// manifest, and every file of the manifest reads as it is recorded.
func (c *checker) replica(ctx context.Context, r replica, raw []byte) error {
	c.report.Digests = true
	as, err := fsutil.ParseURI(r.head.Root)
	if err != nil {
		return fmt.Errorf("read the manifest of %s: %w", c.req.Dir, err)
	}
	st, err := readState(raw, as.Join(r.head.Replica))
	p := Problem{File: c.req.Dir.Join(metadataName).String(), Kind: Different, Need: r.head.MetadataBytes, Have: int64(len(raw))}
	switch crc := checksum(raw); {
	case r.head.MetadataBytes != int64(len(raw)) || r.head.MetadataCRC != crc:
		p.Detail = fmt.Sprintf("CRC32C %s over %d bytes, the manifest records %s over %d", crc, len(raw), r.head.MetadataCRC, r.head.MetadataBytes)
		if err != nil {
			p.Detail += ", and no Flink can read it: " + err.Error()
			st = &state{}
		}
		c.problem(p)
	case err != nil:
		return err
	}
	referred := c.inside(r, as, st)
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(c.req.Parallel)
	for name, f := range r.files {
		group.Go(func() error {
			p, err := c.one(gctx, r.root, f)
			if err != nil {
				return err
			}
			ref, needed := referred[name]
			switch {
			case p == nil:
				c.files.Add(1)
				c.bytes.Add(f.Bytes)
			case needed:
				p.File = ref.URI
				c.problemOf(st, ref, *p)
			default:
				p.File = as.Join(name).String()
				c.problem(*p)
			}
			return nil
		})
	}
	// The original is what the replica can be relocated from again: it belongs to what was promised.
	group.Go(func() error {
		name := own("original", r.head.Replica, "/"+metadataName)
		p, err := c.one(gctx, r.root, ManifestFile{Name: name, Bytes: r.head.OriginalBytes, CRC: r.head.OriginalCRC})
		if err == nil && p != nil {
			p.File = r.root.Root().Join(name).String()
			c.problem(*p)
		}
		return err
	})
	return group.Wait()
}

// inside looks whether everything that _metadata refers to lies below the replica's root and is on record with enough
// bytes. It gives what does, by name below the root.
func (c *checker) inside(r replica, as fsutil.URI, st *state) map[string]flinkmeta.FileRef {
	referred := make(map[string]flinkmeta.FileRef, len(st.refs))
	for _, ref := range st.refs {
		u, err := fsutil.ParseURI(ref.URI)
		name, inside := as.Rel(u)
		f, recorded := r.files[name]
		p := Problem{File: ref.URI, Kind: Outside, Need: ref.Need, Have: -1}
		switch {
		case err != nil:
			p.Detail = err.Error()
		case !inside:
			p.Detail = "it is not below the replica's root " + as.String()
		case !recorded:
			p.Kind, p.Detail = Different, "the manifest does not record it"
		case f.Bytes < ref.Need:
			p.Kind, p.Have, p.Detail = Short, f.Bytes, "by the manifest"
		default:
			referred[name] = ref
			continue
		}
		c.problemOf(st, ref, p)
	}
	return referred
}

// one reads one file and compares it with its record; nil when it is as recorded.
func (c *checker) one(ctx context.Context, root fsutil.ReadFS, f ManifestFile) (*Problem, error) {
	if c.req.Seen == nil {
		return c.read(ctx, root, f)
	}
	if p, known := c.req.Seen.ask(f); known {
		return p, nil
	}
	p, err := c.read(ctx, root, f)
	if err == nil {
		c.req.Seen.tell(f, p)
	}
	return p, err
}

func (c *checker) read(ctx context.Context, root fsutil.ReadFS, f ManifestFile) (*Problem, error) {
	p := &Problem{Kind: Missing, Need: f.Bytes, Have: -1}
	fi, err := root.Stat(ctx, f.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", root.Root().Join(f.Name), err)
	}
	p.Have = fi.Size
	if fi.Size != f.Bytes {
		if p.Kind = Different; fi.Size < f.Bytes {
			p.Kind = Short
		}
		return p, nil
	}
	buf := c.buffers.get()
	defer c.buffers.put(buf)
	crc, n, err := readBack(ctx, limitedReads(root, c.req.Limits), f.Name, *buf)
	c.bytesRead.Add(n)
	p.Kind = Different
	switch {
	case errors.Is(err, fsutil.ErrCorrupt):
		p.Detail = err.Error()
		return p, nil
	case errors.Is(err, fs.ErrNotExist):
		p.Kind, p.Have = Missing, -1
		return p, nil
	case err != nil:
		return nil, err
	case crc != f.CRC || n != f.Bytes:
		p.Detail = fmt.Sprintf("CRC32C %s over %d bytes, the manifest records %s over %d", crc, n, f.CRC, f.Bytes)
		return p, nil
	}
	return nil, nil
}
