package fsutil

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"slices"

	"github.com/colinmarc/hdfs/v2"
	"google.golang.org/protobuf/proto"
)

// How a file is read, and why its bytes can be believed:
//
//   - One call (getBlockLocations) gives length, blocks and their datanodes together, and whether the file is still being
//     written. Only those blocks are read: a file that is replaced or appended to meanwhile is never mixed in.
//   - The client hands out bytes that it has not verified: when a chunk fails its checksum, or the connection breaks in the
//     middle of a read, blockReadStream.Read returns what it has beside the error, and BlockReader.Read drops the error
//     and the stream and returns the bytes. So after each read the stream must still be there, or the bytes are
//     thrown away and read again, from another replica.
//   - Of each block that is read from its first byte, the digest that HDFS keeps (MD5 of its CRCs) is compared with that
//     of the bytes handed out, before the block's last byte is: see blockDigest. It catches what the client may get
//     wrong beside that.

// fileLayout is a file at one moment.
type fileLayout struct {
	size   int64
	blocks []fileBlock
}

// fileBlock is a part of a file. located is its LocatedBlockProto.
type fileBlock struct {
	start, end int64
	located    proto.Message
	growing    bool // being written: HDFS keeps no digest of it
}

func (b fileBlock) id() uint64 { return blockID(b.located) }

// datanodes is how many live ones have a replica.
func (b fileBlock) datanodes() int { return protoField(b.located, "locs").List().Len() }

var errUnfinished = fmt.Errorf("the file is still being written, or its writer died and the namenode has not closed it yet (hdfs debug recoverLease): its length is not known: %w", ErrUnavailable)

// layout asks for a file's blocks: one call. A file that is still being written is errUnfinished.
func (r *hdfsRead) layout(ctx context.Context, name string) (fileLayout, error) {
	located, err := r.locate(ctx, name)
	if err != nil {
		return fileLayout{}, err
	}
	if protoField(located, "underConstruction").Bool() {
		return fileLayout{}, errUnfinished
	}
	l := fileLayout{size: int64(protoField(located, "fileLength").Uint())}
	if l.blocks, err = consecutive(protoMessages(located, "blocks")); err != nil {
		return fileLayout{}, err
	}
	if end := l.end(); end != l.size {
		return fileLayout{}, fmt.Errorf("the namenode lists %d bytes of blocks for a file of %d: %w", end, l.size, ErrCorrupt)
	}
	return l, nil
}

// locate is getBlockLocations: a LocatedBlocksProto. What can't be read rightly is refused.
func (r *hdfsRead) locate(ctx context.Context, name string) (proto.Message, error) {
	resp, err := repeat(ctx, r.cluster, func(m *member, _ attempt) (proto.Message, error) {
		return m.ask("getBlockLocations", "GetBlockLocations", protoFields{"src": r.path(name), "offset": uint64(0), "length": uint64(1<<63 - 1)})
	})
	if err != nil {
		return nil, missing(err)
	}
	if !hasProtoField(resp, "locations") {
		return nil, fs.ErrNotExist
	}
	located := protoMessage(resp, "locations")
	return located, refusal(located)
}

// consecutive makes the parts of a file of LocatedBlockProtos.
func consecutive(located []proto.Message) ([]fileBlock, error) {
	var blocks []fileBlock
	end := int64(0)
	for _, m := range located {
		b := fileBlock{start: int64(protoField(m, "offset").Uint()), located: m}
		b.end = b.start + int64(protoField(protoMessage(m, "b"), "numBytes").Uint())
		if b.start != end {
			return nil, fmt.Errorf("the namenode lists a block at %d where %d is due: %w", b.start, end, ErrCorrupt)
		}
		end = b.end
		blocks = append(blocks, b)
	}
	return blocks, nil
}

// end is where the last block ends.
func (l fileLayout) end() int64 {
	if len(l.blocks) == 0 {
		return 0
	}
	return l.blocks[len(l.blocks)-1].end
}

// at is the block that holds offset.
func (l fileLayout) at(offset int64) fileBlock {
	for _, b := range l.blocks {
		if b.start <= offset && offset < b.end {
			return b
		}
	}
	return fileBlock{start: l.size, end: l.size}
}

// missingReplica names the first block from offset on that no live datanode has.
func (l fileLayout) missingReplica(offset int64) error {
	for _, b := range l.blocks {
		if b.end > offset && b.datanodes() == 0 {
			return fmt.Errorf("no live datanode has the bytes %d to %d (block %d): %w", b.start, b.end, b.id(), ErrUnavailable)
		}
	}
	return nil
}

// Open implements ReadFS. ctx bounds the reading too.
func (r *hdfsRead) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	return r.open(ctx, name, hdfsReader{pos: offset, check: true})
}

// OpenUnchecked implements UncheckedOpener.
func (r *hdfsRead) OpenUnchecked(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	return r.open(ctx, name, hdfsReader{pos: offset})
}

func (r *hdfsRead) open(ctx context.Context, name string, f hdfsReader) (io.ReadCloser, error) {
	if err := checkName("open", r.root, name); err != nil {
		return nil, err
	}
	f.refresh = func() (fileLayout, error) { return r.layout(ctx, name) }
	return r.start(ctx, name, f)
}

// start opens the file that f.refresh lays out.
func (r *hdfsRead) start(ctx context.Context, name string, f hdfsReader) (io.ReadCloser, error) {
	l, err := f.refresh()
	if err == nil && (f.pos < 0 || f.pos > l.size) {
		err = offsetError(f.pos, l.size)
	}
	if err == nil {
		err = l.missingReplica(f.pos)
	}
	if err != nil {
		return nil, r.fail("open", name, err)
	}
	f.read, f.name, f.layout = r, name, l
	// The packets of a small file fit in less, with their checksums and headers.
	f.conns = r.cluster.datanodeConns(int(min(readAheadBytes, max(4<<10, l.size+l.size/64+1<<10))))
	f.ctxErr = ctx.Err
	f.reconnect = func() error { return f.connect(ctx) }
	f.stop = context.AfterFunc(ctx, f.conns.closeAll)
	return &f, nil
}

// datanodeConns is for the connections of one open file, which read that many bytes ahead.
func (c *cluster) datanodeConns(ahead int) *connSet {
	return &connSet{dial: net.Dialer{Timeout: c.cfg.DialTimeout}, idle: c.cfg.IdleTimeout, buffer: ahead}
}

// hdfsReader reads one file forward. It is not safe for concurrent use.
type hdfsReader struct {
	read     *hdfsRead
	name     string
	check    bool // compare digests with HDFS's own
	trusting bool // for tests: believe the client
	layout   fileLayout
	conns    *connSet

	// Bound to the ctx given to open.
	ctxErr    func() error
	reconnect func() error
	refresh   func() (fileLayout, error)
	stop      func() bool

	view   *hdfs.Client
	file   *hdfs.FileReader // nil: not connected
	pos    int64
	block  fileBlock   // the one that pos lies in
	digest blockDigest // of the block's bytes up to pos
	chunk  int         // bytes for each checksum of the block; 0 = not known yet
	err    error       // what every later Read returns

	recoveredAt int64 // pos at the last recovery
	recoveries  int   // at that pos
}

// Read implements io.Reader.
func (f *hdfsReader) Read(p []byte) (int, error) {
	if f.err == nil {
		f.err = f.ctxErr()
	}
	if f.err != nil || len(p) == 0 {
		return 0, f.err
	}
	if f.pos == f.layout.size {
		f.err = io.EOF
		return 0, io.EOF
	}
	n, err := f.fill(p)
	if err != nil {
		if cause := f.ctxErr(); cause != nil {
			err = cause // its end closed the connections
		}
		f.err = f.read.fail("read", f.name, hdfsError(err))
		return n, f.err
	}
	return n, nil
}

// fill reads at least one byte, and no further than to the end of the block. Bytes that complete a block are handed out
// only after the block's digest was compared.
func (f *hdfsReader) fill(p []byte) (int, error) {
	if f.pos >= f.block.end {
		f.block, f.chunk, f.digest = f.layout.at(f.pos), 0, blockDigest{}
	}
	p = p[:min(int64(len(p)), min(f.block.end, f.layout.size)-f.pos)]
	n := 0
	for n < len(p) {
		got, err := f.step(p[n:])
		n += got
		if err != nil {
			return n, err
		}
	}
	f.digest.write(p)
	if f.pos == f.block.end && f.check && f.digest.whole && !f.block.growing {
		if err := f.confirm(); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// step makes one read of the client, and again from other datanodes when it fails.
func (f *hdfsReader) step(p []byte) (int, error) {
	if f.file == nil {
		if err := f.reconnect(); err != nil {
			return 0, err
		}
	}
	n, err := f.file.Read(p)
	if err == nil && !f.trusting {
		err = droppedError(f.file)
	}
	if err == nil && f.chunk == 0 {
		err = f.learnChunks()
	}
	if err == nil {
		f.pos += int64(n)
		return n, nil
	}
	return 0, f.recover(err)
}

// learnChunks asks the client how the block is checksummed, once a datanode has answered.
func (f *hdfsReader) learnChunks() error {
	size, table, ok := chunksOf(f.file)
	switch {
	case !ok:
		return errors.New("the datanode's answer is gone")
	case table == nil:
		return fmt.Errorf("its blocks were written without checksums (dfs.checksum.type=NULL), so nothing can prove what is read: %w", ErrUnsupported)
	case size < 2:
		return fmt.Errorf("its blocks have a checksum for each %d bytes: %w", size, ErrUnsupported)
	}
	f.chunk = size
	f.digest.start(size, table, f.pos == f.block.start)
	return nil
}

// connect starts the client's reader at pos.
func (f *hdfsReader) connect(ctx context.Context) error {
	if f.view == nil {
		view, err := onMember(ctx, f.read.cluster, func(m *member) (*hdfs.Client, error) {
			return m.view(f.conns.dialer(ctx))
		})
		if err != nil {
			return err
		}
		f.view = view
	}
	var blocks []proto.Message
	for _, b := range f.layout.blocks {
		blocks = append(blocks, b.located)
	}
	f.file = newFileReader(f.view, f.read.path(f.name), f.layout.size, blocks)
	_, err := f.file.Seek(f.pos, io.SeekStart)
	return err
}

// maxRecoveries is how often datanodes are asked for again without a byte read in between, beside once for each.
const maxRecoveries = 2

// recover goes on after every datanode that the layout knows has failed: it asks where the same blocks are now. A
// replica may have moved, and a token may have expired. nil: try again from pos. Otherwise it is the error to return.
func (f *hdfsReader) recover(cause error) error {
	if f.ctxErr() != nil || errors.Is(cause, ErrUnsupported) {
		return cause
	}
	_ = f.file.Close() // it has failed
	f.file, f.view = nil, nil
	f.read.cluster.dropKeys()
	if f.recoveredAt != f.pos {
		f.recoveredAt, f.recoveries = f.pos, 0
	}
	tries := maxRecoveries + f.block.datanodes()
	if f.block.growing {
		tries = 1 // a datanode waited for seconds for bytes that are not there
	}
	if f.recoveries++; f.recoveries >= tries {
		return cause
	}
	l, err := f.refresh()
	if err != nil {
		return err
	}
	if !l.sameBlocks(f.layout) {
		return fmt.Errorf("the file was replaced, cut or appended to while it was read (%w): %w", cause, ErrUnavailable)
	}
	if err := l.missingReplica(f.pos); err != nil {
		return err
	}
	f.layout, f.block = l, l.at(f.pos)
	return nil
}

// sameBlocks says that two layouts are of the same bytes.
func (l fileLayout) sameBlocks(other fileLayout) bool {
	return slices.EqualFunc(l.blocks, other.blocks, func(a, b fileBlock) bool {
		return a.id() == b.id() && a.start == b.start && a.end == b.end
	})
}

// Close implements io.Closer.
func (f *hdfsReader) Close() error {
	f.stop()
	f.err = fs.ErrClosed
	f.conns.closeAll()
	return nil
}
