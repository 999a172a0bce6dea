// Command ckptferry replicates Apache Flink checkpoints to another place, in a form from which Flink starts.
//
// This package parses flags, wires the other packages together, prints, and chooses the exit code. Start at run.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run(os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr})) }

// streams are where a command reads and writes: data goes to out, all else to err.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// run is one invocation; what it returns is the exit code (exit.go).
func run(args []string, s streams) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal lets the work in hand be given up cleanly; a second one ends the process at once.
	context.AfterFunc(ctx, stop)
	root := newRoot(s)
	root.SetArgs(joinVerify(args))
	err := root.ExecuteContext(ctx)
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		_, _ = fmt.Fprintln(s.err, "interrupted: nothing half-copied is visible; run the same command again to go on")
		return exitInterrupted
	}
	code := exitCode(err)
	var silent silentError
	if err != nil && !errors.As(err, &silent) {
		_, _ = fmt.Fprintf(s.err, "error: %v\n", err)
	}
	return code
}

// joinVerify lets the value of --verify, which may be left out, stand in a word of its own.
func joinVerify(args []string) []string {
	out := make([]string, 0, len(args))
	for _, a := range args {
		if n := len(out); n > 0 && out[n-1] == "--verify" && (a == "all" || a == "copied") {
			out[n-1] += "=" + a
			continue
		}
		out = append(out, a)
	}
	return out
}
