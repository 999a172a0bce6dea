package config

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const goodRoutes = `exports:
  - name: prod
    bases: ["hdfs://dc1/flink/checkpoints/{job}", "hdfs://dc1/flink/savepoints/{job}"]
    also_readable: ["hdfs://dc1/flink/changelog"]
    to: [dc2]
routes:
  - name: prod
    from: {dc: dc1, export: prod}
    root: hdfs://dc2/flink/replicas/prod
    jobs: {include: ["orders*", "pay-*"], exclude: ["*-test"]}
    mode: paused
    keep: 3
    priority: 10
    paths: relative
    rate: 200MiB/s
  - {name: plain, from: {dc: dc1, export: prod}, root: "file:/replicas"}
`

func TestExportsAndRoutesAreRead(t *testing.T) {
	got, err := ReadRoutes(write(t, goodRoutes))
	if err != nil {
		t.Fatal(err)
	}
	want := Routes{
		Exports: []Export{{
			Name: "prod", Bases: []string{"hdfs://dc1/flink/checkpoints/{job}", "hdfs://dc1/flink/savepoints/{job}"},
			AlsoReadable: []string{"hdfs://dc1/flink/changelog"}, To: []string{"dc2"},
		}},
		Routes: []Route{
			{
				Name: "prod", From: From{"dc1", "prod"}, Root: "hdfs://dc2/flink/replicas/prod",
				Jobs: Jobs{Include: []string{"orders*", "pay-*"}, Exclude: []string{"*-test"}},
				Mode: "paused", Keep: 3, Priority: 10, Paths: "relative", Rate: 200 << 20,
			},
			{Name: "plain", From: From{"dc1", "prod"}, Root: "file:/replicas", Mode: "continuous", Paths: "absolute"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMistakesInRoutesAreNamedWhereTheyStand(t *testing.T) {
	for name, tc := range map[string]struct{ from, to, want string }{
		"a base without {job}":       {"checkpoints/{job}", "checkpoints", `3:\d+: "hdfs://dc1/flink/checkpoints": want \{job\} once`},
		"a base with {job} twice":    {"checkpoints/{job}", "{job}/{job}", `3:\d+: .*want \{job\} once`},
		"a base with half an {job}":  {"checkpoints/{job}", "checkpoints/x-{job}", `3:\d+: .*want \{job\} once`},
		"a base that is no URI":      {"hdfs://dc1/flink/checkpoints/{job}", "flink/{job}", `3:\d+: "flink/\{job\}": want a URI`},
		"an export to nobody":        {"    to: [dc2]\n", "", `2:5: exports\[0\]: to is missing`},
		"an export without a name":   {"  - name: prod\n    bases", "  - bases", `2:5: exports\[0\].name is missing`},
		"a route twice":              {"{name: plain,", "{name: prod,", `16:\d+: routes\[1\]: "prod" is there twice`},
		"a route from nowhere":       {"    from: {dc: dc1, export: prod}\n", "", `7:5: routes\[0\].from.dc is missing`},
		"a route without a root":     {"    root: hdfs://dc2/flink/replicas/prod\n", "", `7:5: routes\[0\]: root is missing`},
		"the root of a file system":  {"hdfs://dc2/flink/replicas/prod", "hdfs://dc2/", `9:\d+: "hdfs://dc2/": name a directory`},
		"a mode that is none":        {"mode: paused", "mode: on-demand", `11:\d+: routes\[0\].mode: unknown "on-demand" \(did you mean "on_demand"\?\)`},
		"a pattern that is none":     {`"orders*"`, `"[orders"`, `10:\d+: "\[orders" is no pattern`},
		"fewer than no replicas":     {"keep: 3", "keep: -1", `12:\d+: keep: -1`},
		"more than fits":             {"keep: 3", "keep: 3000000000", `12:\d+: routes\[0\].keep: "3000000000": want a whole number`},
		"a rate in an unknown unit":  {"rate: 200MiB/s", "rate: 200Mbit", `15:11: routes\[0\].rate: "200Mbit": want bytes per second, like 200MiB/s`},
		"a rate below none":          {"rate: 200MiB/s", "rate: -1MiB/s", `15:11: routes\[0\].rate: "-1MiB/s": want bytes`},
		"no rate that is said":       {"rate: 200MiB/s", "rate:", `15:10: routes\[0\].rate has no value`},
		"a key that is to come":      {"keep: 3", "max_lag: 5m", `12:5: unknown key "max_lag"`},
		"a key in the wrong writing": {"also_readable:", "also-readable:", `4:5: unknown key "also-readable" \(did you mean "also_readable"\?\)`},
	} {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(goodRoutes, tc.from) {
				t.Fatalf("%q is not in the good file", tc.from)
			}
			_, err := ReadRoutes(write(t, strings.Replace(goodRoutes, tc.from, tc.to, 1)))
			if err == nil || !regexp.MustCompile(`(?m)agent\.yaml:`+tc.want).MatchString(err.Error()) {
				t.Errorf("want %s in\n%v", tc.want, err)
			}
		})
	}
}

func TestWhatARouteKeeps(t *testing.T) {
	for name, c := range map[string]struct{ keys, problem string }{
		"all rules":                     {"keep: 3, keep_for: 48h, keep_daily: 7, keep_savepoints: 5, grace: 2h", ""},
		"savepoints alone":              {"keep_savepoints: 5", ""},
		"more than keep without a keep": {"keep_daily: 7", "say keep: 1 or more"},
		"a negative number":             {"keep: 1, keep_daily: -1", "keep_daily: -1: want 0 or more"},
		"a negative time":               {"grace: -1h", "grace: -1h"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "routes.yaml")
			text := "routes:\n  - {name: prod, from: {dc: dc1, export: prod}, root: \"hdfs://dc2/r\", " + c.keys + "}\n"
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := ReadRoutes(file)
			switch {
			case c.problem == "" && err != nil:
				t.Fatal(err)
			case c.problem == "":
				if r := got.Routes[0]; name == "all rules" && (r.KeepFor != 48*time.Hour || r.KeepDaily != 7 || r.KeepSavepoints != 5 || r.Grace != 2*time.Hour) {
					t.Errorf("read %+v", r)
				}
			case err == nil || !strings.Contains(err.Error(), c.problem):
				t.Errorf("ReadRoutes = %v, want %q", err, c.problem)
			}
		})
	}
}
