// Command flinklab runs one command of the Java harness for a Flink version, building it when needed:
//
//	go run ./e2e/lab/flinklab/cmd/flinklab 1.20.0 gen --dir file:///tmp/cp --ledger /tmp/ledger.json
//
// The harness's options are in e2e/lab/flink/README.md; its exit code is passed on. FLINKLAB_TMP names a directory for
// what the JVM leaves behind.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/ckptferry/ckptferry/e2e/lab/flinklab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, "flinklab:", err)
		os.Exit(2)
	}
}

func run(ctx context.Context, args []string) (err error) {
	if len(args) < 2 {
		return errors.New("usage: flinklab FLINK-VERSION gen|restore-check|dump|dump-all|bench-metadata and its options")
	}
	dir := os.Getenv("FLINKLAB_TMP")
	if dir == "" {
		if dir, err = os.MkdirTemp("", "flinklab-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	lab, err := flinklab.Build(ctx, args[0], dir)
	if err != nil {
		return err
	}
	cmd := lab.Command(ctx, args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}
