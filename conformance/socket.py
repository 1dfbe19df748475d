"""A client's end of a socket: frames as JSON, each wait bounded."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from conformance.target import Target
from conformance.verdict import Broken, expect, same

Json = dict[str, Any]

CLOSES: Mapping[int, tuple[str, str]] = {
    1009: ("message_too_big", "never"),
    1012: ("service_restart", "backoff"),
    4400: ("bad_request", "never"),
    4401: ("unauthenticated", "login"),
    4403: ("forbidden", "never"),
    4408: ("join_timeout", "backoff"),
    4409: ("replaced", "never"),
    4410: ("session_revoked", "login"),
    4413: ("slow_consumer", "backoff"),
    4419: ("token_expired", "refresh"),
    4429: ("rate_limited", "backoff"),
    4503: ("unavailable", "backoff"),
}
"""The contract's close codes, each with its reason and retry class."""
SILENT = frozenset({1009})
"""Codes that a WebSocket library may close with by itself, without the event `closing`."""
UNREAD_SECONDS = 1.0
"""That nothing is read before it is looked whether the server has closed."""


class HandshakeRefused(Exception):
    """The server answered the opening handshake with an HTTP status.

    Attributes:
        status: the HTTP status.
        headers: of the response, names in lower case.
        problem: the body, if it is JSON.
    """

    def __init__(self, status: int, headers: Mapping[str, str], problem: Json) -> None:
        super().__init__(f"HTTP {status}")
        self.status, self.headers, self.problem = status, headers, problem


@dataclass(frozen=True)
class Closed:
    """The end of a socket: code and reason of the close frame, and the data of `closing`."""

    code: int
    reason: str
    closing: Json | None


class Socket:
    """An open connection. `events` has everything that was received, except replies."""

    def __init__(self, connection: ClientConnection, target: Target) -> None:
        self._connection, self._target = connection, target
        self._numbers = itertools.count(1)
        self._unread: list[Json] = []
        self.events: list[Json] = []

    @property
    def subprotocol(self) -> str | None:
        return self._connection.subprotocol

    async def send(self, event: str, data: object = None, frame_id: object = None) -> None:
        """Send a frame; `data` and `frame_id` are left out if None."""
        frame: Json = {"event": event}
        if data is not None:
            frame["data"] = data
        if frame_id is not None:
            frame["id"] = frame_id
        await self.send_raw(json.dumps(frame))

    async def send_raw(self, message: str | bytes) -> bool:
        """Send a message as it is. Returns whether the socket was still open."""
        try:
            await self._within(self._connection.send(message))
        except websockets.ConnectionClosed:
            return False
        return True

    async def ask(self, event: str, data: object = None) -> Json:
        """Send a frame with an id; returns its reply. Raises Broken if there is none."""
        frame_id = next(self._numbers)
        await self.send(event, data, frame_id)
        return await self._until(
            lambda frame: frame.get("event") == "reply" and frame.get("id") == frame_id,
            f"a reply to {event}",
        )

    async def do(self, event: str, data: object = None) -> Json:
        """The same; returns the data of a reply that has to be good."""
        reply = await self.ask(event, data)
        expect(reply.get("ok") is True, f"{event} was refused: {reply.get('error')}")
        answered: Json = reply.get("data") or {}
        return answered

    async def refused(self, event: str, code: str, data: object = None) -> Json:
        """The same; returns the error of a reply that has to be a refusal with this code."""
        reply = await self.ask(event, data)
        expect(reply.get("ok") is False, f"{event} was accepted, expected the error {code}")
        error: Json = reply.get("error") or {}
        same(error.get("code"), code, f"error code of {event}")
        expect(isinstance(error.get("message"), str), f"the error of {event} has no message")
        return error

    async def event(self, name: str, fits: Callable[[Json], bool] = lambda _: True) -> Json:
        """The data of the next event of this name that fits. Raises Broken if none comes."""
        frame = await self._until(
            lambda one: one.get("event") == name and fits(one.get("data") or {}),
            f"the event {name}",
        )
        data: Json = frame.get("data") or {}
        return data

    async def frame(self, name: str) -> Json:
        """The next whole frame of this name."""
        return await self._until(lambda one: one.get("event") == name, f"the event {name}")

    async def alive(self) -> None:
        """Raises Broken unless the server answers a heartbeat."""
        await self.do("heartbeat")

    async def is_closed_with(self, code: int, seconds: float) -> Closed:
        """Wait for the end, which has to come in time, with this code and what belongs to it.

        Args:
            seconds: from now.

        Raises:
            Broken: it does not.
        """
        end = await self._end(seconds, f"close {code}")
        reason, retry = CLOSES[code]
        same(end.code, code, "close code")
        if end.closing is None:
            expect(code in SILENT, f"no event closing before close {code}")
            return end
        same(end.reason, reason, f"reason of close {code}")
        same(end.closing.get("code"), code, "code in closing")
        same(end.closing.get("reason"), reason, "reason in closing")
        same(end.closing.get("retry"), retry, "retry in closing")
        return end

    def stop_reading(self) -> None:
        """Leave what the server sends in the buffers of both machines."""
        self._connection.transport.pause_reading()

    async def is_cut_unread(self, code: int, seconds: float) -> None:
        """Wait for the end of a socket that was not read from.

        The close frame stands behind what was not read, so a server need not get it through.

        Raises:
            Broken: it is open, or closed with another code.
        """
        await asyncio.sleep(UNREAD_SECONDS)
        self._connection.transport.resume_reading()
        until = time.monotonic() + seconds
        try:
            while True:
                await self._read(until)
        except asyncio.TimeoutError:
            raise Broken("still open, although it read nothing") from None
        except websockets.ConnectionClosed as closed:
            if closed.rcvd is not None:
                same(closed.rcvd.code, code, "close code")

    async def _end(self, seconds: float, expected: str) -> Closed:
        closing: Json | None = None
        until = time.monotonic() + seconds
        try:
            while True:
                frame = self._unread.pop(0) if self._unread else await self._read(until)
                if frame.get("event") == "closing":
                    closing = frame.get("data") or {}
        except asyncio.TimeoutError:
            raise Broken(f"{expected} expected within {seconds:.1f} s, still open") from None
        except websockets.ConnectionClosed as closed:
            if closed.rcvd is None:
                raise Broken(f"{expected} expected, ended without a close frame") from None
            return Closed(closed.rcvd.code, closed.rcvd.reason, closing)

    async def _until(self, fits: Callable[[Json], bool], expected: str) -> Json:
        for place, frame in enumerate(self._unread):
            if fits(frame):
                return self._unread.pop(place)
        until = time.monotonic() + self._target.patience
        try:
            while not fits(frame := await self._read(until)):
                self._unread.append(frame)
            return frame
        except asyncio.TimeoutError:
            raise Broken(f"{expected} did not come within {self._target.patience:.0f} s") from None
        except websockets.ConnectionClosed as closed:
            code = 1006 if closed.rcvd is None else closed.rcvd.code
            raise Broken(f"{expected} did not come: the socket was closed with {code}") from None

    async def _read(self, until: float) -> Json:
        wait = max(until - time.monotonic(), 0.0)
        message = await asyncio.wait_for(self._connection.recv(), wait)
        try:
            frame = json.loads(message)
        except ValueError:
            raise Broken("the server sent a message that is not JSON") from None
        if not isinstance(frame, dict) or not isinstance(frame.get("event"), str):
            raise Broken("the server sent a message that is not a frame of the contract")
        if frame["event"] != "reply":
            self.events.append(frame)
        return frame

    async def _within(self, awaitable: Any) -> Any:
        return await asyncio.wait_for(awaitable, self._target.timeout)


async def open_socket(
    target: Target,
    stack: AsyncExitStack,
    *,
    node: str,
    query: str = "",
    headers: Mapping[str, str] | None = None,
    subprotocols: tuple[str, ...] = ("usher.v1",),
    origin: str | None = None,
) -> Socket:
    """Open a socket, which the stack closes.

    Raises:
        HandshakeRefused: the server answered with an HTTP status.
        Broken: it answered neither with a socket nor with a status.
    """
    url = f"ws{node[4:]}/ws{query}"
    opening = connect(
        url,
        additional_headers=dict(headers or {}),
        subprotocols=[Subprotocol(one) for one in subprotocols] or None,
        origin=None if origin is None else Origin(origin),
        compression=None,
        open_timeout=target.timeout,
        close_timeout=1,
        max_size=None,
        max_queue=None,
        ping_interval=None,
        proxy=None,
        ssl=target.tls if url.startswith("wss:") else None,
    )
    try:
        connection = await stack.enter_async_context(opening)
    except websockets.InvalidStatus as refused:
        response = refused.response
        named = {name.lower(): value for name, value in response.headers.raw_items()}
        raise HandshakeRefused(response.status_code, named, _json(response.body)) from None
    except (websockets.InvalidHandshake, OSError, EOFError, asyncio.TimeoutError) as error:
        raise Broken(f"the handshake failed: {type(error).__name__}: {error}") from None
    return Socket(connection, target)


def _json(body: bytes | bytearray | None) -> Json:
    try:
        found = json.loads(body or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
