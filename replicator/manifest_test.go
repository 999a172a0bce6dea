package replicator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/fsutil/faultfs"
)

const (
	aReplica  = jobA + "/chk-5"
	aManifest = ownDir + "/manifest/" + aReplica + ".jsonl"
	aJournal  = ownDir + "/journal/" + aReplica + "/0123456789abcdef-0.jsonl"
)

var (
	aHeader = ManifestHeader{Format: manifestFormat, Replica: aReplica, Root: "hdfs://dc-b/replicas", Source: "file:/dc-a/cp/" + aReplica,
		CheckpointID: 5, Paths: "absolute", OriginalBytes: 7, MetadataBytes: 9, Created: time.Unix(1e9, 0).UTC(), Warnings: []string{"line\nbreak"}}
	someFiles = []ManifestFile{
		{Name: jobA + "/shared/a", Source: "file:/dc-a/cp/" + jobA + "/shared/a", Bytes: 1 << 40, CRC: 0xdeadbeef, ModTime: time.Unix(1e9, 123456789).UTC(), Role: "shared", References: 2},
		{Name: jobA + "/shared/ö \"\n\\", Source: "file:/x", Bytes: 0, CRC: 1, ModTime: time.Unix(0, 0).UTC(), Role: "other"},
	}
)

// asWritten is a manifest, or without a header a journal's segment, as the product writes it.
func asWritten(t testing.TB, header any, files ...ManifestFile) []byte {
	t.Helper()
	var b bytes.Buffer
	w := manifestWriter{w: &b}
	if header != nil {
		if err := w.line(header); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range files {
		if err := w.file(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func memoryWith(t testing.TB, name string, b []byte) *fsutil.Memory {
	t.Helper()
	m := fsutil.NewMemory(mustURI("hdfs://dc-b/replicas"))
	put(t, m, name, b)
	return m
}

// filesOf reads a manifest or a segment.
func filesOf(ctx context.Context, m fsutil.ReadFS, name string) ([]ManifestFile, error) {
	if name == aJournal {
		return readSegment(ctx, m, name)
	}
	var files []ManifestFile
	_, err := readManifest(ctx, m, aReplica, func(f ManifestFile) error {
		files = append(files, f)
		return nil
	})
	return files, err
}

func TestManifestsAndJournalsReadAsTheyWereWritten(t *testing.T) {
	for name, b := range map[string][]byte{aManifest: asWritten(t, aHeader, someFiles...), aJournal: asWritten(t, nil, someFiles...)} {
		got, err := filesOf(t.Context(), memoryWith(t, name, b), name)
		if diff := cmp.Diff(someFiles, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
	head, err := readManifest(t.Context(), memoryWith(t, aManifest, asWritten(t, aHeader)), aReplica, nil)
	if diff := cmp.Diff(aHeader, head); err != nil || diff != "" {
		t.Errorf("header: %v\n%s", err, diff)
	}
}

func TestACutOrChangedManifestIsNotBelieved(t *testing.T) {
	for name, whole := range map[string][]byte{aManifest: asWritten(t, aHeader, someFiles...), aJournal: asWritten(t, nil, someFiles...)} {
		for n := range whole {
			if _, err := filesOf(t.Context(), memoryWith(t, name, whole[:n]), name); !errors.Is(err, errManifest) {
				t.Fatalf("%s cut to %d bytes: %v", name, n, err)
			}
			for _, bit := range []byte{0x01, 0x10, 0x20, 0x80} {
				b := bytes.Clone(whole)
				b[n] ^= bit
				got, err := filesOf(t.Context(), memoryWith(t, name, b), name)
				// JSON reads "Files" as "files" and DEADBEEF as deadbeef: what means the same is no damage.
				if err == nil && cmp.Equal(got, someFiles) && bit == 0x20 && n > bytes.LastIndexByte(whole[:len(whole)-1], '\n') {
					continue
				}
				if !errors.Is(err, errManifest) {
					t.Fatalf("%s with byte %d (%q) changed to %q: %v", name, n, whole[n], b[n], err)
				}
			}
		}
	}
}

func TestAManifestThatIsNotWhatItMustBeIsNotBelieved(t *testing.T) {
	newer := aHeader
	newer.Format++
	other := aHeader
	other.Replica = jobA + "/chk-6"
	file := func(change func(*ManifestFile)) []ManifestFile {
		f := someFiles[0]
		change(&f)
		return []ManifestFile{f}
	}
	long := strings.Repeat("x", maxLineBytes)
	for what, c := range map[string]struct {
		b      []byte
		reason string
	}{
		"newer format":       {asWritten(t, newer, someFiles...), "format 2"},
		"of another replica": {asWritten(t, other, someFiles...), "chk-6"},
		"no header":          {asWritten(t, nil, someFiles...), "no manifest header"},
		"empty":              {nil, "ends before"},
		"no JSON":            {[]byte("<html>\n"), "no manifest header"},
		"above the root":     {asWritten(t, aHeader, file(func(f *ManifestFile) { f.Name = "../x" })...), `"../x"`},
		"on the way above":   {asWritten(t, aHeader, file(func(f *ManifestFile) { f.Name = "a/../../x" })...), `"a/../../x"`},
		"absolute":           {asWritten(t, aHeader, file(func(f *ManifestFile) { f.Name = "/etc/passwd" })...), `"/etc/passwd"`},
		"the root":           {asWritten(t, aHeader, file(func(f *ManifestFile) { f.Name = "." })...), `"."`},
		"a negative length":  {asWritten(t, aHeader, file(func(f *ManifestFile) { f.Bytes = -1 })...), "-1 bytes"},
		"a huge line":        {asWritten(t, aHeader, file(func(f *ManifestFile) { f.Source = long })...), "a line of more than"},
		"a huge header":      {[]byte(long + long), "a line of more than"},
		"something follows":  {append(asWritten(t, aHeader, someFiles...), "{}\n"...), "follows"},
		"two of them":        {append(asWritten(t, aHeader, someFiles...), asWritten(t, aHeader, someFiles...)...), "follows"},
	} {
		_, err := readManifest(t.Context(), memoryWith(t, aManifest, c.b), aReplica, nil)
		if !errors.Is(err, errManifest) || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestAnErrorOfTheFileSystemIsNotADamagedManifest(t *testing.T) {
	m := memoryWith(t, aManifest, asWritten(t, aHeader, someFiles...))
	for _, at := range []int64{0, 10, 500, int64(len(get(t, m, aManifest)))} {
		f := faultfs.New(m)
		f.Inject(faultfs.Fault{Op: faultfs.Open, Do: faultfs.FailAt(at, fsutil.ErrUnavailable)})
		if _, err := filesOf(t.Context(), f, aManifest); !errors.Is(err, fsutil.ErrUnavailable) || errors.Is(err, errManifest) {
			t.Errorf("at %d: %v", at, err)
		}
	}
}

// recorder notes every name that is asked for.
type recorder struct {
	fsutil.FS
	t *testing.T
}

func (r recorder) look(name string) {
	if strings.HasPrefix(name, "/") || strings.Contains("/"+name+"/", "/../") {
		r.t.Errorf("%q was asked for", name)
	}
}

func (r recorder) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	r.look(name)
	return r.FS.Open(ctx, name, offset)
}

func (r recorder) Stat(ctx context.Context, name string) (fsutil.FileInfo, error) {
	r.look(name)
	return r.FS.Stat(ctx, name)
}

type recording struct {
	*world
	t *testing.T
}

func (r recording) Open(ctx context.Context, root fsutil.URI) (fsutil.FS, error) {
	f, err := r.world.Open(ctx, root)
	return recorder{f, r.t}, err
}

func (r recording) OpenRead(_ context.Context, root fsutil.URI) (fsutil.ReadFS, error) {
	v, err := r.view(root)
	return recorder{v, r.t}, err
}

func TestRunsOverDamagedAndHostileRecordsStayInsideAndEndWhole(t *testing.T) {
	hostile := someFiles[0]
	hostile.Name = "../../../x"
	seeds := [][]byte{asWritten(t, aHeader, someFiles...), asWritten(t, nil, someFiles...), asWritten(t, aHeader, hostile),
		asWritten(t, nil, hostile), []byte("../../x"), []byte(aReplica), {}, []byte("\n"), []byte(`{"name":"a"}` + "\n")}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 100 {
		b := bytes.Clone(seeds[i%len(seeds)])
		if len(b) > 0 && i >= len(seeds) {
			b[r.IntN(len(b))] = byte(r.IntN(256))
		}
		w := newWorld()
		source := w.checkpoint(t, "dc-a/cp/"+jobA+"/chk-5", absolute("file:/dc-a/cp/"+jobA+"/shared/a"), absolute("file:/dc-a/cp/"+jobB+"/shared/b"))
		for _, name := range []string{aManifest, strings.Replace(aManifest, "chk-5", "chk-4", 1), aJournal, borrower(jobB, aReplica), borrower(jobA, "../x")} {
			put(t, w.dst, "replicas/"+name, b)
		}
		res, err := Replicate(t.Context(), recording{w, t}, w.request(source))
		if err != nil || w.wholeReplicas(t, w.dst) != 1 {
			t.Fatalf("%q: Replicate = %+v, %v", b, res, err)
		}
		w.checkAll(t, 1)
		put(t, w.dst, "replicas/"+aManifest, b)
		if _, err := Check(t.Context(), recording{w, t}, CheckRequest{Dir: mustURI(res.Replica)}); !errors.Is(err, ErrVerify) {
			t.Fatalf("%q: Check believes a manifest that is not the replica's: %v", b, err)
		}
	}
}

// FuzzRecords reads anything as a manifest and as a journal: what is believed has names below the root, and written
// again it reads the same.
func FuzzRecords(f *testing.F) {
	for _, seed := range [][]byte{asWritten(f, aHeader, someFiles...), asWritten(f, nil, someFiles...), {}, []byte("\n"), []byte(`{"name":"../a"}` + "\n")} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, b []byte, sealed bool) {
		if sealed { // with a right last line, so that what is before it is believed
			end := manifestEnd{LinesCRC: checksum(b)}
			for _, line := range bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n")) {
				var f ManifestFile
				if json.Unmarshal(line, &f) == nil && f.Name != "" {
					end.Files++
					end.Bytes += f.Bytes
				}
			}
			last, err := json.Marshal(end)
			if err != nil {
				t.Fatal(err)
			}
			b = append(append(bytes.Clone(b), last...), '\n')
		}
		for _, name := range []string{aManifest, aJournal} {
			files, err := filesOf(t.Context(), memoryWith(t, name, b), name)
			if err != nil {
				if !errors.Is(err, errManifest) {
					t.Fatal(err)
				}
				continue
			}
			for _, f := range files {
				if !fs.ValidPath(f.Name) || f.Name == "." {
					t.Fatalf("believed: %q", f.Name)
				}
			}
			again, err := filesOf(t.Context(), memoryWith(t, aJournal, asWritten(t, nil, files...)), aJournal)
			if diff := cmp.Diff(files, again); err != nil || diff != "" {
				t.Fatalf("%v\n%s", err, diff)
			}
		}
	})
}
