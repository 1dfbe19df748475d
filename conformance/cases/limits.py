"""Abuse that has a limit: sizes of frames, rates, and sockets that are open at one time."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from conformance.socket import HandshakeRefused, Socket
from conformance.trial import Trial
from conformance.verdict import Broken, NotRun, expect, same

Opened = TypeVar("Opened")

KIB = 1024
BURST = 200
ABUSE_SECONDS = 10.0
PAUSE = 0.2
"""Seconds between two floods: ten times the rate that is allowed."""
TOO_MANY = 429
AT_ONCE = 25
"""Handshakes under way at one time."""


async def big_frame(trial: Trial) -> None:
    ada = await trial.ada()
    room = f"user:{ada.id}"
    socket = await trial.joined(ada)
    await socket.do("message", {"room": room, "data": "x" * (48 * KIB)})
    await socket.send("message", {"room": room, "data": "x" * (64 * KIB)}, 1)
    await socket.is_closed_with(1009, trial.target.patience)


async def _too_fast(socket: Socket, frames: int) -> bool:
    """Returns whether the socket stayed open."""
    frame = json.dumps({"event": "heartbeat", "id": "fast"})
    for _ in range(frames):
        if not await socket.send_raw(frame):
            return False
    return True


async def rate(trial: Trial) -> None:
    socket = await trial.joined(await trial.ada())
    await _too_fast(socket, 3 * BURST)
    replies = [await socket.frame("reply") for _ in range(3 * BURST)]
    errors = [one["error"] for one in replies if not one.get("ok")]
    expect(errors, f"{3 * BURST} frames at once, and no reply rate_limited")
    expect(len(replies) - len(errors) >= BURST / 2, "a burst of 200 frames was not accepted")
    for error in errors:
        same(error.get("code"), "rate_limited", "error code of a frame above the rate")
        expect(isinstance(error.get("retry_after"), int | float), "no retry_after")
    await asyncio.sleep(float(errors[-1]["retry_after"]) + 1)
    await socket.alive()


async def rate_for_long(trial: Trial) -> None:
    socket = await trial.joined(await trial.ada())
    flood = asyncio.create_task(_flood(socket, ABUSE_SECONDS + trial.target.patience))
    try:
        await socket.is_closed_with(4429, ABUSE_SECONDS + trial.target.patience)
    finally:
        flood.cancel()
        await asyncio.gather(flood, return_exceptions=True)


async def _flood(socket: Socket, seconds: float) -> None:
    for _ in range(int(seconds / PAUSE)):
        if not await _too_fast(socket, BURST // 2):
            return
        await asyncio.sleep(PAUSE)


async def unjoined(trial: Trial) -> None:
    begun = time.monotonic()

    async def opened() -> Socket | None:
        try:
            return await trial.open()
        except HandshakeRefused as refused:
            expect(refused.status in {TOO_MANY, 503}, f"refused with HTTP {refused.status}")
            expect("retry-after" in refused.headers, "a refusal without Retry-After")
            return None
        except Broken:  # a connection that the server does not even answer
            return None

    limit = trial.target.max_unjoined
    sockets = await _many(opened, limit + AT_ONCE)
    if time.monotonic() - begun > trial.target.join_timeout:
        raise NotRun(f"could not open {limit + AT_ONCE} connections within the join time-out")
    if None in sockets:
        return
    await _one_is_closed([one for one in sockets if one is not None], trial.target.patience)


async def sockets_of_user(trial: Trial) -> None:
    ada = await trial.newcomer()
    browser = await trial.again(ada, browser=True)
    limit = trial.target.max_sockets
    held = await _many(lambda: trial.by_cookie(browser.http), limit)
    for socket in held:
        await socket.event("joined")
    await (await trial.by_cookie(browser.http)).is_closed_with(4429, trial.target.patience)
    await trial.refused_by_header(ada.token, TOO_MANY)
    await held[0].alive()


async def _many(opened: Callable[[], Awaitable[Opened]], count: int) -> list[Opened]:
    sockets: list[Opened] = []
    while len(sockets) < count:
        some = min(AT_ONCE, count - len(sockets))
        sockets += await asyncio.gather(*(opened() for _ in range(some)))
    return sockets


async def _one_is_closed(sockets: list[Socket], seconds: float) -> None:
    """Of sockets that nobody joined, those above the limit end with 4429, the others later."""
    ends = await asyncio.gather(
        *(one.is_closed_with(4429, seconds) for one in sockets), return_exceptions=True
    )
    if all(isinstance(end, Broken) for end in ends):
        raise Broken("as many sockets without a credential as were asked for, none with 4429")
