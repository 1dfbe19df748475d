#!/bin/bash
# Runs benchmarks.idle_sockets in a User Mode Linux, whose kernel has its own limit of open files.
#
#   benchmarks/guest/idle_sockets.sh --sockets 100000 --settle 80
#
# It needs root, gcc, Debian's package user-mode-linux, and 10 GB of memory for 100,000 sockets.
# The guest reads the host's files and writes only to its own memory. One second of it takes
# SLOW_CLOCK seconds here (4): slow_clock.c says why.

set -euo pipefail

guest=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-$guest/../../.venv/bin/python}
scratch=$(mktemp -d /dev/shm/usher-guest.XXXXXX)
trap 'rm -rf "$scratch"' EXIT

gcc -O2 -shared -fPIC -o "$scratch/slow_clock.so" "$guest/slow_clock.c"
# Each page of a guest's process may be a mapping of its own here.
[ "$(sysctl -n vm.max_map_count)" -ge 1000000 ] || sysctl -q -w vm.max_map_count=1000000

LD_PRELOAD=$scratch/slow_clock.so SLOW_CLOCK=${SLOW_CLOCK:-4} TMPDIR=$scratch \
    linux.uml mem="${GUEST_MEMORY:-10G}" root=/dev/root rootfstype=hostfs rootflags=/ ro quiet \
    con=null con0=null,fd:1 init="$guest/init.sh" PYTHON="$python" ARGUMENTS="\"$*\"" \
    </dev/null | tee "$scratch/console"
grep -q '^status 0' "$scratch/console"
