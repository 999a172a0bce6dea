package flinkmeta_test

import (
	"encoding/json"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/ckptferry/ckptferry/flinkmeta/metadatatest"
	"github.com/google/go-cmp/cmp"
)

// keysOf lists the keys of a JSON object.
func keysOf(t *testing.T, object any) []string {
	t.Helper()
	b, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for k, v := range m {
		if string(v) == "null" {
			t.Errorf("%s is null", k)
		}
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Scripts read these: a name may come, none may go.
func TestInspectionsHaveTheKeysThatScriptsRelyOn(t *testing.T) {
	eachFixture(t, func(t *testing.T, f fixture, m *flinkmeta.Metadata) {
		i, err := m.Inspect(f.dir)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"checkpoint_id", "files", "handles", "kind", "operators", "path", "version", "warnings"}
		if got := keysOf(t, i); !slices.Equal(got, want) {
			t.Errorf("keys %v, want %v", got, want)
		}
		for _, o := range i.Operators {
			for _, k := range []string{"id", "name", "uid", "parallelism", "max_parallelism", "subtasks", "fully_finished", "state_bytes"} {
				if got := keysOf(t, o); !slices.Contains(got, k) {
					t.Errorf("operator without %s", k)
				}
			}
		}
		for _, file := range i.Files {
			for _, k := range []string{"path", "uri", "relative", "need_bytes", "role", "references"} {
				if got := keysOf(t, file); !slices.Contains(got, k) {
					t.Errorf("file without %s", k)
				}
			}
		}
		if len(i.Handles) != len(f.want.Handles) || len(i.Operators) != len(f.want.Operators) {
			t.Errorf("%d handles, %d operators", len(i.Handles), len(i.Operators))
		}
		wantKind := flinkmeta.KindCheckpoint
		if strings.HasPrefix(path.Base(f.dir), "savepoint-") {
			wantKind = flinkmeta.KindSavepoint
		}
		if i.Kind != wantKind || i.Version != f.want.MetadataVersion || i.CheckpointID != f.want.CheckpointID {
			t.Errorf("%s %d of version %d", i.Kind, i.CheckpointID, i.Version)
		}
	})
}

func TestInspectionsWarnOfWhatBreaksRestores(t *testing.T) {
	for name, words := range map[string][]string{
		"1.20.0-rocksdb-incremental/chk-4":                nil,
		"1.20.0-unaligned/chk-4":                          nil,
		"1.20.0-filemerging/chk-4":                        nil,
		"1.20.0-savepoints/savepoint-2bb5f9-f5a1e7686030": nil, // canonical
		"1.20.0-savepoints/savepoint-2bb5f9-dab193773f1b": {"restore with NO_CLAIM"},
		"1.20.0-claimed/chk-7":                            {"lie outside of the job's own directory", "0801f885237b366a9cb24c047f9811a7/shared"},
		"1.20.0-entropy/chk-4":                            {"lie outside"},
		"1.20.0-changelog/chk-4":                          {"lie outside", "restore with CLAIM"},
		"1.20.0-changelog-inmem/chk-5":                    {"restore with CLAIM"},
		"1.20.0-changelog-materialized/chk-7":             {"restore with CLAIM"},
	} {
		found := false
		for _, f := range loadFixtures(t) {
			if f.name != name {
				continue
			}
			found = true
			i, err := mustScan(t, f.b).Inspect(f.dir)
			if err != nil {
				t.Fatal(err)
			}
			if len(words) == 0 && len(i.Warnings) > 0 {
				t.Errorf("%s: warnings %q", name, i.Warnings)
			}
			for _, w := range words {
				if !strings.Contains(strings.Join(i.Warnings, "\n"), w) {
					t.Errorf("%s: no %q in %q", name, w, i.Warnings)
				}
			}
		}
		if !found {
			t.Errorf("no fixture %s", name)
		}
	}
}

func TestInspectionsTellWhatIsOddAboutAFile(t *testing.T) {
	m := mustScan(t, keyedFile(relative("meta", -1), relative("../shared/x", 3), file(testJob+"/shared/x", 3), file("file:/elsewhere/shared/y", 1)))
	i, err := m.Inspect(testDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"1 files lie outside of the job's own directory " + testJob + ", in file:/elsewhere/shared",
		"1 relative paths lead out of the checkpoint's directory: restore with NO_CLAIM only",
		"1 files are named by relative and by absolute handles",
		"1 files are of unknown size",
	} {
		if !slices.ContainsFunc(i.Warnings, func(w string) bool { return strings.HasPrefix(w, want) }) {
			t.Errorf("no %q in %q", want, i.Warnings)
		}
	}
	var outside []string
	for _, file := range i.Files {
		if file.Outside {
			outside = append(outside, file.URI)
		}
	}
	if diff := cmp.Diff([]string{"file:/elsewhere/shared/y"}, outside); diff != "" {
		t.Errorf("outside (-want +got):\n%s", diff)
	}
	i, err = m.Inspect("file:/mnt/copy/0123456789abcdef0123456789abcdef/chk-7")
	if err != nil || !strings.Contains(strings.Join(i.Warnings, "\n"), "names its files as if in "+testDir) {
		t.Errorf("a copy elsewhere: %v, warnings %q", err, i.Warnings)
	}
}

// State is what Flink's OperatorState.getStateSize counts.
func TestStateBytesAreFlinksStateSize(t *testing.T) {
	b := oneKeyed(func(w *metadatatest.Writer) {
		w.U8(14) // changelog
		w.I64(0)
		w.I64(999)
		w.I32(1)
		w.U8(5) // incremental
		w.I64(0)
		w.UTF("b")
		w.I64(0)
		w.Inline("", make([]byte, 1))
		w.I32(1)
		w.UTF("")
		w.File("file:/a", 20)
		w.I32(1)
		w.UTF("")
		w.File("file:/unknown", -1)
		w.I32(2)
		w.U8(9) // in memory
		w.I64(0)
		w.I64(0)
		w.I64(0)
		w.I32(1)
		w.I32(0)
		w.Raw(make([]byte, 300))
		w.UTF("")
		w.U8(13) // in files
		w.I64(0)
		w.I32(1)
		w.I64(0)
		w.File("file:/dstl", 4000)
		w.I64(70_000) // of its own, of one file with others
		w.I64(5)
		w.UTF("")
		w.UTF("")
		w.I64(0)
		w.I64(0)
		w.UTF("")
	})
	if got := mustScan(t, b).Operators[0].StateBytes; got != 70_321 {
		t.Errorf("state of %d bytes, want 70321", got)
	}
}

func TestStateBytesAreWhatFlinkReports(t *testing.T) {
	eachFixture(t, func(t *testing.T, f fixture, m *flinkmeta.Metadata) {
		for i, o := range m.Operators {
			if want := f.want.Operators[i].stateSize(); o.StateBytes != want {
				t.Errorf("state of %s is %d bytes, Flink says %d", o.ID, o.StateBytes, want)
			}
		}
	})
}
