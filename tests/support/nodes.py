"""Several real Ushers over one real Redis and one database, as one installation."""

from __future__ import annotations

import base64
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.support.databases import empty_database
from tests.support.redis import RealRedis
from tests.support.server import Client, Usher, free_port, log_in, sign_up


class Nodes:
    """An installation. Its first account, `admin`, is made at once: the others are users.

    Args:
        kind: of the database, "sqlite" or "postgresql"; or the URL of an empty one.
        redis: stays when the nodes are closed.
        settings: of every node.
    """

    def __init__(
        self,
        kind: str,
        count: int,
        stack: ExitStack,
        redis: RealRedis,
        **settings: object,
    ) -> None:
        self._stack = stack
        folder = Path(tempfile.mkdtemp(prefix="usher-n-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        self.redis = redis
        self.database_url = kind
        if "://" not in kind:
            self.database_url = stack.enter_context(empty_database(kind, folder))
        self.settings: dict[str, object] = {
            "REDIS_URL": self.redis.url,
            "JWT_SECRETS": secrets.token_hex(24),
            "ENCRYPTION_KEYS": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "PUBLIC_URL": f"http://127.0.0.1:{free_port()}",
            "MESSAGE_RATE": 10_000,  # the speakers of tests are faster than people
            **settings,
        }
        self.all: list[Usher] = []
        with ThreadPoolExecutor(count) as pool:  # at once, as after a power cut
            self.all += pool.map(lambda _: self._started(), range(count))
        self.admin = sign_up(self.all[0])
        assert self.admin.user["role"] == "admin"

    def __iter__(self) -> Iterator[Usher]:
        return iter(self.all)

    def __getitem__(self, number: int) -> Usher:
        return self.all[number]

    def start(self, **settings: object) -> Usher:
        """One more node."""
        node = self._started(**settings)
        self.all.append(node)
        return node

    def _started(self, **settings: object) -> Usher:
        node = Usher(self.database_url, **{**self.settings, **settings})
        self._stack.callback(_end, node)
        return node

    def received(self, room: str) -> bool:
        """Whether any node has subscribed to a room."""
        return self.listeners(room) > 0

    def listeners(self, room: str) -> int:
        """How many nodes have subscribed to a room."""
        _, count = self.redis.ask("PUBSUB", "NUMSUB", f"usher:{{{room}}}:said")
        return int(count)


def _end(node: Usher) -> None:
    if node.process.poll() is None:
        node.process.send_signal(signal.SIGCONT)  # a stopped one could not end
    node.close()


@contextmanager
def nodes(kind: str, count: int = 2, **settings: object) -> Iterator[Nodes]:
    """An installation of so many nodes on this kind of database; nothing is left of it."""
    with ExitStack() as stack:
        redis = RealRedis()
        stack.callback(redis.close)
        yield Nodes(kind, count, stack, redis, **settings)


@contextmanager
def nodes_on(redis: RealRedis, kind: str, count: int = 2, **settings: object) -> Iterator[Nodes]:
    """The same over a Redis that the test runs."""
    with ExitStack() as stack:
        yield Nodes(kind, count, stack, redis, **settings)


def at(server: Usher, client: Client) -> Client:
    """The same login session, speaking to another node."""
    return Client(server, client.token, client.refresh_token, client.user)


def again(server: Usher, email: str, **options: Any) -> Client:
    """Another login session of somebody, on any node."""
    return log_in(server, email, **options)


def channel(owner: Client, *members: Client, right: str = "write", private: bool = True) -> str:
    """A new channel; returns its room."""
    answer = owner.post("/api/channels", {"name": "tea", "private": private})
    assert answer.status == 201, answer
    room = f"channel:{answer.body['id']}"
    for member in members:
        let_in(owner, room, member, right)
    return room


def let_in(owner: Client, room: str, member: Client, right: str = "write") -> None:
    """Give somebody a right in a channel."""
    path = f"{path_of(room)}/members/{member.user['id']}"
    answer = owner.call("PUT", path, {"right": right})
    assert answer.status == 200, answer


def put_out(owner: Client, room: str, member: Client) -> None:
    """Take somebody's right away."""
    answer = owner.call("DELETE", f"{path_of(room)}/members/{member.user['id']}")
    assert answer.status == 204, answer


def path_of(room: str) -> str:
    """The URL path of a channel's room."""
    return "/api/channels/" + room.removeprefix("channel:")
