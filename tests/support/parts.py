"""The services of one node, joined as the container joins them, around a clock of the test's.

SQLite in a temporary folder or any other URL; a real Redis or the store in memory. Two nodes of
one installation are two of these on the same URL and the same Redis.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import peewee

from handlers.socket import ClientSocket, Floor
from models.login_session import LoginSession
from models.user import User
from services.accounts import Accounts
from services.admission import Admission
from services.control import Control
from services.database import Database
from services.errors import StoreUnavailable
from services.frames import Opcode
from services.hub import Hub
from services.login_cache import LoginCache
from services.login_sessions import Device, LoginSessions, SignedIn
from services.metrics import Metrics
from services.passwords import Passwords
from services.rate_limit import GuessLimit
from services.revocations import Revocations
from services.secret import Secret
from services.session_pool import SessionPool
from services.store import Command, Store
from services.store_memory import MemoryStore
from services.store_redis import RedisStore
from services.tickets import Tickets
from services.tokens import Tokens
from tests.support.databases import opened
from tests.support.redis import PATIENCE, RealRedis, until, within

DEVICE = Device("Firefox on Linux", "192.0.2.7")
JWT_SECRET = Secret("a secret of the tests, 32 bytes or more")
ACCESS_TTL, REFRESH_TTL, LIFETIME, TICKET_TTL = 900.0, 3600.0, 86400.0, 30.0
OPENED_AT = 1_800_000_000.0


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self, now: float = OPENED_AT) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += seconds


class CountingStore:
    """Hands everything on to a real store, and counts the round trips."""

    def __init__(self, store: Store) -> None:
        self.inner = store
        self.groups: list[tuple[Command, ...]] = []

    @property
    def kind(self) -> str:
        return self.inner.kind

    @property
    def available(self) -> bool:
        return self.inner.available

    def call(self, *commands: Command) -> Awaitable[list[Any]]:
        self.groups.append(commands)
        return self.inner.call(*commands)

    async def close(self) -> None:
        await self.inner.close()


@dataclass
class Parts:
    """One node."""

    clock: Clock
    database: Database
    store: CountingStore
    metrics: Metrics
    hub: Hub
    control: Control
    tokens: Tokens
    cache: LoginCache
    revocations: Revocations
    login_sessions: LoginSessions
    passwords: Passwords
    guesses: GuessLimit
    accounts: Accounts
    tickets: Tickets
    pool: SessionPool
    admission: Admission
    floor: Floor
    peers: list[Peer] = field(default_factory=list)
    """Ends of the sockets that the test opened; closed with the node."""

    def close_peers(self) -> None:
        for peer in self.peers:
            peer.client.wire.abort()
            peer.close()

    async def user(self, name: str = "Ada", role: str = "user") -> str:
        """An account without a password; gives its id."""
        user_id = secrets.token_urlsafe(8)
        await self.database.run(_insert_user, user_id, name, role, self.clock())
        return user_id

    async def signed_in(self, user_id: str | None = None) -> SignedIn:
        """A login session, of somebody new where no user is named."""
        return await self.login_sessions.open(user_id or await self.user(), "password", DEVICE)

    def count(self, name: str, **labels: str) -> float:
        """A value of the node's metrics; 0 for what has not been counted yet."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def join_parts(database: Database, store: Store, clock: Clock) -> Parts:
    """Join the services of one node."""
    counting, metrics, hub, control = CountingStore(store), Metrics(), Hub(), Control()
    tokens = Tokens([JWT_SECRET], "http://usher.test", ttl=ACCESS_TTL, clock=clock)
    cache = LoginCache(counting, ACCESS_TTL, clock)
    revocations = Revocations(database, cache, hub, control, metrics, ACCESS_TTL, clock)
    sessions = LoginSessions(database, tokens, cache, revocations, REFRESH_TTL, LIFETIME, clock)
    passwords, guesses = Passwords(), GuessLimit(store, metrics)
    tickets = Tickets(counting, database, TICKET_TTL, clock)
    pool = SessionPool(counting, clock)
    admission = Admission(tokens, tickets, cache, sessions, revocations, metrics, clock)
    return Parts(
        clock=clock,
        database=database,
        store=counting,
        metrics=metrics,
        hub=hub,
        control=control,
        tokens=tokens,
        cache=cache,
        revocations=revocations,
        login_sessions=sessions,
        passwords=passwords,
        guesses=guesses,
        accounts=Accounts(database, passwords, sessions, revocations, guesses, metrics, clock),
        tickets=tickets,
        pool=pool,
        admission=admission,
        floor=Floor(hub, pool, admission, metrics, "node", 5.0, _ignore, clock),
    )


@asynccontextmanager
async def node(
    where: Path | str,
    redis: RealRedis | None = None,
    clock: Clock | None = None,
    timeout: float = PATIENCE,
    max_waiting: int = 1024,
) -> AsyncIterator[Parts]:
    """A node on the SQLite of a folder, or on a database URL.

    Args:
        redis: a real one, else the store in memory.
        timeout, max_waiting: of the database.
    """
    url = where if isinstance(where, str) else f"sqlite:///{where / 'usher.db'}"
    clock = clock or Clock()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            opened(url, timeout=timeout, max_waiting=max_waiting)
        )
        store: Store = MemoryStore(clock=clock)
        if redis is not None:
            store = RedisStore(redis.url, timeout=PATIENCE)
            await store.connect()
        stack.push_async_callback(store.close)
        parts = join_parts(database, store, clock)
        stack.callback(parts.passwords.close)
        stack.callback(parts.close_peers)
        yield parts


async def redis_away(parts: Parts, redis: RealRedis) -> None:
    """Redis dies, and the node knows it."""
    redis.kill()
    await until(lambda: not parts.store.available)


async def redis_back(parts: Parts, redis: RealRedis) -> None:
    redis.start()
    await until(lambda: parts.store.available)


async def database_away(parts: Parts) -> None:
    """The database answers nothing from now on."""
    await parts.database.close()


async def open_socket(parts: Parts, signed_in: SignedIn, bearer: bool = False) -> Peer:
    """A joined socket of a login session: the real one, over a real pair of sockets."""
    ours, theirs = socket_pair()
    client = ClientSocket(parts.floor, ours)
    client.open_joined(b"", b"", await parts.admission.identify(signed_in.claims), bearer)
    peer = Peer(theirs, client)
    parts.peers.append(peer)
    assert (await peer.event())["event"] == "joined"
    return peer


def socket_pair() -> tuple[socket.socket, socket.socket]:
    pair = socket.socketpair()
    for end in pair:
        end.setblocking(False)
    return pair


class Peer:
    """The client's end of a socket pair: reads whole frames, sends masked ones."""

    def __init__(self, sock: socket.socket, client: ClientSocket | None = None) -> None:
        self.sock = sock
        self._client = client
        self._buffer = b""

    @property
    def client(self) -> ClientSocket:
        """The server's side."""
        assert self._client is not None
        return self._client

    async def send(self, data: bytes) -> None:
        await within(asyncio.get_running_loop().sock_sendall(self.sock, data))

    async def _bytes(self, count: int) -> bytes:
        while len(self._buffer) < count:
            data = await within(asyncio.get_running_loop().sock_recv(self.sock, 65536))
            if not data:
                raise EOFError
            self._buffer += data
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    async def frame(self) -> tuple[Opcode, bytes]:
        """The next frame. Raises EOFError at the end."""
        first, length = await self._bytes(2)
        assert first & 0x80, "a server of ours sends no fragments"
        assert not length & 0x80, "a server does not mask"
        if length == 126:
            (length,) = struct.unpack("!H", await self._bytes(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self._bytes(8))
        return Opcode(first & 0x0F), await self._bytes(length)

    async def event(self) -> Any:
        """The next text message, as JSON."""
        opcode, payload = await self.frame()
        assert opcode == Opcode.TEXT
        return msgspec.json.decode(payload)

    async def rest(self) -> list[tuple[Opcode, bytes]]:
        """Every frame until the end of the stream."""
        frames = []
        try:
            while True:
                frames.append(await self.frame())
        except (EOFError, ConnectionResetError):
            assert not self._buffer, "the stream ends within a frame"
        return frames

    async def last_words(self) -> list[tuple[Opcode, bytes]]:
        """Every frame up to a close frame, and that one."""
        frames = [await self.frame()]
        while frames[-1][0] != Opcode.CLOSE:
            frames.append(await self.frame())
        return frames

    async def close_code(self) -> int:
        """Read to the close frame; gives its code."""
        while True:
            opcode, payload = await self.frame()
            if opcode == Opcode.CLOSE:
                return int.from_bytes(payload[:2], "big")

    def close(self) -> None:
        self.sock.close()


def client_frame(
    opcode: int, payload: bytes = b"", *, final: bool = True, key: bytes = b"\x8f\x01\xfe\x00"
) -> bytes:
    """One masked frame, as RFC 6455 section 5.2 draws it."""
    first, length = (0x80 if final else 0) | opcode, len(payload)
    if length < 126:
        header = bytes((first, 0x80 | length))
    elif length < 65536:
        header = struct.pack("!BBH", first, 0x80 | 126, length)
    else:
        header = struct.pack("!BBQ", first, 0x80 | 127, length)
    return header + key + masked(payload, key)


def masked(payload: bytes, key: bytes) -> bytes:
    """XOR octet by octet, as section 5.3 words it."""
    return bytes(octet ^ key[i % 4] for i, octet in enumerate(payload))


async def refused(awaitable: Awaitable[Any]) -> bool:
    """Whether the store says that it is away."""
    try:
        await awaitable
    except StoreUnavailable:
        return True
    return False


def session_row(db: peewee.Database, sid: str) -> dict[str, Any]:
    """A login session as it lies in the database."""
    query: Any = LoginSession.select().where(LoginSession.id == sid).dicts()
    return dict(query.get(db))


def _insert_user(db: peewee.Database, user_id: str, name: str, role: str, now: float) -> None:
    address = f"{user_id.lower()}@example.org"
    User.insert(id=user_id, email=address, name=name, role=role, created_at=now).execute(db)


def _ignore(_: str) -> None:
    return None
