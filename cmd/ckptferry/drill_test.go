package main

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// drillAround drills the fixture's job, of which the target holds chk-4, and looks at what is on record then.
func drillAround(t *testing.T, target *process, replicas string) {
	t.Helper()
	at := func(args ...string) []string { return append(args, "--endpoint", target.api) }
	drill := func(args ...string) []string { return at(append([]string{"drill", fixtureJob}, args...)...) }
	scratch := filepath.Join(t.TempDir(), "scratch")
	replica := "file:" + replicas + "/" + fixtureID + "/chk-4"
	for _, tc := range []struct {
		code int
		want string
		args []string
	}{
		{0, "It was never drilled: `ckptferry drill " + fixtureJob + " --level 1`", at("job", "describe", fixtureJob)},
		{2, "--level 0: want 1", drill()},
		{2, "--level 4: want 1", drill("--level", "4")},
		{2, "--level 2 needs --command", drill("--level", "2")},
		{2, "--command and --on-copy belong to levels 2 and 3", drill("--level", "1", "--command", "true")},
		{2, "--on-copy and --scratch belong together", drill("--level", "2", "--command", "true", "--on-copy")},
		{2, "--flink", drill("--level", "2", "--command", "true", "--flink", "three")},
		{3, "nope", at("drill", "nope", "--level", "1")},
		{0, "PASSED", drill("--level", "1")},
		{0, "Last drill: level 1 with chk-4", at("job", "describe", fixtureJob)},
		{0, `"level": 1`, at("job", "describe", fixtureJob, "-o", "json")},
		{0, `"flinkVersion": "1.20.0"`, drill("--level", "3", "-o", "json", "--command",
			`test "$CKPTFERRY_START_LINE" = "flink run -s `+replica+` -claimMode NO_CLAIM" && echo flink_version=1.20.0 && echo running_after=0.001`)},
		{0, "passed: RPO", at("status")},
		{7, "ended with exit status 5: no slots", drill("--level", "2", "--command", "echo no slots >&2; exit 5")},
		{0, "failed: the drill failed: the command ended with exit status 5: no slots. The last that passed: level 3 with chk-4", at("job", "describe", fixtureJob)},
		{0, "READY  ", at("replica", "list", fixtureJob)}, // and not pinned
		{0, "a copy at file:" + scratch + "/", drill("--level", "2", "--command", "true", "--on-copy", "--scratch", scratch, "-o", "json")},
	} {
		if out := mustFerry(t, tc.code, tc.args...); !strings.Contains(out, tc.want) {
			t.Errorf("ckptferry %s: want %q in\n%s", strings.Join(tc.args, " "), tc.want, out)
		}
	}

	interruptedDrill(t, target)

	// A byte that is changed, and changed back.
	files, err := filepath.Glob(filepath.Join(replicas, fixtureID, "shared", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no shared file: %v", err)
	}
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	rotten := append([]byte{whole[0] ^ 1}, whole[1:]...)
	for _, step := range []struct {
		body []byte
		code int
		want string
	}{{rotten, 7, "FAILED"}, {whole, 0, "PASSED"}} {
		if err := os.WriteFile(files[0], step.body, 0o600); err != nil {
			t.Fatal(err)
		}
		if out := mustFerry(t, step.code, drill("--level", "1")...); !strings.Contains(out, step.want) {
			t.Errorf("with %s changed: %s; want %s", files[0], out, step.want)
		}
	}

	res, err := http.Get("http://" + target.http + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if want := `ckptferry_drill_age_seconds{job="` + fixtureJob + `",level="1",route="prod"}`; err != nil || !strings.Contains(string(body), want) {
		t.Errorf("metrics: %v; want %s", err, want)
	}
}

// interruptedDrill: Ctrl-C in the middle of a start lets the command clean up, and leaves nothing pinned and nothing on record.
func interruptedDrill(t *testing.T, target *process) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command(self)
	cmd.Args = []string{"ckptferry", "drill", fixtureJob, "--level", "2", "--endpoint", target.api, "--command", `trap 'touch "$DIR/clean"; exit 1' TERM; touch "$DIR/began"; sleep 60 & wait`}
	cmd.Env = append(os.Environ(), "DIR="+dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	until(t, "Flink to be started", func() (bool, string) {
		_, err := os.Stat(filepath.Join(dir, "began"))
		return err == nil, ""
	})
	if out := mustFerry(t, 0, "replica", "list", fixtureJob, "--endpoint", target.api); !strings.Contains(out, "READY,pinned") {
		t.Errorf("while it is drilled: %s", out)
	}
	before := mustFerry(t, 0, "drill", "list", "-o", "json", "--endpoint", target.api)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // how it ended is asked of its state
	if code := cmd.ProcessState.ExitCode(); code != exitInterrupted {
		t.Errorf("interrupted, and exit code %d\n%s", code, out.String())
	}
	if _, err := os.Stat(filepath.Join(dir, "clean")); err != nil {
		t.Errorf("the command did not clean up: %v", err)
	}
	if out := mustFerry(t, 0, "replica", "list", fixtureJob, "--endpoint", target.api); strings.Contains(out, "pinned") {
		t.Errorf("after it was interrupted: %s", out)
	}
	if after := mustFerry(t, 0, "drill", "list", "-o", "json", "--endpoint", target.api); after != before {
		t.Errorf("an interrupted drill is on record: %s", after)
	}
}
