package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/units"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

func (a *app) drillListCommand() *cobra.Command {
	var f clientFlags
	c := &cobra.Command{
		Use:   "list [JOB]",
		Short: "List each job's last drill, and the last that passed",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			job := ""
			if len(args) == 1 {
				job = args[0]
			}
			all, ok := f.drills(cmd.Context(), a, job)
			switch {
			case !ok:
				return silentError{code: exitUnreachable} // what kept it was told
			case f.output == "json":
				raw, err := messagesJSON(all)
				if err != nil {
					return err
				}
				return printJSON(a.out, map[string]any{"jobs": raw})
			case len(all) == 0:
				a.note("no drill is on record: ckptferry drill JOB --level 1")
				return nil
			}
			return a.printTable("ROUTE JOB LEVEL RESULT STARTED RPO RTO FLINK LAST-PASSED BY", drillRows(all))
		},
	}
	f.register(c)
	return c
}

// rtoCell is how long a drill took to a running job. Level 1 starts none.
func rtoCell(d *ckptferryv1.Drill) string {
	if rto := d.GetRto().AsDuration(); rto > 0 && d.GetLevel() > 1 {
		return units.Duration(rto)
	}
	return "-"
}

func drillRows(all []*ckptferryv1.JobDrills) [][]string {
	var rows [][]string
	for _, of := range all {
		d := of.GetNewest()
		result := "passed"
		if !d.GetPassed() {
			result = "FAILED: " + d.GetDetail()
		}
		rows = append(rows, []string{
			d.GetKey().GetRoute(), d.GetJob(), strconv.Itoa(int(d.GetLevel())), result, timeCell(d.GetStartedTime()),
			units.Duration(d.GetRpo().AsDuration()), rtoCell(d), orDash(d.GetFlinkVersion()), timeCell(of.GetPassedTime()), orDash(d.GetActor()),
		})
	}
	return rows
}
