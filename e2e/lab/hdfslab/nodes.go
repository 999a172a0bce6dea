package hdfslab

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Heaps are small: several clusters share a machine of two cores with everything else.
const (
	namenodeHeap = "-Xmx384m"
	datanodeHeap = "-Xmx256m"
	journalHeap  = "-Xmx128m"
	combinedHeap = "-Xmx512m"
)

func (c *Cluster) dataDir(node string) string { return filepath.Join(c.dir, "data", node) }
func (c *Cluster) logFile(node string) string { return filepath.Join(c.dir, "log", node+".log") }

// StartNode starts a node that was killed or stopped, with its old data and ports. It does not wait: see WaitReady. A
// node that runs is left alone.
func (c *Cluster) StartNode(node string) error {
	if p, err := c.node(node); err == nil && p.alive() {
		return nil
	}
	kind, n := node[:min(2, len(node))], 0
	if node != "all" {
		var err error
		if n, err = strconv.Atoi(node[2:]); err != nil {
			return fmt.Errorf("start node %q: want nn1, dn1, jn1 or all", node)
		}
	}
	switch {
	case node == "all":
		return c.launch(node, append([]string{combinedHeap, "ckptferry.lab.Node"}, c.combinedDatanodes()...))
	case kind == "nn" && n >= 1 && n <= len(c.ports.rpc):
		return c.launch(node, append([]string{namenodeHeap, "org.apache.hadoop.hdfs.server.namenode.NameNode"}, c.namenodeID(node)...))
	case kind == "dn" && n >= 1 && n <= len(c.ports.datanodes):
		p := c.ports.datanodes[n-1]
		return c.launch(node, []string{datanodeHeap, "org.apache.hadoop.hdfs.server.datanode.DataNode",
			"-D", "dfs.datanode.address=" + hostPort(p[0]), "-D", "dfs.datanode.http.address=" + hostPort(p[1]),
			"-D", "dfs.datanode.ipc.address=" + hostPort(p[2]), "-D", "dfs.datanode.data.dir=file://" + c.dataDir(node)})
	case kind == "jn" && n >= 1 && n <= len(c.ports.journals):
		return c.launch(node, []string{journalHeap, "org.apache.hadoop.hdfs.qjournal.server.JournalNode",
			"-D", "dfs.journalnode.rpc-address=" + hostPort(c.ports.journals[n-1]),
			"-D", "dfs.journalnode.http-address=" + hostPort(c.ports.journalWeb[n-1]), "-D", "dfs.journalnode.edits.dir=" + c.dataDir(node)})
	}
	return fmt.Errorf("start node %q: the cluster has no such node", node)
}

// launchFormatting formats the NameNode's directory and starts it in the same JVM.
func (c *Cluster) launchFormatting(node string, datanodes []string) error {
	heap := combinedHeap
	if node != "all" {
		heap = namenodeHeap
	}
	return c.launch(node, append([]string{heap, "ckptferry.lab.Node", "format"}, datanodes...))
}

func (c *Cluster) combinedDatanodes() []string {
	var args []string
	for i, p := range c.ports.datanodes {
		args = append(args, fmt.Sprintf("%s,%d,%d,%d", c.dataDir(fmt.Sprintf("dn%d", i+1)), p[0], p[1], p[2]))
	}
	return args
}

func (c *Cluster) launch(node string, args []string) error {
	p, err := spawn(node, c.logFile(node), c.java(args...))
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[node] = p
	return nil
}

func (c *Cluster) namenodeID(node string) []string {
	if c.options.Layout != HighAvailability {
		return nil
	}
	return []string{"-D", "dfs.ha.namenode.id=" + node, "-D", "dfs.nameservice.id=" + c.options.Name}
}

// namenodeCommand runs one of the NameNode's own commands (-format, -bootstrapStandby) to its end.
func (c *Cluster) namenodeCommand(ctx context.Context, node, command string) error {
	args := append([]string{namenodeHeap, "org.apache.hadoop.hdfs.server.namenode.NameNode"}, c.namenodeID(node)...)
	p, err := spawn(node+command, c.logFile(node+command), c.java(append(args, command, "-force", "-nonInteractive")...))
	if err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.kill()
		return fmt.Errorf("namenode %s: %w", command, ctx.Err())
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("namenode %s ended with %d:\n%s", command, code, tail(p.log))
	}
	return nil
}

// BlockFiles are the files of finished blocks on a DataNode's disk ("dn1"), without the .meta files: what a test
// damages to make a corrupt replica.
func (c *Cluster) BlockFiles(node string) ([]string, error) {
	return c.blockFiles(node, "finalized", "subdir*", "subdir*")
}

// OpenBlockFiles are those of blocks that are being written to a DataNode.
func (c *Cluster) OpenBlockFiles(node string) ([]string, error) { return c.blockFiles(node, "rbw") }

func (c *Cluster) blockFiles(node string, dir ...string) ([]string, error) {
	pattern := filepath.Join(append(append([]string{c.dataDir(node), "current", "BP-*", "current"}, dir...), "blk_*")...)
	files, err := filepath.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("find blocks of %s: %w", node, err)
	}
	return slices.DeleteFunc(files, func(f string) bool { return strings.HasSuffix(f, ".meta") }), nil
}

// Failover makes the standby active and the active one standby, both being alive.
func (c *Cluster) Failover(from, to string) error {
	_, err := c.Run("haadmin", "-failover", from, to)
	return err
}

func waitListening(ctx context.Context, port int) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", hostPort(port))
		if err == nil {
			return conn.Close()
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("wait for port %d: %w", port, err)
		}
	}
}

// pause waits for a moment between two looks at a process.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(50 * time.Millisecond):
		return nil
	}
}
