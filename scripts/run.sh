#!/usr/bin/env bash
# Starts a node, applies the hello pod, shows its log, and keeps the node in the foreground until Ctrl-C.
# RUN_ONCE=1 ends it after the log. ENTROOS_DATA_DIR and ENTROOS_API choose another directory and address.
set -euo pipefail
cd "$(dirname "$0")/.."
entroos=$PWD/dist/entroos

# Containers need root; everything else does not.
if [ "$(id -u)" != 0 ]; then
  echo "containers need root: going on with sudo" >&2
  exec sudo env RUN_ONCE="${RUN_ONCE:-}" ENTROOS_DATA_DIR="${ENTROOS_DATA_DIR:-}" ENTROOS_API="${ENTROOS_API:-}" "$0"
fi
export ENTROOS_DATA_DIR=${ENTROOS_DATA_DIR:-/var/lib/entroos}
api=${ENTROOS_API:-127.0.0.1:8080}

"$entroos" node --data-dir "$ENTROOS_DATA_DIR" --api "$api" &
node=$!
stop() { kill -TERM "$node" 2> /dev/null && wait "$node"; }
trap 'stop; exit 130' INT TERM
trap 'kill -TERM "$node" 2> /dev/null || true' EXIT

ready=
for _ in $(seq 150); do
  kill -0 "$node" 2> /dev/null || { wait "$node" || true; echo "the node did not start: see its message above" >&2; exit 1; }
  if "$entroos" status > /dev/null 2>&1; then ready=1; break; fi
  sleep 0.2
done
[ -n "$ready" ] || { echo "the node did not answer within 30 s" >&2; exit 1; }

if ! "$entroos" image inspect alpine:latest > /dev/null 2>&1 && ! "$entroos" image pull alpine:latest; then
  echo "docker.io cannot be reached from here: importing a small image made from this system's busybox as alpine:latest" >&2
  image=$(mktemp --suffix=.tar)
  scripts/hello-image.sh "$image" alpine:latest
  "$entroos" image import "$image"
  rm -f "$image"
fi

"$entroos" pod delete hello-entroos --wait > /dev/null 2>&1 || true
"$entroos" pod apply examples/hello/my_first_app.json
"$entroos" pod wait hello-entroos --for=phase=Succeeded --timeout 60s
log=$("$entroos" pod logs hello-entroos)
echo "--- log of pod hello-entroos ---"
echo "$log"
echo "--------------------------------"
[ "$log" = "Hello, EntroOS!" ] || { echo "that is not what the pod should have said" >&2; exit 1; }

if [ -n "${RUN_ONCE:-}" ]; then
  stop
  exit 0
fi
echo "The node serves http://$api: try \`kubectl --server http://$api get pods\` or \`$entroos status\`. Ctrl-C stops it."
wait "$node"
