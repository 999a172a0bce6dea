package replicator

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/fsutil/faultfs"
)

func TestLengthsFindWhatIsMissingOrReplacedWithoutReadingFiles(t *testing.T) {
	type place struct{ manifest, metadata, shared string }
	for what, c := range map[string]struct {
		damage func(t *testing.T, w *world, at place)
		want   string // of the error; empty: the replica is whole
	}{
		"whole":                   {func(*testing.T, *world, place) {}, ""},
		"rot inside of a file":    {func(t *testing.T, w *world, at place) { flip(t, w.dst, at.shared, 0) }, ""},
		"a file is missing":       {func(t *testing.T, w *world, at place) { remove(t, w.dst, at.shared) }, "missing or have another length"},
		"a file is short":         {func(t *testing.T, w *world, at place) { put(t, w.dst, at.shared, get(t, w.dst, at.shared)[1:]) }, "missing or have another length"},
		"a file is longer":        {func(t *testing.T, w *world, at place) { put(t, w.dst, at.shared, append(get(t, w.dst, at.shared), 1)) }, "missing or have another length"},
		"_metadata is gone":       {func(t *testing.T, w *world, at place) { remove(t, w.dst, at.metadata) }, "Flink sees no checkpoint"},
		"_metadata is another":    {func(t *testing.T, w *world, at place) { flip(t, w.dst, at.metadata, 50) }, "not the file that was published"},
		"the manifest is gone":    {func(t *testing.T, w *world, at place) { remove(t, w.dst, at.manifest) }, "nobody knows"},
		"the manifest is damaged": {func(t *testing.T, w *world, at place) { flip(t, w.dst, at.manifest, 400) }, "damaged"},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld()
			req := w.request(w.load(t, one(t, "1.20.0-rocksdb-incremental", "chk-5")))
			res := w.mustReplicate(t, req)
			_, shared := w.aSharedFile(t, req.Source)
			job := req.Source.Dir().Base()
			c.damage(t, w, place{"replicas/" + ownDir + "/manifest/" + job + "/chk-5.jsonl", "replicas/" + job + "/chk-5/" + metadataName, shared})
			err := CheckLengths(t.Context(), w, LengthsRequest{Dir: mustURI(res.Replica), Manifest: &res.ManifestCRC})
			switch {
			case c.want == "" && err != nil:
				t.Errorf("a replica whose lengths are right: %v", err)
			case c.want != "" && (!errors.Is(err, ErrVerify) || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v; want ErrVerify that says %q", err, c.want)
			}
		})
	}
}

// A manifest that is whole but not the one on record belongs to another replica.
func TestLengthsKnowTheManifestThatIsOnRecord(t *testing.T) {
	w := newWorld()
	res := w.mustReplicate(t, w.request(w.load(t, one(t, "1.20.0-rocksdb-incremental", "chk-5"))))
	other := res.ManifestCRC + 1
	err := CheckLengths(t.Context(), w, LengthsRequest{Dir: mustURI(res.Replica), Manifest: &other})
	if !errors.Is(err, ErrVerify) || !strings.Contains(err.Error(), "is on record") {
		t.Errorf("another manifest than the one on record: %v; want ErrVerify", err)
	}
	if err := CheckLengths(t.Context(), w, LengthsRequest{Dir: mustURI(res.Replica)}); err != nil {
		t.Errorf("without a checksum on record: %v", err)
	}
}

// Storage that doesn't answer says nothing about the replica.
func TestLengthsThatCannotBeAskedAreNoVerdict(t *testing.T) {
	w := newWorld()
	res := w.mustReplicate(t, w.request(w.load(t, one(t, "1.20.0-rocksdb-incremental", "chk-5"))))
	for _, op := range []faultfs.Op{faultfs.Open, faultfs.Stat} {
		w.calm()
		w.here.Inject(faultfs.Fault{Op: op, Do: faultfs.Fail(fsutil.ErrUnavailable)})
		err := CheckLengths(t.Context(), w, LengthsRequest{Dir: mustURI(res.Replica)})
		if !errors.Is(err, fsutil.ErrUnavailable) || errors.Is(err, ErrVerify) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v fails: %v; want ErrUnavailable alone", op, err)
		}
	}
}
