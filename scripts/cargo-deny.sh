#!/usr/bin/env bash
# Runs cargo-deny with the given arguments, building it once outside the checkout where the machine has none.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=${ENTROOS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/entroos}/tools
export PATH=$PATH:$tools/bin
if ! command -v cargo-deny > /dev/null; then
  echo "building cargo-deny, once for this machine" >&2
  # From outside the checkout: our static link is not for tools.
  (cd / && CARGO_TARGET_DIR=$tools/target cargo install --quiet --locked --debug --no-default-features --root "$tools" cargo-deny)
  rm -rf "$tools/target"
fi
exec cargo deny "$@"
