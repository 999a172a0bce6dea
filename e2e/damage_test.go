//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/e2e/lab/flinklab"
)

// What is wrong with a replica is said by `metadata verify`, before Flink finds it out.
func TestDamageIsToldBeforeFlinkFails(t *testing.T) { damageIsTold(t, newSite(t, "1.20.0")) }

// damageIsTold replicates a fixture to the target, damages the replica in one way after the other, and mends it again.
func damageIsTold(t *testing.T, s site) {
	c := restoreCase{fixture: "1.20.0-rocksdb-incremental"}
	ledger, err := flinklab.LedgerOf(filepath.Join(fixtures, c.fixture, "ledger.json"))
	if err != nil {
		t.Fatal(err)
	}
	s.copySource(t, filepath.Join(fixtures, c.fixture, "dc-a"))
	replica := replicate(t, c.checkpoint(t, s.source.path), s.replicas().uri(), "--map", "file:/dc-a="+s.source.path).Replica
	s.source.lose(t)
	victim := largestSST(t, replica)

	for _, d := range []struct {
		name, file string
		damage     func([]byte) []byte // nil: the file is removed
		says       string              // beside the file's name
		short      bool                // real Flink fails on it in every run, on the others in the whole matrix
	}{
		{name: "one byte flipped", file: victim, damage: flipMiddle, says: "different: "},
		{name: "one file short", file: victim, damage: cut, says: "short: ", short: true},
		{name: "one file removed", file: victim, says: "missing: ", short: true},
		{name: "_metadata cut", file: replica + "/_metadata", damage: cut, says: "_metadata"},
	} {
		t.Run(d.name, func(t *testing.T) {
			whole := s.target.read(t, d.file)
			if d.damage == nil {
				s.target.remove(t, d.file)
			} else {
				s.target.write(t, d.file, d.damage(bytes.Clone(whole)))
			}
			code, out := exitOf(t, "metadata", "verify", replica)
			if code != 7 || !strings.Contains(out, d.says) || !strings.Contains(out, path.Base(d.file)) {
				t.Errorf("metadata verify: exit code %d, %s; want 7, with %q and the name of %s", code, out, d.says, d.file)
			}
			if d.short || os.Getenv("E2E_ALL") != "" {
				o := s.restore(strings.ReplaceAll(d.name, " ", "-"), flinklab.RestoreOptions{Path: replica, Mode: noClaim, Ledger: ledger})
				if _, err := s.lab.RestoreCheck(t.Context(), o); !errors.Is(err, flinklab.ErrNotRestored) {
					t.Errorf("Flink restores from it: %v", err)
				}
			}
			s.target.write(t, d.file, whole)
			output(t, "metadata", "verify", replica) // it was the damage
		})
	}
}

// largestSST is the URI of a file that RocksDB can't do without, as it can without its OPTIONS, which lie in shared/ too.
func largestSST(t *testing.T, replica string) string {
	t.Helper()
	uri, size := "", int64(0)
	for _, h := range inspect(t, replica).Handles {
		if h.Where == "ManagedKeyedState.shared" && h.URI != "" && h.Size > size {
			uri, size = h.URI, h.Size
		}
	}
	if uri == "" {
		t.Fatalf("%s has no sst file", replica)
	}
	return uri
}

func flipMiddle(b []byte) []byte {
	b[len(b)/2] ^= 1
	return b
}

func cut(b []byte) []byte { return b[:len(b)-100] }
