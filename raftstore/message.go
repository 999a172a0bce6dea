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
	}
}

// RouteOf reads a route; nil is the zero Route.
func RouteOf(m *ckptferryv1.Route) Route {
	return Route{
		Name: m.GetName(), FromDC: m.GetFromDatacenter(), FromExport: m.GetFromExport(), Root: m.GetRoot(),
		Include: slices.Clone(m.GetInclude()), Exclude: slices.Clone(m.GetExclude()), Mode: RouteMode(m.GetMode()),
		Keep: m.GetKeep(), Priority: m.GetPriority(), Relative: m.GetRelativePaths(), Epoch: m.GetEpoch(),
		BytesPerSecond: m.GetBytesPerSecond(),
	}
}

// FoundMessage is a found checkpoint as a message.
func FoundMessage(f Found) *ckptferryv1.FoundCheckpoint {
	kind := ckptferryv1.CheckpointKind_CHECKPOINT_KIND_CHECKPOINT
	if f.Savepoint {
		kind = ckptferryv1.CheckpointKind_CHECKPOINT_KIND_SAVEPOINT
	}
	return &ckptferryv1.FoundCheckpoint{
		Seq: f.Seq, Job: f.Job, JobId: string(f.JobID), CheckpointId: f.CheckpointID, MetadataCrc32C: f.MetadataCRC, Kind: kind,
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

// ReplicaMessage is a replica as everybody may see it. Its size is absent as long as it was never READY.
func ReplicaMessage(r Replica) *ckptferryv1.Replica {
	m := &ckptferryv1.Replica{
		Key: &ckptferryv1.CheckpointKey{
			Route: r.Key.Route, JobId: string(r.Key.JobID), CheckpointId: r.Key.CheckpointID, MetadataCrc32C: r.Key.MetadataCRC,
		},
		Job: r.Job, Status: ckptferryv1.ReplicaStatus(r.Status), Uri: r.URI, ManifestCrc32C: r.ManifestCRC,
		PlannedTime: timestamp(r.PlannedAt), ReadyTime: timestamp(r.ReadyAt), CompletedTime: timestamp(r.CompletedAt),
		Reason: r.Reason, Warnings: slices.Clone(r.Warnings), Pinned: r.Pinned,
	}
	if !r.ReadyAt.IsZero() {
		m.FileCount, m.TotalBytes = proto.Int64(r.Files), proto.Int64(r.Bytes)
	}
	return m
}

// replicaOf reads what ReplicaMessage wrote, and who may change it.
func replicaOf(m *ckptferryv1.Replica, planned *raftv1.Fence) Replica {
	return Replica{
		Key: keyOf(m.GetKey()), Job: m.GetJob(), Status: Status(m.GetStatus()), Planned: fenceOf(planned),
		URI: m.GetUri(), ManifestCRC: m.GetManifestCrc32C(), Files: m.GetFileCount(), Bytes: m.GetTotalBytes(),
		CompletedAt: instant(m.GetCompletedTime()), PlannedAt: instant(m.GetPlannedTime()), ReadyAt: instant(m.GetReadyTime()),
		Reason: m.GetReason(), Warnings: slices.Clone(m.GetWarnings()), Pinned: m.GetPinned(),
	}
}

func keyOf(k *ckptferryv1.CheckpointKey) Key {
	return Key{Route: k.GetRoute(), JobID: JobID(k.GetJobId()), CheckpointID: k.GetCheckpointId(), MetadataCRC: k.GetMetadataCrc32C()}
}

func fenceOf(f *raftv1.Fence) Fence { return Fence{Epoch: f.GetEpoch(), Attempt: f.GetAttempt()} }
