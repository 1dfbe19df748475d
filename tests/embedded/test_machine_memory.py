"""How much memory there is for this process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.embedded.machine_memory import memory_bytes
from tests.support.redis import ask
from tests.support.server import usher

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
MIB = 1024 * 1024


def limited(tmp_path: Path, own: str, limits: dict[str, str]) -> int:
    for name, text in limits.items():
        file = tmp_path / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    (tmp_path / "own").write_text(own)
    return memory_bytes(tmp_path / "cgroup", tmp_path / "own")


@pytest.mark.parametrize(
    ("own", "limits", "found"),
    [
        ("0::/a/b\n", {"memory.max": "max", "a/b/memory.max": f"{5 * MIB}"}, 5 * MIB),
        ("0::/a/b\n", {"a/memory.max": f"{3 * MIB}", "a/b/memory.max": f"{5 * MIB}"}, 3 * MIB),
        ("0::/a/b\n", {"a/memory.max": "max", "a/b/memory.max": "max"}, MACHINE),
        ("0::/\n", {"memory.max": f"{7 * MIB}"}, 7 * MIB),
        # Within a container, version 1 names the path that the host sees.
        ("4:cpu,memory:/docker/1\n0::/\n", {"memory/memory.limit_in_bytes": "4096"}, 4096),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": f"{2**63 - 4096}"}, MACHINE),
        ("4:cpu:/x\n", {"memory/memory.limit_in_bytes": "4096"}, MACHINE),
        ("0::/a:b\n", {"a:b/memory.max": "8192"}, 8192),
    ],
)
def test_the_least_limit_above_a_process_counts(
    tmp_path: Path, own: str, limits: dict[str, str], found: int
) -> None:
    assert limited(tmp_path, own, limits) == found


def test_without_control_groups_it_is_that_of_the_machine(tmp_path: Path) -> None:
    assert memory_bytes(tmp_path, tmp_path / "none") == MACHINE


@pytest.mark.parametrize(
    ("settings", "limit"),
    [({}, memory_bytes() // 2), ({"REDIS_MEMORY_BYTES": 64 * MIB}, 64 * MIB)],
    ids=["half", "set"],
)
def test_the_embedded_redis_may_use_half_of_it_or_what_is_set(
    settings: dict[str, object], limit: int
) -> None:
    with usher("sqlite", **settings) as server:
        path = server.data_dir / "redis" / "redis.sock"
        assert ask(path, "CONFIG", "GET", "maxmemory")[1] == b"%d" % limit
