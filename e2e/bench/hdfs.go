package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/ckptferry/ckptferry/e2e/lab/hdfslab"
	"github.com/ckptferry/ckptferry/fsutil"
)

const (
	// tuned is the one setting that matters most to distcp with many files: how long its client waits before it asks
	// again whether a closed file has its replicas. 400 ms is what Hadoop comes with.
	tuned = "-Ddfs.client.block.write.locateFollowingBlock.initial.delay.ms=20"

	hdfsNote = "two clusters of one NameNode and one DataNode each, JVMs with the optimising compiler, replication 1, all on this machine. " +
		"Both sides are whole processes. distcp runs in Hadoop's local job runner, which makes ONE map, whatever -m says, and compares checksums of both clusters; " +
		"ckptferry reads every byte back"
)

// hdfsPair is two clusters.
type hdfsPair struct {
	from, to  *hdfslab.Cluster
	classpath string // of distcp
}

func measureHDFS(ctx context.Context, b *bench) (err error) {
	p := hdfsPair{}
	if p.classpath, err = hdfslab.Build("distcp"); err != nil {
		return err
	}
	for _, c := range []struct {
		name string
		at   **hdfslab.Cluster
	}{{"dc-a", &p.from}, {"dc-b", &p.to}} {
		b.logf("starting HDFS %s", c.name)
		cluster, err := hdfslab.Start(ctx, hdfslab.Options{Name: c.name, Layout: hdfslab.Separate, JVM: hdfslab.Benchmark})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, cluster.Close()) }()
		*c.at = cluster
	}
	if err := measureHDFSLarge(ctx, b, p); err != nil {
		return err
	}
	return measureHDFSSmall(ctx, b, p)
}

func measureHDFSLarge(ctx context.Context, b *bench, p hdfsPair) error {
	const what = "200 files of 4 MiB, HDFS → HDFS"
	c, err := p.source(ctx, b, "/large", newCheckpoint("", 7, 200, sized(4*mib)))
	if err != nil {
		return err
	}
	sides := []side{
		p.ours(b, c, "ckptferry replicate"),
		p.ours(b, c, "ckptferry replicate --parallel 1", "--parallel", "1"),
		p.distcp(c, "distcp, 20 ms", 0, tuned),
		p.distcp(c, "distcp, stock", b.slowRuns),
	}
	// The servers' compilers warm up on whoever comes first.
	if _, err := sides[0].run(ctx, -1); err != nil {
		return err
	}
	took, err := b.race(ctx, what, sides...)
	if err != nil {
		return err
	}
	b.compare(versus{section: "hdfs", what: what + ", stock distcp", goal: 10, ours: 0, peer: 3, note: hdfsNote}, took, sides...)
	b.compare(versus{section: "hdfs", what: what + ", tuned distcp", goal: 2.5, ours: 0, peer: 2, note: "tuned: " + tuned}, took, sides...)
	b.compare(versus{section: "hdfs", what: what + ", one worker, tuned distcp", ours: 1, peer: 2, note: "for information: one file at a time on both sides"}, took, sides...)
	return nil
}

func measureHDFSSmall(ctx context.Context, b *bench, p hdfsPair) error {
	const what = "2,000 files of 4 – 64 KiB, HDFS → HDFS"
	r := rand.New(rand.NewPCG(4, 64))
	c, err := p.source(ctx, b, "/small", newCheckpoint("", 7, 2000, func(int) int64 { return 4*kib + r.Int64N(60*kib+1) }))
	if err != nil {
		return err
	}
	sides := []side{
		p.ours(b, c, "ckptferry replicate"),
		p.ours(b, c, "ckptferry replicate --parallel 1", "--parallel", "1"),
		p.distcp(c, "distcp, 20 ms", b.slowRuns, tuned),
	}
	// The servers' compilers warm up on whoever comes first.
	if _, err := sides[0].run(ctx, -1); err != nil {
		return err
	}
	took, err := b.race(ctx, what, sides...)
	if err != nil {
		return err
	}
	b.compare(versus{section: "hdfs", what: what + ", tuned distcp", goal: 7, ours: 0, peer: 2}, took, sides...)
	b.compare(versus{section: "hdfs", what: what + ", one worker, tuned distcp", ours: 1, peer: 2, note: "for information: one file at a time on both sides"}, took, sides...)
	return nil
}

// source writes a checkpoint to the first cluster.
func (p hdfsPair) source(ctx context.Context, b *bench, dir string, c checkpoint) (checkpoint, error) {
	c.base = p.from.URI() + dir
	b.logf("writing %d files, %d MiB, to %s", len(c.files), c.bytes()/mib, c.base)
	stores := fsutil.NewStores(fsutil.StoresConfig{})
	defer func() { _ = stores.Close() }() // all is committed
	root, err := fsutil.ParseURI(c.base)
	if err != nil {
		return c, err
	}
	dst, err := stores.Open(ctx, root)
	if err != nil {
		return c, err
	}
	return c, c.writeTo(ctx, dst)
}

// timed runs do on a target directory of its own, which is removed again.
func (p hdfsPair) timed(do func(target string) error) (time.Duration, error) {
	syscall.Sync()
	dir := fmt.Sprintf("/target-%d", time.Now().UnixNano())
	began := time.Now()
	err := do(p.to.URI() + dir)
	took := time.Since(began)
	if err != nil {
		return 0, err
	}
	_, err = p.to.Run("fs", "-rm", "-r", "-skipTrash", dir)
	return took, err
}

func (p hdfsPair) ours(b *bench, c checkpoint, name string, flags ...string) side {
	return side{name: name, run: func(ctx context.Context, _ int) (time.Duration, error) {
		return p.timed(func(target string) error {
			_, _, err := b.replicate(ctx, c, target, flags...)
			return err
		})
	}}
}

// distcp is Hadoop's own copy of the job's directory, with the JVM as it is by default.
func (p hdfsPair) distcp(c checkpoint, name string, runs int, properties ...string) side {
	return side{name: name, runs: runs, run: func(ctx context.Context, _ int) (time.Duration, error) {
		args := []string{}
		for _, open := range []string{"java.lang", "java.util", "java.nio", "java.net"} {
			args = append(args, "--add-opens=java.base/"+open+"=ALL-UNNAMED")
		}
		args = append(args, "-Djava.net.preferIPv4Stack=true", "-cp", p.from.ConfDir()+":"+p.classpath, "org.apache.hadoop.tools.DistCp")
		args = append(args, properties...)
		return p.timed(func(target string) error {
			cmd := exec.CommandContext(ctx, "java", append(args, c.job(), target)...)
			out, err := cmd.CombinedOutput()
			if err != nil {
				return fmt.Errorf("distcp %s: %w\n%s", strings.Join(properties, " "), err, out)
			}
			return nil
		})
	}}
}
