package explain

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func lag(state ckptferryv1.LagState, reason string) *ckptferryv1.JobLag {
	l := &ckptferryv1.JobLag{Route: "prod", Job: "orders", State: state, Reason: reason, CheckpointLag: proto.Int64(1), BytesLag: proto.Int64(2 << 30), SourceCheckpointId: proto.Int64(12)}
	if state != ckptferryv1.LagState_LAG_STATE_NO_REPLICA {
		l.ReadyCheckpointId, l.Replica, l.Rpo, l.TimeLag = proto.Int64(11), "hdfs://dc2/r/chk-11", durationpb.New(95*time.Second), durationpb.New(30*time.Second)
	}
	return l
}

func replica(id int64, status ckptferryv1.ReplicaStatus, reason string) *ckptferryv1.Replica {
	return &ckptferryv1.Replica{Key: &ckptferryv1.CheckpointKey{Route: "prod", CheckpointId: id}, Job: "orders", Status: status, Reason: reason, PlannedTime: timestamppb.New(now.Add(-time.Minute))}
}

func transfer(done int64) *ckptferryv1.Transfer {
	return &ckptferryv1.Transfer{Route: "prod", Job: "orders", CheckpointId: 12, Phase: "copy", FilesDone: proto.Int64(3), FileCount: proto.Int64(5),
		BytesDone: proto.Int64(done), TotalBytes: proto.Int64(4 << 20), StartedTime: timestamppb.New(now.Add(-20 * time.Second))}
}

const (
	ready      = ckptferryv1.ReplicaStatus_REPLICA_STATUS_READY
	failed     = ckptferryv1.ReplicaStatus_REPLICA_STATUS_FAILED
	superseded = ckptferryv1.ReplicaStatus_REPLICA_STATUS_SUPERSEDED
)

func TestAParagraphSaysHowAJobIsWhyAndWhatToDo(t *testing.T) {
	for name, tc := range map[string]struct {
		job  Job
		want string
	}{
		"caught up": {
			Job{Lag: lag(ckptferryv1.LagState_LAG_STATE_CAUGHT_UP, "")},
			"orders (route prod) is caught up: chk-11, the newest checkpoint known at the source, is READY at hdfs://dc2/r/chk-11, and it is 1m35s old. There is nothing to do.",
		},
		"gone at the source": {
			Job{Lag: lag(ckptferryv1.LagState_LAG_STATE_CAUGHT_UP, ""), Gone: &ckptferryv1.GoneJob{Job: "orders", KnownTime: timestamppb.New(time.Unix(1e9, 0))},
				Replicas: []*ckptferryv1.Replica{replica(11, ready, ""), replica(10, superseded, "x"), replica(9, ready, "")}},
			"orders (route prod) is caught up: chk-11, the newest checkpoint known at the source, is READY at hdfs://dc2/r/chk-11, and it is 1m35s old. " +
				"Its checkpoints are gone at the source, known since 2001-09-09T01:46:40Z: Flink deletes them when a job finishes or is cancelled, or somebody removed its directory. 2 READY replicas kept here. There is nothing to do.",
		},
		"behind, and copied": {
			Job{Lag: lag(ckptferryv1.LagState_LAG_STATE_BEHIND, "chk-12 (2.0 GiB) has been copied for 20s, attempt 1"), Transfers: []*ckptferryv1.Transfer{transfer(1 << 20)}},
			"orders (route prod) is behind by 30s, 1 checkpoint and up to 2.0 GiB: chk-11 is the newest that is READY here, at hdfs://dc2/r/chk-11, and its checkpoint is 1m35s old, while chk-12 is the newest at the source. " +
				"chk-12 has been copied for 20s (copy): 3 of 5 files, 1.0 MiB of 4.0 MiB, about 1m0s left. There is nothing to do but wait: `ckptferry replica wait --ready orders` does.",
		},
		"failed once, and the agent tells it": {
			Job{Lag: lag(ckptferryv1.LagState_LAG_STATE_NO_REPLICA, "chk-12 failed, attempt 3: no room at the target. It is tried again by itself"), Replicas: []*ckptferryv1.Replica{replica(12, failed, "no room at the target")}},
			"orders (route prod) has no READY replica: nothing of it could be restored here. chk-12 failed, attempt 3: no room at the target. It is tried again by itself. " +
				"`ckptferry status` at the leader shows what it is doing, `ckptferry replica list orders` every attempt.",
		},
		"failed before, and a newer one is copied": {
			Job{Lag: lag(ckptferryv1.LagState_LAG_STATE_NO_REPLICA, "x"), Transfers: []*ckptferryv1.Transfer{transfer(0)}, Replicas: []*ckptferryv1.Replica{
				replica(12, ckptferryv1.ReplicaStatus_REPLICA_STATUS_COPYING, ""), replica(11, failed, "permission denied.")}},
			"orders (route prod) has no READY replica: nothing of it could be restored here. chk-12 has been copied for 20s (copy): 3 of 5 files, 0 B of 4.0 MiB. " +
				"chk-11 failed, planned at 2026-11-21T11:59:00Z: permission denied. There is nothing to do but wait: `ckptferry replica wait --ready orders` does.",
		},
		"deleted by Flink again and again": {
			Job{Lag: lag(ckptferryv1.LagState_LAG_STATE_BEHIND, "chk-14 waits for its turn"), Replicas: []*ckptferryv1.Replica{
				replica(13, superseded, "gone"), replica(12, superseded, "gone"), replica(11, ready, ""), replica(10, failed, "long ago")}},
			"orders (route prod) is behind by 30s, 1 checkpoint and up to 2.0 GiB: chk-11 is the newest that is READY here, at hdfs://dc2/r/chk-11, and its checkpoint is 1m35s old, while chk-12 is the newest at the source. " +
				"chk-14 waits for its turn. 2 checkpoints that are newer than the newest READY one were given up, since Flink deleted them before they were copied: raise Flink's state.checkpoints.num-retained, or the interval between checkpoints. " +
				"`ckptferry status` at the leader shows what it is doing, `ckptferry replica list orders` every attempt.",
		},
		"the source is silent": {
			Job{Lag: lag(ckptferryv1.LagState_LAG_STATE_SOURCE_SILENT, "source dc1 has not been heard of for 5m0s"), Problem: "watch export prod of dc1: connection refused"},
			"Nobody knows how far orders (route prod) is behind, since its source is silent: chk-11 is the newest that is READY here, at hdfs://dc2/r/chk-11, and its checkpoint is 1m35s old. " +
				"Source dc1 has not been heard of for 5m0s. The leader says of route prod: watch export prod of dc1: connection refused. " +
				"Ask `ckptferry status` in the source's datacenter; if that is lost, `ckptferry failover plan orders` says what the job goes on from here.",
		},
		"an old answer, and a state of a newer version": {
			Job{Lag: lag(99, "y"), Stale: true},
			"orders (route prod) is in state 99, which this version of ckptferry does not know. Y. The agent that answered knows no leader of its group: all of this may be old, and nothing is copied until there is one. " +
				"`ckptferry status` at the leader shows what it is doing, `ckptferry replica list orders` every attempt.",
		},
	} {
		tc.job.Now = now
		if got := tc.job.Paragraph(); got != tc.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, tc.want)
		}
	}
}
