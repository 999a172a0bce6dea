package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/units"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/rpc"
)

func (a *app) throttleCommand() *cobra.Command {
	var (
		f           clientFlags
		route, rate string
		dryRun      bool
	)
	c := &cobra.Command{
		Use:   "throttle --route ROUTE --rate RATE",
		Short: "Bound how fast a route is copied, also while it is",
		Long: `Sets the rate of a route: the bytes per second that all its copies together read at the source, like 200MiB/s; none takes
the bound away. Copies under way follow within a second. The group keeps the rate, whoever leads it; nothing else about the
route changes.

It is what ` + "`rate`" + ` of a route says in the file of ` + "`route apply`" + `: applying the file again sets the file's, or none.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case route == "":
				return usageError{errors.New("--route is missing: name the route (`ckptferry route list` shows them)")}
			case rate == "":
				return usageError{errors.New("--rate is missing: give bytes per second, like 200MiB/s, or none")}
			}
			bytesPerSecond, err := units.ParseRate(rate)
			if err != nil {
				return usageError{fmt.Errorf("--rate: %w", err)}
			}
			var before int64
			var answer *ckptferryv1.ApplyRoutesResponse
			err = f.ask(cmd.Context(), func(ctx context.Context, agent api) (err error) {
				before, answer, err = throttle(ctx, agent, route, bytesPerSecond, dryRun)
				return err
			})
			if err != nil {
				return err
			}
			a.note("route %s: its rate was %s, and is to be %s", route, units.Rate(before), units.Rate(bytesPerSecond))
			return a.printChanges(f.output, dryRun, answer)
		},
	}
	f.register(c)
	c.Flags().StringVar(&route, "route", "", "the route (required)")
	c.Flags().StringVar(&rate, "rate", "", "bytes per second, like 200MiB/s, or none (required)")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "say what would change and change nothing")
	return c
}

// throttle applies a route again as it is, with another rate. Only the leader applies it, and what it reads of itself is
// what the group has; only somebody who applies the same route in the same moment could be overwritten.
func throttle(ctx context.Context, agent api, name string, bytesPerSecond int64, dryRun bool) (before int64, answer *ckptferryv1.ApplyRoutesResponse, err error) {
	all, err := agent.Routes(ctx)
	if err != nil {
		return 0, nil, err
	}
	i := slices.IndexFunc(all.GetRoutes(), func(r *ckptferryv1.Route) bool { return r.GetName() == name })
	if i < 0 {
		return 0, nil, fmt.Errorf("agent %s knows no route %q: ask an agent of the target datacenter (`ckptferry route list` shows what it pulls): %w",
			all.GetRead().GetAgent(), name, rpc.ErrNotFound)
	}
	route := all.GetRoutes()[i]
	before = route.GetBytesPerSecond()
	route.BytesPerSecond = bytesPerSecond
	answer, err = agent.ApplyRoutes(ctx, &ckptferryv1.ApplyRoutesRequest{Routes: []*ckptferryv1.Route{route}, DryRun: dryRun})
	return before, answer, err
}
