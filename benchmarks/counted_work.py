"""Fixed pieces of a server's work, for benchmarks/instructions.py to count.

Each piece is done in blocks. Of a figure's blocks the least counts: what disturbs a block (a look
of the collector, replies that came one by one instead of together) adds instructions.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import redis

from benchmarks import compare
from benchmarks.accounts import Login, TokenMint, sign_in
from benchmarks.callgrind import CountedServer, counted
from benchmarks.crowd import Member, Tally, leave_all, open_crowd
from benchmarks.first_joins import Person, copies
from benchmarks.http_load import call_all, request
from benchmarks.measure_fanout import Room, said
from benchmarks.measure_messages import Talker
from benchmarks.reactor import Reactor
from benchmarks.servers import free_port, running, usher_command
from benchmarks.sizes import LIMITS, TOKEN_TTL_SECONDS
from benchmarks.ws_load import TEXT, handshake, masked_frame, open_all, visit
from services.embedded.redis_server import EmbeddedRedis

JOIN, USER_JOIN, FIRST_JOIN = "join by subprotocol", "join by user-join", "first join"
MESSAGE, DELIVERY, PIPELINED = "request with reply", "delivery", "delivery, 8 under way"
FIGURES = (JOIN, USER_JOIN, FIRST_JOIN, MESSAGE, DELIVERY, PIPELINED)

BLOCKS = 5
JOINS, LANES = 60, 10
CROWD = 50
"""People who join for the first time in one block, all at once."""
REQUESTS = 500
MEMBERS, SINGLES, MESSAGES, WINDOW = 100, 20, 80, 8
WARM_UP = 20
SETTLE_SECONDS = 0.3
"""For what goes on behind the last answer. An idle server is counted with 0.15 million a second."""
SECONDS = 120.0

Block = Callable[[], int]
"""Does a block; gives how many operations that were."""


@dataclass
class People:
    """Who joins: the logins of two accounts, and copies of one of them, for first joins."""

    mint: TokenMint
    owner: Login
    member: Login
    room: str
    strangers: Iterator[Person]


class CountedWork:
    """The pieces of work, on one server under callgrind."""

    def __init__(self, server: CountedServer, people: People, data_dir: Path) -> None:
        self._server, self._people, self._data_dir = server, people, data_dir

    def count(self, figure: str, blocks: int = BLOCKS) -> float:
        """Instructions for each operation of a figure: the least of so many blocks."""
        with ExitStack() as stack:
            pieces: dict[str, Callable[[ExitStack], Callable[[], Block]]] = {
                JOIN: self._joins,
                USER_JOIN: self._user_joins,
                FIRST_JOIN: self._first_joins,
                MESSAGE: self._messages,
                DELIVERY: lambda open_: self._deliveries(open_, SINGLES, 1),
                PIPELINED: lambda open_: self._deliveries(open_, MESSAGES, WINDOW),
            }
            prepared = pieces[figure](stack)
            return min(self._one_block(prepared) for _ in range(blocks))

    def _one_block(self, prepared: Callable[[], Block]) -> float:
        block = prepared()
        time.sleep(SETTLE_SECONDS)
        self._server.begin()
        done = block()
        self._server.run_loops()
        time.sleep(SETTLE_SECONDS)
        return self._server.end() / done

    def _joins(self, stack: ExitStack) -> Callable[[], Block]:
        visit(self._server.address, self._upgrades(WARM_UP), b'"joined"', LANES)

        def prepared() -> Block:
            upgrades = self._upgrades(JOINS)
            return lambda: visit(self._server.address, upgrades, b'"joined"', LANES, SECONDS)

        return prepared

    def _user_joins(self, stack: ExitStack) -> Callable[[], Block]:
        compare.by_user_join(self._server.address, self._tokens(WARM_UP), LANES)

        def prepared() -> Block:
            tokens = self._tokens(JOINS)

            def join() -> int:
                compare.by_user_join(self._server.address, tokens, LANES)
                return JOINS

            return join

        return prepared

    def _first_joins(self, stack: ExitStack) -> Callable[[], Block]:
        self._come_back()()

        return self._come_back

    def _come_back(self) -> Block:
        """Empty Redis; people whom it does not know join at once."""
        with closing(redis.Redis.from_url(EmbeddedRedis(self._data_dir, Path()).url)) as store:
            store.flushall()
        mint, member, address = self._people.mint, self._people.member, self._server.address
        people = islice(self._people.strangers, CROWD)
        upgrades = [handshake(address, mint.another(member, **person)) for person in people]
        return lambda: visit(address, upgrades, b'"joined"', CROWD, SECONDS)

    def _messages(self, stack: ExitStack) -> Callable[[], Block]:
        reactor, (upgrade,) = Reactor(), self._upgrades(1)
        stack.callback(reactor.close)
        talker = Talker(reactor, self._server.address, upgrade, b'"joined"', b'"ok":true', 1)
        open_all(reactor, [talker], seconds=SECONDS)

        def talk() -> int:
            talker.start(REQUESTS)
            reactor.run_until(lambda: not talker.left, SECONDS, MESSAGE)
            return REQUESTS

        talk()
        return lambda: talk

    def _deliveries(self, stack: ExitStack, messages: int, at_once: int) -> Callable[[], Block]:
        reactor, tally = Reactor(), Tally()
        stack.callback(reactor.close)
        address, mint, owner = self._server.address, self._people.mint, self._people.owner
        members: list[Member] = []

        def arriving() -> Member:
            upgrade = handshake(address, mint.another(owner))
            members.append(Member(reactor, address, upgrade, b'"joined"', tally))
            return members[-1]

        open_crowd(reactor, (arriving() for _ in range(MEMBERS)), MEMBERS, LANES)
        stack.callback(leave_all, members)
        reactor.run_for(2 * SETTLE_SECONDS)  # who came in is told to all
        frame = masked_frame(TEXT, said(self._people.room))
        room = Room(reactor, members, tally, frame, DELIVERY)

        def say() -> int:
            room.say(messages, at_once)
            return messages * MEMBERS

        room.say(WINDOW, at_once)
        return lambda: say

    def _tokens(self, count: int) -> list[str]:
        return [self._people.mint.another(self._people.member) for _ in range(count)]

    def _upgrades(self, count: int) -> list[bytes]:
        return [handshake(self._server.address, token) for token in self._tokens(count)]


@contextmanager
def counted_work(tree: Path) -> Iterator[CountedWork]:
    """Start the server of a worktree under callgrind, with people and a room in it.

    They are made before, without callgrind: Argon2 alone would take a minute.
    """
    folder = Path(tempfile.mkdtemp(prefix="usher-instructions-"))
    try:
        port, secret = free_port(), secrets.token_urlsafe(48)
        settings = {
            **LIMITS,
            "USHER_JWT_SECRETS": secret,
            "USHER_ACCESS_TOKEN_TTL_SECONDS": str(TOKEN_TTL_SECONDS),
            "USHER_LEASE_SECONDS": "600",
            "USHER_JOIN_TIMEOUT_SECONDS": "600",
            "USHER_PORT": str(port),
            "USHER_DATA_DIR": str(folder),
        }
        with running(usher_command(folder, port), settings, None, tree) as server:
            owner, member = sign_in(server.address, 2, 2)
            wanted = {"name": "Bench", "private": True}
            asked = request(server.address, "POST", "/api/channels", wanted, owner.access_token)
            (answer,) = call_all(server.address, [asked], connections=1)
        room = f"channel:{answer.data(201)['id']}"
        strangers = copies(folder, member, CROWD * 4 * BLOCKS)
        people = People(TokenMint(secret), owner, member, room, iter(strangers))
        with counted(tree, settings) as counting:
            yield CountedWork(counting, people, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
