"""Dispatches new connections by their first bytes: to a socket at once, or to Tornado.

A complete plain opening handshake (plain_head.py) is answered here. Every other connection is
handed to Tornado unchanged: its bytes are only peeked at (`MSG_PEEK`) and stay unread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
import select
import socket
from collections.abc import Callable
from functools import partial
from itertools import takewhile
from typing import Any

from handlers.websocket import handshake
from handlers.websocket.plain_head import MAX_PLAIN_BYTES, PlainHead, ReadHead, plain_head
from handlers.websocket.unjoined import UnjoinedConnections
from handlers.websocket.upgrade import (
    OpeningHandshake,
    Presented,
    UpgradeHandler,
    refusal_text,
)
from services.errors import Overdue, UsherError
from services.event_loop.rotation import HANDSHAKES_AT_ONCE, Rotation, UnderWay
from services.rooms.joins import Credential
from services.websocket.connection import READ_BYTES

SILENCE_SECONDS = 0.5
"""A connection that sends nothing for this time, or up to twice this time, is passed to Tornado,
which limits idle connections."""

OVERDUE_SECONDS = 5.0
"""How long a connection may wait for its turn. Clients wait 10 seconds for an answer (the
JavaScript client does), and part of that is for the answer itself."""

FAILED = "an opening handshake failed"

log = logging.getLogger("usher.arrivals")


class Arrival:
    """One new connection.

    Attributes:
        sock: connected and non-blocking.
        address: the peer's address, as the system reports it.
        peer: the same without the port.
        group: the address that it counts for until it joins; see `UnjoinedConnections`.
        at: when it was accepted, by the event loop's clock.
    """

    __slots__ = ("address", "at", "group", "peer", "sock")

    def __init__(
        self, sock: socket.socket, address: tuple[Any, ...], peer: str, group: str, at: float
    ) -> None:
        self.sock, self.address, self.peer, self.group, self.at = sock, address, peer, group, at


def overdue(arrival: Arrival, now: float) -> Overdue | None:
    """Why a connection whose turn has come is refused unread: it waited too long for it.

    Its client will have left, or will leave, before it is answered, and then comes again. If its
    request were served in spite of that, a crowd that takes longer than that to serve would never
    get smaller.

    Args:
        now: of the event loop's clock, seconds.
    """
    waited = now - arrival.at
    if waited < OVERDUE_SECONDS:
        return None
    # The crowd is as long as it took to get here. Spread, or it would come back as one.
    spread = 1 + secrets.randbelow(max(1, math.ceil(waited)))
    return Overdue(f"waited {waited:.1f} s for its turn", retry_after=spread)


class Arrivals:
    """Examines the first bytes of new connections.

    Args:
        upgrades: handles handshakes.
        unjoined: counts the connections of each address.
        under_way: counts handshakes whose credential is being looked at, by network.
        to_tornado: handles all other connections, and receives their first bytes, unread.
        refuse: refuses and closes a connection beyond the limit of its address.
        read_head: recognises plain handshakes.
    """

    def __init__(
        self,
        upgrades: UpgradeHandler,
        unjoined: UnjoinedConnections,
        under_way: UnderWay,
        to_tornado: Callable[[Arrival, bytes], None],
        refuse: Callable[[socket.socket], None],
        read_head: ReadHead = plain_head,
    ) -> None:
        self._upgrades, self._unjoined = upgrades, unjoined
        self._to_tornado, self._refuse_over_limit = to_tornado, refuse
        self._read_head = read_head
        self._shared, self.readers, self._loop = under_way, upgrades.readers, upgrades.loop
        self._rotation = Rotation(under_way, HANDSHAKES_AT_ONCE)
        self._poll = select.poll()
        self._silent: dict[Arrival, None] = {}
        """Of which nothing has come yet, the oldest first."""
        self._timer: asyncio.TimerHandle | None = None
        self._under_way: dict[Arrival, asyncio.Task[None]] = {}
        """Connections whose credential is being checked."""

    # ---- the first bytes -------------------------------------------------------------------

    def accepted(self, sock: socket.socket, address: tuple[Any, ...]) -> None:
        """Handle a new connection, which is non-blocking."""
        peer = str(address[0])
        group = self._unjoined.connected(peer)
        if group is None:
            self._refuse_over_limit(sock)
            return
        arrival = Arrival(sock, address, peer, group, self._loop.time())
        if (first := _peek(sock)) is not None:
            self._dispatch(arrival, first)
            return
        self._silent[arrival] = None
        self.readers.add_reader(sock.fileno(), partial(self._on_readable, arrival))
        if self._timer is None:
            self._timer = self._loop.call_later(SILENCE_SECONDS, self._pass_silent_to_tornado)

    def _on_readable(self, arrival: Arrival) -> None:
        first = _peek(arrival.sock)
        if first is not None:
            self._forget(arrival)
            self._dispatch(arrival, first)

    def _dispatch(self, arrival: Arrival, first: bytes) -> None:
        """Dispatch a connection by its first bytes."""
        head = self._read_head(first)
        if head is None:
            self._to_tornado(arrival, first)
            return
        read_away(arrival.sock, head.size)  # what is behind the head stays unread
        if self._rotation.begins_now():
            self._upgrade(arrival, head)
        else:
            network = arrival.group or self._unjoined.network(arrival.peer, head.fields)
            self._rotation.start(network, partial(self._upgrade, arrival, head))

    def _pass_silent_to_tornado(self) -> None:
        """Hand connections that have been silent for a while to Tornado."""
        loop = self._loop
        end = loop.time() - SILENCE_SECONDS
        for arrival in tuple(takewhile(lambda each: each.at <= end, self._silent)):
            self._forget(arrival)
            self._to_tornado(arrival, b"")
        self._timer = (
            loop.call_later(SILENCE_SECONDS, self._pass_silent_to_tornado) if self._silent else None
        )

    def _forget(self, arrival: Arrival) -> None:
        del self._silent[arrival]
        self.readers.remove_reader(arrival.sock.fileno())

    # ---- the handshake ---------------------------------------------------------------------

    def _upgrade(self, arrival: Arrival, head: PlainHead) -> None:
        late = overdue(arrival, self._loop.time())
        if late is not None:
            self._refuse(arrival, late)
            return
        upgrades = self._upgrades
        try:
            presented = upgrades.check(head.start, head.fields, arrival.peer)
            if presented.credential is None:  # nothing to wait for
                entry = upgrades.accept_unauthenticated(presented, head.fields, arrival.peer)
                self._open(arrival, head, presented, entry)
                return
        except UsherError as error:
            self._refuse(arrival, error)
            return
        except Exception:  # an error of one connection must not affect others accepted with it
            log.exception(FAILED)
            self._close(arrival)
            return
        network = arrival.group or self._unjoined.network_of(presented.address)
        self._shared.enter(network)
        work = self._admit(arrival, head, presented, presented.credential, network)
        self._under_way[arrival] = self._loop.create_task(work)

    async def _admit(
        self,
        arrival: Arrival,
        head: PlainHead,
        presented: Presented,
        credential: Credential,
        network: str,
    ) -> None:
        try:
            entry = await self._upgrades.admit(presented, credential)
            if self._has_left(arrival.sock):
                self._upgrades.abandon(entry)
                self._close(arrival)
            else:
                self._open(arrival, head, presented, entry)
        except UsherError as error:
            self._refuse(arrival, error)
        except asyncio.CancelledError:
            self._close(arrival)
            raise
        except Exception:  # an error must not leave the connection hanging
            log.exception(FAILED)
            self._close(arrival)
        finally:
            del self._under_way[arrival]
            self._shared.leave(network)

    def _open(
        self, arrival: Arrival, head: PlainHead, presented: Presented, entry: OpeningHandshake
    ) -> None:
        answer = handshake.answer(presented.accept, head.fields)
        self._upgrades.begin_on(arrival.sock, entry, answer, b"")
        self._stop_counting(arrival)

    def _has_left(self, sock: socket.socket) -> bool:
        """Whether the client left while its credential was checked, without a word more."""
        number = sock.fileno()
        self._poll.register(number, select.POLLIN)
        is_readable = self._poll.poll(0)  # half the cost of a peek that finds nothing
        self._poll.unregister(number)
        return bool(is_readable) and _peek(sock, 1) == b""

    def _refuse(self, arrival: Arrival, error: UsherError) -> None:
        read_away(arrival.sock, READ_BYTES)  # closing with unread bytes would reset the connection
        with contextlib.suppress(OSError):  # the client may have left
            arrival.sock.send(refusal_text(error))
        self._close(arrival)

    def _close(self, arrival: Arrival) -> None:
        arrival.sock.close()
        self._stop_counting(arrival)

    def _stop_counting(self, arrival: Arrival) -> None:
        if arrival.group:
            self._unjoined.leave(arrival.group)

    # ---- the end ---------------------------------------------------------------------------

    async def drain(self, seconds: float) -> None:
        """Close silent connections, and wait up to a number of seconds for handshakes in progress.
        Then close the remaining connections."""
        loop = self._loop
        end = loop.time() + seconds
        with contextlib.suppress(asyncio.TimeoutError):  # connections that wait in the rotation
            await asyncio.wait_for(self._rotation.idle(), seconds)
        for arrival in tuple(self._silent):
            self._forget(arrival)
            self._close(arrival)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._under_way:
            left = max(0.0, end - loop.time())
            _, late = await asyncio.wait(tuple(self._under_way.values()), timeout=left)
            for task in late:
                task.cancel()
            if late:
                log.warning("%d handshakes could not be answered in time", len(late))
                await asyncio.wait(late)


def _peek(sock: socket.socket, most: int = MAX_PLAIN_BYTES) -> bytes | None:
    """Peek at the first bytes, which stay unread. None if there are none yet."""
    try:
        return sock.recv(most, socket.MSG_PEEK)
    except (BlockingIOError, InterruptedError):
        return None
    except OSError:
        return b""  # it is gone, as Tornado will see


def first_bytes(sock: socket.socket) -> bytes:
    """What has come so far, which stays unread."""
    return _peek(sock) or b""


def read_away(sock: socket.socket, most: int) -> bytes:
    """Read up to a number of received bytes; empty if there are none, or the connection is lost."""
    try:
        return sock.recv(most)
    except OSError:
        return b""
