package rules

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/ckptferry/ckptferry/"

// borders says, per package, which imports the linter must refuse and which it must let pass. Each pair is planted
// in a copy of the module that holds nothing else.
var borders = []struct {
	pkg              string
	refused, allowed []string
}{
	{
		pkg: "flinkmeta",
		refused: []string{
			"golang.org/x/sync/errgroup", "google.golang.org/protobuf/proto", // anything that isn't the standard library
			module + "fsutil", module + "raftstore", module + "replicator", module + "rpc", module + "cmd/ckptferry/config",
			module + "proto/ckptferry/v1",
		},
		allowed: []string{"encoding/binary"},
	},
	{
		pkg: "fsutil",
		refused: []string{
			"github.com/hashicorp/raft", "google.golang.org/grpc", "github.com/spf13/cobra", "golang.org/x/time/rate",
			module + "flinkmeta", module + "raftstore", module + "replicator", module + "rpc", module + "cmd/ckptferry/config",
			module + "proto/ckptferry/v1",
		},
		allowed: []string{"github.com/colinmarc/hdfs/v2", "github.com/jcmturner/gokrb5/v8/client"},
	},
	{
		pkg: "raftstore",
		refused: []string{
			"github.com/colinmarc/hdfs/v2", "google.golang.org/grpc", "github.com/spf13/cobra",
			module + "flinkmeta", module + "fsutil", module + "replicator", module + "rpc", module + "cmd/ckptferry/config",
		},
		allowed: []string{
			"github.com/hashicorp/raft", "github.com/hashicorp/raft-boltdb/v2", "go.etcd.io/bbolt",
			module + "proto/ckptferry/v1",
		},
	},
	{
		pkg: "replicator",
		refused: []string{
			"github.com/colinmarc/hdfs/v2", "github.com/jcmturner/gokrb5/v8/client", "github.com/hashicorp/raft",
			"go.etcd.io/bbolt", "google.golang.org/grpc", "google.golang.org/grpc/codes", "github.com/spf13/cobra",
			"google.golang.org/genproto/googleapis/rpc/errdetails",
			"github.com/prometheus/client_golang/prometheus", "golang.org/x/term", "github.com/google/go-cmp/cmp", module + "rpc", module + "cmd/ckptferry/config",
		},
		allowed: []string{
			"golang.org/x/time/rate", "golang.org/x/sync/errgroup", module + "flinkmeta", module + "fsutil", module + "raftstore",
		},
	},
	{
		pkg:     "rpc",
		refused: []string{"github.com/hashicorp/raft", "github.com/colinmarc/hdfs/v2", "golang.org/x/term", module + "cmd/ckptferry/config"},
		allowed: []string{
			"google.golang.org/grpc", "google.golang.org/genproto/googleapis/rpc/errdetails",
			module + "replicator", module + "raftstore", module + "proto/ckptferry/v1",
		},
	},
	{
		pkg: "cmd/ckptferry",
		refused: []string{
			"github.com/hashicorp/raft", "github.com/colinmarc/hdfs/v2", "github.com/prometheus/client_golang/prometheus", "google.golang.org/grpc", "golang.org/x/time/rate",
			"google.golang.org/genproto/googleapis/rpc/errdetails",
		},
		allowed: []string{"github.com/spf13/cobra", "golang.org/x/term", module + "cmd/ckptferry/config", module + "replicator"},
	},
	{
		pkg:     "cmd/ckptferry/metrics",
		refused: []string{"google.golang.org/grpc", "github.com/hashicorp/raft"},
		allowed: []string{"github.com/prometheus/client_golang/prometheus", module + "raftstore", module + "replicator"},
	},
	{
		pkg:     "proto/ckptferry/v1",
		refused: []string{"github.com/hashicorp/raft", module + "replicator"},
		allowed: []string{"google.golang.org/grpc", "google.golang.org/protobuf/proto"},
	},
	{
		pkg: "e2e",
		allowed: []string{
			"github.com/hashicorp/raft", "github.com/colinmarc/hdfs/v2", "google.golang.org/grpc", "github.com/spf13/cobra",
			module + "flinkmeta", module + "cmd/ckptferry/config", "github.com/google/go-cmp/cmp",
		},
	},
}

// pureRaftState must be refused in the files of raftstore that compute the state, and only there.
const pureRaftState = `package raftstore

import (
	"math/rand"
	"os"
	"time"
)

var _ = []any{rand.Int, os.Getpid, time.Now}
`

func TestLinterRefusesWhatCrossesABorder(t *testing.T) {
	linter := os.Getenv("GOLANGCI_LINT")
	if linter == "" {
		t.Skip("GOLANGCI_LINT doesn't name the linter; make check-rules does")
	}
	dir := t.TempDir()
	config, err := os.ReadFile(filepath.Join(projectRoot, ".golangci.yml"))
	if err != nil {
		t.Fatal(err)
	}
	plant(t, filepath.Join(dir, ".golangci.yml"), string(config))
	plant(t, filepath.Join(dir, "go.mod"), "module "+strings.TrimSuffix(module, "/")+"\n\ngo 1.26.0\n"+plantLibraries(t))

	want := map[string]bool{} // "file import" → refused
	for _, pkg := range []string{
		"flinkmeta", "fsutil", "raftstore", "replicator", "rpc", "cmd/ckptferry/config", "proto/ckptferry/v1",
	} {
		plant(t, filepath.Join(dir, pkg, "doc.go"), "package "+filepath.Base(pkg)+"\n")
	}
	for _, border := range borders {
		for _, imported := range slices.Concat(border.refused, border.allowed) {
			// In a directory of its own below the package, so that two planted packages are never an import cycle.
			file := border.pkg + "/planted/planted.go"
			want[file+" "+imported] = slices.Contains(border.refused, imported)
		}
		source := "package planted\n"
		for _, imported := range slices.Concat(border.refused, border.allowed) {
			source += "\nimport _ \"" + imported + "\"\n"
		}
		plant(t, filepath.Join(dir, border.pkg, "planted", "planted.go"), source)
	}
	for file, refused := range map[string]bool{"state.go": true, "apply_replica.go": true, "store.go": false} {
		plant(t, filepath.Join(dir, "raftstore", file), pureRaftState)
		for _, what := range []string{"math/rand", "os", "time.Now"} {
			want["raftstore/"+file+" "+what] = refused
		}
	}

	got := refusals(t, linter, dir)
	for what, refused := range want {
		if got[what] != refused {
			t.Errorf("%s: refused %t, want %t", what, got[what], refused)
		}
		delete(got, what)
	}
	for what := range got {
		t.Errorf("%s: refused, but nobody planted it", what)
	}
}

// plantLibraries makes an empty stand-in for each third-party package, so that nothing is downloaded and also what
// the product doesn't use yet can be planted, and returns the lines of go.mod that lead there.
func plantLibraries(t *testing.T) string {
	t.Helper()
	dir, lines, planted := t.TempDir(), "", map[string]bool{}
	for _, border := range borders {
		for _, imported := range slices.Concat(border.refused, border.allowed) {
			if planted[imported] || strings.HasPrefix(imported, module) || !strings.Contains(strings.Split(imported, "/")[0], ".") {
				continue
			}
			planted[imported] = true
			version := "v0.0.0"
			if path.Base(imported) == "v2" {
				version = "v2.0.0"
			}
			at := filepath.Join(dir, imported)
			plant(t, filepath.Join(at, "go.mod"), "module "+imported+"\n")
			plant(t, filepath.Join(at, "doc.go"), "package planted\n")
			lines += fmt.Sprintf("require %s %s\nreplace %[1]s => %[3]s\n", imported, version, at)
		}
	}
	return lines
}

func plant(t *testing.T, file, body string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(body), 0o644); err != nil {
		t.Fatal(err)
	}
}

// refusals runs the linter with the border rules alone and returns what it refused, as "file import".
func refusals(t *testing.T, linter, dir string) map[string]bool {
	t.Helper()
	cmd := exec.Command(linter, "run", "--enable-only=depguard,forbidigo", "--issues-exit-code=0",
		"--output.json.path=stdout", "--show-stats=false", "./...")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "GOPROXY=off")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("run the linter: %v\n%s", err, stderr.String())
	}
	var report struct {
		Issues []struct {
			FromLinter string
			Text       string
			Pos        struct{ Filename string }
		}
	}
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("read the linter's report: %v\n%s", err, out)
	}
	refused := map[string]bool{}
	for _, issue := range report.Issues {
		// import 'x' is not allowed …   |   use of `time.Now` forbidden …
		parts := strings.FieldsFunc(issue.Text, func(r rune) bool { return r == '\'' || r == '`' })
		if len(parts) < 2 {
			t.Fatalf("%s: %s: %s", issue.FromLinter, issue.Pos.Filename, issue.Text)
		}
		refused[filepath.ToSlash(issue.Pos.Filename)+" "+parts[1]] = true
	}
	return refused
}
