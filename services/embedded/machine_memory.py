"""The memory that this process and its children may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def memory_bytes(cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> int:
    """The memory of the machine, or what a container or a unit of systemd leaves of it.

    Args:
        cgroups: where the control groups are mounted, version 1 or 2 (cgroups(7)).
        own: names those of this process.

    Returns:
        Bytes; 0 if the system does not say.
    """
    return min([*_of_the_machine(), *_limits(cgroups, own)], default=0)


def _of_the_machine() -> Iterator[int]:
    with suppress(OSError, ValueError):  # a system without these names
        yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _limits(cgroups: Path, own: Path) -> Iterator[int]:
    try:
        lines = own.read_text("utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _limits_above(cgroups, path, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _limits_above(cgroups / "memory", path, "memory.limit_in_bytes")


def _limits_above(root: Path, path: str, name: str) -> Iterator[int]:
    """The limits of a group and of those that it is in. Within a container, the path may be that
    of the host, and only the root is there."""
    group = Path(path.lstrip("/"))
    for folder in (group, *group.parents):
        with suppress(OSError, ValueError):  # the root has no limit; "max" is none
            yield int((root / folder / name).read_text("ascii"))
