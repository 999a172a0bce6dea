package raftstore

import (
	"cmp"
	"fmt"
	"iter"
	"time"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// How much one command about promotions and fences may name. What is more is proposed in several.
const (
	MaxPromote = 200 // jobs that are promoted, or whose promotions end
	MaxFenced  = 500 // fences
)

// promoteJobs makes replicas the state that jobs go on from: all of them or none. What is refused is refused before
// anything is changed.
func (s *State) promoteJobs(at time.Time, c *raftv1.PromoteJobs) error {
	switch {
	case len(c.GetItems()) == 0 || len(c.GetItems()) > MaxPromote:
		return fmt.Errorf("%w: a promotion is of 1 to %d jobs, this one of %d", ErrInvalid, MaxPromote, len(c.GetItems()))
	case c.GetPlan() == "" || c.GetActor() == "":
		return fmt.Errorf("%w: a promotion needs a plan and an actor", ErrInvalid)
	}
	if err := validWords(c.GetPlan(), c.GetActor(), c.GetReason()); err != nil {
		return fmt.Errorf("promotion: %w", err)
	}
	route, named := c.GetItems()[0].GetKey().GetRoute(), map[string]bool{}
	var begins []Promotion
	for _, item := range c.GetItems() {
		switch job := item.GetJob(); {
		case item.GetKey().GetRoute() != route:
			return fmt.Errorf("%w: a promotion is of one route, this one of %s and %s", ErrInvalid, route, item.GetKey().GetRoute())
		case named[job]:
			return fmt.Errorf("%w: job %s is promoted twice at once", ErrInvalid, job)
		}
		named[item.GetJob()] = true
		p, done, err := s.promotionOf(c, item)
		if err != nil {
			return err
		}
		if !done {
			p.PromotedAt = at
			begins = append(begins, p)
		}
	}
	for _, p := range begins {
		s.promote(p)
	}
	return nil
}

// promotionOf is what one item of a promotion leads to, or why it is refused; done says that it is carried out already.
func (s *State) promotionOf(c *raftv1.PromoteJobs, item *raftv1.Promote) (_ Promotion, done bool, _ error) {
	p := Promotion{
		Route: item.GetKey().GetRoute(), Job: item.GetJob(), State: PromotionActive, Key: KeyOf(item.GetKey()),
		ClaimMode: ClaimMode(item.GetClaimMode()), Plan: c.GetPlan(), Actor: c.GetActor(), Reason: c.GetReason(),
	}
	if p.ClaimMode != NoClaim && p.ClaimMode != Claim {
		return p, false, fmt.Errorf("%w: job %s is promoted with the unknown %s", ErrInvalid, p.Job, p.ClaimMode)
	}
	if its, active := s.activePromotion(p.Route, p.Job); active {
		if its.Plan == p.Plan && its.Key == p.Key {
			return p, true, nil // proposed twice
		}
		return p, false, fmt.Errorf("%w: job %s of route %s goes on from %s already, by plan %s of %s", ErrPromoted, p.Job, p.Route, its.Key, its.Plan, its.Actor)
	}
	r, err := s.spokenOf(item)
	switch {
	case err != nil:
		return p, false, err
	case r.Job != p.Job:
		return p, false, fmt.Errorf("%w: %s is a replica of job %s, not of %s", ErrInvalid, r.Key, r.Job, p.Job)
	case !Offerable(r):
		return p, false, fmt.Errorf("%w: %s is %s (at risk: %t), a job goes on only from a READY replica that is not at risk", ErrBadTransition, r.Key, r.Status, r.AtRisk)
	}
	for elsewhere := range s.promotedRoutes() {
		its, active := s.activePromotion(elsewhere, p.Job)
		switch {
		case !active:
		case !c.GetForce():
			return p, false, fmt.Errorf("%w: job %s goes on here already from %s of route %s; end that promotion, or force this one",
				ErrForeignPromotion, p.Job, its.Key, elsewhere)
		default:
			p.Forced = true
		}
	}
	if f, is := s.promotedSince(r); is {
		if !c.GetForce() {
			return p, false, fmt.Errorf("%w: datacenter %s has promoted job %s of export %s, later than %s was completed: it runs there; end that, or force this one",
				ErrForeignPromotion, f.Datacenter, f.Job, f.Export, r.Key)
		}
		p.Forced = true
	}
	p.Epoch, p.Replica = s.jobEpoch(p.Route, p.Job)+1, r.URI
	return p, false, nil
}

// promotedSince finds a fence that speaks against going on from a replica: another datacenter has promoted the job, and the
// replica isn't of what that one has made of it since. One that is, is what a job comes back with.
func (s State) promotedSince(r Replica) (FencedJob, bool) {
	route, _ := s.routeOf(r.Key.Route)
	for export := range s.fencedExports() {
		for dc, more := "", true; more; {
			more = false
			for key := range s.Fences.from(fenceKey{Export: export, Datacenter: dc}) {
				if key.Export != export {
					break
				}
				f, fenced := s.Fences.get(fenceKey{export, key.Datacenter, r.Job})
				if fenced && !f.Lifted && (key.Datacenter != route.FromDC || !r.CompletedAt.After(f.PromotedAt)) {
					return f, true
				}
				dc, more = key.Datacenter+"\x00", true // the next string that there is
				break
			}
		}
	}
	return FencedJob{}, false
}

// promote begins a promotion that nothing speaks against.
func (s *State) promote(p Promotion) {
	name := jobName{p.Route, p.Job}
	s.Promotions = s.Promotions.with(name, promoted{Promotion: p, Count: s.Promotions.at(name).Count + 1})
	r := s.Replicas.at(p.Key)
	r.Promoted, r.Claimed = true, r.Claimed || p.ClaimMode == Claim
	if !r.Pinned {
		r.Pinned, r.pinnedByPromotion = true, true
	}
	s.put(r)
	if p.ClaimMode == Claim { // Flink deletes shared files of it that others of the job may need
		for other := range s.ofJob(p.Route, p.Job) { // of the tree as it is now
			if other.Key != p.Key && other.Status == StatusReady && !other.AtRisk {
				other.AtRisk = true
				s.put(other)
			}
		}
	}
	// The source's datacenter had promoted the job, and this is the answer to it: the job comes back.
	if route, known := s.routeOf(p.Route); known {
		for export := range s.fencedExports() {
			s.lift(fenceKey{export, route.FromDC, p.Job})
		}
	}
	detail := fmt.Sprintf("goes on from %s (%s) with %s, plan %s", p.Replica, p.Key, p.ClaimMode, p.Plan)
	action := AuditPromote
	if p.Forced {
		action = AuditForce
	}
	s.audit(AuditRecord{Time: p.PromotedAt, Actor: p.Actor, Action: action, Route: p.Route, Job: p.Job, Detail: because(detail, p.Reason)})
}

// endPromotions ends promotions by hand. The job's epoch stays: who was fenced out stays so.
func (s *State) endPromotions(at time.Time, c *raftv1.EndPromotions) error {
	switch {
	case len(c.GetJobs()) == 0 || len(c.GetJobs()) > MaxPromote:
		return fmt.Errorf("%w: promotions of 1 to %d jobs are ended at once, not of %d", ErrInvalid, MaxPromote, len(c.GetJobs()))
	case c.GetActor() == "":
		return fmt.Errorf("%w: the end of a promotion needs an actor", ErrInvalid)
	}
	if err := validWords(c.GetActor(), c.GetReason()); err != nil {
		return fmt.Errorf("end of promotions: %w", err)
	}
	for _, job := range c.GetJobs() {
		if !s.Promotions.has(jobName{c.GetRoute(), job}) {
			return fmt.Errorf("%w: job %s of route %s", ErrNotPromoted, job, c.GetRoute())
		}
	}
	for _, job := range c.GetJobs() {
		if p, active := s.activePromotion(c.GetRoute(), job); active {
			s.endPromotion(p, PromotionAborted, at)
			s.audit(AuditRecord{
				Time: at, Actor: c.GetActor(), Action: AuditAbort, Route: p.Route, Job: job,
				Detail: because("no longer goes on from "+p.Replica, c.GetReason()),
			})
		}
	}
	return nil
}

// endPromotion ends an ACTIVE promotion. Its replica stays promoted, and Flink's if it was claimed; a pin that the
// promotion set goes.
func (s *State) endPromotion(p promoted, as PromotionState, at time.Time) {
	p.State, p.EndedAt = as, at
	s.Promotions = s.Promotions.with(jobName{p.Route, p.Job}, p)
	if r := s.Replicas.at(p.Key); r.pinnedByPromotion {
		r.Pinned, r.pinnedByPromotion = false, false
		s.put(r)
	}
}

// liftPromotions brings a route's promotions to their jobs' epochs, which were raised. One that is ACTIVE must be
// acknowledged anew. Of one that was ended by hand the source is told that it is over; when it was acknowledged stays, as
// nobody acknowledges it again. What has failed back was ended by the source, which is told nothing.
func (s *State) liftPromotions(route string) {
	for name, p := range s.Promotions.from(jobName{Route: route}) { // of the tree as it is now
		switch {
		case name.Route != route:
			return
		case p.State == PromotionFailedBack:
			continue
		case p.State == PromotionActive:
			p.FenceAcknowledgedAt = time.Time{}
		}
		p.Epoch = s.jobEpoch(route, name.Job)
		s.Promotions = s.Promotions.with(name, p)
	}
}

// fenceJobs notes at a source what a target has promoted, and ends what this side promoted before that.
func (s *State) fenceJobs(at time.Time, c *raftv1.FenceJobs) error {
	if !s.Exports.has(c.GetExport()) {
		return fmt.Errorf("%w: %q", ErrUnknownExport, c.GetExport())
	}
	if err := validName("datacenter", c.GetDatacenter()); err != nil {
		return fmt.Errorf("fences of export %s: %w", c.GetExport(), err)
	}
	if err := validFences(c.GetJobs()); err != nil {
		return fmt.Errorf("fences of %s for export %s: %w", c.GetDatacenter(), c.GetExport(), err)
	}
	for _, m := range c.GetJobs() {
		f := FencedJobOf(c.GetExport(), c.GetDatacenter(), m)
		old, known := s.Fences.get(f.key())
		switch {
		case known && f.Epoch < old.Epoch:
			continue
		case known && f.Epoch == old.Epoch:
			old.Lifted = old.Lifted || f.Lifted // and never back: what comes again late must not fence again
			s.Fences = s.Fences.with(f.key(), old)
			continue
		}
		f.Lifted = s.answered(at, f) || f.Lifted
		s.Fences = s.Fences.with(f.key(), f)
	}
	return nil
}

// answered compares a promotion by another datacenter with those that pull the job from there to here. Of the two the
// later one holds: an earlier one here has failed back; a later one here is the answer to the other, of which the other
// side only tells now. Clocks decide only where nothing else does: a datacenter that has recorded our promotion, and whose
// own one still stands, has promoted after ours.
func (s *State) answered(at time.Time, f FencedJob) bool {
	if f.Lifted {
		return false
	}
	answered := false
	for name := range s.promotedRoutes() {
		route, _ := s.routeOf(name)
		p, active := s.activePromotion(name, f.Job)
		switch {
		case !active || route.FromDC != f.Datacenter:
		case p.FenceAcknowledgedAt.IsZero() && !f.PromotedAt.IsZero() && f.PromotedAt.Before(p.PromotedAt):
			answered = true
		default:
			s.endPromotion(p, PromotionFailedBack, at)
			s.audit(AuditRecord{
				Time: at, Actor: f.Datacenter, Action: AuditFailedBack, Route: name, Job: f.Job,
				Detail: fmt.Sprintf("datacenter %s has promoted the job from export %s, in epoch %d", f.Datacenter, f.Export, f.Epoch),
			})
		}
	}
	return answered
}

// lift ends a fence that stands.
func (s *State) lift(key fenceKey) {
	if f, known := s.Fences.get(key); known && !f.Lifted {
		f.Lifted = true
		s.Fences = s.Fences.with(key, f)
	}
}

// acknowledgeFences notes of which promotions the source knows. Another epoch than a promotion's is of another promotion.
func (s *State) acknowledgeFences(at time.Time, c *raftv1.AcknowledgeFences) error {
	if err := validFences(c.GetJobs()); err != nil {
		return fmt.Errorf("acknowledged fences of route %s: %w", c.GetRoute(), err)
	}
	for _, m := range c.GetJobs() {
		name := jobName{c.GetRoute(), m.GetJob()}
		if p, known := s.Promotions.get(name); known && p.Epoch == m.GetEpoch() && p.FenceAcknowledgedAt.IsZero() {
			p.FenceAcknowledgedAt = at
			s.Promotions = s.Promotions.with(name, p)
		}
	}
	return nil
}

func validFences(jobs []*ckptferryv1.FencedJob) error {
	if len(jobs) == 0 || len(jobs) > MaxFenced {
		return fmt.Errorf("%w: 1 to %d jobs at once, not %d", ErrInvalid, MaxFenced, len(jobs))
	}
	named := map[string]bool{}
	for _, m := range jobs {
		switch f := FencedJobOf("", "", m); {
		case !validJob(f.Job) || f.Epoch == 0 || !storable(f.PromotedAt):
			return fmt.Errorf("%w: job %.200q in epoch %d: its name, epoch or time cannot be", ErrInvalid, f.Job, f.Epoch)
		case named[f.Job]:
			return fmt.Errorf("%w: job %s is named twice", ErrInvalid, f.Job)
		}
		named[m.GetJob()] = true
	}
	return nil
}

// promotedRoutes lists the routes that have promotions, ended or not. It costs what it lists, not what they hold.
func (s State) promotedRoutes() iter.Seq[string] {
	return heads(s.Promotions, func(k jobName) string { return k.Route }, func(route string) jobName { return jobName{Route: route} })
}

// fencedExports lists the exports that have fences, lifted or not, also those that were removed.
func (s State) fencedExports() iter.Seq[string] {
	return heads(s.Fences, func(k fenceKey) string { return k.Export }, func(export string) fenceKey { return fenceKey{Export: export} })
}

// heads lists the different first parts of a tree's keys, and skips what lies between.
func heads[K, V any](t tree[K, V], head func(K) string, start func(string) K) iter.Seq[string] {
	return func(yield func(string) bool) {
		for from, more := "", true; more; {
			more = false
			for key := range t.from(start(from)) {
				if !yield(head(key)) {
					return
				}
				from, more = head(key)+"\x00", true // the next string that there is
				break
			}
		}
	}
}

// routeOf is a route as it is, or was when it was removed.
func (s State) routeOf(name string) (Route, bool) {
	if r, known := s.Routes.get(name); known {
		return r.Route, true
	}
	return s.Removed.get(name)
}

// because adds a reason that somebody gave.
func because(what, reason string) string {
	if reason == "" {
		return what
	}
	return what + ": " + reason
}

// checkPromotions returns what no sequence of commands can lead to.
func (s State) checkPromotions() error {
	for name, p := range s.Promotions.all() {
		r := s.Replicas.at(p.Key)
		active := p.State == PromotionActive
		switch {
		case name != (jobName{p.Route, p.Job}) || p.Key.Route != p.Route || !p.Key.whole() || p.Job == "":
			return fmt.Errorf("promotion of job %s of route %s is filed under job %s of %s, with replica %s", p.Job, p.Route, name.Job, name.Route, p.Key)
		case p.State < PromotionActive || p.State > PromotionFailedBack || p.ClaimMode < NoClaim || p.ClaimMode > Claim:
			return fmt.Errorf("promotion of job %s of route %s has %s, %s", p.Job, p.Route, p.State, p.ClaimMode)
		case p.Count == 0 || p.Epoch < p.Count || p.Epoch > s.jobEpoch(p.Route, p.Job):
			return fmt.Errorf("promotion %d of job %s of route %s has epoch %d, but the job is at %d", p.Count, p.Job, p.Route, p.Epoch, s.jobEpoch(p.Route, p.Job))
		case p.PromotedAt.IsZero() || active != p.EndedAt.IsZero() || p.Plan == "" || p.Actor == "":
			return fmt.Errorf("promotion of job %s of route %s is %s without its plan, actor or times", p.Job, p.Route, p.State)
		case active && (r.Status != StatusReady || !r.Promoted || !r.Pinned || r.Job != p.Job || r.AtRisk || (p.ClaimMode == Claim && !r.Claimed)):
			return fmt.Errorf("job %s of route %s goes on from %s, which is %s, of job %s, promoted %t, pinned %t, at risk %t",
				p.Job, p.Route, p.Key, r.Status, r.Job, r.Promoted, r.Pinned, r.AtRisk)
		}
	}
	for key, f := range s.Fences.all() {
		if key != f.key() || f.Epoch == 0 || !validJob(f.Job) || !storable(f.PromotedAt) {
			return fmt.Errorf("fence of %s on job %s of export %s is filed under %v, or has no epoch", f.Datacenter, f.Job, f.Export, key)
		}
		if err := cmp.Or(validName("export", f.Export), validName("datacenter", f.Datacenter)); err != nil {
			return err
		}
	}
	return nil
}
