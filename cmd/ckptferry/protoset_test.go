package main

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

func TestProtosetHasEveryServiceOfTheAPI(t *testing.T) {
	var out, stderr bytes.Buffer
	if code := run([]string{"protoset"}, streams{out: &out, err: &stderr}); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(out.Bytes(), &set); err != nil {
		t.Fatal(err)
	}
	files, err := protodesc.NewFiles(&set) // nothing that it needs is missing
	if err != nil {
		t.Fatal(err)
	}
	protoregistry.GlobalFiles.RangeFilesByPackage("ckptferry.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			if _, err := files.FindDescriptorByName(f.Services().Get(i).FullName()); err != nil {
				t.Errorf("%s: %v", f.Services().Get(i).FullName(), err)
			}
		}
		return true
	})
}
