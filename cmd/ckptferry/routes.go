package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/config"
	"github.com/ckptferry/ckptferry/cmd/ckptferry/units"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

func (a *app) exportCommand() *cobra.Command {
	c := &cobra.Command{Use: "export", Short: "What a datacenter lets others read", Args: cobra.NoArgs, RunE: needSubcommand}
	c.AddCommand(
		a.applyCommand("exports", "the source datacenter", func(r config.Routes, req *ckptferryv1.ApplyRoutesRequest) (applied, left int) {
			req.Exports = exportMessages(r.Exports)
			return len(r.Exports), len(r.Routes)
		}),
		a.listCommand("exports", func(all *ckptferryv1.ListRoutesResponse) error {
			return a.printTable("EXPORT TO BASES ALSO-READABLE", exportRows(all.GetExports()))
		}, func(all *ckptferryv1.ListRoutesResponse) { all.Routes = nil }),
		a.exportRemoveCommand(),
	)
	return c
}

func (a *app) routeCommand() *cobra.Command {
	c := &cobra.Command{Use: "route", Short: "What a datacenter pulls, and where to", Args: cobra.NoArgs, RunE: needSubcommand}
	c.AddCommand(
		a.applyCommand("routes", "the target datacenter", func(r config.Routes, req *ckptferryv1.ApplyRoutesRequest) (applied, left int) {
			req.Routes = routeMessages(r.Routes)
			return len(r.Routes), len(r.Exports)
		}),
		a.listCommand("routes", func(all *ckptferryv1.ListRoutesResponse) error {
			return a.printTable("ROUTE FROM MODE ROOT JOBS KEEP PRIORITY RATE PATHS EPOCH", routeRows(all.GetRoutes()))
		}, func(all *ckptferryv1.ListRoutesResponse) { all.Exports = nil }),
		a.routePauseCommand(), a.routeResumeCommand(), a.routeRemoveCommand(),
	)
	return c
}

// applyCommand is `export apply` and `route apply`. take puts the file's part into the request, and counts what is
// applied and what is the other command's.
func (a *app) applyCommand(what, where string, take func(config.Routes, *ckptferryv1.ApplyRoutesRequest) (applied, left int)) *cobra.Command {
	var (
		f      clientFlags
		file   string
		dryRun bool
	)
	c := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Set the " + what + " that a YAML file names; others stay as they are",
		Long: `Sets the ` + what + ` of the file in the group of the agent that is asked, which must be one of ` + where + `. Applying the same
file again changes nothing. What the file doesn't name stays as it is. Exports and routes may stand in one file: each
command takes its own.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usageError{errors.New("-f is missing: name the YAML file")}
			}
			routes, err := config.ReadRoutes(file)
			if err != nil {
				return configError{err}
			}
			req := &ckptferryv1.ApplyRoutesRequest{DryRun: dryRun}
			applied, left := take(routes, req)
			if applied == 0 {
				return usageError{fmt.Errorf("%s holds no %s: they stand below the key %q", file, what, what)}
			}
			if left > 0 {
				a.note("only the %s of %s are applied: the rest of the file is for the other command", what, file)
			}
			var answer *ckptferryv1.ApplyRoutesResponse
			err = f.ask(cmd.Context(), func(ctx context.Context, agent api) (err error) {
				answer, err = agent.ApplyRoutes(ctx, req)
				return err
			})
			if err != nil {
				return err
			}
			return a.printChanges(f.output, dryRun, answer)
		},
	}
	f.register(c)
	c.Flags().StringVarP(&file, "file", "f", "", "YAML file (required)")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "say what would change and change nothing")
	_ = c.MarkFlagFilename("file", "yaml", "yml")
	return c
}

func (a *app) printChanges(output string, dryRun bool, answer *ckptferryv1.ApplyRoutesResponse) error {
	if output == "json" {
		return a.printMessage(answer)
	}
	if len(answer.GetChanges()) == 0 {
		a.note("nothing to change")
	}
	for _, change := range answer.GetChanges() {
		if _, err := fmt.Fprintln(a.out, change); err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
	}
	if dryRun {
		a.note("dry run: nothing was changed")
	}
	return nil
}

// listCommand is `export list` and `route list`; only leaves the command's part of the answer.
func (a *app) listCommand(what string, table func(*ckptferryv1.ListRoutesResponse) error, only func(*ckptferryv1.ListRoutesResponse)) *cobra.Command {
	var f clientFlags
	c := &cobra.Command{
		Use:   "list",
		Short: "List the " + what,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all *ckptferryv1.ListRoutesResponse
			err := f.ask(cmd.Context(), func(ctx context.Context, agent api) (err error) {
				all, err = agent.Routes(ctx)
				return err
			})
			if err != nil {
				return err
			}
			a.noteFreshness(all.GetRead())
			only(all)
			if f.output == "json" {
				return a.printMessage(all)
			}
			return table(all)
		},
	}
	f.register(c)
	return c
}

func exportMessages(exports []config.Export) []*ckptferryv1.Export {
	var all []*ckptferryv1.Export
	for _, e := range exports {
		all = append(all, &ckptferryv1.Export{Name: e.Name, Bases: e.Bases, AlsoReadable: e.AlsoReadable, To: e.To})
	}
	return all
}

var routeModes = map[string]ckptferryv1.RouteMode{
	"continuous": ckptferryv1.RouteMode_ROUTE_MODE_CONTINUOUS,
	"paused":     ckptferryv1.RouteMode_ROUTE_MODE_PAUSED,
	"on_demand":  ckptferryv1.RouteMode_ROUTE_MODE_ON_DEMAND,
}

func routeMessages(routes []config.Route) []*ckptferryv1.Route {
	var all []*ckptferryv1.Route
	for _, r := range routes {
		all = append(all, &ckptferryv1.Route{
			Name: r.Name, FromDatacenter: r.From.DC, FromExport: r.From.Export, Root: r.Root,
			Include: r.Jobs.Include, Exclude: r.Jobs.Exclude,
			Mode: routeModes[r.Mode], Keep: r.Keep, Priority: r.Priority, RelativePaths: r.Paths == "relative",
			BytesPerSecond: int64(r.Rate), KeepDaily: r.KeepDaily, KeepSavepoints: r.KeepSavepoints,
			KeepFor: durationOrNone(r.KeepFor), Grace: durationOrNone(r.Grace),
		})
	}
	return all
}

func exportRows(exports []*ckptferryv1.Export) [][]string {
	var rows [][]string
	for _, e := range exports {
		rows = append(rows, []string{e.GetName(), strings.Join(e.GetTo(), ","), strings.Join(e.GetBases(), ","), orDash(strings.Join(e.GetAlsoReadable(), ","))})
	}
	return rows
}

func routeRows(routes []*ckptferryv1.Route) [][]string {
	var rows [][]string
	for _, r := range routes {
		jobs := orDash(strings.Join(r.GetInclude(), ","))
		if jobs == "-" {
			jobs = "*"
		}
		for _, pattern := range r.GetExclude() {
			jobs += ",!" + pattern
		}
		paths := "absolute"
		if r.GetRelativePaths() {
			paths = "relative"
		}
		rows = append(rows, []string{
			r.GetName(), r.GetFromDatacenter() + "/" + r.GetFromExport(), strings.ToLower(enumName(r.GetMode().String(), "ROUTE_MODE_")),
			r.GetRoot(), jobs, keptOf(r), strconv.Itoa(int(r.GetPriority())), units.Rate(r.GetBytesPerSecond()), paths, strconv.FormatUint(r.GetEpoch(), 10),
		})
	}
	return rows
}

// durationOrNone is absent for zero, as the state has it.
func durationOrNone(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

// keptOf is what a route keeps, in one word of a table: "3+7d+48h" keeps three checkpoints, one of each of seven days, and
// those of the last 48 hours.
func keptOf(r *ckptferryv1.Route) string {
	keep := "all"
	if r.GetKeep() > 0 {
		keep = strconv.Itoa(int(r.GetKeep()))
		if n := r.GetKeepDaily(); n > 0 {
			keep += fmt.Sprintf("+%dd", n)
		}
		if d := r.GetKeepFor().AsDuration(); d > 0 {
			keep += "+" + humanDuration(d)
		}
	}
	if n := r.GetKeepSavepoints(); n > 0 {
		keep += fmt.Sprintf(",%dsp", n)
	}
	return keep
}
