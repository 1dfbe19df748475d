"""Finds a redis-server that an earlier run left behind, and shuts it down."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from hiredis import HiredisError, Reader, pack_command

from services.errors import StoreUnavailable

ASK_SECONDS = 1.0
STOP_SECONDS = 5.0
"""Time to write the append-only file to disk; after it SIGKILL, which loses a second at most."""

log = logging.getLogger(__name__)


class Orphan:
    """A server of an earlier run on our folder, found by its socket or its pid file."""

    def __init__(self, socket: Path, pid_file: Path) -> None:
        self._socket, self._pid_file = socket, pid_file

    async def end(self) -> None:
        """End it, if there is one.

        Raises:
            StoreUnavailable: it does not end.
        """
        if await ask(self._socket, "PING") is not None:  # any answer, LOADING too
            log.warning("A redis-server of an earlier run is still there; it is shut down")
            await self._record()
            await ask(self._socket, "SHUTDOWN")  # writes the append-only file to disk
        # It may also be there without answering: stopped, hanging, or just going down.
        # SIGCONT, because a stopped process would not see SIGTERM; SIGKILL for the rest.
        for numbers in ((signal.SIGTERM, signal.SIGCONT), (signal.SIGKILL,)):
            self._signal(numbers)
            if await self._is_gone():
                return
        raise StoreUnavailable("a redis-server of an earlier run cannot be ended")

    async def _record(self) -> None:
        # It closes its socket before it exits, so only the process shows when it is gone.
        facts = await ask(self._socket, "INFO", "server")
        for line in facts.splitlines() if isinstance(facts, bytes) else ():
            if line.startswith(b"process_id:"):
                self.record(line.partition(b":")[2])

    def record(self, line: bytes) -> None:
        """Write the pid file. `line`: the process id of a server on our socket."""
        self._pid_file.touch(mode=0o600)
        self._pid_file.write_bytes(line)

    def _signal(self, numbers: tuple[signal.Signals, ...]) -> None:
        for number in numbers:
            if (pid := self._recorded_pid()) is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    async def _is_gone(self) -> bool:
        loop = asyncio.get_running_loop()
        end = loop.time() + STOP_SECONDS
        while self._recorded_pid() is not None or await ask(self._socket, "PING") is not None:
            if loop.time() > end:
                return False
            await asyncio.sleep(0.02)
        return True

    def _recorded_pid(self) -> int | None:
        """The process id of the pid file, if that process is a server on our socket.

        The number alone is not enough, because it may belong to another program now. Without /proc
        only the socket identifies a server that was left behind.
        """
        try:
            pid = int(self._pid_file.read_text())
            ours = os.fsencode(self._socket) in Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):  # no such file, gone, or another user's
            return None
        return pid if ours else None


async def ask(path: Path, *command: str) -> Any:
    """Send one command on a separate connection; None if there is no reply in time."""
    try:
        return await asyncio.wait_for(_exchange(path, command), ASK_SECONDS)
    except (OSError, HiredisError, asyncio.TimeoutError):
        return None


async def _exchange(path: Path, command: tuple[str, ...]) -> Any:
    reader, writer = await asyncio.open_unix_connection(os.fspath(path))
    try:
        writer.write(cast("Callable[[tuple[str, ...]], bytes]", pack_command)(command))
        replies = Reader()
        while data := await reader.read(65536):
            replies.feed(data)
            if (reply := replies.gets()) is not False:
                return reply
        return None
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
