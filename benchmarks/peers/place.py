"""The place of a run: Usher's installation, and the Redis and SQLite of the others."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks import machine
from benchmarks.errors import BenchmarkFailed
from benchmarks.installation import Installation
from benchmarks.peers.subjects import Opening, Subject
from benchmarks.servers import Server, free_port, running
from benchmarks.sizes import QUICK, Sizes
from services.embedded.binary import find_redis_server

START_SECONDS = 10.0


class Place:
    """One run's people, tokens, Redis and users. All servers get tokens of the same people.

    Attributes:
        installation: Usher's, which has the people and signs the tokens.
        redis, users: socket and file of what the others use.
        memory: where a server writes how much it uses, if it is asked.
    """

    def __init__(self, cores: machine.Cores, people: int) -> None:
        self._open = ExitStack()
        folder = self._open.enter_context(tempfile.TemporaryDirectory(prefix="usher-peers-"))
        self._folder, self._cores, self._people = Path(folder), cores, people
        sizes: Sizes = replace(QUICK, keep_servers=False)
        self.installation = Installation(sizes, cores, self._folder / "usher")
        self._open.callback(self.installation.close)
        self.installation.choose(people)
        self.redis, self.users = self._folder / "redis.sock", self._folder / "users.db"
        self.memory = self._folder / "memory"
        self._store_pid = self._start_redis()
        self._write_users()

    def close(self) -> None:
        """Stop Redis and remove everything."""
        self._open.close()

    @contextmanager
    def server(self, subject: Subject) -> Iterator[Server]:
        """A fresh process of the server, pinned; the generator is on the other core with Redis."""
        with ExitStack() as stack:
            if subject.command:
                settings = {
                    "PEER_SECRET": self.installation.secret,
                    "PEER_ROOM": self.installation.room,
                    "PEER_DATABASE": str(self.users),
                    "PEER_REDIS": str(self.redis),
                    "PEER_MEMORY": str(self.memory),
                    "PEER_PORT": str(free_port()),
                }
                process = running(list(subject.command), settings, self._cores)
                server = replace(stack.enter_context(process), store_pid=self._store_pid)
            else:
                (server,) = stack.enter_context(self.installation.nodes(1))
                self.installation.tokens(self._people, 0)  # the people, for its Redis
            stack.enter_context(machine.working_on(self._cores.load))
            yield server

    @property
    def room(self) -> str:
        """The room that everybody joins beside their own."""
        return self.installation.room

    def openings(self, subject: Subject, server: Server, count: int) -> list[Opening]:
        """What opens so many sockets, each with an access token of its own."""
        origin = "" if subject.command else self.installation.origin
        return [
            subject.dialect.opening(server.address, token, origin)
            for token in self.installation.sign(count)
        ]

    def _start_redis(self) -> int:
        """The server program and the options of Usher's embedded Redis (services/embedded)."""
        program = find_redis_server()
        if program is None:
            raise BenchmarkFailed("no redis-server here")
        options = f"--port 0 --unixsocket {self.redis} --appendonly yes --save".split()
        process = subprocess.Popen(
            [str(program), *options, ""], cwd=self._folder, stdout=subprocess.DEVNULL
        )
        self._open.callback(process.wait)
        self._open.callback(process.terminate)
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            if process.poll() is not None or time.monotonic() > end:
                raise BenchmarkFailed("redis-server does not start")
            time.sleep(0.05)
        machine.pin(process.pid, self._cores.load)
        return process.pid

    def _answers(self) -> bool:
        with closing(socket.socket(socket.AF_UNIX)) as probe:
            return probe.connect_ex(str(self.redis)) == 0

    def _write_users(self) -> None:
        with closing(sqlite3.connect(self.users)) as database, database:
            database.execute(
                "CREATE TABLE users (id TEXT PRIMARY KEY, name TEXT, role TEXT, disabled INTEGER)"
            )
            people = self.installation.choose(self._people)
            rows = [(one.user_id, f"Person {n}", "user", 0) for n, one in enumerate(people)]
            database.executemany("INSERT INTO users VALUES (?, ?, ?, ?)", rows)
