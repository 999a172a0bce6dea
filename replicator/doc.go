// Package replicator makes replicas of Flink checkpoints and savepoints that a real Flink restores from.
//
// It owns what is copied (plan.go), where it lies (layout.go), how it is copied and read back (copy.go), by
// several agents (share.go), gone on with (large.go,
// partial.go) or not fetched at all (origins.go), when a
// replica is READY (publish.go), what is on record about it (manifest.go, journal.go), whether one is whole
// (check.go), how Flink is started from it (facts.go, startline.go, operatorstart.go), and how it goes again (remove.go,
// sweep.go, trash.go). Replicate in replicate.go is the whole way, once.
//
// What it can't see: bytes that the source's file system hands out wrong without an error. Local file systems do that
// when a disk rots; HDFS keeps checksums, which package fsutil compares.
//
// It must never write at the source (it is handed fsutil.ReadFS there), never write below a Flink checkpoint base
// (disjoint.go), and never show a replica before every byte of it was read back: `_metadata` is renamed in last.
//
// Layout below the replica's root:
//
//	<job id>/chk-42/…            exclusive files, and _metadata, which makes the replica READY
//	<job id>/shared/…            shared files, used by many checkpoints; never changed once they are there
//	<job id>/taskowned/…         task-owned files
//	<job id>/external/<label>/…  what lies outside of the base that holds the job's directory, one label per prefix
//	.ckptferry/manifest/<job id>/chk-42.jsonl    every file with length and CRC32C
//	.ckptferry/original/<job id>/chk-42/_metadata    as the source wrote it
//	.ckptferry/borrowed/<job id>/…               which replicas of other jobs need files of this one
//	.ckptferry/journal/<job id>/chk-42/…         what an unfinished run has copied
//	.ckptferry/tmp/<attempt>/…                   files being written
//	.ckptferry/partial/…                         large files being written or cut, each with a record of how far it came
//	.ckptferry/trash/<time>-<batch>/…            what a sweep took away, each file under its name
//	.ckptferry/quarantine/<job id>/chk-42/_metadata    of a replica in which rot was found
//	.ckptferry/leftover/<job id>                 a directory that may hold files after its last record is gone
package replicator
