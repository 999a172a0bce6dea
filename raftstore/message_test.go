package raftstore

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// full sets every field of a message, so that a field that a conversion forgets is seen.
func full(m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		number := int64(field.Number())
		value := map[protoreflect.Kind]protoreflect.Value{
			protoreflect.StringKind: protoreflect.ValueOfString(string(field.Name())), protoreflect.BoolKind: protoreflect.ValueOfBool(true),
			protoreflect.Int32Kind: protoreflect.ValueOfInt32(int32(number)), protoreflect.Int64Kind: protoreflect.ValueOfInt64(number),
			protoreflect.Uint64Kind: protoreflect.ValueOfUint64(uint64(number)), protoreflect.Fixed32Kind: protoreflect.ValueOfUint32(uint32(number)),
			protoreflect.EnumKind: protoreflect.ValueOfEnum(2),
		}[field.Kind()]
		switch {
		case field.IsList() && field.Message() != nil:
			full(m.Mutable(field).List().AppendMutable().Message())
		case field.IsList():
			m.Mutable(field).List().Append(value)
		case field.Message() != nil:
			full(m.Mutable(field).Message())
		default:
			m.Set(field, value)
		}
	}
}

func TestConversionsLoseNothing(t *testing.T) {
	export, route, found, replica := &ckptferryv1.Export{}, &ckptferryv1.Route{}, &ckptferryv1.FoundCheckpoint{}, &ckptferryv1.Replica{}
	promotion, fenced, drill, audit := &ckptferryv1.Promotion{}, &ckptferryv1.FencedJob{}, &ckptferryv1.Drill{}, &ckptferryv1.AuditRecord{}
	migration, job, facts := &ckptferryv1.Migration{}, &ckptferryv1.MigrationJob{}, &ckptferryv1.RestoreFacts{}
	planned := &raftv1.Fence{Epoch: 1, Attempt: 2}
	for _, m := range []proto.Message{export, route, found, replica, promotion, fenced, drill, audit, migration, job, facts} {
		full(m.ProtoReflect())
		if proto.Size(m) < 12 {
			t.Fatalf("%v is not full", m)
		}
	}
	job.StartLine = "" // only in answers: made of the replica's facts
	for name, pair := range map[string][2]proto.Message{
		"export":     {export, ExportMessage(ExportOf(export))},
		"route":      {route, RouteMessage(RouteOf(route))},
		"found":      {found, FoundMessage(FoundOf(found))},
		"replica":    {replica, ReplicaMessage(ReplicaOf(replica))},
		"promotion":  {promotion, PromotionMessage(PromotionOf(promotion))},
		"fence":      {fenced, FencedJobMessage(FencedJobOf("prod", "dc2", fenced))},
		"drill":      {drill, DrillMessage(DrillOf(drill))},
		"audit":      {audit, AuditMessage(AuditOf(audit))},
		"migration":  {migration, MigrationMessage(MigrationOf(migration))},
		"job":        {job, MigrationJobMessage(MigrationJobOf(job))},
		"facts":      {facts, FactsMessage(FactsOf(facts))},
		"no job":     {&ckptferryv1.MigrationJob{}, MigrationJobMessage(MigrationJobOf(nil))},
		"no drill":   {&ckptferryv1.Drill{Key: &ckptferryv1.CheckpointKey{}}, DrillMessage(DrillOf(nil))},
		"no export":  {&ckptferryv1.Export{}, ExportMessage(ExportOf(nil))},
		"no route":   {&ckptferryv1.Route{}, RouteMessage(RouteOf(nil))},
		"no found":   {&ckptferryv1.FoundCheckpoint{Kind: 1}, FoundMessage(FoundOf(nil))},
		"no replica": {&ckptferryv1.Replica{Key: &ckptferryv1.CheckpointKey{}, Kind: 1}, ReplicaMessage(ReplicaOf(nil))},
	} {
		if !proto.Equal(pair[0], pair[1]) {
			t.Errorf("%s: %v became %v", name, pair[0], pair[1])
		}
	}
	whole := &raftv1.ReplicaState{}
	full(whole.ProtoReflect())
	if back := replicaState(replicaOf(whole)); !proto.Equal(back, whole) {
		t.Errorf("%v became %v", whole, back)
	}
	if r := replicaOf(&raftv1.ReplicaState{Replica: replica, PlannedUnder: planned}); r.Planned != (Fence{1, 2}) {
		t.Errorf("replica planned under %v", r.Planned)
	}
}

func TestConvertedSlicesAreTheCallers(t *testing.T) {
	e := exportProd()
	m := ExportMessage(e)
	m.Bases[0], m.To[0] = "changed", "changed"
	back := ExportOf(m)
	m.Bases[0] = "changed again"
	if e.Bases[0] == "changed" || e.To[0] == "changed" || back.Bases[0] != "changed" {
		t.Errorf("%v and %v share what they hold with the message", e, back)
	}
}

func TestReplicaHasNoSizeBeforeItIsReady(t *testing.T) {
	r := Replica{Status: StatusCopying}
	if m := ReplicaMessage(r); m.FileCount != nil || m.TotalBytes != nil || m.GetReadyTime() != nil {
		t.Errorf("a replica that is being copied has a size: %v", m)
	}
	r.Status, r.ReadyAt = StatusReady, time.Unix(1, 0)
	if m := ReplicaMessage(r); m.FileCount == nil || m.TotalBytes == nil {
		t.Errorf("an empty READY replica has no size: %v", m)
	}
}

func TestModeNumbersAreThoseOfThePublicAPI(t *testing.T) {
	for got, name := range map[fmt.Stringer]string{
		ckptferryv1.RouteMode(RouteContinuous): "ROUTE_MODE_CONTINUOUS", ckptferryv1.RouteMode(RoutePaused): "ROUTE_MODE_PAUSED",
		ckptferryv1.RouteMode(RouteOnDemand): "ROUTE_MODE_ON_DEMAND",
		ckptferryv1.ClaimMode(NoClaim):       "CLAIM_MODE_" + NoClaim.String(), ckptferryv1.ClaimMode(Claim): "CLAIM_MODE_" + Claim.String(),
		ckptferryv1.StopMode(StopManual): "STOP_MODE_MANUAL", ckptferryv1.StopMode(StopSavepoint): "STOP_MODE_SAVEPOINT", ckptferryv1.StopMode(StopCancel): "STOP_MODE_CANCEL",
	} {
		if got.String() != name {
			t.Errorf("the public API says %s, want %s", got, name)
		}
	}
	for state := PromotionActive; state <= PromotionFailedBack; state++ {
		if got := ckptferryv1.PromotionState(state).String(); got != "PROMOTION_STATE_"+state.String() {
			t.Errorf("%s is %s in the public API", state, got)
		}
	}
	for state := range migrationStateNames {
		if got := ckptferryv1.MigrationState(state).String(); got != "MIGRATION_STATE_"+state.String() {
			t.Errorf("%s is %s in the public API", state, got)
		}
	}
	for state := range migrationJobStateNames {
		if got := ckptferryv1.MigrationJobState(state).String(); got != "MIGRATION_JOB_STATE_"+state.String() {
			t.Errorf("%s is %s in the public API", state, got)
		}
	}
}
