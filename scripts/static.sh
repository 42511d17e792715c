#!/usr/bin/env bash
# Fails where a binary needs anything from the machine it runs on. `ldd` alone says "statically linked" of broken ones.
set -euo pipefail
needed=$(readelf -d "$1" | grep -E 'NEEDED|INTERP' || true)
[ -z "$needed" ] || { echo "$1 is not static:"; echo "$needed"; exit 1; } >&2
"$1" --version > /dev/null
size=$(stat -c %s "$1")
echo "$1: static, $(awk -v s="$size" 'BEGIN { printf "%.1f MB (%d bytes)", s / 1e6, s }')"
