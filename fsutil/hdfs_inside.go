package fsutil

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"os"
	"reflect"

	"github.com/colinmarc/hdfs/v2"
	"google.golang.org/protobuf/proto"
)

// What this file reaches are unexported fields of github.com/colinmarc/hdfs/v2 v2.4.0, which is pinned and quiet
// since 2023. The client is used as released; a few things that it has and does not hand out decide between right and
// wrong bytes:
//
//   - a dial function for each open file: so a context's end closes that file's connections, and no others
//   - any call of ClientProtocol (Execute): what is under construction, encrypted or erasure-coded; complete with the
//     block that we wrote
//   - a reader on the blocks that the namenode listed with a file's length, in one answer: so a file that is replaced
//     meanwhile is never mixed
//   - whether the bytes of a read were verified, and how the datanode checksums the block: see hdfs_read.go
//
// checkClientShape fails, at connect and in a unit test, when another version of the client has other fields.

// dialFunc is the type of the client's NamenodeDialFunc and DatanodeDialFunc.
type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// executor makes one call of ClientProtocol (rpc.NamenodeConnection).
type executor interface {
	Execute(method string, req, resp proto.Message) error
}

// inner is the field of what ptr points to, readable and settable although it is unexported.
func inner(ptr reflect.Value, name string) reflect.Value {
	f := ptr.Elem().FieldByName(name)
	return reflect.NewAt(f.Type(), f.Addr().UnsafePointer()).Elem()
}

// innerOf is inner with the type that the field has.
func innerOf[T any](ptr any, name string) *T { return innerOfValue[T](reflect.ValueOf(ptr), name) }

func innerOfValue[T any](ptr reflect.Value, name string) *T {
	return inner(ptr, name).Addr().Interface().(*T)
}

func checkClientShape() error {
	namenode, ok := reflect.TypeFor[hdfs.Client]().FieldByName("namenode")
	if !ok || !namenode.Type.Implements(reflect.TypeFor[executor]()) {
		return shapeError("Client.namenode")
	}
	if err := checkFields(reflect.TypeFor[hdfs.Client](), map[string]reflect.Type{
		"options": reflect.TypeFor[hdfs.ClientOptions](), "defaults": nil, "encryptionKey": nil,
	}); err != nil {
		return err
	}
	if err := checkFields(reflect.TypeFor[hdfs.FileReader](), map[string]reflect.Type{
		"client": reflect.TypeFor[*hdfs.Client](), "name": reflect.TypeFor[string](), "info": reflect.TypeFor[os.FileInfo](),
		"blocks": nil, "blockReader": nil, "offset": reflect.TypeFor[int64](),
	}); err != nil {
		return err
	}
	if err := checkFields(reflect.TypeFor[hdfs.FileWriter](), map[string]reflect.Type{
		"client": reflect.TypeFor[*hdfs.Client](), "name": reflect.TypeFor[string](), "replication": reflect.TypeFor[int](),
		"blockSize": reflect.TypeFor[int64](), "fileId": reflect.TypeFor[*uint64](), "blockWriter": nil,
	}); err != nil {
		return err
	}
	reader, _ := reflect.TypeFor[hdfs.FileReader]().FieldByName("blockReader")
	if err := checkFields(reader.Type.Elem(), map[string]reflect.Type{"stream": nil, "datanodes": nil}); err != nil {
		return err
	}
	datanodes, _ := reader.Type.Elem().FieldByName("datanodes")
	if err := checkFields(datanodes.Type.Elem(), map[string]reflect.Type{"err": reflect.TypeFor[error]()}); err != nil {
		return err
	}
	stream, _ := reader.Type.Elem().FieldByName("stream")
	if err := checkFields(stream.Type.Elem(), map[string]reflect.Type{
		"chunkSize": reflect.TypeFor[int](), "checksumTab": reflect.TypeFor[*crc32.Table](),
	}); err != nil {
		return err
	}
	writer, _ := reflect.TypeFor[hdfs.FileWriter]().FieldByName("blockWriter")
	if err := checkFields(writer.Type.Elem(), map[string]reflect.Type{
		"Block": nil, "stream": nil, "Offset": reflect.TypeFor[int64](), "conn": reflect.TypeFor[net.Conn](), "closed": reflect.TypeFor[bool](),
	}); err != nil {
		return err
	}
	out, _ := writer.Type.Elem().FieldByName("stream")
	return checkFields(out.Type.Elem(), map[string]reflect.Type{"packets": reflect.TypeFor[chan int]()})
}

// checkFields wants the fields to be there and, where a type is given, to have it.
func checkFields(t reflect.Type, want map[string]reflect.Type) error {
	for name, typ := range want {
		f, ok := t.FieldByName(name)
		if !ok || typ != nil && f.Type != typ {
			return shapeError(t.Name() + "." + name)
		}
	}
	return nil
}

func shapeError(field string) error {
	return fmt.Errorf("github.com/colinmarc/hdfs is not v2.4.0: %s is not what it was: %w", field, ErrUnsupported)
}

// namenodeOf is the client's connection to the namenodes.
func namenodeOf(c *hdfs.Client) executor {
	return inner(reflect.ValueOf(c), "namenode").Interface().(executor)
}

// viewOf is a client on base's namenode connection, lease and server defaults, with a dial function of its own for
// datanodes. base must be idle: nobody calls a method on it. Closing is base's. key is a DataEncryptionKeyProto; with nil
// the view asks the namenode when it needs one, and keeps it.
func viewOf(base *hdfs.Client, dial dialFunc, key proto.Message) *hdfs.Client {
	view := *base
	innerOf[hdfs.ClientOptions](&view, "options").DatanodeDialFunc = dial
	if key != nil {
		inner(reflect.ValueOf(&view), "encryptionKey").Set(reflect.ValueOf(key))
	}
	return &view
}

// newFileReader is Client.Open without asking the namenode: blocks are LocatedBlockProtos of the file, size bytes in sum.
func newFileReader(view *hdfs.Client, name string, size int64, blocks []proto.Message) *hdfs.FileReader {
	r := &hdfs.FileReader{}
	*innerOf[*hdfs.Client](r, "client") = view
	*innerOf[string](r, "name") = name
	*innerOf[os.FileInfo](r, "info") = sizeInfo{size: size}
	list := inner(reflect.ValueOf(r), "blocks")
	list.Set(reflect.MakeSlice(list.Type(), 0, len(blocks)))
	for _, b := range blocks {
		list.Set(reflect.Append(list, reflect.ValueOf(b)))
	}
	return r
}

// sizeInfo is all that a FileReader asks of its FileInfo.
type sizeInfo struct {
	os.FileInfo
	size int64
}

func (i sizeInfo) Size() int64 { return i.size }
func (i sizeInfo) IsDir() bool { return false }

// streamOf is the connection that r reads a block from; the zero Value when it has none.
func streamOf(r *hdfs.FileReader) reflect.Value {
	block := inner(reflect.ValueOf(r), "blockReader")
	if block.IsNil() {
		return reflect.Value{}
	}
	if stream := inner(block, "stream"); !stream.IsNil() {
		return stream
	}
	return reflect.Value{}
}

// droppedError is the error of r's last Read that the client did not return, because there were bytes beside it: they
// are not verified. It gives up the block's stream then.
func droppedError(r *hdfs.FileReader) error {
	if streamOf(r).IsValid() {
		return nil
	}
	if block := inner(reflect.ValueOf(r), "blockReader"); !block.IsNil() {
		if datanodes := inner(block, "datanodes"); !datanodes.IsNil() {
			if err := *innerOfValue[error](datanodes, "err"); err != nil {
				return err
			}
		}
	}
	return errors.New("the client gave up the datanode")
}

// chunksOf is how the block that r reads at the moment is checksummed: bytes for each checksum, and the polynomial (nil:
// the block has no checksums). ok is false while no datanode has answered yet.
func chunksOf(r *hdfs.FileReader) (size int, table *crc32.Table, ok bool) {
	stream := streamOf(r)
	if !stream.IsValid() {
		return 0, nil, false
	}
	return *innerOfValue[int](stream, "chunkSize"), *innerOfValue[*crc32.Table](stream, "checksumTab"), true
}

// newFile is what a FileWriter needs of a file that was created.
type newFile struct {
	path        string
	replication int
	blockBytes  int64
	id          uint64
}

// newFileWriter is Client.CreateFile without asking the namenode: the file was created by a call of our own.
func newFileWriter(view *hdfs.Client, f newFile) *hdfs.FileWriter {
	w := &hdfs.FileWriter{}
	*innerOf[*hdfs.Client](w, "client") = view
	*innerOf[string](w, "name") = f.path
	*innerOf[int](w, "replication") = f.replication
	*innerOf[int64](w, "blockSize") = f.blockBytes
	*innerOf[*uint64](w, "fileId") = &f.id
	return w
}

// currentBlock is the LocatedBlockProto that w writes to, nil between blocks. The client keeps its length up to date.
func currentBlock(w *hdfs.FileWriter) proto.Message {
	block := inner(reflect.ValueOf(w), "blockWriter")
	if block.IsNil() {
		return nil
	}
	return inner(block, "Block").Interface().(proto.Message)
}

// blockStarted says whether the datanodes of w's current block have agreed to take it: bytes may have been sent then.
func blockStarted(w *hdfs.FileWriter) bool {
	block := inner(reflect.ValueOf(w), "blockWriter")
	return !block.IsNil() && !inner(block, "stream").IsNil()
}

// finishBlock sends what is buffered of w's last block and waits until every datanode of its pipeline has it. It gives the
// block, an ExtendedBlockProto with its length; nil when there is none, for an empty file. It is FileWriter.Close without
// its two calls of the namenode.
func finishBlock(w *hdfs.FileWriter) (proto.Message, error) {
	block := inner(reflect.ValueOf(w), "blockWriter")
	if block.IsNil() {
		return nil, nil
	}
	if err := block.Interface().(interface{ Close() error }).Close(); err != nil {
		return nil, err
	}
	last := protoMessage(currentBlock(w), "b")
	setProtoUint(last, "numBytes", uint64(*innerOfValue[int64](block, "Offset")))
	return last, nil
}

// nextBlock makes w go on with another block after finishBlock. The client's own way to there forgets which block the
// next one follows when the namenode says "not yet". located is the LocatedBlockProto of the new block.
func nextBlock(w *hdfs.FileWriter, located proto.Message) {
	block := inner(reflect.ValueOf(w), "blockWriter")
	replaceBlock(currentBlock(w), located)
	for _, name := range []string{"Offset", "conn", "stream", "closed"} {
		inner(block, name).SetZero()
	}
}

// dropBlock ends the goroutines of the block that w was writing when it failed: the client leaves two behind for each.
// The block's connections must be closed, and w is not used any more.
func dropBlock(w *hdfs.FileWriter) {
	block := inner(reflect.ValueOf(w), "blockWriter")
	if block.IsNil() {
		return
	}
	stream := inner(block, "stream")
	if stream.IsNil() {
		return
	}
	_ = block.Interface().(interface{ Close() error }).Close() // ends the heartbeats; its error is known
	defer func() { _ = recover() }()                           // the channel is closed when Close came that far
	inner(stream, "packets").Close()
}
