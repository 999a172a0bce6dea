package rpc

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/ckptferry/ckptferry/fsutil"
	peerv1 "github.com/ckptferry/ckptferry/proto/ckptferry/peer/v1"
	"github.com/ckptferry/ckptferry/raftstore"
)

// jobElement stands for the job's name in an export's base.
const jobElement = "{job}"

// readablePlaces are what an export lets its readers read: each base up to the element before {job}, and what it names
// beside. What can't be understood makes nothing readable.
func readablePlaces(e raftstore.Export) []fsutil.URI {
	var places []fsutil.URI
	for _, base := range e.Bases {
		u, err := absoluteURI(base)
		if err != nil {
			continue
		}
		elements := strings.Split(u.Path, "/")
		if i := slices.Index(elements, jobElement); i > 0 {
			u.Path = path.Clean("/" + strings.Join(elements[:i], "/"))
			places = append(places, u)
		}
	}
	for _, other := range e.AlsoReadable {
		if u, err := absoluteURI(other); err == nil {
			places = append(places, u)
		}
	}
	return places
}

// absoluteURI parses a URI that has a scheme, so that nothing depends on the working directory.
func absoluteURI(s string) (fsutil.URI, error) {
	u, err := fsutil.ParseURI(s)
	if err != nil {
		return fsutil.URI{}, fmt.Errorf("%w: %w", fs.ErrInvalid, err)
	}
	if given, _, ok := strings.Cut(s, ":"); !ok || strings.ToLower(given) != u.Scheme {
		return fsutil.URI{}, fmt.Errorf("parse URI %q: it has no scheme: write file:/… or hdfs://…: %w", s, fs.ErrInvalid)
	}
	return u, nil
}

// jail lets peers at the files of exports, and at no others. It is safe for concurrent use.
type jail struct {
	stores  ReadOpener
	reached func(fsutil.URI) fsutil.URI // where a place that Flink names is reached from here

	mu     sync.Mutex
	opened map[fsutil.URI]fsutil.ReadFS // by an export's place, as Flink names it
}

// maxOpened bounds how many places are kept open; exports have a few.
const maxOpened = 256

func newJail(stores ReadOpener, reached func(fsutil.URI) fsutil.URI) *jail {
	if reached == nil {
		reached = func(u fsutil.URI) fsutil.URI { return u }
	}
	return &jail{stores: stores, reached: reached, opened: map[fsutil.URI]fsutil.ReadFS{}}
}

// spot is a file or directory inside of the jail.
type spot struct {
	fs   fsutil.ReadFS // rooted at the export's place
	name string        // in fs
}

// find is the file that a peer names, if the export has it. The root that it names it by may lie anywhere: what counts
// is the whole name. Errors are fs.ErrInvalid and fs.ErrPermission, and those of opening the place.
func (j *jail) find(ctx context.Context, e raftstore.Export, at *peerv1.Place) (spot, error) {
	root, err := absoluteURI(at.GetRoot())
	if err != nil {
		return spot{}, err
	}
	if !fs.ValidPath(at.GetName()) || strings.ContainsRune(at.GetName(), 0) {
		return spot{}, fmt.Errorf("name %q below %s: not a relative, slash-separated name without empty, \".\" and \"..\" elements: %w",
			at.GetName(), root, fs.ErrInvalid)
	}
	named := root.Join(at.GetName())
	for _, place := range readablePlaces(e) {
		name, ok := j.inside(place, named)
		if !ok {
			continue
		}
		files, err := j.open(ctx, place)
		if err != nil {
			return spot{}, err
		}
		return spot{files, name}, nil
	}
	return spot{}, fmt.Errorf("%s lies in no place that export %s lets others read (add it to the export's also_readable if it is one of Flink's): %w",
		named, e.Name, fs.ErrPermission)
}

// inside is the name of a file below one of the export's places. Where the place is a local directory, symbolic links
// count as what they lead to: a link out of the place is outside, and the place may be named by where it leads. A link
// that is put there after this look is held by fsutil's own jail, since files is rooted at the place.
func (j *jail) inside(place, named fsutil.URI) (string, bool) {
	at, file := j.reached(place), j.reached(named)
	name, ok := at.Rel(file)
	if at.Scheme != "file" {
		return name, ok
	}
	// Nothing on the disk is looked at for a name that can't be inside: it is a stranger's.
	real := fsutil.Canonical(at)
	if !ok {
		if name, ok = real.Rel(file); !ok {
			return "", false
		}
	}
	_, ok = real.Rel(fsutil.Canonical(file))
	return name, ok
}

// open is the file system rooted at an export's place.
func (j *jail) open(ctx context.Context, place fsutil.URI) (fsutil.ReadFS, error) {
	j.mu.Lock()
	files, ok := j.opened[place]
	j.mu.Unlock()
	if ok {
		return files, nil
	}
	files, err := j.stores.OpenRead(ctx, place)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", place, err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.opened) >= maxOpened {
		clear(j.opened)
	}
	j.opened[place] = files
	return files, nil
}

// allowed is the export of that name, if the caller's datacenter may read it.
func allowed(v view, datacenter, name string) (raftstore.Export, error) {
	e, ok := v.Export(name)
	if !ok {
		return e, fmt.Errorf("export %q: %w: the datacenter that is called has none of this name; apply it there, or mend the route's from_export", name, ErrNotFound)
	}
	if !slices.Contains(e.To, datacenter) {
		return e, fmt.Errorf("export %q: %w: it is not for datacenter %q; add it to the export's list `to`", name, ErrDenied, datacenter)
	}
	return e, nil
}
