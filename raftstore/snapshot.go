package raftstore

import (
	"fmt"
	"maps"
	"slices"
	"strings"
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
	snapshot.Routes = routeEntries(s)
	for _, r := range s.Replicas.all() {
		snapshot.Replicas = append(snapshot.Replicas, replicaState(r))
	}
	for _, e := range s.Exports.all() {
		snapshot.Exports = append(snapshot.Exports, &raftv1.Catalogue{
			Export: ExportMessage(e.Export), LastSeq: e.LastSeq, Found: foundMessages(e.Found),
		})
	}
	encodePromotions(s, snapshot)
	encodeRecords(s, snapshot)
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
	s, err := stateOf(&snapshot)
	if err != nil {
		return State{}, 0, fmt.Errorf("%w: snapshot: %v", ErrDamaged, err)
	}
	if err := s.check(); err != nil {
		return State{}, 0, fmt.Errorf("%w: snapshot holds a state that cannot be: %v", ErrDamaged, err)
	}
	return s, snapshot.GetAppliedIndex(), nil
}

// routeEntries lists the routes by name: those that were applied, and those that only have an epoch.
func routeEntries(s State) []*raftv1.Route {
	entries := map[string]*raftv1.Route{}
	for name, r := range s.Routes.all() {
		entries[name] = &raftv1.Route{Name: name, Config: RouteMessage(r.Route), Known: foundMessages(r.Known), SeenTime: timestamp(r.SeenAt)}
	}
	for name, r := range s.Removed.all() {
		entries[name] = &raftv1.Route{Name: name, Config: RouteMessage(r), Removed: true}
	}
	for name, epoch := range s.Epochs.all() {
		if entries[name] == nil {
			entries[name] = &raftv1.Route{Name: name}
		}
		entries[name].Epoch = epoch
	}
	sorted := slices.Collect(maps.Values(entries))
	slices.SortFunc(sorted, func(a, b *raftv1.Route) int { return strings.Compare(a.GetName(), b.GetName()) })
	return sorted
}

func foundMessages(c catalogue) []*ckptferryv1.FoundCheckpoint {
	var messages []*ckptferryv1.FoundCheckpoint
	for _, f := range c.bySeq.all() {
		messages = append(messages, FoundMessage(f))
	}
	return messages
}

// stateOf reads a snapshot's lists; what is in them is for State.check.
func stateOf(snapshot *raftv1.Snapshot) (State, error) {
	s := newState()
	for _, entry := range snapshot.GetRoutes() {
		name := entry.GetName()
		if s.Epochs.has(name) || s.Routes.has(name) || s.Removed.has(name) {
			return s, fmt.Errorf("it names the route %s twice", name)
		}
		if entry.GetEpoch() > 0 {
			s.Epochs = s.Epochs.with(name, entry.GetEpoch())
		}
		if entry.GetConfig() == nil {
			if entry.GetEpoch() == 0 || len(entry.GetKnown()) > 0 || entry.GetSeenTime() != nil || entry.GetRemoved() {
				return s, fmt.Errorf("the route %s was never applied, and yet it knows a source, or nothing", name)
			}
			continue
		}
		if entry.GetRemoved() {
			if len(entry.GetKnown()) > 0 || entry.GetSeenTime() != nil {
				return s, fmt.Errorf("the route %s was removed, and yet it knows a source", name)
			}
			s.Removed = s.Removed.with(name, RouteOf(entry.GetConfig()))
			continue
		}
		known, err := catalogueOf(entry.GetKnown())
		if err != nil {
			return s, fmt.Errorf("route %s: %w", name, err)
		}
		s.Routes = s.Routes.with(name, pulled{Route: RouteOf(entry.GetConfig()), Known: known, SeenAt: instant(entry.GetSeenTime())})
	}
	for _, entry := range snapshot.GetExports() {
		name := entry.GetExport().GetName()
		if s.Exports.has(name) {
			return s, fmt.Errorf("it names the export %s twice", name)
		}
		found, err := catalogueOf(entry.GetFound())
		if err != nil {
			return s, fmt.Errorf("export %s: %w", name, err)
		}
		s.Exports = s.Exports.with(name, exported{Export: ExportOf(entry.GetExport()), LastSeq: entry.GetLastSeq(), Found: found})
	}
	var replicas []*entry[Key, Replica]
	var byJob []*entry[jobKey, struct{}]
	for _, m := range snapshot.GetReplicas() {
		r := replicaOf(m)
		replicas = append(replicas, &entry[Key, Replica]{r.Key, r})
		byJob = append(byJob, &entry[jobKey, struct{}]{key: r.jobKey()})
		if r.inFlight() {
			s.flying = s.flying.with(r.Key, struct{}{})
		}
	}
	var once, onceByJob bool
	s.Replicas, once = s.Replicas.filled(replicas)
	s.byJob, onceByJob = s.byJob.filled(byJob)
	if !once || !onceByJob {
		return s, fmt.Errorf("it names a replica twice")
	}
	if err := s.decodePromotions(snapshot); err != nil {
		return s, err
	}
	return s, s.decodeRecords(snapshot)
}

// catalogueOf files what was found; whether it may be so is for catalogue.check.
func catalogueOf(messages []*ckptferryv1.FoundCheckpoint) (catalogue, error) {
	c := newCatalogue()
	var bySeq []*entry[uint64, Found]
	for _, m := range messages {
		bySeq = append(bySeq, &entry[uint64, Found]{m.GetSeq(), FoundOf(m)})
	}
	var once bool
	if c.bySeq, once = c.bySeq.filled(bySeq); !once {
		return c, fmt.Errorf("it names a seq twice")
	}
	jobs := map[string][]uint64{}
	for seq, f := range c.bySeq.all() {
		jobs[f.Job] = append(jobs[f.Job], seq)
	}
	var byJob []*entry[string, []uint64]
	for job, seqs := range jobs {
		byJob = append(byJob, &entry[string, []uint64]{job, seqs})
	}
	c.byJob, _ = c.byJob.filled(byJob)
	return c, nil
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
