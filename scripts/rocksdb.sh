#!/usr/bin/env bash
# Builds librocksdb.a once, outside the checkout, and links it at .rocksdb/ where .cargo/config.toml points.
#
# Why not leave it to librocksdb-sys: its build compiles 343 files one by one, and the headers cost more than the code.
# Sixteen files per generated unit cost a third of the time. The archive is keyed by version, compiler and flags, so
# every profile and every checkout shares it. Run by `make`; harmless to run again.
set -euo pipefail
cd "$(dirname "$0")/.."

manifest=$(cargo metadata --locked --format-version 1 --filter-platform "$(rustc -vV | sed -n 's/^host: //p')" |
  python3 -c 'import json,sys; print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"]=="librocksdb-sys"))')
sys=$(dirname "$manifest")
cxx=${CXX:-c++}
arch=$(uname -m)

# The defines and flags of librocksdb-sys's own build.rs for Linux, no compression library (values are compressed by us).
flags=(-std=c++20 -O2 -g0 -fPIC -w -include cstdint
  -DNDEBUG -DHAVE_ALIGNED_NEW -DHAVE_UINT128_EXTENSION
  -DOS_LINUX -DROCKSDB_PLATFORM_POSIX -DROCKSDB_LIB_IO_POSIX -DROCKSDB_SCHED_GETCPU_PRESENT
  -DROCKSDB_AUXV_GETAUXVAL_PRESENT -DROCKSDB_FALLOCATE_PRESENT -DROCKSDB_RANGESYNC_PRESENT
  -Irocksdb/include -Irocksdb -I.)
case $arch in
  x86_64) flags+=(-msse2) ;;
  aarch64) flags+=(-march=armv8-a) ;;
esac

key=$(printf '%s\n' "$(basename "$sys")" "$("$cxx" --version | head -1)" "$arch" "${flags[@]}" | sha256sum | cut -c1-16)
cache=${ENTROOS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/entroos}/rocksdb-$key

if [ ! -e "$cache/librocksdb.a" ]; then
  work=$cache.tmp.$$
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work"
  start=$(date +%s)
  mapfile -t sources < <(tr -d ' \r' < "$sys/rocksdb_lib_sources.txt" | grep -v '^util/build_version.cc$' | grep .)
  batch=16
  for ((i = 0, n = 0; i < ${#sources[@]}; i += batch, n++)); do
    unit=$(printf '%s/unit%03d.cc' "$work" "$n")
    for source in "${sources[@]:i:batch}"; do printf '#include "rocksdb/%s"\n' "$source"; done > "$unit"
  done
  cp "$sys/build_version.cc" "$work/unit_version.cc"
  echo "building RocksDB (${#sources[@]} files in $n units), once for this machine: some minutes" >&2
  cd "$sys"
  printf '%s\n' "$work"/unit*.cc | xargs -P "$(nproc)" -I{} "$cxx" "${flags[@]}" -c {} -o {}.o
  ar crs "$work/librocksdb.a" "$work"/unit*.o
  rm -f "$work"/unit*
  cd - > /dev/null
  mv -T "$work" "$cache" 2> /dev/null || [ -e "$cache/librocksdb.a" ]
  echo "RocksDB built in $(($(date +%s) - start)) s" >&2
fi
ln -sfnT "$cache" .rocksdb
