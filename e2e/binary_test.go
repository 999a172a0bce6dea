//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// commandTimeout bounds one call of the binary on a fixture.
const commandTimeout = time.Minute

// ckptferry is the binary under test: CKPTFERRY_BIN, or built from this checkout, once.
var ckptferry = sync.OnceValues(func() (string, error) {
	if bin := os.Getenv("CKPTFERRY_BIN"); bin != "" {
		return filepath.Abs(bin)
	}
	dir, err := os.MkdirTemp("", "ckptferry-e2e-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "ckptferry")
	if out, err := exec.Command("go", "build", "-o", bin, "../cmd/ckptferry").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build ckptferry: %w\n%s", err, out)
	}
	return bin, nil
})

// TestMain removes the binary that ckptferry built.
func TestMain(m *testing.M) {
	code := m.Run()
	if os.Getenv("CKPTFERRY_BIN") == "" {
		if bin, err := ckptferry(); err == nil {
			_ = os.RemoveAll(filepath.Dir(bin)) // a leftover is in the temporary directory
		}
	}
	os.Exit(code)
}

// output runs the binary as a user would and gives its stdout; any other exit code than 0 ends the test.
func output(t *testing.T, args ...string) string {
	t.Helper()
	bin, err := ckptferry()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("ckptferry %s: %v\n%s%s", strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String()
}

// replicated is what `replicate -o json` promises to scripts.
type replicated struct {
	Replica      string   `json:"replica"`
	Status       string   `json:"status"`
	Files        int      `json:"files"`
	FilesSkipped int      `json:"files_skipped"`
	BytesCopied  int64    `json:"bytes_copied"`
	Warnings     []string `json:"warnings"`
}

// replicate runs `ckptferry replicate … -o json` and requires a READY replica.
func replicate(t *testing.T, args ...string) replicated {
	t.Helper()
	out := output(t, append([]string{"replicate", "-o", "json"}, args...)...)
	var r replicated
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("replicate -o json: %v\n%s", err, out)
	}
	if r.Status != "READY" || r.Replica == "" {
		t.Fatalf("replicate = %+v; want a READY replica", r)
	}
	return r
}

// process is a run of the binary that the test may end.
type process struct {
	cmd     *exec.Cmd
	printed bytes.Buffer
}

func begin(t *testing.T, args ...string) *process {
	t.Helper()
	bin, err := ckptferry()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	t.Cleanup(cancel)
	p := &process{cmd: exec.CommandContext(ctx, bin, args...)}
	p.cmd.Stdout, p.cmd.Stderr = &p.printed, &p.printed
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *process) end(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("it ended before it was to be ended: %v\n%s", err, p.printed.String())
	}
	if code := p.wait(t); code == 0 {
		t.Fatalf("it was done before it was ended\n%s", p.printed.String())
	}
}

func (p *process) wait(t *testing.T) int {
	t.Helper()
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// exitOf runs the binary and gives its exit code and all that it printed.
func exitOf(t *testing.T, args ...string) (int, string) {
	t.Helper()
	p := begin(t, args...)
	code := p.wait(t)
	return code, p.printed.String()
}
