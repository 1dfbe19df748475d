"""Gives the memory that Argon2 has used back to the system.

One hash takes 19 MiB (passwords.py). Without this, the GNU C library keeps them: once for each
thread that has ever hashed, because each thread allocates from an arena of its own, and for ever,
because it trims only the main arena on request (malloc_trim(3)). To have such blocks mapped and
unmapped for each hash (M_MMAP_THRESHOLD) costs 44 % more CPU a hash, as each of their pages has to
be cleared by the system.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Mapping

from services.accounts.passwords import Passwords

IDLE_SECONDS = 30.0
"""Memory is given back when nothing was hashed for this time, or up to twice this time."""
_ARENA_MAX = -8
"""M_ARENA_MAX of mallopt(3)."""


def use_one_arena(environ: Mapping[str, str]) -> bool:
    """Let all threads allocate from the main arena. Call it before there are other threads.

    Most of a Python process runs one thread at a time, so they hardly wait for each other.

    Args:
        environ: the environment of this process.

    Returns:
        Whether it is so. False on systems without this option, and where the environment says how
        many arenas there are.
    """
    if "MALLOC_ARENA_MAX" in environ or "arena_max" in environ.get("GLIBC_TUNABLES", ""):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(_ARENA_MAX, 1) == 1


def trim() -> None:
    """Give free memory back. It takes some milliseconds, in which other threads that allocate
    wait. Does nothing on systems without malloc_trim."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


class Heap:
    """Gives memory back once passwords are no longer hashed."""

    def __init__(self, passwords: Passwords) -> None:
        self._passwords = passwords
        self._seen, self._given_back = -1, -1

    async def give_back(self) -> None:
        """Give memory back if there were hashes, but none since the last call. Call this every
        IDLE_SECONDS."""
        calls = self._passwords.calls
        is_idle = calls == self._seen
        self._seen = calls
        if is_idle and calls != self._given_back:
            self._given_back = calls
            await asyncio.to_thread(trim)
