package promote

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
)

// MostFences is how many jobs are told of, and recorded, at a time.
const MostFences = 500

// fences are the fences that are not lifted, by job.
type fences map[string][]raftstore.FencedJob

func fencesOf(view raftstore.View) fences {
	all := fences{}
	for f := range view.Fences() {
		if !f.Lifted {
			all[f.Job] = append(all[f.Job], f)
		}
	}
	return all
}

// of is the fence that decides about a job: that of the datacenter that a route pulls from before any other's, and of
// several the latest.
func (f fences) of(job, source string) (raftstore.FencedJob, bool) {
	of := f[job]
	if len(of) == 0 {
		return raftstore.FencedJob{}, false
	}
	rank := func(j raftstore.FencedJob) int {
		if j.Datacenter == source {
			return 1
		}
		return 0
	}
	return slices.MaxFunc(of, func(a, b raftstore.FencedJob) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), a.PromotedAt.Compare(b.PromotedAt), strings.Compare(a.Export, b.Export))
	}), true
}

func (f fences) has(datacenter, job string) bool {
	fence, ok := f.of(job, datacenter)
	return ok && fence.Datacenter == datacenter
}

// ToTell lists what the source of a route is to be told: its jobs that are promoted here, and those that were until
// somebody ended it here. A job that has failed back is not told: the source ended that itself.
func ToTell(view raftstore.View, route string) []raftstore.FencedJob {
	var jobs []raftstore.FencedJob
	for p := range view.RoutePromotions(route) {
		if p.State != raftstore.PromotionFailedBack {
			jobs = append(jobs, raftstore.FencedJob{Job: p.Job, Epoch: p.Epoch, PromotedAt: p.PromotedAt, Lifted: p.State == raftstore.PromotionAborted})
		}
	}
	return jobs
}

// Told is what a target's datacenter says that it has promoted of an export.
type Told struct {
	Export, Datacenter string
	Jobs               []raftstore.FencedJob // at most MostFences
}

// RecordFences notes at a source what a target says, and returns what is known of these jobs then. It is idempotent. A
// job of which a higher epoch is known keeps it.
func RecordFences(ctx context.Context, group Proposer, told Told) ([]raftstore.FencedJob, error) {
	if len(told.Jobs) > MostFences {
		return nil, fmt.Errorf("%w: %d fences at a time, at most %d", raftstore.ErrInvalid, len(told.Jobs), MostFences)
	}
	view := group.View()
	var news []*ckptferryv1.FencedJob
	for _, j := range told.Jobs {
		known, ok := view.Fence(told.Export, told.Datacenter, j.Job)
		if !ok || known.Epoch < j.Epoch || known.Epoch == j.Epoch && j.Lifted && !known.Lifted {
			news = append(news, raftstore.FencedJobMessage(j))
		}
	}
	for from, to := range parts(news, func(j *ckptferryv1.FencedJob) int { return 64 + len(j.GetJob()) }) {
		cmd := &raftv1.FenceJobs{Export: told.Export, Datacenter: told.Datacenter, Jobs: news[from:to]}
		if err := group.Propose(ctx, &raftv1.Command{Op: &raftv1.Command_FenceJobs{FenceJobs: cmd}}); err != nil {
			return nil, fmt.Errorf("note what %s has promoted of export %s: %w", told.Datacenter, told.Export, err)
		}
	}
	view = group.View()
	var jobs []raftstore.FencedJob
	for _, j := range told.Jobs {
		if known, ok := view.Fence(told.Export, told.Datacenter, j.Job); ok {
			jobs = append(jobs, known)
		}
	}
	return jobs, nil
}

// Fenced is what of one export another datacenter has promoted, and has not ended.
type Fenced struct {
	Export, Datacenter string
	Jobs               []raftstore.FencedJob
	// Running are those that still run here, a sentence each: two lives of one job write to the same sinks.
	Running []string
}

// FencedHere lists by export and datacenter the jobs of this datacenter that another one has promoted.
func FencedHere(view raftstore.View) []Fenced {
	var all []Fenced
	for f := range view.Fences() {
		if f.Lifted {
			continue
		}
		if n := len(all); n == 0 || all[n-1].Export != f.Export || all[n-1].Datacenter != f.Datacenter {
			all = append(all, Fenced{Export: f.Export, Datacenter: f.Datacenter})
		}
		of := &all[len(all)-1]
		of.Jobs = append(of.Jobs, f)
		found := view.JobFound(f.Export, f.Job)
		if n := len(found); n > 0 {
			if last := slices.MaxFunc(found, func(a, b raftstore.Found) int { return a.CompletedAt.Compare(b.CompletedAt) }); last.CompletedAt.After(f.PromotedAt) {
				of.Running = append(of.Running, fmt.Sprintf("job %s still runs here: %s was completed at %s, and %s promoted the job at %s; stop it here, or end the promotion there (`ckptferry failover abort %[1]s`)",
					f.Job, last.URI, at(last.CompletedAt), f.Datacenter, at(f.PromotedAt)))
			}
		}
	}
	return all
}

// Message is it as the status has it.
func (f Fenced) Message() *ckptferryv1.FencedExport {
	m := &ckptferryv1.FencedExport{Export: f.Export, Datacenter: f.Datacenter, Problems: f.Running}
	for _, j := range f.Jobs {
		m.Jobs = append(m.Jobs, raftstore.FencedJobMessage(j))
	}
	return m
}
