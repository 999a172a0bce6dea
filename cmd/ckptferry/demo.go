package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/demo"
)

func (a *app) demoCommand() *cobra.Command {
	var cfg demo.Config
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show it: two datacenters of agents on this machine, fed with checkpoints that real Flink wrote",
		Long: `Starts two datacenters of agents on 127.0.0.1, real processes with mTLS, in a temporary directory, and feeds one of them
with consecutive checkpoints of three jobs that Flink 1.20.0 and 2.3.0 wrote and that are part of this program. They
appear and are deleted in Flink's own order.

On a terminal it shows the lag live and says what to try, until Ctrl-C, which leaves nothing behind. Otherwise it goes
through its script once, in less than a minute: the first READY replica, the death of the target's leader, the loss of the source,
the failover with its plan and how Flink is started, and the replicas verified. It exits with 0 when all of that worked.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cfg.Agents != 1 && cfg.Agents != 3 {
				return usageError{fmt.Errorf("--agents %d: want 1 or 3", cfg.Agents)}
			}
			stores := a.stores()
			defer func() { _ = stores.Close() }() // local files only
			cfg.Stores, cfg.Out, cfg.Err, cfg.Program = stores, a.out, a.err, os.Args[0]
			if f, ok := a.out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
				cfg.Width = func() int { return columns(f) }
			}
			return demo.Run(cmd.Context(), cfg)
		},
	}
	c.Flags().IntVar(&cfg.Agents, "agents", 3, "agents in each datacenter: 3, or 1")
	c.Flags().BoolVar(&cfg.Keep, "keep", false, "keep the temporary directory")
	return c
}
