package flinkmeta_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/flinkmeta"
)

// fixture is one _metadata that a real Flink wrote, and what Flink's own loader read from it.
type fixture struct {
	name string // case/checkpoint
	root string // the directory that stands for the file system root of the job
	dir  string // URI of the checkpoint's directory, as Flink knew it
	b    []byte
	want expected
}

// expected is expected/*.json: the report of Flink's loader.
type expected struct {
	Source          string
	MetadataVersion int
	CheckpointID    int64
	MasterStates    []struct {
		Name    string
		Version int32
		Size    int
	}
	Properties *string
	Operators  []expectedOperator
	Handles    []expectedHandle
}

type expectedOperator struct {
	ID              string
	Name, UID       string
	Parallelism     int
	MaxParallelism  int
	FullyFinished   bool
	NumSubtasks     int    `json:"numSubtaskStates"`
	Coordinator     *sized `json:"coordinatorState"`
	SubtasksEntries []struct {
		Index                int
		Finished             bool
		ManagedOperatorState []sized
		RawOperatorState     []sized
		ManagedKeyedState    []sized
		RawKeyedState        []sized
		InputChannelState    []sized
		ResultSubpartitions  []sized `json:"resultSubpartitionState"`
	} `json:"subtasks"`
}

// sized is a state object with the size that Flink's getStateSize gives.
type sized struct{ Size int64 }

// stateSize is OperatorState.getStateSize.
func (o expectedOperator) stateSize() int64 {
	var sum int64
	if o.Coordinator != nil {
		sum = o.Coordinator.Size
	}
	for _, s := range o.SubtasksEntries {
		for _, list := range [][]sized{s.ManagedOperatorState, s.RawOperatorState, s.ManagedKeyedState, s.RawKeyedState, s.InputChannelState, s.ResultSubpartitions} {
			for _, state := range list {
				sum += state.Size
			}
		}
	}
	return sum
}

type expectedHandle struct {
	Operator      string
	Subtask       int
	Where         string
	Class         string
	Name          string
	Path          string
	RelativePath  string
	StartPos      int64
	Size          int64
	Scope         string
	LogicalFileID string
	SHA256        string
	Relative      bool
}

// loadFixtures reads all cases.
func loadFixtures(t testing.TB) []fixture {
	t.Helper()
	reports, err := filepath.Glob("fixtures/*/expected/*.json")
	if err != nil || len(reports) != 62 {
		t.Fatalf("found %d fixtures, %v; want 62", len(reports), err)
	}
	all := make([]fixture, len(reports))
	for i, report := range reports {
		root := filepath.Dir(filepath.Dir(report))
		f := fixture{root: root, name: filepath.Base(root) + "/" + strings.TrimSuffix(filepath.Base(report), ".json")}
		text, err := os.ReadFile(report)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &f.want); err != nil {
			t.Fatalf("%s: %v", report, err)
		}
		f.dir = f.want.Source
		if f.b, err = os.ReadFile(filepath.Join(f.local(f.dir), "_metadata")); err != nil {
			t.Fatal(err)
		}
		all[i] = f
	}
	return all
}

// local is where the file of a URI of the job lies.
func (f fixture) local(uri string) string {
	_, path, _ := strings.Cut(uri, ":")
	return filepath.Join(f.root, path)
}

// eachFixture runs a test on every scanned fixture.
func eachFixture(t *testing.T, run func(*testing.T, fixture, *flinkmeta.Metadata)) {
	for _, f := range loadFixtures(t) {
		t.Run(f.name, func(t *testing.T) {
			m, err := flinkmeta.Scan(f.b)
			if err != nil {
				t.Fatal(err)
			}
			run(t, f, m)
		})
	}
}
