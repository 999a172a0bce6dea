package raftstore

import (
	"cmp"
	"fmt"
	"iter"
	"math"
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

// whole says whether a key names a checkpoint. A savepoint may come without a JobID.
func (k Key) whole() bool {
	return k.Route != "" && (k.JobID == "" || validJobID(k.JobID)) && k.CheckpointID >= 0
}

// Status is how far a replica is:
//
//	PLANNED → COPYING → READY → RETIRING → gone
//	PLANNED, COPYING → SUPERSEDED or FAILED → RETIRING, or PLANNED again with a higher attempt
//	READY → QUARANTINED → RETIRING, or PLANNED again with a higher attempt
//
// The numbers are those of ckptferry.v1.ReplicaStatus, and never change.
type Status int32

// The statuses of a replica.
const (
	StatusPlanned     Status = iota + 1 // what to copy is known, nothing is written
	StatusCopying                       // files are being written; _metadata is not there, so Flink sees no checkpoint
	StatusReady                         // complete and verified on the storage, _metadata in place
	StatusRetiring                      // being deleted, no longer offered
	StatusSuperseded                    // given up: the source's files are gone or a newer checkpoint overtook it
	StatusFailed                        // given up: Reason says why
	StatusQuarantined                   // a scrub found bytes that are not what they were; not offered
)

var statusNames = map[Status]string{
	StatusPlanned: "PLANNED", StatusCopying: "COPYING", StatusReady: "READY", StatusRetiring: "RETIRING",
	StatusSuperseded: "SUPERSEDED", StatusFailed: "FAILED", StatusQuarantined: "QUARANTINED",
}

// String is the status as people write it, READY for StatusReady.
func (s Status) String() string {
	if name, ok := statusNames[s]; ok {
		return name
	}
	return fmt.Sprintf("status %d", int32(s))
}

// Fence says for whom a command speaks: the epoch of the replica's job (View.JobEpoch) and the replica's attempt, which counts from 1.
type Fence struct{ Epoch, Attempt uint64 }

// Replica is one checkpoint as this datacenter holds it. It is a value; its slices are never changed in place.
type Replica struct {
	Key         Key
	Job         string // what an operator calls the job
	Status      Status
	Planned     Fence // the epoch and attempt that it was planned under
	URI         string
	ManifestCRC uint32 // CRC32C of the manifest on the storage, which lists the files. Known, as the sizes are, from READY on
	Files       int64
	Bytes       int64
	CompletedAt time.Time // when the source's checkpoint was, by its storage's clock; zero when it didn't say
	PlannedAt   time.Time // proposer's clock, UTC
	ReadyAt     time.Time // zero before READY
	Reason      string    // why it is SUPERSEDED or FAILED
	Warnings    []string
	Pinned      bool

	Agent         string  // the agent of the group that makes the replica, or made it
	Shards        []Shard // the agents that help with a large copy; share i+1 of n+1 is the i-th's
	Savepoint     bool
	SavepointName string       // of a savepoint's directory
	Promoted      bool         // a job goes on from it, or did; stays for ever
	Claimed       bool         // it was promoted with CLAIM: its files are Flink's for ever
	AtRisk        bool         // another replica of the job was: Flink may have deleted files that this one needs
	ScrubbedAt    time.Time    // when every byte was last read and compared after READY; zero before
	Facts         RestoreFacts // known from READY on

	FailureClass      string // the class of the error that FAILED it
	CheckpointAtFault bool   // an older checkpoint of the job may do
	TargetAtFault     bool   // the target takes nothing, of whatever job

	pinnedByPromotion bool // not by hand: the end of the promotion unpins it
}

// Shard is an agent's share of a large copy. At most one of Done and Lost is set.
type Shard struct {
	Agent string
	Done  bool // it has copied and read back its share
	Lost  bool // nobody waits for it any longer
}

// RestoreFacts are what the ways of starting Flink from a replica depend on.
type RestoreFacts struct {
	MetadataVersion int32  // 2 to 6
	OldestFlink     string // "1.20"
	OldestFlinkWhy  string
	Changelog       bool // the changelog state backend: Flink refuses NO_CLAIM
	Unaligned       bool // in-flight data: only the same minor version and job graph
	RelativeReused  bool // shared files have relative paths: CLAIM would break the job's next checkpoints
	HiddenHandles   bool // handles inside of user state may name files that nobody can see
}

// Offerable says that a job may be started from the replica: it is READY, and Flink deletes nothing of it.
func Offerable(r Replica) bool { return r.Status == StatusReady && !r.AtRisk }

// GivenUp says that no attempt works on the replica and none has made it READY: it is a record of what did not succeed.
func (r Replica) GivenUp() bool { return r.Status == StatusFailed || r.Status == StatusSuperseded }

// inFlight says that an attempt may be working on the replica.
func (r Replica) inFlight() bool { return r.Status == StatusPlanned || r.Status == StatusCopying }

// State is everything that the group agrees on. It is a value: its trees never change, so a copy of it is a view.
type State struct {
	Epochs   tree[string, uint64] // by route; a route that isn't here is at epoch 0
	Replicas tree[Key, Replica]
	Exports  tree[string, exported]
	Routes   tree[string, pulled]
	Removed  tree[string, Route] // routes that were removed, as they were: their replicas still lie below their roots

	Promotions    tree[jobName, promoted]
	Fences        tree[fenceKey, FencedJob]
	Drills        tree[jobName, drilled]
	Migrations    tree[string, Migration]
	MigrationJobs tree[migrationJobKey, MigrationJob]
	AuditRecords  tree[uint64, AuditRecord] // by seq: the newest KeepAudit
	Sweeps        tree[string, struct{}]    // routes that are being swept

	byJob  tree[jobKey, struct{}] // Replicas once more, by job name
	flying tree[Key, struct{}]    // those of Replicas that are in flight
}

// exported is an export and what was found below it.
type exported struct {
	Export
	LastSeq uint64 // the highest that was ever given
	Found   catalogue
}

// pulled is a route, whose Epoch is 0 here, and what is known of its source.
type pulled struct {
	Route
	Known  catalogue
	SeenAt time.Time // when the source was last heard of
}

// jobKey orders replicas by job name.
type jobKey struct {
	Route, Job string
	Key        Key
}

func (r Replica) jobKey() jobKey { return jobKey{r.Key.Route, r.Job, r.Key} }

func (k jobKey) compare(other jobKey) int {
	return cmp.Or(strings.Compare(k.Route, other.Route), strings.Compare(k.Job, other.Job), k.Key.compare(other.Key))
}

func newState() State {
	return State{
		Epochs: newTree[string, uint64](strings.Compare), Replicas: newTree[Key, Replica](Key.compare),
		Exports: newTree[string, exported](strings.Compare), Routes: newTree[string, pulled](strings.Compare),
		Removed:    newTree[string, Route](strings.Compare),
		Promotions: newTree[jobName, promoted](jobName.compare), Fences: newTree[fenceKey, FencedJob](fenceKey.compare),
		Drills:     newTree[jobName, drilled](jobName.compare),
		Migrations: newTree[string, Migration](strings.Compare), MigrationJobs: newTree[migrationJobKey, MigrationJob](migrationJobKey.compare),
		AuditRecords: newTree[uint64, AuditRecord](cmp.Compare[uint64]), Sweeps: newTree[string, struct{}](strings.Compare),
		byJob: newTree[jobKey, struct{}](jobKey.compare), flying: newTree[Key, struct{}](Key.compare),
	}
}

// put files a replica.
func (s *State) put(r Replica) {
	if old, known := s.Replicas.get(r.Key); !known || old.Job != r.Job {
		if known {
			s.byJob = s.byJob.without(old.jobKey())
		}
		s.byJob = s.byJob.with(r.jobKey(), struct{}{})
	}
	s.Replicas = s.Replicas.with(r.Key, r)
	switch was := s.flying.has(r.Key); {
	case r.inFlight() && !was:
		s.flying = s.flying.with(r.Key, struct{}{})
	case !r.inFlight() && was:
		s.flying = s.flying.without(r.Key)
	}
}

// drop forgets a replica.
func (s *State) drop(r Replica) {
	s.byJob = s.byJob.without(r.jobKey())
	s.Replicas, s.flying = s.Replicas.without(r.Key), s.flying.without(r.Key)
}

// ofJob lists the replicas of a job name by key.
func (s State) ofJob(route, job string) iter.Seq[Replica] {
	return func(yield func(Replica) bool) {
		for k := range s.byJob.from(jobKey{Route: route, Job: job, Key: Key{CheckpointID: math.MinInt64}}) {
			if k.Route != route || k.Job != job || !yield(s.Replicas.at(k.Key)) {
				return
			}
		}
	}
}

// otherOfferable says whether the job could be started from a replica beside r. What is Flink's doesn't count: Flink
// deletes it without a word.
func (s State) otherOfferable(r Replica) bool {
	for other := range s.ofJob(r.Key.Route, r.Job) {
		if other.Key != r.Key && Offerable(other) && !other.Claimed {
			return true
		}
	}
	return false
}

// ofRoute lists the replicas of a route.
func (s State) ofRoute(route string) iter.Seq[Replica] {
	return func(yield func(Replica) bool) {
		for k := range s.byJob.from(jobKey{Route: route, Key: Key{CheckpointID: math.MinInt64}}) {
			if k.Route != route || !yield(s.Replicas.at(k.Key)) {
				return
			}
		}
	}
}

// check returns what no sequence of commands can lead to. A snapshot that fails it is damaged.
func (s State) check() error {
	for name, e := range s.Exports.all() {
		if err := cmp.Or(e.Valid(), e.Found.check()); err != nil {
			return fmt.Errorf("export %s: %w", name, err)
		}
		if name != e.Name {
			return fmt.Errorf("export %s is filed under %s", e.Name, name)
		}
		for seq := range e.Found.bySeq.from(e.LastSeq) {
			if seq > e.LastSeq {
				return fmt.Errorf("export %s found seq %d, but has given only %d", name, seq, e.LastSeq)
			}
		}
	}
	for name, r := range s.Routes.all() {
		if err := cmp.Or(r.Valid(), r.Known.check()); err != nil {
			return fmt.Errorf("route %s: %w", name, err)
		}
		if name != r.Name || r.Epoch != 0 || !storable(r.SeenAt) {
			return fmt.Errorf("route %s is filed under %s, with an epoch of its own, or was seen out of time", r.Name, name)
		}
	}
	for name, r := range s.Removed.all() {
		if err := r.Valid(); err != nil {
			return fmt.Errorf("removed route %s: %w", name, err)
		}
		if name != r.Name || r.Epoch != 0 || s.Routes.has(name) {
			return fmt.Errorf("removed route %s is filed under %s, with an epoch of its own, or is there", r.Name, name)
		}
	}
	if err := cmp.Or(s.checkPromotions(), s.checkMigrations(), s.checkRecords(), s.checkClaims()); err != nil {
		return err
	}
	if s.byJob.len() != s.Replicas.len() {
		return fmt.Errorf("%d replicas are filed, and %d by job", s.Replicas.len(), s.byJob.len())
	}
	return s.checkReplicas()
}

func (s State) checkReplicas() error {
	for key, r := range s.Replicas.all() {
		switch {
		case key != r.Key:
			return fmt.Errorf("replica %s is filed under %s", r.Key, key)
		case r.inFlight() != s.flying.has(key):
			return fmt.Errorf("replica %s is %s, and is filed as in flight: %t", key, r.Status, s.flying.has(key))
		case !s.byJob.has(r.jobKey()):
			return fmt.Errorf("replica %s is not filed under job %s", key, r.Job)
		case r.Planned.Epoch > s.jobEpoch(key.Route, r.Job):
			return fmt.Errorf("replica %s was planned in epoch %d, before its job's epoch %d", key, r.Planned.Epoch, s.jobEpoch(key.Route, r.Job))
		case r.inFlight() && s.Removed.has(key.Route):
			return fmt.Errorf("replica %s is %s, but its route was removed", key, r.Status)
		}
		if err := r.check(); err != nil {
			return err
		}
	}
	return nil
}

// check returns what no replica can be, whatever the others are.
func (r Replica) check() error {
	key := r.Key
	switch {
	case !key.whole():
		return fmt.Errorf("replica %s has no whole key", key)
	case statusNames[r.Status] == "":
		return fmt.Errorf("replica %s has %s", key, r.Status)
	case r.Job == "" || r.URI == "" || r.Files < 0 || r.Bytes < 0 || r.PlannedAt.IsZero():
		return fmt.Errorf("replica %s was planned without its job, place, size or time", key)
	case r.Planned.Attempt == 0:
		return fmt.Errorf("replica %s has no attempt", key)
	case r.Status == StatusReady && r.ReadyAt.IsZero():
		return fmt.Errorf("replica %s is READY since never", key)
	case r.inFlight() && !r.ReadyAt.IsZero():
		return fmt.Errorf("replica %s is %s, but was READY in the same attempt", key, r.Status)
	case r.ReadyAt.IsZero() && (r.ManifestCRC != 0 || r.Files != 0 || r.Bytes != 0 || r.Warnings != nil):
		return fmt.Errorf("replica %s was never READY, and yet has files", key)
	case r.Pinned && r.Status != StatusReady:
		return fmt.Errorf("replica %s is pinned and %s", key, r.Status)
	case r.pinnedByPromotion && (!r.Pinned || !r.Promoted):
		return fmt.Errorf("replica %s is pinned by a promotion, but not pinned or not promoted", key)
	case (r.Promoted || r.Claimed) && r.Status != StatusReady:
		return fmt.Errorf("replica %s was promoted (claimed: %t) and is %s", key, r.Claimed, r.Status)
	case r.Claimed && !r.Promoted:
		return fmt.Errorf("replica %s is claimed, but not promoted", key)
	case r.ReadyAt.IsZero() && (r.AtRisk || !r.ScrubbedAt.IsZero() || r.Facts != RestoreFacts{}):
		return fmt.Errorf("replica %s was never READY, and yet is at risk, scrubbed or described", key)
	case !r.ReadyAt.IsZero() && (r.FailureClass != "" || r.CheckpointAtFault || r.TargetAtFault):
		return fmt.Errorf("replica %s was READY, and yet has failed", key)
	case r.SavepointName != "" && (!r.Savepoint || !validJob(r.SavepointName)):
		return fmt.Errorf("replica %s is called %q and is not a savepoint of that name", key, r.SavepointName)
	case r.Agent != "" && !validAgent(r.Agent):
		return fmt.Errorf("replica %s is made by the agent %q", key, r.Agent)
	case (r.GivenUp() || r.Status == StatusQuarantined) && r.Reason == "":
		return fmt.Errorf("replica %s is %s for no reason", key, r.Status)
	case r.Status == StatusQuarantined && r.ReadyAt.IsZero():
		return fmt.Errorf("replica %s is QUARANTINED, but was never READY", key)
	}
	return r.checkShards()
}
