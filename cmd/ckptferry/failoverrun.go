package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/replicator"
	"github.com/ckptferry/ckptferry/replicator/promote"
)

// deepItems is how many replicas are read in one call: each may be large.
const deepItems = 10

// How long one call may take, when nothing else is said: 200 replicas are looked at in it, or a few are read.
const (
	runWithin  = 2 * time.Minute
	deepWithin = time.Hour
)

// runFlags are those of failover run and failback run.
type runFlags struct {
	clientFlags
	deep, dryRun, force bool
	reason              string
}

func (f *runFlags) register(c *cobra.Command) {
	f.clientFlags.register(c)
	flags := c.Flags()
	flags.Lookup("timeout").Usage = "how long to wait for one answer (default 2m, with --deep 1h)"
	flags.BoolVar(&f.deep, "deep", false, "read every byte of each replica before; else its files' lengths and its _metadata")
	flags.BoolVar(&f.dryRun, "dry-run", false, "verify the replicas and say what would be done")
	flags.BoolVar(&f.force, "force", false, "promote also what the other datacenter is known to have promoted; this is recorded")
	flags.StringVar(&f.reason, "reason", "", "why, for the record")
}

func (a *app) failoverRunCommand() *cobra.Command {
	return a.runPlanCommand(&cobra.Command{
		Use:   "run PLAN.json|- [JOB…]",
		Short: "Carry out a plan: verify the replicas, and promote the jobs",
		Long: `Carries out a plan that failover plan -o json printed: all of it, or the jobs whose names match one of the patterns. Each
replica is looked at on the storage first. A job whose ground has moved since the plan (a newer replica, another promotion)
is refused and says what moved; the others go on. Running the same plan again is done already.

Exit code 6 when nothing was promoted because something was refused, or the plan is of another datacenter; 9 when a part was.`,
		Example: `  ckptferry failover run plan.json --reason 'dc1 is down, INC-4711'
  ckptferry failover plan -o json | ckptferry failover run - --dry-run`,
		Args: cobra.MinimumNArgs(1),
	})
}

func (a *app) runPlanCommand(c *cobra.Command) *cobra.Command {
	var f runFlags
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if !cmd.Flags().Changed("timeout") {
			f.timeout = runWithin
			if f.deep {
				f.timeout = deepWithin
			}
		}
		plan, err := a.readPlan(args[0])
		if err != nil {
			return err
		}
		items, err := chosenItems(plan.GetItems(), args[1:])
		if err != nil {
			return err
		}
		if err := f.isFor(cmd.Context(), plan); err != nil {
			return err
		}
		return a.runPlan(cmd.Context(), f, plan.GetPlan(), items)
	}
	f.register(c)
	return c
}

// readPlan reads what plan -o json printed. A plan that was changed since is refused: what a person read must be what is
// done, and jobs are left out by naming the others.
func (a *app) readPlan(name string) (*ckptferryv1.PlanFailoverResponse, error) {
	var (
		raw []byte
		err error
	)
	if name == "-" {
		raw, err = io.ReadAll(a.in)
	} else {
		raw, err = os.ReadFile(name)
	}
	if err != nil {
		return nil, configError{fmt.Errorf("read the plan: %w", err)}
	}
	plan := &ckptferryv1.PlanFailoverResponse{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, plan); err != nil || plan.GetPlan() == "" {
		return nil, configError{fmt.Errorf("%s is no plan: make one with `ckptferry failover plan -o json`", name)}
	}
	items := make([]promote.Item, len(plan.GetItems()))
	for i, m := range plan.GetItems() {
		items[i] = promote.ItemOf(m)
	}
	if is := promote.Digest(items); is != plan.GetPlan() {
		return nil, fmt.Errorf("%w: %s says that it is plan %s, and what it holds is not: it was changed since. To leave jobs out, name those that are wanted", replicator.ErrRefused, name, plan.GetPlan())
	}
	return plan, nil
}

// isFor refuses a plan of another datacenter: there each replica of it would look as if it were gone.
func (f runFlags) isFor(ctx context.Context, plan *ckptferryv1.PlanFailoverResponse) error {
	if plan.GetDatacenter() == "" {
		return nil // of an older agent
	}
	var status *ckptferryv1.GetStatusResponse
	err := f.ask(ctx, func(ctx context.Context, agent api) (err error) {
		status, err = agent.Status(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if here := status.GetDatacenter(); here != plan.GetDatacenter() {
		return fmt.Errorf("%w: this plan was made by %s, this is %s: give --endpoint agents of %[2]s, or plan here", replicator.ErrRefused, plan.GetDatacenter(), here)
	}
	return nil
}

// chosenItems are those whose job matches a pattern; all without one.
func chosenItems(items []*ckptferryv1.FailoverItem, patterns []string) ([]*ckptferryv1.FailoverItem, error) {
	if len(patterns) == 0 {
		return items, nil
	}
	matched := make([]bool, len(patterns))
	var chosen []*ckptferryv1.FailoverItem
	for _, i := range items {
		wanted := false
		for n, pattern := range patterns {
			is, err := path.Match(pattern, i.GetJob())
			if err != nil {
				return nil, usageError{fmt.Errorf("JOB %q: %w", pattern, err)}
			}
			matched[n], wanted = matched[n] || is, wanted || is
		}
		if wanted {
			chosen = append(chosen, i)
		}
	}
	for n, pattern := range patterns {
		if !matched[n] {
			return nil, fmt.Errorf("job %s: %w to the plan", pattern, errNotKnown)
		}
	}
	return chosen, nil
}

// runPlan runs a plan in parts, in its order: who is needed most is promoted first.
func (a *app) runPlan(ctx context.Context, f runFlags, plan string, items []*ckptferryv1.FailoverItem) error {
	all := &ckptferryv1.RunFailoverResponse{}
	promoted, refused := 0, 0
	var failed error
	for part := range planParts(items, f.deep) {
		req := &ckptferryv1.RunFailoverRequest{Plan: plan, Items: part, Deep: f.deep, Reason: f.reason, Force: f.force, DryRun: f.dryRun}
		var answer *ckptferryv1.RunFailoverResponse
		failed = f.ask(ctx, func(ctx context.Context, agent api) (err error) {
			answer, err = agent.RunFailover(ctx, req)
			return err
		})
		if failed != nil {
			break
		}
		all.Results, all.Read = append(all.Results, answer.GetResults()...), answer.GetRead()
		for _, r := range answer.GetResults() {
			if r.GetRefused() != "" {
				refused++
			} else {
				promoted++
			}
		}
		a.note("%d of %d jobs: %d %s, %d refused", promoted+refused, len(items), promoted, doneWord(f.dryRun), refused)
	}
	var err error
	if f.output == "json" {
		err = a.printMessage(all)
	} else {
		err = a.printTable("ROUTE JOB RESULT CHECKPOINT DETAIL", resultRows(items, all.GetResults(), f.dryRun))
	}
	switch {
	case err != nil:
		return err
	case failed != nil && promoted > 0 && !f.dryRun:
		return partialError{fmt.Errorf("%d of %d jobs were promoted, then: %w; run the same plan again, what was promoted is done", promoted, len(items), failed)}
	case failed != nil:
		return failed
	case refused > 0 && promoted > 0:
		return partialError{fmt.Errorf("%d of %d jobs were %w, as the table says: plan again for them", refused, len(items), errSomeRefused)}
	case refused > 0:
		return fmt.Errorf("%w: all %d jobs, as the table says: plan again", replicator.ErrRefused, refused)
	}
	if f.dryRun {
		a.note("dry run: nothing was changed")
	}
	return nil
}

func doneWord(dryRun bool) string {
	if dryRun {
		return "can be promoted"
	}
	return "promoted"
}

// planParts cuts a plan into what one call takes: of one route, and not too many.
func planParts(items []*ckptferryv1.FailoverItem, deep bool) func(yield func([]*ckptferryv1.FailoverItem) bool) {
	most := promote.MostItems
	if deep {
		most = deepItems
	}
	return func(yield func([]*ckptferryv1.FailoverItem) bool) {
		for len(items) > 0 {
			n := 1
			for n < len(items) && n < most && items[n].GetRoute() == items[0].GetRoute() {
				n++
			}
			if !yield(items[:n]) {
				return
			}
			items = items[n:]
		}
	}
}

func resultRows(items []*ckptferryv1.FailoverItem, results []*ckptferryv1.FailoverResult, dryRun bool) [][]string {
	var rows [][]string
	for n, r := range results {
		checkpoint := "-"
		if key := items[n].GetKey(); key != nil {
			checkpoint = fmt.Sprintf("chk-%d", key.GetCheckpointId())
		}
		result, detail := "PROMOTED", fmt.Sprintf("epoch %d, %s", r.GetPromotion().GetEpoch(), items[n].GetStart().GetRun())
		switch {
		case r.GetRefused() != "":
			result, detail = "REFUSED", strings.Join(strings.Fields(r.GetRefused()), " ")
		case r.GetDone():
			result = "DONE"
		case dryRun:
			result, detail = "WOULD", items[n].GetStart().GetRun()
		}
		rows = append(rows, []string{r.GetRoute(), r.GetJob(), result, checkpoint, detail})
	}
	return rows
}

// errNoPromotion is for who asks after a job that isn't promoted.
var errNoPromotion = errors.New("not promoted here")
