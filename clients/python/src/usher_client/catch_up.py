"""Reads the missed messages of many rooms with a few requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from usher_client import events
from usher_client.errors import ConnectionEnded, Forbidden, RateLimited, UsherError
from usher_client.log import RoomLog

ROOMS_PER_QUESTION = 250
MAX_PAGES = 200
"""Messages read of one room: more than the server keeps."""
RATE_PAUSE_SECONDS = 4.0
"""Seconds until the burst of the message rate is available again."""

Ask = Callable[[dict[str, Any]], Awaitable[Any]]


class CatchUp:
    """Reads the missed messages, over one socket.

    Args:
        ask: sends `history` with this data, and returns the data of the reply.
    """

    def __init__(self, logs: list[RoomLog], ask: Ask) -> None:
        self._waiting = {log.name: log for log in logs if log.claim()}
        self._after = {name: log.last for name, log in self._waiting.items()}
        self._pages = dict.fromkeys(self._waiting, 0)
        self._question = ask

    async def run(self) -> None:
        """Read until no message is missing, or the connection has ended."""
        try:
            while self._waiting:
                await self._read(list(self._waiting)[:ROOMS_PER_QUESTION])
        except ConnectionEnded:
            # Queued messages are in the history, after the missed ones: the next connection reads
            # them.
            pass

    async def _read(self, names: list[str]) -> None:
        try:
            answer = await self._ask({"rooms": [self._of(name) for name in names]})
        except ConnectionEnded:
            raise
        except UsherError:
            answer = None
        parts = answer.get("rooms") if isinstance(answer, dict) else None
        answered = [part for part in parts if self._part(part)] if isinstance(parts, list) else []
        if not answered:
            await self._one(names[0])

    def _part(self, part: Any) -> bool:
        """Process the reply for one room. Returns whether it was one."""
        if not isinstance(part, dict) or not isinstance(name := part.get("room"), str):
            return False
        if name not in self._waiting:
            return False
        if isinstance(error := part.get("error"), dict):
            self._refused(name, forbidden=error.get("code") == "forbidden")
        else:
            self._page(name, part)
        return True

    async def _one(self, name: str) -> None:
        try:
            self._page(name, await self._ask(self._of(name)))
        except ConnectionEnded:
            raise
        except UsherError as error:
            self._refused(name, forbidden=isinstance(error, Forbidden))

    async def _ask(self, question: dict[str, Any]) -> Any:
        """Wait while the app's requests need the message rate, which reading would use up."""
        while True:
            try:
                return await self._question(question)
            except RateLimited as error:
                await asyncio.sleep(max(RATE_PAUSE_SECONDS, error.retry_after or 0.0))

    def _of(self, name: str) -> dict[str, Any]:
        after = self._after[name]
        return {"room": name} if after is None else {"room": name, "after": after}

    def _page(self, name: str, data: Any) -> None:
        log, page, after = self._waiting[name], events.history(data), self._after[name]
        if not log.is_held:  # left meanwhile, or given up because of too many messages
            del self._waiting[name]
            return
        self._pages[name] += 1
        log.page(page, first=self._pages[name] == 1)
        newest = page.messages[-1].id if page.messages else None
        if page.more and newest not in {None, after} and self._pages[name] < MAX_PAGES:
            self._after[name] = newest
            self._waiting[name] = self._waiting.pop(name)  # the other rooms first
        else:
            self._done(name)

    def _refused(self, name: str, *, forbidden: bool) -> None:
        if not forbidden:
            self._waiting[name].gap()
        self._done(name)

    def _done(self, name: str) -> None:
        self._waiting.pop(name).release()
