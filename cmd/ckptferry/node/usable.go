package node

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/raftstore"
)

// usable says what of exports and routes this agent's configuration can't serve: they would fail later, for each
// checkpoint. All agents of a group are configured alike, so that whoever leads it may speak for them. The error is
// raftstore.ErrInvalid.
func (r *node) usable(exports []raftstore.Export, routes []raftstore.Route) error {
	var errs []error
	wrong := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{raftstore.ErrInvalid}, args...)...))
	}
	known := func(what, name, place string) {
		u, err := fsutil.ParseURI(place)
		if err != nil {
			return // said by whoever checks what it means
		}
		if _, _, err := r.places.find(u); err != nil {
			wrong("%s of %s: %s lies outside of the stores of agent %s's configuration (%s): add its prefix there, on all agents of %s, or mend the name",
				what, name, place, r.cfg.Node.ID, r.places, r.cfg.Node.DC)
		}
	}
	for _, e := range exports {
		for _, base := range e.Bases {
			above, _, _ := strings.Cut(base, "{job}")
			known("base", "export "+e.Name, above)
		}
		for _, place := range e.AlsoReadable {
			known("also_readable", "export "+e.Name, place)
		}
	}
	for _, route := range routes {
		known("root", "route "+route.Name, route.Root)
		_, configured := r.cfg.Datacenters[route.FromDC]
		switch {
		case route.FromDC == r.cfg.Node.DC:
			wrong("route %s pulls from %s, which is this datacenter itself: apply a route at the agents of its target", route.Name, route.FromDC)
		case !configured:
			wrong("route %s pulls from %s, which agent %s's configuration does not have: add it under `datacenters`, on all agents of %s, or mend the name",
				route.Name, route.FromDC, r.cfg.Node.ID, r.cfg.Node.DC)
		}
	}
	return errors.Join(errs...)
}
