package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ckptferry/ckptferry/fsutil"
	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	"github.com/ckptferry/ckptferry/raftstore"
)

// ApplyRoutes sets exports and routes by their names; what isn't named stays as it is. Everything is checked before
// anything is changed, and all that is wrong is in the error, which is raftstore.ErrInvalid then (or
// raftstore.ErrRouteHasReplicas). changes has a line for each: created, changed (and in what) or unchanged. With dryRun
// nothing is changed. It is idempotent: after an error in the middle of the changes, which are returned beside it as
// far as they were made, do it again.
func ApplyRoutes(ctx context.Context, group Group, exports []raftstore.Export, routes []raftstore.Route, dryRun bool) (changes []string, err error) {
	routes = slices.Clone(routes)
	for i := range routes {
		routes[i].Epoch = 0 // the state's own
		if routes[i].Mode == 0 {
			routes[i].Mode = raftstore.RouteContinuous
		}
	}
	view := group.View()
	if err := checkApplied(view, exports, routes); err != nil {
		return nil, err
	}
	apply := func(what, name string, differs []string, known bool, cmd *raftv1.Command) error {
		line := fmt.Sprintf("%s %s: unchanged", what, name)
		switch {
		case !known:
			line = fmt.Sprintf("%s %s: created", what, name)
		case len(differs) > 0:
			line = fmt.Sprintf("%s %s: changed (%s)", what, name, strings.Join(differs, ", "))
		}
		if (!known || len(differs) > 0) && !dryRun {
			if err := group.Propose(ctx, cmd); err != nil {
				return fmt.Errorf("apply %s %s: %w", what, name, err)
			}
		}
		changes = append(changes, line)
		return nil
	}
	for _, e := range exports {
		old, known := view.Export(e.Name)
		err := apply("export", e.Name, exportDiffers(old, e), known,
			&raftv1.Command{Op: &raftv1.Command_PutExport{PutExport: &raftv1.PutExport{Export: raftstore.ExportMessage(e)}}})
		if err != nil {
			return changes, err
		}
	}
	for _, r := range routes {
		old, known := view.Route(r.Name)
		err := apply("route", r.Name, routeDiffers(old, r), known,
			&raftv1.Command{Op: &raftv1.Command_PutRoute{PutRoute: &raftv1.PutRoute{Route: raftstore.RouteMessage(r)}}})
		if err != nil {
			return changes, err
		}
	}
	return changes, nil
}

// exportDiffers names what is another than it was, by its name in the file.
func exportDiffers(old, e raftstore.Export) []string {
	return differing([]difference{
		{"bases", slices.Equal(old.Bases, e.Bases)},
		{"also_readable", slices.Equal(old.AlsoReadable, e.AlsoReadable)},
		{"to", slices.Equal(old.To, e.To)},
	})
}

func routeDiffers(old, r raftstore.Route) []string {
	return differing([]difference{
		{"from", old.FromDC == r.FromDC && old.FromExport == r.FromExport},
		{"root", old.Root == r.Root},
		{"jobs", slices.Equal(old.Include, r.Include) && slices.Equal(old.Exclude, r.Exclude)},
		{"mode", old.Mode == r.Mode},
		{"keep", old.Keep == r.Keep},
		{"priority", old.Priority == r.Priority},
		{"rate", old.BytesPerSecond == r.BytesPerSecond},
		{"paths", old.Relative == r.Relative},
	})
}

type difference struct {
	name string
	same bool
}

func differing(fields []difference) (names []string) {
	for _, f := range fields {
		if !f.same {
			names = append(names, f.name)
		}
	}
	return names
}

// applied collects everything that is wrong with what is to be applied.
type applied struct {
	view    raftstore.View
	exports []raftstore.Export // as they will be, those that are not named too
	routes  []raftstore.Route
	errs    []error
}

func (a *applied) wrong(format string, args ...any) {
	a.errs = append(a.errs, fmt.Errorf("%w: "+format, append([]any{raftstore.ErrInvalid}, args...)...))
}

func checkApplied(view raftstore.View, exports []raftstore.Export, routes []raftstore.Route) error {
	a := &applied{view: view, exports: view.Exports(), routes: view.Routes()}
	named := map[string]bool{}
	for _, e := range exports {
		if named["export "+e.Name] {
			a.wrong("export %s is there twice", e.Name)
		}
		named["export "+e.Name] = true
		a.checkExport(e)
		a.exports = append(slices.DeleteFunc(a.exports, func(old raftstore.Export) bool { return old.Name == e.Name }), e)
	}
	for _, r := range routes {
		if named["route "+r.Name] {
			a.wrong("route %s is there twice", r.Name)
		}
		named["route "+r.Name] = true
		a.checkRoute(r)
		a.routes = append(slices.DeleteFunc(a.routes, func(old raftstore.Route) bool { return old.Name == r.Name }), r)
	}
	a.checkDisjoint(func(r raftstore.Route) bool { return named["route "+r.Name] }, func(e raftstore.Export) bool { return named["export "+e.Name] })
	return errors.Join(a.errs...)
}

func (a *applied) checkExport(e raftstore.Export) {
	if err := e.Valid(); err != nil {
		a.errs = append(a.errs, err)
		return
	}
	if len(e.To) == 0 {
		a.wrong("export %s names no datacenter that may read it: add one to `to`", e.Name)
	}
	for _, s := range e.Bases {
		if _, err := parseBase(s); err != nil {
			a.wrong("base of export %s: %v", e.Name, err)
		}
	}
	for _, s := range e.AlsoReadable {
		u, err := parsePlace(s)
		if err != nil {
			a.wrong("also_readable of export %s: %v", e.Name, err)
		} else if u.Path == "/" {
			a.wrong("also_readable of export %s: %s is a whole file system: name the directories that _metadata refers to", e.Name, s)
		}
	}
}

func (a *applied) checkRoute(r raftstore.Route) {
	if err := r.Valid(); err != nil {
		a.errs = append(a.errs, err)
		return
	}
	root, err := parsePlace(r.Root)
	if err != nil {
		a.wrong("root of route %s: %v", r.Name, err)
		return
	}
	for u := root; u.Path != "/"; u = u.Dir() {
		if _, chk := checkpointID(u.Base()); chk || jobIDName.MatchString(u.Base()) {
			a.wrong("root %s of route %s lies in %s, which is named as Flink names a job's directory or a checkpoint", r.Root, r.Name, u)
			break
		}
	}
	switch {
	case root.Path == "/":
		a.wrong("root of route %s: %s is a whole file system: name a directory for the replicas alone", r.Name, r.Root)
	case root.String() != r.Root:
		a.wrong("root of route %s: write %s as Flink does, %s", r.Name, r.Root, root)
	}
	old, known := a.view.Route(r.Name)
	if known && (old.FromDC != r.FromDC || old.FromExport != r.FromExport || old.Root != r.Root) &&
		slices.ContainsFunc(a.view.Replicas(), func(rep raftstore.Replica) bool { return rep.Key.Route == r.Name && !rep.GivenUp() }) {
		a.errs = append(a.errs, fmt.Errorf("%w: route %s keeps its source (export %s of %s) and its root %s as long as it has replicas; apply a route of another name",
			raftstore.ErrRouteHasReplicas, r.Name, old.FromExport, old.FromDC, old.Root))
	}
}

// checkDisjoint holds that no two routes write to one place, and none where a Flink of this datacenter keeps its own.
func (a *applied) checkDisjoint(isNewRoute func(raftstore.Route) bool, isNewExport func(raftstore.Export) bool) {
	for i, r := range a.routes {
		root, err := fsutil.ParseURI(r.Root)
		if err != nil {
			continue // said already
		}
		for _, other := range a.routes[:i] {
			o, err := fsutil.ParseURI(other.Root)
			if err == nil && overlap(root, o) && (isNewRoute(r) || isNewRoute(other)) {
				a.wrong("root %s of route %s and root %s of route %s overlap: give each a directory of its own", r.Root, r.Name, other.Root, other.Name)
			}
		}
		for _, e := range a.exports {
			if !isNewRoute(r) && !isNewExport(e) {
				continue
			}
			for _, base := range bases(e) {
				if overlap(root, base) {
					a.wrong("root %s of route %s and %s of export %s overlap: ckptferry never writes where Flink keeps checkpoints", r.Root, r.Name, base, e.Name)
				}
			}
			for _, place := range alsoReadable(e) {
				if overlap(root, place) && root != place {
					a.wrong("root %s of route %s overlaps with %s, also_readable of export %s: ckptferry never writes into what Flink keeps; to let the replicas be read, name the root itself", r.Root, r.Name, place, e.Name)
				}
			}
		}
	}
}

// bases are the directories that an export finds checkpoints in.
func bases(e raftstore.Export) []fsutil.URI {
	var out []fsutil.URI
	for _, s := range e.Bases {
		if b, err := parseBase(s); err == nil {
			out = append(out, b.above)
		}
	}
	return out
}

// alsoReadable are the places that an export reads from beside its bases. A route's root may be
// one: a job that was promoted with CLAIM refers to files of its replica, and these must be read to bring it home. A
// directory around a root may not, since it is not ckptferry's alone; nor one below it, which may be a changelog of
// Flink's, and what lies below a root is swept.
func alsoReadable(e raftstore.Export) []fsutil.URI {
	var out []fsutil.URI
	for _, s := range e.AlsoReadable {
		if u, err := parsePlace(s); err == nil {
			out = append(out, u)
		}
	}
	return out
}

// overlap says whether one of the places lies in the other, or they are one.
func overlap(a, b fsutil.URI) bool {
	_, in := a.Rel(b)
	_, around := b.Rel(a)
	return in || around
}
