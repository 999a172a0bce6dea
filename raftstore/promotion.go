package raftstore

import (
	"cmp"
	"fmt"
	"iter"
	"strings"
	"time"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// ClaimMode is Flink's claim mode. The numbers are those of ckptferry.v1.ClaimMode, and never change.
type ClaimMode int32

// The claim modes.
const (
	NoClaim ClaimMode = iota + 1 // Flink deletes nothing of the replica
	Claim                        // the replica's files are Flink's
)

// String is the mode as Flink's flag takes it.
func (m ClaimMode) String() string {
	switch m {
	case NoClaim:
		return "NO_CLAIM"
	case Claim:
		return "CLAIM"
	}
	return fmt.Sprintf("claim mode %d", int32(m))
}

// PromotionState is how far a promotion is. The numbers are those of ckptferry.v1.PromotionState, and never change.
type PromotionState int32

// The states of a promotion. Only an ACTIVE one changes.
const (
	PromotionActive     PromotionState = iota + 1 // the job goes on here, nothing is pulled for it
	PromotionAborted                              // somebody ended it
	PromotionFailedBack                           // the source's datacenter has promoted the job in its turn
)

// String is the state as people write it.
func (s PromotionState) String() string {
	switch s {
	case PromotionActive:
		return "ACTIVE"
	case PromotionAborted:
		return "ABORTED"
	case PromotionFailedBack:
		return "FAILED_BACK"
	}
	return fmt.Sprintf("promotion state %d", int32(s))
}

// Promotion is a job that goes on in this datacenter, or did: the newest of its job and route.
type Promotion struct {
	Route, Job          string
	State               PromotionState
	Epoch               uint64 // the job's epoch since
	Key                 Key
	Replica             string // where it lies
	ClaimMode           ClaimMode
	Plan                string // a digest of the plan that was carried out
	Actor, Reason       string
	PromotedAt          time.Time // proposer's clock
	FenceAcknowledgedAt time.Time // when the source's group had recorded it; zero before
	EndedAt             time.Time // zero while ACTIVE
	Forced              bool      // the job went on from another route here, or in another datacenter, already
}

// FencedJob is a job of an export of ours that another datacenter has promoted.
type FencedJob struct {
	Export, Datacenter, Job string
	Epoch                   uint64    // the job's at the other datacenter
	PromotedAt              time.Time // by the other datacenter's clock
	Lifted                  bool      // over: it ended there, or was answered by a promotion here
}

// PromotionMessage is a promotion as a message.
func PromotionMessage(p Promotion) *ckptferryv1.Promotion {
	return &ckptferryv1.Promotion{
		Route: p.Route, Job: p.Job, State: ckptferryv1.PromotionState(p.State), Epoch: p.Epoch, Key: KeyMessage(p.Key), Replica: p.Replica,
		ClaimMode: ckptferryv1.ClaimMode(p.ClaimMode), Plan: p.Plan, Actor: p.Actor, Reason: p.Reason,
		PromotedTime: timestamp(p.PromotedAt), FenceAcknowledgedTime: timestamp(p.FenceAcknowledgedAt), EndedTime: timestamp(p.EndedAt),
		Forced: p.Forced,
	}
}

// PromotionOf reads a promotion; nil is the zero Promotion.
func PromotionOf(m *ckptferryv1.Promotion) Promotion {
	return Promotion{
		Route: m.GetRoute(), Job: m.GetJob(), State: PromotionState(m.GetState()), Epoch: m.GetEpoch(), Key: KeyOf(m.GetKey()), Replica: m.GetReplica(),
		ClaimMode: ClaimMode(m.GetClaimMode()), Plan: m.GetPlan(), Actor: m.GetActor(), Reason: m.GetReason(),
		PromotedAt: instant(m.GetPromotedTime()), FenceAcknowledgedAt: instant(m.GetFenceAcknowledgedTime()), EndedAt: instant(m.GetEndedTime()),
		Forced: m.GetForced(),
	}
}

// FencedJobMessage is a fenced job as a message, which says neither whose export it is nor who promoted it.
func FencedJobMessage(f FencedJob) *ckptferryv1.FencedJob {
	return &ckptferryv1.FencedJob{Job: f.Job, Epoch: f.Epoch, PromotedTime: timestamp(f.PromotedAt), Lifted: f.Lifted}
}

// FencedJobOf reads a job of an export that a datacenter has promoted.
func FencedJobOf(export, datacenter string, m *ckptferryv1.FencedJob) FencedJob {
	return FencedJob{
		Export: export, Datacenter: datacenter, Job: m.GetJob(), Epoch: m.GetEpoch(), PromotedAt: instant(m.GetPromotedTime()), Lifted: m.GetLifted(),
	}
}

// jobName is a job of a route.
type jobName struct{ Route, Job string }

func (n jobName) compare(other jobName) int {
	return cmp.Or(strings.Compare(n.Route, other.Route), strings.Compare(n.Job, other.Job))
}

// promoted is the newest promotion of a job, and how often it was promoted. It is never forgotten: the count is a part
// of the job's epoch.
type promoted struct {
	Promotion
	Count uint64
}

// fenceKey orders fences as snapshots do.
type fenceKey struct{ Export, Datacenter, Job string }

func (k fenceKey) compare(other fenceKey) int {
	return cmp.Or(strings.Compare(k.Export, other.Export), strings.Compare(k.Datacenter, other.Datacenter), strings.Compare(k.Job, other.Job))
}

func (f FencedJob) key() fenceKey { return fenceKey{f.Export, f.Datacenter, f.Job} }

// jobEpoch is the epoch that fences a job's replicas: the route's and how often the job was promoted, together. Both only
// grow, so neither can make up for the other.
func (s State) jobEpoch(route, job string) uint64 {
	return s.Epochs.at(route) + s.Promotions.at(jobName{route, job}).Count
}

// activePromotion says whether a job goes on here from this route.
func (s State) activePromotion(route, job string) (promoted, bool) {
	p, ok := s.Promotions.get(jobName{route, job})
	return p, ok && p.State == PromotionActive
}

// JobEpoch is the epoch that a Fence about a replica of the job must have: the route's epoch and how often the job was
// promoted there, together. It only grows.
func (v View) JobEpoch(route, job string) uint64 { return v.state.jobEpoch(route, job) }

// Promotion finds the newest promotion of a job on a route, ended or not.
func (v View) Promotion(route, job string) (Promotion, bool) {
	p, ok := v.state.Promotions.get(jobName{route, job})
	return p.Promotion, ok
}

// Promotions lists the newest promotion of each job that ever had one, by route and job.
func (v View) Promotions() iter.Seq[Promotion] {
	return func(yield func(Promotion) bool) {
		for _, p := range v.state.Promotions.all() {
			if !yield(p.Promotion) {
				return
			}
		}
	}
}

// RoutePromotions lists the newest promotion of each job of one route that ever had one, by job.
func (v View) RoutePromotions(route string) iter.Seq[Promotion] {
	return func(yield func(Promotion) bool) {
		for name, p := range v.state.Promotions.from(jobName{Route: route}) {
			if name.Route != route || !yield(p.Promotion) {
				return
			}
		}
	}
}

// Fences lists the jobs of our exports that other datacenters have promoted, by export, datacenter and job. Lifted ones
// are among them.
func (v View) Fences() iter.Seq[FencedJob] {
	return func(yield func(FencedJob) bool) {
		for _, f := range v.state.Fences.all() {
			if !yield(f) {
				return
			}
		}
	}
}

// Fence finds what is known of a datacenter's promotion of a job of an export.
func (v View) Fence(export, datacenter, job string) (FencedJob, bool) {
	return v.state.Fences.get(fenceKey{export, datacenter, job})
}
