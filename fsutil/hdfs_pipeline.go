package fsutil

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"strconv"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
)

// A namenode goes on to offer a dead datanode for 10.5 minutes by default, and the client takes what it is offered. So a
// block that can't be started is given back (abandonBlock), and another one is asked for without the datanodes that
// don't answer, as Hadoop's own client does (DataStreamer.nextBlockOutputStream). A pipeline that breaks later makes
// the write fail; the datanodes at fault are then known when the file is written again.

const (
	maxPipelines = 5                // tried for one block
	avoidFor     = 60 * time.Second // then a datanode is tried again
	probeLimit   = 2 * time.Second
)

// avoidList knows datanodes that did not answer a moment ago. The zero value is ready. Safe for concurrent use.
type avoidList struct {
	mu    sync.Mutex
	nodes map[string]avoided // by address
}

type avoided struct {
	info  proto.Message // DatanodeInfoProto
	until time.Time
}

func (l *avoidList) add(addr string, info proto.Message, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.nodes == nil {
		l.nodes = map[string]avoided{}
	}
	l.nodes[addr] = avoided{info, now.Add(avoidFor)}
}

func (l *avoidList) has(addr string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, ok := l.nodes[addr]
	return ok && now.Before(n.until)
}

// infos are those to leave out now, in no fixed order.
func (l *avoidList) infos(now time.Time) []proto.Message {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.nodes, func(_ string, n avoided) bool { return !now.Before(n.until) })
	var infos []proto.Message
	for _, n := range l.nodes {
		infos = append(infos, n.info)
	}
	return infos
}

func (l *avoidList) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.nodes)
}

// datanodeAddr is where the client connects to a DatanodeInfoProto.
func (c *cluster) datanodeAddr(info proto.Message) string {
	id := protoMessage(info, "id")
	host := "ipAddr"
	if c.options.UseDatanodeHostname {
		host = "hostName"
	}
	// As the client writes it, which knows no IPv6.
	return protoField(id, host).String() + ":" + strconv.FormatUint(protoField(id, "xferPort").Uint(), 10)
}

// avoidSilent asks the datanodes of a block whether they are alive and notes those that are not. It takes at most
// probeLimit, and says how many it noted.
func (c *cluster) avoidSilent(located proto.Message) int {
	infos := protoMessages(located, "locs")
	silent := make([]bool, len(infos))
	var probes sync.WaitGroup
	for i, info := range infos {
		probes.Go(func() { silent[i] = !answers(c.datanodeAddr(info)) })
	}
	probes.Wait()
	n := 0
	for i, info := range infos {
		if silent[i] {
			c.avoid.add(c.datanodeAddr(info), info, time.Now())
			n++
		}
	}
	return n
}

// answers says whether a datanode's process runs: it closes a connection on which nothing comes. (A frozen one
// accepts it, the kernel does that.)
func answers(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, probeLimit)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }() // nothing was sent on it
	half, ok := conn.(*net.TCPConn)
	if !ok || half.CloseWrite() != nil || conn.SetReadDeadline(time.Now().Add(probeLimit)) != nil {
		return false
	}
	var timeout net.Error
	_, err = io.ReadFull(conn, make([]byte, 1))
	return !errors.As(err, &timeout) || !timeout.Timeout()
}

// refuseAvoided is the connSet.refuse of a file being written: it refuses a pipeline that goes through a datanode which
// did not answer a moment ago.
func (f *hdfsFile) refuseAvoided(string) error {
	located := currentBlock(f.writer)
	if located == nil {
		return nil
	}
	c := f.fs.cluster
	for _, info := range protoMessages(located, "locs") {
		if addr := c.datanodeAddr(info); c.avoid.has(addr, time.Now()) {
			return fmt.Errorf("datanode %s did not answer a moment ago: %w", addr, ErrUnavailable)
		}
	}
	return nil
}

// writePiece writes bytes that lie in one block. A block that can't be started is tried on other datanodes.
func (f *hdfsFile) writePiece(p []byte) (int, error) {
	until := time.Now().Add(f.fs.cluster.cfg.RetryFor)
	n := 0
	for tries := 1; ; tries++ {
		m, err := f.writer.Write(p[n:])
		n += m
		if err == nil {
			return n, nil
		}
		located := currentBlock(f.writer)
		switch {
		case f.ctxErr() != nil:
			return n, err
		case located == nil && isTransient(err) && time.Now().Before(until):
			f.pause(100 * time.Millisecond) // the first block could not be asked for: the namenode is away
		case located == nil:
			return n, err
		case blockStarted(f.writer):
			f.fs.cluster.avoidSilent(located) // for whoever writes the file again
			return n, err
		case tries >= maxPipelines:
			f.fs.cluster.avoid.clear() // no better than what it keeps us from
			return n, err
		default:
			if other := f.otherPipeline(located); other != nil {
				return n, fmt.Errorf("%w%s; and no other pipeline: %w", err, f.fs.cluster.protectionHint(), other)
			}
		}
	}
}

// startBlock ends the block that is full and starts the next.
func (f *hdfsFile) startBlock() error {
	last, err := finishBlock(f.writer)
	if err != nil {
		f.fs.cluster.avoidSilent(currentBlock(f.writer)) // for whoever writes the file again
		return err
	}
	f.previous = proto.Clone(last) // the client's block becomes the next one
	located, err := f.addBlock()
	if err != nil {
		return err
	}
	nextBlock(f.writer, located)
	return nil
}

// addBlock asks for the block that follows f.previous, on datanodes that answer.
func (f *hdfsFile) addBlock() (proto.Message, error) {
	fields := protoFields{
		"src": f.path, "clientName": f.member.name, "fileId": f.id, "excludeNodes": f.fs.cluster.avoid.infos(time.Now()),
	}
	if f.previous != nil {
		fields["previous"] = f.previous
	}
	resp, err := f.ask("addBlock", "AddBlock", fields)
	if err != nil {
		f.fs.cluster.avoid.clear() // perhaps nobody was left
		return nil, err
	}
	return protoMessage(resp, "block"), nil
}

// protectionHint is for datanodes that hang up at once, which they do when they want SASL and we don't know.
func (c *cluster) protectionHint() string {
	if c.kerb == nil || c.options.DataTransferProtection != "" {
		return ""
	}
	return " (datanodes with dfs.data.transfer.protection hang up on a client that is not configured for it)"
}

// otherPipeline gives back the block that could not be started and puts another in its place.
func (f *hdfsFile) otherPipeline(located proto.Message) error {
	c := f.fs.cluster
	if c.avoidSilent(located) == 0 && f.refuseAvoided("") == nil {
		// They all live, and one refused: leave out the first, as Hadoop's client does when it isn't told which.
		if locs := protoMessages(located, "locs"); len(locs) > 0 {
			c.avoid.add(c.datanodeAddr(locs[0]), locs[0], time.Now())
		}
	}
	_, err := f.ask("abandonBlock", "AbandonBlock", protoFields{
		"b": protoMessage(located, "b"), "src": f.path, "holder": f.member.name, "fileId": f.id,
	})
	if err != nil {
		return err
	}
	other, err := f.addBlock()
	if err != nil {
		return err
	}
	replaceBlock(located, other)
	return nil
}

// replaceBlock makes one LocatedBlockProto another's copy in place, its token's message too: the client's SASL dialer
// holds a pointer to that.
func replaceBlock(located, by proto.Message) {
	token := protoMessage(located, "blockToken")
	proto.Reset(token)
	proto.Merge(token, protoMessage(by, "blockToken"))
	to, from := located.ProtoReflect(), by.ProtoReflect()
	fields := to.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if fd.Name() == "blockToken" {
			continue
		}
		to.Clear(fd)
		if from.Has(fd) {
			to.Set(fd, from.Get(fd))
		}
	}
}

// bind ties a file's connections and calls to the ctx that it was created with.
func (f *hdfsFile) bind(ctx context.Context) {
	f.ctxErr = ctx.Err
	f.stop = context.AfterFunc(ctx, f.conns.closeAll)
	f.ask = func(method, message string, fields protoFields) (proto.Message, error) {
		return repeat(ctx, f.fs.cluster, func(m *member, _ attempt) (proto.Message, error) {
			return m.ask(method, message, fields)
		})
	}
	f.pause = func(d time.Duration) {
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
	}
}
