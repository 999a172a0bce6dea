package fsutil

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/colinmarc/hdfs/v2"
	"google.golang.org/protobuf/proto"
)

// How a file is written:
//
//   - The client has no recovery: when a datanode of the pipeline dies, the write fails (ErrUnavailable) and the file has to
//     be written again. A failed file is never completed (a second Close of the client does that: the file looks finished
//     then and is short). It is removed.
//   - A file is completed by a call of our own, which names the last block and its length, so it can be repeated. The
//     namenode says no while it has not heard of the last replica (for one file in four or so; the client's ErrReplicating):
//     it is asked again, after 2 ms at first. Hadoop's own client waits for 400 ms.
//   - Durable means: in the page caches of all datanodes of the pipeline, and in the namenode's journal. On disk as well
//     with dfs.datanode.synconclose=true at the datanodes; the client can't ask for it (no hsync).

const (
	createFlag = uint32(1) // CreateFlagProto.CREATE: fails where the name exists
	fileMode   = 0o666     // before the umask
	dirMode    = 0o777
)

// Create implements FS. One call of the namenode, which makes the parents too. ctx bounds the writing as well.
func (h *hdfsFS) Create(ctx context.Context, name string) (File, error) {
	if err := checkEntry("create", h.root, name); err != nil {
		return nil, err
	}
	p := h.path(name)
	if !h.cluster.paths.begin(p) {
		return nil, h.fail("create", name, fmt.Errorf("it is being written by this process: %w", fs.ErrExist))
	}
	conns := h.cluster.datanodeConns(ackAheadBytes)
	made, err := repeat(ctx, h.cluster, func(m *member, past attempt) (createdFile, error) {
		view, err := m.view(conns.dialer(ctx))
		if err != nil {
			return createdFile{}, err
		}
		status, err := h.cluster.create(m, p, past)
		return createdFile{m, view, status}, err
	})
	if err == nil {
		err = made.status.refusal()
		if err != nil {
			_ = h.delete(ctx, p) // as empty as it was made; the refusal is what the caller must know
		}
	}
	if err != nil {
		h.cluster.paths.end(p)
		return nil, h.fail("create", name, err)
	}
	f := &hdfsFile{fs: h, name: name, path: p, member: made.member, id: made.status.id(), conns: conns}
	f.bind(ctx)
	conns.refuse = f.refuseAvoided
	f.writer = newFileWriter(made.view, newFile{
		path: p, replication: made.member.defaults.Replication, blockBytes: made.member.defaults.BlockSize, id: f.id,
	})
	return f, nil
}

// createdFile is a new, empty, open file. The member that made it holds its lease.
type createdFile struct {
	member *member
	view   *hdfs.Client
	status fileStatus
}

func (c *cluster) create(m *member, path string, past attempt) (fileStatus, error) {
	make := func() (proto.Message, error) {
		return m.ask("create", "Create", protoFields{
			"src": path, "clientName": m.name, "createFlag": createFlag, "createParent": true,
			"masked": permission(fileMode &^ c.umask), "unmasked": permission(fileMode),
			"replication": uint32(m.defaults.Replication), "blockSize": uint64(m.defaults.BlockSize),
		})
	}
	resp, err := make()
	if remote := asRemote(err); past.unknown && remote != nil && c.holdsLease(remote) {
		// An earlier try of this call made the file and its answer was lost: paths lets no other call of this process
		// write it.
		if err := m.delete(path); err != nil {
			return fileStatus{}, err
		}
		resp, err = make()
	}
	if err != nil {
		return fileStatus{}, err
	}
	return fileStatus{protoMessage(resp, "fs")}, nil
}

// holdsLease says that a create was refused because one of our own clients has the file open. The message is "Failed to
// CREATE_FILE path for us on host because …", and names the lease's holder behind that.
// Source: Hadoop 3.3 FSNamesystem.recoverLeaseInternal.
func (c *cluster) holdsLease(refused *remoteError) bool {
	if refused.class != "AlreadyBeingCreatedException" {
		return false
	}
	because := refused.message[max(0, strings.LastIndex(refused.message, " because ")):]
	return slices.ContainsFunc(c.members(), func(m *member) bool { return strings.Contains(because, m.name) })
}

// hdfsFile is a File being written.
type hdfsFile struct {
	fs     *hdfsFS
	name   string
	path   string
	id     uint64
	member *member
	conns  *connSet
	writer *hdfs.FileWriter

	// Bound to the ctx given to Create.
	ctxErr func() error
	ask    func(method, message string, fields protoFields) (proto.Message, error)
	pause  func(time.Duration)
	stop   func() bool

	size      int64         // bytes written
	previous  proto.Message // ExtendedBlockProto of the block before the current one; nil in the first
	err       error         // the first failure, or fs.ErrClosed after Commit and Abort
	done      bool          // committed or aborted
	finishing chan struct{} // closed when finishBlock has returned; nil before it is called
}

// Write implements io.Writer. After an error the file must be aborted.
func (f *hdfsFile) Write(p []byte) (int, error) {
	if f.err == nil {
		f.err = f.ctxErr()
	}
	if f.err != nil {
		return 0, f.fs.fail("write", f.name, f.err)
	}
	if len(p) == 0 {
		return 0, nil // the client would start a block, send nothing, and could never complete the file
	}
	blockBytes := f.member.defaults.BlockSize
	for n := 0; ; {
		inBlock := f.size % blockBytes
		var err error
		if inBlock == 0 && f.size > 0 {
			err = f.startBlock()
		}
		if err == nil {
			var m int
			m, err = f.writePiece(p[n : n+int(min(int64(len(p)-n), blockBytes-inBlock))])
			n += m
			f.size += int64(m)
		}
		if err != nil {
			f.fs.cluster.dropKeys()
			f.err = f.explain(err, f.ctxErr())
			return n, f.fs.fail("write", f.name, f.err)
		}
		if n == len(p) {
			return n, nil
		}
	}
}

// explain gives a failure of the client its sentinel. ctxErr is why, when the caller's ctx ended: its end closed the
// connections.
func (f *hdfsFile) explain(err, ctxErr error) error {
	if ctxErr != nil {
		return ctxErr
	}
	err = hdfsError(err)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the file was removed while it was written (%v): %w", err, ErrUnavailable)
	}
	return err
}

// Commit implements File.
func (f *hdfsFile) Commit(ctx context.Context) error {
	if f.err == nil {
		f.err = ctx.Err()
	}
	if f.err != nil {
		return f.fs.fail("commit", f.name, f.err)
	}
	if err := f.finish(ctx); err != nil {
		f.fs.cluster.dropKeys()
		f.err = f.explain(err, ctx.Err())
		return f.fs.fail("commit", f.name, f.err)
	}
	f.stop()
	f.conns.closeAll()
	f.err, f.done = fs.ErrClosed, true
	f.fs.cluster.paths.commit(f.path, f.id)
	return nil
}

// finish sends what is buffered, waits for the datanodes and completes the file.
func (f *hdfsFile) finish(ctx context.Context) error {
	last, err := f.finishBlock(ctx)
	if err != nil {
		return err
	}
	fields := protoFields{"src": f.path, "clientName": f.member.name, "fileId": f.id}
	if last != nil {
		fields["last"] = last
	}
	until := time.Now().Add(f.fs.cluster.cfg.RetryFor)
	for delay := 2 * time.Millisecond; ; delay = min(2*delay, 400*time.Millisecond) {
		resp, err := repeat(ctx, f.fs.cluster, func(m *member, _ attempt) (proto.Message, error) {
			return m.ask("complete", "Complete", fields)
		})
		if err != nil {
			return err
		}
		if protoField(resp, "result").Bool() {
			return nil
		}
		if time.Now().After(until) {
			return fmt.Errorf("no datanode told the namenode about the last block within %s: %w", f.fs.cluster.cfg.RetryFor, ErrUnavailable)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(delay):
		}
	}
}

// finishBlock is finishBlock of the client's writer. ctx's end closes the connections; the call may go on for a while
// then, and the writer is its until finishing is closed.
func (f *hdfsFile) finishBlock(ctx context.Context) (proto.Message, error) {
	if err := f.fs.cluster.begin(); err != nil {
		return nil, err
	}
	f.finishing = make(chan struct{})
	result := make(chan called[proto.Message], 1)
	go func() {
		defer f.fs.cluster.calls.Done()
		defer close(f.finishing)
		last, err := finishBlock(f.writer)
		result <- called[proto.Message]{last, err}
	}()
	select {
	case r := <-result:
		return r.value, r.err
	case <-ctx.Done():
		f.conns.closeAll()
		return nil, ctx.Err()
	}
}

// Abort implements File.
func (f *hdfsFile) Abort() error {
	if f.done {
		return nil
	}
	f.done = true
	if f.err == nil {
		f.err = fs.ErrClosed
	}
	f.stop()
	f.conns.closeAll()
	f.dropWriter()
	defer f.fs.cluster.paths.end(f.path)
	ctx, cancel := context.WithTimeout(context.Background(), f.fs.cluster.cfg.IdleTimeout)
	defer cancel()
	status, err := f.fs.status(ctx, f.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && status.id() == f.id { // else the name is somebody else's by now
		err = f.fs.delete(ctx, f.path)
	}
	if err != nil {
		return f.fs.fail("abort", f.name, err)
	}
	return nil
}

// Keep implements Keeper. A file whose writer is well is completed: a short one, which anybody can read. Else it stays open,
// and its finished blocks can be read as those of a file being written (OpenPrefix) until it is removed. Its lease is this
// client's, or nobody's after a crash; no one appends to it.
func (f *hdfsFile) Keep(ctx context.Context) error {
	if f.done {
		return nil
	}
	if f.err == nil && f.Commit(ctx) == nil {
		return nil
	}
	f.err, f.done = fs.ErrClosed, true
	f.stop()
	f.conns.closeAll()
	f.dropWriter()
	f.fs.cluster.paths.end(f.path)
	return nil
}

// dropWriter ends the client's goroutines for the file.
func (f *hdfsFile) dropWriter() {
	if f.finishing == nil {
		dropBlock(f.writer)
		return
	}
	select {
	case <-f.finishing:
		dropBlock(f.writer)
	default: // it is not over yet; cluster.close waits for it
		go func() {
			<-f.finishing
			dropBlock(f.writer)
		}()
	}
}
