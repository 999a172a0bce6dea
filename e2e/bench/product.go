package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// buildBinary builds ckptferry as a user does.
func buildBinary(ctx context.Context, dir string) (string, error) {
	bin := filepath.Join(dir, "ckptferry")
	out, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", bin, "github.com/ckptferry/ckptferry/cmd/ckptferry").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build ckptferry: %w\n%s", err, out)
	}
	return bin, nil
}

// replicated is what `replicate -o json` prints, as far as it is of interest here.
type replicated struct {
	Status       string `json:"status"`
	Files        int    `json:"files"`
	FilesSkipped int    `json:"files_skipped"`
	Bytes        int64  `json:"bytes"`
	BytesCopied  int64  `json:"bytes_copied"`
}

// replicate runs the binary, from its start to its end, and requires a READY replica of all files.
func (b *bench) replicate(ctx context.Context, c checkpoint, target string, flags ...string) (replicated, time.Duration, error) {
	cmd := exec.CommandContext(ctx, b.binary, replicateArgs(c, target, flags)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	err := cmd.Run()
	took := time.Since(began)
	if err != nil {
		return replicated{}, 0, fmt.Errorf("ckptferry replicate %s %s: %w\n%s%s", c.dir(), target, err, stdout.Bytes(), stderr.Bytes())
	}
	r, err := c.check(stdout.Bytes())
	return r, took, err
}

func replicateArgs(c checkpoint, target string, flags []string) []string {
	return append([]string{"replicate", "-q", "-o", "json", c.dir(), target}, flags...)
}

// check reads what replicate printed: a replica that isn't whole has no time.
func (c checkpoint) check(printed []byte) (replicated, error) {
	var r replicated
	if err := json.Unmarshal(printed, &r); err != nil {
		return r, fmt.Errorf("read what replicate printed: %w\n%s", err, printed)
	}
	if r.Status != "READY" || r.Files != len(c.files)+1 {
		return r, fmt.Errorf("replicate %s: %s with %d files; want READY with %d", c.dir(), r.Status, r.Files, len(c.files)+1)
	}
	return r, nil
}

// wrapFlag makes this program start another one and say at the end, on file descriptor 3, how much memory it had.
const wrapFlag = "-wrap"

// peakRSS replicates and gives the binary's largest resident set in bytes (ru_maxrss). The kernel counts towards
// that what the process that starts it has at that moment (exec_mmap, with vfork). So this program, grown by
// whatever it did before, starts itself first as a small process.
func (b *bench) peakRSS(ctx context.Context, c checkpoint, target string) (int64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	cmd := exec.CommandContext(ctx, self, append([]string{wrapFlag, b.binary}, replicateArgs(c, target, nil)...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &stdout, &stderr, []*os.File{w}
	if err := errors.Join(cmd.Run(), w.Close()); err != nil {
		return 0, fmt.Errorf("ckptferry replicate %s %s: %w\n%s%s", c.dir(), target, err, stdout.Bytes(), stderr.Bytes())
	}
	if _, err := c.check(stdout.Bytes()); err != nil {
		return 0, err
	}
	said := make([]byte, 64)
	n, err := r.Read(said)
	if err != nil {
		return 0, fmt.Errorf("read the peak of memory: %w", err)
	}
	return strconv.ParseInt(strings.TrimSpace(string(said[:n])), 10, 64)
}

// wrap is this program as the small process that peakRSS needs.
func wrap(args []string) int {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return 1
	}
	if _, err := fmt.Fprintf(os.NewFile(3, "peak"), "%d\n", usage.Maxrss*1024); err != nil {
		return 1
	}
	return 0
}
