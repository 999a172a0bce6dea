package flinklab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Classes of a distribution's scripts: flink-dist has jars only for them, so they are started by name.
const (
	jobManagerMain  = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
	taskManagerMain = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
	cliMain         = "org.apache.flink.client.cli.CliFrontend"
)

// clusterStart bounds how long job manager and task manager take to find each other; about 6 s on two cores.
const clusterStart = time.Minute

// ClusterOptions describe a session cluster.
type ClusterOptions struct {
	Slots         int               // of its one task manager
	CheckpointDir string            // URI
	Conf          map[string]string // over what the lab sets
}

// Cluster is a session cluster of one job manager and one task manager, each a JVM of its own.
type Cluster struct {
	lab  *Lab
	dir  string // conf, bin, logs
	rest string // http://127.0.0.1:port
	jvms []*clusterJVM
}

type clusterJVM struct {
	name string
	cmd  *exec.Cmd
	log  string
	gone chan struct{} // closed when the process has been waited for
}

// StartCluster starts a session cluster and waits until its slots are there. The JVMs end with Close, with ctx, or with
// this process. Ports are free ones of 127.0.0.1; since another process may take one in between, it tries three times.
func (l *Lab) StartCluster(ctx context.Context, o ClusterOptions) (*Cluster, error) {
	var last error
	for range 3 {
		c, err := l.tryCluster(ctx, o)
		if err == nil {
			return c, nil
		}
		if last = err; ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("start a Flink %s cluster: %w", l.Version, last)
}

func (l *Lab) tryCluster(ctx context.Context, o ClusterOptions) (*Cluster, error) {
	dir, err := os.MkdirTemp(l.workDir, "cluster-")
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	c := &Cluster{lab: l, dir: dir, rest: "http://127.0.0.1:" + ports[1]}
	if err := c.writeConf(clusterConf(o, ports[0], ports[1])); err != nil {
		return nil, err
	}
	if err := c.writeScript(); err != nil {
		return nil, err
	}
	for _, j := range []struct{ name, main string }{{"jobmanager", jobManagerMain}, {"taskmanager", taskManagerMain}} {
		if err := c.start(ctx, j.name, j.main); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	if err := c.awaitSlots(ctx, o.Slots); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// clusterConf: a distribution's scripts compute the task manager's memory; without them every part is named
// (TaskExecutorResourceUtils.checkTaskExecutorResourceConfigSet, Flink 1.20). Renamed options are set under both keys.
func clusterConf(o ClusterOptions, rpcPort, restPort string) map[string]string {
	conf := map[string]string{
		"jobmanager.rpc.address": "127.0.0.1", "jobmanager.rpc.port": rpcPort, "jobmanager.bind-host": "127.0.0.1",
		"taskmanager.host": "127.0.0.1", "taskmanager.bind-host": "127.0.0.1",
		"rest.address": "127.0.0.1", "rest.bind-address": "127.0.0.1", "rest.port": restPort, "rest.bind-port": restPort,
		"taskmanager.numberOfTaskSlots": strconv.Itoa(o.Slots), "taskmanager.cpu.cores": "1.0",
		"taskmanager.memory.framework.heap.size": "128m", "taskmanager.memory.framework.off-heap.size": "128m",
		"taskmanager.memory.task.heap.size": "256m", "taskmanager.memory.task.off-heap.size": "0",
		"taskmanager.memory.network.min": "64m", "taskmanager.memory.network.max": "64m", "taskmanager.memory.managed.size": "256m",
		"taskmanager.memory.jvm-metaspace.size": "256m", "taskmanager.memory.jvm-overhead.min": "192m", "taskmanager.memory.jvm-overhead.max": "192m",
		"execution.checkpointing.interval": "500ms", "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
		"execution.checkpointing.dir": o.CheckpointDir, "state.checkpoints.dir": o.CheckpointDir,
		"state.backend": "rocksdb", "state.backend.type": "rocksdb",
		"state.backend.incremental": "true", "execution.checkpointing.incremental": "true",
		"state.checkpoints.num-retained": "10", "execution.checkpointing.num-retained": "10",
		"restart-strategy": "none", "restart-strategy.type": "none",
	}
	maps.Copy(conf, o.Conf)
	return conf
}

func freePorts(n int) ([]string, error) {
	var ports []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer func() { _ = l.Close() }() // all stay open until all are found, so that they differ
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	return ports, nil
}

func (c *Cluster) confDir() string { return filepath.Join(c.dir, "conf") }

// writeConf: config.yaml since 1.19, flink-conf.yaml before; flat keys are right in both.
func (c *Cluster) writeConf(conf map[string]string) error {
	var yaml strings.Builder
	for _, k := range slices.Sorted(maps.Keys(conf)) {
		fmt.Fprintf(&yaml, "%s: %s\n", k, conf[k])
	}
	name := "config.yaml"
	if slices.ContainsFunc([]string{"1.13.", "1.14.", "1.15.", "1.16.", "1.17.", "1.18."}, func(v string) bool { return strings.HasPrefix(c.lab.Version, v) }) {
		name = "flink-conf.yaml"
	}
	if err := os.MkdirAll(c.confDir(), 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.confDir(), name), []byte(yaml.String()), 0o644)
}

// jvm has Flink alone on its class path: the job comes from the harness's jar, as on a real cluster.
func (c *Cluster) jvm(main string, args ...string) jvm {
	return jvm{
		flags:     append([]string{"-Dlog4j.configurationFile=" + filepath.Join(c.lab.build, "classes", "log4j2.properties"), "-Dlab.log=" + logLevel()}, shortLived...),
		classPath: c.lab.classPath,
		main:      main,
		args:      args,
	}
}

func (c *Cluster) start(ctx context.Context, name, main string) error {
	log := filepath.Join(c.dir, name+".log")
	f, err := os.Create(log)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // the process has its own descriptor
	cmd := c.lab.command(ctx, c.jvm(main, "--configDir", c.confDir()))
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	j := &clusterJVM{name: name, cmd: cmd, log: log, gone: make(chan struct{})}
	go func() {
		defer close(j.gone)
		_ = cmd.Wait() // killed at the end; awaitSlots tells of an early death
	}()
	c.jvms = append(c.jvms, j)
	return nil
}

// dead names a JVM that has ended, with the end of its log.
func (c *Cluster) dead() error {
	for _, j := range c.jvms {
		select {
		case <-j.gone:
			log, _ := os.ReadFile(j.log) // an unreadable log leaves the message shorter
			return fmt.Errorf("%s ended: %s\n%s", j.name, j.cmd.ProcessState, lastLines(log, 20))
		default:
		}
	}
	return nil
}

// Close kills the JVMs and waits for them. It is idempotent.
func (c *Cluster) Close() error {
	for _, j := range c.jvms {
		_ = j.cmd.Process.Kill() // already gone is what we want
		<-j.gone
	}
	return nil
}

// REST is the address of the job manager's REST API, http://127.0.0.1:port.
func (c *Cluster) REST() string { return c.rest }

// Home is a FLINK_HOME as far as BinDir goes.
func (c *Cluster) Home() string { return c.dir }

// BinDir holds a `flink` command for this cluster: put it in front of PATH and run a start line as it was printed.
func (c *Cluster) BinDir() string { return filepath.Join(c.dir, "bin") }

func (c *Cluster) writeScript() error {
	if err := os.MkdirAll(c.BinDir(), 0o755); err != nil {
		return err
	}
	words := append([]string{c.lab.java}, c.lab.jvmArgs(c.jvm(cliMain))...)
	for i, w := range words {
		words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	script := fmt.Sprintf("#!/bin/sh\nFLINK_CONF_DIR='%s'; export FLINK_CONF_DIR\nexec %s \"$@\"\n", c.confDir(), strings.Join(words, " "))
	return os.WriteFile(filepath.Join(c.BinDir(), "flink"), []byte(script), 0o755)
}

// Flink runs the command line client with these arguments and gives its output.
func (c *Cluster) Flink(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(c.BinDir(), "flink"), args...)
	cmd.Env = append(os.Environ(), c.lab.Env...)
	cmd.WaitDelay = 10 * time.Second
	dieWithParent(cmd)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("flink %s: %w\n%s", strings.Join(args, " "), withCause(ctx, err), lastLines(out, 30))
	}
	return string(out), nil
}
