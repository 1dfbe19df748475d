"""A client that sends as much as the line takes, and what that costs the server."""

from __future__ import annotations

import json
import os
import select
import time
from pathlib import Path
from typing import Any

from tests.support.raw import CLOSE, TEXT, Ending, RawClient
from tests.support.server import Usher

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(server: Usher) -> float:
    """Time that the server's process has spent on a core so far; Redis is another process."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


class Flood:
    """Sends a block of frames again and again, and reads what comes.

    Args:
        client: joined, or not yet.
        block: whole frames.
    """

    def __init__(self, client: RawClient, block: bytes) -> None:
        self._client, self._block = client, block
        self._unsent = memoryview(block)
        self.sent = 0
        """Bytes."""
        self.events: list[Any] = []
        self.pongs = 0
        self.ending: Ending | None = None
        self.took = 0.0
        """Seconds until it was closed."""

    def run(self, seconds: float) -> Flood:
        """Flood for so long, or until it is closed."""
        sock = self._client.socket
        sock.setblocking(False)
        began = time.monotonic()
        while self.ending is None and (left := began + seconds - time.monotonic()) > 0:
            readable, writable, _ = select.select([sock], [sock], [], min(left, 0.5))
            try:
                if writable:
                    self._send()
                if readable:
                    self._read()
            except (ConnectionError, EOFError):
                self.ending = Ending(1006, "", self.events)
        self.took = time.monotonic() - began
        sock.settimeout(20)
        return self

    def _send(self) -> None:
        try:
            count = self._client.socket.send(self._unsent)
        except BlockingIOError:
            return
        self.sent += count
        self._unsent = self._unsent[count:] or memoryview(self._block)

    def _read(self) -> None:
        try:
            while True:
                opcode, payload = self._client.frame()
                if opcode == TEXT:
                    self.events.append(json.loads(payload))
                elif opcode == CLOSE:
                    code = int.from_bytes(payload[:2], "big")
                    self.ending = Ending(code, payload[2:].decode(), self.events)
                    return
                else:
                    self.pongs += 1
        except BlockingIOError:
            pass  # the rest of a frame stays with the client until more comes

    @property
    def refused(self) -> list[Any]:
        """The errors of replies that refuse."""
        replies = [e for e in self.events if e["event"] == "reply" and not e["ok"]]
        return [reply["error"] for reply in replies]
