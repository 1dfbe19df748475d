"""The machine under the figures: cores, CPU time, memory, and how noisy it is. Linux only."""

from __future__ import annotations

import hashlib
import os
import platform
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
CALIBRATION_STEPS = 60_000
LIBRARIES = ("tornado", "uvloop", "redis", "hiredis", "msgspec", "peewee", "cryptography")


@dataclass(frozen=True)
class Cores:
    """Which core runs the server, which a second node, and which runs everything else."""

    server: int
    second: int
    load: int

    @property
    def shared(self) -> bool:
        """True on a machine with one core: its figures are not comparable with any other."""
        return self.server == self.load


def pick_cores() -> Cores:
    """The first and the last core this process may use.

    A second node shares the first one's core where there are only two: beside the generator it
    would be measured with the generator's load on it.
    """
    usable = sorted(os.sched_getaffinity(0))
    second = usable[1] if len(usable) > 2 else usable[0]
    return Cores(server=usable[0], second=second, load=usable[-1])


def pin(pid: int, core: int) -> None:
    """Pin every thread of a process; threads it starts later inherit the core."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            os.sched_setaffinity(int(task.name), {core})
        except ProcessLookupError:
            continue  # the thread ended while we walked


@contextmanager
def working_on(core: int) -> Iterator[None]:
    """Keep this process on one core; its own cores are put back afterwards."""
    before = os.sched_getaffinity(0)
    pin(os.getpid(), core)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _stat_fields(pid: int) -> list[str]:
    """/proc/<pid>/stat from its third field on; the name before may hold blanks and brackets."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and all its threads, in seconds (10 ms steps)."""
    fields = _stat_fields(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def resident_bytes(pid: int) -> int:
    """The resident set of a process, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES


def core_busy_seconds(core: int) -> float:
    """How long a core has been doing anything at all, time stolen by the host included."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
            return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND
    raise LookupError(f"no cpu{core} in /proc/stat")


def find_store(server_pid: int) -> int | None:
    """The embedded Redis: a child of the server process. None without one."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int(_stat_fields(int(entry.name))[1])
            name = (entry / "comm").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended while we walked
        if parent == server_pid and ("redis" in name or "valkey" in name):
            return int(entry.name)
    return None


def calibrate() -> float:
    """Milliseconds that a fixed piece of work takes right now: the machine's own noise.

    Half interpreter, half hashing, no system calls. Runs where the caller is pinned.
    """
    start = time.perf_counter()
    digest = b""
    seen: dict[int, int] = {}
    for step in range(CALIBRATION_STEPS):
        seen[step & 1023] = seen.get(step & 1023, 0) + step
        if not step & 7:
            digest = hashlib.sha256(digest).digest()
    return (time.perf_counter() - start) * 1_000


def calibrate_on(core: int) -> float:
    """``calibrate()`` on the given core; the caller's own cores are put back afterwards."""
    with working_on(core):
        return min(calibrate() for _ in range(3))


def raise_file_limit(wanted: int) -> int:
    """Raise this process's (and its children's) file limit; the number it ended up with."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceiling = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < ceiling:
        resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))
        return ceiling
    return wanted if soft == resource.RLIM_INFINITY else soft


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _siblings(core: int) -> str:
    """Which logical CPUs share the core's silicon, as far as the kernel is told."""
    path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    return path.read_text().strip() if path.exists() else "unknown"


def describe(cores: Cores) -> dict[str, str]:
    """What a reader needs to know about the machine and the libraries."""
    memory = os.sysconf("SC_PHYS_PAGES") * PAGE_BYTES / 2**30
    facts = {
        "cpu": _cpu_model(),
        "cores": str(os.cpu_count()),
        "server core": f"{cores.server} (thread siblings: {_siblings(cores.server)})",
        "second node's core": f"{cores.second}",
        "load core": f"{cores.load} (thread siblings: {_siblings(cores.load)})",
        "memory": f"{memory:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
    return facts | library_versions()


def library_versions() -> dict[str, str]:
    """The versions of the libraries that a server's speed depends on."""
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            versions[library] = "absent"
    return versions
