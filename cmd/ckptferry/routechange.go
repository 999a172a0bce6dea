package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/rpc"
)

// removeCommand is `export remove` and `route remove`. take puts the names into the request.
func (a *app) removeCommand(what, long string, take func(*ckptferryv1.RemoveRoutesRequest, []string)) *cobra.Command {
	var (
		f      clientFlags
		dryRun bool
	)
	c := &cobra.Command{
		Use:   "remove NAME…",
		Short: "Forget " + what + "; replicas stay",
		Long:  long,
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			req := &ckptferryv1.RemoveRoutesRequest{DryRun: dryRun}
			take(req, names)
			var answer *ckptferryv1.RemoveRoutesResponse
			// In a call of its own: when the answer to the removal is lost, asking again finds nothing, and that is right.
			err := f.ask(cmd.Context(), func(ctx context.Context, agent api) error { return knowsAll(ctx, agent, req) })
			if err != nil {
				return err
			}
			err = f.ask(cmd.Context(), func(ctx context.Context, agent api) (err error) {
				answer, err = agent.RemoveRoutes(ctx, req)
				return err
			})
			if err != nil {
				return err
			}
			if f.output == "json" {
				return a.printMessage(answer)
			}
			return a.printChanges(f.output, dryRun, &ckptferryv1.ApplyRoutesResponse{Changes: answer.GetChanges()})
		},
	}
	f.register(c)
	c.Flags().BoolVar(&dryRun, "dry-run", false, "say what would change and change nothing")
	return c
}

// knowsAll refuses names that the agent does not know: they are mistyped, or those of another datacenter.
func knowsAll(ctx context.Context, agent api, req *ckptferryv1.RemoveRoutesRequest) error {
	all, err := agent.Routes(ctx)
	if err != nil {
		return err
	}
	var unknown []string
	for _, name := range req.GetExports() {
		if !slices.ContainsFunc(all.GetExports(), func(e *ckptferryv1.Export) bool { return e.GetName() == name }) {
			unknown = append(unknown, "export "+name)
		}
	}
	for _, name := range req.GetRoutes() {
		if !slices.ContainsFunc(all.GetRoutes(), func(r *ckptferryv1.Route) bool { return r.GetName() == name }) {
			unknown = append(unknown, "route "+name)
		}
	}
	if len(unknown) > 0 {
		return fmt.Errorf("agent %s knows no %s, and nothing was changed: `ckptferry export list` and `ckptferry route list` show what its datacenter has: %w",
			all.GetRead().GetAgent(), strings.Join(unknown, ", no "), rpc.ErrNotFound)
	}
	return nil
}

func (a *app) exportRemoveCommand() *cobra.Command {
	return a.removeCommand("exports", `Forgets exports in the group of the agent that is asked, with what was found below them: from then on no other datacenter
reads them, and routes that pull them say so. Nothing on the storage is touched. A name that is not there exits 3, and nothing is changed.`,
		func(req *ckptferryv1.RemoveRoutesRequest, names []string) { req.Exports = names })
}

func (a *app) routeRemoveCommand() *cobra.Command {
	return a.removeCommand("routes", `Forgets routes in the group of the agent that is asked, with what is known of their sources. Their replicas stay, on the storage
and on record: restore from them, verify them and fail over to them as before. A route that copies just now is refused: pause
it first. So is one that jobs go on here from. A name that is not there exits 3, and nothing is changed.`,
		func(req *ckptferryv1.RemoveRoutesRequest, names []string) { req.Routes = names })
}

// modeCommand is `route pause` and `route resume`.
func (a *app) modeCommand(verb, short, long string, mode ckptferryv1.RouteMode) *cobra.Command {
	var (
		f      clientFlags
		dryRun bool
	)
	c := &cobra.Command{
		Use:   verb + " NAME…",
		Short: short,
		Long:  long,
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			var answer *ckptferryv1.ApplyRoutesResponse
			err := f.ask(cmd.Context(), func(ctx context.Context, agent api) (err error) {
				answer, err = setMode(ctx, agent, names, mode, dryRun)
				return err
			})
			if err != nil {
				return err
			}
			return a.printChanges(f.output, dryRun, answer)
		},
	}
	f.register(c)
	c.Flags().BoolVar(&dryRun, "dry-run", false, "say what would change and change nothing")
	return c
}

func (a *app) routePauseCommand() *cobra.Command {
	return a.modeCommand("pause", "Stop copying what routes pull; replicas stay, and lag is told on", `Copies under way are given up: what they copied is kept, and used when the route goes on. The source is listened to on, so the lag
grows and is told. It is what `+"`mode: paused`"+` says in the file of `+"`route apply`"+`: applying the file again sets the file's.`,
		ckptferryv1.RouteMode_ROUTE_MODE_PAUSED)
}

func (a *app) routeResumeCommand() *cobra.Command {
	return a.modeCommand("resume", "Copy each new checkpoint of paused routes again", `The newest checkpoint of each job comes first. It sets `+"`mode: continuous`"+`, also for a route whose mode was on_demand.`,
		ckptferryv1.RouteMode_ROUTE_MODE_CONTINUOUS)
}

// setMode applies routes again as they are, but for their mode. Like throttle it could only overwrite somebody who applies
// one of them in the same moment.
func setMode(ctx context.Context, agent api, names []string, mode ckptferryv1.RouteMode, dryRun bool) (*ckptferryv1.ApplyRoutesResponse, error) {
	all, err := agent.Routes(ctx)
	if err != nil {
		return nil, err
	}
	req := &ckptferryv1.ApplyRoutesRequest{DryRun: dryRun}
	var unknown []string
	for _, name := range names {
		i := slices.IndexFunc(all.GetRoutes(), func(r *ckptferryv1.Route) bool { return r.GetName() == name })
		if i < 0 {
			unknown = append(unknown, name)
			continue
		}
		route := all.GetRoutes()[i]
		route.Mode = mode
		req.Routes = append(req.Routes, route)
	}
	if len(unknown) > 0 {
		return nil, fmt.Errorf("agent %s knows no route %s, and nothing was changed: ask an agent of the target datacenter (`ckptferry route list` shows what it pulls): %w",
			all.GetRead().GetAgent(), strings.Join(unknown, ", "), rpc.ErrNotFound)
	}
	return agent.ApplyRoutes(ctx, req)
}
