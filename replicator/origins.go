package replicator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/ckptferry/ckptferry/fsutil"
)

// When a job goes back to where it came from, much of what its checkpoint needs was copied from here: the source's files
// lie in a replica root, and the manifests there name for each its origin, length and CRC32C. Where the origin still has
// these very bytes they are read there instead of over the link. An origin is a claim of the other side's and proves
// nothing: its bytes are compared with the manifest while they are copied, and read back like any others.

// origin is where a file of the plan is said to have been copied from.
type origin struct {
	at  located
	crc CRC // as the source's manifest has it
}

// originsFrom is how many bytes must be wanted in one place to ask for its manifests: over a long link the question costs
// two round trips, in which less than that has come.
const originsFrom = 1 << 20

// originsMost bounds how many manifests are read for one checkpoint: with each older one fewer files are left to find.
const originsMost = 64

// originPlace is the directory of a job, or a savepoint, in what may be a replica root.
type originPlace struct {
	root located // of the replica root
	top  string
}

// findOrigins looks for the origins of files that the target lacks, by index. It only saves work: what can't be read is
// passed over.
func (r *run) findOrigins(ctx context.Context) map[int]origin {
	if r.req.Origins == nil {
		return nil
	}
	wanted, bytes := map[originPlace]map[string]int{}, map[originPlace]int64{}
	for _, i := range r.mine {
		f := &r.plan.files[i]
		if f.segment || f.extra || r.known[i].unchanged {
			continue
		}
		_, rest := r.plan.layout.split(f.source)
		dir, inside := strings.CutSuffix("/"+f.from.name, "/"+rest)
		top, _, below := strings.Cut(rest, "/")
		if !inside || !below {
			continue
		}
		place := originPlace{located{f.from.fs, strings.TrimPrefix(dir, "/")}, top}
		if wanted[place] == nil {
			wanted[place] = map[string]int{}
		}
		wanted[place][rest] = i
		bytes[place] += f.bytes
	}
	found := origins{of: map[int]origin{}}
	var places errgroup.Group
	places.SetLimit(8)
	for place, names := range wanted {
		if bytes[place] >= r.req.originsFrom {
			places.Go(func() error { r.originsIn(ctx, place, names, &found); return nil })
		}
	}
	_ = places.Wait() // they return none
	return found.of
}

// origins are those of files of the plan, by index.
type origins struct {
	mu sync.Mutex
	of map[int]origin
}

func (o *origins) add(i int, at origin) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.of[i] = at
}

// originsIn reads the manifests of one job, newest first, until all names are found.
func (r *run) originsIn(ctx context.Context, place originPlace, names map[string]int, found *origins) {
	from := below{place.root}
	type manifest struct {
		replica string
		info    fsutil.FileInfo
	}
	var manifests []manifest
	if infos, err := from.List(ctx, own("manifest", place.top, "")); err == nil {
		for _, fi := range infos {
			if name, ok := strings.CutSuffix(fi.Name, ".jsonl"); ok && !fi.IsDir {
				manifests = append(manifests, manifest{path.Join(place.top, name), fi})
			}
		}
	} else if fi, err := from.Stat(ctx, own("manifest", place.top, ".jsonl")); err == nil {
		manifests = append(manifests, manifest{place.top, fi})
	}
	slices.SortFunc(manifests, func(a, b manifest) int { return b.info.ModTime.Compare(a.info.ModTime) })
	for _, m := range manifests[:min(len(manifests), originsMost)] {
		if len(names) == 0 || ctx.Err() != nil {
			return
		}
		lines := map[string]ManifestFile{}
		_, err := readManifest(ctx, from, m.replica, func(f ManifestFile) error {
			if _, ok := names[f.Name]; ok {
				lines[f.Name] = f
			}
			return nil
		})
		if err != nil {
			continue // what was handed out of it is not to be believed
		}
		r.whereTheyAre(ctx, lines, names, found)
	}
}

// whereTheyAre notes the origins that are there with the length of the source's file.
func (r *run) whereTheyAre(ctx context.Context, lines map[string]ManifestFile, names map[string]int, found *origins) {
	group := errgroup.Group{}
	group.SetLimit(statParallel)
	for name, line := range lines {
		i := names[name]
		f := &r.plan.files[i]
		if line.Bytes != f.bytes {
			continue // another file by now
		}
		delete(names, name)
		group.Go(func() error {
			u, err := fsutil.ParseURI(line.Source)
			if err != nil {
				return nil
			}
			dir, err := r.req.Origins.OpenRead(ctx, u.Dir())
			if err != nil {
				return nil
			}
			fi, err := dir.Stat(ctx, u.Base())
			if err != nil || fi.IsDir || fi.Size != f.bytes {
				return nil
			}
			found.add(i, origin{located{dir, u.Base()}, line.CRC})
			return nil
		})
	}
	_ = group.Wait() // they return none
}

// below reads below a directory of a file system.
type below struct{ at located }

func (b below) full(name string) string { return path.Join(b.at.name, name) }

func (b below) Root() fsutil.URI { return b.at.fs.Root().Join(b.at.name) }

func (b below) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	return b.at.fs.Open(ctx, b.full(name), offset)
}

func (b below) Stat(ctx context.Context, name string) (fsutil.FileInfo, error) {
	return b.at.fs.Stat(ctx, b.full(name))
}

func (b below) List(ctx context.Context, dir string) ([]fsutil.FileInfo, error) {
	return b.at.fs.List(ctx, b.full(dir))
}

// errOrigin says that an origin could not be read, or has other bytes: the source has the right ones.
var errOrigin = errors.New("not at its origin any more")

// fromOrigin copies a file from its origin. errOrigin when that can't be done, and nothing was changed.
func (c *copier) fromOrigin(ctx context.Context, cp *fileCopy, o origin, buf []byte) error {
	f := &c.plan.files[cp.i]
	r, err := o.at.open(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errOrigin, err)
	}
	defer func() { _ = r.Close() }() // only read
	if cp.w, err = c.dst.Create(ctx, cp.tmp); err != nil {
		return fmt.Errorf("copy %s: %w", f.source, err)
	}
	if err = c.streamOrigin(cp, r, buf); err == nil && cp.crc != o.crc {
		err = fmt.Errorf("%w: CRC32C %s, the copy was made of %s", errOrigin, cp.crc, o.crc)
	}
	if err != nil {
		c.uncount(cp)
		return errors.Join(err, cp.w.Abort())
	}
	return nil
}

// streamOrigin is stream for an origin: no link is used, so no limit bounds it.
func (c *copier) streamOrigin(cp *fileCopy, r io.Reader, buf []byte) error {
	f := &c.plan.files[cp.i]
	for {
		n, err := r.Read(buf)
		if int64(n) > f.bytes-cp.counted {
			return fmt.Errorf("%w: it has grown", errOrigin)
		}
		if n > 0 {
			if err := c.put(cp, buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF && cp.counted == f.bytes:
			return nil
		case err == io.EOF:
			return fmt.Errorf("%w: it has %d bytes", errOrigin, cp.counted)
		case err != nil:
			return fmt.Errorf("%w: %w", errOrigin, err)
		}
	}
}

// bringFromOrigin makes sure that a file is at the target whose origin is known; false when its origin is of no use, and it
// must be read at the source.
func (c *copier) bringFromOrigin(ctx context.Context, i, try int) (bool, error) {
	o, ok := c.origins[i]
	if !ok || c.spent[i] {
		return false, nil
	}
	buf := c.buffers.get()
	defer c.buffers.put(buf)
	cp := &fileCopy{i: i, tmp: c.attempt.tmp(fmt.Sprintf("%d-origin-%d", i, try))}
	err := c.fromOrigin(ctx, cp, o, *buf)
	if errors.Is(err, errOrigin) && ctx.Err() == nil {
		c.spent[i] = true
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := c.settle(ctx, cp, *buf); err != nil {
		return false, err
	}
	c.plan.req.Meter.BytesLocal.Add(cp.counted)
	return true, nil
}

var _ fsutil.ReadFS = below{}
