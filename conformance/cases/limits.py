"""Abuse that has a limit: sizes of frames, rates, and sockets that are open at one time."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx

from conformance.http import is_problem, json_of
from conformance.socket import HandshakeRefused, Socket
from conformance.trial import Trial
from conformance.verdict import Broken, NotRun, expect, same

Opened = TypeVar("Opened")

KIB = 1024
BURST = 200
ABUSE_SECONDS = 10.0
PAUSE = 0.2
"""Seconds between two floods: ten times the rate that is allowed."""
TOO_MANY, HOUR = 429, 3600
EXCHANGE_SECONDS = 1.5
"""In which the nodes and processes of an installation may tell each other what they have."""
AT_ONCE = 25
"""Requests under way at one time."""


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
    if None not in sockets:
        await asyncio.sleep(EXCHANGE_SECONDS)
        sockets += await _many(opened, AT_ONCE)
    if None in sockets:
        return
    if time.monotonic() - begun > trial.target.join_timeout:
        raise NotRun(f"could not open {limit + AT_ONCE} connections within the join time-out")
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


def _is_limited(answers: list[httpx.Response], limit: int, used: int, what: str) -> None:
    """Of calls at the same time, as many were accepted as the limit has left."""
    good = [one for one in answers if one.is_success]
    # Whether the sign-up counts, too, is for the server to say.
    expect(
        limit - used <= len(good) <= limit,
        f"{len(good)} {what} within the limit of {limit} an hour",
    )
    for one in answers:
        if not one.is_success:
            is_problem(one, TOO_MANY)
            wait = one.headers.get("Retry-After", "")
            expect(wait.isdecimal() and 0 < int(wait) <= HOUR, f"Retry-After: {wait!r}")


def _limit(limit: int, option: str) -> int:
    if limit <= 0:
        raise NotRun(f"{option} 0: there is no such limit")
    return limit


async def signins_of_user(trial: Trial) -> None:
    limit = _limit(trial.target.limit_signins, "--limit-signins")
    ada, nobody = await trial.newcomer(), await trial.nobody()
    body = {"email": ada.account.email, "password": ada.account.password, "client": "native"}
    answers = await _many(lambda: nobody.call("POST", "/api/auth/login", body), limit + 5, 4)
    _is_limited(answers, limit, 1, "sign-ins")
    # The newest session, with which the account is deleted: nobody can sign in any more.
    newest = [one for one in answers if one.is_success][-1]
    ada.account.token = str(json_of(newest).get("access_token"))
    if not 0 < trial.target.max_sessions <= limit:
        await ada.http.do("GET", "/api/auth/me")
    await trial.again(await trial.ben())


async def refreshes_of_user(trial: Trial) -> None:
    limit = _limit(trial.target.limit_refreshes, "--limit-refreshes")
    ada = await trial.newcomer()
    for number in range(limit):
        try:
            await ada.refresh()
        except Broken as broken:
            raise Broken(f"refresh {number + 1} of {limit} an hour: {broken}") from None
    body = {"refresh_token": ada.refresh_token}
    answer = await ada.http.call("POST", "/api/auth/refresh", body)
    _is_limited([answer], 0, 0, "more refreshes")
    await ada.http.do("GET", "/api/auth/me")


async def tickets_of_user(trial: Trial) -> None:
    limit = _limit(trial.target.limit_tickets, "--limit-tickets")
    ada, ben = await trial.newcomer(), await trial.ben()
    answers = await _many(lambda: ada.http.call("POST", "/api/ws/ticket"), limit + 10)
    _is_limited(answers, limit, 0, "tickets")
    await ben.ticket()


async def slow_consumer(trial: Trial) -> None:
    ada, ben = await trial.ada(), await trial.ben()
    room = await trial.channel(ada, ben)
    slow, speaker = await trial.joined(ben), await trial.joined(ada)
    slow.stop_reading()
    for _ in range(BURST):  # who speaks hears itself, and reads on, or it were slow, too
        await speaker.ask("message", {"room": room, "data": "x" * (48 * KIB)})
    await speaker.alive()
    await slow.is_cut_unread(4413, trial.target.patience)


async def wrong_signins(trial: Trial) -> None:
    if not trial.target.exhaust:
        raise NotRun("needs --exhaust: afterwards, this address may not sign in for an hour")
    limit = _limit(trial.target.limit_wrong_signins, "--limit-wrong-signins")
    ada, nobody = await trial.ada(), await trial.nobody()
    body = {"email": ada.account.email, "password": "not the password", "client": "native"}
    right = {**body, "password": ada.account.password}
    known = await nobody.do("POST", "/api/auth/login", right)
    answers = await _many(lambda: nobody.call("POST", "/api/auth/login", body), limit + 5, 4)
    refused = [one for one in answers if one.status_code == TOO_MANY]
    expect(refused, f"{limit + 5} wrong sign-ins from one address, and none was limited")
    _is_limited(refused, 0, 0, "wrong sign-ins")
    right["device"] = str(known.get("device"))
    answer = await nobody.call("POST", "/api/auth/login", right)
    same(answer.status_code, 200, "status of the owner's sign-in, from a device that is known")


async def _many(
    opened: Callable[[], Awaitable[Opened]], count: int, at_once: int = AT_ONCE
) -> list[Opened]:
    done: list[Opened] = []
    while len(done) < count:
        some = min(at_once, count - len(done))
        done += await asyncio.gather(*(opened() for _ in range(some)))
    return done


async def _one_is_closed(sockets: list[Socket], seconds: float) -> None:
    """Of sockets that nobody joined, those above the limit end with 4429, the others later."""
    ends = await asyncio.gather(
        *(one.is_closed_with(4429, seconds) for one in sockets), return_exceptions=True
    )
    if all(isinstance(end, Broken) for end in ends):
        raise Broken("as many sockets without a credential as were asked for, none with 4429")
