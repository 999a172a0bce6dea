package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/config"
)

func (a *app) configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Look at an agent's configuration", Args: cobra.NoArgs, RunE: needSubcommand}
	c.AddCommand(&cobra.Command{
		Use:   "validate FILE",
		Short: "Check an agent's configuration: 0, or 2 with everything that is wrong",
		Long: `Checks the file, and then the certificates that it names, as agent run does before it listens: they must name this
agent, be valid now, and fit the key and the CA. So run it where the agent will run, or with its files.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, err := config.ReadAgent(args[0], os.Getenv)
			if err != nil {
				return configError{err}
			}
			if err := cfg.CheckCertificates(time.Now()); err != nil {
				return configError{err}
			}
			for _, file := range cfg.Files() {
				if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
					a.note("warning: %s is not there on this machine", file)
				} else if err != nil {
					a.note("warning: %v", err)
				}
			}
			_, err = fmt.Fprintf(a.out, "OK agent %s in %s: %d voters, %d other datacenters, %d stores\n",
				cfg.Node.ID, cfg.Node.DC, len(cfg.Voters), len(cfg.Datacenters), len(cfg.Places))
			return err
		},
	})
	return c
}
