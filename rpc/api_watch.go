package rpc

import (
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
)

const (
	// lifeEvery is how often a watch of replicas shows that it lives when nothing changes.
	lifeEvery = 10 * time.Second
	// changesApart is how long after one look the next is: what changes more often than that is told once.
	changesApart = 100 * time.Millisecond
	// changesMost and changesBytes bound a message, which every client takes by default up to 4 MiB.
	changesMost  = 500
	changesBytes = 1 << 20
)

// WatchReplicas implements ckptferryv1.ReplicaServiceServer. What a caller costs is one older view of the state, however
// slowly it reads: changes are not queued for it, but found between that view and the present one when it has taken the
// ones before.
func (s *api) WatchReplicas(req *ckptferryv1.WatchReplicasRequest, out grpc.ServerStreamingServer[ckptferryv1.WatchReplicasResponse]) error {
	if err := s.known(s.read(), req.GetRoute(), "", true); err != nil {
		return err
	}
	life := time.NewTicker(lifeEvery)
	defer life.Stop()
	var seen snapshot
	for first := true; ; first = false {
		changed := s.cfg.Group.Changed() // before the view: a change after it is told by the channel
		now := s.read()
		t := told{api: s, from: now, out: out, complete: !first}
		for c := range now.changes(seen) {
			was, is := c.Was && passes(req, c.Before), c.Is && passes(req, c.Now)
			if err := t.tell(c, was, is); err != nil {
				return err
			}
		}
		seen = now
		if err := t.end(first); err != nil {
			return err
		}
		if err := s.untilChanged(out, changed, life.C); err != nil {
			return err
		}
	}
}

// passes says whether a watch's filter lets a replica through.
func passes(req *ckptferryv1.WatchReplicasRequest, r raftstore.Replica) bool {
	return asks(req.GetRoute(), r.Key.Route) && asks(req.GetJob(), r.Job) &&
		(len(req.GetStatuses()) == 0 || slices.Contains(req.GetStatuses(), ckptferryv1.ReplicaStatus(r.Status)))
}

// told is one look's worth of answers.
type told struct {
	*api
	from     snapshot
	out      grpc.ServerStreamingServer[ckptferryv1.WatchReplicasResponse]
	complete bool // what was there at the beginning has been sent before

	answer *ckptferryv1.WatchReplicasResponse // not sent yet; nil: nothing is to be told
	bytes  int
}

// tell puts a change into the answer, and sends that when it is full.
func (t *told) tell(c raftstore.ReplicaChange, was, is bool) error {
	if !was && !is {
		return nil
	}
	if t.answer == nil {
		t.answer, t.bytes = &ckptferryv1.WatchReplicasResponse{}, 0
	}
	if is {
		m := raftstore.ReplicaMessage(c.Now)
		t.answer.Replicas = append(t.answer.Replicas, m)
		t.bytes += proto.Size(m)
	} else {
		m := raftstore.ReplicaMessage(c.Before).GetKey()
		t.answer.Gone = append(t.answer.Gone, m)
		t.bytes += proto.Size(m)
	}
	if len(t.answer.GetReplicas())+len(t.answer.GetGone()) >= changesMost || t.bytes >= changesBytes {
		return t.send()
	}
	return nil
}

// end sends what is left. The first look always ends in an answer, which says that it is complete.
func (t *told) end(first bool) error {
	if t.answer == nil && first {
		t.answer = &ckptferryv1.WatchReplicasResponse{}
	}
	t.complete = true
	if t.answer == nil {
		return nil
	}
	return t.send()
}

func (t *told) send() error {
	t.answer.Complete, t.answer.Read = t.complete, t.readContext(t.from)
	err := t.out.Send(t.answer)
	t.answer = nil
	return err
}

// untilChanged returns when the state is another one, not before changesApart has passed, and sends a sign of life each
// time that one is due.
func (s *api) untilChanged(out grpc.ServerStreamingServer[ckptferryv1.WatchReplicasResponse], changed <-chan struct{}, life <-chan time.Time) error {
	ctx := out.Context()
	apart := time.NewTimer(changesApart)
	defer apart.Stop()
	for waited := false; ; {
		due := changed
		if !waited {
			due = nil
		}
		select {
		case <-apart.C:
			waited = true
		case <-due:
			return nil
		case <-life:
			if err := out.Send(&ckptferryv1.WatchReplicasResponse{Complete: true, Read: s.readContext(s.read())}); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stopping:
			return s.stopError()
		}
	}
}
