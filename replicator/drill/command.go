package drill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Command is an operator's command that starts Flink in a sandbox. It is told, in its environment:
//
//	CKPTFERRY_JOB CKPTFERRY_ROUTE CKPTFERRY_JOB_ID CKPTFERRY_CHECKPOINT_ID   what the replica is of
//	CKPTFERRY_REPLICA        what `flink run -s` takes
//	CKPTFERRY_CLAIM_MODE     NO_CLAIM, CLAIM (a copy alone), or empty for a Flink that has no claim modes
//	CKPTFERRY_START_LINE     flink run -s … -claimMode …, to which the job's jar and arguments are added
//	CKPTFERRY_START_FLINK    the Flink version that the line is for, "1.20"
//	CKPTFERRY_LEVEL          2: exit 0 when the job was RUNNING; 3: and has completed a checkpoint since
//	CKPTFERRY_TIMEOUT        seconds that it has
//
// It prints lines on stdout, of which two are read: running_after=SECONDS, from its start until the job was RUNNING, and
// flink_version=VERSION. The job is gone when it ends, however it ends. When its time is up, or the drill is interrupted,
// it gets SIGTERM, with all processes of its group, and then has Grace to take the job away; SIGKILL ends it after that.
type Command struct {
	Line    string        // for sh -c
	Timeout time.Duration // how long it may take
	Grace   time.Duration // for cleaning up; zero: a minute
	Stderr  io.Writer     // its stderr, and what it prints on stdout beside the two lines; nil: discarded
}

const defaultGrace = time.Minute

// Start implements Starter. An exit code other than 0, or too much time, is ErrFailed.
func (c Command) Start(ctx context.Context, s Sandbox) (Started, error) {
	timed, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	var out, errs tail
	cmd := exec.CommandContext(timed, "sh", "-c", c.Line)
	cmd.Env = append(os.Environ(), c.environment(s)...)
	shown := &oneAtATime{to: orDiscard(c.Stderr)}
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&out, shown), io.MultiWriter(&errs, shown)
	// A group of its own: at a terminal Ctrl-C reaches the drill alone, which then ends the command in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	if cmd.WaitDelay = c.Grace; c.Grace == 0 {
		cmd.WaitDelay = defaultGrace
	}
	began := time.Now()
	err := cmd.Run()
	took := time.Since(began)
	if cmd.Process != nil && timed.Err() != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what of the group outlived its grace; most often there is nothing
	}
	started, said := out.read(), errs.last()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return started, ctx.Err()
	case timed.Err() != nil:
		return started, fmt.Errorf("%w: the command was not done within %s%s", ErrFailed, c.Timeout, said)
	case errors.As(err, &exit):
		return started, fmt.Errorf("%w: the command ended with %s%s", ErrFailed, exit.ProcessState, said)
	case errors.Is(err, exec.ErrWaitDelay):
		return started, fmt.Errorf("%w: the command ended and left processes behind that hold its output open", ErrFailed)
	case err != nil:
		return started, fmt.Errorf("run the drill's command: %w", err)
	}
	if started.RunningAfter == 0 || started.RunningAfter > took { // it said nothing, or nothing that can be
		started.RunningAfter = took
	}
	return started, nil
}

func (c Command) environment(s Sandbox) []string {
	key := s.Replica.Key
	return []string{
		"CKPTFERRY_JOB=" + s.Replica.Job,
		"CKPTFERRY_ROUTE=" + key.Route,
		"CKPTFERRY_JOB_ID=" + string(key.JobID),
		"CKPTFERRY_CHECKPOINT_ID=" + strconv.FormatInt(key.CheckpointID, 10),
		"CKPTFERRY_REPLICA=" + s.Line.Path,
		"CKPTFERRY_CLAIM_MODE=" + string(s.Line.Mode),
		"CKPTFERRY_START_LINE=" + s.Line.Run,
		"CKPTFERRY_START_FLINK=" + s.Line.Flink,
		"CKPTFERRY_LEVEL=" + strconv.Itoa(s.Level),
		"CKPTFERRY_TIMEOUT=" + strconv.Itoa(int(c.Timeout/time.Second)),
	}
}

// oneAtATime lets the command's two streams write to one place.
type oneAtATime struct {
	mu sync.Mutex
	to io.Writer
}

// Write implements io.Writer.
func (w *oneAtATime) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(p)
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

// tailBytes bounds what is kept of a command that talks a lot.
const tailBytes = 64 << 10

// tail keeps the end of what is written to it.
type tail struct{ kept []byte }

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if len(t.kept) > 2*tailBytes {
		t.kept = append([]byte(nil), t.kept[len(t.kept)-tailBytes:]...)
	}
	return len(p), nil
}

// read finds the two lines; the last of each counts. What can't be understood was not said.
func (t *tail) read() (s Started) {
	for line := range bytes.Lines(t.kept) {
		name, value, _ := strings.Cut(strings.TrimSpace(string(line)), "=")
		switch name {
		case "flink_version":
			s.FlinkVersion = clip(strings.TrimSpace(value))
		case "running_after":
			if seconds, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil && seconds > 0 && seconds < 1e6 {
				s.RunningAfter = time.Duration(seconds * float64(time.Second))
			}
		}
	}
	return s
}

// last is the last line that isn't empty, as the end of a sentence.
func (t *tail) last() string {
	lines := strings.Split(strings.TrimSpace(string(t.kept)), "\n")
	if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
		return ": " + clip(last)
	}
	return ""
}
