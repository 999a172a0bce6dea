package deploy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

const drilledJob = "0123456789abcdef0123456789abcdef"

// flink answers as a session cluster's REST API does (Flink 1.20.0), as far as the drill's command asks it.
type flink struct {
	version   string
	completes bool     // the job completes a checkpoint
	states    []string // of the job, one each time it is asked; the last stays
	*httptest.Server

	mu        sync.Mutex
	asked     []string // methods and paths that change something
	run       map[string]any
	uploaded  string
	cancelled bool
	seen      chan struct{} // closed when the job's state is asked for the first time
}

func newFlink(t *testing.T, version string, completes bool, states ...string) *flink {
	t.Helper()
	f := &flink{version: version, completes: completes, states: states, seen: make(chan struct{})}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *flink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) } // whoever hung up is not told
	if r.Method != http.MethodGet {
		f.asked = append(f.asked, r.Method+" "+r.URL.RequestURI())
	}
	switch what := r.Method + " " + r.URL.Path; {
	case what == "GET /config":
		say(`{"refresh-interval":3000,"timezone-name":"UTC","flink-version":%q,"flink-revision":"b1fe7b4"}`, f.version)
	case what == "POST /jars/upload":
		file, _, err := r.FormFile("jarfile")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body, _ := io.ReadAll(file)
		f.uploaded = string(body)
		say(`{"filename":"/tmp/flink-web-upload/11_orders.jar","status":"success"}`)
	case strings.HasPrefix(what, "POST /jars/") && strings.HasSuffix(what, "/run"):
		if err := json.NewDecoder(r.Body).Decode(&f.run); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		say(`{"jobid":%q}`, drilledJob)
	case what == "GET /jobs/"+drilledJob:
		state := f.states[0]
		if len(f.states) > 1 {
			f.states = f.states[1:]
		}
		if f.cancelled {
			state = "CANCELED"
		}
		select {
		case <-f.seen:
		default:
			close(f.seen)
		}
		tasks := "INITIALIZING"
		if state == "RUNNING!" { // and all of its tasks
			state, tasks = "RUNNING", "RUNNING"
		}
		say(`{"jid":%q,"name":"a \"status\":\"FAILED\" name","state":%q,"vertices":[{"id":"a","name":"src","status":"RUNNING"},{"id":"b","name":"agg","status":%q}],"status-counts":{"RUNNING":1}}`, drilledJob, state, tasks)
	case what == "GET /jobs/"+drilledJob+"/checkpoints":
		completed := 0
		if f.completes {
			completed = 12
		}
		say(`{"counts":{"restored":1,"total":13,"in_progress":0,"completed":%d,"failed":0},"latest":{"completed":{"id":9}}}`, completed)
	case what == "GET /jobs/"+drilledJob+"/exceptions":
		say(`{"root-exception":"java.io.FileNotFoundException: chk-7/x\n\tat org","timestamp":1}`)
	case what == "PATCH /jobs/"+drilledJob:
		f.cancelled = r.URL.Query().Get("mode") == "cancel"
		w.WriteHeader(http.StatusAccepted)
	case what == "DELETE /jars/11_orders.jar":
	default:
		http.Error(w, what, http.StatusNotFound)
	}
}

// begin starts the drill's command as `ckptferry drill` does.
func (f *flink) begin(t *testing.T, env ...string) (cmd *exec.Cmd, out, errs *strings.Builder) {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not on this machine")
	}
	cmd, out, errs = exec.Command("drill/session-cluster"), &strings.Builder{}, &strings.Builder{}
	cmd.Env = append(os.Environ(), append([]string{
		"FLINK_REST=" + f.URL, "CKPTFERRY_REPLICA=hdfs://dc2/r/chk-7", "CKPTFERRY_CLAIM_MODE=NO_CLAIM", "CKPTFERRY_LEVEL=3", "CKPTFERRY_TIMEOUT=30",
		"CKPTFERRY_START_LINE=flink run -s hdfs://dc2/r/chk-7 -claimMode NO_CLAIM", "TMPDIR=" + t.TempDir(),
	}, env...)...)
	cmd.Stdout, cmd.Stderr = out, errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	return cmd, out, errs
}

// end waits for it and gives its exit code; Flink is gone then, and what it was asked may be read. Nothing is left in the
// command's temporary directory.
func (f *flink) end(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	defer f.Close()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	for _, e := range cmd.Env {
		if dir, is := strings.CutPrefix(e, "TMPDIR="); is && dir != os.Getenv("TMPDIR") {
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("the command left %v, %v", left, err)
			}
		}
	}
	return cmd.ProcessState.ExitCode()
}

var drillSays = regexp.MustCompile(`^flink_version=(\S+)\nrunning_after=[0-9.]+\n$`)

func TestDrillCommandRunsAnUploadedJar(t *testing.T) {
	t.Parallel()
	jar := filepath.Join(t.TempDir(), "orders.jar")
	writeFile(t, jar, "a jar", 0o644)
	f := newFlink(t, "1.20.0", true, "INITIALIZING", "RUNNING", "RUNNING!")
	cmd, out, errs := f.begin(t, "JAR="+jar, "ENTRY_CLASS=com.example.Orders", `JOB_ARGS=--name 'two words' --quote '"'`)
	if code := f.end(t, cmd); code != 0 || !drillSays.MatchString(out.String()) {
		t.Fatalf("exit %d, stdout %q\n%s", code, out, errs)
	}
	want := []string{"POST /jars/upload", "POST /jars/11_orders.jar/run", "PATCH /jobs/" + drilledJob + "?mode=cancel", "DELETE /jars/11_orders.jar"}
	if !slices.Equal(f.asked, want) || f.uploaded != "a jar" {
		t.Errorf("asked %q with the jar %q; want %q", f.asked, f.uploaded, want)
	}
	run, _ := json.Marshal(f.run)
	if want := `{"claimMode":"NO_CLAIM","entryClass":"com.example.Orders","programArgsList":["--name","two words","--quote","\""],"savepointPath":"hdfs://dc2/r/chk-7"}`; string(run) != want {
		t.Errorf("run with %s; want %s", run, want)
	}
}

func TestDrillCommandSaysTheClaimModeInTheVersionsWords(t *testing.T) {
	t.Parallel()
	for version, key := range map[string]string{"1.13.6": "", "1.15.4": "restoreMode", "1.19.1": "restoreMode", "1.20.1": "claimMode", "2.3.0": "claimMode"} {
		f := newFlink(t, version, true, "RUNNING!")
		cmd, _, errs := f.begin(t, "JAR_ID=x.jar", "CKPTFERRY_LEVEL=2")
		if code := f.end(t, cmd); code != 0 {
			t.Fatalf("%s: exit %d\n%s", version, code, errs)
		}
		for _, name := range []string{"restoreMode", "claimMode"} {
			if _, said := f.run[name]; said != (name == key) {
				t.Errorf("%s: %v; want the mode as %q", version, f.run, key)
			}
		}
	}
}

func TestDrillCommandSubmitsByFlink(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	writeFile(t, filepath.Join(home, "bin", "flink"), "#!/bin/sh\nfor word; do printf '%s|' \"$word\" >>'"+home+"/words'; done\necho 'Job has been submitted with JobID "+drilledJob+"'\n", 0o755)
	f := newFlink(t, "1.20.0", true, "RUNNING!")
	cmd, out, errs := f.begin(t, "FLINK_HOME="+home, "JAR=/jobs/my orders.jar", "JOB_ARGS=--n '1 2'", "CKPTFERRY_START_LINE=flink run -s 'hdfs://dc2/r o/chk-7' -claimMode NO_CLAIM")
	if code := f.end(t, cmd); code != 0 || !drillSays.MatchString(out.String()) {
		t.Fatalf("exit %d, stdout %q\n%s", code, out, errs)
	}
	words, err := os.ReadFile(filepath.Join(home, "words"))
	if want := "run|-s|hdfs://dc2/r o/chk-7|-claimMode|NO_CLAIM|-d|-m|" + strings.TrimPrefix(f.URL, "http://") + "|/jobs/my orders.jar|--n|1 2|"; err != nil || string(words) != want {
		t.Errorf("flink was called with %s, %v; want %s", words, err, want)
	}
	if want := []string{"PATCH /jobs/" + drilledJob + "?mode=cancel"}; !slices.Equal(f.asked, want) {
		t.Errorf("asked %q; want %q", f.asked, want)
	}
}

func TestDrillCommandFailsWhenFlinkDoes(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		states    []string
		completes bool
		env       string
		want      string
	}{
		"the job fails":     {states: []string{"INITIALIZING", "FAILED"}, want: "chk-7/x"},
		"it never runs":     {states: []string{"RUNNING"}, env: "CKPTFERRY_TIMEOUT=1", want: "did not run within 1 s"},
		"no checkpoint":     {states: []string{"RUNNING!"}, env: "CKPTFERRY_TIMEOUT=1", want: "completed no checkpoint within 1 s"},
		"no Flink is there": {states: []string{"RUNNING!"}, env: "FLINK_REST=http://127.0.0.1:1", want: "no Flink answers"},
		"nothing to start":  {states: []string{"RUNNING!"}, env: "JAR_ID=", want: "JAR, a file, or JAR_ID"},
		"no such jar":       {states: []string{"RUNNING!"}, env: "JAR_ID=../nope", want: "did not take the job"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFlink(t, "1.20.0", tc.completes, tc.states...)
			cmd, _, errs := f.begin(t, "JAR_ID=x.jar", tc.env)
			if code := f.end(t, cmd); code != 1 || !strings.Contains(errs.String(), tc.want) {
				t.Errorf("exit %d; want 1 and %q\n%s", code, tc.want, errs)
			}
			if f.run != nil && tc.states[len(tc.states)-1] != "FAILED" && !f.cancelled {
				t.Error("the job was not cancelled")
			}
		})
	}
}

// However it ends, no job is left: not when its time is up while the job runs, and not while it is submitted.
func TestDrillCommandCancelsTheJobWhenItIsEnded(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	writeFile(t, filepath.Join(home, "bin", "flink"), "#!/bin/sh\ntouch '"+home+"/began'\nsleep 1\necho 'Job has been submitted with JobID "+drilledJob+"'\n", 0o755)
	for name, env := range map[string][]string{"while it runs": {"JAR_ID=x.jar"}, "while it is submitted": {"FLINK_HOME=" + home, "JAR=x.jar"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFlink(t, "1.20.0", false, "RUNNING!")
			cmd, _, errs := f.begin(t, env...)
			if name == "while it runs" {
				<-f.seen
			} else {
				for {
					if _, err := os.Stat(filepath.Join(home, "began")); err == nil {
						break
					}
				}
			}
			if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if code := f.end(t, cmd); code != 143 || !f.cancelled {
				t.Errorf("exit %d, cancelled %t; want 143 and true\n%s", code, f.cancelled, errs)
			}
		})
	}
}
