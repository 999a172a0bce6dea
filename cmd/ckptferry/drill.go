package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/units"
	"github.com/ckptferry/ckptferry/fsutil"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
	"github.com/ckptferry/ckptferry/replicator/drill"
	"github.com/ckptferry/ckptferry/rpc"
)

// drillUsual is how long a drill's command may take where nothing is said.
const drillUsual = 10 * time.Minute

// drillFlags are the options of `drill`.
type drillFlags struct {
	client                clientFlags
	route, command, flink string
	scratch               string
	level, parallel       int
	onCopy                bool
}

func (a *app) drillCommand() *cobra.Command {
	var f drillFlags
	c := &cobra.Command{
		Use:   "drill JOB --level 1..3",
		Short: "Rehearse a job's failover with its newest replica, and keep the result on record",
		Long: `Takes the replica that a failover would choose, and rehearses with it, from where this command runs, which must reach the
storage:

  --level 1   every byte of it is readable and equal to its manifest
  --level 2   and --command starts Flink from it in a sandbox, where the job runs
  --level 3   and completes a checkpoint

The replica is pinned meanwhile, Flink starts with NO_CLAIM, which deletes nothing, and every byte is read after it has run.
A job with the changelog state backend starts with CLAIM alone, which would make the replica's files Flink's own: drill it
with --on-copy, which copies the replica below --scratch first and starts from there. The copy stays.

The command runs in a shell and is told what to start in its environment: CKPTFERRY_REPLICA, CKPTFERRY_CLAIM_MODE,
CKPTFERRY_START_LINE, CKPTFERRY_START_FLINK, CKPTFERRY_JOB, CKPTFERRY_ROUTE, CKPTFERRY_JOB_ID, CKPTFERRY_CHECKPOINT_ID,
CKPTFERRY_LEVEL and CKPTFERRY_TIMEOUT (seconds). It exits 0 when the job was RUNNING (level 3: and has completed a checkpoint),
takes the job away before it ends, also on SIGTERM, and prints two lines: flink_version=VERSION and running_after=SECONDS.
deploy/drill/session-cluster is such a command. What the job writes to its sinks while it is drilled is the sandbox's concern.

On record are the RPO (the age of the replica's checkpoint when the drill began), the RTO (from then to a running job; reading
and copying bytes, which a failover doesn't do, are not counted), the date and Flink's version: ` + "`ckptferry job describe`" + ` and
` + "`ckptferry status`" + ` show the last. Exit code 7 when the drill failed; 6 when it is refused.`,
		Example: `  ckptferry drill orders --level 1
  ckptferry drill orders --level 3 --command "FLINK_REST=http://sandbox:8081 JAR=orders.jar deploy/drill/session-cluster"`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.drill(cmd.Context(), args[0], f) },
	}
	c.AddCommand(a.drillListCommand())
	flags := c.Flags()
	f.client.register(c)
	flags.IntVar(&f.level, "level", 0, "1, 2 or 3 (required)")
	flags.StringVar(&f.route, "route", "", "the route, for a job that is on several")
	flags.StringVar(&f.command, "command", "", "the shell command that starts Flink from the replica, for levels 2 and 3")
	flags.StringVar(&f.flink, "flink", "", "the Flink version that it starts, like 1.20: which options the start line has")
	flags.BoolVar(&f.onCopy, "on-copy", false, "start from a copy of the replica below --scratch")
	flags.StringVar(&f.scratch, "scratch", "", "a directory of ckptferry's own for such copies, which Flink in the sandbox reaches by the same name")
	flags.IntVar(&f.parallel, "parallel", replicator.DefaultParallel, "files read or copied at a time")
	f.client.timeout = drillUsual
	timeout := flags.Lookup("timeout")
	timeout.Usage, timeout.DefValue = "how long the command may take", drillUsual.String()
	return c
}

// request is what the flags ask for, without the replica.
func (f drillFlags) request(a *app) (drill.Request, error) {
	req := drill.Request{Level: f.level, Parallel: f.parallel, Tell: func(what string) { a.note("%s", what) }}
	if _, _, err := f.client.check(); err != nil {
		return req, err
	}
	var err error
	switch {
	case f.level < drill.LevelBytes || f.level > drill.LevelCheckpoint:
		err = fmt.Errorf("--level %d: want 1 (every byte), 2 (Flink runs) or 3 (and completes a checkpoint)", f.level)
	case f.level > drill.LevelBytes && f.command == "":
		err = fmt.Errorf("--level %d needs --command: what starts Flink in the sandbox", f.level)
	case f.level == drill.LevelBytes && (f.command != "" || f.onCopy):
		err = errors.New("--level 1 only reads the replica: --command and --on-copy belong to levels 2 and 3")
	case f.onCopy != (f.scratch != ""):
		err = errors.New("--on-copy and --scratch belong together: a copy needs a place")
	case f.parallel < 1:
		err = fmt.Errorf("--parallel %d: want 1 or more", f.parallel)
	}
	if err == nil && f.flink != "" {
		if req.Flink, err = replicator.ParseFlinkVersion(f.flink); err != nil {
			err = fmt.Errorf("--flink: %w", err)
		}
	}
	if err == nil && f.onCopy {
		if req.Scratch, err = fsutil.ParseURI(f.scratch); err != nil {
			err = fmt.Errorf("--scratch: %w", err)
		}
	}
	if err != nil {
		return req, usageError{err}
	}
	if f.level > drill.LevelBytes {
		req.Starter = drill.Command{Line: f.command, Timeout: f.client.timeout, Stderr: a.err}
	}
	return req, nil
}

func (a *app) drill(ctx context.Context, job string, f drillFlags) error {
	req, err := f.request(a)
	if err != nil {
		return err
	}
	record := drillRecord{f.client}
	record.client.timeout = min(f.client.timeout, waitAnswer)
	if req.Replica, err = record.choose(ctx, a, job, f.route); err != nil {
		return err
	}
	stores := a.stores()
	defer func() { _ = stores.Close() }() // what was copied is committed before
	d, err := drill.Run(ctx, stores, record, req)
	if d.Detail == "" { // it wasn't made to its end
		return err
	}
	if f.client.output == "json" {
		return errors.Join(err, a.printMessage(raftstore.DrillMessage(d)))
	}
	return errors.Join(err, a.printDrill(d))
}

func (a *app) printDrill(d raftstore.Drill) error {
	result := "PASSED"
	if !d.Passed {
		result = "FAILED"
	}
	return a.printTable("JOB ROUTE CHECKPOINT LEVEL RESULT RPO RTO FLINK", [][]string{{
		d.Job, d.Key.Route, fmt.Sprint(d.Key.CheckpointID), fmt.Sprint(d.Level), result, units.Duration(d.RPO), rtoCell(raftstore.DrillMessage(d)), orDash(d.FlinkVersion),
	}})
}

// drillAPI is what drills ask of an agent.
type drillAPI interface {
	PlanFailover(ctx context.Context, req *ckptferryv1.PlanFailoverRequest) (rpc.FailoverPlan, error)
	PinReplica(ctx context.Context, req *ckptferryv1.PinReplicaRequest) (*ckptferryv1.PinReplicaResponse, error)
	RecordDrill(ctx context.Context, req *ckptferryv1.RecordDrillRequest) error
	Drills(ctx context.Context, req *ckptferryv1.ListDrillsRequest) (*ckptferryv1.ListDrillsResponse, error)
}

// drillRecord is the group of the agents that are asked, as a drill sees it.
type drillRecord struct{ client clientFlags }

var _ drill.Group = drillRecord{}

// choose asks which replica a failover would go on from, as a plan says it.
func (g drillRecord) choose(ctx context.Context, a *app, job, route string) (raftstore.Replica, error) {
	var (
		plan rpc.FailoverPlan
		all  *ckptferryv1.ListReplicasResponse
	)
	err := g.client.ask(ctx, func(ctx context.Context, agent api) (err error) {
		// A job's name may have what a pattern reads otherwise.
		quoted := strings.NewReplacer("*", `\*`, "?", `\?`, "[", `\[`, `\`, `\\`).Replace(job)
		if plan, err = agent.PlanFailover(ctx, &ckptferryv1.PlanFailoverRequest{Jobs: []string{quoted}, Route: route}); err != nil {
			return err
		}
		all, err = allReplicas(ctx, agent, &ckptferryv1.ListReplicasRequest{Job: job, Route: route, PageSize: replicaPage})
		return err
	})
	if err != nil {
		return raftstore.Replica{}, err
	}
	a.noteFreshness(plan.Read)
	item, err := drilledItem(job, plan.Items)
	if err != nil {
		return raftstore.Replica{}, err
	}
	for _, r := range all.GetReplicas() {
		if proto.Equal(r.GetKey(), item.GetKey()) {
			return raftstore.ReplicaOf(r), nil
		}
	}
	return raftstore.Replica{}, fmt.Errorf("%w: replica %s went away while it was asked about: run the drill again", replicator.ErrRefused, item.GetReplica())
}

// drilledItem is the one route of a plan that has something to go on from.
func drilledItem(job string, items []*ckptferryv1.FailoverItem) (*ckptferryv1.FailoverItem, error) {
	var routes, why []string
	var chosen *ckptferryv1.FailoverItem
	for _, i := range items {
		if i.GetKey() == nil {
			why = append(why, fmt.Sprintf("on route %s %s", i.GetRoute(), i.GetBlocked()))
			continue
		}
		routes, chosen = append(routes, i.GetRoute()), i
	}
	switch len(routes) {
	case 0:
		return nil, fmt.Errorf("%w: there is nothing to drill job %s with: %s", replicator.ErrRefused, job, strings.Join(why, "; "))
	case 1:
		return chosen, nil
	}
	return nil, usageError{fmt.Errorf("routes %s have replicas of job %s: say which one with --route", strings.Join(routes, " and "), job)}
}

// Pin implements drill.Group.
func (g drillRecord) Pin(ctx context.Context, key raftstore.Key, pinned bool) error {
	return g.client.ask(ctx, func(ctx context.Context, agent api) error {
		_, err := agent.PinReplica(ctx, &ckptferryv1.PinReplicaRequest{Key: raftstore.KeyMessage(key), Pinned: pinned})
		return err
	})
}

// Record implements drill.Group.
func (g drillRecord) Record(ctx context.Context, d raftstore.Drill) error {
	return g.client.ask(ctx, func(ctx context.Context, agent api) error {
		return agent.RecordDrill(ctx, &ckptferryv1.RecordDrillRequest{Drill: raftstore.DrillMessage(d)})
	})
}
