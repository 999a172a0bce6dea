// Command bench measures ckptferry against what else could do its work, and prints one table of ratios.
//
// It owns the measuring alone: what a figure must reach is written beside each measurement, and a figure that falls
// short is printed like any other. It installs nothing; a peer that is missing is a line of the table. Start at run;
// README.md says what each line means.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// section is one part of the measurements.
type section struct {
	name    string
	measure func(context.Context, *bench) error
}

func sections() []section {
	return []section{
		{"metadata", measureMetadata},
		{"local", measureLocal},
		{"delta", measureDelta},
		{"memory", measureMemory},
		{"retention", measureRetention},
		{"hdfs", measureHDFS},
		{"agents", measureAgents},
		{"failover", measureFailover},
	}
}

func main() {
	// Before anything else: a process that only starts another must be small (see peakRSS).
	if len(os.Args) > 2 && os.Args[1] == wrapFlag {
		os.Exit(wrap(os.Args[2:]))
	}
	if len(os.Args) == 3 && os.Args[1] == sweepFlag {
		moved, err := sweepRoot(context.Background(), os.Args[2])
		if err != nil {
			fmt.Fprintln(os.Stderr, "sweep:", err)
			os.Exit(1)
		}
		fmt.Println(moved)
		os.Exit(0)
	}
	// Others that this program is in a process of its own.
	if part, ok := parts[strings.Join(os.Args[1:], " ")]; ok {
		os.Exit(playPart(part))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one run of the measurements.
type bench struct {
	dir       string        // for everything that is written
	agents    []string      // parts of the section agents; none: all
	latencies int           // checkpoints of its part latency
	loadFor   time.Duration // of its part jobs
	binary    string        // the built ckptferry
	runs      int
	slowRuns  int
	progress  io.Writer
	began     time.Time
	rows      []row
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := flags.String("only", "", "measure these sections alone: metadata,local,delta,memory,retention,hdfs,agents,failover")
	agents := flags.String("agents", "", "of section agents, measure these parts alone: latency,large,wan,jobs,memory")
	latencies := flags.Int("latencies", 100, "how many checkpoints agents,latency takes")
	loadFor := flags.Duration("load-for", time.Minute, "how long agents,jobs lets checkpoints come")
	runs := flags.Int("runs", 5, "how often each side runs")
	slowRuns := flags.Int("slow-runs", 3, "how often sides run that take a minute")
	dir := flags.String("dir", "", "directory to work in (default: a new one in the temporary directory); about 10 GiB are needed")
	jsonFile := flags.String("json", "", "write the figures as JSON to this file too (they are printed after the table anyway)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	parts, err := chooseAgents(*agents)
	if err != nil {
		return err
	}
	if *runs < 1 || *slowRuns < 1 {
		return errors.New("-runs and -slow-runs: want 1 or more")
	}
	b := &bench{runs: *runs, slowRuns: min(*slowRuns, *runs), agents: parts, latencies: max(1, *latencies), loadFor: *loadFor, progress: os.Stderr, began: time.Now()}
	if b.dir, err = os.MkdirTemp(*dir, "ckptferry-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if b.binary, err = buildBinary(ctx, b.dir); err != nil {
		return err
	}
	var failed []error
	for _, s := range chosen {
		b.logf("%s …", s.name)
		if err := s.measure(ctx, b); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			failed = append(failed, fmt.Errorf("%s: %w", s.name, err))
			b.logf("%s: %v", s.name, err)
		}
	}
	r := report{Machine: thisMachine(ctx), Began: b.began.UTC().Truncate(time.Second), Seconds: time.Since(b.began).Seconds(), Rows: b.rows}
	if err := r.print(out); err != nil {
		return err
	}
	encoded, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if *jsonFile != "" {
		if err := os.WriteFile(*jsonFile, append(encoded, '\n'), 0o644); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(out, "\n%s\n", encoded); err != nil {
		return err
	}
	return errors.Join(failed...)
}

func choose(only string) ([]section, error) {
	all := sections()
	if only == "" {
		return all, nil
	}
	names := strings.Split(only, ",")
	for _, n := range names {
		if !slices.ContainsFunc(all, func(s section) bool { return s.name == n }) {
			return nil, fmt.Errorf("-only %s: no such section", n)
		}
	}
	return slices.DeleteFunc(all, func(s section) bool { return !slices.Contains(names, s.name) }), nil
}

// logf writes a line of progress.
func (b *bench) logf(format string, args ...any) {
	fmt.Fprintf(b.progress, "%6.1fs  %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}
