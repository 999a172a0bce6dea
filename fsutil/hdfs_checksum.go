package fsutil

import (
	"bytes"
	"crypto/md5"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"

	"google.golang.org/protobuf/proto"
)

// blockDigest computes what a datanode answers to OpBlockChecksum: the MD5 of the CRCs of a block's chunks, big-endian.
// Source: Hadoop 3.3 BlockChecksumHelper.ReplicatedBlockChecksumComputer.
type blockDigest struct {
	whole bool // all bytes since the block's first were written to it
	table *crc32.Table
	chunk int // bytes for each CRC
	crc   uint32
	have  int // bytes in crc
	sum   hash.Hash
}

func (d *blockDigest) start(chunk int, table *crc32.Table, atFirstByte bool) {
	*d = blockDigest{whole: atFirstByte, chunk: chunk, table: table, sum: md5.New()}
}

func (d *blockDigest) write(p []byte) {
	if !d.whole {
		return
	}
	for len(p) > 0 {
		n := min(len(p), d.chunk-d.have)
		d.crc = crc32.Update(d.crc, d.table, p[:n])
		d.have += n
		p = p[n:]
		if d.have == d.chunk {
			d.endChunk()
		}
	}
}

func (d *blockDigest) endChunk() {
	var crc [4]byte
	binary.BigEndian.PutUint32(crc[:], d.crc)
	_, _ = d.sum.Write(crc[:]) // a hash.Hash never fails
	d.crc, d.have = 0, 0
}

// blockMD5 ends the block.
func (d *blockDigest) blockMD5() []byte {
	if d.have > 0 {
		d.endChunk()
	}
	return d.sum.Sum(nil)
}

// fileMD5 is what FileReader.Checksum makes of the MD5s of a file's blocks: the MD5 of them all, with zeros up to the
// next power of two from 32 on.
// Source: Hadoop 3.3 FileChecksumHelper.FileChecksumComputer.makeMd5CrcResult (DataOutputBuffer's whole buffer is hashed).
func fileMD5(blockMD5s []byte) []byte {
	padded := 32
	for padded < len(blockMD5s) {
		padded *= 2
	}
	sum := md5.Sum(append(bytes.Clone(blockMD5s), make([]byte, padded-len(blockMD5s))...))
	return sum[:]
}

var errNoChecksum = errors.New("no datanode gave the block's checksum")

// confirm compares the digest of the block that was just read with HDFS's own. A difference is ErrCorrupt.
func (f *hdfsReader) confirm() error {
	want := fileMD5(f.digest.blockMD5())
	// The client asks the datanodes that failed last, last: with all of them given, a frozen one costs nothing.
	sum, err := f.checksum(f.block.located)
	if err == nil && bytes.Equal(sum, want) {
		return nil
	}
	// Then each by itself: an error of one may have hidden the others' answers, and one replica may be bad.
	differs := err == nil
	for i := range f.block.datanodes() {
		sum, err := f.checksum(withOneLocation(f.block.located, i))
		switch {
		case err == nil && bytes.Equal(sum, want):
			return nil
		case err == nil:
			differs = true
		case f.ctxErr() != nil:
			return err
		}
	}
	if differs {
		return fmt.Errorf("the bytes %d to %d are not those that HDFS has a checksum of (block %d): %w", f.block.start, f.block.end, f.block.id(), ErrCorrupt)
	}
	return fmt.Errorf("the bytes %d to %d (block %d): %w: %w", f.block.start, f.block.end, f.block.id(), errNoChecksum, ErrUnavailable)
}

// checksum asks for one block's, as FileReader.Checksum of a file that is this block. The client takes a datanode that
// answers with an error for one that answers with an empty checksum.
func (f *hdfsReader) checksum(located proto.Message) ([]byte, error) {
	sum, err := newFileReader(f.view, f.read.path(f.name), f.block.end-f.block.start, []proto.Message{located}).Checksum()
	if err != nil {
		return nil, err
	}
	if len(sum) == 0 || bytes.Equal(sum, fileMD5(nil)) {
		return nil, errNoChecksum
	}
	return sum, nil
}

// withOneLocation is a LocatedBlockProto with the i-th of its datanodes alone.
func withOneLocation(located proto.Message, i int) proto.Message {
	one := proto.Clone(located)
	m := one.ProtoReflect()
	list := m.Mutable(m.Descriptor().Fields().ByName("locs")).List()
	list.Set(0, list.Get(i))
	list.Truncate(1)
	return one
}
