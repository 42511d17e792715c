#!/usr/bin/env bash
# Boots a small Linux guest with cgroup v2 and runs tests/guest/init.sh in it, with the given entroos binary.
#   scripts/guest.sh ENTROOS [INIT]
# QEMU emulates by default: KVM inside virtual machines fails in too many ways (GUEST_ACCEL=kvm where it works). Prints the guest's console; the caller reads its RESULT lines.
set -euo pipefail
cd "$(dirname "$0")/.."
entroos=$1
init=${2:-tests/guest/init.sh}
cache=${ENTROOS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/entroos}/guest

# Debian's cloud kernel, unpacked beside us: installing it would touch the machine's boot loader.
if ! compgen -G "$cache/boot/vmlinuz-*" > /dev/null; then
  work=$cache.tmp.$$
  mkdir -p "$work"
  trap 'rm -rf "$work"' EXIT
  package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/ *Depends: \(linux-image-.*\)/\1/p' | head -1)
  (cd "$work" && apt-get -qq download "$package" && dpkg-deb -x ./*.deb . && rm ./*.deb)
  rm -rf "$cache" && mv -T "$work" "$cache"
fi

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{bin,dev,etc,lib,proc,sys,tmp,image}
cp "$(command -v busybox)" "$root/bin/busybox"
ln -s busybox "$root/bin/sh"
strip -o "$root/bin/entroos" "$entroos"
cp "$init" "$root/init"
chmod +x "$root/init" "$root/bin/entroos"
find "$cache" -name 'overlay.ko*' -exec cp {} "$root/lib/" \;
case $(ls "$root/lib") in *.xz) xz -d "$root"/lib/*.xz ;; *.zst) zstd -q --rm -d "$root"/lib/*.zst ;; esac
scripts/hello-image.sh "$root/image/hello.tar" alpine:latest
(cd "$root" && find . | cpio --quiet -o -H newc > "$root.cpio")
trap 'rm -rf "$root" "$root.cpio"' EXIT

timeout "${GUEST_SECONDS:-300}" qemu-system-x86_64 -accel "${GUEST_ACCEL:-tcg}" -cpu max -smp 2 -m 1500 -nodefaults -display none -no-reboot \
  -serial stdio -kernel "$(compgen -G "$cache/boot/vmlinuz-*" | head -1)" -initrd "$root.cpio" \
  -append "console=ttyS0 quiet panic=-1 systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all" < /dev/null
