package keeper

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// Prune does now what Retention does each time, for what a filter lets through, and tells each what went. Who doesn't lead must
// not call it.
func (k *Keeper) Prune(ctx context.Context, only Filter, each func(Gone) error) error {
	k.working.Lock()
	defer k.working.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	tell := func(g Gone) {
		if err := each(g); err != nil {
			cancel(err) // nobody listens any more
		}
	}
	k.endSweeps(ctx)
	touched := k.retireAll(ctx, only, tell)
	k.sweepAll(ctx, touched, true, only, tell)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, s := range k.Stats() {
		if only.route(s.Route) && s.Problem != "" {
			return errors.New(s.Problem)
		}
	}
	return nil
}

// Preview tells each what Prune would take away, and changes nothing. It may be called on any agent of the group.
func (k *Keeper) Preview(ctx context.Context, only Filter, each func(Gone) error) error {
	view := k.cfg.Group.View()
	goes := map[string]map[string]bool{} // by root: the names of replicas
	for _, route := range routesOnRecord(view) {
		rules, applied := view.Route(route)
		names, replicas := jobsOf(view, route)
		for _, name := range names {
			if !only.route(route) || !only.job(name) {
				continue
			}
			var verdicts []verdict
			if applied {
				verdicts = retire(job{replicas[name], view.JobKnown(route, name)}, rules, k.cfg.Now())
			}
			for _, r := range replicas[name] {
				if r.Status == raftstore.StatusRetiring {
					verdicts = append(verdicts, verdict{r, "it was retired before, and its deletion was cut short"})
				}
			}
			for _, v := range verdicts {
				if err := k.previewReplica(ctx, v, goes, each); err != nil {
					return err
				}
			}
		}
	}
	for _, p := range places(view) {
		if only.Route != "" && !slices.Contains(p.routes, only.Route) {
			continue
		}
		if err := k.previewPlace(ctx, p, goes[p.root.String()], only, each); err != nil {
			return err
		}
	}
	return nil
}

func (k *Keeper) previewReplica(ctx context.Context, v verdict, goes map[string]map[string]bool, each func(Gone) error) error {
	key := v.replica.Key
	gone := Gone{Route: key.Route, Job: v.replica.Job, Key: &key, Action: "retire", URI: v.replica.URI, Reason: v.reason}
	dir, err := fsutil.ParseURI(v.replica.URI)
	if err != nil {
		return err
	}
	root, name := replicator.PlaceOf(dir)
	dst, err := k.cfg.Stores.OpenRead(ctx, root)
	if err != nil {
		return err
	}
	files, bytes, err := replicator.Exclusive(ctx, dst, name)
	if err != nil {
		return err
	}
	gone.Files, gone.Bytes = int64(files), bytes
	if goes[root.String()] == nil {
		goes[root.String()] = map[string]bool{}
	}
	goes[root.String()][name] = true
	return each(gone)
}

// previewPlace tells of shared files that nobody needs, or would need after the replicas are gone.
func (k *Keeper) previewPlace(ctx context.Context, p place, goes map[string]bool, only Filter, each func(Gone) error) error {
	view := k.cfg.Group.View()
	dst, err := k.cfg.Stores.OpenRead(ctx, p.root)
	if err != nil {
		return err
	}
	s, ok, err := replicator.LookOnly(ctx, dst, k.cfg.Now(), replicator.SweepConfig{
		Grace: p.grace, Working: p.workedOn(view), Without: func(replica string) bool { return goes[replica] },
	})
	if err != nil || !ok {
		return err
	}
	tops, err := s.Tops(ctx)
	if err != nil {
		return err
	}
	for _, top := range p.topsOf(view, tops, only) {
		gone := Gone{Route: p.routes[0], Action: "trash", URI: p.root.Join(top).String(), Reason: "no replica needs them, and they are older than " + p.grace.String() + " (grace)"}
		err := s.LookAll(ctx, top, func(u replicator.Unneeded) error {
			if !ofAny(goes, u.Name) { // those are told of with their replica
				gone.Files++
				gone.Bytes += u.Bytes
			}
			return nil
		})
		if errors.Is(err, replicator.ErrUnsure) {
			k.cfg.Log.Warn("not swept", "root", p.root.String(), "top", top, "err", err)
			continue
		}
		if err != nil {
			return err
		}
		if gone.Files > 0 {
			if err := each(gone); err != nil {
				return err
			}
		}
	}
	trash, err := s.LookIntoTrash(ctx, p.grace)
	if err == nil && trash.Emptied > 0 {
		err = each(Gone{Route: p.routes[0], Action: "empty", URI: p.root.String(), Files: int64(trash.Emptied), Bytes: trash.Freed,
			Reason: "it lies in the trash for longer than " + p.grace.String() + " (grace)"})
	}
	return err
}

func ofAny(replicas map[string]bool, file string) bool {
	for name := range replicas {
		if strings.Contains("/"+file, "/"+name+"/") {
			return true
		}
	}
	return false
}
