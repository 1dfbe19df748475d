"""The services of one node, built by the composition root, around the clock of a test.

A real database; a real Redis or the store in memory. Two nodes of one installation are two of
these on the same database URL and the same Redis.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import secrets
import socket
import struct
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import msgspec
import peewee
from cryptography.fernet import Fernet

from handlers.websocket.context import SocketContext
from handlers.websocket.room_events import ROOM_EVENTS
from handlers.websocket.socket import EVENTS, ClientSocket
from models.login_session import LoginSession
from models.user import User
from services.accounts.accounts import Accounts
from services.accounts.administration import Administration
from services.accounts.api_keys import ApiKeys
from services.accounts.passwords import Passwords
from services.bus.bus import Bus
from services.bus.bus_memory import MemoryBus
from services.bus.bus_redis import RedisBus
from services.composition.container import Services, build
from services.composition.infrastructure import Infrastructure
from services.errors import StoreUnavailable
from services.event_loop.loop_watch import LoopWatch
from services.factors.challenges import LoginChallenges
from services.factors.factors import Factors
from services.factors.passkeys import Passkeys
from services.grants.shared import SharedGrants
from services.limits.hourly import HourlyLimits
from services.metrics import Metrics
from services.providers.parts import OAuthParts
from services.redis.store import Command, Store, Then
from services.redis.store_memory import MemoryStore
from services.redis.store_redis import RedisStore
from services.refresh.parts import RefreshParts
from services.registration.parts import RegistrationParts
from services.rooms.access import Access
from services.rooms.channels import Channels
from services.rooms.joins import Joins
from services.rooms.model_registry import ModelRegistry
from services.rooms.presence import Presence
from services.rooms.rooms import Rooms
from services.rooms.usage import Usage
from services.secret import Secret
from services.sessions.admission import Admission
from services.sessions.control import Control
from services.sessions.login_cache import LoginCache
from services.sessions.login_sessions import LoginSessions
from services.sessions.logout_ack import LogoutAcknowledgement
from services.sessions.revocations import Revocations
from services.sessions.session_ends import SessionEnds
from services.sessions.session_views import Device, SignedIn
from services.sessions.tickets import Tickets
from services.sessions.token_binding import TokenBinding
from services.sessions.tokens import Tokens
from services.settings.providers import OAuthProvider
from services.settings.settings import Settings
from services.sockets.hub import Hub
from services.sockets.nodes import Nodes
from services.sockets.session_pool import SessionPool
from services.step_up.freshness import Freshness
from services.step_up.step_up import StepUp
from services.storage.database import Database
from services.websocket.direct_connection import WebSocketConnection
from services.websocket.frames import Opcode
from tests.support.databases import opened
from tests.support.redis import PATIENCE, RealRedis, until, within

DEVICE = Device("Firefox on Linux", "192.0.2.7")
JWT_SECRET = Secret("a secret of the tests, 32 bytes or more")
ACCESS_TTL, REFRESH_TTL, LIFETIME, TICKET_TTL = 900.0, 3600.0, 86400.0, 30.0
LEASE = 3600.0
"""Longer than any test: nothing here learns of revocations by itself."""
MAX_SESSIONS = 100
HISTORY_MESSAGES, HISTORY_BYTES, HISTORY_SECONDS = 1000, 1_048_576, 86400.0
ISSUER = "http://usher.test"
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

    @property
    def nearly_full(self) -> bool:
        return self.inner.nearly_full

    @property
    def memory_share(self) -> float:
        return self.inner.memory_share

    def look_at_memory(self) -> None:
        self.inner.look_at_memory()

    def epoch(self, key: str) -> str | None:
        return self.inner.epoch(key)

    def call(self, *commands: Command) -> Awaitable[list[Any]]:
        self.groups.append(commands)
        return self.inner.call(*commands)

    def tell(self, *commands: Command, then: Then | None = None) -> None:
        self.groups.append(commands)
        self.inner.tell(*commands, then=then)

    async def close(self) -> None:
        await self.inner.close()


@dataclass
class Parts:
    """One node."""

    name: str
    clock: Clock
    database: Database
    store: CountingStore
    bus: Bus
    metrics: Metrics
    hub: Hub
    rooms: Rooms
    control: Control
    tokens: Tokens
    cache: LoginCache
    revocations: Revocations
    login_sessions: LoginSessions
    session_ends: SessionEnds
    refresh: RefreshParts
    passwords: Passwords
    limits: HourlyLimits
    accounts: Accounts
    administration: Administration
    channels: Channels
    shared_grants: SharedGrants
    access: Access
    tickets: Tickets
    pool: SessionPool
    nodes: Nodes
    token_binding: TokenBinding
    logout_ack: LogoutAcknowledgement
    presence: Presence
    usage: Usage
    models: ModelRegistry
    api_keys: ApiKeys
    oauth: OAuthParts
    freshness: Freshness
    step_up: StepUp
    registration: RegistrationParts
    admission: Admission
    joins: Joins
    services: Services
    factors: Factors
    login_challenges: LoginChallenges
    passkeys: Passkeys
    context: SocketContext
    peers: list[Peer] = field(default_factory=list)
    """Ends of the sockets that the test opened; closed with the node."""

    def close_peers(self) -> None:
        for peer in self.peers:
            peer.client.connection.abort()
            peer.close()

    async def user(self, name: str = "Ada", role: str = "user") -> str:
        """An account without a password; returns its id."""
        user_id = secrets.token_urlsafe(8)
        await self.database.run(_insert_user, user_id, name, role, self.clock())
        return user_id

    async def signed_in(self, user_id: str | None = None) -> SignedIn:
        """A login session, of somebody new where no user is named."""
        return await self.login_sessions.open(user_id or await self.user(), "password", DEVICE)

    def count(self, name: str, **labels: str) -> float:
        """A value of the node's metrics; 0 for what has not been counted yet."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def settings_of_tests(*providers: OAuthProvider) -> Settings:
    """What the services of these tests ask their settings for; nothing is read or made."""
    return Settings(
        host="127.0.0.1",
        port=0,
        data_dir=Path("/nonexistent"),
        database_url=Secret("sqlite:///nonexistent"),
        redis_url=None,
        jwt_secrets=(JWT_SECRET,),
        encryption_keys=(Secret(Fernet.generate_key().decode()),),
        access_token_ttl_seconds=ACCESS_TTL,
        refresh_token_ttl_seconds=REFRESH_TTL,
        session_lifetime_seconds=LIFETIME,
        ticket_ttl_seconds=TICKET_TTL,
        join_timeout_seconds=5.0,
        lease_seconds=LEASE,
        max_sessions_per_user=MAX_SESSIONS,
        history_messages=HISTORY_MESSAGES,
        history_bytes=HISTORY_BYTES,
        history_seconds=HISTORY_SECONDS,
        public_url=None,
        allowed_origins=(),
        trusted_proxies=(),
        limit_signups=60,
        limit_wrong_signins=100,
        limit_signins=60,
        limit_refreshes=240,
        limit_tickets=1200,
        limit_mails=20,
        oauth_providers=providers,
        embedded=False,
    )


@functools.cache
def shared_passwords() -> Passwords:
    """One for all nodes of this test process: each would begin with a hash of its own."""
    passwords = Passwords()
    atexit.register(passwords.close)
    return passwords


def join_parts(
    database: Database,
    counting: CountingStore,
    bus: Bus,
    clock: Clock,
    name: str,
    settings: Settings,
) -> Parts:
    """Build the services of one node as a server does, around the clock of the test."""
    infrastructure = Infrastructure(
        settings, None, None, counting, bus, database, Metrics(), LoopWatch()
    )
    services = build(
        infrastructure, ISSUER, ISSUER, lambda _: None, name, clock, shared_passwords()
    )
    joined = {f.name: getattr(services, f.name) for f in fields(Parts) if hasattr(services, f.name)}
    return Parts(
        name=name,
        clock=clock,
        database=database,
        store=counting,
        cache=LoginCache(counting, max(ACCESS_TTL, TICKET_TTL), clock),
        services=services,
        context=SocketContext(services, {**EVENTS, **ROOM_EVENTS}, clock),
        **joined,
    )


@asynccontextmanager
async def node(
    database_url: str,
    redis: RealRedis | None = None,
    clock: Clock | None = None,
    timeout: float = PATIENCE,
    max_waiting: int = 1024,
    name: str = "node",
    settings: Settings | None = None,
) -> AsyncIterator[Parts]:
    """A node on a database.

    Args:
        redis: a real one, else the store and the bus in memory.
        timeout, max_waiting: of the database.
        name: nodes on one Redis have to have different ones.
        settings: nodes of one installation have to have the same.
    """
    clock = clock or Clock()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            opened(database_url, timeout=timeout, max_waiting=max_waiting)
        )
        store: Store = MemoryStore(clock=clock)
        bus: Bus = MemoryBus(HISTORY_MESSAGES, HISTORY_SECONDS, clock)
        if redis is not None:
            store, bus = await redis_pair(redis)
        stack.push_async_callback(store.close)
        stack.push_async_callback(bus.close)
        chosen = settings or settings_of_tests()
        parts = join_parts(database, CountingStore(store), bus, clock, name, chosen)
        stack.push_async_callback(parts.oauth.close)
        stack.callback(parts.close_peers)
        await parts.control.open()
        await parts.services.shared_grants.load()
        yield parts


async def redis_pair(redis: RealRedis) -> tuple[RedisStore, RedisBus]:
    """A store and a bus of one node on a real Redis."""
    store = RedisStore(redis.url, timeout=PATIENCE)
    await store.connect()
    bus = RedisBus(redis.url, store, HISTORY_MESSAGES, HISTORY_SECONDS)
    await bus.open()
    return store, bus


async def redis_away(parts: Parts, redis: RealRedis, *others: Parts) -> None:
    """Redis dies, and the node knows it; and so do the others that are named. One that is not may
    go on for a while as if nothing had happened, also when Redis is back."""
    redis.kill()
    await until(lambda: not any(each.store.available for each in (parts, *others)))


async def redis_back(parts: Parts, redis: RealRedis, *others: Parts) -> None:
    """Redis starts, and these nodes know it."""
    redis.start()
    await until(lambda: all(each.store.available for each in (parts, *others)))


async def database_away(parts: Parts) -> None:
    """The database answers nothing from now on."""
    await parts.database.close()


def client_socket(parts: Parts, sock: socket.socket) -> ClientSocket:
    """The server's side of a socket, in the direct form."""
    context = parts.context
    return ClientSocket(
        context,
        lambda owner: WebSocketConnection(context.loop, sock, owner, stalled=context.stalled),
    )


async def open_socket(parts: Parts, signed_in: SignedIn, bearer: bool = False) -> Peer:
    """A joined socket of a login session: the real one, over a real pair of sockets."""
    ours, theirs = socket_pair()
    client = client_socket(parts, ours)
    client.open_joined(b"", b"", await parts.joins.admit_claims(signed_in.claims), bearer)
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
        """Read to the close frame; returns its code."""
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
