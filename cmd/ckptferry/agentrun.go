package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/config"
	"github.com/ckptferry/ckptferry/cmd/ckptferry/node"
)

func (a *app) agentCommand() *cobra.Command {
	c := &cobra.Command{Use: "agent", Short: "The agent of a datacenter", Args: cobra.NoArgs, RunE: needSubcommand}
	var file string
	var untilStdinEnds bool
	run := &cobra.Command{
		Use:   "run --config FILE",
		Short: "Run an agent until SIGTERM or SIGINT",
		Long: `Runs one agent: it joins the Raft group of its datacenter, answers people and other datacenters, and, while it leads the
group, looks for completed checkpoints below what the group exports and pulls what its routes want.

It logs one line when it listens. SIGTERM or SIGINT ends it in order, within 10 s: leadership is handed over, copies under way
are given up (what they copied is used by the next attempt). A second signal ends it at once.

What the file says of limits, tls and log may change while the agent runs: it looks every five seconds, and at once at SIGHUP.
A change to anything else is refused by its name, in the log, and then nothing of the file is taken.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usageError{errors.New("--config is missing: name the agent's configuration (`ckptferry init` writes an example)")}
			}
			cfg, err := config.ReadAgent(file, os.Getenv)
			if err != nil {
				return configError{err}
			}
			ctx := cmd.Context()
			if untilStdinEnds {
				ctx = untilEnd(ctx, a.in)
			}
			v, _, _ := build()
			return node.Run(ctx, cfg, node.NewLog(a.err, cfg.Log), v)
		},
	}
	run.Flags().StringVar(&file, "config", "", "the agent's configuration (required)")
	_ = run.MarkFlagFilename("config", "yaml", "yml")
	run.Flags().BoolVar(&untilStdinEnds, "until-stdin-ends", false, "end also when standard input does: for a program that starts agents and must leave none behind, however it ends")
	_ = run.Flags().MarkHidden("until-stdin-ends")
	c.AddCommand(run)
	return c
}

// untilEnd returns a context that ends with ctx, or when all of in was read. The one who reads can't be interrupted: it
// ends with the process.
func untilEnd(ctx context.Context, in io.Reader) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	return ctx
}
