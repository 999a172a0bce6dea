package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"text/tabwriter"
	"time"
)

// row is one figure.
type row struct {
	Section string  `json:"section"`
	What    string  `json:"what"`
	Value   float64 `json:"value"` // median over the runs
	Unit    string  `json:"unit"`  // × (peer's time / ours, or a share), MiB
	// Least and Most are the goal; both zero: the figure is for information.
	Least float64   `json:"goal_at_least,omitempty"`
	Most  float64   `json:"goal_at_most,omitempty"`
	Low   float64   `json:"lowest"`
	High  float64   `json:"highest"`
	Runs  int       `json:"runs"`
	Ours  *measured `json:"ours,omitempty"`
	Peer  *measured `json:"peer,omitempty"`
	Note  string    `json:"note,omitempty"`
	// Skipped says why there is no figure.
	Skipped string `json:"skipped,omitempty"`
}

// measured is a median of one side.
type measured struct {
	Name  string  `json:"name"`
	Value float64 `json:"median"`
	Unit  string  `json:"unit"`
}

func (m *measured) String() string {
	if m == nil {
		return ""
	}
	return fmt.Sprintf("%.3g %s  %s", m.Value, m.Unit, m.Name)
}

func (r row) goal() string {
	switch {
	case r.Least > 0:
		return fmt.Sprintf("≥ %g %s", r.Least, r.Unit)
	case r.Most > 0:
		return fmt.Sprintf("≤ %g %s", r.Most, r.Unit)
	}
	return "-"
}

func (r row) verdict() string {
	switch {
	case r.Skipped != "":
		return "skipped"
	case r.Least == 0 && r.Most == 0:
		return ""
	case r.Least > 0 && r.Value >= r.Least, r.Most > 0 && r.Value <= r.Most:
		return "met"
	}
	return "MISSED"
}

func (b *bench) add(r row) {
	b.rows = append(b.rows, r)
	if r.Skipped != "" {
		b.logf("%s: skipped: %s", r.What, r.Skipped)
		return
	}
	b.logf("%s: %.3g %s (goal %s) %s", r.What, r.Value, r.Unit, r.goal(), r.verdict())
}

// report is what a run of the bench found.
type report struct {
	Machine machine   `json:"machine"`
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"`
	Rows    []row     `json:"figures"`
}

func (r report) print(out io.Writer) error {
	w := bufio.NewWriter(out)
	m := r.Machine
	fmt.Fprintf(w, "%d cores (%s), %s, %s; ckptferry %s, %s; %s\n%s, %.0f s in all, load %s at the end; medians, ratios within one round\n\n",
		m.Cores, m.CPU, m.Kernel, m.FileSystem, m.Version, m.Go, m.Java, r.Began.Format(time.RFC3339), r.Seconds, m.Load)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "section\tfigure\tvalue\tgoal\t\tspread\truns\tours\tpeer")
	notes := []string{}
	for _, row := range r.Rows {
		if row.Skipped != "" {
			fmt.Fprintf(t, "%s\t%s\tskipped\t%s\t\t\t\t\t\n", row.Section, row.What, row.goal())
			notes = append(notes, row.What+": skipped: "+row.Skipped)
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%.3g %s\t%s\t%s\t%.3g – %.3g\t%d\t%s\t%s\n", row.Section, row.What, row.Value, row.Unit, row.goal(), row.verdict(), row.Low, row.High, row.Runs, row.Ours, row.Peer)
		if row.Note != "" {
			notes = append(notes, row.What+": "+row.Note)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(notes) > 0 {
		fmt.Fprintf(w, "\n- %s\n", strings.Join(notes, "\n- "))
	}
	return w.Flush()
}

// machine is where the figures come from: without it they mean nothing.
type machine struct {
	Cores      int    `json:"cores"`
	CPU        string `json:"cpu"`
	Kernel     string `json:"kernel"`
	FileSystem string `json:"file_system"`
	Go         string `json:"go"`
	Java       string `json:"java"`
	Version    string `json:"ckptferry"`
	Load       string `json:"load"`
}

func thisMachine(ctx context.Context) machine {
	m := machine{Cores: runtime.NumCPU(), Go: runtime.Version(), CPU: "unknown CPU", Java: "no Java"}
	if raw, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(raw)) {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				m.CPU = strings.Trim(name, "\t :\n")
				break
			}
		}
	}
	m.Kernel = "Linux " + firstLine(ctx, "uname", "-r")
	m.FileSystem = firstLine(ctx, "stat", "-f", "-c", "%T", os.TempDir())
	if java := firstLine(ctx, "java", "-version"); java != "" {
		m.Java = java
	}
	if raw, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load = strings.Join(strings.Fields(string(raw))[:3], " ")
	}
	m.Version = firstLine(ctx, "git", "describe", "--tags", "--always", "--dirty")
	if m.Version == "" {
		if info, ok := debug.ReadBuildInfo(); ok {
			m.Version = info.Main.Version
		}
	}
	return m
}

// firstLine of what a command prints; empty when it can't be run.
func firstLine(ctx context.Context, name string, args ...string) string {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}
