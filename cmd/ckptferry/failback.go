package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ckptferry/ckptferry/fsutil"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/rpc"
)

func (a *app) failbackCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "failback",
		Short: "Have jobs come back to the datacenter that was lost, over a route the other way",
		Long: `Is asked in the datacenter that was lost, once it is back and knows that it is fenced (ckptferry status says so). The jobs'
new checkpoints come over a route that pulls from the datacenter where they run now; a failback is a failover of that route
to a checkpoint that was made after the promotion there. docs/runbooks/failback.md has the whole way.`,
		Args: cobra.NoArgs, RunE: needSubcommand,
	}
	c.AddCommand(a.failbackPlanCommand(), a.runPlanCommand(&cobra.Command{
		Use:   "run PLAN.json|- [JOB…]",
		Short: "Carry out a plan of failback plan -o json: as failover run does",
		Long: `Carries out a plan that failback plan -o json printed. The jobs are promoted here, this datacenter's fences are lifted, and the
other one is told that it is fenced in its turn. Stop the jobs there with a savepoint or a last checkpoint before, and let it
become READY here: what is written after it is lost.`,
		Example: `  ckptferry failback run plan.json --reason 'dc1 is back'`,
		Args:    cobra.MinimumNArgs(1),
	}))
	return c
}

func (a *app) failbackPlanCommand() *cobra.Command {
	var (
		f    planFlags
		wait time.Duration
	)
	c := &cobra.Command{
		Use:   "plan --route BACK [JOB…]",
		Short: "Choose what fenced jobs come back with, and say what is missing for that; changes nothing",
		Long: `Plans as failover plan does, for the jobs that the source of the route BACK has promoted, and only with checkpoints that
were completed there since. If there is no such route, it prints the YAML of the export and the route that are to be applied.`,
		Example: `  ckptferry failback plan --route back
  ckptferry failback plan --route back orders --wait 10m -o json > plan.json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.route == "" {
				return usageError{errors.New("--route is missing: name the route that pulls from where the jobs run now; one that isn't there yet is shown as it could be")}
			}
			if wait < 0 {
				return usageError{fmt.Errorf("--wait %s: want 0 or more", wait)}
			}
			req, err := f.request(args, time.Now())
			if err != nil {
				return err
			}
			req.Failback = true
			if missing, err := a.missingRoute(cmd.Context(), f, args); missing || err != nil {
				return err
			}
			plan, err := f.await(cmd.Context(), req, wait)
			if err != nil {
				return err
			}
			if len(plan.Items) == 0 {
				return fmt.Errorf("no job of route %s is fenced here: %w: nothing was promoted there, or its agents have not told this datacenter yet; `ckptferry status` lists the fences", f.route, errNotKnown)
			}
			return a.printPlan(f.output, plan)
		},
	}
	f.register(c)
	c.Flags().StringVar(&f.route, "route", "", "the route that pulls from where the jobs run now (required)")
	c.Flags().DurationVar(&wait, "wait", 0, "wait so long for a READY replica of each job that was made after the promotion")
	return c
}

// await plans until nothing is blocked any more, or the time is up; the last plan says what is.
func (f planFlags) await(ctx context.Context, req *ckptferryv1.PlanFailoverRequest, within time.Duration) (rpc.FailoverPlan, error) {
	deadline := time.Now().Add(within)
	for {
		plan, err := f.ask(ctx, req)
		blocked := slices.ContainsFunc(plan.Items, func(i *ckptferryv1.FailoverItem) bool { return i.GetBlocked() != "" })
		if err != nil || !blocked && len(plan.Items) > 0 || !time.Now().Before(deadline) {
			return plan, err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return plan, ctx.Err()
		}
	}
}

// missingRoute prints what is to be applied when there is no such route yet.
func (a *app) missingRoute(ctx context.Context, f planFlags, jobs []string) (missing bool, err error) {
	client := f.clientFlags
	if client.output == "script" {
		client.output = "table"
	}
	var all *ckptferryv1.ListRoutesResponse
	err = client.ask(ctx, func(ctx context.Context, agent api) (err error) {
		all, err = agent.Routes(ctx)
		return err
	})
	if err != nil || slices.ContainsFunc(all.GetRoutes(), func(r *ckptferryv1.Route) bool { return r.GetName() == f.route }) {
		return false, err
	}
	status, err := client.status(ctx)
	if err != nil {
		return true, err
	}
	text := reverseYAML(f.route, status, all.GetExports(), jobs)
	if text == "" {
		return true, fmt.Errorf("route %s: %w, and no job is fenced here that could come back over it: `ckptferry status` lists the fences", f.route, errNotKnown)
	}
	if _, err := a.out.Write([]byte(text)); err != nil {
		return true, fmt.Errorf("write the result: %w", err)
	}
	return true, fmt.Errorf("route %s: %w: mend and apply what was printed, the export there and the route here, and plan again", f.route, errNoRouteBack)
}

var errNoRouteBack error = absentError("it is not there yet")

// reverseYAML is the export and the route that bring fenced jobs back, as far as this datacenter can know them. Empty when
// none of the jobs is fenced.
func reverseYAML(route string, status *ckptferryv1.GetStatusResponse, exports []*ckptferryv1.Export, patterns []string) string {
	var b strings.Builder
	for _, f := range status.GetFences() {
		var jobs []string
		for _, j := range f.GetJobs() {
			asked := len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool { is, err := path.Match(p, j.GetJob()); return is && err == nil })
			if asked {
				jobs = append(jobs, fmt.Sprintf("%q", j.GetJob()))
			}
		}
		at := slices.IndexFunc(exports, func(e *ckptferryv1.Export) bool { return e.GetName() == f.GetExport() })
		if len(jobs) == 0 || at < 0 {
			continue
		}
		there := f.GetDatacenter()
		var bases []string
		root := ""
		for _, base := range exports[at].GetBases() {
			bases = append(bases, fmt.Sprintf("%q", base))
			if above, _, ok := strings.Cut(base, "/{job}"); ok && root == "" {
				if u, err := fsutil.ParseURI(above); err == nil {
					root = u.Dir().Join("ckptferry-back").Join(route).String()
				}
			}
		}
		fmt.Fprintf(&b, `# In %[1]s, where the jobs run now. Mend bases: they are this datacenter's, and must be where Flink in %[1]s keeps checkpoints.
#   ckptferry export apply -f THIS-FILE --endpoint AGENT-OF-%[1]s:7070
exports:
  - name: %[2]s
    bases: [%[3]s]
    # The root of the replicas in %[1]s, where jobs were started with CLAIM: their checkpoints refer to files there.
    # also_readable: ["…"]
    to: [%[4]s]
# Here, in %[4]s. Mend root: a directory for replicas alone, outside of where Flink keeps checkpoints.
#   ckptferry route apply -f THIS-FILE
routes:
  - name: %[2]s
    from: {dc: %[1]s, export: %[2]s}
    root: %[5]q
    jobs: {include: [%[6]s]}
`, there, route, strings.Join(bases, ", "), status.GetDatacenter(), root, strings.Join(jobs, ", "))
		break // one route pulls from one datacenter
	}
	return b.String()
}
