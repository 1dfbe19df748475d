"""What the supervisor and a worker say to each other, over a socket pair that nobody else has.

Each message is its length (4 bytes) and MessagePack, which has a form for `NaN` and infinity.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Literal

import msgspec

from services.processes.exposition import Family

LENGTH_BYTES = 4
MAX_BYTES = 16 * 1024 * 1024

ProcessState = Literal["starting", "ready", "not_ready"]


class Ready(msgspec.Struct, tag=True, frozen=True):
    """From a worker: it serves. `anybody`: whether there is an account."""

    anybody: bool


class Failed(msgspec.Struct, tag=True, frozen=True):
    """From a worker: it cannot start. `line`: what a server alone would write to stderr."""

    line: str
    status: int


class State(msgspec.Struct, tag=True, frozen=True):
    """From a worker: its readiness has changed."""

    state: ProcessState


class Reloaded(msgspec.Struct, tag=True, frozen=True):
    """From a worker: the settings are read anew, or could not be."""

    number: int
    ok: bool


class Collect(msgspec.Struct, tag=True, frozen=True):
    """From a worker: it wants the metrics of the others."""

    number: int


class Families(msgspec.Struct, tag=True, frozen=True):
    """From a worker: its metrics."""

    number: int
    families: list[Family]


class Pong(msgspec.Struct, tag=True, frozen=True):
    """From a worker: its loop turns."""


class States(msgspec.Struct, tag=True, frozen=True):
    """To a worker: the state of each process, in their order."""

    states: tuple[ProcessState, ...]


class Reload(msgspec.Struct, tag=True, frozen=True):
    """To a worker: read the settings anew."""

    number: int


class Expose(msgspec.Struct, tag=True, frozen=True):
    """To a worker: tell its metrics."""

    number: int


class Collected(msgspec.Struct, tag=True, frozen=True):
    """To a worker: the metrics of the others, by process."""

    number: int
    processes: dict[str, list[Family]]


class Ping(msgspec.Struct, tag=True, frozen=True):
    """To a worker: it is to answer."""


FromWorker = Ready | Failed | State | Reloaded | Collect | Families | Pong
ToWorker = States | Reload | Expose | Collected | Ping

_encode = msgspec.msgpack.Encoder().encode
FROM_WORKER = msgspec.msgpack.Decoder(FromWorker)
TO_WORKER = msgspec.msgpack.Decoder(ToWorker)


def encode(message: FromWorker | ToWorker) -> bytes:
    """The bytes of a message."""
    body = _encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


class Link:
    """One end, on the event loop. Use `Link.open`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, sock: socket.socket) -> Link:
        """Take over a connected socket."""
        sock.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=sock))

    def send(self, message: FromWorker | ToWorker) -> None:
        """Send a message, without waiting. It is lost if the other end has gone, or reads nothing
        any more."""
        transport = self._writer.transport
        if not transport.is_closing() and transport.get_write_buffer_size() < MAX_BYTES:
            self._writer.write(encode(message))

    async def bodies(self) -> AsyncIterator[bytes]:
        """The messages as they come, until the other end has gone."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length = int.from_bytes(await self._reader.readexactly(LENGTH_BYTES), "big")
                yield await self._reader.readexactly(length)

    def close(self) -> None:
        """Close this end."""
        self._writer.close()
