package fsutil

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// protoFields are a message's fields by name. Values: string, []byte, bool, uint32, uint64, proto.Message,
// []proto.Message.
type protoFields map[string]any

// newProto makes a message of Hadoop's ClientNamenodeProtocol.proto or hdfs.proto. Their Go types are internal to the
// client, but registered by name. (A second copy of those files can't be linked in: names would be registered twice.)
func newProto(name string, fields protoFields) proto.Message {
	t, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName("hadoop.hdfs." + name))
	if err != nil {
		panic(fmt.Sprintf("fsutil: message %s: %v", name, err)) // the pinned client registers it
	}
	m := t.New()
	for field, value := range fields {
		fd := m.Descriptor().Fields().ByName(protoreflect.Name(field))
		switch v := value.(type) {
		case []proto.Message:
			list := m.Mutable(fd).List()
			for _, element := range v {
				list.Append(protoreflect.ValueOfMessage(element.ProtoReflect()))
			}
		case proto.Message:
			m.Set(fd, protoreflect.ValueOfMessage(v.ProtoReflect()))
		default:
			m.Set(fd, protoreflect.ValueOf(v))
		}
	}
	return m.Interface()
}

// protoField is a field's value, its default when unset.
func protoField(m proto.Message, name string) protoreflect.Value {
	r := m.ProtoReflect()
	return r.Get(r.Descriptor().Fields().ByName(protoreflect.Name(name)))
}

func hasProtoField(m proto.Message, name string) bool {
	r := m.ProtoReflect()
	return r.Has(r.Descriptor().Fields().ByName(protoreflect.Name(name)))
}

func setProtoUint(m proto.Message, name string, v uint64) {
	r := m.ProtoReflect()
	r.Set(r.Descriptor().Fields().ByName(protoreflect.Name(name)), protoreflect.ValueOfUint64(v))
}

func protoMessage(m proto.Message, name string) proto.Message {
	return protoField(m, name).Message().Interface()
}

func protoMessages(m proto.Message, name string) []proto.Message {
	list := protoField(m, name).List()
	out := make([]proto.Message, list.Len())
	for i := range out {
		out[i] = list.Get(i).Message().Interface()
	}
	return out
}

// blockID is that of a LocatedBlockProto.
func blockID(located proto.Message) uint64 {
	return protoField(protoMessage(located, "b"), "blockId").Uint()
}

// permission is FsPermissionProto.
func permission(mode uint32) proto.Message {
	return newProto("FsPermissionProto", protoFields{"perm": mode})
}

// ask makes one call: method of ClientProtocol with request and response messages of that name. The error is the
// client's, unmapped.
func (m *member) ask(method, message string, fields protoFields) (proto.Message, error) {
	resp := newProto(message+"ResponseProto", nil)
	if err := m.namenode.Execute(method, newProto(message+"RequestProto", fields), resp); err != nil {
		return nil, err
	}
	return resp, nil
}

// fileStatus is HdfsFileStatusProto.
type fileStatus struct{ m proto.Message }

func (s fileStatus) name() string { return string(protoField(s.m, "path").Bytes()) }
func (s fileStatus) isDir() bool  { return protoField(s.m, "fileType").Enum() == 1 } // IS_DIR
func (s fileStatus) id() uint64   { return protoField(s.m, "fileId").Uint() }
func (s fileStatus) length() int64 {
	return int64(protoField(s.m, "length").Uint())
}
func (s fileStatus) modifiedMillis() int64 {
	return int64(protoField(s.m, "modification_time").Uint())
}

// refusal says why the file or directory can't be read or written rightly here; nil for an ordinary one.
func (s fileStatus) refusal() error {
	return refusal(s.m)
}

// refusal is for HdfsFileStatusProto and LocatedBlocksProto, which have the same two fields.
func refusal(m proto.Message) error {
	switch {
	case hasProtoField(m, "fileEncryptionInfo"):
		info := protoMessage(m, "fileEncryptionInfo")
		return fmt.Errorf("its key is %q: %s: %w", protoField(info, "keyName").String(), inEncryptionZone, ErrUnsupported)
	case hasProtoField(m, "ecPolicy"):
		policy := protoMessage(m, "ecPolicy")
		name := protoField(policy, "name").String()
		if name == "" { // the namenode leaves out what a client is expected to know
			id := protoField(policy, "id").Uint()
			if name = systemPolicies[id]; name == "" {
				name = fmt.Sprintf("number %d", id)
			}
		}
		return fmt.Errorf("it is erasure-coded (policy %s), which is not read or written here: use a directory with replication (hdfs ec -setPolicy -replicate): %w", name, ErrUnsupported)
	}
	return nil
}

const inEncryptionZone = "it lies in an encryption zone, whose bytes only Hadoop's own client can decrypt: use a directory outside of the zone"

// systemPolicies are HDFS's built-in erasure coding policies. Source: Hadoop 3.3 SystemErasureCodingPolicies.
var systemPolicies = map[uint64]string{
	1: "RS-6-3-1024k", 2: "RS-3-2-1024k", 3: "RS-LEGACY-6-3-1024k", 4: "XOR-2-1-1024k", 5: "RS-10-4-1024k",
}
