package raftstore

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

func alone(dir string) Config {
	return Config{Group: "dc2", ID: "a", Dir: dir, Peers: []Peer{{ID: "a", Addr: "127.0.0.1:7072"}}}
}

// openFast is Open with an election that takes milliseconds.
func openFast(cfg Config) (*Store, error) { return open(cfg, quick) }

func quick(c *raft.Config) {
	c.HeartbeatTimeout, c.ElectionTimeout = 50*time.Millisecond, 50*time.Millisecond
	c.LeaderLeaseTimeout, c.CommitTimeout = 50*time.Millisecond, 5*time.Millisecond
}

// closedDirectory is a directory with one READY replica, its snapshot taken, and no process on it.
func closedDirectory(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	s, err := openFast(alone(dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, cmd := range copied(4, fence(0, 1)) {
		mustPropose(t, s, cmd)
	}
	if err := s.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// inBolt changes the bolt file behind the store's back.
func inBolt(t *testing.T, dir string, change func(*raftboltdb.BoltStore) error) {
	t.Helper()
	store, err := raftboltdb.New(raftboltdb.Options{Path: filepath.Join(dir, logFile), BoltOptions: &bbolt.Options{Timeout: lockWait}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(change(store), store.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestDirectoryThatIsNotOursIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		given func(t *testing.T, dir string, cfg *Config)
		want  error
	}{
		"of another node":  {func(_ *testing.T, _ string, cfg *Config) { cfg.ID, cfg.Peers[0].ID = "b", "b" }, ErrForeign},
		"of another group": {func(_ *testing.T, _ string, cfg *Config) { cfg.Group = "dc1" }, ErrForeign},
		"with other voters": {func(_ *testing.T, _ string, cfg *Config) {
			cfg.Peers = []Peer{{"a", "127.0.0.1:0"}, {"b", "127.0.0.1:1"}, {"c", "127.0.0.1:2"}}
		}, ErrForeign},
		"with a log but no label": {func(t *testing.T, dir string, _ *Config) {
			if err := os.Remove(filepath.Join(dir, logFile)); err != nil {
				t.Fatal(err)
			}
			inBolt(t, dir, func(b *raftboltdb.BoltStore) error {
				return b.StoreLog(&raft.Log{Index: 1, Term: 1, Data: []byte("x")})
			})
		}, ErrForeign},
		"of a newer format": {func(t *testing.T, dir string, _ *Config) {
			label, err := json.Marshal(owner{Format: formatVersion + 1, Group: "dc2", ID: "a"})
			if err != nil {
				t.Fatal(err)
			}
			inBolt(t, dir, func(b *raftboltdb.BoltStore) error { return b.Set(ownerKey, label) })
		}, ErrNewer},
		"with a label that doesn't decode": {func(t *testing.T, dir string, _ *Config) {
			inBolt(t, dir, func(b *raftboltdb.BoltStore) error { return b.Set(ownerKey, []byte("{")) })
		}, ErrDamaged},
		"with a log cut in half": {func(t *testing.T, dir string, _ *Config) {
			path := filepath.Join(dir, logFile)
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, info.Size()/2); err != nil {
				t.Fatal(err)
			}
		}, ErrDamaged},
		"with a log that is cut to its header": {func(t *testing.T, dir string, _ *Config) {
			if err := os.Truncate(filepath.Join(dir, logFile), int64(2*os.Getpagesize())); err != nil {
				t.Fatal(err)
			}
		}, ErrDamaged},
		"with something else for a log": {func(t *testing.T, dir string, _ *Config) {
			if err := os.WriteFile(filepath.Join(dir, logFile), make([]byte, 1<<16), 0o600); err != nil {
				t.Fatal(err)
			}
		}, ErrDamaged},
		"with a damaged snapshot": {func(t *testing.T, dir string, _ *Config) {
			states, err := filepath.Glob(filepath.Join(dir, "snapshots", "*", "state.bin"))
			if err != nil || len(states) != 1 {
				t.Fatalf("snapshots %v, %v", states, err)
			}
			b, err := os.ReadFile(states[0])
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 1
			if err := os.WriteFile(states[0], b, 0o600); err != nil {
				t.Fatal(err)
			}
		}, ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			dir := closedDirectory(t)
			cfg := alone(dir)
			tc.given(t, dir, &cfg)
			s, err := openFast(cfg)
			if err == nil {
				_ = s.Close()
			}
			if !errors.Is(err, tc.want) {
				t.Fatalf("Open = %v, want %v", err, tc.want)
			}
			t.Log(err)
		})
	}
}

func TestDirectoryIsOpenOnce(t *testing.T) {
	dir := t.TempDir()
	s, err := openFast(alone(dir))
	if err != nil {
		t.Fatal(err)
	}
	if second, err := openFast(alone(dir)); !errors.Is(err, ErrInUse) {
		t.Errorf("Open = %v, %v; want %v", second, err, ErrInUse)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err = openFast(alone(dir))
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSingleVoterMayMoveToAnotherAddress(t *testing.T) {
	cfg := alone(closedDirectory(t))
	cfg.Peers[0].Addr = "127.0.0.2:9999"
	s, err := openFast(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestNodeMustBeAmongItsPeers(t *testing.T) {
	cfg := alone(t.TempDir())
	cfg.ID = "z"
	if s, err := openFast(cfg); !errors.Is(err, ErrInvalid) {
		t.Errorf("Open = %v, %v; want %v", s, err, ErrInvalid)
	}
}
