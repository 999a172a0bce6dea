package agent

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/ckptferry/ckptferry/raftstore"
)

func goodExport() raftstore.Export {
	return raftstore.Export{Name: "prod", Bases: []string{"hdfs://dc2/flink/cp/{job}"}, AlsoReadable: []string{"hdfs://dc2/flink/changelog"}, To: []string{"dc3"}}
}

func goodRoute() raftstore.Route {
	return raftstore.Route{Name: "in", FromDC: "dc1", FromExport: "prod", Root: "hdfs://dc2/replicas", Mode: raftstore.RouteContinuous, Keep: 3}
}

func inState(t *testing.T, test func(t *testing.T, s *state)) {
	synctest.Test(t, func(t *testing.T) { test(t, newState(t)) })
}

func mustApply(t *testing.T, s *state, e []raftstore.Export, r []raftstore.Route, dryRun bool, want ...string) {
	t.Helper()
	changes, err := ApplyRoutes(t.Context(), s.store, e, r, dryRun)
	if err != nil || !slices.Equal(changes, want) {
		t.Errorf("ApplyRoutes = %q, %v; want %q", changes, err, want)
	}
}

func TestApplyingIsIdempotentAndSaysWhatItDoes(t *testing.T) {
	inState(t, func(t *testing.T, s *state) {
		e, r := []raftstore.Export{goodExport()}, []raftstore.Route{goodRoute()}
		before := s.store.View().AppliedIndex
		mustApply(t, s, e, r, true, "export prod: created", "route in: created")
		if s.store.View().AppliedIndex != before {
			t.Error("a dry run changed something")
		}
		mustApply(t, s, e, r, false, "export prod: created", "route in: created")
		if got, ok := s.store.View().Export("prod"); !ok || len(exportDiffers(got, e[0])) > 0 {
			t.Errorf("the export is %+v", got)
		}
		if got, ok := s.store.View().Route("in"); !ok || len(routeDiffers(got, r[0])) > 0 {
			t.Errorf("the route is %+v", got)
		}
		before = s.store.View().AppliedIndex
		mustApply(t, s, e, r, false, "export prod: unchanged", "route in: unchanged")
		if s.store.View().AppliedIndex != before {
			t.Error("nothing has changed, and it was proposed")
		}
		e[0].To, r[0].Priority, r[0].Include, r[0].Epoch = []string{"dc3", "dc4"}, 7, []string{"a*"}, 99
		mustApply(t, s, e, r, false, "export prod: changed (to)", "route in: changed (jobs, priority)")
		if got, _ := s.store.View().Route("in"); got.Priority != 7 || got.Epoch != 0 {
			t.Errorf("the route is %+v", got)
		}
		r[0].BytesPerSecond = 1 << 20
		mustApply(t, s, nil, r, false, "route in: changed (rate)")
		if got, _ := s.store.View().Route("in"); got.BytesPerSecond != 1<<20 {
			t.Errorf("the route is %+v", got)
		}
		r[0].Mode = 0 // not said: continuous
		mustApply(t, s, nil, r, false, "route in: unchanged")
	})
}

func TestAllThatIsWrongIsSaidAtOnceAndNothingIsChanged(t *testing.T) {
	inState(t, func(t *testing.T, s *state) {
		before := s.store.View().AppliedIndex
		e1, e2, r1, r2 := goodExport(), goodExport(), goodRoute(), goodRoute()
		e1.Bases = []string{"hdfs://dc2/flink/cp"}
		e2.Name, e2.To = "second", nil
		r1.Root = "replicas"
		r2.Name, r2.Exclude = "other", []string{"[a"}
		changes, err := ApplyRoutes(t.Context(), s.store, []raftstore.Export{e1, e2}, []raftstore.Route{r1, r2}, false)
		if !errors.Is(err, raftstore.ErrInvalid) || len(changes) > 0 {
			t.Fatalf("ApplyRoutes = %q, %v", changes, err)
		}
		for _, part := range []string{"hdfs://dc2/flink/cp of export prod", "export second names no datacenter", "root of route in", `"[a" is not a pattern`} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("it does not say %q: %v", part, err)
			}
		}
		if s.store.View().AppliedIndex != before {
			t.Error("something was changed")
		}
	})
}

func TestWhatIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(e *raftstore.Export, r *raftstore.Route)
		says   string
	}{
		"a base without {job}":               {func(e *raftstore.Export, _ *raftstore.Route) { e.Bases[0] = "hdfs://dc2/cp" }, "{job}"},
		"a base with {job} in an element":    {func(e *raftstore.Export, _ *raftstore.Route) { e.Bases[0] = "hdfs://dc2/x-{job}" }, "{job}"},
		"a base without a scheme":            {func(e *raftstore.Export, _ *raftstore.Route) { e.Bases[0] = "/cp/{job}" }, "scheme"},
		"a whole file system":                {func(e *raftstore.Export, _ *raftstore.Route) { e.AlsoReadable = []string{"hdfs://dc2/"} }, "whole file system"},
		"replicas in a base":                 {func(_ *raftstore.Export, r *raftstore.Route) { r.Root = "hdfs://dc2/flink/cp/replicas" }, "overlap"},
		"replicas above a base":              {func(_ *raftstore.Export, r *raftstore.Route) { r.Root = "hdfs://dc2/flink" }, "overlap"},
		"replicas in a changelog's place":    {func(_ *raftstore.Export, r *raftstore.Route) { r.Root = "hdfs://dc2/flink/changelog/r" }, "overlap"},
		"replicas in another route's":        {func(_ *raftstore.Export, r *raftstore.Route) { r.Root = "file:/replicas/in" }, "root file:/replicas of route prod overlap"},
		"replicas everywhere":                {func(_ *raftstore.Export, r *raftstore.Route) { r.Root = "hdfs://dc2/" }, "whole file system"},
		"replicas in a job's directory":      {func(_ *raftstore.Export, r *raftstore.Route) { r.Root = "hdfs://dc2/x/" + jobA + "/r" }, "named as Flink names"},
		"a root that is spelled in its way":  {func(_ *raftstore.Export, r *raftstore.Route) { r.Root = "hdfs://dc2/x/../replicas/" }, "hdfs://dc2/replicas"},
		"a route from nowhere":               {func(_ *raftstore.Export, r *raftstore.Route) { r.FromDC = "" }, "datacenter name"},
		"a mode that nobody knows":           {func(_ *raftstore.Export, r *raftstore.Route) { r.Mode = 9 }, "mode"},
		"to keep fewer than none":            {func(_ *raftstore.Export, r *raftstore.Route) { r.Keep = -1 }, "keeps -1"},
		"a rate below none":                  {func(_ *raftstore.Export, r *raftstore.Route) { r.BytesPerSecond = -1 }, "a rate of -1 bytes"},
		"a name that isn't safe in messages": {func(e *raftstore.Export, _ *raftstore.Route) { e.Name = "a b" }, "letters, digits"},
	} {
		t.Run(name, func(t *testing.T) {
			inState(t, func(t *testing.T, s *state) {
				e, r := goodExport(), goodRoute()
				tc.change(&e, &r)
				_, err := ApplyRoutes(t.Context(), s.store, []raftstore.Export{e}, []raftstore.Route{r}, true)
				if !errors.Is(err, raftstore.ErrInvalid) || !strings.Contains(err.Error(), tc.says) {
					t.Errorf("ApplyRoutes = %v, want %q", err, tc.says)
				}
			})
		})
	}
}

// A job that Flink started with CLAIM refers to its replica's files: a failback reads them where the route has put them.
func TestWhatAlsoReadableMayBeOfARoutesRoot(t *testing.T) {
	for name, tc := range map[string]struct{ root, readable, says string }{
		"the root itself":       {"hdfs://dc2/replicas", "hdfs://dc2/replicas", ""},
		"the root with a slash": {"hdfs://dc2/replicas", "hdfs://dc2/replicas/", ""},
		"below the root":        {"hdfs://dc2/replicas", "hdfs://dc2/replicas/changelog", "also_readable of export prod"},
		"beside the root":       {"hdfs://dc2/replicas", "hdfs://dc2/replicas2", ""},
		"just above the root":   {"hdfs://dc2/all/replicas", "hdfs://dc2/all", "root hdfs://dc2/all/replicas of route in overlaps with hdfs://dc2/all, also_readable"},
		"far above the root":    {"hdfs://dc2/a/b/replicas", "hdfs://dc2/a", "also_readable of export prod"},
		"the root in a base":    {"hdfs://dc2/flink/cp/r", "hdfs://dc2/flink/cp/r", "overlap: ckptferry never writes where Flink keeps checkpoints"},
		"the root around one":   {"hdfs://dc2/flink", "hdfs://dc2/flink", "overlap: ckptferry never writes where Flink keeps checkpoints"},
	} {
		t.Run(name, func(t *testing.T) {
			inState(t, func(t *testing.T, s *state) {
				e, r := goodExport(), goodRoute()
				r.Root, e.AlsoReadable = tc.root, []string{tc.readable}
				_, err := ApplyRoutes(t.Context(), s.store, []raftstore.Export{e}, []raftstore.Route{r}, true)
				if tc.says == "" && err != nil || tc.says != "" && (err == nil || !strings.Contains(err.Error(), tc.says)) {
					t.Errorf("ApplyRoutes = %v, want %q", err, tc.says)
				}
			})
		})
	}
}

func TestANameThatIsThereTwice(t *testing.T) {
	inState(t, func(t *testing.T, s *state) {
		e, r := goodExport(), goodRoute()
		_, err := ApplyRoutes(t.Context(), s.store, []raftstore.Export{e, e}, []raftstore.Route{r, r}, true)
		if err == nil || !strings.Contains(err.Error(), "export prod is there twice") || !strings.Contains(err.Error(), "route in is there twice") {
			t.Errorf("ApplyRoutes = %v", err)
		}
	})
}

func TestARouteWithReplicasKeepsItsPlace(t *testing.T) {
	inState(t, func(t *testing.T, s *state) {
		s.observe(noon, chkAt(1, 0))
		s.replica(chkAt(1, 0), raftstore.StatusReady)
		r, _ := s.store.View().Route("prod")
		r.Root = "file:/elsewhere"
		for _, dryRun := range []bool{true, false} {
			if _, err := ApplyRoutes(t.Context(), s.store, nil, []raftstore.Route{r}, dryRun); !errors.Is(err, raftstore.ErrRouteHasReplicas) {
				t.Errorf("ApplyRoutes = %v", err)
			}
		}
	})
}

// An overlap that was there before is not the fault of what is applied now.
func TestOnlyWhatIsNamedIsBlamed(t *testing.T) {
	inState(t, func(t *testing.T, s *state) {
		s.route(raftstore.Route{Name: "old", FromDC: "dc1", FromExport: "prod", Root: "file:/replicas/old", Mode: raftstore.RouteContinuous})
		mustApply(t, s, nil, []raftstore.Route{goodRoute()}, true, "route in: created")
	})
}
