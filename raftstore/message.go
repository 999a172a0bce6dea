package raftstore

import (
	"slices"

	"google.golang.org/protobuf/proto"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// The conversions between the state's types and the public messages. They lose nothing and check nothing: Valid does.

// ExportMessage is an export as a message.
func ExportMessage(e Export) *ckptferryv1.Export {
	return &ckptferryv1.Export{
		Name: e.Name, Bases: slices.Clone(e.Bases), AlsoReadable: slices.Clone(e.AlsoReadable), To: slices.Clone(e.To),
	}
}

// ExportOf reads an export; nil is the zero Export.
func ExportOf(m *ckptferryv1.Export) Export {
	return Export{
		Name: m.GetName(), Bases: slices.Clone(m.GetBases()), AlsoReadable: slices.Clone(m.GetAlsoReadable()), To: slices.Clone(m.GetTo()),
	}
}

// RouteMessage is a route as a message.
func RouteMessage(r Route) *ckptferryv1.Route {
	return &ckptferryv1.Route{
		Name: r.Name, FromDatacenter: r.FromDC, FromExport: r.FromExport, Root: r.Root,
		Include: slices.Clone(r.Include), Exclude: slices.Clone(r.Exclude), Mode: ckptferryv1.RouteMode(r.Mode),
		Keep: r.Keep, Priority: r.Priority, RelativePaths: r.Relative, Epoch: r.Epoch,
		BytesPerSecond: r.BytesPerSecond,
		KeepFor:        duration(r.KeepFor), KeepDaily: r.KeepDaily, KeepSavepoints: r.KeepSavepoints, Grace: duration(r.Grace),
	}
}

// RouteOf reads a route; nil is the zero Route.
func RouteOf(m *ckptferryv1.Route) Route {
	return Route{
		Name: m.GetName(), FromDC: m.GetFromDatacenter(), FromExport: m.GetFromExport(), Root: m.GetRoot(),
		Include: slices.Clone(m.GetInclude()), Exclude: slices.Clone(m.GetExclude()), Mode: RouteMode(m.GetMode()),
		Keep: m.GetKeep(), Priority: m.GetPriority(), Relative: m.GetRelativePaths(), Epoch: m.GetEpoch(),
		BytesPerSecond: m.GetBytesPerSecond(),
		KeepFor:        m.GetKeepFor().AsDuration(), KeepDaily: m.GetKeepDaily(), KeepSavepoints: m.GetKeepSavepoints(), Grace: m.GetGrace().AsDuration(),
	}
}

// FoundMessage is a found checkpoint as a message.
func FoundMessage(f Found) *ckptferryv1.FoundCheckpoint {
	return &ckptferryv1.FoundCheckpoint{
		Seq: f.Seq, Job: f.Job, JobId: string(f.JobID), CheckpointId: f.CheckpointID, MetadataCrc32C: f.MetadataCRC, Kind: kindOf(f.Savepoint),
		Uri: f.URI, CompletedTime: timestamp(f.CompletedAt), FileCount: f.Files, TotalBytes: f.Bytes,
	}
}

// FoundOf reads a found checkpoint; nil is a zero one. A kind that is not a savepoint's is a checkpoint's.
func FoundOf(m *ckptferryv1.FoundCheckpoint) Found {
	return Found{
		Seq: m.GetSeq(), Job: m.GetJob(), JobID: JobID(m.GetJobId()), CheckpointID: m.GetCheckpointId(), MetadataCRC: m.GetMetadataCrc32C(),
		Savepoint: m.GetKind() == ckptferryv1.CheckpointKind_CHECKPOINT_KIND_SAVEPOINT,
		URI:       m.GetUri(), CompletedAt: instant(m.GetCompletedTime()), Files: m.GetFileCount(), Bytes: m.GetTotalBytes(),
	}
}

func kindOf(savepoint bool) ckptferryv1.CheckpointKind {
	if savepoint {
		return ckptferryv1.CheckpointKind_CHECKPOINT_KIND_SAVEPOINT
	}
	return ckptferryv1.CheckpointKind_CHECKPOINT_KIND_CHECKPOINT
}

// ReplicaMessage is a replica as everybody may see it. Its size is absent as long as it was never READY.
func ReplicaMessage(r Replica) *ckptferryv1.Replica {
	m := &ckptferryv1.Replica{
		Key: KeyMessage(r.Key),
		Job: r.Job, Status: ckptferryv1.ReplicaStatus(r.Status), Uri: r.URI, ManifestCrc32C: r.ManifestCRC,
		PlannedTime: timestamp(r.PlannedAt), ReadyTime: timestamp(r.ReadyAt), CompletedTime: timestamp(r.CompletedAt),
		Reason: r.Reason, Warnings: slices.Clone(r.Warnings), Pinned: r.Pinned,
		Agent: r.Agent, Kind: kindOf(r.Savepoint), SavepointName: r.SavepointName, Promoted: r.Promoted, Claimed: r.Claimed,
		AtRisk: r.AtRisk, ScrubbedTime: timestamp(r.ScrubbedAt), Facts: FactsMessage(r.Facts), FailureClass: r.FailureClass,
	}
	for _, shard := range r.Shards {
		m.Shards = append(m.Shards, &ckptferryv1.Shard{Agent: shard.Agent, Done: shard.Done, Lost: shard.Lost})
	}
	if !r.ReadyAt.IsZero() {
		m.FileCount, m.TotalBytes = proto.Int64(r.Files), proto.Int64(r.Bytes)
	}
	return m
}

// replicaOf reads what replicaState wrote: the replica, who may change it, and what only the state knows of it.
func replicaOf(entry *raftv1.ReplicaState) Replica {
	r := ReplicaOf(entry.GetReplica())
	r.Planned = fenceOf(entry.GetPlannedUnder())
	r.CheckpointAtFault, r.TargetAtFault = entry.GetCheckpointAtFault(), entry.GetTargetAtFault()
	r.pinnedByPromotion = entry.GetPinnedByPromotion()
	return r
}

func replicaState(r Replica) *raftv1.ReplicaState {
	return &raftv1.ReplicaState{
		Replica: ReplicaMessage(r), PlannedUnder: &raftv1.Fence{Epoch: r.Planned.Epoch, Attempt: r.Planned.Attempt},
		CheckpointAtFault: r.CheckpointAtFault, TargetAtFault: r.TargetAtFault, PinnedByPromotion: r.pinnedByPromotion,
	}
}

// ReplicaOf reads a replica; nil is the zero Replica. The message doesn't say under which fence it was planned, nor where
// the fault of a failure lies.
func ReplicaOf(m *ckptferryv1.Replica) Replica {
	r := Replica{
		Key: KeyOf(m.GetKey()), Job: m.GetJob(), Status: Status(m.GetStatus()),
		URI: m.GetUri(), ManifestCRC: m.GetManifestCrc32C(), Files: m.GetFileCount(), Bytes: m.GetTotalBytes(),
		CompletedAt: instant(m.GetCompletedTime()), PlannedAt: instant(m.GetPlannedTime()), ReadyAt: instant(m.GetReadyTime()),
		Reason: m.GetReason(), Warnings: slices.Clone(m.GetWarnings()), Pinned: m.GetPinned(),
		Agent: m.GetAgent(), Savepoint: m.GetKind() == ckptferryv1.CheckpointKind_CHECKPOINT_KIND_SAVEPOINT, SavepointName: m.GetSavepointName(),
		Promoted: m.GetPromoted(), Claimed: m.GetClaimed(), AtRisk: m.GetAtRisk(), ScrubbedAt: instant(m.GetScrubbedTime()),
		Facts: FactsOf(m.GetFacts()), FailureClass: m.GetFailureClass(),
	}
	for _, shard := range m.GetShards() {
		r.Shards = append(r.Shards, Shard{Agent: shard.GetAgent(), Done: shard.GetDone(), Lost: shard.GetLost()})
	}
	return r
}

// FactsMessage is what a restore depends on as a message, nil when nothing is known.
func FactsMessage(f RestoreFacts) *ckptferryv1.RestoreFacts {
	if f == (RestoreFacts{}) {
		return nil
	}
	return &ckptferryv1.RestoreFacts{
		MetadataVersion: f.MetadataVersion, OldestFlink: f.OldestFlink, OldestFlinkWhy: f.OldestFlinkWhy,
		Changelog: f.Changelog, Unaligned: f.Unaligned, RelativeReused: f.RelativeReused, HiddenHandles: f.HiddenHandles,
	}
}

// FactsOf reads what a restore depends on; nil is nothing known.
func FactsOf(m *ckptferryv1.RestoreFacts) RestoreFacts {
	return RestoreFacts{
		MetadataVersion: m.GetMetadataVersion(), OldestFlink: m.GetOldestFlink(), OldestFlinkWhy: m.GetOldestFlinkWhy(),
		Changelog: m.GetChangelog(), Unaligned: m.GetUnaligned(), RelativeReused: m.GetRelativeReused(), HiddenHandles: m.GetHiddenHandles(),
	}
}

// KeyMessage is a key as a message.
func KeyMessage(k Key) *ckptferryv1.CheckpointKey {
	return &ckptferryv1.CheckpointKey{Route: k.Route, JobId: string(k.JobID), CheckpointId: k.CheckpointID, MetadataCrc32C: k.MetadataCRC}
}

// KeyOf reads a key; nil is the zero Key.
func KeyOf(k *ckptferryv1.CheckpointKey) Key {
	return Key{Route: k.GetRoute(), JobID: JobID(k.GetJobId()), CheckpointID: k.GetCheckpointId(), MetadataCRC: k.GetMetadataCrc32C()}
}

func fenceOf(f *raftv1.Fence) Fence { return Fence{Epoch: f.GetEpoch(), Attempt: f.GetAttempt()} }
