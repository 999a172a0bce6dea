package replicator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/ckptferry/ckptferry/fsutil"
)

const metadataName = "_metadata"

// maxMetadataBytes bounds what is read as a _metadata: far above what Flink writes (15 MB for 100,000 handles), and
// small enough that a wrong path does not eat the machine.
const maxMetadataBytes = 1 << 30

// statParallel is how many questions for a file's length are under way at a time.
const statParallel = 32

// planFile is one file to be in the replica.
type planFile struct {
	source  fsutil.URI // as _metadata names it
	from    located
	target  string // name below the replica's root
	bytes   int64  // how many are copied, from the start
	modTime time.Time
	role    flinkmeta.Role
	refs    int
	segment bool
	extra   bool // beside what _metadata refers to: may vanish without harm
	crc     CRC  // set once copied or found
}

// plan is the closure of one checkpoint: every file, where from, where to; and what its _metadata becomes.
type plan struct {
	req      Request
	layout   layout
	meta     *flinkmeta.Metadata
	original []byte // _metadata at the source
	rewrite  []byte // _metadata of the replica
	facts    RestoreFacts
	files    []planFile
	referred int   // how many of files, from the first, _metadata refers to
	bytes    int64 // of files
	warnings []string
	sources  *sources
}

func (p *plan) replicaURI() fsutil.URI { return p.req.As.Join(p.layout.name()) }

// makePlan reads the source and nothing else. Errors: fs.ErrNotExist when there is no checkpoint, a
// flinkmeta error when _metadata can't be understood, ErrBroken, ErrSuperseded, ErrRefused.
func makePlan(ctx context.Context, opener ReadOpener, req Request) (*plan, error) {
	named := req.Maps.Named(req.Source)
	if reached := req.Maps.Reached(named); reached != req.Source && named != req.Source {
		return nil, refuse("by the maps, _metadata names %s as %s, and that is reached at %s: they contradict each other", req.Source, named, reached)
	}
	p := &plan{req: req, layout: newLayout(named)}
	if p.layout.name() == "." || p.layout.name() == "" {
		return nil, fmt.Errorf("%s: %w: a checkpoint's directory can't be the root of a file system", req.Source, fs.ErrInvalid)
	}
	var err error
	if req.SourceOpener != nil {
		opener = req.SourceOpener
	}
	if p.sources, err = newSources(ctx, opener, req.Maps, p.layout); err != nil {
		return nil, err
	}
	if req.SourceOpener != nil {
		p.sources.canonical = nil // links of this machine say nothing about another datacenter's files
	}
	if p.original, err = readMetadata(ctx, p.sources.base, p.layout.name()); err != nil {
		return nil, err
	}
	if p.meta, err = flinkmeta.Scan(p.original); err != nil {
		return nil, fmt.Errorf("scan %s: %w", req.Source.Join(metadataName), err)
	}
	refs, err := p.meta.Refs(named.String())
	if err != nil {
		return nil, fmt.Errorf("read the references of %s: %w", req.Source.Join(metadataName), err)
	}
	if err := p.mayBeRelative(refs); err != nil {
		return nil, err
	}
	listed := p.listTaskOwned(ctx)
	err = p.closure(ctx, refs)
	infos, listErr := listed()
	if err = cmp.Or(err, listErr); err != nil {
		return nil, err
	}
	p.taskOwned(infos)
	if err := p.distinctTargets(); err != nil {
		return nil, err
	}
	if p.rewrite, err = p.relocated(); err != nil {
		return nil, err
	}
	p.warnings = append(p.warnings, p.restoreWarnings()...)
	return p, nil
}

// mayBeRelative refuses relative paths where no restore from them is right.
func (p *plan) mayBeRelative(refs []flinkmeta.FileRef) error {
	switch {
	case p.req.Paths != PathsRelative:
	case p.meta.Changelog():
		return refuse("%s has changelog state, which Flink restores with CLAIM alone, and after a CLAIM restore relative paths break the next checkpoint: use absolute paths", p.req.Source)
	case slices.ContainsFunc(refs, func(ref flinkmeta.FileRef) bool { return ref.Segment }):
		return refuse("%s has merged files, which Flink names by absolute paths alone: use absolute paths", p.req.Source)
	}
	return nil
}

// ReplicaURI is where the replica of a checkpoint or savepoint lies below a replica root; source is the directory that
// holds the source's _metadata, as Flink there names it.
func ReplicaURI(root, source fsutil.URI) fsutil.URI { return root.Join(newLayout(source).name()) }

// ReadMetadata reads the _metadata in directory dir whole. Errors: fs.ErrNotExist, fsutil.ErrUnavailable when it is
// still being written, or the file system's. One that is larger than any that Flink writes is refused.
func ReadMetadata(ctx context.Context, from fsutil.ReadFS, dir string) ([]byte, error) {
	return readMetadata(ctx, from, dir)
}

// startOpen opens a file while something else is asked, and gives what came of it: another datacenter is a round trip
// away.
func startOpen(ctx context.Context, from fsutil.ReadFS, name string) func() (io.ReadCloser, error) {
	var (
		r    io.ReadCloser
		err  error
		done = make(chan struct{})
	)
	go func() {
		defer close(done)
		r, err = from.Open(ctx, name, 0)
	}()
	return func() (io.ReadCloser, error) {
		<-done
		return r, err
	}
}

// readMetadata reads a checkpoint's _metadata whole.
func readMetadata(ctx context.Context, base fsutil.ReadFS, name string) ([]byte, error) {
	file := path.Join(name, metadataName)
	where := base.Root().Join(file)
	opening := startOpen(ctx, base, file)
	fi, err := base.Stat(ctx, file)
	r, openErr := opening()
	if openErr == nil {
		defer func() { _ = r.Close() }() // only read
	}
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read %s: %w: a completed checkpoint or savepoint has one; name the directory that holds it", where, err)
		}
		return nil, fmt.Errorf("read %s: %w", where, err)
	}
	if fi.Size > maxMetadataBytes {
		return nil, fmt.Errorf("read %s: it has %d bytes, more than a _metadata can have (%d)", where, fi.Size, maxMetadataBytes)
	}
	if openErr != nil {
		return nil, fmt.Errorf("read %s: %w", where, openErr)
	}
	b := make([]byte, fi.Size)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("read %s: %w", where, err)
	}
	// One more read: to hear that it ends here, and that its checksum held.
	if n, err := io.ReadFull(r, make([]byte, 1)); n > 0 || err != io.EOF {
		if n > 0 {
			return nil, fmt.Errorf("read %s: %w: it grew while it was read, Flink is still writing it", where, fsutil.ErrUnavailable)
		}
		return nil, fmt.Errorf("read %s: %w", where, err)
	}
	return b, nil
}

// closure turns references into files: where each lies, how long it is, where it goes.
func (p *plan) closure(ctx context.Context, refs []flinkmeta.FileRef) error {
	p.files, p.referred = make([]planFile, len(refs), len(refs)+8), len(refs)
	uris := make([]fsutil.URI, len(refs))
	for i, ref := range refs {
		u, err := fsutil.ParseURI(ref.URI)
		if err != nil {
			return fmt.Errorf("understand the path of a file that _metadata refers to: %w", err)
		}
		uris[i] = u
	}
	p.layout.alias = otherNameOfBase(p.layout, uris)
	if err := p.sources.reach(ctx, uris); err != nil {
		return err
	}
	places := make([]located, len(refs))
	for i := range refs {
		at, err := p.sources.locate(uris[i])
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("look at %s: %w", uris[i], err)
		}
		places[i] = at
	}
	found, err := lookAt(ctx, places)
	if err != nil {
		return err
	}
	var problems []Problem
	for i, ref := range refs {
		f := &p.files[i]
		f.source, f.from, f.role, f.refs, f.segment = uris[i], places[i], ref.Role, ref.References, ref.Segment
		f.bytes, f.modTime = -1, found[i].info.ModTime
		if found[i].there {
			f.bytes = found[i].info.Size
		}
		if 0 <= f.bytes && f.bytes < ref.Need && ref.Segment {
			more, err := places[i].holdsMore(ctx, ref.Need)
			if err != nil {
				return err
			}
			if more {
				f.bytes = ref.Need
			}
		}
		if f.bytes < 0 || f.bytes < ref.Need {
			kind := Missing
			if f.bytes >= 0 {
				kind = Short
			}
			problems = append(problems, Problem{File: ref.URI, Kind: kind, Need: ref.Need, Have: f.bytes, Owners: p.owners(ref, len(problems))})
			continue
		}
		target, err := p.layout.place(uris[i])
		if err != nil {
			return err
		}
		if ref.Segment {
			f.bytes = ref.Need
			target = placeSegmented(target, ref.Need)
		}
		f.target = target
		p.bytes += f.bytes
	}
	if len(problems) > 0 {
		return p.brokenOrSuperseded(ctx, problems)
	}
	return nil
}

// otherNameOfBase finds the one place that _metadata has the job's own directory in, where that isn't below base:
// somebody reached the checkpoint under another name than Flink wrote it under (host:port and nameservice).
func otherNameOfBase(l layout, uris []fsutil.URI) fsutil.URI {
	job := l.dir.Dir().Base()
	if !jobID.MatchString(job) {
		return fsutil.URI{}
	}
	var alias fsutil.URI
	for _, u := range uris {
		if _, own := l.base.Rel(u); own {
			if _, inDir := l.dir.Rel(u); !inDir {
				return fsutil.URI{}
			}
			continue
		}
		prefix, rest := l.split(u)
		kind := strings.SplitN(rest, "/", 3)
		if len(kind) < 3 || kind[0] != job || (kind[1] != "shared" && kind[1] != "taskowned") {
			continue
		}
		if alias != (fsutil.URI{}) && alias != prefix {
			return fsutil.URI{}
		}
		alias = prefix
	}
	return alias
}

// distinctTargets holds that no two files are written to one name, and that no file looks like a replica.
func (p *plan) distinctTargets() error {
	seen := make(map[string]int, len(p.files))
	for i, f := range p.files {
		if j, twice := seen[f.target]; twice {
			return refuse("%s and %s would both become %s at the target", p.files[j].source, f.source, f.target)
		}
		if path.Base(f.target) == metadataName {
			return refuse("%s refers to %s as state: a copy of it would look like a replica", p.req.Source, f.source)
		}
		seen[f.target] = i
	}
	return nil
}

// relocated is the replica's _metadata, checked to refer to nothing but the replica's own files.
func (p *plan) relocated() ([]byte, error) {
	out, err := p.meta.Relocate(p.layout.dir.String(), flinkmeta.Placer{File: p.placeFile, Dir: p.placeDir})
	if err != nil {
		return nil, fmt.Errorf("relocate %s: %w", p.req.Source.Join(metadataName), err)
	}
	moved, err := flinkmeta.Scan(out)
	if err != nil {
		return nil, fmt.Errorf("scan the relocated _metadata of %s (this is a fault of ckptferry, report it): %w", p.req.Source, err)
	}
	refs, err := moved.Refs(p.replicaURI().String())
	if err != nil {
		return nil, fmt.Errorf("read the references of the relocated _metadata of %s (this is a fault of ckptferry, report it): %w", p.req.Source, err)
	}
	if len(refs) != p.referred {
		return nil, fmt.Errorf("relocate %s: the result refers to %d files, not %d (this is a fault of ckptferry, report it)", p.req.Source, len(refs), p.referred)
	}
	hidden := p.facts.HiddenHandles // seen beside the closure
	p.facts = FactsOf(moved)
	p.facts.HiddenHandles = hidden
	for i, ref := range refs { // relocation keeps their order
		if f := &p.files[i]; ref.URI != p.req.As.Join(f.target).String() || ref.Need > f.bytes {
			return nil, fmt.Errorf("relocate %s: the result refers to %d bytes of %s, which the replica does not have (this is a fault of ckptferry, report it)", p.req.Source, ref.Need, ref.URI)
		}
	}
	return out, nil
}

// placeFile says how the replica's _metadata names a file. Flink's own exclusive files keep their relative names.
func (p *plan) placeFile(ref flinkmeta.FileRef) (flinkmeta.Placement, error) {
	u, err := fsutil.ParseURI(ref.URI)
	if err != nil {
		return flinkmeta.Placement{}, err
	}
	target, err := p.layout.place(u)
	if err != nil {
		return flinkmeta.Placement{}, err
	}
	if ref.Segment {
		target = placeSegmented(target, ref.Need)
	}
	if inside, ok := strings.CutPrefix(target, p.layout.name()+"/"); ok && ref.Relative {
		return flinkmeta.Placement{Path: inside, Relative: true}, nil
	}
	if p.req.Paths == PathsRelative {
		return flinkmeta.Placement{Path: relativeTo(p.layout.name(), target), Relative: true}, nil
	}
	return flinkmeta.Placement{Path: p.req.As.Join(target).String()}, nil
}

func (p *plan) placeDir(named string) (string, error) {
	u, err := fsutil.ParseURI(named)
	if err != nil {
		return "", err
	}
	target, err := p.layout.place(u)
	if err != nil {
		return "", err
	}
	return p.req.As.Join(target).String(), nil
}

// relativeTo is the way from directory dir to name, both below one root: ("j/chk-1", "j/shared/x") → "../shared/x".
func relativeTo(dir, name string) string {
	ds, ns := strings.Split(dir, "/"), strings.Split(name, "/")
	i := 0
	for i < len(ds) && i < len(ns)-1 && ds[i] == ns[i] {
		i++
	}
	return strings.Repeat("../", len(ds)-i) + strings.Join(ns[i:], "/")
}

// restoreWarnings says what an operator must know before starting Flink from this replica.
func (p *plan) restoreWarnings() []string {
	var out []string
	if p.meta.Changelog() {
		out = append(out, "the job uses the changelog state backend: restore with CLAIM, Flink refuses NO_CLAIM")
	}
	if p.req.Paths == PathsRelative {
		out = append(out, "paths are relative: restore with NO_CLAIM only; after a CLAIM restore Flink's next checkpoints can't be restored")
	}
	external := map[fsutil.URI]int{}
	for _, f := range p.files {
		if prefix, _ := p.layout.split(f.source); prefix != p.layout.base && prefix != p.layout.alias {
			external[prefix]++
		}
	}
	if n := len(external); n > 0 {
		places := make([]string, 0, n)
		for u := range external {
			places = append(places, u.String())
		}
		slices.Sort(places)
		out = append(out, fmt.Sprintf("files from %d place(s) outside of the checkpoint base are taken in: %s", n, few(places)))
	}
	return out
}

// checksum is the CRC32C of b.
func checksum(b []byte) CRC { return CRC(crc32.Checksum(b, castagnoli)) }
