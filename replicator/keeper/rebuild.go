package keeper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ckptferry/ckptferry/fsutil"
	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// RebuildRequest says where to look for replicas that the group has no record of.
type RebuildRequest struct {
	Route  string // empty: all
	Deep   bool   // read every byte
	DryRun bool
}

// Found is a replica that the storage has.
type Found struct {
	Replica *ckptferryv1.Replica // as it was put on record, or is on record already; of a broken one its key and place
	Outcome string               // "recovered", "known" or "broken"
	Problem string               // of a broken one; of a recovered one what had to be guessed
}

// The outcomes.
const (
	Recovered = "recovered"
	Known     = "known"
	Broken    = "broken"
)

// recoverMost is how many replicas are put on record by one command.
const recoverMost = 50

// Rebuild puts READY replicas on record that only the storage knows, route by route, and tells each what was found. Broken ones
// are told of, and not recorded. It may be repeated. Who doesn't lead must not call it, but for a dry run.
func (k *Keeper) Rebuild(ctx context.Context, req RebuildRequest, each func(Found) error) error {
	view := k.cfg.Group.View()
	if _, ok := view.Route(req.Route); req.Route != "" && !ok {
		return fmt.Errorf("%w: %q: apply the routes first, as they were", raftstore.ErrUnknownRoute, req.Route)
	}
	k.working.Lock()
	defer k.working.Unlock()
	for _, route := range view.Routes() {
		if req.Route != "" && req.Route != route.Name {
			continue
		}
		r := rebuild{keeper: k, req: req, view: view, route: route, each: each, jobs: jobNames(view, route.Name)}
		if err := r.run(ctx); err != nil {
			return fmt.Errorf("route %s: %w", route.Name, err)
		}
	}
	return nil
}

// jobNames are the names that jobs of a route are known by, by JobID: what the source says, and what is on record.
func jobNames(view raftstore.View, route string) map[string]string {
	names := map[string]string{}
	for r := range view.RouteReplicas(route) {
		names[string(r.Key.JobID)] = r.Job
	}
	for _, f := range view.Known(route) {
		names[string(f.JobID)] = f.Job
	}
	delete(names, "") // savepoints
	return names
}

// rebuild is Rebuild for one route.
type rebuild struct {
	keeper *Keeper
	req    RebuildRequest
	view   raftstore.View
	route  raftstore.Route
	jobs   map[string]string // by JobID
	each   func(Found) error

	batch []Found
}

func (r *rebuild) run(ctx context.Context) error {
	root, err := fsutil.ParseURI(r.route.Root)
	if err != nil {
		return err
	}
	err = replicator.Survey(ctx, r.keeper.cfg.Stores, replicator.SurveyRequest{Root: root, Deep: r.req.Deep}, func(s replicator.Surveyed) error {
		if of := s.Header.Label.Route; of != "" && of != r.route.Name {
			if _, there := r.view.Route(of); there {
				return nil // another route's, below the same root
			}
		}
		return r.found(ctx, s)
	})
	if err != nil {
		return err
	}
	return r.flush(ctx)
}

func (r *rebuild) found(ctx context.Context, s replicator.Surveyed) error {
	key := raftstore.Key{Route: r.route.Name, JobID: raftstore.JobID(s.JobID()), CheckpointID: s.Header.CheckpointID, MetadataCRC: uint32(s.Header.OriginalCRC)}
	if s.Problem != "" {
		return r.each(Found{Outcome: Broken, Problem: s.Problem, Replica: &ckptferryv1.Replica{Key: raftstore.KeyMessage(key), Uri: s.Dir.String()}})
	}
	if known, ok := r.view.Replica(key); ok { // however far it is: the agents go on with it
		return r.each(Found{Outcome: Known, Replica: raftstore.ReplicaMessage(known)})
	}
	f := Found{Outcome: Recovered, Replica: r.message(key, s)}
	job, sure := s.Job()
	if name, known := r.jobs[s.JobID()]; !sure && known {
		job, sure = name, true
	}
	if f.Replica.Job = job; !sure {
		f.Problem = fmt.Sprintf("its manifest does not say what the job is called: %q stands for it", job)
	}
	if s.Header.Label.Completed.IsZero() {
		f.Replica.Warnings = append(f.Replica.Warnings, "when its checkpoint was completed is not on record; its age counts from when the replica was made")
	}
	switch {
	case s.AtRisk != "":
		f.Replica.Warnings = append([]string{s.AtRisk}, f.Replica.Warnings...)
		f.Problem = join(f.Problem, s.AtRisk)
	case s.Claimed:
		f.Problem = join(f.Problem, "a promotion with CLAIM handed it to Flink: it is kept, and what shares files with it is not offered")
	}
	if r.batch = append(r.batch, f); len(r.batch) < recoverMost {
		return nil
	}
	return r.flush(ctx)
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

func (r *rebuild) message(key raftstore.Key, s replicator.Surveyed) *ckptferryv1.Replica {
	files, bytes := int64(s.Files), s.Bytes
	kind := ckptferryv1.CheckpointKind_CHECKPOINT_KIND_CHECKPOINT
	name := ""
	if s.Savepoint() {
		kind, name = ckptferryv1.CheckpointKind_CHECKPOINT_KIND_SAVEPOINT, s.Dir.Base()
	}
	warnings := s.Header.Warnings
	if len(warnings) > 20 {
		warnings = warnings[:20]
	}
	return &ckptferryv1.Replica{
		Key: raftstore.KeyMessage(key), Status: ckptferryv1.ReplicaStatus_REPLICA_STATUS_READY, Uri: s.Dir.String(),
		FileCount: &files, TotalBytes: &bytes, ManifestCrc32C: uint32(s.Manifest), Kind: kind, SavepointName: name,
		CompletedTime: timestamppb.New(s.Completed()), PlannedTime: timestamppb.New(s.Header.Created), ReadyTime: timestamppb.New(s.Header.Created),
		Promoted: s.Claimed, Claimed: s.Claimed, AtRisk: s.AtRisk != "",
		Warnings: append([]string(nil), warnings...), Facts: raftstore.FactsMessage(raftstore.RestoreFacts(s.Facts)),
	}
}

// flush has the group agree on what was found since the last time.
func (r *rebuild) flush(ctx context.Context) error {
	if len(r.batch) == 0 {
		return nil
	}
	if !r.req.DryRun {
		cmd := &raftv1.RecoverReplicas{}
		for _, f := range r.batch {
			cmd.Replicas = append(cmd.Replicas, f.Replica)
		}
		for {
			err := r.keeper.propose(ctx, &raftv1.Command{Op: &raftv1.Command_RecoverReplicas{RecoverReplicas: cmd}})
			if err == nil {
				break
			}
			if !errors.Is(err, raftstore.ErrSweeping) {
				return err
			}
			if err := sleep(ctx, time.Second); err != nil {
				return err
			}
		}
	}
	for _, f := range r.batch {
		if err := r.each(f); err != nil {
			return err
		}
	}
	r.batch = nil
	return nil
}
