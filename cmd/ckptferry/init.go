package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/scaffold"
	"github.com/ckptferry/ckptferry/replicator"
)

func (a *app) initCommand() *cobra.Command {
	var req scaffold.Request
	c := &cobra.Command{
		Use:   "init DIR",
		Short: "Write commented configurations and development certificates for two datacenters of agents on this machine",
		Long: `Writes into DIR, for each agent of two datacenters, a directory with its configuration and certificate; a CA and the
certificate of an administrator; and an example of exports and routes. All addresses are on 127.0.0.1, each datacenter's
storage is a directory below DIR, so that it runs as it is. What it takes to use HDFS and other machines is said in the
comments. The certificates are for development: in production they come from your own CA.

Nothing is overwritten.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			req.Dir = args[0]
			if err := req.Validate(); err != nil {
				return usageError{fmt.Errorf("init: %w", err)}
			}
			err := scaffold.Write(req, time.Now(), a.out)
			switch {
			case errors.Is(err, scaffold.ErrExists):
				return fmt.Errorf("%w: %w", replicator.ErrRefused, err)
			case err != nil:
				return fmt.Errorf("init: %w", err)
			}
			return nil
		},
	}
	flags := c.Flags()
	flags.StringVar(&req.From, "dc", "dc1", "the datacenter that exports")
	flags.StringVar(&req.To, "peer", "dc2", "the datacenter that pulls")
	flags.IntVar(&req.Agents, "agents", 1, "agents in each datacenter: 1 or 3")
	return c
}
