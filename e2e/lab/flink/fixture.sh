#!/usr/bin/env bash
# fixture.sh CASE gen-options...   makes one case: a real checkpoint tree with neutral paths, in
#   $FIXTURES/<FLINK>-<CASE>/{dc-a/flink/...,expected/,ledger.json}
# The job writes below $FIXTURE_ROOT (default /dc-a; it must be writable, so usually one is root), because the paths inside
# of _metadata are absolute. In the options @CK@ stands for the checkpoint directory, @SP@ for the savepoint directory and
# @CL@ for the changelog directory of this case.
#   FLINK=version (1.20.0)   FIXTURES=directory (./fixtures; never the committed ones, which tests know by their ids)
#   DIR=uri overrides --dir   CLAIM=1 adds a job that restores with CLAIM into the same directory   KEEP=n keeps the newest n
# Needs Go, a JDK, Maven and python3.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
flink=${FLINK:-1.20.0}
name=$flink-$1
shift
root=${FIXTURE_ROOT:-/dc-a}
out=${FIXTURES:-fixtures}/$name
local=$root/flink/local
ck=$root/flink/checkpoints/$name sp=$root/flink/savepoints/$name cl=$root/flink/changelog/$name entropy=$root/flink/entropy
rm -rf "$out" "$ck" "$sp" "$cl" "$entropy"
mkdir -p "$out/expected" "$local/rocksdb"
work=$(mktemp -d "$local/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

(cd "$here" && go build -o "$work/flinklab" ../flinklab/cmd/flinklab)

# RocksDB writes its working directory into OPTIONS files, and newer ones the host's name into sst files: neutral ones
conf=(--conf "state.backend.rocksdb.localdir=$local/rocksdb")
neutral=()
if unshare --uts true 2>/dev/null; then
  neutral=(unshare --uts sh -c 'hostname localhost; exec "$@"' sh)
fi
lab() {
  FLINKLAB_TMP=$work timeout 300 "${neutral[@]}" "$work/flinklab" "$flink" "$@" >"$work/log" 2>&1 || {
    echo "fixture $name: $1 failed" >&2
    tail -5 "$work/log" >&2
    exit 1
  }
}

options=(--target "${TARGET:-3000}" --keys "${KEYS:-200}" --payload "${PAYLOAD:-48}" --retained "${RETAINED:-2}" --dir "${DIR:-file://$ck}")
for a in "$@"; do
  a=${a//@CK@/file://$ck}
  a=${a//@SP@/file://$sp}
  options+=("${a//@CL@/file://$cl}")
done
lab gen "${options[@]}" --ledger "$out/ledger.json" "${conf[@]}"

if [ -n "${CLAIM:-}" ]; then
  newest=$(find "$ck" -name _metadata | sort -V | tail -1)
  lab restore-check --path "file://$(dirname "$newest")" --mode CLAIM --dir "file://$ck" --retained 2 --more 20 --checkpoints 3 \
    --ledger "$out/ledger.json" --ledger-out "$out/ledger-after-claim.json" "${conf[@]}"
fi

# what a cancelled job leaves of an attempt has no _metadata (entropy directories never have one)
if [ -z "${DIR:-}" ]; then
  find "$ck" -type d -name 'chk-*' | while read -r d; do [ -f "$d/_metadata" ] || rm -rf "$d"; done
fi
if [ -n "${KEEP:-}" ]; then
  find "$ck" -type d -name 'chk-*' | sort -V | head -n -"$KEEP" | xargs -r rm -rf
fi

scheme=file
case ${DIR:-} in ent:*) scheme=ent ;; esac
for d in "$ck" "$sp" "$cl" "$entropy"; do
  if [ -d "$d" ]; then find "$d" -name _metadata; fi
done | sort -V | while read -r m; do
  d=$(dirname "$m")
  echo "$scheme://$d=$out/expected/$(basename "$d").json"
done >"$work/list"
lab dump-all "$work/list"

for d in "$ck" "$sp" "$cl" "$entropy"; do
  if [ -d "$d" ]; then
    mkdir -p "$out/dc-a${d#"$root"}"
    cp -a "$d/." "$out/dc-a${d#"$root"}/"
  fi
done
rm -rf "$ck" "$sp" "$cl" "$entropy" "$local/rocksdb"
find "$out" -type d -empty -delete # git would not keep them either

python3 - "$out" "$name" "$root" "${options[*]}" <<'PYTHON'
import collections, glob, json, sys
out, name, root, made_with = sys.argv[1:]
classes, names = collections.Counter(), []
for f in sorted(glob.glob(out + '/expected/*.json')):
    j = json.load(open(f))
    names.append(f.split('/')[-1][:-5])
    for h in j['handles']:
        classes[h['class'].replace('StateHandle', '')] += 1
    # one list element a line: short, and readable in a diff
    one = lambda v: '[\n' + ',\n'.join('  ' + json.dumps(x) for x in v) + '\n ]' if isinstance(v, list) and v else json.dumps(v)
    open(f, 'w').write('{\n' + ',\n'.join(' %s: %s' % (json.dumps(k), one(v)) for k, v in j.items()) + '\n}\n')
for f in glob.glob(out + '/ledger*.json'):
    j = json.load(open(f))
    j.update({'case': name, 'root': root, 'madeWith': made_with})
    open(f, 'w').write(json.dumps(j, indent=1) + '\n')
print(name, names, dict(classes))
PYTHON
