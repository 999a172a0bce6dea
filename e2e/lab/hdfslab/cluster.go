package hdfslab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// readyWithin bounds a start: it takes 3 to 11 s on an idle machine of two cores.
const readyWithin = 2 * time.Minute

// Cluster is a running HDFS. Its nodes are named nn1, nn2, dn1, dn2, …, jn1, …; in the Combined layout there is one
// node, "all". Methods are safe for concurrent use.
type Cluster struct {
	options   Options
	dir       string
	ownDir    bool // made by us, so removed by us
	classpath string
	ports     ports

	mu    sync.Mutex
	nodes map[string]*process
	shell *shell
}

// New starts a cluster for a test and closes it at the test's end.
func New(t testing.TB, o Options) *Cluster {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	c, err := Start(t.Context(), o)
	if err != nil {
		t.Fatalf("hdfslab: %v", err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("hdfslab: %v", err)
		}
	})
	return c
}

// Start formats and starts a cluster and waits until it can be written to. A missing program is ErrPrerequisite.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	o.Datanodes = max(o.Datanodes, 1)
	if o.Replication == 0 {
		o.Replication = o.Datanodes
	}
	if o.Name == "" {
		o.Name = "dc-a"
	}
	if o.Security != nil && o.Layout == Combined {
		o.Layout = Separate // one JVM has one Kerberos login, and the DataNode's would take the place of the NameNode's
	}
	if o.TransferProtection == "" {
		o.TransferProtection = "authentication"
	}
	classpath, err := Build("")
	if err != nil {
		return nil, err
	}
	c := &Cluster{options: o, dir: o.Dir, classpath: classpath, nodes: map[string]*process{}}
	if c.dir == "" {
		if c.dir, err = os.MkdirTemp("", "hdfslab-"); err != nil {
			return nil, fmt.Errorf("start HDFS: %w", err)
		}
		c.ownDir = true
	}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start HDFS: %w", err), c.Close())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) (err error) {
	if c.ports, err = choosePorts(c.options); err != nil {
		return err
	}
	if err := c.writeConf(); err != nil {
		return err
	}
	switch c.options.Layout {
	case HighAvailability:
		err = c.startHA(ctx)
	case Separate:
		err = errors.Join(c.launchFormatting("nn1", nil), c.startDatanodes())
	default:
		err = c.launchFormatting("all", c.combinedDatanodes())
	}
	if err != nil {
		return err
	}
	return c.WaitReady(ctx, c.options.Datanodes)
}

// startHA formats one NameNode, copies it to the second, starts both and makes the first one active.
func (c *Cluster) startHA(ctx context.Context) error {
	for i := range c.ports.journals {
		if err := c.StartNode(fmt.Sprintf("jn%d", i+1)); err != nil {
			return err
		}
	}
	if err := c.startDatanodes(); err != nil {
		return err
	}
	for i := range c.ports.journals {
		if err := waitListening(ctx, c.ports.journals[i]); err != nil {
			return err
		}
	}
	if err := c.namenodeCommand(ctx, "nn1", "-format"); err != nil {
		return err
	}
	if err := c.StartNode("nn1"); err != nil {
		return err
	}
	if err := waitListening(ctx, c.ports.rpc[0]); err != nil {
		return err
	}
	if err := c.namenodeCommand(ctx, "nn2", "-bootstrapStandby"); err != nil {
		return err
	}
	if err := c.StartNode("nn2"); err != nil {
		return err
	}
	if err := waitListening(ctx, c.ports.rpc[1]); err != nil {
		return err
	}
	_, err := c.Run("haadmin", "-transitionToActive", "nn1")
	return err
}

func (c *Cluster) startDatanodes() error {
	for i := range c.ports.datanodes {
		if err := c.StartNode(fmt.Sprintf("dn%d", i+1)); err != nil {
			return err
		}
	}
	return nil
}

// URI is what the cluster is called: hdfs://127.0.0.1:port, or hdfs://NAME of an HA cluster.
func (c *Cluster) URI() string {
	if c.options.Layout == HighAvailability {
		return "hdfs://" + c.options.Name
	}
	return "hdfs://" + hostPort(c.ports.rpc[0])
}

// Namenodes are the RPC addresses, "host:port", nn1's first.
func (c *Cluster) Namenodes() []string {
	var addrs []string
	for _, port := range c.ports.rpc {
		addrs = append(addrs, hostPort(port))
	}
	return addrs
}

// ConfDir holds core-site.xml and hdfs-site.xml: a value for HADOOP_CONF_DIR.
func (c *Cluster) ConfDir() string { return filepath.Join(c.dir, "conf") }

// Classpath is that of the nodes, without the configuration.
func (c *Cluster) Classpath() string { return c.classpath }

// Close kills all nodes. Idempotent.
func (c *Cluster) Close() error {
	c.mu.Lock()
	nodes, sh := c.nodes, c.shell
	c.nodes, c.shell = map[string]*process{}, nil
	c.mu.Unlock()
	if sh != nil {
		sh.process.kill()
	}
	for _, p := range nodes {
		p.kill()
	}
	if c.ownDir {
		if err := os.RemoveAll(c.dir); err != nil {
			return fmt.Errorf("remove the cluster's directory: %w", err)
		}
	}
	return nil
}

func (c *Cluster) deadNodes() []*process {
	c.mu.Lock()
	defer c.mu.Unlock()
	var dead []*process
	for _, p := range c.nodes {
		if !p.alive() {
			dead = append(dead, p)
		}
	}
	return dead
}

func (c *Cluster) node(name string) (*process, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.nodes[name]
	if !ok {
		var names []string
		for n := range c.nodes {
			names = append(names, n)
		}
		slices.Sort(names)
		return nil, fmt.Errorf("no node %q runs; running: %s", name, strings.Join(names, " "))
	}
	return p, nil
}

// Kill ends a node with SIGKILL and waits until it is gone.
func (c *Cluster) Kill(node string) error { return c.end(node, (*process).kill) }

// Stop ends a node with SIGTERM and waits until it is gone.
func (c *Cluster) Stop(node string) error { return c.end(node, (*process).stop) }

func (c *Cluster) end(node string, how func(*process)) error {
	p, err := c.node(node)
	if err != nil {
		return err
	}
	how(p)
	c.mu.Lock()
	delete(c.nodes, node)
	c.mu.Unlock()
	return nil
}

// Pause freezes a node (SIGSTOP) and waits until all its threads stand: it accepts connections and never answers.
func (c *Cluster) Pause(node string) error {
	p, err := c.node(node)
	if err != nil {
		return err
	}
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	return p.waitStopped()
}

// Resume ends Pause (SIGCONT).
func (c *Cluster) Resume(node string) error {
	p, err := c.node(node)
	if err != nil {
		return err
	}
	return p.signal(syscall.SIGCONT)
}

func currentUser() string {
	u, err := user.Current()
	if err != nil {
		return "root"
	}
	return u.Username
}

func tail(log string) string {
	b, err := os.ReadFile(log)
	if err != nil {
		return err.Error()
	}
	return string(lastLines(b, 20))
}

func (c *Cluster) java(args ...string) *exec.Cmd {
	jvm := []string{"-XX:+UseSerialGC", "-Djava.net.preferIPv4Stack=true"}
	if c.options.JVM == QuickStart {
		jvm = append(jvm, "-XX:TieredStopAtLevel=1")
	}
	for _, open := range []string{"java.base/java.lang", "java.base/java.util", "java.base/java.nio", "java.base/java.net", "java.base/sun.nio.ch", "java.security.jgss/sun.security.krb5"} {
		jvm = append(jvm, "--add-opens="+open+"=ALL-UNNAMED")
	}
	if kdc := c.options.Security; kdc != nil {
		jvm = append(jvm, "-Djava.security.krb5.conf="+kdc.Krb5Conf)
	}
	jvm = append(jvm, "-cp", c.ConfDir()+":"+c.classpath)
	return exec.Command("java", append(jvm, args...)...)
}
