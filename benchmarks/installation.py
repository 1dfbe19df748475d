"""An installation of one or two nodes with a room in it: one Redis, one database, one channel.

Its people are of two kinds. A few are real: signed up and signed in over HTTP. The many that a
room needs are written into Redis as the server itself notes who a login session is
(services/sessions/login_cache.py, whose types and keys are used here), because signing up thousands
is an hour of Argon2. A join does not see the difference: it asks Redis and not the database.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path

import msgspec
import redis

from benchmarks import machine
from benchmarks.accounts import Login, TokenMint, sign_in
from benchmarks.http_load import call_all, request
from benchmarks.servers import Server, free_port, running, usher_command
from benchmarks.sizes import LIMITS, TOKEN_TTL_SECONDS, Sizes
from services.embedded.redis_server import EmbeddedRedis
from services.grants.rules import Grant, Right
from services.sessions.login_cache import LoginState, login_key
from services.sockets.room_index import room_index_key

MARK = "\u00a6"
"""A broken bar: no other text of a run has one, so it can be counted without parsing frames."""
AHEAD_SECONDS = 60.0
"""Notes of people are dated so far ahead, as if made well after the channel was: one made just
after a change of rights is not believed, and the database asked."""
MAX_PIPELINE = 5_000
DIRECT, THROUGH_TORNADO = "direct", "tornado"
"""Forms of the socket, as the setting WEBSOCKET has them."""


@dataclass(frozen=True)
class Person:
    """A user with a login session that exists in Redis only."""

    user_id: str
    login_session_id: str


class Installation:
    """The data folders, settings and people. Node A has Redis and the database, B uses them."""

    def __init__(self, sizes: Sizes, cores: machine.Cores, folder: Path) -> None:
        self._sizes, self._cores, self._folder = sizes, cores, folder
        self._ports = free_port(), free_port()
        self.origin = f"http://127.0.0.1:{self._ports[0]}"
        secret = secrets.token_urlsafe(48)
        self._settings = {
            **LIMITS,
            "USHER_JWT_SECRETS": secret,
            "USHER_ENCRYPTION_KEYS": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "USHER_ACCESS_TOKEN_TTL_SECONDS": str(TOKEN_TTL_SECONDS),
            "USHER_PUBLIC_URL": self.origin,
            "USHER_DATABASE_URL": f"sqlite:///{folder / 'installation.db'}",
        }
        self.secret = secret
        self.mint = TokenMint(secret)
        self._open, self._kept = ExitStack(), dict[str, list[Server]]()
        self._people: list[Person] = []
        self._turns: Iterator[Person] = iter(())
        folder.mkdir(parents=True)
        with self._running(1, None) as (server,):
            self.owner, *_ = sign_in(server.address, 1, 1)
            self.logins = sign_in(server.address, 1, min(sizes.logins, 20))
            wanted = {"name": "Bench", "private": True}
            asked = request(
                server.address, "POST", "/api/channels", wanted, self.owner.access_token
            )
            (answer,) = call_all(server.address, [asked], connections=1)
        self._channel_id = str(answer.data(201)["id"])

    def close(self) -> None:
        """Stop the nodes that were kept."""
        self._open.close()

    @property
    def room(self) -> str:
        """The room: a private channel of the owner, and of the people that are written in."""
        return f"channel:{self._channel_id}"

    # ---- nodes -----------------------------------------------------------------------------

    @contextmanager
    def nodes(self, count: int, socket: str = DIRECT) -> Iterator[list[Server]]:
        """Fresh nodes, pinned; the generator is on the load's core with Redis.

        ``socket``: the form of their sockets, as the setting WEBSOCKET has it.
        """
        with ExitStack() as stack:
            if self._sizes.keep_servers:
                if socket not in self._kept:  # both forms want the same ports and data folders
                    self._open.close()
                    both = self._running(2, self._cores, socket)
                    self._kept = {socket: self._open.enter_context(both)}
                servers = self._kept[socket][:count]
            else:
                servers = stack.enter_context(self._running(count, self._cores, socket))
            stack.enter_context(machine.working_on(self._cores.load))
            yield servers

    @contextmanager
    def _running(
        self, count: int, cores: machine.Cores | None, socket: str = DIRECT
    ) -> Iterator[list[Server]]:
        with ExitStack() as stack:
            settings = {**self._settings, "USHER_WEBSOCKET": socket}
            command = usher_command(self._folder / "a", self._ports[0])
            servers = [stack.enter_context(running(command, settings, cores))]
            if count > 1:
                command = usher_command(self._folder / "b", self._ports[1])
                settings = {**settings, "USHER_REDIS_URL": self._redis_url}
                its_cores = None if cores is None else replace(cores, server=cores.second)
                servers.append(stack.enter_context(running(command, settings, its_cores)))
            yield servers

    @property
    def _redis_url(self) -> str:
        """Where node A's embedded Redis listens; nothing is started by asking."""
        return EmbeddedRedis(self._folder / "a", Path()).url

    def redis(self) -> redis.Redis:
        """A client of node A's Redis, to write synthetic records with."""
        return redis.Redis.from_url(self._redis_url)

    # ---- people ----------------------------------------------------------------------------

    def sign_in(self, count: int) -> list[Login]:
        """So many further login sessions of a few users who are not in the room."""
        keep = self._sizes.keep_servers
        with self.nodes(1) if keep else self._running(1, None) as (server,):
            return sign_in(server.address, self._sizes.users, count)

    def tokens(self, people: int, count: int, marked: bool = False) -> list[str]:
        """New access tokens of so many people who may be in the room, in turn.

        To be asked for while a node runs. ``marked``: the last person has the mark in the name.
        """
        self.choose(people)
        self._write_people(marked)
        return self.sign(count)

    def choose(self, people: int) -> list[Person]:
        """So many made-up people; the same as last time where their number is the same."""
        if people != len(self._people):
            self._people = [
                Person(secrets.token_urlsafe(16), secrets.token_urlsafe(16)) for _ in range(people)
            ]
            self._turns = cycle(self._people)
        return self._people

    def sign(self, count: int) -> list[str]:
        """New access tokens of the people chosen last, in turn."""
        return [
            self.mint.another(self.logins[0], sub=person.user_id, sid=person.login_session_id)
            for _, person in zip(range(count), self._turns, strict=False)
        ]

    def empty_room(self) -> None:
        """Forget who was in the room: a stopped node's people stay there until their lease ends."""
        with self.redis() as client:
            client.delete(room_index_key(self.room))

    def _write_people(self, marked: bool) -> None:
        now = time.time()
        grants = {self._channel_id: Grant(Right.WRITE, now)}
        last = self._people[-1]
        with self.redis() as client:
            pipeline = client.pipeline(transaction=False)
            for number, person in enumerate(self._people):
                name = f"Person {number}" + (MARK if marked and person is last else "")
                state = LoginState(
                    name, "user", now + TOKEN_TTL_SECONDS, now + AHEAD_SECONDS, grants, 0
                )
                key = login_key(person.user_id, person.login_session_id)
                pipeline.set(key, msgspec.json.encode(state), ex=TOKEN_TTL_SECONDS)
                if len(pipeline) >= MAX_PIPELINE:
                    pipeline.execute()
            pipeline.execute()
