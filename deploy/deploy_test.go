// Package deploy_test proves what is handed to operators: the units load, and the script picks the newest checkpoint.
package deploy_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestUnitsLoadWithoutAWarning(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not on this machine")
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"ckptferry-replicate@.service", "ckptferry-replicate@.timer"} {
		body, err := os.ReadFile(filepath.Join("systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		// The script isn't installed here, and systemd-analyze looks whether it can be started.
		writeFile(t, filepath.Join(dir, name), strings.ReplaceAll(string(body), "/usr/lib/ckptferry", here), 0o644)
	}
	out, err := exec.Command("systemd-analyze", "verify", filepath.Join(dir, "ckptferry-replicate@orders.service"),
		filepath.Join(dir, "ckptferry-replicate@orders.timer")).CombinedOutput()
	if err != nil || strings.Contains(string(out), "ckptferry-replicate") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// run calls replicate-newest with stubs of the programs that it starts before everything else on PATH.
func run(t *testing.T, bin string, args ...string) (stdout string, code int) {
	t.Helper()
	cmd := exec.Command("./replicate-newest", args...)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	t.Logf("replicate-newest %q: %v\n%s", args, err, stderr.String())
	return string(out), cmd.ProcessState.ExitCode()
}

func writeFile(t *testing.T, path, body string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(body), mode); err != nil {
		t.Fatal(err)
	}
}

// checkpoint makes what replicate-newest looks at: a _metadata of some age.
func checkpoint(t *testing.T, base, name string, age time.Duration) {
	t.Helper()
	path := filepath.Join(base, name, "_metadata")
	writeFile(t, path, "", 0o644)
	when := time.Now().Truncate(time.Minute).Add(-age)
	if err := os.Chtimes(path, when, when); err != nil {
		t.Fatal(err)
	}
}

const echo = "#!/bin/sh\necho \"$@\"\n"

func TestNewestCheckpointOfAllLivesOfTheJobIsTaken(t *testing.T) {
	bin, base := t.TempDir(), t.TempDir()
	writeFile(t, filepath.Join(bin, "ckptferry"), echo, 0o755)
	checkpoint(t, base, "1111/chk-700", time.Hour) // an earlier submission, with the higher number
	checkpoint(t, base, "2222/chk-9", 0)
	checkpoint(t, base, "2222/chk-10", 0) // in the same minute
	checkpoint(t, base, "2222/chk-8", 5*time.Minute)
	writeFile(t, filepath.Join(base, "2222/chk-11/._metadata.inprogress.1"), "", 0o644)
	writeFile(t, filepath.Join(base, "2222/shared/a"), "", 0o644)
	for _, spelled := range []string{base, base + "/", "file:" + base, "file://" + base} {
		out, code := run(t, bin, spelled, "/replicas", "--bwlimit", "1MiB/s")
		if want := "replicate " + base + "/2222/chk-10 /replicas --bwlimit 1MiB/s\n"; out != want || code != 0 {
			t.Errorf("%s: called ckptferry with %q, exit %d; want %q, 0", spelled, out, code, want)
		}
	}
}

func TestNewestCheckpointOnHDFSIsTaken(t *testing.T) {
	bin := t.TempDir()
	writeFile(t, filepath.Join(bin, "ckptferry"), echo, 0o755)
	writeFile(t, filepath.Join(bin, "hdfs"), `#!/bin/sh
[ "$*" = "dfs -ls hdfs://dc1/cp/orders/*/chk-*/_metadata" ] || exit 1
cat <<EOF
-rw-r--r--   3 flink supergroup      10861 2026-11-21 10:44 hdfs://dc1/cp/orders/2222/chk-9/_metadata
-rw-r--r--   3 flink supergroup      10861 2026-11-21 10:44 hdfs://dc1/cp/orders/2222/chk-10/_metadata
-rw-r--r--   3 flink supergroup      10861 2026-11-20 23:59 hdfs://dc1/cp/orders/1111/chk-700/_metadata
EOF
`, 0o755)
	out, code := run(t, bin, "hdfs://dc1/cp/orders", "hdfs://dc2/replicas")
	if want := "replicate hdfs://dc1/cp/orders/2222/chk-10 hdfs://dc2/replicas\n"; out != want || code != 0 {
		t.Errorf("called ckptferry with %q, exit %d; want %q, 0", out, code, want)
	}
}

func TestSupersededCheckpointIsFollowedByTheNextNewest(t *testing.T) {
	bin, base := t.TempDir(), t.TempDir()
	checkpoint(t, base, "2222/chk-9", time.Minute)
	checkpoint(t, base, "2222/chk-10", 0)
	// Flink deletes chk-10 while it is copied, which is exit code 11.
	writeFile(t, filepath.Join(bin, "ckptferry"), "#!/bin/sh\necho \"$2\"\ncase $2 in *chk-10) rm -r \"$2\"; exit 11;; esac\n", 0o755)
	out, code := run(t, bin, base, "/replicas")
	if got, want := strings.Fields(out), []string{base + "/2222/chk-10", base + "/2222/chk-9"}; !slices.Equal(got, want) || code != 0 {
		t.Errorf("tried %v, exit %d; want %v, 0", got, code, want)
	}

	writeFile(t, filepath.Join(bin, "ckptferry"), "#!/bin/sh\nexit 11\n", 0o755)
	if _, code := run(t, bin, base, "/replicas"); code != 11 {
		t.Errorf("superseded each time: exit %d, want 11", code)
	}
	writeFile(t, filepath.Join(bin, "ckptferry"), "#!/bin/sh\nexit 7\n", 0o755)
	if _, code := run(t, bin, base, "/replicas"); code != 7 {
		t.Errorf("broken: exit %d, want 7", code)
	}
}

func TestBaseWithoutACheckpointIsSaid(t *testing.T) {
	bin := t.TempDir()
	writeFile(t, filepath.Join(bin, "hdfs"), "#!/bin/sh\necho \"ls: '$3': No such file or directory\" >&2\nexit 1\n", 0o755)
	for _, base := range []string{t.TempDir(), filepath.Join(t.TempDir(), "absent"), "hdfs://dc1/none"} {
		if _, code := run(t, bin, base, "/replicas"); code != 3 {
			t.Errorf("%s: exit %d, want 3", base, code)
		}
	}
	if _, code := run(t, t.TempDir()); code != 2 {
		t.Errorf("no arguments: exit %d, want 2", code)
	}
}
