"""One user's client: it stays in its room over faults, and records its messages.

Messages of a room are numbered by who sends them. What a reader has, and what it was told that it
may have lost, are bits of one number each: 5,000 readers with some hundred messages are small.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from tests.soak.connection import OWN, Connection

if TYPE_CHECKING:
    from tests.soak.crowd import Crowd

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
"""Seconds. docs/protocol.md has 30: here a fault comes each minute."""
LASTED_SECONDS = 5.0
FIRST_AGAIN, LONGEST_AGAIN = 1.0, 30.0
"""Seconds until `history` or `join` is asked again: thousands must not ask at once, again and
again, what nobody can answer."""
_SAID = re.compile(rb'"id":"(\d+)-(\d+)".*"data":\{"n":(\d+)\}')
_MESSAGE, _GAP = b'{"event":"message"', b'{"event":"gap"'
_REPLY, _CLOSING = b'{"event":"reply","id":"', b'{"event":"closing"'
_EXPIRING = b'{"event":"token-expiring"'

Id = tuple[int, int]


class Socket(Connection):
    """The connection that a reader has now."""

    def __init__(self, reader: Reader, node: int) -> None:
        crowd = reader.crowd
        self.reader, self.node = reader, node
        super().__init__(crowd.reactor, crowd.addresses[node], crowd.upgrade(node, reader.session))

    def on_text(self, payload: bytes) -> None:
        self.reader.on_text(payload)

    def on_end(self) -> None:
        self.reader.on_end(self)


class Reader:
    """A login session with one socket, which comes back whenever it is closed.

    Attributes:
        have: bit n: message n of the room arrived, live or from history.
        reported: bit n: this message was reported as possibly lost (`gap` or `complete: false`).
        first: the first message that it is entitled to; None before its first join.
        revoked_at: when its logout was acknowledged (monotonic), None while it was not.
    """

    def __init__(self, crowd: Crowd, session: int) -> None:
        self.crowd, self.session = crowd, session
        self.room = crowd.at.room_of(session)
        self.have = self.reported = self.live = 0
        self.first: int | None = None
        self.last: Id | None = None
        self._catching: Id | None = None
        self._is_catching = False
        self.is_in = self.is_joined = self.is_leaving = False
        self.revoked_at: float | None = None
        self.is_retired = False
        self.socket: Socket | None = None
        self._joined_at = 0.0
        self._pause, self._again = FIRST_PAUSE, FIRST_AGAIN
        self._node = random.randrange(len(crowd.addresses))

    # ---- coming and going ------------------------------------------------------------------

    def open(self) -> None:
        """Connect, at the other node than last time."""
        if self.is_retired:
            return
        self._node = (self._node + 1) % len(self.crowd.addresses)
        self.live, self._is_catching = 0, False
        self.socket = Socket(self, self._node)
        if self.socket.is_over:
            self.on_end(self.socket)

    def on_end(self, socket: Socket) -> None:
        was_joined, self.is_joined, self.is_in = self.is_joined, False, False
        self.socket = None
        self.crowd.ended(self, socket, was_joined)
        if self.is_retired:
            return
        if was_joined and time.monotonic() - self._joined_at > LASTED_SECONDS:
            self._pause = FIRST_PAUSE
        pause = random.uniform(0, self._pause)
        self._pause = min(LONGEST_PAUSE, self._pause * 2)
        self.crowd.later(pause, lambda: self.crowd.wants_in(self))

    def _on_joined(self) -> None:
        self.is_joined = self.is_in = True
        self._joined_at = time.monotonic()
        self.crowd.joined(self)
        if self.first is None:
            self.first = self.crowd.rooms[self.room].next
        else:
            self.catch_up()

    def hop(self) -> None:
        """Close, and come back."""
        if self.socket is not None:
            self.socket.code = OWN
            self.socket.end()

    def leave(self) -> None:
        """Leave the room for a moment."""
        if self.is_in and self.socket is not None and not self._is_catching:
            # From here on, as a message may come before the answer to `join`.
            self.is_in, self._is_catching, self._catching = False, True, self.last
            self._say(b'{"event":"leave","id":"l","data":{"room":"%b"}}' % self._name)
            self.crowd.later(2.0, self._enter)

    def _enter(self) -> None:
        if self.is_joined and not self.is_in:
            self._say(b'{"event":"join","id":"j","data":{"room":"%b"}}' % self._name)

    # ---- what arrives ----------------------------------------------------------------------

    @property
    def _name(self) -> bytes:
        return b"channel:soak-c%d" % self.room

    def _say(self, text: bytes) -> None:
        if self.socket is not None:
            self.socket.say(text)

    def say(self, number: int) -> None:
        """Send message `number` of the room."""
        self._say(
            b'{"event":"message","id":"m%d","data":{"room":"%b","data":{"n":%d}}}'
            % (number, self._name, number)
        )

    def on_text(self, payload: bytes) -> None:
        if self.revoked_at is not None:
            self.crowd.frame_after(self, payload)
        if payload.startswith(_MESSAGE):
            self._on_message(payload)
        elif payload.startswith(_REPLY):
            self._on_reply(payload)
        else:
            self._on_event(payload)

    def _on_event(self, payload: bytes) -> None:
        if not self.is_joined and b'"joined"' in payload:
            self._on_joined()
        elif payload.startswith(_GAP):
            if self._name in payload:
                self._is_told()
        elif payload.startswith(_EXPIRING):
            token = self.crowd.at.token(self.session).encode()
            self._say(b'{"event":"token-refresh","id":"t","data":{"token":"%b"}}' % token)
        elif payload.startswith(_CLOSING) and self.socket is not None:
            self.socket.code = msgspec.json.decode(payload)["data"]["code"]

    def _on_message(self, payload: bytes) -> None:
        found = _SAID.search(payload)
        if found is None:
            return
        bit = 1 << int(found[3])
        if self.live & bit:
            self.crowd.period.repeated += 1
        self.live |= bit
        self.have |= bit
        self.crowd.delivered += 1
        self._reached((int(found[1]), int(found[2])))

    def _reached(self, message_id: Id) -> None:
        # Not while history is read: a connection that ends then begins again behind the last
        # message of before.
        if self._is_catching:
            self._catching = max(self._catching or message_id, message_id)
        else:
            self.last = message_id

    def _on_reply(self, payload: bytes) -> None:
        kind = payload[len(_REPLY) : len(_REPLY) + 1]
        is_good = b'"ok":true' in payload[:64]
        if kind == b"m":
            number = int(payload[len(_REPLY) + 1 :].partition(b'"')[0])
            self.crowd.answered(self.room, number, is_good)
        elif kind == b"h":
            if is_good:
                self._on_history(msgspec.json.decode(payload)["data"])
            else:
                self._later(self._ask_again)
        elif kind == b"j":
            if is_good:
                self.is_in = True
                self._ask(self.last)
            else:
                self._later(self._enter)

    # ---- what was missed -------------------------------------------------------------------

    def catch_up(self) -> None:
        """Ask for what was said since the last message that is known."""
        if self.is_joined and not self._is_catching:
            self._is_catching, self._catching = True, self.last
            self._ask(self.last)

    def _later(self, act: Callable[[], None]) -> None:
        self.crowd.later(random.uniform(self._again / 2, self._again), act)
        self._again = min(LONGEST_AGAIN, self._again * 2)

    def _ask_again(self) -> None:
        if self.is_in and self._is_catching:
            self._ask(self.last)

    def _ask(self, after: Id | None) -> None:
        tail = b',"after":"%d-%d"' % after if after is not None else b""
        self._say(b'{"event":"history","id":"h","data":{"room":"%b"%b}}' % (self._name, tail))

    def _on_history(self, data: dict[str, object]) -> None:
        messages = data["messages"]
        assert isinstance(messages, list)
        page: Id | None = None
        for message in messages:
            self.have |= 1 << message["data"]["n"]
            ms, _, count = message["id"].partition("-")
            page = int(ms), int(count)
            self._catching = max(self._catching or page, page)
        self.crowd.from_history += len(messages)
        self._again = FIRST_AGAIN
        if not data["complete"]:
            self._is_told()
        if data["more"] and page is not None:
            self._ask(page)
            return
        self.last, self._is_catching = self._catching, False

    def _is_told(self) -> None:
        """Messages may be lost: those that were not sent yet are none of them."""
        self.reported |= (1 << self.crowd.rooms[self.room].next) - 1
        self.crowd.gaps += 1
        self.crowd.period.gaps += 1
        if not self._is_catching:
            self.last = None
            self.catch_up()

    def lost(self, acknowledged: int) -> int:
        """Number of acknowledged messages it was entitled to and that were lost silently."""
        return self._count(acknowledged & ~self.have & ~self.reported)

    def told_lost(self, acknowledged: int) -> int:
        """Number of lost messages that were reported."""
        return self._count(acknowledged & ~self.have & self.reported)

    def _count(self, bits: int) -> int:
        return 0 if self.first is None else (bits >> self.first).bit_count()
