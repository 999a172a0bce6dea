package fsutil

import (
	"context"
	"fmt"
	"io"
	"io/fs"

	"google.golang.org/protobuf/proto"
)

// PrefixOpener is what a ReadFS may have beside its methods, where files that are still being written are no ordinary
// ones: HDFS. Flink with execution.checkpointing.file-merging.across-checkpoint-boundary keeps a merged file open, and a
// completed checkpoint refers to its first bytes, which were synced. Stat knows nothing of them, and Open is
// ErrUnavailable until the file is closed.
type PrefixOpener interface {
	// OpenPrefix reads a file from offset to its first length bytes, whether the file is finished or not. Its end is
	// io.EOF, as Open's; bytes that no datanode shows yet are ErrUnavailable, a finished file that is shorter is
	// fs.ErrInvalid. Of a block that is being written, or not read to its end, each chunk is checked, but no digest.
	OpenPrefix(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error)
}

var _ PrefixOpener = (*hdfsRead)(nil)

// OpenPrefix implements PrefixOpener.
func (r *hdfsRead) OpenPrefix(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := checkName("open", r.root, name); err != nil {
		return nil, err
	}
	f := hdfsReader{pos: offset, check: true}
	f.refresh = func() (fileLayout, error) { return r.prefix(ctx, name, length) }
	return r.start(ctx, name, f)
}

// prefix is layout, with the block that is being written, cut to length. (Its real length is known to the datanodes
// alone; they refuse to send what they don't have.)
func (r *hdfsRead) prefix(ctx context.Context, name string, length int64) (fileLayout, error) {
	located, err := r.locate(ctx, name)
	if err != nil {
		return fileLayout{}, err
	}
	blocks := protoMessages(located, "blocks")
	unfinished := protoField(located, "underConstruction").Bool()
	growing := unfinished && !protoField(located, "isLastBlockComplete").Bool() && hasProtoField(located, "lastBlock")
	if last := len(blocks) - 1; growing && last >= 0 && blockID(blocks[last]) == blockID(protoMessage(located, "lastBlock")) {
		blocks = blocks[:last] // it is listed among them too, once it has a length
	}
	l := fileLayout{size: length}
	if l.blocks, err = consecutive(blocks); err != nil {
		return fileLayout{}, err
	}
	end := l.end()
	switch {
	case length <= end:
		return l, nil
	case !unfinished:
		return fileLayout{}, fmt.Errorf("%d bytes of a file of %d: %w", length, end, fs.ErrInvalid)
	case !growing:
		return fileLayout{}, fmt.Errorf("%d bytes of a file that has %d so far: %w", length, end, ErrUnavailable)
	}
	block := proto.Clone(protoMessage(located, "lastBlock"))
	setProtoUint(protoMessage(block, "b"), "numBytes", uint64(length-end))
	setProtoUint(block, "offset", uint64(end))
	l.blocks = append(l.blocks, fileBlock{start: end, end: length, located: block, growing: true})
	return l, nil
}
