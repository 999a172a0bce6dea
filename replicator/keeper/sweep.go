package keeper

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/ckptferry/ckptferry/fsutil"
	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// beginSweep and endSweep keep the routes of a place from getting READY replicas between them.
func (k *Keeper) beginSweep(ctx context.Context, p place) error {
	for _, route := range p.routes {
		if err := k.propose(ctx, &raftv1.Command{Op: &raftv1.Command_BeginSweep{BeginSweep: &raftv1.BeginSweep{Route: route}}}); err != nil {
			return err
		}
	}
	return nil
}

func (k *Keeper) endSweep(ctx context.Context, p place) error {
	var errs []error
	for _, route := range p.routes {
		errs = append(errs, k.propose(ctx, &raftv1.Command{Op: &raftv1.Command_EndSweep{EndSweep: &raftv1.EndSweep{Route: route}}}))
	}
	return errors.Join(errs...)
}

// endSweeps ends the sweeps of a leader before this one: what it had moved away and somebody needs is put back first. Where
// the storage can't be asked, nothing becomes READY anyway, and it is tried again.
func (k *Keeper) endSweeps(ctx context.Context) {
	view := k.cfg.Group.View()
	swept := view.Sweeps()
	if len(swept) == 0 {
		return
	}
	for _, p := range places(view) {
		ended := slices.DeleteFunc(slices.Clone(p.routes), func(route string) bool { return !slices.Contains(swept, route) })
		if len(ended) == 0 {
			continue
		}
		err := func() error {
			dst, err := k.opened(ctx, p.root)
			if err != nil {
				return err
			}
			s, ok, err := replicator.NewSweeper(ctx, dst, replicator.SweepConfig{Grace: p.grace, Working: p.workedOn(view)})
			if err != nil {
				return err
			}
			if ok {
				if back, err := s.PutBack(ctx); err != nil {
					if !errors.Is(err, replicator.ErrUnsure) {
						return err
					}
					k.cfg.Log.Warn("not all of the trash can be judged", "root", p.root.String(), "err", err)
				} else if back.PutBack > 0 {
					k.cfg.Log.Info("an earlier sweep was cut short: needed files were put back", "root", p.root.String(), "files", back.PutBack)
				}
			}
			return k.endSweep(ctx, place{routes: ended})
		}()
		if err != nil && ctx.Err() == nil {
			k.cfg.Log.Warn("an earlier leader's sweep can't be ended; nothing of its routes becomes READY before", "root", p.root.String(), "err", err)
		}
	}
}

// sweepAll sweeps what was touched, and everything when all is true, and empties the trash then.
func (k *Keeper) sweepAll(ctx context.Context, touched dirty, all bool, only Filter, each func(Gone)) {
	for _, p := range places(k.cfg.Group.View()) {
		if ctx.Err() != nil {
			return
		}
		tops := touched[p.root.String()]
		if !all && len(tops) == 0 || only.Route != "" && !slices.Contains(p.routes, only.Route) {
			continue
		}
		if err := k.sweepPlace(ctx, p, tops, all, only, each); err != nil && ctx.Err() == nil {
			k.cfg.Log.Warn("files that nobody needs can't be swept away", "root", p.root.String(), "err", err)
			for _, route := range p.routes {
				k.note(route, func(s *Stats) { s.Problem = err.Error() })
			}
		}
	}
}

func (k *Keeper) sweepPlace(ctx context.Context, p place, touched map[string]bool, all bool, only Filter, each func(Gone)) error {
	dst, err := k.opened(ctx, p.root)
	if err != nil {
		return err
	}
	s, ok, err := replicator.NewSweeper(ctx, dst, replicator.SweepConfig{Grace: p.grace, Working: p.workedOn(k.cfg.Group.View())})
	if err != nil || !ok {
		return err
	}
	tops := slices.Sorted(maps.Keys(touched))
	if all {
		if tops, err = s.Tops(ctx); err != nil {
			return err
		}
		tops = p.topsOf(k.cfg.Group.View(), tops, only)
	}
	var errs []error
	for _, top := range tops {
		if err := k.sweepTop(ctx, s, p, top, each); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			errs = append(errs, err)
		}
	}
	if !all {
		return errors.Join(errs...)
	}
	trash, err := s.EmptyTrash(ctx, p.grace)
	errs = append(errs, err, s.RemoveDeadAttempts(ctx))
	for i, route := range p.routes {
		k.note(route, func(st *Stats) {
			if st.TrashFiles, st.TrashBytes = 0, 0; i == 0 { // a root's trash counts once
				st.TrashFiles, st.TrashBytes = int64(trash.Files), trash.Bytes
				st.Freed += trash.Freed
			}
		})
	}
	if each != nil && trash.Emptied > 0 {
		each(Gone{Route: p.routes[0], Action: "empty", URI: p.root.String(), Files: int64(trash.Emptied), Bytes: trash.Freed, Reason: "it lay in the trash for longer than " + p.grace.String() + " (grace)"})
	}
	return errors.Join(errs...)
}

// topsOf are the tops that a filter lets through: those of the jobs that it names.
func (p place) topsOf(view raftstore.View, tops []string, only Filter) []string {
	if only.Job == "" {
		return tops
	}
	wanted := map[string]bool{}
	for _, route := range p.routes {
		for _, r := range view.JobReplicas(route, only.Job) {
			if dir, err := fsutil.ParseURI(r.URI); err == nil && only.route(route) {
				_, name := replicator.PlaceOf(dir)
				wanted[replicator.Top(name)] = true
			}
		}
	}
	return slices.DeleteFunc(tops, func(top string) bool { return !wanted[top] })
}

// sweepTop sweeps one job's directory. The routes are kept from getting READY replicas only while files are moved, which is
// some thousand at a time.
func (k *Keeper) sweepTop(ctx context.Context, s *replicator.Sweeper, p place, top string, each func(Gone)) error {
	for more := true; more; {
		var (
			found []replicator.Unneeded
			err   error
		)
		if found, more, err = s.Look(ctx, top); err != nil {
			return err
		}
		if len(found) == 0 {
			return s.TidyUp(ctx, top)
		}
		swept, err := k.move(ctx, s, p, top, found)
		if err != nil {
			return err
		}
		k.cfg.Log.Info("swept", "root", p.root.String(), "top", top, "files", swept.Files, "bytes", swept.Bytes, "put_back", swept.PutBack)
		if each != nil && swept.Files > 0 {
			each(Gone{Route: p.routes[0], Action: "trash", URI: p.root.Join(top).String(), Files: int64(swept.Files), Bytes: swept.Bytes,
				Reason: "no replica needs them, and they are older than " + p.grace.String() + " (grace)"})
		}
		if swept.Files == 0 {
			return nil // all of it has become needed, or is gone: no reason to look again at once
		}
	}
	return s.With(p.workedOn(k.cfg.Group.View())).TidyUp(ctx, top)
}

// move moves files away under the sweep's lock. What is worked on is read after the lock is there.
func (k *Keeper) move(ctx context.Context, s *replicator.Sweeper, p place, top string, found []replicator.Unneeded) (swept replicator.Swept, err error) {
	if err := k.beginSweep(ctx, p); err != nil {
		return swept, err
	}
	// When this agent no longer leads, the next one ends the sweep.
	defer func() { err = errors.Join(err, k.endSweep(ctx, p)) }()
	return s.With(p.workedOn(k.cfg.Group.View())).Move(ctx, top, found)
}
