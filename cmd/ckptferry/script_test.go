package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ckptferry": main})
}

// The scripts in testdata/script are what users and their scripts rely on: output, exit codes, files.
// $FIXTURES holds the checkpoints that real Flink wrote; a script that changes one copies it first (`cptree`).
func TestScripts(t *testing.T) {
	fixtures, err := filepath.Abs("../../flinkmeta/fixtures")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("FIXTURES", fixtures)
			e.Setenv("HADOOP_CONF_DIR", "")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"cptree": cpTree,
			"code":   code,
		},
	})
}

// cpTree copies a directory with all that is below it: cptree FROM TO.
func cpTree(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: cptree FROM TO")
	}
	ts.Check(os.CopyFS(ts.MkAbs(args[1]), os.DirFS(ts.MkAbs(args[0]))))
}

// code runs ckptferry and demands an exit code: code N ARGS….
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N ARGS…")
	}
	want := args[0]
	err := ts.Exec("sh", append([]string{"-c", `ckptferry "$@"; got=$?; [ $got = ` + want + ` ] || { echo "exit code $got, want ` + want + `" >&2; exit 99; }`, "sh"}, args[1:]...)...)
	if err != nil {
		ts.Fatalf("ckptferry %v: not exit code %s", args[1:], want)
	}
}
