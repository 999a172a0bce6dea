package replicator

import (
	"path"
	"strings"
	"testing"
	"time"
)

func TestNewerThan(t *testing.T) {
	a, b := strings.Repeat("a", 32), strings.Repeat("b", 32)
	noon := time.Unix(1_790_000_000, 0).UTC()
	of := func(replica string, id int64, completed, created time.Time) Surveyed {
		return Surveyed{Replica: replica, Header: ManifestHeader{CheckpointID: id, Created: created, Label: Label{Completed: completed}}}
	}
	never := time.Time{}
	for name, tc := range map[string]struct{ newer, older Surveyed }{
		"copied in the wrong order, by hand": {of(a+"/chk-10", 10, never, noon), of(a+"/chk-9", 9, never, noon.Add(time.Hour))},
		"the id counts, not a clock":         {of(a+"/chk-10", 10, noon, noon), of(a+"/chk-9", 9, noon.Add(time.Hour), noon)},
		"another JobID goes by the time":     {of(b+"/chk-1", 1, noon.Add(time.Second), noon), of(a+"/chk-9", 9, noon, noon.Add(time.Hour))},
		"a time that is known is newer":      {of(a+"/chk-1", 1, noon, noon), of(b+"/chk-9", 9, never, noon.Add(time.Hour))},
		"no time is known":                   {of(a+"/chk-1", 1, never, noon.Add(time.Hour)), of(b+"/chk-9", 9, never, noon)},
		"savepoints go by the time":          {of("savepoint-a", 3, noon.Add(time.Second), noon), of("savepoint-b", 4, noon, noon.Add(time.Hour))},
		"a savepoint that is newer":          {of("savepoint-a", 3, noon.Add(time.Second), noon), of(a+"/chk-9", 9, noon, noon)},
	} {
		t.Run(name, func(t *testing.T) {
			if !tc.newer.NewerThan(tc.older) || tc.older.NewerThan(tc.newer) || tc.newer.NewerThan(tc.newer) {
				t.Errorf("newer %t, older %t, than itself %t", tc.newer.NewerThan(tc.older), tc.older.NewerThan(tc.newer), tc.newer.NewerThan(tc.newer))
			}
		})
	}
}

// Who doesn't know when the checkpoint was completed has the source's time put on record; who knows, has that.
func TestManifestHasTheSourcesTime(t *testing.T) {
	for name, completed := range map[string]time.Time{"not known": {}, "known": time.Unix(1_600_000_000, 0).UTC()} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			req := w.request(w.load(t, one(t, "1.20.0-rocksdb-incremental", "chk-4")))
			req.Label.Completed = completed
			w.mustReplicate(t, req)
			want := completed
			if completed.IsZero() {
				fi, err := w.src.Stat(t.Context(), path.Join(strings.TrimPrefix(req.Source.Path, "/"), metadataName))
				if err != nil {
					t.Fatal(err)
				}
				want = fi.ModTime
			}
			found := 0
			err := Survey(t.Context(), w, SurveyRequest{Root: dcB}, func(s Surveyed) error {
				found++
				if got := s.Header.Label.Completed; want.IsZero() || !got.Equal(want) {
					t.Errorf("completed %s, want %s", got, want)
				}
				return nil
			})
			if err != nil || found != 1 {
				t.Fatalf("%d replicas, %v", found, err)
			}
		})
	}
}
