package hdfslab

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// process is one JVM that we started.
type process struct {
	name string
	log  string // file with both output streams
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended and was waited for
}

// spawn starts a process that dies with us. cmd's streams go to the log file unless they are set.
func spawn(name, log string, cmd *exec.Cmd) (*process, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	if cmd.Stdout == nil {
		cmd.Stdout = f
	}
	cmd.Stderr = f
	// A group of its own: an interrupt at the terminal reaches the test alone, and the test's end reaches the process.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &process{name: name, log: log, cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		defer close(p.done)
		defer f.Close()
		// The kernel sends Pdeathsig when the thread that started the process ends, not when the process does: this
		// thread stays until then, and longer, since it may have started others' processes before.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how a killed process ended says nothing
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *process) signal(sig syscall.Signal) error {
	if !p.alive() {
		return fmt.Errorf("signal %s: it has ended, see %s", p.name, p.log)
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	return nil
}

// waitStopped waits until every thread of a process that got SIGSTOP has stopped: the last ones may still answer a call.
func (p *process) waitStopped() error {
	for range 200 {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
		if err != nil {
			return fmt.Errorf("pause %s: %w", p.name, err)
		}
		if !slices.ContainsFunc(threads, isRunning) {
			return nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	return fmt.Errorf("pause %s: it has not stopped after a second", p.name)
}

// isRunning reads a thread's state from its stat file: "pid (name) state …", T when it is stopped.
func isRunning(statFile string) bool {
	b, err := os.ReadFile(statFile)
	if err != nil {
		return false // the thread is gone
	}
	_, after, _ := bytes.Cut(b, []byte(") "))
	return len(after) > 0 && after[0] != 'T'
}

// kill ends the process at once and waits for its end. Idempotent.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended meanwhile
	<-p.done
}

// stop asks the process to end, and kills it when it has not after ten seconds. Idempotent.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended meanwhile
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		p.kill()
	}
}

// FreePorts finds n ports of 127.0.0.1 that nobody listens on. They lie below the range that the kernel takes the
// ports of outgoing connections from: a node that is started again finds its port still free.
func FreePorts(n int) ([]int, error) {
	var ports []int
	seen := map[int]bool{}
	for tries := 0; len(ports) < n; tries++ {
		if tries > 1000 {
			return nil, fmt.Errorf("find %d free ports between 20000 and 32000: only %d", n, len(ports))
		}
		port := 20000 + rand.IntN(12000)
		if seen[port] {
			continue
		}
		seen[port] = true
		l, err := net.Listen("tcp", hostPort(port))
		if err != nil {
			continue // taken
		}
		_ = l.Close()
		ports = append(ports, port)
	}
	return ports, nil
}

func hostPort(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
