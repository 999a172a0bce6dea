package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ckptferry/ckptferry/replicator"
)

func (a *app) restoreCommandCommand() *cobra.Command {
	var flink, mode, as, output string
	c := &cobra.Command{
		Use:   "restore-command PATH",
		Short: "Print how Flink is started from a replica, checkpoint or savepoint",
		Long: `Prints the exact flink run -s line, the SET statements of Flink SQL, a patch for the Flink Kubernetes
operator, and what to know before. What is known to fail,
or to lose state later, is refused with the reason.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			req := replicator.StartRequest{Mode: replicator.ClaimMode(mode)}
			var err error
			if flink != "" {
				if req.Flink, err = replicator.ParseFlinkVersion(flink); err != nil {
					return usageError{fmt.Errorf("--flink: %w", err)}
				}
			}
			if mode != "" && req.Mode != replicator.Claim && req.Mode != replicator.NoClaim {
				return usageError{fmt.Errorf("--mode %q: want NO_CLAIM or CLAIM", mode)}
			}
			stores := a.stores()
			defer func() { _ = stores.Close() }() // only read
			l, err := a.load(cmd.Context(), stores, args[0])
			if err != nil {
				return err
			}
			found, err := replicator.LookUp(cmd.Context(), stores, replicator.LookupRequest{Dir: l.dir, Raw: l.raw})
			if err != nil {
				return err
			}
			req.Facts, req.Path = replicator.FactsOf(l.meta), found.Path
			if l.file.Base() != metadataFile {
				req.Path = l.file.String()
			}
			if as != "" {
				req.Path = as
			}
			line, err := replicator.Start(req)
			if err != nil {
				return err
			}
			standing, err := replicator.StandingOf(cmd.Context(), stores, l.dir)
			if err != nil {
				return err
			}
			if warning := standingWarning(standing); warning != "" {
				a.note("%s", warning)
				line.Advice = append([]string{warning}, line.Advice...)
			}
			line.Advice = append(line.Advice, found.Advice...)
			if output == "json" {
				return printJSON(a.out, line)
			}
			return a.printStartLine(line)
		},
	}
	flags := c.Flags()
	flags.StringVar(&flink, "flink", "", "the Flink version that will be started (default: 1.20, or what the _metadata needs)")
	flags.StringVar(&mode, "mode", "", "NO_CLAIM or CLAIM (default: what is right for this checkpoint)")
	flags.StringVar(&as, "as", "", "how Flink names PATH, when that differs from how it is reached from here (a replica knows)")
	_ = c.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions([]string{"NO_CLAIM", "CLAIM"}, cobra.ShellCompDirectiveNoFileComp))
	outputFlag(c, &output)
	return c
}

// standingWarning is what the marks on the storage have to say to who wants to start from a replica; empty when nothing.
func standingWarning(s replicator.Standing) string {
	switch {
	case s.AtRisk != "":
		return "WARNING: DO NOT START FROM THIS REPLICA while there is another one. " + s.AtRisk
	case s.Claimed:
		return "WARNING: this replica was handed to Flink with CLAIM: a job may run from it, and deletes its files as it goes on. Start from it only when that job does not run; `ckptferry metadata verify PATH` says whether all files are there"
	}
	return ""
}

func (a *app) printStartLine(l replicator.StartLine) error {
	if _, err := fmt.Fprintf(a.out, "%s\n\n-- Flink SQL\n", l.Run); err != nil {
		return err
	}
	for _, s := range l.SQL {
		if _, err := fmt.Fprintln(a.out, s); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(a.out, "\n-- Flink Kubernetes operator (-o json has a FlinkStateSnapshot too)\nkubectl patch flinkdeployment NAME --type merge -p '%s'\n", strings.ReplaceAll(l.DeploymentPatch, "'", `'\''`)); err != nil {
		return err
	}
	for _, s := range l.Advice {
		if _, err := fmt.Fprintf(a.out, "\n# %s", s); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(a.out)
	return err
}
