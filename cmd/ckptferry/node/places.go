package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/config"
	"github.com/ckptferry/ckptferry/fsutil"
)

// places opens what the configuration's stores hold, by the names that Flink has for it. What lies outside of them is
// fs.ErrPermission. It is safe for concurrent use.
type places struct {
	names []place
}

// place is one URI prefix, and where it is reached.
type place struct {
	prefix, reach fsutil.URI
	stores        *fsutil.Stores
}

// openPlaces connects to nothing yet.
func openPlaces(from []config.Place) *places {
	p := &places{}
	for _, store := range from {
		stores := fsutil.NewStores(fsutil.StoresConfig{HDFS: hdfsConfig(store)})
		for _, prefix := range store.Prefixes {
			p.names = append(p.names, place{prefix, store.Reach, stores})
		}
	}
	return p
}

func hdfsConfig(p config.Place) fsutil.HDFSConfig {
	h := p.HDFS
	cfg := fsutil.HDFSConfig{
		ConfDir: h.HadoopConfDir,
		User:    h.User,
		Kerberos: fsutil.KerberosConfig{
			Principal: h.Kerberos.Principal, KeytabFile: h.Kerberos.KeytabFile,
			Krb5Conf: h.Kerberos.Krb5Conf, NamenodePrincipal: h.Kerberos.NamenodePrincipal,
		},
	}
	if len(h.Namenodes) > 0 {
		cfg.Namenodes = map[string][]string{p.Reach.Authority: h.Namenodes}
	}
	return cfg
}

// Open is for reading and writing below a place that Flink names.
func (p *places) Open(ctx context.Context, named fsutil.URI) (fsutil.FS, error) {
	store, reached, err := p.find(named)
	if err != nil {
		return nil, err
	}
	opened, err := store.Open(ctx, reached)
	if err != nil || reached == named {
		return opened, err
	}
	return renamedFS(opened, named), nil
}

// OpenRead is Open for reading alone.
func (p *places) OpenRead(ctx context.Context, named fsutil.URI) (fsutil.ReadFS, error) {
	store, reached, err := p.find(named)
	if err != nil {
		return nil, err
	}
	opened, err := store.OpenRead(ctx, reached)
	if err != nil || reached == named {
		return opened, err
	}
	return renamedReadFS(opened, named), nil
}

// Reached is where a place that Flink names is reached from here; itself when it lies outside of the stores.
func (p *places) Reached(named fsutil.URI) fsutil.URI {
	if _, reached, err := p.find(named); err == nil {
		return reached
	}
	return named
}

// Close ends all connections. Closing again does nothing.
func (p *places) Close() error {
	var errs []error
	for _, name := range p.names {
		errs = append(errs, name.stores.Close())
	}
	return errors.Join(errs...)
}

// find is the store of the longest prefix that named lies below, and where named is reached.
func (p *places) find(named fsutil.URI) (*fsutil.Stores, fsutil.URI, error) {
	best, reached := -1, fsutil.URI{}
	for i, name := range p.names {
		rest, ok := below(name.prefix, named)
		if ok && (best < 0 || len(name.prefix.Path) > len(p.names[best].prefix.Path)) {
			best, reached = i, name.reach.Join(rest)
			if name.prefix == name.reach {
				reached = named
			}
		}
	}
	if best < 0 {
		return nil, reached, fmt.Errorf("open %s: it lies outside of the stores of this agent's configuration (%s): add its prefix there if the agent may use it: %w",
			named, p, fs.ErrPermission)
	}
	return p.names[best].stores, reached, nil
}

// below is prefix.Rel, which also knows a prefix with symbolic links by the name that they lead to: the domain asks
// for places of local disks by that name when it compares them.
func below(prefix, named fsutil.URI) (string, bool) {
	if rest, ok := prefix.Rel(named); ok {
		return rest, true
	}
	return fsutil.Canonical(prefix).Rel(named)
}

func (p *places) String() string {
	var all []string
	for _, name := range p.names {
		all = append(all, name.prefix.String())
	}
	return strings.Join(all, ", ")
}

// renamed is a file system that says the root that it was asked for by. Beside the methods of FS it keeps what the
// file system underneath has: RenameAll (local) or OpenPrefix (HDFS).
type renamed struct {
	fsutil.FS
	root fsutil.URI
}

func (r renamed) Root() fsutil.URI { return r.root }

type renamedRead struct {
	fsutil.ReadFS
	root fsutil.URI
}

func (r renamedRead) Root() fsutil.URI { return r.root }

func renamedFS(opened fsutil.FS, root fsutil.URI) fsutil.FS {
	plain := renamed{opened, root}
	if all, ok := opened.(fsutil.AllRenamer); ok {
		return struct {
			renamed
			fsutil.AllRenamer
		}{plain, all}
	}
	if prefix, ok := opened.(fsutil.PrefixOpener); ok {
		return struct {
			renamed
			fsutil.PrefixOpener
		}{plain, prefix}
	}
	return plain
}

func renamedReadFS(opened fsutil.ReadFS, root fsutil.URI) fsutil.ReadFS {
	plain := renamedRead{opened, root}
	if prefix, ok := opened.(fsutil.PrefixOpener); ok {
		return struct {
			renamedRead
			fsutil.PrefixOpener
		}{plain, prefix}
	}
	return plain
}
