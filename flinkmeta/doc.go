// Package flinkmeta reads the bytes of Flink's _metadata file and moves the paths in it to another root.
//
// It never does I/O, and has no encoder: Relocate splices the handles whose path changes and copies every other byte, so
// an unchanged root gives back identical bytes. What it does not know is an error with offset, field and operator, never
// a guess. Start at Scan; the splice is in relocate.go and splice.go.
//
// # Versions
//
//	version  written by   differs from the one before
//	1        1.2          refused, as Flink's own loader does
//	2        1.3 - 1.10   -                                                        MetadataV2Serializer
//	3        1.11 - 1.15  coordinator state, channel state, finished tasks (1.14)  MetadataV3Serializer
//	4        1.16 - 1.20  Java serialised CheckpointProperties at the end          MetadataV4Serializer
//	5        2.0          operator name and uid                                    MetadataV5Serializer
//	6        2.1 - 2.3    a kind byte before channel state, merged channel state   MetadataV6Serializer
//
// Type bytes of handles came in minor releases without a new version: both are independent, and every type is accepted
// in every version.
//
// # Layout
//
// Numbers are big-endian. utf is a u16 byte length and modified UTF-8, raw an i32 length and bytes. Sources: Flink
// o.a.f.runtime.checkpoint.metadata.MetadataV2V3SerializerBase and MetadataV2Serializer to MetadataV6Serializer, in
// 1.13.6, 1.20.0, 2.0.0 and 2.3.0.
//
//	file      u32 4960672D, i32 version, i64 checkpointId, i32 n, n * master, i32 n, n * operator,
//	          [4-] properties = the rest of the file: ObjectOutputStream of CheckpointProperties, of no announced length
//	master    u32 C96B1696, i32 length of { i32 version, utf name, raw }
//	operator  [5-] utf name, utf uid    16 bytes id, i32 parallelism, i32 maxParallelism
//	          [2] i32 chainLength       [3-] stream coordinatorState, null or inline
//	          i32 n, n * subtask        [3-] n < 0: fully finished, nothing follows
//	subtask   i32 index                 [3-] index < 0: subtask -(index+1) is finished, nothing follows
//	          [2] i64 duration, i32 0
//	          i32 has, [has] operatorState managed;  i32 has, [has] operatorState raw;  keyed managed;  keyed raw
//	          [3-] i32 n, n * inputChannel, i32 n, n * resultSubpartition
//
// A stream is a byte sequence somewhere, in the class that its first byte tells:
//
//	0   null
//	1   ByteStreamStateHandle             utf handleName, raw
//	2   FileStateHandle                   i64 size, utf path                absolute
//	3   KeyGroupsStateHandle              range, stream
//	6   RelativeFileStateHandle           utf relativePath, i64 size        the other way round than 2
//	15  SegmentFileStateHandle            i64 start, i64 size, i32 scope (0 exclusive, 1 shared), utf path, utf logicalFileId
//	16  EmptySegmentFileStateHandle
//
// keyed, where range is i32 startKeyGroup, i32 n, n * i64 offset, and groups is i32 startKeyGroup, i32 n alone:
//
//	0   null
//	3   KeyGroupsStateHandle (- 1.14)     range, stream
//	12  KeyGroupsStateHandle              range, stream, utf stateHandleId
//	7   KeyGroupsSavepointStateHandle     range, stream
//	5   IncrementalRemoteKeyedStateHandle i64 checkpointId, utf backendId, groups, stream meta, paths shared, paths private
//	11  the same, version 2               i64 checkpointId, utf backendId, groups, i64 checkpointedSize, stream meta,
//	                                      paths shared, paths private, utf stateHandleId
//	    paths                             i32 n, n * { utf localPath, stream }
//	8   ChangelogStateBackendHandle       groups, i64 checkpointedSize, i32 n, n * keyed materialized,
//	                                      i32 n, n * keyed nonMaterialized, i64 materializationId, utf stateHandleId
//	14  the same, version 2               8 with i64 checkpointId before stateHandleId
//	9   InMemoryChangelogStateHandle      groups, i64 from, i64 to, i32 n, n * { i32 keyGroup, raw }, utf stateHandleId
//	10  ChangelogStateHandleStreamImpl    groups, i32 n, n * { i64 offset, stream }, i64 size, i64 checkpointedSize, utf stateHandleId
//	13  the same, version 2               10, utf storageIdentifier
//
// operatorState, and channel state of versions 3 to 5; version 6 puts a kind byte before it:
//
//	4   OperatorStreamStateHandle         i32 n, n * { utf name, u8 mode, i32 k, k * i64 offset }, stream
//	17  FileMergingOperatorStreamStateHandle  as 4, with utf taskOwnedDir, utf sharedDir, bool empty before the stream,
//	                                      which is a 15 or 16
//	    InputChannelStateHandle           i32 subtask, i32 gate, i32 channel, i32 k, k * i64 offset, i64 size, stream   [6: 1]
//	    ResultSubpartitionStateHandle     i32 subtask, i32 partition, i32 subpartition, the rest alike                   [6: 2]
//	    Merged…StateHandle                i32 subtask, i64 size, stream, raw offsets                                     [6: 3 in, 4 out]
//
// # Paths
//
// The mark of a relative handle is type 6 and nothing else. It resolves against the directory of _metadata when Flink
// loads it. handleName of type 1 looks like a path and is none: it is never opened, and never rewritten. A relative
// handle that leads out of its directory (`../shared/x`) breaks checkpoints that are taken after a CLAIM restore, up to
// Flink 2.3.0 at least (FLINK-39964): absolute is the default everywhere.
package flinkmeta
