"""Two nodes, one Redis, one PostgreSQL, and the rows of a crowd."""

from __future__ import annotations

import atexit
import base64
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]

from benchmarks.accounts import Login, TokenMint
from benchmarks.ws_load import Address
from tests.support.databases import look
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.redis import RealRedis, off_by
from tests.support.server import PATIENCE, UsherFromScratch, free_port, sign_up

INSIDE = Path(__file__).parent / "inside"
SOCKETS_PER_USER = 10
SOCKETS_PER_ROOM = 100
DISK = "512m"
"""Of the database, where it can have one of its own to be filled."""
REDIS_OPTIONS = ("--appendonly", "yes", "--appendfsync", "everysec")
"""As docs/operations.md says."""


class SoakNode(UsherFromScratch):
    """A node that tells what it holds, and whose clock can be stepped where faketime is there."""

    def __init__(self, database: str, extra: dict[str, str], **settings: object) -> None:
        self._extra = extra
        super().__init__(database, **settings)

    def _start(self) -> None:
        self.environment |= self._extra
        super()._start()

    @property
    def address(self) -> Address:
        return "127.0.0.1", self.port


class Held(NamedTuple):
    """What a node holds. `rss`: MB."""

    rss: float
    descriptors: int
    tasks: int
    kinds: dict[str, int]


class Installation:
    """What the faults are done to.

    Args:
        sockets: how many there will be; decides how many users and rooms there are.
        sessions: login sessions to have ready; each logout uses one up.
    """

    def __init__(self, sockets: int, sessions: int, stack: ExitStack) -> None:
        self._stack = stack
        self.folder = Path(tempfile.mkdtemp(prefix="usher-soak-"))
        stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.disk = _own_disk()
        self.postgres: PostgresServer = postgres_server()
        tempfile.tempdir = None
        self.database_url = stack.enter_context(self.postgres.database())
        self.front = self.folder / "redis.sock"
        self.redis_port = 0
        self.redis = self.new_redis()
        self.show_redis()
        stack.callback(self._end_redis)
        secret = secrets.token_hex(24)
        settings: dict[str, object] = {
            "REDIS_URL": f"unix://{self.front}",
            "JWT_SECRETS": secret,
            "ENCRYPTION_KEYS": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "PUBLIC_URL": f"http://127.0.0.1:{free_port()}",
        }
        self.origin = str(settings["PUBLIC_URL"])
        self.clock = self.folder / "clock"
        self.has_clock = shutil.which("faketime") is not None
        self.step_clock(0)
        inside = {"PYTHONPATH": os.fspath(INSIDE), "SOAK_INSIDE": os.fspath(self.folder)}
        self.nodes = [
            self._node(inside, settings),
            self._node({**inside, **self._clock()}, settings),
        ]
        first = sign_up(self.nodes[0])
        self._mint, self._login = TokenMint(secret), Login(str(first.token))
        self.users = max(1, sockets // SOCKETS_PER_USER)
        self.rooms = max(1, sockets // SOCKETS_PER_ROOM)
        self.sessions = sessions
        self._write_people()

    def _node(self, extra: dict[str, str], settings: dict[str, object]) -> SoakNode:
        node = SoakNode(self.database_url, extra, **settings)
        self._stack.callback(_end, node)
        return node

    def _clock(self) -> dict[str, str]:
        if not self.has_clock:
            return {}
        faked = off_by("+0")
        del faked["FAKETIME"]
        return {
            **faked,
            "FAKETIME_TIMESTAMP_FILE": os.fspath(self.clock),
            "FAKETIME_CACHE_DURATION": "1",
        }

    def step_clock(self, seconds: int) -> None:
        """The second node's wall clock is off by so much, within a second."""
        new = self.clock.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self.clock)

    # ---- Redis -----------------------------------------------------------------------------

    def new_redis(self) -> RealRedis:
        """A Redis that has a port too, so that another can follow it."""
        self.redis_port = free_port()
        found = shutil.which("redis-server")
        port = ("--port", str(self.redis_port), "--bind", "127.0.0.1")
        return RealRedis(*port, *REDIS_OPTIONS, binary=Path(found) if found else None)

    def _end_redis(self) -> None:
        self.redis.close()  # the one that is there by then

    def show_redis(self) -> None:
        """The one name that nodes have for it leads to this one, from the next connection on."""
        new = self.front.with_suffix(".new")
        new.symlink_to(self.redis.path)
        new.replace(self.front)

    def keys(self) -> Counter[str]:
        """How many keys there are of each kind; those that never end are marked."""
        kinds, cursor = Counter[str](), b"0"
        while True:
            cursor, names = self.redis.ask("SCAN", cursor, "COUNT", 1000)
            for name in names:
                kind = name.decode().split("{")[0].rstrip(":") + _last(name.decode())
                kinds[kind] += 1
                if self.redis.ask("TTL", name) == -1:
                    kinds[f"{kind} (no end)"] += 1
            if cursor == b"0":
                return kinds

    # ---- people ----------------------------------------------------------------------------

    def token(self, session: int) -> str:
        """A new access token of a login session, as a refresh would give."""
        now = time.time()
        claims: dict[str, object] = {
            "sub": f"soak-u{session % self.users}",
            "sid": f"soak-s{session}",
            "iat": now,
            "exp": now + 900,
            "role": "user",
        }
        return self._mint.another(self._login, **claims)  # type: ignore[arg-type]

    def room_of(self, session: int) -> int:
        return session % self.users % self.rooms

    def _write_people(self) -> None:
        now = time.time()
        users = (
            "INSERT INTO users (id, email, email_verified, name, role, created_at, generation) "
            "SELECT 'soak-u' || n, 'soak-' || n || '@example.org', false, 'Soak ' || n, 'user', "
            f"{now}, 0"
        )
        sessions = (
            "INSERT INTO login_sessions (id, user_id, method, device, ip, created_at, "
            "last_seen_at, expires_at, generation, step) SELECT 'soak-s' || n, "
            f"'soak-u' || n % {self.users}, 'password', '', '', {now}, {now}, {now + 86400}, 0, 0"
        )
        channels = (
            "INSERT INTO channels (id, name, private, created_at) "
            f"SELECT 'soak-c' || n, 'Soak ' || n, true, {now}"
        )
        members = (
            "INSERT INTO channel_members (channel_id, user_id, access_right, since) "
            f"SELECT 'soak-c' || n % {self.rooms}, 'soak-u' || n, 'write', {now}"
        )
        for statement, count in (
            (users, self.users),
            (sessions, self.sessions),
            (channels, self.rooms),
            (members, self.users),
        ):
            look(self.database_url, f"{statement} FROM generate_series(0, {count - 1}) n")

    # ---- what it holds ---------------------------------------------------------------------

    def held(self, node: SoakNode) -> Held:
        """What a node holds now."""
        process = psutil.Process(node.process.pid)
        reported = self.folder / f"{process.pid}.json"
        reported.unlink(missing_ok=True)
        process.send_signal(signal.SIGUSR2)
        end = time.monotonic() + PATIENCE
        while not reported.exists():
            assert time.monotonic() < end, "a node does not tell its tasks"
            time.sleep(0.02)
        kinds = json.loads(reported.read_text())
        rss = process.memory_info().rss / 2**20
        return Held(rss, process.num_fds(), sum(kinds.values()), kinds)


def _last(name: str) -> str:
    """What stands behind the id in a key's name."""
    return ":" + name.rpartition("}")[2].strip(":").partition(":")[0] if "}" in name else ""


def _end(node: SoakNode) -> None:
    if node.process.poll() is None:
        node.process.send_signal(signal.SIGCONT)
    node.close()


def _own_disk() -> Path | None:
    """A small file system for what is made in temporary folders next; None without the right."""
    folder = Path(tempfile.mkdtemp(prefix="usher-soak-d-"))
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", os.fspath(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        folder.rmdir()
        return None
    folder.chmod(0o1777)
    # Runs after the end of PostgreSQL, which registers later.
    atexit.register(_leave_disk, folder)
    tempfile.tempdir = os.fspath(folder)
    return folder


def _leave_disk(folder: Path) -> None:
    subprocess.run(["umount", "-l", os.fspath(folder)], check=False)
    folder.rmdir()
