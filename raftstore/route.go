package raftstore

import "time"

// Export is what this datacenter lets others read.
type Export struct {
	Name         string
	Bases        []string // URIs as Flink names them, each with the element {job} once
	AlsoReadable []string // other places that _metadata may refer to
	To           []string // datacenters
}

// RouteMode is what a route does. The numbers are those of ckptferry.v1.RouteMode, and never change.
type RouteMode int32

// The modes of a route.
const (
	RouteContinuous RouteMode = iota + 1 // each new checkpoint is pulled
	RoutePaused                          // nothing is pulled
	RouteOnDemand                        // only jobs of a migration that runs are pulled
)

// Route is what this datacenter pulls, and where to.
type Route struct {
	Name       string
	FromDC     string
	FromExport string
	Root       string   // replicas are made below it, as Flink here names it
	Include    []string // patterns of job names, as path.Match has them; none: all
	Exclude    []string
	Mode       RouteMode
	Keep       int32 // READY replicas of a job that are kept at least; 0: all
	Priority   int32 // higher first
	Relative   bool  // write relative paths
	Epoch      uint64
	// BytesPerSecond bounds what all copies of the route together read at the source; 0: no bound.
	BytesPerSecond int64
	KeepFor        time.Duration // READY checkpoints younger than this are kept too
	KeepDaily      int32         // of each of so many days (UTC) the last READY checkpoint is kept too
	KeepSavepoints int32         // READY savepoints of a job that are kept, the newest; 0: all
	// Grace is how long files that no replica needs lie before they go to the trash, and how long they lie there; 0: 24 h.
	Grace time.Duration
}

// Found is a completed checkpoint or savepoint as the source datacenter found it.
type Found struct {
	Seq          uint64 // by the source's count of its export; later found is higher
	Job          string // what an operator calls the job
	JobID        JobID  // empty for a savepoint
	CheckpointID int64
	MetadataCRC  uint32 // CRC32C of the source's _metadata
	Savepoint    bool
	URI          string    // the directory that holds _metadata, as Flink names it
	CompletedAt  time.Time // by the source storage's clock; nothing is ordered by it
	Files        int64
	Bytes        int64
}

// KeepFound is how many found checkpoints, and how many savepoints, of one job name are remembered: the newest.
const KeepFound = 8
