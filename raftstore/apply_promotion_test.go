package raftstore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// changing is a copy of a command, changed.
func changing(cmd *raftv1.Command, change func(*raftv1.Command)) *raftv1.Command {
	other := proto.CloneOf(cmd)
	change(other)
	return other
}

// twoReady are chk-4 and chk-5 of orders, READY, of a route that pulls from dc1.
func twoReady() commands {
	return commands{putRoute(routeProd()), putExport(exportProd())}.then(copied(4, fence(0, 1))...).then(copied(5, fence(0, 1))...)
}

// onRoute is a command about prod, about another route.
func onRoute(route string, cmd *raftv1.Command) *raftv1.Command {
	switch other := proto.CloneOf(cmd); op := other.GetOp().(type) {
	case *raftv1.Command_PlanReplica:
		op.PlanReplica.Key.Route = route
		return other
	case *raftv1.Command_StartCopy:
		op.StartCopy.Key.Route = route
		return other
	case *raftv1.Command_MarkReady:
		op.MarkReady.Key.Route = route
		return other
	case *raftv1.Command_PromoteJobs:
		op.PromoteJobs.Items[0].Key.Route = route
		return other
	default:
		panic(fmt.Sprintf("%T", op))
	}
}

// elsewhere has orders promoted on another route.
func elsewhere() commands {
	var there commands
	for _, cmd := range copied(4, fence(0, 1)).then(promote(NoClaim, promoteItem(4, fence(0, 1)))) {
		there = append(there, onRoute("other", cmd))
	}
	return there
}

func TestRefusedPromotionChangesNothing(t *testing.T) {
	f := fence(0, 1)
	good := promote(NoClaim, promoteItem(5, f))
	promoted := twoReady().then(good)
	of := func(change func(*raftv1.PromoteJobs)) *raftv1.Command {
		return changing(good, func(c *raftv1.Command) { change(c.GetPromoteJobs()) })
	}
	tooMany := make([]*raftv1.Promote, MaxPromote+1)
	for i := range tooMany {
		tooMany[i] = promoteItem(5, f)
		tooMany[i].Job = fmt.Sprint(i)
	}
	refused(t, map[string]refusal{
		"no items":            {twoReady(), of(func(c *raftv1.PromoteJobs) { c.Items = nil }), ErrInvalid},
		"too many items":      {twoReady(), promote(NoClaim, tooMany...), ErrInvalid},
		"no plan":             {twoReady(), of(func(c *raftv1.PromoteJobs) { c.Plan = "" }), ErrInvalid},
		"no actor":            {twoReady(), of(func(c *raftv1.PromoteJobs) { c.Actor = "" }), ErrInvalid},
		"endless reason":      {twoReady(), of(func(c *raftv1.PromoteJobs) { c.Reason = strings.Repeat("x", maxWordsBytes+1) }), ErrInvalid},
		"a job twice":         {twoReady(), promote(NoClaim, promoteItem(4, f), promoteItem(5, f)), ErrInvalid},
		"two routes":          {twoReady().then(elsewhere()[:3]...), promote(NoClaim, promoteItem(4, f), onRoute("other", good).GetPromoteJobs().Items[0]), ErrInvalid},
		"no claim mode":       {twoReady(), promote(0, promoteItem(5, f)), ErrInvalid},
		"another job's":       {twoReady(), of(func(c *raftv1.PromoteJobs) { c.Items[0].Job = "pay" }), ErrInvalid},
		"unknown replica":     {twoReady(), promote(NoClaim, promoteItem(9, f)), ErrUnknownReplica},
		"not ready":           {twoReady().then(plan(6, f)), promote(NoClaim, promoteItem(6, f)), ErrBadTransition},
		"quarantined":         {twoReady().then(quarantine(5, f)), good, ErrBadTransition},
		"older epoch":         {twoReady().then(raise(2)), good, ErrStale},
		"older attempt":       {twoReady(), promote(NoClaim, promoteItem(5, fence(0, 2))), ErrStale},
		"other replica":       {promoted, promote(NoClaim, promoteItem(4, fence(1, 1))), ErrPromoted},
		"other plan":          {promoted, of(func(c *raftv1.PromoteJobs) { c.Plan = "plan-2" }), ErrPromoted},
		"at risk":             {twoReady().then(promote(Claim, promoteItem(4, f)), endPromotions("orders")), promote(NoClaim, promoteItem(5, fence(1, 1))), ErrBadTransition},
		"after it was ended":  {promoted.then(endPromotions("orders")), good, ErrStale},
		"goes on elsewhere":   {twoReady().then(elsewhere()...), good, ErrForeignPromotion},
		"planned for it":      {promoted, plan(6, fence(1, 1)), ErrPromoted},
		"copied for it":       {twoReady().then(plan(6, f), startCopy(6, f), good), ready(6, f), ErrStale},
		"fenced copy":         {twoReady().then(plan(6, f), startCopy(6, f), good), ready(6, fence(1, 1)), ErrStale},
		"retired":             {promoted, retire(5, fence(1, 1)), ErrKept},
		"retired afterwards":  {promoted.then(endPromotions("orders")), retire(5, fence(1, 1)), ErrKept},
		"unpinned":            {promoted, pin(5, fence(1, 1), false), ErrPromoted},
		"quarantined then":    {promoted, quarantine(5, fence(1, 1)), ErrPromoted},
		"only claimed left":   {twoReady().then(promote(Claim, promoteItem(5, f))), retire(4, fence(1, 1)), ErrKept},
		"end of what is none": {twoReady(), endPromotions("orders"), ErrNotPromoted},
		"end of one too many": {promoted, endPromotions("orders", "pay"), ErrNotPromoted},
		"end of no job":       {promoted, endPromotions(), ErrInvalid},
		"end by nobody":       {promoted, changing(endPromotions("orders"), func(c *raftv1.Command) { c.GetEndPromotions().Actor = "" }), ErrInvalid},
		"fence of no export":  {commands{}, fenceJobs("dc1", fenced(1, 0)), ErrUnknownExport},
		"fence by nobody":     {twoReady(), fenceJobs("", fenced(1, 0)), ErrInvalid},
		"fence of no job":     {twoReady(), fenceJobs("dc1"), ErrInvalid},
		"fence twice":         {twoReady(), fenceJobs("dc1", fenced(1, 0), fenced(2, 0)), ErrInvalid},
		"fence in no epoch":   {twoReady(), fenceJobs("dc1", fenced(0, 0)), ErrInvalid},
		"acknowledge nothing": {promoted, acknowledge(), ErrInvalid},
	})
}

// refusal is a command that a state refuses.
type refusal struct {
	given commands
	cmd   *raftv1.Command
	want  error
}

func refused(t *testing.T, table map[string]refusal) {
	t.Helper()
	for name, tc := range table {
		t.Run(name, func(t *testing.T) {
			s := stateAfter(t, tc.given...)
			before := bytesOf(t, s)
			if err := s.apply(at(tc.cmd, 100)); !errors.Is(err, tc.want) {
				t.Fatalf("apply = %v, want %v", err, tc.want)
			}
			if bytesOf(t, s) != before {
				t.Error("the refused command changed the state")
			}
		})
	}
}

func TestPromotionFencesItsJobAlone(t *testing.T) {
	f := fence(0, 1)
	pay := func(cmd *raftv1.Command) *raftv1.Command {
		return changing(cmd, func(c *raftv1.Command) {
			if p := c.GetPlanReplica(); p != nil {
				p.Job = "pay"
			}
		})
	}
	s := stateAfter(t, twoReady().then(plan(6, f), pay(plan(7, f)), startCopy(7, f), promote(NoClaim, promoteItem(5, f)), ready(7, f))...)
	v := viewOf(s)
	p, ok := v.Promotion("prod", "orders")
	if !ok || p.State != PromotionActive || p.Epoch != 1 || p.Replica == "" || p.Actor != "ann" || p.Plan != "plan-1" || p.Forced || p.PromotedAt.IsZero() {
		t.Errorf("promotion is %+v", p)
	}
	if v.JobEpoch("prod", "orders") != 1 || v.JobEpoch("prod", "pay") != 0 || v.Epoch("prod") != 0 {
		t.Errorf("orders is at epoch %d, pay at %d, the route at %d; want 1, 0, 0", v.JobEpoch("prod", "orders"), v.JobEpoch("prod", "pay"), v.Epoch("prod"))
	}
	if r, _ := v.Replica(KeyOf(checkpointKey(7))); r.Status != StatusReady {
		t.Errorf("the other job's replica is %s, want READY", r.Status)
	}
	if r, _ := v.Replica(KeyOf(checkpointKey(5))); !r.Promoted || !r.Pinned || r.Claimed || r.AtRisk {
		t.Errorf("the promoted replica is %+v", r)
	}
	if r, _ := v.Replica(KeyOf(checkpointKey(4))); r.AtRisk || r.Pinned || !Offerable(r) {
		t.Errorf("NO_CLAIM changed another replica: %+v", r)
	}
	if log := v.Audit(0, 10); len(log) != 1 || log[0].Action != AuditPromote || log[0].Actor != "ann" || log[0].Job != "orders" || !strings.Contains(log[0].Detail, "dc1 burns") {
		t.Errorf("audit is %+v", log)
	}
	raised := stateAfter(t, twoReady().then(promote(NoClaim, promoteItem(5, f)), raise(3))...)
	if got := viewOf(raised).JobEpoch("prod", "orders"); got != 4 {
		t.Errorf("after the route's epoch was raised the job is at %d, want 4", got)
	}
}

func TestClaimPutsTheOtherReplicasAtRisk(t *testing.T) {
	f := fence(0, 1)
	s := stateAfter(t, twoReady().then(copied(6, f)...).then(plan(7, f), pin(6, f, true), promote(Claim, promoteItem(5, f)), endPromotions("orders"))...)
	v := viewOf(s)
	for id, want := range map[int64][4]bool{4: {false, false, true, false}, 5: {true, true, false, false}, 6: {false, false, true, true}, 7: {}} {
		r, _ := v.Replica(KeyOf(checkpointKey(id)))
		if got := [4]bool{r.Promoted, r.Claimed, r.AtRisk, r.Pinned}; got != want {
			t.Errorf("chk-%d promoted, claimed, at risk, pinned: %v, want %v", id, got, want)
		}
	}
	// A new replica is none of Flink's, and with it the ones at risk may go. The last one stays.
	g := fence(1, 1)
	log := twoReady().then(promote(Claim, promoteItem(5, f)), endPromotions("orders"))
	s = stateAfter(t, log.then(ofNextLife(plan(8, g)), ofNextLife(startCopy(8, g)), ofNextLife(ready(8, g)), retire(4, g))...)
	if err := s.apply(at(ofNextLife(retire(8, g)), 100)); !errors.Is(err, ErrKept) {
		t.Errorf("retire of the last replica that isn't Flink's = %v, want %v", err, ErrKept)
	}
}

func TestEndOfAPromotionTakesItsOwnPinAlone(t *testing.T) {
	f, g := fence(0, 1), fence(1, 1)
	promoteIt := promote(NoClaim, promoteItem(5, f))
	for name, tc := range map[string]struct {
		log  commands
		want bool
	}{
		"pinned by the promotion":     {twoReady().then(promoteIt, endPromotions("orders")), false},
		"pinned by hand before":       {twoReady().then(pin(5, f, true), promoteIt, endPromotions("orders")), true},
		"pinned by hand meanwhile":    {twoReady().then(promoteIt, pin(5, g, true), endPromotions("orders")), true},
		"failed back":                 {twoReady().then(promoteIt, fenceJobs("dc1", fenced(1, 500))), false},
		"unpinned by hand afterwards": {twoReady().then(pin(5, f, true), promoteIt, endPromotions("orders"), pin(5, g, false)), false},
	} {
		t.Run(name, func(t *testing.T) {
			s := stateAfter(t, tc.log...)
			if r := s.Replicas.at(KeyOf(checkpointKey(5))); r.Pinned != tc.want || !r.Promoted {
				t.Errorf("pinned %t, promoted %t; want %t, true", r.Pinned, r.Promoted, tc.want)
			}
			if err := s.check(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestForcedPromotionIsRecordedAsForced(t *testing.T) {
	forced := changing(promote(NoClaim, promoteItem(5, fence(0, 1))), func(c *raftv1.Command) { c.GetPromoteJobs().Force = true })
	v := viewOf(stateAfter(t, twoReady().then(elsewhere()...).then(forced)...))
	if p, _ := v.Promotion("prod", "orders"); !p.Forced || p.State != PromotionActive {
		t.Errorf("promotion is %+v", p)
	}
	if log := v.Audit(0, 1); log[0].Action != AuditForce || log[0].Route != "prod" {
		t.Errorf("audit is %+v", log)
	}
	if n := len(slices.Collect(v.Promotions())); n != 2 {
		t.Errorf("%d promotions, want both", n)
	}
	// Force that nothing speaks against is none.
	if p, _ := viewOf(stateAfter(t, twoReady().then(forced)...)).Promotion("prod", "orders"); p.Forced {
		t.Error("a promotion that nothing spoke against is forced")
	}
}

func TestFences(t *testing.T) {
	f := fence(0, 1)
	// The promotion here is at second 10.
	promoted := func() State {
		s := stateAfter(t, twoReady()...)
		if err := s.apply(at(promote(NoClaim, promoteItem(5, f)), 10)); err != nil {
			t.Fatal(err)
		}
		return s
	}
	lifted := func(j *ckptferryv1.FencedJob) *ckptferryv1.FencedJob { j.Lifted = true; return j }
	for name, tc := range map[string]struct {
		log        commands
		lifted     bool
		epoch      uint64
		state      PromotionState
		failedBack int
	}{
		"a later promotion there ends ours":          {commands{fenceJobs("dc1", fenced(3, 20))}, false, 3, PromotionFailedBack, 1},
		"told twice":                                 {commands{fenceJobs("dc1", fenced(3, 20)), fenceJobs("dc1", fenced(3, 20))}, false, 3, PromotionFailedBack, 1},
		"an earlier one there is answered by ours":   {commands{fenceJobs("dc1", fenced(3, 5))}, true, 3, PromotionActive, 0},
		"but clocks don't count once they know ours": {commands{acknowledge(fenced(1, 10)), fenceJobs("dc1", fenced(3, 5))}, false, 3, PromotionFailedBack, 1},
		"another datacenter's":                       {commands{fenceJobs("dc9", fenced(3, 20))}, false, 0, PromotionActive, 0},
		"over already":                               {commands{fenceJobs("dc1", lifted(fenced(3, 20)))}, true, 3, PromotionActive, 0},
		"an older one comes late":                    {commands{fenceJobs("dc1", lifted(fenced(3, 20))), fenceJobs("dc1", fenced(2, 30))}, true, 3, PromotionActive, 0},
		"over, and then told again as it was":        {commands{fenceJobs("dc1", lifted(fenced(3, 20))), fenceJobs("dc1", fenced(3, 20))}, true, 3, PromotionActive, 0},
		"over later":                                 {commands{fenceJobs("dc1", fenced(3, 20)), fenceJobs("dc1", lifted(fenced(3, 20)))}, true, 3, PromotionFailedBack, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := promoted()
			for i, cmd := range tc.log {
				if err := s.apply(at(cmd, int64(30+i))); err != nil {
					t.Fatal(err)
				}
			}
			v := viewOf(s)
			fence, _ := v.Fence("prod", "dc1", "orders")
			p, _ := v.Promotion("prod", "orders")
			if fence.Lifted != tc.lifted || fence.Epoch != tc.epoch || p.State != tc.state {
				t.Errorf("fence %+v, promotion %s; want lifted %t in epoch %d, %s", fence, p.State, tc.lifted, tc.epoch, tc.state)
			}
			if n := len(v.Audit(0, 10)) - 1; n != tc.failedBack {
				t.Errorf("%d times failed back, want %d", n, tc.failedBack)
			}
			if err := s.check(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFailbackLiftsTheFenceThatItAnswers(t *testing.T) {
	s := stateAfter(t, twoReady().then(fenceJobs("dc1", fenced(1, -1000)), promote(NoClaim, promoteItem(5, fence(0, 1))), fenceJobs("dc3", fenced(1, 0)))...)
	v := viewOf(s)
	var standing []string
	for f := range v.Fences() {
		if !f.Lifted {
			standing = append(standing, f.Datacenter)
		}
	}
	if !slices.Equal(standing, []string{"dc3"}) {
		t.Errorf("fences of %v stand, want dc3's alone: the route pulls from dc1", standing)
	}
	if p, _ := v.Promotion("prod", "orders"); p.State != PromotionActive || p.Forced {
		t.Errorf("promotion is %+v", p)
	}
	// What the target says again, late, neither fences nor fails back.
	if err := s.apply(at(fenceJobs("dc1", fenced(1, -1000)), 200)); err != nil {
		t.Fatal(err)
	}
	if f, _ := viewOf(s).Fence("prod", "dc1", "orders"); !f.Lifted {
		t.Error("a fence that was answered stands again")
	}
}

func TestAcknowledgedFenceIsThatOfThePromotion(t *testing.T) {
	log := twoReady().then(promote(NoClaim, promoteItem(5, fence(0, 1))), acknowledge(fenced(7, 0)))
	if p, _ := viewOf(stateAfter(t, log...)).Promotion("prod", "orders"); !p.FenceAcknowledgedAt.IsZero() {
		t.Error("the fence of another epoch counts")
	}
	s := stateAfter(t, log.then(acknowledge(fenced(1, 0)))...)
	first, _ := viewOf(s).Promotion("prod", "orders")
	if err := s.apply(at(acknowledge(fenced(1, 0)), 900)); err != nil {
		t.Fatal(err)
	}
	if p, _ := viewOf(s).Promotion("prod", "orders"); p.FenceAcknowledgedAt.IsZero() || !p.FenceAcknowledgedAt.Equal(first.FenceAcknowledgedAt) {
		t.Errorf("acknowledged at %s, and first at %s", p.FenceAcknowledgedAt, first.FenceAcknowledgedAt)
	}
}

func TestARaisedEpochIsThatOfWhatIsToldOfItsRoute(t *testing.T) {
	active := twoReady().then(promote(NoClaim, promoteItem(5, fence(0, 1))), acknowledge(fenced(1, 0)))
	aborted := active.then(endPromotions("orders"))
	for name, c := range map[string]struct {
		log          commands
		epoch        uint64
		acknowledged bool
	}{
		"ACTIVE":                       {active.then(raise(3)), 4, false},
		"twice":                        {active.then(raise(3), acknowledge(fenced(4, 0)), raise(3)), 4, true},
		"again, higher":                {active.then(raise(3), acknowledge(fenced(4, 0)), raise(5)), 6, false},
		"acknowledged late":            {active.then(raise(3), acknowledge(fenced(1, 0))), 4, false},
		"ended by hand":                {aborted.then(raise(3)), 4, true},
		"failed back":                  {active.then(fenceJobs("dc1", fenced(1, 1000)), raise(3)), 1, true},
		"of another route":             {active.then(&raftv1.Command{Op: &raftv1.Command_RaiseEpoch{RaiseEpoch: &raftv1.RaiseEpoch{Route: "a", Epoch: 3}}}), 1, true},
		"promoted again after a raise": {aborted.then(raise(3), promote(NoClaim, promoteItem(5, fence(4, 1)))), 5, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := stateAfter(t, c.log...)
			p, _ := viewOf(s).Promotion("prod", "orders")
			if p.Epoch != c.epoch || p.FenceAcknowledgedAt.IsZero() == c.acknowledged {
				t.Errorf("promotion in epoch %d, acknowledged at %s; want %d, %t", p.Epoch, p.FenceAcknowledgedAt, c.epoch, c.acknowledged)
			}
			if err := s.check(); err != nil {
				t.Error(err)
			}
		})
	}
}

// tenThousandPromotions are jobs with one READY replica each, and the commands that promote them all.
func tenThousandPromotions(jobs int) (State, []*raftv1.Command) {
	s := newState()
	must := func(cmd *raftv1.Command) {
		if err := s.apply(at(cmd, 0)); err != nil {
			panic(err)
		}
	}
	must(putRoute(routeProd()))
	var cmds []*raftv1.Command
	var items []*raftv1.Promote
	for i := range jobs {
		key := checkpointKey(4)
		key.JobId = fmt.Sprintf("%032x", i)
		p, start, done := plan(4, fence(0, 1)), startCopy(4, fence(0, 1)), ready(4, fence(0, 1))
		p.GetPlanReplica().Key, p.GetPlanReplica().Job = key, fmt.Sprintf("job-%0100d", i)
		start.GetStartCopy().Key, done.GetMarkReady().Key = key, key
		must(p)
		must(start)
		must(done)
		items = append(items, &raftv1.Promote{Key: key, Fence: fence(0, 1), Job: p.GetPlanReplica().GetJob()})
		if len(items) == MaxPromote || i == jobs-1 {
			cmds, items = append(cmds, at(promote(Claim, items...), 1)), nil
		}
	}
	return s, cmds
}

func TestTenThousandJobsArePromotedInFiftyCommands(t *testing.T) {
	s, cmds := tenThousandPromotions(10_000)
	for _, cmd := range cmds {
		if size := proto.Size(cmd); size > maxCommandBytes {
			t.Fatalf("a command takes %d bytes, at most %d", size, maxCommandBytes)
		}
		if err := s.apply(cmd); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(slices.Collect(viewOf(s).Promotions())); len(cmds) != 50 || n != 10_000 || s.lastAudit() != 10_000 {
		t.Errorf("%d commands made %d promotions and %d audit records", len(cmds), n, s.lastAudit())
	}
	if err := s.check(); err != nil {
		t.Error(err)
	}
}

func TestPromotionCostsTheSameHoweverManyJobsThereAre(t *testing.T) {
	cost := func(jobs int) float64 {
		s, cmds := tenThousandPromotions(jobs)
		return testing.AllocsPerRun(5, func() {
			fresh := s
			if err := fresh.apply(cmds[0]); err != nil {
				t.Fatal(err)
			}
		})
	}
	if small, large := cost(MaxPromote), cost(20*MaxPromote); large > 2*small {
		t.Errorf("promoting %d jobs takes %.0f allocations of %d jobs, and %.0f of %d", MaxPromote, small, MaxPromote, large, 20*MaxPromote)
	}
}

func TestLongestPromotionFitsIntoACommand(t *testing.T) {
	long := promote(Claim)
	for i := range MaxPromote {
		key := checkpointKey(1 << 62)
		key.Route = strings.Repeat("r", maxNameBytes)
		long.GetPromoteJobs().Items = append(long.GetPromoteJobs().Items, &raftv1.Promote{Key: key, Fence: fence(1<<60, 1<<60), ClaimMode: 2, Job: fmt.Sprintf("%0*d", maxJobBytes, i)})
	}
	fences := fenceJobs("dc1")
	for i := range MaxFenced {
		j := fenced(1<<60, 0)
		j.Job = fmt.Sprintf("%0*d", maxJobBytes, i)
		fences.GetFenceJobs().Jobs = append(fences.GetFenceJobs().Jobs, j)
	}
	for _, cmd := range []*raftv1.Command{long, fences} {
		if size := proto.Size(cmd); size > maxCommandBytes-8<<10 {
			t.Errorf("%T takes %d bytes, and at most %d fit", cmd.GetOp(), size, maxCommandBytes)
		}
	}
}

func BenchmarkPromoteTenThousandJobs(b *testing.B) {
	s, cmds := tenThousandPromotions(10_000)
	b.ResetTimer()
	for range b.N {
		fresh := s
		for _, cmd := range cmds {
			if err := fresh.apply(cmd); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// What another datacenter has promoted goes on there: only what it has made of the job since, or force, starts it here.
func TestWhatIsPromotedElsewhereNeedsForce(t *testing.T) {
	over := fenced(1, 1000)
	over.Lifted = true
	for what, tc := range map[string]struct {
		fence *raftv1.Command
		want  error
	}{
		"by the source, and the replica is of the time since": {fenceJobs("dc1", fenced(1, -1000)), nil},
		"by the source, after the replica was completed":      {fenceJobs("dc1", fenced(1, 1000)), ErrForeignPromotion},
		"by somebody else":                   {fenceJobs("dc3", fenced(1, -1000)), ErrForeignPromotion},
		"by somebody else, and that is over": {fenceJobs("dc3", over), nil},
	} {
		t.Run(what, func(t *testing.T) {
			s := stateAfter(t, twoReady().then(tc.fence)...)
			c := promote(NoClaim, promoteItem(5, fence(0, 1)))
			if err := s.apply(at(c, 100)); !errors.Is(err, tc.want) {
				t.Fatalf("promoted: %v, want %v", err, tc.want)
			}
			if tc.want == nil {
				return
			}
			c.GetPromoteJobs().Force = true
			if err := s.apply(at(c, 100)); err != nil {
				t.Fatal(err)
			}
			if p, _ := viewOf(s).Promotion("prod", "orders"); !p.Forced || viewOf(s).Audit(0, 1)[0].Action != AuditForce {
				t.Errorf("forced, and the promotion is %+v", p)
			}
		})
	}
}
