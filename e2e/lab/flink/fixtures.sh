#!/usr/bin/env bash
# fixtures.sh [pattern]   makes all fixture cases, or those whose <version>-<case> matches the glob; about 10 s each. See fixture.sh.
# A case made again has other job ids and file names than the committed one: tests that name those need the new ones.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
pattern=${1:-*}
failed=0
make_case() { # version case options...
  local version=$1 name=$2
  shift 2
  case $version-$name in
  $pattern) FLINK=$version "$here/fixture.sh" "$name" "$@" || failed=1 ;;
  esac
}

# Options that Flink has renamed are given under both names.
full=(--conf state.backend.incremental=false --conf execution.checkpointing.incremental=false)
heap=(--conf state.backend=hashmap --conf state.backend.type=hashmap)
merge=(--conf execution.checkpointing.file-merging.enabled=true)
unaligned=(--conf execution.checkpointing.unaligned=true --conf execution.checkpointing.unaligned.enabled=true
  --rate 0 --slow-nanos 2000000 --quiesce false --checkpoints 4)
changelog=(--conf state.backend.changelog.enabled=true --conf state.changelog.enabled=true
  --conf state.backend.changelog.storage=filesystem --conf state.changelog.storage=filesystem
  --conf dstl.dfs.base-path=@CL@ --conf state.changelog.dstl.dfs.base-path=@CL@)
never=(--conf state.backend.changelog.periodic-materialize.interval=1h --conf state.changelog.periodic-materialize.interval=1h)
often=(--conf state.backend.changelog.periodic-materialize.interval=2s --conf state.changelog.periodic-materialize.interval=2s --checkpoints 8)
in_memory=(--conf state.backend.changelog.storage=memory --conf state.changelog.storage=memory)
savepoints=(--savepoint-dir @SP@ --savepoint-format CANONICAL,NATIVE)

make_case 1.20.0 rocksdb-incremental
make_case 1.20.0 rocksdb-full "${full[@]}"
make_case 1.20.0 rocksdb-incr-inline --memory-threshold 1mb
make_case 1.20.0 rocksdb-incr-threshold0 --memory-threshold 0
make_case 1.20.0 hashmap "${heap[@]}"
make_case 1.20.0 heap-timers --conf state.backend.rocksdb.timer-service.factory=HEAP
make_case 1.20.0 changelog "${changelog[@]}" "${never[@]}"
make_case 1.20.0 changelog-materialized "${changelog[@]}" "${often[@]}"
KEEP=1 make_case 1.20.0 changelog-inmem "${changelog[@]}" "${never[@]}" "${in_memory[@]}"
make_case 1.20.0 filemerging "${merge[@]}"
RETAINED=3 make_case 1.20.0 filemerging-across "${merge[@]}" --conf execution.checkpointing.file-merging.across-checkpoint-boundary=true
make_case 1.20.0 unaligned "${unaligned[@]}"
make_case 1.20.0 unaligned-filemerging "${unaligned[@]}" "${merge[@]}"
make_case 1.20.0 finished --finite true --checkpoints 6
make_case 1.20.0 master-hook --master-hook true
make_case 1.20.0 savepoints "${savepoints[@]}"
CLAIM=1 RETAINED=1 make_case 1.20.0 claimed
DIR=ent://${FIXTURE_ROOT:-/dc-a}/flink/entropy/_entropy_/checkpoints/1.20.0-entropy make_case 1.20.0 entropy
for version in 1.13.6 1.16.3 1.17.2 1.18.1 2.0.0 2.3.0; do
  make_case $version rocksdb-incremental
done
make_case 2.3.0 changelog-materialized "${changelog[@]}" "${often[@]}"
make_case 2.3.0 filemerging "${merge[@]}"
make_case 2.3.0 finished --finite true --checkpoints 6
make_case 2.3.0 savepoints "${savepoints[@]}"
make_case 2.3.0 unaligned "${unaligned[@]}"
exit $failed
