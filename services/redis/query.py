"""Sends a single query to a Redis server on a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from hiredis import ProtocolError, Reader, ReplyError

from services.errors import StoreUnavailable
from services.event_loop.tasks import end_tasks
from services.redis.address import RedisAddress
from services.redis.link import command_name, error_word, pack
from services.redis.store import Command

PATIENCE_SECONDS = 0.3
"""How long the slow ones of several servers are waited for once one has answered."""

_INCOMPLETE = object()


class Question(asyncio.Protocol):
    """Sends a few commands and collects the replies. Then its connection may be handed over."""

    def __init__(self, commands: Sequence[Command]) -> None:
        self._commands = commands
        self._replies: list[Any] = []
        self._reader = Reader(notEnoughData=_INCOMPLETE)
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

    async def answer(self) -> list[Any]:
        """The replies, in order.

        Raises:
            StoreUnavailable: one of them is an error, or the connection was lost.
        """
        replies = await self._answer
        for command, reply in zip(self._commands, replies, strict=True):
            if isinstance(reply, ReplyError):
                raise StoreUnavailable(f"{command_name(command)}: {error_word(reply)}")
        return replies

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(b"".join(map(pack, self._commands)))

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _INCOMPLETE:
                self._replies.append(reply)
        except ProtocolError:
            self._fail("redis: not the Redis protocol")
        if len(self._replies) >= len(self._commands) and not self._answer.done():
            self._answer.set_result(self._replies[: len(self._commands)])

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("redis: connection closed")

    def _fail(self, evidence: str) -> None:
        if not self._answer.done():
            self._answer.set_exception(StoreUnavailable(evidence))
            self._answer.exception()  # marked as retrieved: the caller may be gone

    def hand_over(self, protocol: asyncio.Protocol) -> None:
        """Give the connection to another protocol, as if it were new.

        Raises:
            StoreUnavailable: the connection was lost in between.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise StoreUnavailable("redis: connection closed")
        transport.set_protocol(protocol)
        protocol.connection_made(transport)

    def hang_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def ask(address: RedisAddress, *commands: Command) -> list[Any]:
    """Send commands to one server, after the login and the rest of the greeting.

    Raises:
        OSError: the server cannot be reached.
        StoreUnavailable: the server replied with an error, or closed the connection.
    """
    question = Question((*address.greeting, *commands))
    try:
        await address.connect(question)
        return (await question.answer())[-len(commands) :]
    finally:
        question.hang_up()


async def ask_all(
    addresses: Sequence[RedisAddress], *commands: Command
) -> list[tuple[RedisAddress, list[Any]]]:
    """Query several servers at once. The caller sets a timeout.

    Returns:
        The replies of the servers that answered, at least one. After the first reply the others
        have a short time: a frozen or unreachable server must not delay a fail-over.

    Raises:
        StoreUnavailable: no server answered without an error.
    """
    loop = asyncio.get_running_loop()
    asked = {loop.create_task(ask(address, *commands)): address for address in addresses}
    waiting, end = set(asked), loop.time() + PATIENCE_SECONDS
    answers: list[tuple[RedisAddress, list[Any]]] = []
    evidence = "redis: no connection"
    try:
        while waiting:
            patience = max(0.0, end - loop.time()) if answers else None
            done, waiting = await asyncio.wait(
                waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                break
            for task in done:
                if (error := task.exception()) is None:
                    answers.append((asked[task], task.result()))
                else:
                    evidence = _evidence_of(error)
    finally:
        await end_tasks(*asked)
    if not answers:
        raise StoreUnavailable(evidence)
    return answers


def _evidence_of(error: BaseException) -> str:
    if isinstance(error, StoreUnavailable):
        return error.evidence
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__
