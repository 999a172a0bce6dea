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
		Use:   "verify PATH",
		Short: "Check that every file a checkpoint refers to is there, long enough and unchanged",
		Long: `Exits 0 when every file that _metadata refers to is as it must be, or 7 with the names of those that are missing,
short or different. Of a replica every byte is read and compared with its manifest. Of a checkpoint that Flink
wrote there are no digests: presence and lengths are checked.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			dir, err := checkpointDir(args[0])
			if err != nil {
				return err
			}
			m, err := parseMaps(maps)
			if err != nil {
				return err
			}
			if parallel < 1 {
				return usageError{fmt.Errorf("--parallel %d: want 1 or more", parallel)}
			}
			stores := a.stores()
			defer func() { _ = stores.Close() }() // nothing was written
			report, err := replicator.Check(cmd.Context(), stores, replicator.CheckRequest{Dir: dir, Maps: m, Parallel: parallel})
			return a.printReport(report, output, err)
		},
	}
	c.Flags().IntVar(&parallel, "parallel", replicator.DefaultParallel, "files read at a time")
	mapsFlag(c, &maps)
	outputFlag(c, &output)
	return c
}

func (a *app) printReport(report replicator.CheckReport, output string, err error) error {
	if err != nil && !errors.Is(err, replicator.ErrVerify) {
		return err
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
