package raftstore

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// formatVersion is that of the log, the snapshots and the directory. A new command, or a new field in an old one,
// raises it: an older node must not read past what it understands.
const formatVersion = 1

// encodeSnapshot writes the state. Equal states at equal indexes have equal bytes.
func encodeSnapshot(s State, appliedIndex uint64) ([]byte, error) {
	snapshot := &raftv1.Snapshot{FormatVersion: formatVersion, AppliedIndex: appliedIndex}
	for _, route := range slices.Sorted(maps.Keys(s.Epochs)) {
		snapshot.Routes = append(snapshot.Routes, &raftv1.Route{Name: route, Epoch: s.Epochs[route]})
	}
	for _, r := range s.sorted() {
		snapshot.Replicas = append(snapshot.Replicas, &raftv1.ReplicaState{
			PlannedUnder: &raftv1.Fence{Epoch: r.Planned.Epoch, Attempt: r.Planned.Attempt},
			Replica: &ckptferryv1.Replica{
				Key: &ckptferryv1.CheckpointKey{
					Route: r.Key.Route, JobId: string(r.Key.JobID), CheckpointId: r.Key.CheckpointID, MetadataCrc32C: r.Key.MetadataCRC,
				},
				Job: r.Job, Status: ckptferryv1.ReplicaStatus(r.Status), Uri: r.URI, ManifestCrc32C: r.ManifestCRC,
				FileCount: proto.Int64(r.Files), TotalBytes: proto.Int64(r.Bytes), PlannedTime: timestamp(r.PlannedAt), ReadyTime: timestamp(r.ReadyAt),
				Reason: r.Reason, Warnings: r.Warnings, Pinned: r.Pinned,
			},
		})
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(snapshot)
	if err != nil {
		return nil, fmt.Errorf("encode snapshot: %w", err)
	}
	return b, nil
}

// decodeSnapshot reads what encodeSnapshot wrote, and the log index in it. Bytes of a newer version are ErrNewer;
// bytes that no version wrote, or that hold a state which cannot be, are ErrDamaged.
func decodeSnapshot(b []byte) (State, uint64, error) {
	var snapshot raftv1.Snapshot
	if err := proto.Unmarshal(b, &snapshot); err != nil {
		return State{}, 0, fmt.Errorf("%w: snapshot does not decode: %v", ErrDamaged, err)
	}
	switch version := snapshot.GetFormatVersion(); {
	case version > formatVersion:
		return State{}, 0, fmt.Errorf("%w: snapshot has format %d, this one reads %d", ErrNewer, version, formatVersion)
	case version == 0:
		return State{}, 0, fmt.Errorf("%w: snapshot has no format version", ErrDamaged)
	case hasUnknownFields(snapshot.ProtoReflect()):
		return State{}, 0, fmt.Errorf("%w: snapshot of format %d has fields that this format doesn't know", ErrDamaged, version)
	}
	s := newState()
	for _, route := range snapshot.GetRoutes() {
		s.Epochs[route.GetName()] = route.GetEpoch()
	}
	for _, entry := range snapshot.GetReplicas() {
		public := entry.GetReplica()
		r := Replica{
			Key: keyOf(public.GetKey()), Job: public.GetJob(), Status: Status(public.GetStatus()), Planned: fenceOf(entry.GetPlannedUnder()),
			URI: public.GetUri(), ManifestCRC: public.GetManifestCrc32C(), Files: public.GetFileCount(), Bytes: public.GetTotalBytes(),
			PlannedAt: instant(public.GetPlannedTime()), ReadyAt: instant(public.GetReadyTime()),
			Reason: public.GetReason(), Warnings: public.GetWarnings(), Pinned: public.GetPinned(),
		}
		s.Replicas[r.Key] = r
	}
	if len(s.Epochs) != len(snapshot.GetRoutes()) || len(s.Replicas) != len(snapshot.GetReplicas()) {
		return State{}, 0, fmt.Errorf("%w: snapshot names a route or a replica twice", ErrDamaged)
	}
	if err := s.check(); err != nil {
		return State{}, 0, fmt.Errorf("%w: snapshot holds a state that cannot be: %v", ErrDamaged, err)
	}
	return s, snapshot.GetAppliedIndex(), nil
}

// hasUnknownFields says whether a message, or one inside it, was written by somebody who knew more fields.
func hasUnknownFields(m protoreflect.Message) bool {
	if len(m.GetUnknown()) > 0 {
		return true
	}
	found := false
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.Message() == nil || field.IsMap():
		case field.IsList():
			for i := 0; i < value.List().Len() && !found; i++ {
				found = hasUnknownFields(value.List().Get(i).Message())
			}
		default:
			found = hasUnknownFields(value.Message())
		}
		return !found
	})
	return found
}

// timestamp and instant keep "never" apart from 1970: absent is the zero time.
func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func instant(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
