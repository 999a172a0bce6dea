package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/rpc"
)

// printPlan prints a plan as it was asked for.
func (a *app) printPlan(output string, plan rpc.FailoverPlan) error {
	a.noteFreshness(plan.Read)
	switch output {
	case "json":
		return a.printMessage(&ckptferryv1.PlanFailoverResponse{Items: plan.Items, Plan: plan.ID, Read: plan.Read, Datacenter: plan.Datacenter})
	case "script":
		if _, err := a.out.Write([]byte(planScript(plan))); err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
		return nil
	}
	if err := a.printPlanTable(plan); err != nil {
		return err
	}
	a.note("plan %s: %s", plan.ID, planSummary(plan.Items))
	return nil
}

// printPlanTable prints a row for each job. What is to be known is the same for many, so it stands once below.
func (a *app) printPlanTable(plan rpc.FailoverPlan) error {
	var notes []string
	noted := func(text string) string {
		at := slices.Index(notes, text)
		if at < 0 {
			at, notes = len(notes), append(notes, text)
		}
		return fmt.Sprintf("[%d]", at+1)
	}
	var rows [][]string
	for _, i := range plan.Items {
		checkpoint, replica, rpo := "-", "-", "-"
		if i.GetKey() != nil {
			checkpoint, replica, rpo = fmt.Sprintf("chk-%d", i.GetKey().GetCheckpointId()), i.GetReplica(), durationCell(i.GetRpo())
		}
		var marks []string
		if i.GetBlocked() != "" {
			marks = append(marks, "BLOCKED"+noted(i.GetBlocked()))
		}
		for _, w := range i.GetWarnings() {
			marks = append(marks, noted(w))
		}
		rows = append(rows, []string{i.GetRoute(), i.GetJob(), checkpoint, rpo, lostCell(i.GetLostCheckpoints()), orDash(strings.Join(marks, "")), replica})
	}
	if err := a.printTable("ROUTE JOB CHECKPOINT RPO LOST WARNINGS REPLICA", rows); err != nil {
		return err
	}
	for n, text := range notes {
		if _, err := fmt.Fprintf(a.out, "[%d] %s\n", n+1, text); err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
	}
	return nil
}

// lostCell names the checkpoints that are lost, or counts them when they are many.
func lostCell(ids []int64) string {
	switch n := len(ids); {
	case n == 0:
		return "none"
	case n > 3:
		return fmt.Sprintf("%d, up to chk-%d", n, ids[n-1])
	}
	var all []string
	for _, id := range ids {
		all = append(all, fmt.Sprintf("chk-%d", id))
	}
	return strings.Join(all, ",")
}

func planSummary(items []*ckptferryv1.FailoverItem) string {
	can, promoted, blocked, worst := 0, 0, 0, time.Duration(0)
	for _, i := range items {
		switch {
		case i.GetBlocked() != "":
			blocked++
			continue
		case i.GetPromoted():
			promoted++
		default:
			can++
		}
		worst = max(worst, i.GetRpo().AsDuration())
	}
	s := fmt.Sprintf("%d jobs: %d can be promoted, %d are already, %d are blocked", len(items), can, promoted, blocked)
	if can+promoted > 0 {
		s += ", the oldest state is " + humanDuration(worst) + " old"
	}
	return s
}
