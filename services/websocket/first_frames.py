"""Answers handshakes, and delays the first frame behind each a little, so that the client listens
by then.

Some libraries lose a frame that arrives together with the 101 if the program waits for `open`
before it listens (npm ws). Others hold it back until the next bytes (simple-websocket). One
iteration of the loop later was not enough for the former in 7 of 12 runs; 2 ms later was enough in
all.

The answers of one iteration of the loop leave together, at its end. A client, or a proxy, on the
same machine is then woken once for all of them; waking it is a third of what a send costs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import Protocol

DELAY_SECONDS = 0.002
CHECK_SECONDS = 0.001
"""Timers count in whole milliseconds, from when their turn of the loop began: one that fires
early is set again for this long."""

log = logging.getLogger("usher.websocket")


class Opening(Protocol):
    """A connection whose handshake is being answered."""

    def answer(self, head: bytes) -> None:
        """Send the response to the handshake."""

    def begin(self) -> None:
        """Send and deliver from now on, what waited first."""


class FirstFrames:
    """Answers and begins each new socket, with one timer for all of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._answers: list[tuple[Opening, bytes, bool]] = []
        self._waiting: deque[tuple[float, list[Opening]]] = deque()

    def add(self, opening: Opening, head: bytes = b"", at_once: bool = False) -> None:
        """Answer a handshake in the next iteration of the loop, and begin 2 to 4 ms later.

        Args:
            head: the response; empty if it was sent already.
            at_once: begin right after the answer: nothing is sent until the client speaks.
        """
        if not self._answers:
            self._loop.call_soon(self._answer)
        self._answers.append((opening, head, at_once))

    def _answer(self) -> None:
        answers, self._answers = self._answers, []
        later = []
        for opening, head, at_once in answers:
            try:
                if head:
                    opening.answer(head)
                if at_once:
                    opening.begin()
                else:
                    later.append(opening)
            except Exception:  # one socket's fault must not keep the others waiting
                log.exception("a handshake could not be answered")
        if not later:
            return
        if not self._waiting:
            self._loop.call_later(DELAY_SECONDS, self._due)
        # Not the loop's time, which does not advance within an iteration.
        self._waiting.append((time.monotonic() + DELAY_SECONDS, later))

    def _due(self) -> None:
        waiting, now = self._waiting, time.monotonic()
        while waiting and waiting[0][0] <= now:
            for opening in waiting.popleft()[1]:
                try:
                    opening.begin()
                except Exception:  # one socket's fault must not keep the others waiting
                    log.exception("a socket could not begin")
        if waiting:
            self._loop.call_later(max(CHECK_SECONDS, waiting[0][0] - now), self._due)
