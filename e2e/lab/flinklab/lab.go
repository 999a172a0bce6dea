// Package flinklab runs real Flink for tests: it builds the Java harness of e2e/lab/flink for a Flink version, lets a
// job write checkpoints with a ledger of its state, proves that a job restores from a checkpoint with exactly that
// state, and starts a session cluster of separate JVMs with a `flink` command.
//
// It knows nothing of ckptferry. It never leaves a process behind: every JVM ends with its context, and on Linux also
// when the test process is killed. Start at Build.
package flinklab

import (
	"errors"
	"path/filepath"
)

var (
	// ErrMissingTool is a machine without a JDK or Maven; the message is one sentence that names what to install.
	ErrMissingTool = errors.New("missing prerequisite of the Flink lab")
	// ErrNotRestored is a restore whose state is not what the ledger says, or that did not start at all.
	ErrNotRestored = errors.New("the job did not restore with the right state")
)

// Lab is the harness built for one Flink version, with a directory for what its JVMs leave behind. Its methods are safe
// for concurrent use; Env is set before the first of them.
type Lab struct {
	// Version is Flink's, such as 1.20.0.
	Version string
	// Env are additional environment variables of every JVM, such as HADOOP_CONF_DIR=…; the test's own are inherited.
	Env []string

	java      string
	build     string // directory of the build in the cache
	classPath string // Flink and its dependencies, without the harness
	workDir   string
}

// Jar is the harness as a job jar for `flink run -c ClusterJob`.
func (l *Lab) Jar() string { return filepath.Join(l.build, "harness.jar") }

// ClusterJob is the job's class in Jar.
const ClusterJob = "ckptferry.lab.ClusterJob"

const harnessMain = "ckptferry.lab.Main"
