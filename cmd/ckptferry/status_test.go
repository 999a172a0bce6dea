package main

import (
	"testing"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

func TestAllThatKeepsARouteIsInItsProblem(t *testing.T) {
	gone := func(names ...string) (all []*ckptferryv1.GoneJob) {
		for _, name := range names {
			all = append(all, &ckptferryv1.GoneJob{Job: name})
		}
		return all
	}
	for want, r := range map[string]*ckptferryv1.RouteStatus{
		"":                    {},
		"cut":                 {Problem: "cut"},
		"cut; chk-1 of job a": {Problem: "cut", Failing: "chk-1 of job a"},
		"gone at the source, with replicas kept here: a":                  {GoneJobs: gone("a")},
		"full; gone at the source, with replicas kept here: a, b, c":      {Failing: "full", GoneJobs: gone("a", "b", "c")},
		"gone at the source, with replicas kept here: a, b, c and 2 more": {GoneJobs: gone("a", "b", "c", "d", "e")},
	} {
		if got := routeProblem(r); got != want {
			t.Errorf("routeProblem(%v) = %q, want %q", r, got, want)
		}
	}
}
