package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/rpc"
)

// startsIn is where a script of a plan is run, with a flink that notes how it was called.
type startsIn struct {
	*testing.T
	dir string
}

func newStartsIn(t *testing.T, items ...*ckptferryv1.FailoverItem) startsIn {
	t.Helper()
	s := startsIn{t, t.TempDir()}
	for _, d := range []string{"jobs", "bin"} {
		if err := os.Mkdir(filepath.Join(s.dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	flink := writeFile(t, filepath.Join(s.dir, "bin", "flink"), "#!/bin/sh\necho \"$*\" >> called\ntest ! -e broken\n")
	if err := os.Chmod(flink, 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(s.dir, "start.sh"), planScript(rpc.FailoverPlan{ID: "p", Items: items}))
	return s
}

// run runs the script: its exit code, what it printed, and the calls of flink so far.
func (s startsIn) run(env ...string) (code int, printed, called string) {
	s.Helper()
	cmd := exec.CommandContext(s.Context(), "sh", "./start.sh")
	cmd.Dir, cmd.Env = s.dir, append(append(os.Environ(), "PATH="+filepath.Join(s.dir, "bin")+":"+os.Getenv("PATH")), env...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.Fatal(err)
	}
	calls, err := os.ReadFile(filepath.Join(s.dir, "called"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out), string(calls)
}

func (s startsIn) args(job, text string) {
	s.Helper()
	writeFile(s.T, filepath.Join(s.dir, "jobs", job+".args"), text)
}

func promotedItem(job string) *ckptferryv1.FailoverItem {
	return &ckptferryv1.FailoverItem{Route: "prod", Job: job, Epoch: 2, Promoted: true, Start: &ckptferryv1.StartCommands{Run: "flink run -s " + shellWord("/r/"+job)}}
}

func TestTheScriptStartsWhatIsPromotedAlone(t *testing.T) {
	t.Parallel()
	refused, blocked := promotedItem("refused"), promotedItem("blocked")
	refused.Promoted, blocked.Blocked = false, "its replica\nis gone"
	s := newStartsIn(t, refused, promotedItem("it's"), blocked)
	for _, job := range []string{"refused", "it's", "blocked"} {
		s.args(job, "-d x.jar\n")
	}
	if code, out, called := s.run(); code != 0 || called != "run -s /r/it's -d x.jar\n" {
		t.Errorf("%d %s, flink was called with %q", code, out, called)
	}
	script, err := os.ReadFile(filepath.Join(s.dir, "start.sh"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# refused (route prod): NOT STARTED: not promoted: run the plan first\n", "# blocked (route prod): NOT STARTED: its replica is gone\n"} {
		if !strings.Contains(string(script), want) {
			t.Errorf("the script lacks %q:\n%s", want, script)
		}
	}

	s = newStartsIn(t, refused, blocked)
	if code, out, called := s.run(); code != 1 || called != "" || !strings.Contains(out, "nothing in this script is promoted") {
		t.Errorf("nothing is promoted: %d %s, flink was called with %q", code, out, called)
	}
}

func TestTheScriptStartsEachJobOnce(t *testing.T) {
	t.Parallel()
	s := newStartsIn(t, promotedItem("a"), promotedItem("b"))
	s.args("a", "-d a.jar\n")
	const a, b = "run -s /r/a -d a.jar\n", "run -s /r/b -d b.jar\n"
	if code, out, called := s.run("DRY_RUN=1"); code != 1 || called != "" || !strings.Contains(out, "flink run -s /r/a -d a.jar\n") {
		t.Errorf("dry run: %d %s, flink was called with %q", code, out, called)
	}
	if code, out, called := s.run(); code != 1 || called != a || !strings.Contains(out, "b is not started: jobs/b.args can't be read") {
		t.Errorf("without the arguments of b: %d %s, flink was called with %q", code, out, called)
	}
	s.args("b", "-d b.jar\n")
	broken := writeFile(t, filepath.Join(s.dir, "broken"), "")
	for _, want := range []string{"b: flink ended with 1", "b was started before"} { // it may run all the same
		if _, out, called := s.run(); called != a+b || !strings.Contains(out, want) || !strings.Contains(out, "a was started before") {
			t.Errorf("flink failed: %s; want %q, flink was called with %q", out, want, called)
		}
	}
	if err := errors.Join(os.Remove(broken), os.Remove(filepath.Join(s.dir, "start.sh.started"))); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if code, out, called := s.run(); code != 0 || called != a+b+a+b {
			t.Errorf("%d %s, flink was called with %q", code, out, called)
		}
	}
}
