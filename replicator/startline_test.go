package replicator

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ckptferry/ckptferry/flinkmeta"
)

var update = flag.Bool("update", false, "write testdata/startlines.txt anew")

func scanned(t testing.TB, f fixture) *flinkmeta.Metadata {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(f.dir, metadataName))
	if err != nil {
		t.Fatal(err)
	}
	m, err := flinkmeta.Scan(b)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestStartLines compares the start lines of kinds of state × Flink versions × modes with testdata/startlines.txt: in
// brackets what was asked, below it the answer.
func TestStartLines(t *testing.T) {
	var got strings.Builder
	for _, c := range []struct{ what, fixture string }{
		{"incremental RocksDB, version 3", "1.13.6-rocksdb-incremental"},
		{"incremental RocksDB, version 4", "1.20.0-rocksdb-incremental"},
		{"incremental RocksDB, version 5", "2.0.0-rocksdb-incremental"},
		{"incremental RocksDB, version 6", "2.3.0-rocksdb-incremental"},
		{"changelog", "1.20.0-changelog"},
		{"changelog in memory", "1.20.0-changelog-inmem"},
		{"unaligned", "1.20.0-unaligned"},
		{"merged files", "1.20.0-filemerging"},
		{"relative paths", "1.20.0-rocksdb-incremental"},
		{"relative paths, version 3", "1.13.6-rocksdb-incremental"},
	} {
		meta := scanned(t, fixtures(t, c.fixture)[0])
		if strings.HasPrefix(c.what, "relative") {
			meta = relocatedRelative(t, fixtures(t, c.fixture)[0])
		}
		var answers []string
		asked := map[string][]string{}
		for _, version := range []string{"", "1.14", "1.15", "1.19", "1.20", "2.0", "2.3"} {
			for _, mode := range []ClaimMode{"", NoClaim, Claim} {
				answer := startAnswer(t, StartRequest{Path: "hdfs://dc-b/r/chk-5", Facts: FactsOf(meta), Mode: mode}, version)
				if asked[answer] == nil {
					answers = append(answers, answer)
				}
				asked[answer] = append(asked[answer], strings.TrimSpace(version+" "+string(mode)))
			}
		}
		if got.Len() > 0 {
			got.WriteString("\n")
		}
		fmt.Fprintf(&got, "# %s\n", c.what)
		for _, answer := range answers {
			fmt.Fprintf(&got, "\n[%s]\n%s", strings.Join(asked[answer], "] ["), answer)
		}
	}
	const golden = "testdata/startlines.txt"
	if *update {
		if err := os.MkdirAll("testdata", 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, []byte(got.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Errorf("(-%s +Start; -update writes it anew)\n%s", golden, diff)
	}
}

func startAnswer(t *testing.T, req StartRequest, version string) string {
	t.Helper()
	if version != "" {
		v, err := ParseFlinkVersion(version)
		if err != nil {
			t.Fatal(err)
		}
		req.Flink = v
	}
	line, err := Start(req)
	if err != nil {
		if !errors.Is(err, ErrRefused) || line.Run != "" {
			t.Errorf("Start = %+v, %v", line, err)
		}
		return err.Error() + "\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n", line.Run, strings.Join(line.SQL, "\n"))
	fmt.Fprintln(&b, line.DeploymentPatch)
	for _, a := range line.Advice {
		fmt.Fprintf(&b, "- %s\n", a)
	}
	return b.String()
}

// relocatedRelative is the _metadata of a portable replica of f.
func relocatedRelative(t *testing.T, f fixture) *flinkmeta.Metadata {
	t.Helper()
	w := newWorld()
	req := w.request(w.load(t, f))
	req.Paths = PathsRelative
	res := w.mustReplicate(t, req)
	m, err := flinkmeta.Scan(get(t, w.dst, strings.TrimPrefix(res.Replica, "hdfs://dc-b/")+"/"+metadataName))
	if err != nil {
		t.Fatal(err)
	}
	if !m.RelativeReused() {
		t.Fatal("no relative path in it")
	}
	return m
}

func TestFlinkVersionsThatAreNoneAreRefused(t *testing.T) {
	for s, want := range map[string]FlinkVersion{"1.20": {1, 20}, "1.20.0": {1, 20}, "2.3": {2, 3}, "1.9.1": {1, 9}, "1.20-SNAPSHOT": {1, 20}, "2.1.0-rc1": {2, 1}} {
		if v, err := ParseFlinkVersion(s); err != nil || v != want {
			t.Errorf("%s: %v, %v", s, v, err)
		}
	}
	for _, s := range []string{"", "1", "2.", "3.1", "0.9", "1.x", "+1.20", "1.-2", "1.20.", "1.20.x", "1.20.0.0", "1.999", " 1.20", "1.20\n", "1٫20"} {
		if v, err := ParseFlinkVersion(s); err == nil || v != (FlinkVersion{}) {
			t.Errorf("%q: %v, %v", s, v, err)
		}
	}
	if _, err := Start(StartRequest{Path: "p", Facts: FactsOf(scanned(t, fixtures(t, "1.20.0-hashmap")[0])), Mode: "LEGACY"}); err == nil {
		t.Error("mode LEGACY: no error")
	}
}

func TestAShellAndFlinkSQLGetThePathAsItIs(t *testing.T) {
	meta := scanned(t, fixtures(t, "1.20.0-hashmap")[0])
	for _, path := range []string{"hdfs://ns:8020/a_b-c/chk-5", "file:/with blank", "file:/it's", `file:/$HOME/"x"/\n`, "file:/`id`;rm -rf ~", "file:/ü*?[a]{b,c}!#&|<>()", "file:/new\nline", "~/x", "file:/''"} {
		line, err := Start(StartRequest{Path: path, Facts: FactsOf(meta)})
		if err != nil {
			t.Fatal(err)
		}
		// The shell itself says which words it sees.
		out, err := exec.Command("sh", "-c", `flink() { printf '%s\0' "$@"; }; `+line.Run).Output()
		if err != nil {
			t.Fatal(err)
		}
		if want := "run\x00-s\x00" + path + "\x00-claimMode\x00NO_CLAIM\x00"; string(out) != want {
			t.Errorf("%s: the shell sees %q", line.Run, out)
		}
		value, ok := strings.CutPrefix(line.SQL[0], "SET 'execution.state-recovery.path' = '")
		value, ok2 := strings.CutSuffix(value, "';")
		if unquoted := strings.ReplaceAll(value, "''", "'"); !ok || !ok2 || unquoted != path || strings.Count(value, "'")%2 != 0 {
			t.Errorf("%s", line.SQL[0])
		}
	}
	for _, path := range []string{"hdfs://ns:8020/a_b-c/chk-5", `file:/with "quotes" & <b>`, "file:/new\nline: x", "file:/ü #no comment"} {
		line, err := Start(StartRequest{Path: path, Facts: FactsOf(meta)})
		if err != nil {
			t.Fatal(err)
		}
		_, quoted, ok := strings.Cut(line.StateSnapshot, "\n    path: ")
		var got string
		if err := json.Unmarshal([]byte(quoted), &got); !ok || err != nil || got != path || strings.Contains(strings.TrimSuffix(quoted, "\n"), "\n") {
			t.Errorf("the snapshot names %q, %v", quoted, err)
		}
		var patch struct {
			Spec struct {
				Job struct{ InitialSavepointPath string }
			}
		}
		if err := json.Unmarshal([]byte(line.DeploymentPatch), &patch); err != nil || patch.Spec.Job.InitialSavepointPath != path {
			t.Errorf("the patch %s: %v", line.DeploymentPatch, err)
		}
	}
	if line, _ := Start(StartRequest{Path: "hdfs://ns:8020/a_b-c/chk-5", Facts: FactsOf(meta)}); strings.Contains(line.Run, "'") {
		t.Errorf("a plain path is quoted: %s", line.Run)
	}
}

// The operator's own example, with the name of the replica: without disposeOnDelete the operator would delete it.
func TestTheOperatorIsToldOfAReplicaThatItDoesNotOwn(t *testing.T) {
	facts := FactsOf(scanned(t, fixtures(t, "1.20.0-hashmap")[0]))
	line, err := Start(StartRequest{Path: "hdfs://dc-b/r/chk-5", Facts: facts})
	if err != nil {
		t.Fatal(err)
	}
	want := `apiVersion: flink.apache.org/v1beta1
kind: FlinkStateSnapshot
metadata:
  name: ckptferry-92b676a18c36543a
spec:
  savepoint:
    alreadyExists: true
    disposeOnDelete: false
    path: "hdfs://dc-b/r/chk-5"
`
	if diff := cmp.Diff(want, line.StateSnapshot); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	other, err := Start(StartRequest{Path: "hdfs://dc-b/r/chk-6", Facts: facts})
	if err != nil {
		t.Fatal(err)
	}
	nonce := regexp.MustCompile(`"savepointRedeployNonce":[0-9]+`)
	if a, b := nonce.FindString(line.DeploymentPatch), nonce.FindString(other.DeploymentPatch); a == b || a == "" {
		t.Errorf("two replicas have the nonces %s and %s: the operator would not see the second", a, b)
	}
}

func TestNoStartLineIsGuessed(t *testing.T) {
	if line, err := Start(StartRequest{Path: "hdfs://dc-b/r/chk-5"}); !errors.Is(err, ErrRefused) || line.Run != "" {
		t.Errorf("Start without facts = %+v, %v", line, err)
	}
}

func TestFactsTellWhatIsKnown(t *testing.T) {
	for fixture, want := range map[string]RestoreFacts{
		"1.13.6-rocksdb-incremental": {MetadataVersion: 3, OldestFlink: "1.11", OldestFlinkWhy: "_metadata version 3"},
		"2.3.0-rocksdb-incremental":  {MetadataVersion: 6, OldestFlink: "2.1", OldestFlinkWhy: "_metadata version 6"},
		"1.20.0-changelog":           {MetadataVersion: 4, OldestFlink: "1.16", OldestFlinkWhy: "_metadata version 4", Changelog: true},
		"1.20.0-unaligned":           {MetadataVersion: 4, OldestFlink: "1.16", OldestFlinkWhy: "_metadata version 4", Unaligned: true},
		"1.20.0-filemerging":         {MetadataVersion: 4, OldestFlink: "1.20", OldestFlinkWhy: "merged files"},
	} {
		if got := FactsOf(scanned(t, fixtures(t, fixture)[0])); got != want {
			t.Errorf("%s: %+v, want %+v", fixture, got, want)
		}
	}
	// Of a replica they are those of its own _metadata, and of what a plan has seen.
	w := newWorld()
	req := w.request(w.checkpoint(t, "dc-a/cp/"+jobA+"/chk-5", absolute("file:/dc-a/cp/"+jobA+"/shared/1")))
	req.Paths = PathsRelative
	if res := w.mustReplicate(t, req); !res.Facts.RelativeReused || res.Facts.HiddenHandles {
		t.Errorf("facts of a replica with relative paths: %+v", res.Facts)
	}
	put(t, w.src, "dc-a/cp/"+jobA+"/taskowned/owned", []byte("a user's"))
	req = w.request(w.checkpoint(t, "dc-a/cp/"+jobA+"/chk-6", absolute("file:/dc-a/cp/"+jobA+"/shared/1")))
	res := w.mustReplicate(t, req)
	if !res.Facts.HiddenHandles || res.Facts.RelativeReused {
		t.Errorf("facts of a replica with files that nothing refers to: %+v", res.Facts)
	}
	if line, err := Start(StartRequest{Path: res.Replica, Facts: res.Facts}); err != nil || !strings.Contains(strings.Join(line.Advice, "\n"), "taskowned/") {
		t.Errorf("Start = %+v, %v", line, err)
	}
}

func TestWhatHasNoManifestKeepsItsNameAndIsSaidToBeUnchecked(t *testing.T) {
	w := newWorld()
	source := w.checkpoint(t, "dc-a/cp/"+jobA+"/chk-5", relative("f"))
	unchecked := func(found Lookup, err error, path string) {
		t.Helper()
		if err != nil || found.Path != path || len(found.Advice) != 1 || !strings.Contains(found.Advice[0], "nothing was checked") {
			t.Errorf("LookUp = %+v, %v", found, err)
		}
	}
	found, err := LookUp(t.Context(), w, LookupRequest{Dir: source})
	unchecked(found, err, source.String())
	res := w.mustReplicate(t, w.request(source))
	put(t, w.dst, "replicas/"+aManifest, []byte("damaged"))
	found, err = LookUp(t.Context(), w, LookupRequest{Dir: mustURI(res.Replica)})
	unchecked(found, err, res.Replica)
}

func TestADamagedReplicaIsNotOffered(t *testing.T) {
	w := newWorld()
	res := w.mustReplicate(t, w.request(w.checkpoint(t, "dc-a/cp/"+jobA+"/chk-5", relative("f"))))
	dir := mustURI(res.Replica)
	name := strings.TrimPrefix(dir.Path, "/")
	raw := get(t, w.dst, name+"/"+metadataName)
	if _, err := LookUp(t.Context(), w, LookupRequest{Dir: dir, Raw: raw}); err != nil {
		t.Fatal(err)
	}
	if _, err := LookUp(t.Context(), w, LookupRequest{Dir: dir, Raw: raw[:len(raw)-1]}); !errors.Is(err, ErrVerify) {
		t.Errorf("another _metadata: %v", err)
	}
	remove(t, w.dst, name+"/f")
	if _, err := LookUp(t.Context(), w, LookupRequest{Dir: dir, Raw: raw}); !errors.Is(err, ErrVerify) || !strings.Contains(err.Error(), "/f") {
		t.Errorf("a missing file: %v", err)
	}
}
