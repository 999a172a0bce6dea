package replicator

import (
	"testing"
	"time"
)

func TestMarksComeInOrderAndOnlyOfWhatWasDone(t *testing.T) {
	w := newWorld()
	meter, req := &Meter{}, w.request(w.load(t, one(t, "1.20.0-rocksdb-incremental", "chk-5")))
	req.Meter = meter
	began := time.Now()
	w.mustReplicate(t, req)
	m := meter.Marks()
	if m.FirstByte.Before(began) || m.LastByte.Before(m.FirstByte) || m.Verified.Before(m.LastByte) {
		t.Errorf("marks %+v of a run that began at %v", m, began)
	}
	if copied, files := meter.FilesCopied.Load(), meter.Files.Load(); copied == 0 || copied != files {
		t.Errorf("%d files of %d were copied, want all", copied, files)
	}
	// All is there: nothing is read at the source, and everything is read back.
	w.mustReplicate(t, req)
	m = meter.Marks()
	if !m.FirstByte.IsZero() || !m.LastByte.IsZero() || m.Verified.IsZero() || meter.FilesCopied.Load() != 0 {
		t.Errorf("marks %+v and %d files copied of a run that found all there", m, meter.FilesCopied.Load())
	}
}
