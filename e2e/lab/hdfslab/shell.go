package hdfslab

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"sync"
)

// shell is a JVM that runs Hadoop's command line tools one after the other (Java: ckptferry.lab.Shell).
type shell struct {
	process *process
	mu      sync.Mutex // one command at a time
	in      io.Writer
	out     *bufio.Reader
}

// Run runs one of Hadoop's tools (fs, dfsadmin, haadmin, ec, crypto, key) on the cluster and gives what it printed. An
// exit code other than 0 is an error that holds the output.
func (c *Cluster) Run(tool string, args ...string) (string, error) {
	sh, err := c.startedShell()
	if err != nil {
		return "", err
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	line := strings.Join(append([]string{tool}, args...), "\t")
	if _, err := io.WriteString(sh.in, line+"\n"); err != nil {
		return "", fmt.Errorf("run %s: %w", line, err)
	}
	var code, size int
	head, err := sh.out.ReadString('\n')
	if err == nil {
		_, err = fmt.Sscanf(head, "%d %d", &code, &size)
	}
	if err != nil {
		return "", fmt.Errorf("run %s: read the answer: %w\n%s", line, err, tail(sh.process.log))
	}
	printed := make([]byte, size)
	if _, err := io.ReadFull(sh.out, printed); err != nil {
		return "", fmt.Errorf("run %s: read the answer: %w", line, err)
	}
	if code != 0 {
		return string(printed), fmt.Errorf("run %s: exit code %d: %s", strings.Join(append([]string{tool}, args...), " "), code, printed)
	}
	return string(printed), nil
}

func (c *Cluster) startedShell() (*shell, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shell != nil {
		return c.shell, nil
	}
	args := []string{"-Xmx192m"}
	if kdc := c.options.Security; kdc != nil { // as the NameNode, which is the superuser
		args = append(args, "-Dckptferry.keytab="+kdc.Keytab, "-Dckptferry.principal=nn/localhost@"+kdc.Realm)
	}
	cmd := c.java(append(args, "ckptferry.lab.Shell")...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the shell: %w", err)
	}
	// A pipe of our own: cmd.StdoutPipe is closed by Wait, which spawn calls.
	out, w := io.Pipe()
	cmd.Stdout = w
	p, err := spawn("shell", c.logFile("shell"), cmd)
	if err != nil {
		return nil, err
	}
	go func() {
		<-p.done
		_ = w.Close() // ends a command that waits for its answer
	}()
	c.shell = &shell{process: p, in: in, out: bufio.NewReader(out)}
	return c.shell, nil
}
