package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// Scrubbed is what was seen of one replica.
type Scrubbed struct {
	Replica raftstore.Replica // as it is on record now
	Problem string            // what is wrong with it, or why it could not be looked at; empty when every byte is right
	Read    int64             // bytes
}

// scrubAgain is how long the chore waits when nothing is due.
const scrubAgain = time.Minute

// Scrub is the chore of whoever leads: it reads READY replicas again, those first that were not looked at for longest, until
// ctx ends.
func (k *Keeper) Scrub(ctx context.Context) {
	if k.cfg.ScrubEvery == 0 {
		return
	}
	for first := true; ; first = false {
		k.scrubs.Lock()
		if first {
			k.endQuarantines(ctx)
		}
		for ctx.Err() == nil {
			due := k.dueJob()
			if len(due) == 0 || !k.scrubJob(ctx, due, nil) {
				break
			}
		}
		k.scrubs.Unlock()
		if sleep(ctx, scrubAgain) != nil {
			return
		}
	}
}

// lastSeen is when every byte of a READY replica was last seen.
func lastSeen(r raftstore.Replica) time.Time {
	if r.ScrubbedAt.After(r.ReadyAt) {
		return r.ScrubbedAt
	}
	return r.ReadyAt
}

// scrubbed says whether a replica is read again: what a job claimed is Flink's, which deletes of it and of its kin what it likes.
func scrubbed(r raftstore.Replica) bool {
	return r.Status == raftstore.StatusReady && !r.Claimed && !r.AtRisk
}

// dueJob are the replicas that are due of the job whose replica was not looked at for longest: its replicas share files,
// which are read once then.
func (k *Keeper) dueJob() []raftstore.Replica {
	view, now := k.cfg.Group.View(), k.cfg.Now()
	var oldest raftstore.Replica
	for r := range view.AllReplicas() {
		if scrubbed(r) && (oldest.Job == "" || lastSeen(r).Before(lastSeen(oldest))) {
			oldest = r
		}
	}
	if oldest.Job == "" || now.Sub(lastSeen(oldest)) < k.cfg.ScrubEvery {
		return nil
	}
	return slices.DeleteFunc(view.JobReplicas(oldest.Key.Route, oldest.Job), func(r raftstore.Replica) bool {
		return !scrubbed(r) || now.Sub(lastSeen(r)) < k.cfg.ScrubEvery
	})
}

// scrubJob reads replicas of one job. When rot is found, its other READY replicas are looked at too: they may need the same
// file. The result says whether all of it could be judged and recorded; else it is left to a later time.
func (k *Keeper) scrubJob(ctx context.Context, replicas []raftstore.Replica, each func(Scrubbed)) bool {
	seen, judged, rot := replicator.NewSeen(), true, false
	looked := map[raftstore.Key]bool{}
	look := func(r raftstore.Replica) {
		if ctx.Err() != nil {
			judged = false
			return
		}
		looked[r.Key] = true
		s, problem, err := k.scrubOne(ctx, r, seen)
		rot = rot || problem
		if err != nil {
			judged = false
			s.Problem = reason(err)
			if ctx.Err() == nil {
				k.cfg.Log.Warn("a replica can't be scrubbed", "replica", r.Key.String(), "uri", r.URI, "err", err)
			}
		}
		if each != nil && ctx.Err() == nil {
			each(s)
		}
	}
	for _, r := range replicas {
		look(r)
	}
	if rot {
		for _, r := range k.cfg.Group.View().JobReplicas(replicas[0].Key.Route, replicas[0].Job) {
			if scrubbed(r) && !looked[r.Key] {
				look(r)
			}
		}
	}
	return judged
}

// scrubOne reads one replica and has the state know. rot says that something is wrong with it; err that it is not known.
func (k *Keeper) scrubOne(ctx context.Context, r raftstore.Replica, seen *replicator.Seen) (s Scrubbed, rot bool, err error) {
	s.Replica = r
	dir, err := fsutil.ParseURI(r.URI)
	if err != nil {
		return s, false, err
	}
	problem, read, err := k.look(ctx, dir, seen)
	s.Read = read
	k.note(r.Key.Route, func(st *Stats) { st.ScrubBytes += read })
	if err != nil {
		return s, false, err
	}
	view := k.cfg.Group.View()
	now, ok := view.Replica(r.Key)
	if !ok || now.Status != raftstore.StatusReady || now.Planned != r.Planned {
		s.Replica = now
		return s, false, nil // it was retired, or made again, while it was read
	}
	if s.Problem = problem; problem == "" {
		err = k.propose(ctx, &raftv1.Command{Op: &raftv1.Command_RecordScrub{RecordScrub: &raftv1.RecordScrub{
			Key: raftstore.KeyMessage(r.Key), Fence: fenceOf(view, now)}}})
	} else {
		err = k.quarantine(ctx, now, dir, problem)
	}
	if after, ok := k.cfg.Group.View().Replica(r.Key); ok {
		s.Replica = after
	}
	return s, problem != "", err
}

// look reads every byte of a replica. problem is what is wrong with it; err why that can't be told.
func (k *Keeper) look(ctx context.Context, dir fsutil.URI, seen *replicator.Seen) (problem string, read int64, err error) {
	report, err := replicator.Check(ctx, k.cfg.Stores, replicator.CheckRequest{
		Dir: dir, Limits: []*replicator.Limit{k.scrubLimit}, Seen: seen, Parallel: 4,
	})
	switch {
	case errors.Is(err, replicator.ErrVerify):
		return problems(report), report.BytesRead, nil
	case errors.Is(err, fs.ErrNotExist):
		// Gone, or is the storage another one than it was?
		root, _ := replicator.PlaceOf(dir)
		there, rootErr := replicator.IsReplicaRoot(ctx, k.cfg.Stores, root)
		if rootErr != nil || !there {
			return "", report.BytesRead, errors.Join(fmt.Errorf("nothing of ckptferry's is at %s: is it the right storage, and mounted? %w", root, err), rootErr)
		}
		return "its _metadata is gone: " + reason(err), report.BytesRead, nil
	case err != nil:
		return "", report.BytesRead, err
	case !report.Digests:
		return "its manifest is gone, so that its bytes can't be compared with anything", report.BytesRead, nil
	}
	return "", report.BytesRead, nil
}

func problems(report replicator.CheckReport) string {
	const few = 3
	var all []string
	for i, p := range report.Problems {
		if i == few {
			all = append(all, fmt.Sprintf("and %d more", len(report.Problems)-few))
			break
		}
		all = append(all, p.String())
	}
	return strings.Join(all, "; ")
}

// quarantine takes a replica out of use. One that a job goes on from stays where it is: a warning is all that helps.
func (k *Keeper) quarantine(ctx context.Context, r raftstore.Replica, dir fsutil.URI, problem string) error {
	log := k.cfg.Log.With("replica", r.Key.String(), "job", r.Job, "uri", r.URI, "problem", problem)
	if r.Promoted || r.Claimed {
		k.note(r.Key.Route, func(s *Stats) { s.ScrubProblems++ })
		log.Warn("a promoted replica is not what it was; it is left alone")
		return nil
	}
	root, name := replicator.PlaceOf(dir)
	dst, err := k.opened(ctx, root)
	if err != nil {
		return err
	}
	if err := replicator.Quarantine(ctx, dst, name); err != nil {
		return err
	}
	if err := k.recordQuarantine(ctx, r, problem); err != nil {
		if ctx.Err() != nil {
			return err // whoever leads next goes on
		}
		// Somebody has promoted it in this moment, say: then it must be there.
		return errors.Join(err, replicator.Unquarantine(ctx, dst, name))
	}
	k.note(r.Key.Route, func(s *Stats) { s.Quarantined++ })
	log.Error("rot: a replica is quarantined; it is made again while the source has it")
	return nil
}

func (k *Keeper) recordQuarantine(ctx context.Context, r raftstore.Replica, problem string) error {
	return k.propose(ctx, &raftv1.Command{Op: &raftv1.Command_QuarantineReplica{QuarantineReplica: &raftv1.QuarantineReplica{
		Key: raftstore.KeyMessage(r.Key), Fence: fenceOf(k.cfg.Group.View(), r), Reason: reason(errors.New(problem))}}})
}

// endQuarantines ends what a leader before this one had begun: a replica whose _metadata it moved out of the way, and which is
// READY on record still.
func (k *Keeper) endQuarantines(ctx context.Context) {
	view := k.cfg.Group.View()
	for _, p := range places(view) {
		err := func() error {
			dst, err := k.opened(ctx, p.root)
			if err != nil {
				return err
			}
			names, err := replicator.Quarantined(ctx, dst)
			if err != nil || len(names) == 0 {
				return err
			}
			for _, route := range p.routes {
				for r := range view.RouteReplicas(route) {
					dir, err := fsutil.ParseURI(r.URI)
					if err != nil || r.Status != raftstore.StatusReady {
						continue
					}
					root, name := replicator.PlaceOf(dir)
					if root != p.root || !slices.Contains(names, name) {
						continue
					}
					if _, _, err := k.scrubOne(ctx, r, replicator.NewSeen()); err != nil {
						return err
					}
				}
			}
			return nil
		}()
		if err != nil && ctx.Err() == nil {
			k.cfg.Log.Warn("what an earlier scrub had found can't be looked at", "root", p.root.String(), "err", err)
		}
	}
}

// ScrubNow reads the READY replicas that a filter lets through, also those that are not due, and tells each what was seen.
func (k *Keeper) ScrubNow(ctx context.Context, only Filter, each func(Scrubbed) error) error {
	k.scrubs.Lock()
	defer k.scrubs.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	view := k.cfg.Group.View()
	for _, route := range routesOnRecord(view) {
		if !only.route(route) {
			continue
		}
		names, replicas := jobsOf(view, route)
		for _, name := range names {
			due := slices.DeleteFunc(replicas[name], func(r raftstore.Replica) bool { return !scrubbed(r) })
			if !only.job(name) || len(due) == 0 {
				continue
			}
			k.scrubJob(ctx, due, func(s Scrubbed) {
				if err := each(s); err != nil {
					cancel(err) // nobody listens any more
				}
			})
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
	}
	return nil
}
