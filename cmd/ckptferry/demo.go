package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/ckptferry/ckptferry/flinkmeta/fixtures"
	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/replicator"
)

func (a *app) demoCommand() *cobra.Command {
	var keep bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show it: replicate a checkpoint that real Flink wrote, take the source away, verify the replica",
		Long: `Works in a temporary directory, with a checkpoint that Flink 1.20.0 wrote (RocksDB, incremental) and that is part of
this program: replicates it from dc-a to dc-b, takes dc-a away, verifies the replica file by file, and prints how
Flink is started from it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.demo(cmd, keep) },
	}
	c.Flags().BoolVar(&keep, "keep", false, "keep the temporary directory")
	return c
}

func (a *app) demo(cmd *cobra.Command, keep bool) (err error) {
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(a.out, format+"\n", args...) }
	work, err := os.MkdirTemp("", "ckptferry-demo-")
	if err != nil {
		return fmt.Errorf("make a directory for the demo: %w", err)
	}
	defer func() {
		if keep {
			say("\nkept: %s", work)
		} else if rerr := os.RemoveAll(work); err == nil && rerr != nil {
			err = fmt.Errorf("remove the demo's directory: %w", rerr)
		}
	}()
	dcA, dcB := filepath.Join(work, "dc-a"), filepath.Join(work, "dc-b", "replicas")
	written, err := fs.Sub(fixtures.Demo, fixtures.DemoCase+"/dc-a")
	if err != nil {
		return fmt.Errorf("unpack the demo's checkpoints: %w", err)
	}
	if err := os.CopyFS(dcA, written); err != nil {
		return fmt.Errorf("unpack the demo's checkpoints: %w", err)
	}
	checkpoints, err := filepath.Glob(filepath.Join(dcA, "flink/checkpoints", fixtures.DemoCase, "*", "chk-*"))
	if err != nil || len(checkpoints) == 0 {
		return fmt.Errorf("find the demo's checkpoints in %s: %w", dcA, fs.ErrNotExist)
	}
	source := fsutil.URI{Scheme: "file", Path: dcA}
	target := fsutil.URI{Scheme: "file", Path: dcB}
	// Flink wrote these checkpoints below /dc-a, so that is what their _metadata says.
	maps := replicator.PrefixMaps{{From: fsutil.URI{Scheme: "file", Path: "/dc-a"}, To: source}}
	stores := a.stores()
	defer func() { _ = stores.Close() }() // local files only

	say("1. Two consecutive checkpoints of one job, written by Flink 1.20.0, in %s", dcA)
	var replica string
	for _, chk := range checkpoints {
		dir, err := fsutil.ParseURI(chk)
		if err != nil {
			return err
		}
		res, err := replicator.Replicate(cmd.Context(), stores, replicator.Request{Source: dir, Target: target, Maps: maps})
		if err != nil {
			return err
		}
		replica = res.Replica
		say("   %s %s: %d files, %s; %d were there already, %s copied in %s", res.Status, filepath.Base(chk),
			res.Files, humanBytes(res.Bytes), res.FilesSkipped, humanBytes(res.BytesCopied), humanDuration(res.Duration))
	}

	say("2. The source is lost: %s is removed", dcA)
	if err := os.RemoveAll(dcA); err != nil {
		return fmt.Errorf("take the source away: %w", err)
	}

	say("3. The newest replica, checked byte by byte from what is left")
	dir, err := fsutil.ParseURI(replica)
	if err != nil {
		return err
	}
	report, err := replicator.Check(cmd.Context(), stores, replicator.CheckRequest{Dir: dir})
	if err != nil {
		return err
	}
	say("   OK %d files, %s", report.Files, humanBytes(report.Bytes))

	l, err := a.load(cmd.Context(), stores, replica)
	if err != nil {
		return err
	}
	line, err := replicator.Start(replicator.StartRequest{Path: replica, Meta: l.meta})
	if err != nil {
		return err
	}
	say("4. Flink %s is started from it with\n   %s YOUR-JOB.jar", line.Flink, line.Run)
	if !keep {
		say("   (this demo's directory is removed now; --keep leaves it)")
	}
	return nil
}
