package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/units"
	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/replicator"
)

type replicateFlags struct {
	dryRun                             bool
	parallel                           int
	bwlimit, paths, verify, as, output string
	maps                               []string
}

func (a *app) replicateCommand() *cobra.Command {
	var f replicateFlags
	c := &cobra.Command{
		Use:   "replicate SRC DST",
		Short: "Make a replica of one checkpoint or savepoint, once",
		Long: `Copies every file that SRC's _metadata refers to, wherever it lies, below DST; reads each back and compares it;
rewrites _metadata so that it names nothing but the replica's own files; and renames it in last. SRC is only read.

  SRC   the directory of a completed checkpoint or savepoint (or the _metadata file in it)
  DST   the replica root, a directory of ckptferry's own, outside of every Flink checkpoint base

Run it again at any time: what is at DST with the right length and digest is not copied again, and shared files
that an earlier replica of the job brought aren't either.`,
		Example: `  ckptferry replicate hdfs://dc1/flink/checkpoints/orders/<job id>/chk-42 hdfs://dc2/flink/replicas
  ckptferry replicate /mnt/dc1/flink/cp/<job id>/chk-42 /mnt/dc2/replicas --as hdfs://dc2/flink/replicas --map hdfs://dc1/flink=/mnt/dc1/flink
  ckptferry replicate … --dry-run`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return a.replicate(cmd, args, f) },
	}
	flags := c.Flags()
	flags.BoolVar(&f.dryRun, "dry-run", false, "plan and say what would be copied; write nothing")
	flags.IntVar(&f.parallel, "parallel", replicator.DefaultParallel, "files copied at a time")
	flags.StringVar(&f.bwlimit, "bwlimit", "off", "bytes per second read from the source, like 200MiB/s")
	flags.StringVar(&f.paths, "paths", string(replicator.PathsAbsolute), "absolute: right for every restore; relative: the replica can be moved as a directory, for NO_CLAIM restores only")
	flags.StringVar(&f.verify, "verify", string(replicator.VerifyAll), "all: read back every file of the replica; copied: by their length trust files that an earlier READY replica vouches for")
	flags.Lookup("verify").NoOptDefVal = string(replicator.VerifyAll)
	flags.StringVar(&f.as, "as", "", "how Flink at the target names DST, when that differs from how it is reached from here")
	mapsFlag(c, &f.maps)
	outputFlag(c, &f.output)
	for flag, values := range map[string][]string{"paths": {"absolute", "relative"}, "verify": {"all", "copied"}} {
		_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	return c
}

func (f replicateFlags) request(args []string) (replicator.Request, error) {
	req := replicator.Request{Paths: replicator.PathMode(f.paths), Verify: replicator.VerifyMode(f.verify), Parallel: f.parallel, Meter: &replicator.Meter{}}
	var err error
	if err = checkOutput(f.output); err != nil {
		return req, err
	}
	if req.Source, err = checkpointDir(args[0]); err != nil {
		return req, err
	}
	if req.Target, err = fsutil.ParseURI(args[1]); err != nil {
		return req, usageError{err}
	}
	if f.as != "" {
		if !strings.Contains(f.as, ":") && !strings.HasPrefix(f.as, "/") {
			return req, usageError{fmt.Errorf("--as %q: want the URI that Flink at the target uses, like hdfs://dc2/flink/replicas", f.as)}
		}
		if req.As, err = fsutil.ParseURI(f.as); err != nil {
			return req, usageError{fmt.Errorf("--as: %w", err)}
		}
	}
	if req.BytesPerSecond, err = units.ParseRate(f.bwlimit); err != nil {
		return req, usageError{fmt.Errorf("--bwlimit: %w", err)}
	}
	if req.Maps, err = parseMaps(f.maps); err != nil {
		return req, err
	}
	if f.parallel < 1 {
		return req, usageError{fmt.Errorf("--parallel %d: want 1 or more", f.parallel)}
	}
	if err := req.Validate(); err != nil {
		return req, usageError{err}
	}
	return req, nil
}

func (a *app) replicate(cmd *cobra.Command, args []string, f replicateFlags) error {
	req, err := f.request(args)
	if err != nil {
		return err
	}
	stores := a.stores()
	defer func() { _ = stores.Close() }() // what was written is committed before; nothing is lost by a failed close
	act := replicator.Replicate
	if f.dryRun {
		act = replicator.Preview
	}
	stop := func() {}
	if !a.quiet {
		stop = showProgress(a.err, req.Meter)
	}
	res, err := act(cmd.Context(), stores, req)
	stop()
	err = advised(err)
	if f.output == "json" {
		type withError struct {
			replicator.Result
			Error string `json:"error,omitempty"`
		}
		out := withError{Result: res}
		if err != nil {
			out.Error = err.Error()
		}
		return errors.Join(err, printJSON(a.out, out))
	}
	if err != nil {
		return err
	}
	return a.printResult(res)
}

func (a *app) printResult(res replicator.Result) error {
	for _, w := range res.Warnings {
		a.note("warning: %s", w)
	}
	if res.Status == replicator.StatusPlanned {
		_, err := fmt.Fprintf(a.out, "%s %s\n%d files, %s; %d are there already, %s to copy\n", res.Status, res.Replica,
			res.Files, humanBytes(res.Bytes), res.FilesSkipped, humanBytes(res.BytesToCopy))
		return err
	}
	rate := ""
	if res.Seconds > 0 && res.BytesCopied > 0 {
		rate = fmt.Sprintf(", %s/s", humanBytes(int64(float64(res.BytesCopied)/res.Seconds)))
	}
	_, err := fmt.Fprintf(a.out, "%s %s\n%d files, %s; %d were there already, %s copied in %s%s\n", res.Status, res.Replica,
		res.Files, humanBytes(res.Bytes), res.FilesSkipped, humanBytes(res.BytesCopied), humanDuration(res.Duration), rate)
	if err == nil {
		a.note("start Flink from it: ckptferry restore-command %s", res.Replica)
	}
	return err
}
