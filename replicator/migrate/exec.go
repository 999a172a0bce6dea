package migrate

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// stopHookWithin is how long a hook has to end after SIGTERM.
const stopHookWithin = 5 * time.Second

// Exec runs a hook as a process of this agent's user, without a shell, and waits for it. When ctx ends, it is told to
// end (SIGTERM), and killed when it doesn't. The error has the end of what it printed.
func Exec(ctx context.Context, h Hook) error {
	cmd := exec.CommandContext(ctx, h.Argv[0], h.Argv[1:]...)
	cmd.Env = append(os.Environ(), h.Env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopHookWithin
	out := &tail{most: 600}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		if said := bytes.TrimSpace(out.kept); len(said) > 0 {
			return fmt.Errorf("%w; it said: %s", err, said)
		}
		return err
	}
	return nil
}

// tail keeps the end of what is written.
type tail struct {
	most int
	kept []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - t.most; over > 0 {
		t.kept = append([]byte(nil), t.kept[over:]...)
	}
	return len(p), nil
}
