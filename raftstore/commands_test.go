package raftstore

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// The commands that come after a replica is READY, about checkpoint id, job orders, route prod.

func promoteItem(id int64, f *raftv1.Fence) *raftv1.Promote {
	return &raftv1.Promote{Key: checkpointKey(id), Fence: f, Job: "orders"}
}

func promote(mode ClaimMode, items ...*raftv1.Promote) *raftv1.Command {
	for _, item := range items {
		item.ClaimMode = ckptferryv1.ClaimMode(mode)
	}
	return &raftv1.Command{Op: &raftv1.Command_PromoteJobs{PromoteJobs: &raftv1.PromoteJobs{
		Plan: "plan-1", Items: items, Actor: "ann", Reason: "dc1 burns",
	}}}
}

func endPromotions(jobs ...string) *raftv1.Command {
	return &raftv1.Command{Op: &raftv1.Command_EndPromotions{EndPromotions: &raftv1.EndPromotions{Route: "prod", Jobs: jobs, Actor: "bob", Reason: "a drill"}}}
}

func fenceJobs(datacenter string, jobs ...*ckptferryv1.FencedJob) *raftv1.Command {
	return &raftv1.Command{Op: &raftv1.Command_FenceJobs{FenceJobs: &raftv1.FenceJobs{Export: "prod", Datacenter: datacenter, Jobs: jobs}}}
}

// fenced says that orders was promoted in that epoch, at second s.
func fenced(epoch uint64, s int64) *ckptferryv1.FencedJob {
	return &ckptferryv1.FencedJob{Job: "orders", Epoch: epoch, PromotedTime: timestamppb.New(moment(s))}
}

func acknowledge(jobs ...*ckptferryv1.FencedJob) *raftv1.Command {
	return &raftv1.Command{Op: &raftv1.Command_AcknowledgeFences{AcknowledgeFences: &raftv1.AcknowledgeFences{Route: "prod", Jobs: jobs}}}
}

func quarantine(id int64, f *raftv1.Fence) *raftv1.Command {
	return &raftv1.Command{Op: &raftv1.Command_QuarantineReplica{QuarantineReplica: &raftv1.QuarantineReplica{
		Key: checkpointKey(id), Fence: f, Reason: "shared/a: CRC32C is 1, want 2",
	}}}
}

func scrub(id int64, f *raftv1.Fence) *raftv1.Command {
	return &raftv1.Command{Op: &raftv1.Command_RecordScrub{RecordScrub: &raftv1.RecordScrub{Key: checkpointKey(id), Fence: f}}}
}

func drill(id int64, passed bool, began int64) *raftv1.Command {
	return &raftv1.Command{Op: &raftv1.Command_RecordDrill{RecordDrill: &raftv1.RecordDrill{Drill: DrillMessage(Drill{
		Key: KeyOf(checkpointKey(id)), Job: "orders", Level: 2, Passed: passed, StartedAt: moment(began),
		RPO: time.Minute, RTO: 30 * time.Second, Actor: "ann", Detail: "as expected",
	})}}}
}

func assign(id int64, f *raftv1.Fence, agents ...string) *raftv1.Command {
	return &raftv1.Command{Op: &raftv1.Command_AssignShards{AssignShards: &raftv1.AssignShards{Key: checkpointKey(id), Fence: f, Agents: agents}}}
}

func endShard(id int64, f *raftv1.Fence, agent string, done bool) *raftv1.Command {
	return &raftv1.Command{Op: &raftv1.Command_EndShard{EndShard: &raftv1.EndShard{Key: checkpointKey(id), Fence: f, Agent: agent, Done: done}}}
}

func putMigration(name string, state MigrationState) *raftv1.Command {
	return &raftv1.Command{Op: &raftv1.Command_PutMigration{PutMigration: &raftv1.PutMigration{Migration: MigrationMessage(Migration{
		Name: name, Route: "prod", State: state, MaxCutover: time.Minute, Actor: "ann",
	})}}}
}

func putMigrationJobs(name string, jobs ...MigrationJob) *raftv1.Command {
	c := &raftv1.PutMigrationJobs{Migration: name}
	for _, j := range jobs {
		c.Jobs = append(c.Jobs, MigrationJobMessage(j))
	}
	return &raftv1.Command{Op: &raftv1.Command_PutMigrationJobs{PutMigrationJobs: c}}
}

func migrationJob(job string, state MigrationJobState) MigrationJob {
	return MigrationJob{Job: job, State: state, StopMode: StopSavepoint, JobManager: "http://jm:8081", Problem: "none"}
}

func sweep(begins bool) *raftv1.Command {
	if begins {
		return &raftv1.Command{Op: &raftv1.Command_BeginSweep{BeginSweep: &raftv1.BeginSweep{Route: "prod"}}}
	}
	return &raftv1.Command{Op: &raftv1.Command_EndSweep{EndSweep: &raftv1.EndSweep{Route: "prod"}}}
}

// recovered is checkpoint id as the storage knows it.
func recovered(ids ...int64) *raftv1.Command {
	c := &raftv1.RecoverReplicas{}
	for _, id := range ids {
		c.Replicas = append(c.Replicas, ReplicaMessage(Replica{
			Key: KeyOf(checkpointKey(id)), Job: "orders", Status: StatusReady, URI: "hdfs://dc2/flink/replicas/prod/" + testJob, ManifestCRC: 7,
			Files: 3, Bytes: 4096, CompletedAt: moment(-60), ReadyAt: moment(-1), PlannedAt: moment(-2),
		}))
	}
	return &raftv1.Command{Op: &raftv1.Command_RecoverReplicas{RecoverReplicas: c}}
}

func audited(action string) *raftv1.Command {
	return &raftv1.Command{Op: &raftv1.Command_RecordAudit{RecordAudit: &raftv1.RecordAudit{
		Record: AuditMessage(AuditRecord{Actor: "ann", Action: action, Route: "prod", Job: "orders", Detail: "by hand"}),
	}}}
}

func removeExport(name string) *raftv1.Command {
	return &raftv1.Command{Op: &raftv1.Command_RemoveExport{RemoveExport: &raftv1.RemoveExport{Export: name}}}
}

func removeRoute(name string) *raftv1.Command {
	return &raftv1.Command{Op: &raftv1.Command_RemoveRoute{RemoveRoute: &raftv1.RemoveRoute{Route: name}}}
}
