#!/usr/bin/env bash
# Makes a small image from the system's static busybox, as `docker save` would write it.
#   scripts/hello-image.sh OUT.tar [NAME:TAG]
set -euo pipefail
out=$(realpath -m "$1")
tag=${2:-alpine:latest}
busybox=$(command -v busybox)
[ -z "$(readelf -d "$busybox" 2> /dev/null | grep NEEDED)" ] || { echo "busybox is not static: install busybox-static" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/root/"{bin,dev,etc,home,proc,root,run,sys,tmp,usr/bin,var}
chmod 1777 "$work/root/tmp"
cp "$busybox" "$work/root/bin/busybox"
for applet in $("$busybox" --list); do [ "$applet" = busybox ] || ln -s busybox "$work/root/bin/$applet"; done
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' > "$work/root/etc/passwd"
printf 'root:x:0:\nnobody:x:65534:\n' > "$work/root/etc/group"

mkdir "$work/image"
tar -C "$work/root" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf "$work/image/layer.tar" .
layer=$(sha256sum < "$work/image/layer.tar" | cut -d' ' -f1)
case $(uname -m) in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; *) arch=$(uname -m) ;; esac
cat > "$work/config.json" << JSON
{"architecture":"$arch","os":"linux","config":{"Cmd":["/bin/sh"],"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:$layer"]},"history":[{"created_by":"busybox"}]}
JSON
config=$(sha256sum < "$work/config.json" | cut -d' ' -f1)
mv "$work/config.json" "$work/image/$config.json"
printf '[{"Config":"%s.json","RepoTags":["%s"],"Layers":["layer.tar"]}]\n' "$config" "$tag" > "$work/image/manifest.json"
tar -C "$work/image" -cf "$out" .
