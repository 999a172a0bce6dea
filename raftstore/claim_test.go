package raftstore

import (
	"strings"
	"testing"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

const nextJobID = "0c0ffee0b9d04a1f8d8a1d3a7a1b2c3d"

// withJobID is a command about a replica, about one of another JobID.
func withJobID(id string, cmd *raftv1.Command) *raftv1.Command {
	return changing(cmd, func(c *raftv1.Command) {
		switch op := c.GetOp().(type) {
		case *raftv1.Command_PlanReplica:
			op.PlanReplica.Key.JobId = id
		case *raftv1.Command_StartCopy:
			op.StartCopy.Key.JobId = id
		case *raftv1.Command_MarkReady:
			op.MarkReady.Key.JobId = id
		case *raftv1.Command_RetireReplica:
			op.RetireReplica.Key.JobId = id
		case *raftv1.Command_PromoteJobs:
			op.PromoteJobs.Items[0].Key.JobId = id
		default:
			panic(c)
		}
	})
}

// ofNextLife is a command about a replica of the job after it was started anew.
func ofNextLife(cmd *raftv1.Command) *raftv1.Command { return withJobID(nextJobID, cmd) }

func TestWhatBecomesReadyBesideAClaimedReplicaIsAtRisk(t *testing.T) {
	f, g := fence(0, 1), fence(1, 1)
	claimed := twoReady().then(promote(Claim, promoteItem(5, f)))
	sixth := commands{plan(6, g), startCopy(6, g), ready(6, g)}
	as := func(id string, savepoint bool, cmds ...*raftv1.Command) commands {
		var all commands
		for _, cmd := range cmds {
			cmd = withJobID(id, cmd)
			if p := cmd.GetPlanReplica(); p != nil && savepoint {
				p.Kind = ckptferryv1.CheckpointKind_CHECKPOINT_KIND_SAVEPOINT
			}
			all = append(all, cmd)
		}
		return all
	}
	alone := func(savepoint bool) commands { // chk-5 without a JobID, claimed
		return commands{putRoute(routeProd()), putExport(exportProd())}.then(as("", savepoint, copied(5, f)...)...).
			then(withJobID("", promote(Claim, promoteItem(5, f))), endPromotions("orders"))
	}
	for name, tc := range map[string]struct {
		log  commands
		id   string
		want bool
	}{
		"after an abort":                {claimed.then(endPromotions("orders")).then(sixth...), testJob, true},
		"after a failback":              {claimed.then(fenceJobs("dc1", fenced(1, 500))).then(sixth...), testJob, true},
		"of a new JobID":                {claimed.then(endPromotions("orders")).then(as(nextJobID, false, sixth...)...), nextJobID, false},
		"after NO_CLAIM":                {twoReady().then(promote(NoClaim, promoteItem(5, f)), endPromotions("orders")).then(sixth...), testJob, false},
		"no JobID, one directory":       {alone(false).then(as("", false, sixth...)...), "", true},
		"no JobID, savepoints":          {alone(true).then(as("", true, sixth...)...), "", false},
		"no JobID, beside one that has": {claimed.then(endPromotions("orders")).then(as("", false, sixth...)...), "", false},
		"of a new JobID, but it borrowed": {claimed.then(endPromotions("orders")).then(as(nextJobID, false, sixth[0], sixth[1], changing(ready(6, g), func(c *raftv1.Command) {
			c.GetMarkReady().AtRisk, c.GetMarkReady().Warnings = true, []string{"CLAIM: the marks on the storage say so"}
		}))...), nextJobID, true},
		"made again after it was retired": {claimed.then(endPromotions("orders")).then(sixth...).then(quarantine(6, g), plan(6, fence(1, 2)), startCopy(6, fence(1, 2)), ready(6, fence(1, 2))), testJob, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := stateAfter(t, tc.log...)
			key := KeyOf(checkpointKey(6))
			key.JobID = JobID(tc.id)
			r := s.Replicas.at(key)
			if r.Status != StatusReady || r.AtRisk != tc.want || Offerable(r) == tc.want {
				t.Errorf("chk-6 is %s, at risk: %t, offered: %t; want it at risk: %t", r.Status, r.AtRisk, Offerable(r), tc.want)
			}
			if said := strings.Contains(strings.Join(r.Warnings, "\n"), "CLAIM"); said != tc.want {
				t.Errorf("its warnings are %q", r.Warnings)
			}
			if err := s.check(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A state that offers what Flink may break is damaged, however it came about.
func TestOfferBesideAClaimedReplicaIsNoState(t *testing.T) {
	s := stateAfter(t, twoReady().then(promote(Claim, promoteItem(5, fence(0, 1))), endPromotions("orders"))...)
	r := s.Replicas.at(KeyOf(checkpointKey(4)))
	r.AtRisk = false
	s.put(r)
	if err := s.check(); err == nil {
		t.Error("check found nothing")
	}
}

func TestRecoveredClaimEndangersTheOthers(t *testing.T) {
	claim := func(cmd *raftv1.Command, id int64) *raftv1.Command {
		return changing(cmd, func(c *raftv1.Command) {
			for _, r := range c.GetRecoverReplicas().GetReplicas() {
				if r.GetKey().GetCheckpointId() == id {
					r.Promoted, r.Claimed = true, true
				}
			}
		})
	}
	f, g := fence(0, 1), fence(1, 1)
	for name, tc := range map[string]struct {
		log  commands
		want map[int64]bool // at risk
	}{
		"the claimed one last":        {commands{claim(recovered(4, 5, 6), 6)}, map[int64]bool{4: true, 5: true, 6: false}},
		"the claimed one first":       {commands{claim(recovered(6, 4, 5), 6)}, map[int64]bool{4: true, 5: true, 6: false}},
		"in another command":          {commands{recovered(4), claim(recovered(6), 6), recovered(5)}, map[int64]bool{4: true, 5: true, 6: false}},
		"beside what was copied":      {copied(4, f).then(claim(recovered(6), 6)), map[int64]bool{4: true, 6: false}},
		"beside what goes on here":    {copied(4, f).then(promote(NoClaim, promoteItem(4, f)), claim(recovered(6), 6), recovered(5)), map[int64]bool{4: false, 5: true, 6: false}},
		"beside two that are claimed": {commands{claim(claim(recovered(4, 5, 6), 6), 5)}, map[int64]bool{4: true, 5: false, 6: false}},
		"and then one is copied":      {commands{claim(recovered(6), 6)}.then(copied(7, f)...), map[int64]bool{6: false, 7: true}},
		"no harm to a new life": {
			twoReady().then(promote(Claim, promoteItem(5, f)), endPromotions("orders"), ofNextLife(plan(8, g)), ofNextLife(startCopy(8, g)), ofNextLife(ready(8, g)), recovered(6)),
			map[int64]bool{4: true, 5: false, 6: true, -8: false},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := stateAfter(t, tc.log...)
			for id, want := range tc.want {
				key := KeyOf(checkpointKey(id))
				if id < 0 {
					key = KeyOf(checkpointKey(-id))
					key.JobID = nextJobID
				}
				if r := s.Replicas.at(key); r.Status != StatusReady || r.AtRisk != want {
					t.Errorf("chk-%d is %s, at risk: %t; want %t", id, r.Status, r.AtRisk, want)
				}
			}
			if err := s.check(); err != nil {
				t.Error(err)
			}
		})
	}
}
