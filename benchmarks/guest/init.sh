#!/bin/bash
# The first process of the guest that idle_sockets.sh starts.

export PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1 TMPDIR=/mnt HOME=/mnt

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o size=4g tmp /mnt
ip link set lo up
sysctl -q -w net.ipv4.ip_local_port_range='1024 65535' net.core.somaxconn=65535
ulimit -n 1048576
cd "$(dirname "$0")/../.." || halt -f -d

watch() { # progress, as a run takes a while
    while sleep 60; do
        pid=$(pgrep -f 'server.py --port' | head -1)
        [ -z "$pid" ] || echo "$(grep VmRSS "/proc/$pid/status"), $(grep TCP: /proc/net/sockstat)"
    done
}

watch &
read -ra options <<<"$ARGUMENTS"
"$PYTHON" -m benchmarks.idle_sockets "${options[@]}"
echo "status $?"
halt -f -d
