package keeper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// Filter says what a call is about; empty: all.
type Filter struct{ Route, Job string }

func (f Filter) route(name string) bool { return f.Route == "" || f.Route == name }
func (f Filter) job(name string) bool   { return f.Job == "" || f.Job == name }

// Gone is something that goes, or would go.
type Gone struct {
	Route, Job string
	Key        *raftstore.Key // of a replica; nil for files that none needs
	Action     string         // "retire", "trash" or "empty"
	URI        string
	Files      int64
	Bytes      int64
	Reason     string
}

// dirty are the tops below a root that something was taken from since they were last swept.
type dirty map[string]map[string]bool // by root

func (d dirty) add(root fsutil.URI, top string) {
	at := root.String()
	if d[at] == nil {
		d[at] = map[string]bool{}
	}
	d[at][top] = true
}

// Retention is the chore of whoever leads: it ends what a dead leader was sweeping, then retires, sweeps and empties the
// trash again and again, until ctx ends.
func (k *Keeper) Retention(ctx context.Context) {
	var swept time.Time
	for {
		k.working.Lock()
		k.endSweeps(ctx)
		touched := k.retireAll(ctx, Filter{}, nil)
		all := swept.IsZero() || k.cfg.Now().Sub(swept) >= k.cfg.SweepEvery
		if all && ctx.Err() == nil {
			swept = k.cfg.Now()
		}
		k.sweepAll(ctx, touched, all, Filter{}, nil)
		k.working.Unlock()
		if sleep(ctx, k.cfg.Every) != nil {
			return
		}
	}
}

// retireAll lets go of what the rules say, and deletes what is let go of. One that fails keeps none of the others: it is
// tried again the next time. each, if set, is told what went.
func (k *Keeper) retireAll(ctx context.Context, only Filter, each func(Gone)) dirty {
	touched := dirty{}
	for _, route := range routesOnRecord(k.cfg.Group.View()) {
		if !only.route(route) {
			continue
		}
		problem := ""
		names, _ := jobsOf(k.cfg.Group.View(), route)
		for _, name := range names {
			if ctx.Err() != nil {
				return touched
			}
			if !only.job(name) {
				continue
			}
			if err := k.retireJob(ctx, route, name, touched, each); err != nil && ctx.Err() == nil {
				k.cfg.Log.Warn("replicas can't be retired", "route", route, "job", name, "err", err)
				problem = err.Error()
			}
		}
		k.note(route, func(s *Stats) { s.Problem = problem })
	}
	return touched
}

// retireJob is retireAll for one job.
func (k *Keeper) retireJob(ctx context.Context, route, name string, touched dirty, each func(Gone)) error {
	view := k.cfg.Group.View()
	reasons := map[raftstore.Key]string{}
	if rules, applied := view.Route(route); applied { // of a removed route nobody says what is kept
		for _, v := range retire(job{view.JobReplicas(route, name), view.JobKnown(route, name)}, rules, k.cfg.Now()) {
			err := k.propose(ctx, &raftv1.Command{Op: &raftv1.Command_RetireReplica{RetireReplica: &raftv1.RetireReplica{
				Key: raftstore.KeyMessage(v.replica.Key), Fence: fenceOf(view, v.replica),
			}}})
			switch {
			case err == nil:
				reasons[v.replica.Key] = v.reason
				k.cfg.Log.Info("retired", "replica", v.replica.Key.String(), "job", name, "reason", v.reason)
			case errors.Is(err, raftstore.ErrKept), errors.Is(err, raftstore.ErrStale), errors.Is(err, raftstore.ErrBadTransition), errors.Is(err, raftstore.ErrUnknownReplica):
				k.cfg.Log.Debug("not retired", "replica", v.replica.Key.String(), "err", err) // it changed since it was looked at
			default:
				return err
			}
		}
	}
	var errs []error
	replicas := k.cfg.Group.View().JobReplicas(route, name)
	for _, r := range replicas {
		if r.Status != raftstore.StatusRetiring || sameNameInFlight(r, replicas) {
			continue
		}
		gone, err := k.delete(ctx, r, touched)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if gone.Reason = reasons[r.Key]; gone.Reason == "" {
			gone.Reason = "it was retired before, and its deletion was cut short"
		}
		if each != nil {
			each(gone)
		}
	}
	return errors.Join(errs...)
}

// sameNameInFlight says that an attempt may be writing under the replica's name: a checkpoint of a new life of the job with a
// fixed JobID. What is the one's and what the other's can't be told before that has ended.
func sameNameInFlight(r raftstore.Replica, replicas []raftstore.Replica) bool {
	for _, other := range replicas {
		if other.Key != r.Key && other.URI == r.URI && (other.Status == raftstore.StatusPlanned || other.Status == raftstore.StatusCopying) {
			return true
		}
	}
	return false
}

// delete removes a RETIRING replica from the storage, and then from the record.
func (k *Keeper) delete(ctx context.Context, r raftstore.Replica, touched dirty) (Gone, error) {
	key := r.Key
	gone := Gone{Route: r.Key.Route, Job: r.Job, Key: &key, Action: "retire", URI: r.URI}
	dir, err := fsutil.ParseURI(r.URI)
	if err != nil {
		return gone, fmt.Errorf("where replica %s lies: %w", r.Key, err)
	}
	root, name := replicator.PlaceOf(dir)
	dst, err := k.opened(ctx, root)
	if err != nil {
		return gone, err
	}
	removed, err := replicator.RemoveReplica(ctx, dst, replicator.RemoveRequest{Replica: name, Original: r.Key.MetadataCRC})
	if err != nil {
		return gone, fmt.Errorf("delete replica %s: %w", r.URI, err)
	}
	touched.add(root, replicator.Top(name))
	if removed.Left != "" {
		k.cfg.Log.Warn("a retired replica's files are left to the sweep", "replica", r.Key.String(), "reason", removed.Left)
	}
	view := k.cfg.Group.View()
	err = k.propose(ctx, &raftv1.Command{Op: &raftv1.Command_ForgetReplica{ForgetReplica: &raftv1.ForgetReplica{
		Key: raftstore.KeyMessage(r.Key), Fence: fenceOf(view, r),
	}}})
	if err != nil {
		return gone, err
	}
	gone.Files, gone.Bytes = int64(removed.Files), removed.Bytes
	k.note(r.Key.Route, func(s *Stats) { s.Retired++; s.Freed += removed.Bytes })
	k.cfg.Log.Info("deleted", "replica", r.Key.String(), "uri", r.URI, "files", removed.Files, "bytes", removed.Bytes)
	return gone, nil
}
