package raftstore

import (
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
	planned := &raftv1.Fence{Epoch: 1, Attempt: 2}
	for _, m := range []proto.Message{export, route, found, replica} {
		full(m.ProtoReflect())
		if proto.Size(m) < 20 {
			t.Fatalf("%v is not full", m)
		}
	}
	for name, pair := range map[string][2]proto.Message{
		"export":     {export, ExportMessage(ExportOf(export))},
		"route":      {route, RouteMessage(RouteOf(route))},
		"found":      {found, FoundMessage(FoundOf(found))},
		"replica":    {replica, ReplicaMessage(ReplicaOf(replica))},
		"no export":  {&ckptferryv1.Export{}, ExportMessage(ExportOf(nil))},
		"no route":   {&ckptferryv1.Route{}, RouteMessage(RouteOf(nil))},
		"no found":   {&ckptferryv1.FoundCheckpoint{Kind: 1}, FoundMessage(FoundOf(nil))},
		"no replica": {&ckptferryv1.Replica{Key: &ckptferryv1.CheckpointKey{}, Kind: 1}, ReplicaMessage(ReplicaOf(nil))},
	} {
		if !proto.Equal(pair[0], pair[1]) {
			t.Errorf("%s: %v became %v", name, pair[0], pair[1])
		}
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
	for mode, name := range map[RouteMode]string{RouteContinuous: "ROUTE_MODE_CONTINUOUS", RoutePaused: "ROUTE_MODE_PAUSED"} {
		if got := ckptferryv1.RouteMode(mode).String(); got != name {
			t.Errorf("mode %d is %s in the public API, want %s", mode, got, name)
		}
	}
}
