"""Token binding: a bearer token has one live socket on all nodes, the last one opened with it.

The hub handles sockets of this node; this module handles those of others. The socket that holds a
token is recorded in Redis for as long as the token lives. If Redis cannot answer, a row in the
database names the socket that may hold the token. Every node reads it within a second, and further
sockets of that token are bound by rows as well. If neither can answer, the socket is closed.

The loss of Redis' data (flushed, restarted, failed over) is detected: every binding is checked
again, and a socket that Redis does not name is bound by a row.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from functools import partial
from itertools import islice
from typing import Any

from services.errors import UsherError
from services.redis.store import Command, Store
from services.sessions.control import Control
from services.sessions.revocations import Revocations
from services.sockets.hub import Hub
from services.sockets.session_pool import SocketSession
from services.storage.database import Database
from services.websocket.protocol import CloseCode

CHECK_SECONDS = 2.0
"""How often it is looked whether Redis has forgotten."""
MARK_MS = 60_000
BATCH = 200
"""Tokens checked in one round trip."""

log = logging.getLogger("usher.bearers")


def bearer_key(user_id: str, token_id: str) -> str:
    """The key of the node and socket session that hold a token."""
    return f"usher:{{{user_id}}}:bearer:{token_id}"


class TokenBinding:
    """Records which socket holds a bearer token, and closes the previous one.

    Args:
        node: id of this process.
    """

    def __init__(
        self,
        store: Store,
        database: Database,
        control: Control,
        revocations: Revocations,
        hub: Hub,
        node: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._database, self._control = store, database, control
        self._revocations, self._hub, self._clock = revocations, hub, clock
        self._mark = f"usher:{{nodes}}:bearers:{node}"
        self._tasks: set[asyncio.Task[None]] = set()
        self._epoch: str | None = None
        self._doubted: dict[str, bytes] = {}
        """By token: another holder that was found in Redis in place of this node's socket."""

    def bind(self, session: SocketSession, token_id: str, *beside: Command) -> None:
        """Bind a token to this socket. Does not wait or create a task: it runs on every join.

        Args:
            beside: commands to be issued in any case, in the same group as the binding: one group
                less for each join. If one of them fails, the token is bound by a row.
        """
        is_alone = self._store.kind == "memory"  # there is no other node
        if is_alone or self._revocations.is_bound_by_row(token_id):
            if beside:
                self._store.tell(*beside)
            if not is_alone:
                self._start(self._bind_by_row(session, token_id))
            return
        key, value, left_ms = self._entry(session, token_id)
        bound = ("SET", key, value, "PX", left_ms, "GET")  # returns the previous holder
        then = partial(self._on_previous_holder, session, token_id)
        self._store.tell(*beside, bound, then=then)

    def _entry(self, session: SocketSession, token_id: str) -> tuple[str, str, int]:
        left_ms = max(1, int((session.expires_at - self._clock()) * 1000))
        value = f"{session.node} {session.session_id}"
        return bearer_key(session.user_id, token_id), value, left_ms

    def _on_previous_holder(
        self, session: SocketSession, token_id: str, replies: list[Any] | None
    ) -> None:
        if replies is None:
            self._start(self._bind_by_row(session, token_id))
            return
        if (before := replies[-1]) is None:
            return
        holder, _, session_id = before.decode().partition(" ")
        if holder != session.node:
            self._start(self._control.replace(session_id))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _bind_by_row(self, session: SocketSession, token_id: str) -> None:
        """Bind the token to a socket by a row, which only nodes read."""
        socket = self._hub.get(session.session_id)
        if socket is None or socket.bearer_token_id != token_id:
            return  # gone, or another socket here has taken the token meanwhile
        try:
            row = await self._database.run(
                self._revocations.record,
                "bearer",
                token_id,
                session.user_id,
                "replaced",
                exempt=session.session_id,
            )
            await self._revocations.publish([row])
        except UsherError as error:
            log.warning(
                "session=%s closed, its token may be in use elsewhere: %s",
                session.session_id,
                error.evidence,
            )
            socket.close(CloseCode.UNAVAILABLE)

    async def check(self) -> None:
        """Check the bindings again if Redis may have lost its data. Call this every few seconds.

        Raises:
            StoreUnavailable: Redis is unavailable; tokens are bound by rows meanwhile.
        """
        if self._store.kind == "memory":
            return
        epoch = self._store.epoch(self._mark)
        missing, _ = await self._store.call(
            ("SET", self._mark, b"1", "NX", "PX", MARK_MS), ("PEXPIRE", self._mark, MARK_MS)
        )
        if missing is None and epoch == self._epoch and not self._doubted:
            return
        doubted = await self._tokens_bound_elsewhere()
        for token_id, holder in doubted.items():
            # Found twice. After the first time, the other node's message may still be on its way.
            session = self._session_of(token_id)
            if session is not None and self._doubted.get(token_id) == holder:
                await self._bind_by_row(session, token_id)
        self._doubted = {t: holder for t, holder in doubted.items() if self._is_open(t)}
        self._epoch = epoch

    async def _tokens_bound_elsewhere(self) -> dict[str, bytes]:
        """Tokens of sockets here that Redis binds to another socket, with that socket.

        If Redis has no binding, this node's socket is recorded.
        """
        found: dict[str, bytes] = {}
        waiting = iter([s for s in self._hub if s.bearer_token_id is not None])
        while batch := list(islice(waiting, BATCH)):
            entries = [
                (s.bearer_token_id or "", self._entry(s.session, s.bearer_token_id or ""))
                for s in batch
                if self._is_open(s.bearer_token_id or "")
            ]
            commands: list[Command] = []
            for _, (key, value, left_ms) in entries:
                commands.append(("SET", key, value, "NX", "PX", left_ms))
                commands.append(("GET", key))
            replies = await self._store.call(*commands)
            for (token_id, (_, value, _)), holder in zip(entries, replies[1::2], strict=True):
                if holder is not None and holder != value.encode():
                    found[token_id] = holder
        return found

    def _is_open(self, token_id: str) -> bool:
        """Whether a token is bound by Redis, to an open socket here."""
        return self._session_of(token_id) is not None and not self._revocations.is_bound_by_row(
            token_id
        )

    def _session_of(self, token_id: str) -> SocketSession | None:
        socket = self._hub.holder_of(token_id)
        return None if socket is None else socket.session
