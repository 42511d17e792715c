#!/bin/busybox sh
# Process 1 of the guest: proves on a kernel with cgroup v2 alone what the other tests prove here on v1.
# Each check prints one RESULT line; tests/cgroup_v2.rs wants every one of them to say ok.
PATH=/bin; export PATH
if [ -z "$IN_TMPFS" ]; then
  # pivot_root refuses the initramfs: move to a tmpfs first.
  /bin/busybox --install -s /bin
  mount -t proc proc /proc
  mkdir /new && mount -t tmpfs -o size=1200m tmpfs /new
  cp -a /bin /lib /image /init /etc /new/
  mkdir -p /new/proc /new/sys /new/dev /new/tmp
  mount -t devtmpfs dev /new/dev; mount -t sysfs sys /new/sys; mount --move /proc /new/proc
  IN_TMPFS=1 exec switch_root /new /bin/busybox env IN_TMPFS=1 /bin/busybox sh /init
fi

mkdir -p /dev/pts /dev/shm; mount -t devpts devpts /dev/pts; mount -t cgroup2 cgroup2 /sys/fs/cgroup
insmod /lib/overlay.ko
ip link set lo up
hostname guest
export ENTROOS_DATA_DIR=/data

result() { echo "RESULT $1 $2"; }
check() { name=$1; shift; if out=$("$@" 2>&1); then result "$name" ok; else result "$name" "failed: $(echo "$out" | tail -3 | tr '\n' ' ')"; fi; }
start_node() {
  entroos node --api 127.0.0.1:8080 > /node.log 2>&1 &
  node=$!
  for _ in $(seq 100); do entroos status > /dev/null 2>&1 && return 0; sleep 0.3; done
  cat /node.log; return 1
}
pod() { # NAME LIMITS-JSON COMMAND [POLICY]
  cat > /tmp/pod.json << JSON
{"apiVersion":"v1","kind":"Pod","metadata":{"name":"$1"},"spec":{"restartPolicy":"Never","terminationGracePeriodSeconds":1,
 "containers":[{"name":"c","image":"alpine:latest","command":["sh","-c","$3"],"resources":{"limits":$2}}]}}
JSON
  entroos pod apply /tmp/pod.json
}
cgroup_of() { find /sys/fs/cgroup/entroos -type d -name 'c-0' | while read -r dir; do grep -q . "$dir/cgroup.procs" && echo "$dir"; done | head -1; }

check start start_node
check status sh -c 'entroos status --output json | grep -q "\"v2\""'
check import entroos image import /image/hello.tar

hello() { pod hello '{}' 'echo Hello from v2; exit 7' && entroos pod wait hello --for=phase=Failed --timeout 60s && entroos pod logs hello | grep -x 'Hello from v2' && entroos pod get hello --output json | grep -q '"exitCode": *7'; }
check hello hello

# A shell that holds 100 MB in a variable under a limit of 32.
oom() { pod oom '{"memory":"32Mi"}' 'x=$(head -c 100000000 /dev/zero | tr \\\\0 x); echo survived' && entroos pod wait oom --for=phase=Failed --timeout 90s && entroos pod get oom --output json > /tmp/oom.json && grep -q OOMKilled /tmp/oom.json && grep -q '"exitCode": *137' /tmp/oom.json; }
check oom oom

limits() {
  pod limits '{"memory":"64Mi","cpu":"250m"}' 'sleep 600' && entroos pod wait limits --for=condition=Ready --timeout 60s || return 1
  dir=$(cgroup_of); echo "cgroup $dir: $(cat "$dir/memory.max") $(cat "$dir/cpu.max") $(cat "$dir/pids.max")"
  [ "$(cat "$dir/memory.max")" = 67108864 ] && [ "$(cat "$dir/cpu.max")" = "25000 100000" ] && [ "$(cat "$dir/pids.max")" != max ]
}
check limits limits

# Root in the container sees no cgroup file it could write its own limit to.
escape() { entroos pod exec limits -- sh -c 'find / -name memory.max 2>/dev/null | while read f; do echo max > $f && echo LIFTED; done; true' > /tmp/escape; ! grep -q LIFTED /tmp/escape; }
check escape escape

# The node dies, the container lives and is adopted.
adopt() {
  before=$(cat "$(cgroup_of)/cgroup.procs" | head -1)
  kill -9 "$node"; wait "$node" 2> /dev/null
  start_node || return 1
  entroos pod wait limits --for=condition=Ready --timeout 60s || return 1
  [ "$(cat "$(cgroup_of)/cgroup.procs" | head -1)" = "$before" ] && entroos pod get limits --output json | grep -q '"restartCount": *0'
}
check adopt adopt

gone() { entroos pod delete hello oom limits --wait && [ -z "$(find /sys/fs/cgroup/entroos -mindepth 2 -type d | head -1)" ]; }
check gone gone

kill "$node"; wait "$node"
[ -n "$(grep -i panic /node.log)" ] && cat /node.log
result done ok
sync
poweroff -f
