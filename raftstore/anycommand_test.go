package raftstore

import (
	"math"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
)

// words are what fields are filled with, by the field's name: so some commands meet what is there. odd comes anywhere.
var words = map[protoreflect.Name][]string{
	"route": {"prod", "other"}, "name": {"prod", "move", "other"}, "export": {"prod"}, "job": {"orders", "pay"}, "jobs": {"orders", "pay"},
	"job_id": {testJob, ""}, "agents": {"a2", "a3"}, "agent": {"a1", "a2"}, "from_datacenter": {"dc1"}, "from_export": {"prod"}, "datacenter": {"dc1"},
	"to": {"dc2"}, "root": {"file:/a"}, "uri": {"file:/a/b"}, "bases": {"file:/{job}/c"}, "migration": {"move"}, "plan": {"plan-1"},
}

var odd = []string{"", "x", "file:/a", "a\x00b", "../..", "ä", string(make([]byte, 3000))}

// scribble fills a message with what may be in a log: most of its fields, some of them with what cannot be.
func scribble(r *rand.Rand, m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		switch {
		case field.ContainingOneof() != nil && !field.HasOptionalKeyword():
		case r.IntN(12) == 0: // left out
		case field.IsList():
			for range r.IntN(3) {
				if field.Message() != nil {
					scribble(r, m.Mutable(field).List().AppendMutable().Message())
				} else {
					m.Mutable(field).List().Append(scribbled(r, field))
				}
			}
		case field.Message() != nil:
			switch sub := m.Mutable(field).Message(); sub.Interface().(type) {
			case *timestamppb.Timestamp:
				m.Set(field, protoreflect.ValueOfMessage(timestamppb.New(moment(r.Int64N(100))).ProtoReflect()))
				if r.IntN(20) == 0 {
					m.Set(field, protoreflect.ValueOfMessage((&timestamppb.Timestamp{Seconds: math.MinInt64, Nanos: -5}).ProtoReflect()))
				}
			case *durationpb.Duration:
				m.Set(field, protoreflect.ValueOfMessage((&durationpb.Duration{Seconds: scribbledInt(r), Nanos: int32(r.IntN(3)) - 1}).ProtoReflect()))
			default:
				scribble(r, sub)
			}
		default:
			m.Set(field, scribbled(r, field))
		}
	}
}

func scribbledInt(r *rand.Rand) int64 {
	if r.IntN(30) == 0 {
		return []int64{-1, math.MaxInt64, math.MinInt64}[r.IntN(3)]
	}
	return r.Int64N(4)
}

func scribbled(r *rand.Rand, field protoreflect.FieldDescriptor) protoreflect.Value {
	n := scribbledInt(r)
	switch field.Kind() {
	case protoreflect.StringKind:
		if known := words[field.Name()]; len(known) > 0 && r.IntN(15) > 0 {
			return protoreflect.ValueOfString(known[r.IntN(len(known))])
		}
		return protoreflect.ValueOfString(odd[r.IntN(len(odd))])
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(r.IntN(2) == 0)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(n))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(uint64(n))
	case protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(0xc0ffee)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(r.IntN(9)))
	default:
		return protoreflect.ValueOfInt64(n)
	}
}

// Whatever a log holds, on whatever state it meets: it is applied or refused, and leaves a state that can be.
func TestAnyCommandOnAnyStateNeitherPanicsNorBreaksIt(t *testing.T) {
	ops := (&raftv1.Command{}).ProtoReflect().Descriptor().Oneofs().ByName("op").Fields()
	applied := map[protoreflect.Name]int{}
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		s := newState()
		for range 150 {
			cmd := &raftv1.Command{ProposedAt: timestamppb.New(moment(r.Int64N(100)))}
			op := ops.Get(r.IntN(ops.Len()))
			if r.IntN(3) > 0 {
				cmd = anyOf(r, s)
			} else {
				scribble(r, cmd.ProtoReflect().Mutable(op).Message())
			}
			before, said := snapshotBytes(t, s), proto.CloneOf(cmd)
			err := s.apply(cmd)
			after := snapshotBytes(t, s)
			switch {
			case !proto.Equal(cmd, said):
				t.Fatalf("apply changed the command %v", said)
			case err != nil && after != before:
				t.Fatalf("%v was refused with %v, but changed the state", cmd, err)
			case err == nil:
				applied[cmd.ProtoReflect().WhichOneof(ops.Get(0).ContainingOneof()).Name()]++
			}
			if err := s.check(); err != nil {
				t.Fatalf("after %v: %v", cmd, err)
			}
			if err == nil {
				if again := s.apply(cmd); again != nil || snapshotBytes(t, s) != after {
					t.Fatalf("%v again: %v, or it changed the state", cmd, again)
				}
				if back, _, err := decodeSnapshot([]byte(after)); err != nil || snapshotBytes(t, back) != after {
					t.Fatalf("after %v the snapshot does not come back as it was: %v", cmd, err)
				}
			}
		}
	})
	for i := range ops.Len() {
		if name := ops.Get(i).Name(); applied[name] == 0 {
			t.Errorf("%s was never applied: the test proves nothing about it", name)
		}
	}
}

// anyOf is a command that the state most likely takes.
func anyOf(r *rand.Rand, s State) *raftv1.Command {
	id := 1 + r.Int64N(3)
	f := fence(s.jobEpoch("prod", "orders"), max(1, s.Replicas.at(KeyOf(checkpointKey(id))).Planned.Attempt))
	if s.Replicas.at(KeyOf(checkpointKey(id))).Status == StatusCopying && r.IntN(2) == 0 { // or it is over too soon
		return at(commands{assign(id, f, "a2", "a3"), endShard(id, f, "a2", true)}[r.IntN(2)], r.Int64N(100))
	}
	all := commands{
		plan(id, f), plan(id, fence(f.GetEpoch(), f.GetAttempt()+1)), startCopy(id, f), startCopy(id, f), ready(id, f), ready(id, f), supersede(id, f), fail(id, f),
		retire(id, f), forget(id, f), pin(id, f, r.IntN(2) == 0), quarantine(id, f), scrub(id, f), assign(id, f, "a2", "a3"), endShard(id, f, "a2", true),
		promote(ClaimMode(1+r.IntN(2)), promoteItem(id, f)), endPromotions("orders"), fenceJobs("dc1", fenced(1+r.Uint64N(3), r.Int64N(100))),
		acknowledge(fenced(f.GetEpoch(), 0)), putExport(exportProd()), putRoute(routeProd()), removeRoute("prod"), record(checkpoint(id, 0)), observe(id, checkpoint(id, 1)),
		putMigration("move", MigrationRunning), putMigrationJobs("move", migrationJob("orders", MigrationJobState(1+r.IntN(8)))), sweep(false), drill(id, true, id),
		recovered(id), audited("looked"), raise(f.GetEpoch()),
	}
	return at(all[r.IntN(len(all))], r.Int64N(100))
}
