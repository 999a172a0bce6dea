package main

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"regexp"
	"testing"
	"time"
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
