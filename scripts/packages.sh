#!/usr/bin/env bash
# Installs the system packages EntroOS needs, where they are missing.
#
#   scripts/packages.sh         what building and running need
#   scripts/packages.sh test    that, and what the tests alone need
#
# Debian 12 or later (and what derives from it). Needs root, or sudo. Every package the project relies on stands here.
set -euo pipefail

build=(
  build-essential      # the C++ compiler for RocksDB, ar, ld
  clang libclang-dev   # bindgen reads RocksDB's header
  libseccomp-dev       # the sandbox's system call filter, linked statically
  protobuf-compiler cmake pkg-config
  python3              # scripts/rocksdb.sh reads cargo's metadata
  ca-certificates      # registries over TLS
  busybox-static       # the hello image, where no registry can be reached
  curl
)
tests=(
  docker-registry skopeo umoci   # a real registry and images nobody here made by hand
  debootstrap                    # a Debian root with nginx and postgres
  crun runc                      # the peers of benches/
  qemu-system-x86 cpio           # cgroup v2 in a guest
  strace                         # counts syncs
  jq
)

wanted=("${build[@]}")
[ "${1:-}" = test ] && wanted+=("${tests[@]}")

missing=()
for package in "${wanted[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2> /dev/null | grep -q 'install ok installed' || missing+=("$package")
done

sudo=()
[ "$(id -u)" = 0 ] || sudo=(sudo)
apt() { "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@"; }

if [ ${#missing[@]} -gt 0 ]; then
  echo "installing: ${missing[*]}" >&2
  apt update
  apt install -y --no-install-recommends "${missing[@]}" > /dev/null
fi
command -v cargo > /dev/null || { echo "no cargo: install Rust from https://rustup.rs" >&2; exit 1; }
[ "${1:-}" = test ] || exit 0

# kubectl of 1.30 or newer. Debian 12's own is 1.20, so there that one package comes from the next release, pinned so
# that nothing else does. For tests alone: a user's machine never gets a package source from us.
recent() { kubectl version --client 2> /dev/null | grep -qE 'v1\.(3[0-9]|[4-9][0-9])\.'; }
if ! recent; then
  candidate=$(apt-cache policy kubectl 2> /dev/null | sed -n 's/ *Candidate: //p')
  if [ -z "$candidate" ] || [ "$candidate" = "(none)" ]; then
    mirror=$(sed -nE 's/^deb (\[[^]]*\] )?([^ ]+) bookworm main.*/\2/p; s/^URIs: *([^ ]+).*/\1/p' \
      /etc/apt/sources.list /etc/apt/sources.list.d/* 2> /dev/null | grep -v security | head -1)
    echo "deb ${mirror:-http://deb.debian.org/debian} trixie main" | "${sudo[@]}" tee /etc/apt/sources.list.d/entroos-test.list > /dev/null
    printf 'Package: *\nPin: release n=trixie\nPin-Priority: -1\n\nPackage: kubectl\nPin: release n=trixie\nPin-Priority: 500\n' |
      "${sudo[@]}" tee /etc/apt/preferences.d/entroos-test > /dev/null
    apt update
  fi
  apt install -y --no-install-recommends kubectl > /dev/null
  recent || { echo "kubectl is older than 1.30" >&2; exit 1; }
fi
