"""A bearer token holds one live socket, wherever: the last one that came with it.

This node's sockets are the hub's business; here it is about another node's. The holder's name
lies in Redis for as long as the token lives: a name that is out of date closes nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from services.redis.store import Store
from services.sessions.control import Control
from services.sockets.session_pool import SocketSession


def bearer_key(user_id: str, token_id: str) -> str:
    """Which node and socket session a token holds."""
    return f"usher:{{{user_id}}}:bearer:{token_id}"


class TokenBinding:
    """Notes which socket a bearer token holds, and has the one before it closed."""

    def __init__(
        self, store: Store, control: Control, clock: Callable[[], float] = time.time
    ) -> None:
        self._store, self._control, self._clock = store, control, clock
        self._tasks: set[asyncio.Task[None]] = set()

    def bind(self, session: SocketSession, token_id: str) -> None:
        """The token is this socket's now. Does not wait, and makes no task: it is on every join."""
        if self._store.kind == "memory":
            return  # there is no other node
        key, value = bearer_key(session.user_id, token_id), f"{session.node} {session.session_id}"
        left_ms = max(1, int((session.expires_at - self._clock()) * 1000))
        held = asyncio.ensure_future(
            self._store.call(("GET", key), ("SET", key, value, "PX", left_ms))
        )
        held.add_done_callback(lambda future: self._held_before(session.node, future))

    def _held_before(self, node: str, held: asyncio.Future[list[Any]]) -> None:
        # Without Redis another node's socket is not found; its token is short-lived.
        before = None if held.cancelled() or held.exception() is not None else held.result()[0]
        if before is None:
            return
        holder, _, session_id = before.decode().partition(" ")
        if holder != node:
            task = asyncio.get_running_loop().create_task(self._control.replace(session_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
