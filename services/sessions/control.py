"""Messages between nodes: revocations, replaced sockets, and acknowledgements.

They are logged messages of the nodes' own room: a Redis Stream that each node reads from where it
stopped, so a lost connection loses nothing. The rows in the database are the fallback
(`Revocations.sweep`). Acknowledgements are ephemeral: they matter only to a request that waits.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import msgspec

from services.bus.bus import Bus
from services.errors import StoreUnavailable
from services.metrics import Metrics

CONTROL_ROOM = "nodes"
"""The room of messages between nodes. No client can use a room of this name."""
Kind = Literal["session", "token", "user", "bearer", "role", "access"]
ACKNOWLEDGED = b"a"

log = logging.getLogger("usher.control")


class Revocation(msgspec.Struct, frozen=True):
    """A revocation.

    Attributes:
        kind: the type of `subject`. "session": a login session (`sid`). "token": an access token
            (`jti`). "user": a user whose login sessions of an older `generation` have ended.
            "bearer": an access token (`jti`) that is bound to the socket session `exempt`. "role":
            a user whose tokens and sockets with a role other than `role` have ended. "access": a
            channel in which the rights of `user_id` have changed ("*": of any user).
        created_at: epoch seconds.
        id: number of its row, by which a repeated message is recognised.
        exempt: the session that stays open, or empty: a socket session for "bearer", else a login
            session.
    """

    kind: Kind
    subject: str
    user_id: str
    reason: str
    created_at: float
    id: int
    role: str = ""
    generation: int = 0
    exempt: str = msgspec.field(default="", name="spared")


class NodeMessage(msgspec.Struct, frozen=True):
    """A message from one node to the others.

    Attributes:
        node: the sender.
        request: id of the request that waits for acknowledgements, or empty.
        revocations: revocations to apply.
        replaced: socket sessions whose bearer token has opened another socket elsewhere.
    """

    node: str
    request: str = ""
    revocations: tuple[Revocation, ...] = ()
    replaced: tuple[str, ...] = ()


class Acknowledgement(msgspec.Struct, frozen=True):
    """A node has applied the revocations of a request. `closed`: number of sockets it closed."""

    request: str
    node: str
    closed: int


_NODE_MESSAGE = msgspec.json.Decoder(NodeMessage)
_ACKNOWLEDGEMENT = msgspec.json.Decoder(Acknowledgement)


class NodeTransport(Protocol):
    """The transport of messages between nodes. `Rooms` implements it."""

    async def receive_from_nodes(self, on_message: Callable[[bytes], None]) -> None:
        """Call `on_message` with each logged message of CONTROL_ROOM, from now on."""

    async def read_missed_from_nodes(self) -> bool:
        """Read CONTROL_ROOM from the last message on. False if a part may be lost.

        Raises:
            StoreUnavailable: it can't be read.
        """

    def on_ephemeral(self, kind: bytes, act: Callable[[str, bytes], None]) -> None:
        """Call `act` with the room and body of each ephemeral message of this kind."""

    def send_ephemeral(self, name: str, kind: bytes, body: bytes) -> None:
        """Send an ephemeral message to the same part on every node."""


Revoked = Callable[[Sequence[Revocation]], int]


class Control:
    """Sends and receives messages between nodes.

    Args:
        node: id of this process.
    """

    def __init__(self, bus: Bus, transport: NodeTransport, node: str, metrics: Metrics) -> None:
        self._bus, self._transport, self._node, self._metrics = bus, transport, node, metrics
        self._on_revoked: Revoked | None = None
        self._on_replaced: Callable[[str], None] | None = None
        self._waiting: dict[str, asyncio.Queue[Acknowledgement]] = {}
        transport.on_ephemeral(ACKNOWLEDGED, self._acknowledged)

    def on_revocations(self, act: Revoked) -> None:
        """Call `act` with revocations of other nodes; it returns how many sockets it closed."""
        self._on_revoked = act

    def on_replaced(self, act: Callable[[str], None]) -> None:
        """Call `act` with socket sessions to close: another socket uses their token."""
        self._on_replaced = act

    async def open(self) -> None:
        """Subscribe to messages of the other nodes."""
        await self._transport.receive_from_nodes(self._on_node_message)

    async def publish(self, revocations: Sequence[Revocation], request: str = "") -> bool:
        """Notify the other nodes. This node has applied the revocations already.

        Returns:
            False while Redis is unavailable: the others will read the rows.
        """
        return await self._send_to_nodes(NodeMessage(self._node, request, tuple(revocations)))

    async def replace(self, session_id: str) -> None:
        """Ask the other nodes to close a socket session (4409)."""
        await self._send_to_nodes(NodeMessage(self._node, replaced=(session_id,)))

    async def _send_to_nodes(self, message: NodeMessage) -> bool:
        try:
            await self._bus.keep(CONTROL_ROOM, msgspec.json.encode(message))
        except StoreUnavailable as error:
            self._metrics.news_untold.inc()
            # Logged at DEBUG only: the store has already logged that Redis is lost.
            log.debug("other nodes not notified; they will read the rows: %s", error.evidence)
            return False
        return True

    async def read_missed(self) -> bool:
        """Read messages that were published and not received.

        Returns:
            False if a part of them may be lost.

        Raises:
            StoreUnavailable: Redis can't be read, or refuses writes, so that no node can publish.
        """
        await self._bus.touch(CONTROL_ROOM)
        return await self._transport.read_missed_from_nodes()

    def request(self) -> Request:
        """Start gathering acknowledgements. Call this before publishing."""
        return Request(secrets.token_urlsafe(8), self._waiting)

    def _on_node_message(self, body: bytes) -> None:
        try:
            message = _NODE_MESSAGE.decode(body)
        except msgspec.DecodeError:
            log.warning("ignored a message of another version of Usher; its rows will be read")
            return
        if message.node == self._node:
            return
        closed = self._on_revoked(message.revocations) if self._on_revoked is not None else 0
        if self._on_replaced is not None:
            for session_id in message.replaced:
                self._on_replaced(session_id)
        if message.request:
            answer = Acknowledgement(message.request, self._node, closed)
            self._transport.send_ephemeral(CONTROL_ROOM, ACKNOWLEDGED, msgspec.json.encode(answer))

    def _acknowledged(self, room: str, body: bytes) -> None:
        try:
            answer = _ACKNOWLEDGEMENT.decode(body)
        except msgspec.DecodeError:
            return  # a node of another version: treated as one that does not answer
        queue = self._waiting.get(answer.request)
        if room == CONTROL_ROOM and queue is not None and not queue.full():
            queue.put_nowait(answer)


class Request:
    """Gathers the acknowledgements of one request. A context manager."""

    def __init__(self, name: str, waiting: dict[str, asyncio.Queue[Acknowledgement]]) -> None:
        self.name, self._waiting = name, waiting
        self._queue: asyncio.Queue[Acknowledgement] = asyncio.Queue(maxsize=10_000)

    def __enter__(self) -> Request:
        self._waiting[self.name] = self._queue
        return self

    def __exit__(self, *_: object) -> None:
        del self._waiting[self.name]

    async def gather(self, nodes: set[str], seconds: float) -> dict[str, int]:
        """Number of sockets that each of `nodes` has closed, without nodes that did not answer."""
        closed: dict[str, int] = {}
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while nodes - closed.keys() and (left := end - loop.time()) > 0:
            try:
                answer = await asyncio.wait_for(self._queue.get(), left)
            except asyncio.TimeoutError:
                break
            closed[answer.node] = answer.closed
        return closed
