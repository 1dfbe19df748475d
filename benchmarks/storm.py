"""Measures a storm: nodes stop, and all of their sockets come back to the two nodes that are left.

    python -m benchmarks.storm                  # two of four nodes are killed, 20,000 sockets
    python -m benchmarks.storm --signal TERM    # they are stopped, and say when to come back

Every client does what static/usher.js does: it waits for a random part of its back-off, fetches a
ticket, joins with it and reads the history of its room; it gives up after 10 seconds without an
answer, and comes again with a longer pause. All nodes share one core, one Redis and one database.
"""

from __future__ import annotations

import argparse
import base64
import multiprocessing
import os
import secrets
import signal
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import redis

from benchmarks import machine
from benchmarks.accounts import TokenMint, sign_in
from benchmarks.compare import cpu_seconds
from benchmarks.errors import BenchmarkFailed
from benchmarks.first_joins import insert, row
from benchmarks.http_load import call_all, request
from benchmarks.installation import AHEAD_SECONDS
from benchmarks.reactor import Reactor
from benchmarks.servers import Server, free_port, running, usher_command
from benchmarks.sizes import LIMITS, TOKEN_TTL_SECONDS
from benchmarks.storm_clients import Crowd, Outcome, Person
from benchmarks.ws_load import TEXT, Client, handshake, masked_frame
from services.embedded.redis_server import EmbeddedRedis
from services.grants.rules import Grant, Right
from services.sessions.login_cache import LoginState, login_key

GENERATORS = 4
ROOM = 50
"""People in one room."""
MESSAGES = 10
"""In the history of each room."""
SETTLE_SECONDS = 2.0
PATIENCE_SECONDS = 120


class Speaker(Client):
    """Says something in a room, and waits for the reply to the last message."""

    def __init__(self, reactor: Reactor, server: Server, person: Person) -> None:
        self.replies, self._room = 0, person.room
        upgrade = handshake(server.address, token=person.token)
        super().__init__(reactor, server.address, upgrade, b'"joined"')

    def on_joined(self) -> None:
        said = {"event": "message", "id": 1, "data": {"room": self._room, "data": "x" * 100}}
        self.send(masked_frame(TEXT, msgspec.json.encode(said)) * MESSAGES)

    def on_text(self, payload: bytes) -> None:
        self.replies += payload.startswith(b'{"event":"reply","id":1,"ok":true')


class Storm:
    """The nodes, and the people who are on those that will go."""

    def __init__(self, stack: ExitStack, people: int) -> None:
        self._stack, self._cores = stack, machine.pick_cores()
        self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="usher-storm-")))
        self._secret = secrets.token_urlsafe(48)
        self._settings = {
            **LIMITS,
            "USHER_JWT_SECRETS": self._secret,
            "USHER_ENCRYPTION_KEYS": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "USHER_ACCESS_TOKEN_TTL_SECONDS": str(TOKEN_TTL_SECONDS),
            "USHER_DATABASE_URL": f"sqlite:///{self._folder / 'storm.db'}",
        }
        first = self._start("a")
        self._settings["USHER_REDIS_URL"] = EmbeddedRedis(self._folder / "a", Path()).url
        self.staying = [first, self._start("b")]
        self.going = [self._start("c", leaves=True), self._start("d", leaves=True)]
        (self._owner,) = sign_in(first.address, 1, 1)
        self.people = self._make_people(people)
        self._talk()

    def _start(self, name: str, leaves: bool = False) -> Server:
        port = free_port()
        self._settings.setdefault("USHER_PUBLIC_URL", f"http://127.0.0.1:{port}")
        command = usher_command(self._folder / name, port)
        return self._stack.enter_context(
            running(command, self._settings, self._cores, may_end=leaves)
        )

    def _make_people(self, count: int) -> list[Person]:
        """Everybody is a member of a room, has an address, and a login session that Redis knows."""
        mint, now = TokenMint(self._secret), time.time()
        rooms = self._make_rooms(-(-count // ROOM))
        people, users, members, states = [], [], [], {}
        for number in range(count):
            user_id, sid, room = (
                secrets.token_urlsafe(16),
                secrets.token_urlsafe(16),
                number // ROOM,
            )
            token = mint.another(self._owner, sub=user_id, sid=sid, role="user")
            source = f"127.1.{number // 250 % 250}.{number % 250 + 1}"
            people.append(Person(source, token, f"channel:{rooms[room]}"))
            users.append({"id": user_id, "email": f"{user_id}@example.com", "name": f"P {number}"})
            members.append({"channel_id": rooms[room], "user_id": user_id})
            grants = {rooms[room]: Grant(Right.WRITE, now)}
            states[login_key(user_id, sid)] = LoginState(
                f"P {number}", "user", now + TOKEN_TTL_SECONDS, now + AHEAD_SECONDS, grants, 0
            )
        self._write_rows(users, members, now)
        self._write_states(states)
        return people

    def _write_rows(
        self, users: list[dict[str, Any]], members: list[dict[str, Any]], now: float
    ) -> None:
        database = sqlite3.connect(self._folder / "storm.db", timeout=30)
        with closing(database), database:
            owner = row(database, "SELECT * FROM users WHERE founder = ?", 1)
            plain = owner | {"role": "user", "founder": None}
            insert(database, "users", [plain | user for user in users])
            rights = {"access_right": "write", "since": now}
            insert(database, "channel_members", [member | rights for member in members])

    def _write_states(self, states: dict[str, LoginState]) -> None:
        with redis.Redis.from_url(self._settings["USHER_REDIS_URL"]) as client:
            pipeline = client.pipeline(transaction=False)
            for key, state in states.items():
                pipeline.set(key, msgspec.json.encode(state), ex=TOKEN_TTL_SECONDS)
            pipeline.execute()

    def _make_rooms(self, count: int) -> list[str]:
        address = self.staying[0].address
        asked = [
            request(
                address,
                "POST",
                "/api/channels",
                {"name": f"Room {number}", "private": True},
                self._owner.access_token,
            )
            for number in range(count)
        ]
        return [str(answer.data(201)["id"]) for answer in call_all(address, asked, 10)]

    def _talk(self) -> None:
        """Somebody of each room says something."""
        reactor = Reactor()
        try:
            firsts = self.people[::ROOM]
            speakers = [Speaker(reactor, self.staying[0], person) for person in firsts]
            reactor.run_until(
                lambda: all(one.replies >= MESSAGES for one in speakers), 120, "messages"
            )
        finally:
            reactor.close()

    def gather(self, generators: int) -> list[Connection]:
        """Join everybody to the nodes that will go, from several processes."""
        homes = [server.address for server in self.going]
        others = [server.address for server in self.staying]
        context, controls = multiprocessing.get_context("fork"), []
        for number in range(generators):
            mine, theirs = context.Pipe()
            crowd = self.people[number::generators]
            process = context.Process(
                target=work,
                args=(crowd, homes, others, self._settings["USHER_PUBLIC_URL"], theirs),
                daemon=True,
            )
            process.start()
            self._stack.callback(process.join, 10)
            self._stack.callback(_tell_to_end, mine)
            controls.append(mine)
        _answers(controls)
        return controls


def work(
    people: Sequence[Person],
    homes: Sequence[tuple[str, int]],
    others: Sequence[tuple[str, int]],
    origin: str,
    control: Connection,
) -> None:
    """A process of clients."""
    machine.pin(os.getpid(), machine.pick_cores().load)
    machine.raise_file_limit(len(people) + 200)
    Crowd(people, homes, others, origin).work(control)


def _tell_to_end(control: Connection) -> None:
    with suppress(OSError):  # it has ended
        control.send(None)


def _answers(controls: Sequence[Connection]) -> list[tuple[Outcome, int] | None]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    found = []
    for control in controls:
        if not control.poll(max(0.0, deadline - time.monotonic())):
            control.send(None)  # tell what there is
        found.append(control.recv())
    return found


def quantiles(values: list[float]) -> str:
    values = sorted(values)
    count = len(values)
    shown = (values[count // 2], values[min(count - 1, count * 99 // 100)], values[-1])
    return "p50 {:.2f} s, p99 {:.2f} s, last {:.2f} s".format(*shown)


def report(outcomes: list[Outcome], missing: int, began: float) -> Iterator[str]:
    refused: Counter[str] = sum((one.refused for one in outcomes), Counter())
    yield f"back: {sum(len(one.waited) for one in outcomes):,}; not back: {missing:,}"
    yield f"the last is back {max(one.last_at for one in outcomes) - began:.2f} s after the signal"
    yield "from the lost connection: " + quantiles([t for one in outcomes for t in one.waited])
    yield "from the first request:   " + quantiles([t for one in outcomes for t in one.served])
    yield f"refused or given up: {dict(refused) or 0}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sockets", type=int, default=20_000)
    parser.add_argument("--signal", choices=("KILL", "TERM"), default="KILL")
    chosen = parser.parse_args()
    machine.raise_file_limit(20_000)
    with ExitStack() as stack:
        storm = Storm(stack, chosen.sockets)
        controls = storm.gather(GENERATORS)
        time.sleep(SETTLE_SECONDS)  # presence of the joins
        before = [cpu_seconds(server.pid) for server in storm.staying]
        began = time.monotonic()
        for server in storm.going:
            os.kill(server.pid, getattr(signal, f"SIG{chosen.signal}"))
        answers = [answer for answer in _answers(controls) if answer is not None]
        if len(answers) != len(controls):
            raise BenchmarkFailed("a generator told nothing")
        used = [cpu_seconds(s.pid) - b for s, b in zip(storm.staying, before, strict=True)]
        print(f"load {os.getloadavg()[0]:.1f}; {chosen.sockets:,} sockets, SIG{chosen.signal}")
        missing = sum(left for _, left in answers)
        print(*report([one for one, _ in answers], missing, began), sep="\n")
        each = sum(used) / chosen.sockets * 1e6
        print(f"CPU of the two nodes: {sum(used):.1f} s, {each:.0f} µs a return")


if __name__ == "__main__":
    main()
