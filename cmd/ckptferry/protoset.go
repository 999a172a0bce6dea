package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

func (a *app) protosetCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "protoset > api.protoset",
		Short: "Print what the API looks like, for grpcurl -protoset where an agent can't be asked",
		Long: `Prints the descriptors of the public API with all that they need, as a binary FileDescriptorSet. Agents tell the same by gRPC
reflection; this is for tools that can't use that, and for those that generate code.`,
		Example: `  ckptferry protoset > api.protoset
  grpcurl -protoset api.protoset list`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(apiDescriptors())
			if err != nil {
				return fmt.Errorf("encode the descriptors: %w", err)
			}
			if _, err := a.out.Write(raw); err != nil {
				return fmt.Errorf("write the result: %w", err)
			}
			return nil
		},
	}
}

// apiDescriptors are the files of ckptferry.v1's services, each after those that it needs.
func apiDescriptors() *descriptorpb.FileDescriptorSet {
	set, added := &descriptorpb.FileDescriptorSet{}, map[string]bool{}
	var add func(protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if added[f.Path()] {
			return
		}
		added[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(f))
	}
	for _, f := range []protoreflect.FileDescriptor{
		ckptferryv1.File_ckptferry_v1_replica_service_proto, ckptferryv1.File_ckptferry_v1_route_service_proto,
		ckptferryv1.File_ckptferry_v1_agent_service_proto, ckptferryv1.File_ckptferry_v1_checkpoint_service_proto,
		ckptferryv1.File_ckptferry_v1_failover_service_proto, ckptferryv1.File_ckptferry_v1_migration_service_proto,
		ckptferryv1.File_ckptferry_v1_storage_service_proto,
	} {
		add(f)
	}
	return set
}
