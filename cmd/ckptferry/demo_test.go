package main

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/demo"
	"github.com/ckptferry/ckptferry/fsutil"
)

// However the demo ends, its agents do: nobody tells them when it is killed.
func TestNoAgentOutlivesTheDemo(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Args = []string{"ckptferry", "demo", "--agents", "1"}
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	var apis []string
	api, first := regexp.MustCompile(`API (127\.0\.0\.1:\d+)$`), regexp.MustCompile(`^first READY .* after the start$`)
	lines := bufio.NewScanner(out)
	for lines.Scan() && !first.MatchString(lines.Text()) {
		if m := api.FindStringSubmatch(lines.Text()); m != nil {
			apis = append(apis, m[1])
		}
	}
	if err := lines.Err(); err != nil || len(apis) != 2 {
		t.Fatalf("the demo named the agents %q, %v; want two", apis, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	for _, addr := range apis {
		until(t, "the agent at "+addr+" to end", func() (bool, string) {
			conn, err := net.DialTimeout("tcp", addr, time.Second)
			if err != nil {
				return true, err.Error()
			}
			_ = conn.Close()
			return false, "it still listens"
		})
	}
}

// screen takes what is written, and may be read meanwhile.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// On a terminal the demo feeds and shows the lag until it is interrupted, and leaves nothing behind. This test is not
// parallel: the directory for temporary files is one for the process.
func TestOnATerminalTheDemoStaysUntilItIsInterrupted(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	stores := fsutil.NewStores(fsutil.StoresConfig{})
	t.Cleanup(func() { stores.Close() })
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var out, notes screen
	ended := make(chan error, 1)
	go func() {
		ended <- demo.Run(ctx, demo.Config{
			Agents: 1, Program: "bin/ckptferry", Stores: stores, Out: &out, Err: &notes, Width: func() int { return 60 },
		})
	}()
	for _, want := range []string{
		`(?m)^first READY .* after the start$`,
		`(?m)^  take the source away +kill -9 \d+$`,
		`(?m)^  start one again +bin/ckptferry agent run --config .*/a1/agent\.yaml$`,
		`(?m)^agent b1 leads dc-b, kill -9 \d+$`,
		`(?m)^1\.20\.0-filemerging-across +CAUGHT_UP +READY chk-3`,
		`\x1b\[2A\r\x1b\[J`, // drawn anew
		`(?m)^1\.20\.0-rocksdb-incremental +CAUGHT_UP +READY chk-4`,
	} {
		until(t, want+" on the terminal", func() (bool, string) {
			select {
			case err := <-ended:
				t.Fatalf("the demo ended by itself: %v\n%s%s", err, out.String(), notes.String())
			default:
			}
			return regexp.MustCompile(want).MatchString(out.String()), out.String()
		})
	}
	interrupt()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("interrupted, the demo ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the demo did not end within 20 s of its interruption")
	}
	if left, err := filepath.Glob(filepath.Join(tmp, "*")); err != nil || len(left) > 0 {
		t.Errorf("the demo left %v, %v", left, err)
	}
	for line := range strings.Lines(out.String()) {
		if strings.Contains(line, "CAUGHT_UP") && len(strings.TrimSuffix(line, "\n")) >= 60+len("\x1b[99A\r\x1b[J") {
			t.Errorf("a line that is drawn is wider than the terminal: %q", line)
		}
	}
}
