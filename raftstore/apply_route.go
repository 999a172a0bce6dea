package raftstore

import (
	"fmt"
	"time"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// putExport sets an export. What was found below it stays: its bases may move, the checkpoints don't come back.
func (s *State) putExport(c *raftv1.PutExport) error {
	e := ExportOf(c.GetExport())
	if err := e.Valid(); err != nil {
		return err
	}
	old, known := s.Exports.get(e.Name)
	if !known {
		old.Found = newCatalogue()
	}
	old.Export = e
	s.Exports = s.Exports.with(e.Name, old)
	return nil
}

// putRoute sets a route, but not its epoch. As long as replicas lie below its root, they must be those of its source;
// records of what did not succeed don't count, and go with the old place. A new source is unknown until it is heard of.
func (s *State) putRoute(c *raftv1.PutRoute) error {
	r := RouteOf(c.GetRoute())
	r.Epoch = 0
	if err := r.Valid(); err != nil {
		return err
	}
	old, known := s.Routes.get(r.Name)
	if removed, was := s.Removed.get(r.Name); was { // its replicas are still there
		old.Route, known = removed, true
	}
	sameSource := known && r.FromDC == old.FromDC && r.FromExport == old.FromExport
	var givenUp []Replica
	for replica := range s.ofRoute(r.Name) {
		switch {
		case !known || sameSource && r.Root == old.Root:
		case replica.GivenUp():
			givenUp = append(givenUp, replica)
		default:
			return fmt.Errorf("%w: route %s keeps its source (export %s of %s) and its root %s as long as it has replicas; put a route of another name",
				ErrRouteHasReplicas, r.Name, old.FromExport, old.FromDC, old.Root)
		}
	}
	for _, replica := range givenUp {
		s.drop(replica)
	}
	if !sameSource || s.Removed.has(r.Name) {
		old.Known, old.SeenAt = newCatalogue(), time.Time{}
	}
	old.Route = r
	s.Routes, s.Removed = s.Routes.with(r.Name, old), s.Removed.without(r.Name)
	return nil
}

// removeExport forgets an export with what was found below it. What other datacenters have promoted of it stays known:
// the jobs still must not run here when an export of that name comes back.
func (s *State) removeExport(c *raftv1.RemoveExport) error {
	if c.GetExport() == "" {
		return fmt.Errorf("%w: remove export needs a name", ErrInvalid)
	}
	s.Exports = s.Exports.without(c.GetExport())
	return nil
}

// removeRoute forgets a route with what is known of its source. Its epoch, promotions and replicas stay, and as long as
// there are replicas a route of this name keeps its place. One that jobs go on from is refused: its agents tell the source
// that these are fenced, whenever it comes back.
func (s *State) removeRoute(c *raftv1.RemoveRoute) error {
	r, known := s.Routes.get(c.GetRoute())
	switch {
	case c.GetRoute() == "":
		return fmt.Errorf("%w: remove route needs a name", ErrInvalid)
	case !known:
		return nil
	}
	for replica := range s.ofRoute(r.Name) {
		if replica.inFlight() {
			return fmt.Errorf("%w: %s of route %s is %s; pause the route, and remove it when its copies have ended", ErrRouteBusy, replica.Key, r.Name, replica.Status)
		}
	}
	active := 0
	for name, p := range s.Promotions.from(jobName{Route: r.Name}) {
		if name.Route != r.Name {
			break
		}
		if p.State == PromotionActive {
			active++
		}
	}
	if active > 0 {
		return PromotedFrom(r.Name, active)
	}
	s.Routes, s.Removed = s.Routes.without(r.Name), s.Removed.with(r.Name, r.Route)
	return nil
}

// PromotedFrom is the ErrRouteBusy of a route whose promotions of so many jobs are ACTIVE.
func PromotedFrom(route string, jobs int) error {
	return fmt.Errorf("%w: route %s: %d jobs go on here from it: end the promotions with failover abort first, or keep the route paused", ErrRouteBusy, route, jobs)
}

// recordFound numbers what was found and is newer than what is known. A number is never lower than the proposer's clock in
// milliseconds: a group that lost its state, or was put back to an old one, then still counts on from where the
// targets are. Only the order of the numbers means something.
func (s *State) recordFound(at time.Time, c *raftv1.RecordFound) error {
	e, known := s.Exports.get(c.GetExport())
	if !known {
		return fmt.Errorf("%w: %q", ErrUnknownExport, c.GetExport())
	}
	found, err := foundIn(c.GetFound())
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return fmt.Errorf("%w: nothing was found below export %s", ErrInvalid, e.Name)
	}
	for _, f := range e.Found.news(found) {
		e.LastSeq = max(e.LastSeq+1, uint64(max(1, at.UnixMilli())))
		f.Seq = e.LastSeq
		e.Found = e.Found.with(f)
	}
	s.Exports = s.Exports.with(e.Name, e)
	return nil
}

// observeSource notes what a source has, under the numbers that it gave; the highest that it ever gave to a checkpoint
// counts. A source that names something else by a number than before has counted back: what it said from that number
// on is forgotten, or it would stay the newest.
func (s *State) observeSource(c *raftv1.ObserveSource) error {
	r, known := s.Routes.get(c.GetRoute())
	if !known {
		return fmt.Errorf("%w: %q", ErrUnknownRoute, c.GetRoute())
	}
	found, err := foundIn(c.GetFound())
	if err != nil {
		return err
	}
	seen := instant(c.GetSeenTime())
	if !storable(seen) || (len(found) == 0 && seen.IsZero()) {
		return fmt.Errorf("%w: the source of route %s was seen with nothing and at no time that can be", ErrInvalid, r.Name)
	}
	last := uint64(0)
	for _, f := range found {
		if f.Seq <= last {
			return fmt.Errorf("%w: the source of route %s gives %s of job %s the seq %d after %d", ErrInvalid, r.Name, f.URI, f.Job, f.Seq, last)
		}
		last = f.Seq
	}
	for _, f := range found {
		if its, taken := r.Known.bySeq.get(f.Seq); taken && !sameCheckpoint(its, f) {
			r.Known = r.Known.withoutFrom(f.Seq)
			break // it was the lowest
		}
	}
	for _, f := range found {
		its, known := r.Known.find(f)
		if known && its.Seq >= f.Seq {
			continue
		}
		r.Known = r.Known.without(its.Seq).with(f)
	}
	if seen.After(r.SeenAt) {
		r.SeenAt = seen
	}
	s.Routes = s.Routes.with(r.Name, r)
	return nil
}

// foundIn reads what was found. A command that names a checkpoint twice contradicts itself.
func foundIn(messages []*ckptferryv1.FoundCheckpoint) ([]Found, error) {
	found := make([]Found, 0, len(messages))
	named := map[Found]bool{}
	for _, m := range messages {
		f := FoundOf(m)
		if err := f.Valid(); err != nil {
			return nil, err
		}
		if m.GetKind() == ckptferryv1.CheckpointKind_CHECKPOINT_KIND_UNSPECIFIED {
			return nil, fmt.Errorf("%w: %s of job %s is neither a checkpoint nor a savepoint", ErrInvalid, f.URI, f.Job)
		}
		identity := f.identity()
		if named[identity] {
			return nil, fmt.Errorf("%w: %s of job %s is named twice", ErrInvalid, f.URI, f.Job)
		}
		named[identity] = true
		found = append(found, f)
	}
	return found, nil
}
