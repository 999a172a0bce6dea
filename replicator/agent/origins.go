package agent

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// origins opens what files of another datacenter may have been copied from. The other one says the names, so it opens
// what this one lets others read anyway, and nothing else.
type origins struct {
	stores replicator.ReadOpener
	places []fsutil.URI
}

// newOrigins is nil when this datacenter exports nothing.
func newOrigins(view raftstore.View, stores replicator.ReadOpener) replicator.ReadOpener {
	o := origins{stores: stores}
	for _, e := range view.Exports() {
		for _, s := range e.Bases {
			if b, err := parseBase(s); err == nil {
				o.places = append(o.places, b.above)
			}
		}
		for _, s := range e.AlsoReadable {
			if u, err := parsePlace(s); err == nil {
				o.places = append(o.places, u)
			}
		}
	}
	if len(o.places) == 0 {
		return nil
	}
	return o
}

// OpenRead implements replicator.ReadOpener. Any other place is fs.ErrPermission.
func (o origins) OpenRead(ctx context.Context, root fsutil.URI) (fsutil.ReadFS, error) {
	for _, p := range o.places {
		if _, in := p.Rel(root); in {
			return o.stores.OpenRead(ctx, root)
		}
	}
	return nil, fmt.Errorf("open %s: no export of this datacenter names it: %w", root, fs.ErrPermission)
}
