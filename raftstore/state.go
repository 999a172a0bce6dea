package raftstore

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// JobID is Flink's JobID, 32 hexadecimal digits. It changes at every submission of a job.
type JobID string

// Key is the identity of one checkpoint or savepoint. A fixed JobID that is used again after a restart counts its
// checkpoints from 1 again, so the checksum of _metadata belongs to the identity.
type Key struct {
	Route        string
	JobID        JobID
	CheckpointID int64
	MetadataCRC  uint32 // CRC32C of the source's _metadata
}

// String renders a key as it is logged: route/job id/chk-N@checksum.
func (k Key) String() string {
	return fmt.Sprintf("%s/%s/chk-%d@%08x", k.Route, k.JobID, k.CheckpointID, k.MetadataCRC)
}

func (k Key) compare(other Key) int {
	return cmp.Or(
		strings.Compare(k.Route, other.Route),
		strings.Compare(string(k.JobID), string(other.JobID)),
		cmp.Compare(k.CheckpointID, other.CheckpointID),
		cmp.Compare(k.MetadataCRC, other.MetadataCRC),
	)
}

// Status is how far a replica is:
//
//	PLANNED → COPYING → READY → RETIRING → gone
//	PLANNED, COPYING → SUPERSEDED or FAILED → RETIRING, or PLANNED again with a higher attempt
//
// The numbers are those of ckptferry.v1.ReplicaStatus, and never change.
type Status int32

// The statuses of a replica.
const (
	StatusPlanned    Status = iota + 1 // what to copy is known, nothing is written
	StatusCopying                      // files are being written; _metadata is not there, so Flink sees no checkpoint
	StatusReady                        // complete and verified on the storage, _metadata in place
	StatusRetiring                     // being deleted, no longer offered
	StatusSuperseded                   // given up: the source's files are gone or a newer checkpoint overtook it
	StatusFailed                       // given up: Reason says why
)

var statusNames = map[Status]string{
	StatusPlanned: "PLANNED", StatusCopying: "COPYING", StatusReady: "READY", StatusRetiring: "RETIRING",
	StatusSuperseded: "SUPERSEDED", StatusFailed: "FAILED",
}

// String is the status as people write it, READY for StatusReady.
func (s Status) String() string {
	if name, ok := statusNames[s]; ok {
		return name
	}
	return fmt.Sprintf("status %d", int32(s))
}

// Fence says for whom a command speaks: the route's epoch and the replica's attempt, which counts from 1.
type Fence struct{ Epoch, Attempt uint64 }

// Replica is one checkpoint as this datacenter holds it. It is a value; its slices are never changed in place.
type Replica struct {
	Key         Key
	Job         string // what an operator calls the job
	Status      Status
	Planned     Fence // the epoch and attempt that it was planned under
	URI         string
	ManifestCRC uint32 // CRC32C of the manifest on the storage, which lists the files
	Files       int64
	Bytes       int64
	PlannedAt   time.Time // proposer's clock, UTC
	ReadyAt     time.Time // zero before READY
	Reason      string    // why it is SUPERSEDED or FAILED
	Warnings    []string
	Pinned      bool
}

// inFlight says that an attempt may be working on the replica.
func (r Replica) inFlight() bool { return r.Status == StatusPlanned || r.Status == StatusCopying }

// State is everything that the group agrees on.
type State struct {
	Epochs   map[string]uint64 // by route; a route that isn't here is at epoch 0
	Replicas map[Key]Replica
}

func newState() State {
	return State{Epochs: map[string]uint64{}, Replicas: map[Key]Replica{}}
}

// clone copies what apply changes.
func (s State) clone() State {
	return State{Epochs: maps.Clone(s.Epochs), Replicas: maps.Clone(s.Replicas)}
}

// sorted lists the replicas by key.
func (s State) sorted() []Replica {
	return slices.SortedFunc(maps.Values(s.Replicas), func(a, b Replica) int { return a.Key.compare(b.Key) })
}

// otherReady says whether the job has a READY replica beside r.
func (s State) otherReady(r Replica) bool {
	for key, other := range s.Replicas {
		if key != r.Key && key.Route == r.Key.Route && other.Job == r.Job && other.Status == StatusReady {
			return true
		}
	}
	return false
}

// check returns what no sequence of commands can lead to. A snapshot that fails it is damaged.
func (s State) check() error {
	for key, r := range s.Replicas {
		switch {
		case key != r.Key:
			return fmt.Errorf("replica %s is filed under %s", r.Key, key)
		case key.Route == "" || key.JobID == "" || key.CheckpointID < 0:
			return fmt.Errorf("replica %s has no whole key", key)
		case statusNames[r.Status] == "":
			return fmt.Errorf("replica %s has %s", key, r.Status)
		case r.Job == "" || r.URI == "" || r.Files < 0 || r.Bytes < 0 || r.PlannedAt.IsZero():
			return fmt.Errorf("replica %s was planned without its job, place, size or time", key)
		case r.Planned.Attempt == 0:
			return fmt.Errorf("replica %s has no attempt", key)
		case r.Planned.Epoch > s.Epochs[key.Route]:
			return fmt.Errorf("replica %s was planned in epoch %d, before the route's epoch %d", key, r.Planned.Epoch, s.Epochs[key.Route])
		case r.Status == StatusReady && r.ReadyAt.IsZero():
			return fmt.Errorf("replica %s is READY since never", key)
		case r.inFlight() && !r.ReadyAt.IsZero():
			return fmt.Errorf("replica %s is %s, but was READY in the same attempt", key, r.Status)
		case r.Pinned && r.Status != StatusReady:
			return fmt.Errorf("replica %s is pinned and %s", key, r.Status)
		case (r.Status == StatusSuperseded || r.Status == StatusFailed) && r.Reason == "":
			return fmt.Errorf("replica %s is %s for no reason", key, r.Status)
		}
	}
	return nil
}
