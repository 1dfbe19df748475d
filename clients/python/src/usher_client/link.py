"""Keeps one socket open: connects, refreshes its token in time, backs off and reconnects."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import Any

from usher_client import events
from usher_client.credentials import Credentials
from usher_client.errors import (
    ConnectionEnded,
    End,
    IdentityMismatch,
    Misuse,
    NotConnected,
    SignInNeeded,
    UsherError,
)
from usher_client.events import Session
from usher_client.life import Life, State
from usher_client.opening import open_connection
from usher_client.rooms import Rooms
from usher_client.socket import Connection, Frame, Times
from usher_client.wire import end_of, error_of, number

RENEW_AHEAD_SECONDS = 45.0
"""The server sends `token-expiring` 60 seconds ahead. This applies if that event is lost."""
RENEW_AGAIN_SECONDS = 5.0
CLOSED_BY_CLIENT = End(1000, "closed_by_client", "never")
INTERNAL = End(1011, "internal", "never")

log = logging.getLogger("usher_client")


class Link:
    """Keeps one socket open, over reconnects.

    Args:
        notify: called with each new state.
        max_pending: the number of requests that may wait for a reply at once.
    """

    def __init__(
        self,
        base: str,
        times: Times,
        notify: Callable[[State], object],
        max_pending: int,
        limit: int,
    ) -> None:
        self._base = base
        self._times = times
        self._watchers: dict[object, Callable[[State], object]] = {object(): notify}
        self._max_pending = max_pending
        self.rooms = Rooms(self.request, self.send, limit)
        self.state = State("idle")
        self.session: Session | None = None
        self._life = Life(times.backoff, times.max_backoff)
        self._credentials: Credentials | None = None
        self._token: str | None = None
        self._connection: Connection | None = None
        self._running: asyncio.Task[None] | None = None
        self._first: asyncio.Future[Session] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._renewal: asyncio.Task[None] | None = None
        self._backstop: asyncio.TimerHandle | None = None
        self._offset: float | None = None

    async def connect(self, credentials: Credentials) -> Session:
        """Connect, and stay connected until `close` or an end that forbids it.

        Raises:
            UsherError: the client gave up before the first join.
        """
        if self.session is not None:
            return self.session
        if self._running is None or self._first is None:
            self._credentials = credentials
            self._token = None
            self._life = Life(self._times.backoff, self._times.max_backoff)
            self._first = asyncio.get_running_loop().create_future()
            self._first.add_done_callback(_seen)
            self._running = asyncio.ensure_future(self._run())
        return await asyncio.shield(self._first)

    async def close(self) -> None:
        """Close the socket permanently."""
        running, self._running = self._running, None
        if running is None:
            return
        if self._connection is not None:
            await self._connection.close(CLOSED_BY_CLIENT)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        self._finish(State("closed", 1000, CLOSED_BY_CLIENT.reason, "never"), None)

    async def request(self, event: str, data: object, timeout: float | None = None) -> Any:
        """Send an event over the joined socket. Returns the data of the reply.

        Raises:
            NotConnected: there is none at the moment.
            UsherError: see Connection.request.
        """
        if self.session is None or self._connection is None:
            raise NotConnected("there is no joined socket")
        return await self._connection.request(event, data, timeout)

    async def send(self, event: str, data: object) -> None:
        """Send an event over the joined socket, without a reply.

        Raises:
            NotConnected: there is none at the moment.
            TimedOut: the connection accepts no data.
        """
        if self.session is None or self._connection is None:
            raise NotConnected("there is no joined socket")
        await self._connection.send(event, data)

    # ---- one connection after the other --------------------------------------------------------

    async def _run(self) -> None:
        try:
            while True:
                end = await self._attempt()
                self._let_go()
                if self._running is None:
                    return  # `close` reports the rest
                state = self._life.lost(end)
                if state.name == "closed":
                    self._running = None
                    self._finish(state, error_of(end))
                    return
                if state.pause > 0:
                    self._set(state)
                    await asyncio.sleep(state.pause)
        except Exception:  # a bug: reported to all who wait, and raised again
            self._running = None
            self._let_go()
            self._finish(
                State("closed", INTERNAL.code, INTERNAL.reason, "never"), error_of(INTERNAL)
            )
            raise

    async def _attempt(self) -> End:
        """One connection, from getting its token to its end."""
        assert self._credentials is not None
        renew, attempt = self._life.renew, self._life.attempt
        self._set(State("refreshing" if renew else "connecting", attempt=attempt))
        try:
            self._token = await self._credentials.token(self._token if renew else None)
            self._life.renew = False
            found = await open_connection(
                self._base,
                self._token,
                self._times,
                self._on_frame,
                self._on_heartbeat,
                self._max_pending,
            )
        except UsherError as error:
            return end_of(error)
        if isinstance(found, End):
            return found
        self._connection = found
        return await found.run()

    def _let_go(self) -> None:
        """Cancel everything that belongs to an ended connection."""
        self.session = self._connection = None
        if self._backstop is not None:
            self._backstop.cancel()
            self._backstop = None
        for task in self._tasks:
            task.cancel()
        self.rooms.lost()

    def _finish(self, state: State, error: UsherError | None) -> None:
        self._let_go()
        if self._first is not None and not self._first.done():
            self._first.set_exception(error or ConnectionEnded(end=CLOSED_BY_CLIENT))
        self._first = None
        self.rooms.finish(error)
        self._set(state)

    def watch(self, notify: Callable[[State], object]) -> Callable[[], None]:
        """Call a function with each new state. Returns a function that stops this."""
        name = object()
        self._watchers[name] = notify

        def end() -> None:
            self._watchers.pop(name, None)

        return end

    def _set(self, state: State) -> None:
        self.state = state
        for notify in tuple(self._watchers.values()):
            try:
                notify(state)
            except Exception:  # an error in the app's function must not end the connection
                log.exception("on_state failed")

    # ---- events of the server ------------------------------------------------------------------

    def _on_frame(self, frame: Frame) -> None:
        event, data = frame["event"], frame.get("data")
        if event == "joined":
            self._joined(data)
        elif event == "token-expiring":
            self._renew_soon()
        elif event == "access-changed":
            rooms = data.get("rooms") if isinstance(data, dict) else None
            if isinstance(rooms, list):
                self.rooms.changed(events.names(rooms))
        else:
            self.rooms.receive(frame)

    def _joined(self, data: object) -> None:
        session, connection = events.session(data), self._connection
        assert connection is not None
        if session is None:
            connection.drop(End(1007, "invalid_frame"))
            return
        if self.session is not None:
            return  # it has joined already
        self.session = session
        self._life.renew, self._life.proven = False, True
        self._watch_expiry(session.expires_at)
        self._spawn(connection.keep_alive(self._on_lasting))
        self.rooms.joined(session)
        self._set(State("joined"))
        if self._first is not None and not self._first.done():
            self._first.set_result(session)

    def _on_lasting(self) -> None:
        self._life.attempt = 0

    def _on_heartbeat(self, offset: float) -> None:
        self._offset = offset
        self.rooms.clock(offset)
        if self._backstop is None and self.session is not None:
            self._watch_expiry(self.session.expires_at)

    # ---- renewing ------------------------------------------------------------------------------

    def _watch_expiry(self, expires_at: float) -> None:
        """Refresh in time even if the server's event is lost."""
        if self._offset is None:
            return
        if self._backstop is not None:
            self._backstop.cancel()
        left = expires_at - (monotonic() + self._offset)
        pause = max(RENEW_AGAIN_SECONDS, left - min(RENEW_AHEAD_SECONDS, left / 4))
        loop = asyncio.get_running_loop()
        self._backstop = loop.call_later(min(pause, 86_400.0), self._renew_soon)

    def _renew_soon(self) -> None:
        if self._connection is None or self.session is None:
            return
        if self._renewal is None or self._renewal.done():
            self._renewal = self._spawn(self._renew(self._connection))

    async def renew(self) -> None:
        """Refresh an open socket with the newest token, as after a step-up."""
        self._renew_soon()
        if self._renewal is not None:
            await asyncio.wait({self._renewal})

    async def _renew(self, connection: Connection) -> None:
        assert self._credentials is not None
        while not connection.is_over:
            try:
                token = await self._credentials.token(self._token)
                data = {"token": token}
                answer = await connection.request("token-refresh", data, urgent=True)
            except IdentityMismatch:
                # Another user has signed in meanwhile: this socket must not continue.
                connection.drop(End(4401, "identity_mismatch"))
            except (SignInNeeded, Misuse):
                return  # the server ends the socket in time, and says why
            except UsherError as error:
                await asyncio.sleep(error.retry_after or RENEW_AGAIN_SECONDS)
            else:
                self._token = token
                expires_at = number(answer.get("expires_at")) if isinstance(answer, dict) else None
                if expires_at is not None:
                    self._watch_expiry(expires_at)
                return

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _seen(first: asyncio.Future[Session]) -> None:
    """Retrieve the error, because the task that waited may be cancelled."""
    if not first.cancelled():
        first.exception()
