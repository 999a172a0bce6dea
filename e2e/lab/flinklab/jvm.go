package flinklab

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// openPackages: Flink's serializers and RocksDB glue reflect into these.
var openPackages = []string{
	"java.lang", "java.util", "java.util.concurrent", "java.util.concurrent.atomic", "java.net", "java.io", "java.nio",
	"sun.nio.ch", "java.lang.reflect", "java.text", "java.time", "sun.net.util",
}

// heap keeps a MiniCluster with its job inside a small CI machine.
const heap = "-Xmx900m"

// shortLived: seconds of run time do not pay for the optimizing compiler.
var shortLived = []string{"-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"}

type jvm struct {
	flags     []string // beside heap, temporary directory and open packages
	classPath string
	main      string
	args      []string
}

func (l *Lab) jvmArgs(j jvm) []string {
	args := []string{heap, "-Djava.io.tmpdir=" + filepath.Join(l.workDir, "tmp"), "-XX:ErrorFile=" + filepath.Join(l.workDir, "hs_err_%p.log")}
	for _, p := range openPackages {
		args = append(args, "--add-opens=java.base/"+p+"=ALL-UNNAMED")
	}
	args = append(args, j.flags...)
	args = append(args, "-cp", j.classPath, j.main)
	return append(args, j.args...)
}

// command is killed when ctx ends, and with this process.
func (l *Lab) command(ctx context.Context, j jvm) *exec.Cmd {
	cmd := exec.CommandContext(ctx, l.java, l.jvmArgs(j)...)
	cmd.Env = append(os.Environ(), l.Env...)
	cmd.WaitDelay = 10 * time.Second
	dieWithParent(cmd)
	return cmd
}

// Command is the harness with a command line of the caller's (see e2e/lab/flink/README.md); the job's MiniCluster runs in
// that JVM. A benchmark gets the JVM's own compiler and collector, everything else what starts fastest.
func (l *Lab) Command(ctx context.Context, args ...string) *exec.Cmd {
	j := l.harnessJVM(args...)
	if len(args) == 0 || args[0] != benchCommand {
		j.flags = append(append(j.flags, shortLived...), l.archiveFlags()...)
	}
	return l.command(ctx, j)
}

const benchCommand = "bench-metadata"

func (l *Lab) harnessJVM(args ...string) jvm {
	return jvm{flags: []string{"-Dlab.log=" + logLevel()}, classPath: l.harnessClassPath(), main: harnessMain, args: args}
}

func (l *Lab) harnessClassPath() string {
	return l.Jar() + string(filepath.ListSeparator) + l.classPath
}

// logLevel is Flink's, on stderr: CKPTFERRY_LAB_LOG=INFO shows what it does.
func logLevel() string {
	if level := os.Getenv("CKPTFERRY_LAB_LOG"); level != "" {
		return level
	}
	return "ERROR"
}
