#!/usr/bin/env bash
# Makes a Debian image with nginx and postgres by debootstrap: an image nobody here made by hand.
#   scripts/debian-image.sh OUT.tar [NAME:TAG]
# The root is kept outside the checkout, so the two minutes are spent once a machine.
set -euo pipefail
out=$(realpath -m "$1")
tag=${2:-debian-services:latest}
cache=${ENTROOS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/entroos}/debian-root.tar
if [ ! -e "$cache" ]; then
  mkdir -p "$(dirname "$cache")"
  root=$(mktemp -d)
  trap 'rm -rf "$root"' EXIT
  suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")
  mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2> /dev/null | grep -v security | head -1)
  debootstrap --variant=minbase --include=nginx-light,postgresql "$suite" "$root" ${mirror:+"$mirror"} > "$root.log" 2>&1 ||
    { tail -20 "$root.log" >&2; exit 1; }
  rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root.log"
  tar -C "$root" --xattrs --numeric-owner -cf "$cache.new" .
  mv "$cache.new" "$cache"
fi
work=$(mktemp -d)
trap 'rm -rf "$work" ${root:+"$root"}' EXIT
ln -s "$cache" "$work/layer.tar"
layer=$(sha256sum < "$cache" | cut -d' ' -f1)
case $(uname -m) in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; *) arch=$(uname -m) ;; esac
printf '{"architecture":"%s","os":"linux","config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":["/bin/bash"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
  "$arch" "$layer" > "$work/config"
config=$(sha256sum < "$work/config" | cut -d' ' -f1)
mv "$work/config" "$work/$config.json"
printf '[{"Config":"%s.json","RepoTags":["%s"],"Layers":["layer.tar"]}]\n' "$config" "$tag" > "$work/manifest.json"
tar -C "$work" --dereference -cf "$out" .
