package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// transferPoll is how often the agents look in what measures transfers; it is part of their time.
const transferPoll = 20 * time.Millisecond

// transfer is a checkpoint below data, and a pair of agents that pulls it, beside those who do the same otherwise.
type transfer struct {
	c      checkpoint
	data   string // a tree that lies outside of what the agents look at
	pair   *agentPair
	stream *streamServer
}

// startTransfer writes a source of n files and starts the pair.
func (b *bench) startTransfer(ctx context.Context, o pairOptions, n int, bytes int64) (t *transfer, err error) {
	t = &transfer{data: filepath.Join(b.dir, o.name+"-data"), c: newCheckpoint("", 7, n, sized(bytes))}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close())
		}
	}()
	b.logf("%s: writing %d files, %d MiB", o.name, n, t.c.bytes()/mib)
	if err := t.c.writeState(t.data); err != nil {
		return nil, err
	}
	if t.stream, err = startStreamServer(ctx); err != nil {
		return nil, err
	}
	if t.pair, err = b.startPair(ctx, o); err != nil {
		return nil, err
	}
	// Connections are made and routes are watched before anything is measured.
	first := newCheckpoint("file:"+filepath.Join(t.pair.source, "first"), 1, 1, sized(kib))
	if err := first.writeState(filepath.Join(t.pair.source, "first")); err != nil {
		return nil, err
	}
	_, err = t.pair.pull(ctx, "first", first)
	return t, err
}

func (t *transfer) close() error {
	var errs []error
	if t.pair != nil {
		errs = append(errs, t.pair.close())
	}
	if t.stream != nil {
		errs = append(errs, t.stream.close())
	}
	return errors.Join(append(errs, os.RemoveAll(t.data))...)
}

// local is the checkpoint as one of the local pairs, for the peers that are a line of sh.
func (t *transfer) local() localPair {
	return localPair{source: t.c, from: filepath.Join(t.data, t.c.jobID()), root: t.data}
}

const bareNote = "bare stream: gRPC alone, a server in a process of its own, pieces of 256 KiB, both windows 64 MiB, one stream, the bench writes into files, no checksums and no fsync. " +
	"Ours counts from the rename of _metadata (poll 20 ms) until READY: planned, fetched, fsynced, read back, published, agreed on"

func measureAgentsLarge(ctx context.Context, b *bench) (err error) {
	const what = "1 GiB in 64 files through two agents, file → file"
	t, err := b.startTransfer(ctx, pairOptions{name: "agents-large", poll: transferPoll}, 64, 16*mib)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	sides := []side{t.pair.side("two agents", t.c, t.data), t.stream.side("bare gRPC stream", t.stream.addr, t, nil), t.local().shell("cp -r", `cp -r "$1" "$2"/job`),
		t.stream.side("bare gRPC stream, sync -f", t.stream.addr, t, func(target string) error { return exec.CommandContext(ctx, "sync", "-f", target).Run() })}
	took, err := b.race(ctx, what, sides...)
	if err != nil {
		return err
	}
	b.compare(versus{section: "agents", what: what + ", bare gRPC stream", goal: 0.7, ours: 0, peer: 1, note: bareNote}, took, sides...)
	b.compare(versus{section: "agents", what: what + ", cp", goal: 0.5, ours: 0, peer: 2, note: "cp -r leaves the bytes in the page cache"}, took, sides...)
	b.compare(versus{section: "agents", what: what + ", bare gRPC stream, on the disk too", ours: 0, peer: 3,
		note: "for information: with one sync of the file system at its end, as durable as what the agents leave"}, took, sides...)
	b.compare(versus{section: "agents", what: what + ", the bare gRPC stream against cp", ours: 1, peer: 2, note: "for information: what gRPC alone leaves of cp's speed"}, took, sides...)
	return nil
}

// link puts a long link before an address, and remembers it.
func link(all *[]*delayProxy) func(addr string) (string, error) {
	return func(addr string) (string, error) {
		p, err := newDelayProxy(addr, linkDelay)
		if err != nil {
			return "", err
		}
		*all = append(*all, p)
		return p.addr(), nil
	}
}

func measureWAN(ctx context.Context, b *bench) error {
	return errors.Join(measureWANSmall(ctx, b), measureWANLarge(ctx, b))
}

const linkNote = "link: the bench's own proxy, 40 ms for each direction, bandwidth not limited, no loss, no slow start"

func measureWANSmall(ctx context.Context, b *bench) (err error) {
	const what, goal = "2,000 files of 16 KiB over 80 ms", 10
	if _, err := exec.LookPath("rsync"); err != nil {
		b.add(row{Section: "agents", What: what, Unit: "×", Least: goal, Skipped: "rsync is not installed (apt-get install rsync)"})
		return nil
	}
	var links []*delayProxy
	defer func() { err = errors.Join(err, closeLinks(links)) }()
	t, err := b.startTransfer(ctx, pairOptions{name: "agents-wan-small", poll: transferPoll, via: link(&links)}, 2000, 16*kib)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	daemon, err := startRsync(ctx, b.dir, t.local().from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, daemon.close()) }()
	through, err := link(&links)(daemon.addr)
	if err != nil {
		return err
	}
	p := t.local()
	p.keep = true // ext4 walks around inodes that were freed a moment ago
	sides := []side{t.pair.side("two agents", t.c, t.data), p.shell("rsync -a", fmt.Sprintf(`rsync -a rsync://%s/source/ "$2"/job`, through))}
	took, err := b.race(ctx, what, sides...)
	if err != nil {
		return err
	}
	b.compare(versus{section: "agents", what: what + ", rsync", goal: goal, ours: 0, peer: 1,
		note: firstLine(ctx, "rsync", "--version") + ", one connection to a daemon; it sends files one after the other without waiting for answers, and does not fsync. " + linkNote}, took, sides...)
	return nil
}

func measureWANLarge(ctx context.Context, b *bench) (err error) {
	const what = "256 MiB in 16 files over 80 ms"
	var links []*delayProxy
	defer func() { err = errors.Join(err, closeLinks(links)) }()
	t, err := b.startTransfer(ctx, pairOptions{name: "agents-wan-large", poll: transferPoll, via: link(&links)}, 16, 16*mib)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	through, err := link(&links)(t.stream.addr)
	if err != nil {
		return err
	}
	sides := []side{t.pair.side("two agents", t.c, t.data), t.stream.side("bare gRPC stream", through, t, nil)}
	took, err := b.race(ctx, what, sides...)
	if err != nil {
		return err
	}
	b.compare(versus{section: "agents", what: what + ", bare gRPC stream", goal: 0.9, ours: 0, peer: 1, note: linkNote}, took, sides...)
	return nil
}

func closeLinks(links []*delayProxy) error {
	var errs []error
	for _, l := range links {
		errs = append(errs, l.close())
	}
	return errors.Join(errs...)
}

// rsyncDaemon serves one directory as module "source".
type rsyncDaemon struct {
	cmd  *exec.Cmd
	addr string
}

func startRsync(ctx context.Context, dir, serve string) (*rsyncDaemon, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	d := &rsyncDaemon{addr: ports[0]}
	config := filepath.Join(dir, "rsyncd.conf")
	text := fmt.Sprintf("use chroot = no\nuid = %d\ngid = %d\n[source]\npath = %s\nread only = yes\n", os.Geteuid(), os.Getegid(), serve)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(d.addr)
	if err != nil {
		return nil, err
	}
	d.cmd = exec.CommandContext(ctx, "rsync", "--daemon", "--no-detach", "--config="+config, "--address="+host, "--port="+port, "--log-file=/dev/null")
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	err = eventually(ctx, 10*time.Second, 20*time.Millisecond, func() (bool, error) {
		conn, err := net.Dial("tcp", d.addr)
		if err != nil {
			return false, nil
		}
		return true, conn.Close()
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the rsync daemon: %w", err), d.close())
	}
	return d, nil
}

func (d *rsyncDaemon) close() error {
	err := d.cmd.Process.Signal(syscall.SIGTERM)
	_ = d.cmd.Wait() // it says that it was told to end
	return err
}

// measureAgentsMemory pulls a large checkpoint with 64 streams, on loopback and over a link, where the windows fill.
func measureAgentsMemory(ctx context.Context, b *bench) error {
	for _, m := range []struct {
		what string
		far  bool
	}{{"on loopback", false}, {"over 80 ms", true}} {
		if err := b.measureAgentMemory(ctx, m.what, m.far); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) measureAgentMemory(ctx context.Context, what string, far bool) (err error) {
	const streams = 64
	o := pairOptions{name: "agents-memory", poll: transferPoll, files: streams}
	var links []*delayProxy
	if far {
		o.via = link(&links)
	}
	defer func() { err = errors.Join(err, closeLinks(links)) }()
	t, err := b.startTransfer(ctx, o, 2*streams, 16*mib)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	took, err := t.pair.side("two agents", t.c, t.data).run(ctx, 0)
	if err != nil {
		return err
	}
	from, err := t.pair.from.peakMemory()
	if err != nil {
		return err
	}
	to, err := t.pair.to.peakMemory()
	if err != nil {
		return err
	}
	peaks := []float64{float64(from) / float64(mib), float64(to) / float64(mib)}
	b.add(row{Section: "agents", What: "peak memory, 64 streams, 2 GiB in 128 files, " + what, Value: max(peaks[0], peaks[1]), Low: min(peaks[0], peaks[1]), High: max(peaks[0], peaks[1]), Unit: "MiB", Most: 512, Runs: 1,
		Note: fmt.Sprintf("the larger one of both agents (VmHWM): source %.0f MiB, target %.0f MiB; %.1f s", peaks[0], peaks[1], took.Seconds())})
	return nil
}
