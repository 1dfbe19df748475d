"""Answers many questions with few queries.

When nodes stop, everybody comes back at once, and each asks the same few things. Whoever asks while
a read is in progress waits for the next one, which asks for all of them together. So a crowd costs
the database one connection and a constant number of queries for each `MOST_AT_ONCE` of them, and
other requests do not wait behind it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import peewee

from services.errors import Busy, DatabaseUnavailable, UsherError
from services.event_loop.tasks import end_tasks
from services.storage.database import Database

Question = TypeVar("Question")
Answer = TypeVar("Answer")

MOST_AT_ONCE = 250
"""Questions in one read: what others of the database wait for, at most. Older SQLite takes 999
parameters."""
TARGET_SECONDS = 1.0
"""What one read may take. After a longer one fewer are asked for together: what takes so long would
soon take longer than the database's timeout, and then refuse everybody, again and again."""
MAX_WAITING = 20_000
"""Questions that wait for the database. More than a node has sockets that have not joined."""

log = logging.getLogger("usher.storage")


class BatchedReads(Generic[Question, Answer]):
    """Answers questions of one kind, many in one read.

    Args:
        read_many: gives the answers to some questions, in their order, within a transaction.
        subject: what is asked about, for messages and as the caller of the reads.
        max_waiting: the most questions that wait.
    """

    def __init__(
        self,
        database: Database,
        read_many: Callable[[peewee.Database, list[Question]], list[Answer]],
        subject: str,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._database, self._read_many = database, read_many
        self._subject, self._max_waiting = subject, max_waiting
        self._waiting: deque[tuple[Question, asyncio.Future[Answer]]] = deque()
        self._reading: asyncio.Task[None] | None = None
        self._most = MOST_AT_ONCE
        """Questions in the next read."""

    async def of(self, question: Question) -> Answer:
        """The answer to one question, from a read that begins after this call.

        Raises:
            DatabaseUnavailable: the database cannot be read.
            Busy: too many questions are waiting.
        """
        if len(self._waiting) >= self._max_waiting:
            raise Busy(f"too many wait for {self._subject} in the database")
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read_all())
        return await answer

    async def close(self) -> None:
        """Stop reading. Questions that wait are refused."""
        await end_tasks(self._reading)
        self._reading = None  # a task that was cancelled before it began has not done it
        self._refuse(self._waiting, "reading was stopped")
        self._waiting.clear()

    async def _read_all(self) -> None:
        # In no single user's name. All who wait have presented a genuine token.
        self._database.callers.enter("users", self._subject)
        try:
            while self._waiting:
                await self._read_some()
        finally:
            self._reading = None

    async def _read_some(self) -> None:
        count = min(self._most, len(self._waiting))
        some = [self._waiting.popleft() for _ in range(count)]
        some = [(question, answer) for question, answer in some if not answer.done()]
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await self._answer(some)
        except UsherError as error:
            # Whoever came meanwhile has waited for the same database: it is not asked again.
            self._refuse([*some, *self._waiting], error.evidence)
            self._waiting.clear()
            self._adapt(TARGET_SECONDS)
        except asyncio.CancelledError:
            self._refuse(some, "reading was stopped")
            raise
        else:
            self._adapt(loop.time() - began)

    def _adapt(self, took: float) -> None:
        """Decide how many are asked for together from now on. `took`: seconds."""
        if took >= TARGET_SECONDS:
            self._most = max(1, self._most // 2)
        elif took < TARGET_SECONDS / 4:
            self._most = min(MOST_AT_ONCE, self._most * 2)

    async def _answer(self, asked: list[tuple[Question, asyncio.Future[Answer]]]) -> None:
        """Answer questions, in one read where it can be. One that cannot be answered, because of a
        row that this version does not understand, say, does not spoil it for the others.

        Raises:
            UsherError: the database cannot be read.
        """
        groups, failures = [asked], 0
        while groups:
            some = groups.pop()
            try:
                found = await self._database.read(self._read_many, [each for each, _ in some])
            except UsherError:
                raise
            except Exception:  # one row must not spoil the others; logged whole below
                if len(some) > 1:
                    middle = len(some) // 2
                    groups += [some[middle:], some[:middle]]
                    continue
                failures += 1
                if failures == 1:  # the others as a rule have the same cause
                    log.exception("%s could not be read", self._subject)
                self._refuse(some, f"{self._subject} could not be read")
            else:
                self._give(some, found)
        if failures > 1:
            log.error("%s could not be read: %d of %d", self._subject, failures, len(asked))

    @staticmethod
    def _give(
        asked: Iterable[tuple[Question, asyncio.Future[Answer]]], found: Iterable[Answer]
    ) -> None:
        for (_, answer), given in zip(asked, found, strict=True):
            if not answer.done():
                answer.set_result(given)

    @staticmethod
    def _refuse(asked: Iterable[tuple[Question, asyncio.Future[Answer]]], evidence: str) -> None:
        for _, answer in asked:
            if not answer.done():
                answer.set_exception(DatabaseUnavailable(evidence))
