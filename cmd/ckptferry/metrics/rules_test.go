package metrics

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/ckptferry/ckptferry/replicator/agent"
)

const rulesFile = "../../../deploy/prometheus/ckptferry.rules.yaml"

// words are what an expression names: metrics, labels, functions.
var (
	words    = regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*`)
	strs     = regexp.MustCompile(`"[^"]*"|\[[^\]]*\]`) // label values, ranges
	selector = regexp.MustCompile(`([a-z_]+)\{([^}]*)\}`)
	matcher  = regexp.MustCompile(`([a-z_]+)="([^"]*)"`)
	grouping = regexp.MustCompile(`\b(by|on)\s*\(([^)]*)\)`)
)

// promQL is what of PromQL the rules use; up is Prometheus's own.
var promQL = []string{"max", "sum", "by", "on", "and", "time", "increase", "up"}

// Every alert would stay silent for ever if the metric, the label or the label's value that it asks for didn't exist.
func TestEveryAlertAsksForWhatIsTold(t *testing.T) {
	inGroup(t, func(t *testing.T, f *fixture) {
		f.agent.status.Exports = []agent.ExportStatus{{Export: "mine"}}
		f.cfg.Stages.CopyEnded(agent.Copy{Route: "prod", Result: agent.CopyReady, Reason: agent.ReasonNone, Times: agent.CopyTimes{Completed: time.Unix(1, 0), Heard: time.Unix(2, 0), Ended: time.Unix(3, 0)}})
		f.drilled("prod", "orders", 1, true)
		f.fenced("orders", false)
		f.cfg.Keeper = kept{{Route: "prod"}}
		families, err := registry(f.cfg, newLeaderChanges()).Gather()
		if err != nil {
			t.Fatal(err)
		}
		told := map[string]map[string][]string{} // metric → label → values
		for _, family := range families {
			labels := map[string][]string{}
			for _, m := range family.GetMetric() {
				for _, l := range m.GetLabel() {
					labels[l.GetName()] = append(labels[l.GetName()], l.GetValue())
				}
			}
			told[family.GetName()] = labels
		}

		// What the README names is there as well.
		readme, err := os.ReadFile("../../../README.md")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`ckptferry_[a-z_]+`).FindAllString(string(readme), -1) {
			if told[name] == nil {
				t.Errorf("the README names %s, which no agent tells", name)
			}
		}

		alerts := readRules(t)
		for name, expr := range alerts {
			var metrics []string
			grouped := grouping.ReplaceAllString(strs.ReplaceAllString(expr, ""), "$1")
			for _, word := range words.FindAllString(regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(grouped, ""), -1) {
				switch _, is := told[word]; {
				case is:
					metrics = append(metrics, word)
				case !slices.Contains(promQL, word):
					t.Errorf("%s asks for %s, which no agent tells: %s", name, word, expr)
				}
			}
			for _, s := range selector.FindAllStringSubmatch(expr, -1) {
				for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
					if s[1] != "up" && !slices.Contains(told[s[1]][m[1]], m[2]) {
						t.Errorf("%s asks for %s of %s, which has no such value: %s", name, m[0], s[1], expr)
					}
				}
			}
			for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
				for label := range strings.SplitSeq(g[2], ",") {
					label = strings.TrimSpace(label)
					if label != "instance" && !slices.ContainsFunc(metrics, func(m string) bool { return told[m][label] != nil }) {
						t.Errorf("%s groups by %s, which none of %v has: %s", name, label, metrics, expr)
					}
				}
			}
		}
	})
}

// What the alerts do with series that go wrong, by Prometheus's own tool where it is installed.
func TestAlertsFireWhenTheyShould(t *testing.T) {
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not on this machine")
	}
	cmd := exec.Command(tool, "test", "rules", strings.TrimSuffix(filepath.Base(rulesFile), ".yaml")+".test.yaml")
	cmd.Dir = filepath.Dir(rulesFile)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool test rules: %v\n%s", err, out)
	}
}

// readRules are the expressions of the alerts, each of which says what it means and what to do.
func readRules(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.Load(text, &file, yaml.WithKnownFields(true)); err != nil {
		t.Fatal(err)
	}
	alerts := map[string]string{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if alerts[r.Alert] != "" || r.Expr == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["next"] == "" {
				t.Errorf("%s/%s is there twice, or lacks its expression, severity, summary or what to do next", g.Name, r.Alert)
			}
			if _, err := time.ParseDuration(r.For); r.For != "" && err != nil {
				t.Errorf("%s: for %v", r.Alert, err)
			}
			alerts[r.Alert] = r.Expr
		}
	}
	for _, needed := range []string{"CkptferryLagOver", "CkptferrySourceSilent", "CkptferryNoLeader"} {
		if alerts[needed] == "" {
			t.Errorf("there is no alert %s", needed)
		}
	}
	return alerts
}
