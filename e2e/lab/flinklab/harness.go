package flinklab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"time"
)

// commandTimeout bounds one run of the harness; a gen or restore takes 4 to 8 s.
const commandTimeout = 2 * time.Minute

// GenOptions say which job runs and what it leaves behind. The zero value of a field is the harness's default.
type GenOptions struct {
	Dir             string // URI of the checkpoint directory
	Target          int64  // elements in all
	Keys            int
	Payload         int // bytes a key
	Parallelism     int
	Checkpoints     int           // how many to wait for
	Retained        int           // how many Flink keeps
	Interval        time.Duration // between checkpoints
	MemoryThreshold string        // up to which Flink writes state inline, such as 1kb
	SavepointDir    string        // URI; with it the job takes savepoints at its end
	SavepointFormat string        // CANONICAL, NATIVE or both with a comma
	Conf            []string      // key=value of Flink's configuration
	Args            []string      // any other option of the harness
}

func (o GenOptions) args() []string {
	args := []string{"gen", "--dir", o.Dir}
	for _, opt := range []struct {
		name string
		n    int64
	}{
		{"--target", o.Target},
		{"--keys", int64(o.Keys)},
		{"--payload", int64(o.Payload)},
		{"--parallelism", int64(o.Parallelism)},
		{"--checkpoints", int64(o.Checkpoints)},
		{"--retained", int64(o.Retained)},
		{"--interval", o.Interval.Milliseconds()},
	} {
		if opt.n != 0 {
			args = append(args, opt.name, strconv.FormatInt(opt.n, 10))
		}
	}
	for _, opt := range [][2]string{
		{"--memory-threshold", o.MemoryThreshold}, {"--savepoint-dir", o.SavepointDir}, {"--savepoint-format", o.SavepointFormat},
	} {
		if opt[1] != "" {
			args = append(args, opt[0], opt[1])
		}
	}
	return append(withConf(args, o.Conf), o.Args...)
}

// Gen runs the job until all of its elements are in and the checkpoints are taken, cancels it, and gives its ledger.
// The checkpoints stay (RETAIN_ON_CANCELLATION).
func (l *Lab) Gen(ctx context.Context, o GenOptions) (Ledger, error) {
	file, err := tempName(l.workDir, "gen-ledger-*.json")
	if err != nil {
		return Ledger{}, err
	}
	if out, err := l.run(ctx, append(o.args(), "--ledger", file)); err != nil {
		return Ledger{}, fmt.Errorf("generate checkpoints in %s: %w\n%s", o.Dir, err, lastLines(out, 20))
	}
	return LedgerOf(file)
}

// RestoreOptions say what to restore and what it must hold.
type RestoreOptions struct {
	Path        string // URI of a chk-N or savepoint
	Mode        string // NO_CLAIM or CLAIM
	Dir         string // URI of the restored job's own checkpoint directory
	Ledger      Ledger
	More        int           // elements to run on by; 0 = check the state as it is
	Checkpoints int           // how many further checkpoints to wait for
	Interval    time.Duration // between them
	Conf        []string      // key=value of Flink's configuration
	Args        []string      // any other option of the harness
}

// Result is a restore that was right.
type Result struct {
	// Ledger of the restored job; its checkpoints were taken before its timers fired, so they can be restored again.
	Ledger Ledger
	Output string
}

// RestoreCheck starts the job from Path and compares all of its state with the ledger, see e2e/lab/flink/README.md.
// A restore that Flink refuses or that is wrong in any point is ErrNotRestored, with what the harness said.
// Take away what the job must not read before the call: Flink reads whatever it can reach.
func (l *Lab) RestoreCheck(ctx context.Context, o RestoreOptions) (Result, error) {
	in, err := o.Ledger.write(l.workDir)
	if err != nil {
		return Result{}, fmt.Errorf("write ledger: %w", err)
	}
	args := []string{
		"restore-check", "--path", o.Path, "--mode", o.Mode, "--dir", o.Dir, "--ledger", in, "--ledger-out", in + ".out",
		"--more", strconv.Itoa(o.More), "--checkpoints", strconv.Itoa(o.Checkpoints),
		// enough that none of the ledger's is subsumed while the timers fire
		"--retained", "10",
	}
	if o.Interval != 0 {
		args = append(args, "--interval", strconv.FormatInt(o.Interval.Milliseconds(), 10))
	}
	out, err := l.run(ctx, append(withConf(args, o.Conf), o.Args...))
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return Result{Output: string(out)}, fmt.Errorf("restore %s: %w\n%s", o.Path, ErrNotRestored, lastLines(out, 20))
	} else if err != nil {
		return Result{Output: string(out)}, fmt.Errorf("restore %s: %w\n%s", o.Path, err, lastLines(out, 20))
	}
	after, err := LedgerOf(in + ".out")
	return Result{Ledger: after, Output: string(out)}, err
}

// Dump is what Flink's own loader reads of the _metadata at uri, as JSON: the shape of the fixtures' expected files.
func (l *Lab) Dump(ctx context.Context, uri string) (json.RawMessage, error) {
	out, err := l.output(l.Command(ctx, "dump", uri))
	if err != nil {
		return nil, fmt.Errorf("dump %s: %w", uri, err)
	}
	return out, nil
}

// MetadataTimes are Flink's own loader and serializer on one _metadata, bytes to bytes in memory; medians in a warm JVM,
// in milliseconds.
type MetadataTimes struct {
	Flink        string  `json:"flink"`
	FileBytes    int64   `json:"file_bytes"`
	StoredBytes  int64   `json:"stored_bytes"`
	Rounds       int     `json:"rounds"`
	FirstLoadMS  float64 `json:"first_load_ms"`
	FirstStoreMS float64 `json:"first_store_ms"`
	LoadMS       float64 `json:"load_ms"`
	StoreMS      float64 `json:"store_ms"`
}

// BenchMetadata measures rounds rounds after as many that warm the JVM up. The JVM has its default compiler and
// collector, unlike the other commands.
func (l *Lab) BenchMetadata(ctx context.Context, file string, rounds int) (MetadataTimes, error) {
	var t MetadataTimes
	out, err := l.output(l.Command(ctx, benchCommand, file, strconv.Itoa(rounds)))
	if err != nil {
		return t, fmt.Errorf("bench %s: %w", file, err)
	}
	if err := json.Unmarshal(out, &t); err != nil {
		return t, fmt.Errorf("bench %s: %w", file, err)
	}
	return t, nil
}

// run gives stdout and stderr together.
func (l *Lab) run(ctx context.Context, args []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	out, err := l.Command(ctx, args...).CombinedOutput()
	return out, withCause(ctx, err)
}

// output gives stdout; the error carries the end of stderr.
func (l *Lab) output(cmd *exec.Cmd) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, lastLines(stderr.Bytes(), 20))
	}
	return stdout.Bytes(), nil
}

// withCause prefers "deadline exceeded" to the "signal: killed" that it led to.
func withCause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func withConf(args, conf []string) []string {
	for _, kv := range conf {
		args = append(args, "--conf", kv)
	}
	return args
}
