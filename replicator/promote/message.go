package promote

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// Message is an item as the API has it.
func (i Item) Message() *ckptferryv1.FailoverItem {
	m := &ckptferryv1.FailoverItem{
		Route: i.Route, Job: i.Job, Priority: i.Priority, Replica: i.Replica, Epoch: i.Epoch, Attempt: i.Attempt,
		CompletedTime: timeMessage(i.CompletedAt), LostCheckpoints: i.Lost, SourceCheckpointId: i.SourceCheckpoint,
		ClaimMode: ckptferryv1.ClaimMode(i.Mode), Warnings: i.Warnings, Blocked: i.Blocked, Forcible: i.Forcible, Promoted: i.Promoted,
	}
	if i.RPO != nil {
		m.Rpo = durationpb.New(*i.RPO)
	}
	if i.Newest.Route != "" {
		m.Newest = raftstore.KeyMessage(i.Newest)
	}
	if i.Has() {
		m.Key, m.FileCount, m.TotalBytes = raftstore.KeyMessage(i.Key), proto.Int64(i.Files), proto.Int64(i.Bytes)
		m.Start = startMessage(i.Start)
	}
	return m
}

// ItemOf reads what Message wrote, as far as a run needs it: not the start line.
func ItemOf(m *ckptferryv1.FailoverItem) Item {
	i := Item{
		Route: m.GetRoute(), Job: m.GetJob(), Priority: m.GetPriority(), Replica: m.GetReplica(), Epoch: m.GetEpoch(), Attempt: m.GetAttempt(),
		Lost: slices.Clone(m.GetLostCheckpoints()), SourceCheckpoint: m.SourceCheckpointId, Mode: raftstore.ClaimMode(m.GetClaimMode()),
		Warnings: slices.Clone(m.GetWarnings()), Blocked: m.GetBlocked(), Forcible: m.GetForcible(), Promoted: m.GetPromoted(),
		Files: m.GetFileCount(), Bytes: m.GetTotalBytes(), Key: raftstore.KeyOf(m.GetKey()), Newest: raftstore.KeyOf(m.GetNewest()),
	}
	if t := m.GetCompletedTime(); t.IsValid() {
		i.CompletedAt = t.AsTime()
	}
	if d := m.GetRpo(); d.IsValid() {
		age := d.AsDuration()
		i.RPO = &age
	}
	return i
}

func startMessage(l replicator.StartLine) *ckptferryv1.StartCommands {
	return &ckptferryv1.StartCommands{FlinkVersion: l.Flink, Run: l.Run, Sql: l.SQL, DeploymentPatch: l.DeploymentPatch, StateSnapshot: l.StateSnapshot}
}

func timeMessage(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
