package raftstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

const (
	logFile       = "raft.db"
	lockWait      = time.Second // for another process to let go of the bolt file
	keptSnapshots = 2
)

// ownerKey is where the bolt file says whose it is.
var ownerKey = []byte("ckptferry.owner")

// owner is the label of a Raft directory. Two nodes that swap directories would vote twice.
type owner struct {
	Format uint32 `json:"format"`
	Group  string `json:"group"`
	ID     string `json:"id"`
}

// directory is a node's place on disk: the log and the votes in a bolt file, snapshots beside it.
type directory struct {
	bolt      *raftboltdb.BoltStore
	snapshots raft.SnapshotStore
}

// openDirectory opens a node's directory, or makes it. One that is another node's, newer, damaged or open elsewhere
// is refused with that sentinel.
func openDirectory(cfg Config) (*directory, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make raft directory: %w", err)
	}
	path := filepath.Join(cfg.Dir, logFile)
	if err := checkWhole(path); err != nil {
		return nil, err
	}
	bolt, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: &bbolt.Options{Timeout: lockWait}})
	if err != nil {
		return nil, boltError(path, err)
	}
	d := &directory{bolt: bolt}
	if err := d.claim(cfg); err != nil {
		return nil, errors.Join(err, d.close())
	}
	d.snapshots, err = raft.NewFileSnapshotStoreWithLogger(cfg.Dir, keptSnapshots, raftLogger(cfg.Log))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open raft snapshots: %w", err), d.close())
	}
	return d, nil
}

func (d *directory) close() error { return d.bolt.Close() }

// claim labels a fresh directory, and checks the label of a used one.
func (d *directory) claim(cfg Config) error {
	mine := owner{Format: formatVersion, Group: cfg.Group, ID: cfg.ID}
	label, err := d.bolt.Get(ownerKey)
	switch {
	case errors.Is(err, raftboltdb.ErrKeyNotFound):
		last, err := d.bolt.LastIndex()
		if err != nil {
			return fmt.Errorf("read raft log: %w", err)
		}
		if last > 0 {
			return fmt.Errorf("%w: %s holds a log but not ckptferry's label; name an empty directory", ErrForeign, cfg.Dir)
		}
		label, err := json.Marshal(mine)
		if err != nil {
			return fmt.Errorf("label raft directory: %w", err)
		}
		if err := d.bolt.Set(ownerKey, label); err != nil {
			return fmt.Errorf("label raft directory: %w", err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("read label of raft directory: %w", err)
	}
	var its owner
	if err := json.Unmarshal(label, &its); err != nil {
		return fmt.Errorf("%w: the label of %s does not decode: %v", ErrDamaged, cfg.Dir, err)
	}
	switch {
	case its.Format > mine.Format:
		return fmt.Errorf("%w: %s has format %d, this one reads %d; install the version that wrote it", ErrNewer, cfg.Dir, its.Format, mine.Format)
	case its.Group != mine.Group || its.ID != mine.ID:
		return fmt.Errorf("%w: %s is of node %s in group %s, this is node %s in group %s; check the node's id and directory",
			ErrForeign, cfg.Dir, its.ID, its.Group, mine.ID, mine.Group)
	}
	return nil
}

// checkWhole refuses a bolt file that is shorter than its own header says. bbolt maps the file into memory and would
// die of SIGBUS at the first page that isn't there.
func checkWhole(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("open raft log: %w", err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockWait})
	if err != nil {
		return boltError(path, err)
	}
	var need int64
	err = db.View(func(tx *bbolt.Tx) error {
		need = tx.Size()
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return boltError(path, err)
	}
	if info.Size() < need {
		return fmt.Errorf("%w: %s has %d of %d bytes; put back a copy of this node's directory, or take the node out of "+
			"the group before it starts empty", ErrDamaged, path, info.Size(), need)
	}
	return nil
}

func boltError(path string, err error) error {
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("%w: another process holds the lock of %s", ErrInUse, path)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return fmt.Errorf("%w: %s is not a whole bolt file (%v); put back a copy of this node's directory, or take the "+
			"node out of the group before it starts empty", ErrDamaged, path, err)
	default:
		return fmt.Errorf("open raft log %s: %w", path, err)
	}
}
