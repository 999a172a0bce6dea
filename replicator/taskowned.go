package replicator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/ckptferry/ckptferry/fsutil"
)

// listTaskOwned lists the job's taskowned/ while something else is asked, and gives what came of it.
func (p *plan) listTaskOwned(ctx context.Context) func() ([]fsutil.FileInfo, error) {
	job := path.Dir(p.layout.name())
	if job == "." { // a savepoint: there is no job directory
		return func() ([]fsutil.FileInfo, error) { return nil, nil }
	}
	var (
		dir   = path.Join(job, taskOwnedDir)
		infos []fsutil.FileInfo
		err   error
		done  = make(chan struct{})
	)
	go func() {
		defer close(done)
		infos, err = p.sources.base.List(ctx, dir)
	}()
	return func() ([]fsutil.FileInfo, error) {
		<-done
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, nil
		case err != nil:
			return nil, fmt.Errorf("list %s: %w", p.sources.base.Root().Join(dir), err)
		}
		return infos, nil
	}
}

const taskOwnedDir = "taskowned"

// taskOwned adds what lies in the job's taskowned/ and is not referred to: files that user functions own and name in
// their state, which _metadata holds as opaque bytes. Directories of file merging (FLIP-306) are left out: their
// files belong to segments that are referred to, or to nobody.
func (p *plan) taskOwned(infos []fsutil.FileInfo) {
	known := make(map[fsutil.URI]bool)
	for _, f := range p.files {
		if f.role == flinkmeta.RoleTaskOwned {
			known[f.source] = true
		}
	}
	dir := path.Join(path.Dir(p.layout.name()), taskOwnedDir)
	extras := 0
	for _, fi := range infos {
		name := path.Join(dir, fi.Name)
		source := p.layout.base.Join(name)
		if fi.IsDir || known[source] {
			continue
		}
		if !fs.ValidPath(fi.Name) || fi.Name == metadataName {
			p.warnings = append(p.warnings, fmt.Sprintf("%q in taskowned/ is not referred to by _metadata and is left out: Flink writes no file of that name", fi.Name))
			continue
		}
		p.files = append(p.files, planFile{source: source, from: located{p.sources.base, name}, target: name,
			bytes: fi.Size, modTime: fi.ModTime, role: flinkmeta.RoleTaskOwned, extra: true})
		p.bytes += fi.Size
		extras++
	}
	if p.facts.HiddenHandles = extras > 0; p.facts.HiddenHandles {
		p.warnings = append(p.warnings, fmt.Sprintf("%d file(s) in taskowned/ are not referred to by _metadata and are copied as they are; user state that names them still names them at the source", extras))
	}
}
