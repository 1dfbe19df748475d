"""A listening socket that reserves some file descriptors for the server itself.

Tornado accepts until the system refuses (EMFILE). Then it is woken again and again, logs a
traceback each time, and neither the database nor Redis can be reached. Anybody who opens enough
idle connections could cause that. Here connections are refused before that point.
"""

from __future__ import annotations

import logging
import resource
import socket
import sys
import time
from typing import Any

RESERVED_FILES = 64
"""For the database, Redis, static files and logs."""
LOG_SECONDS = 10.0
LOOK_EVERY = 16
"""Connections after which the limit of files, which may be changed from outside, is read again."""

log = logging.getLogger("usher.listener")


class Listener(socket.socket):
    """A bound, listening socket."""

    def __init__(self, bound: socket.socket) -> None:
        """`bound` is taken over and must not be used afterwards."""
        super().__init__(bound.family, bound.type, bound.proto, bound.detach())
        self.setblocking(False)
        self._kind = int(self.family), int(self.type), self.proto
        self._logged_at = -LOG_SECONDS
        self._most, self._next_look = 0, 0
        # On Linux, connections inherit it.
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection, non-blocking and without Nagle's algorithm.

        As `socket.accept` does it, but that looks up enums each time, which costs more than the
        system call.

        Raises:
            BlockingIOError: there is none.
            ConnectionAbortedError: it was refused; Tornado continues with the next.
        """
        number, address = self._accept()  # type: ignore[attr-defined]  # typeshed leaves it out
        connection = socket.socket(*self._kind, fileno=number)
        connection.setblocking(False)
        # The system gives the lowest free number: it shows how many are in use.
        if self._is_last(number):
            connection.close()
            self._log(self._most)
            raise ConnectionAbortedError("too few file descriptors left")
        if sys.platform != "linux":
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address

    def _is_last(self, number: int) -> bool:
        """Whether too few files are left after this one."""
        self._next_look -= 1
        if self._next_look <= 0 or 0 <= self._most <= number + RESERVED_FILES:
            self._next_look = LOOK_EVERY
            self._most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return 0 <= self._most <= number + RESERVED_FILES

    def _log(self, most: int) -> None:
        now = time.monotonic()
        if now - self._logged_at >= LOG_SECONDS:
            self._logged_at = now
            log.warning("connections are turned away: of %d files too few are left", most)
