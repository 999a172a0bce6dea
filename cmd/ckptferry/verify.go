package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/ckptferry/ckptferry/replicator"
)

func (a *app) verifyCommand() *cobra.Command {
	var maps []string
	var output string
	var parallel int
	c := &cobra.Command{
		Use:   "verify PATH|ROOT",
		Short: "Check that every file a checkpoint refers to is there, long enough and unchanged",
		Long: `Exits 0 when every file that _metadata refers to is as it must be, or 7 with the names of those that are missing,
short or different. Of a replica every byte is read and compared with its manifest. Of a checkpoint that Flink
wrote there are no digests: presence and lengths are checked.

Of a replica ROOT (a directory that holds .ckptferry) every replica is read: for each job it says which is the newest whole one, and what is
wrong with the others. One that shares files with a replica that was handed to Flink with CLAIM is AT-RISK, and not offered. It needs no
agent. Exits 7 when a job has none.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			dir, err := checkpointDir(args[0])
			if err != nil {
				return err
			}
			req, err := checkRequest(maps, parallel)
			if err != nil {
				return err
			}
			stores := a.stores()
			defer func() { _ = stores.Close() }() // nothing was written
			root, err := isRoot(cmd.Context(), stores, dir)
			if err != nil {
				return advised(err)
			}
			if root {
				return a.verifyRoot(cmd.Context(), stores, dir, output)
			}
			req.Dir = dir
			report, err := replicator.Check(cmd.Context(), stores, req)
			return a.printReport(report, output, err)
		},
	}
	c.Flags().IntVar(&parallel, "parallel", replicator.DefaultParallel, "files read at a time")
	mapsFlag(c, &maps)
	outputFlag(c, &output)
	return c
}

// checkRequest is what the flags of a verification ask for, without the directory.
func checkRequest(maps []string, parallel int) (replicator.CheckRequest, error) {
	m, err := parseMaps(maps)
	if err == nil && parallel < 1 {
		err = usageError{fmt.Errorf("--parallel %d: want 1 or more", parallel)}
	}
	return replicator.CheckRequest{Maps: m, Parallel: parallel}, err
}

func (a *app) printReport(report replicator.CheckReport, output string, err error) error {
	if err != nil && !errors.Is(err, replicator.ErrVerify) {
		return advised(err)
	}
	if output == "json" {
		return errors.Join(err, printJSON(a.out, report))
	}
	if err != nil {
		for _, p := range report.Problems {
			if _, werr := fmt.Fprintln(a.out, p); werr != nil {
				return werr
			}
		}
		if !report.Digests && slices.ContainsFunc(report.Problems, func(p replicator.Problem) bool { return p.Kind == replicator.Missing }) {
			a.note("if the missing files lie elsewhere as seen from here, say where with --map FROM=TO")
		}
		return err
	}
	what := "every byte compared with the manifest"
	if !report.Digests {
		what = "presence and lengths; there is no manifest to compare bytes with"
	}
	_, err = fmt.Fprintf(a.out, "OK %s\n%d files, %s: %s\n", report.Dir, report.Files, humanBytes(report.Bytes), what)
	return err
}
