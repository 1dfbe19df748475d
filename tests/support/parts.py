"""The services of one node, joined as the container joins them, around a clock of the test's.

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
import time
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
from services.accounts.devices import Devices
from services.accounts.export import Export
from services.accounts.link_tokens import LinkTokens
from services.accounts.password_links import PasswordLinks
from services.accounts.passwords import Passwords
from services.accounts.sign_in_limits import SignInLimits
from services.audit import hooks
from services.audit.trail import AuditTrail
from services.backends.app_keys import AppKeys
from services.backends.app_tokens import AppTokens
from services.backends.idempotency import Idempotency
from services.backends.introspection import Introspection
from services.backends.publishing import Publishing
from services.bus.bus import Bus
from services.bus.bus_memory import MemoryBus
from services.bus.bus_redis import RedisBus
from services.composition.container import Services, tell_of_sessions
from services.composition.health import Health
from services.composition.infrastructure import Infrastructure
from services.errors import StoreUnavailable
from services.event_loop.background import Background
from services.event_loop.loop_watch import LoopWatch
from services.factors import parts as factor_parts
from services.factors.challenges import LoginChallenges
from services.factors.factors import Factors
from services.factors.passkeys import Passkeys
from services.grants.shared import SharedGrants
from services.limits.hourly import HourlyLimits, limits_of
from services.mail import parts as mail_parts
from services.metrics import Metrics
from services.native.codes import NativeCodes
from services.overview.meter import Meter
from services.overview.overview import Overview
from services.overview.totals import Totals
from services.providers import parts as oauth_parts
from services.providers.parts import OAuthParts
from services.providers.registry import Providers
from services.recovery import parts as recovery_parts
from services.redis.store import Command, Store
from services.redis.store_memory import MemoryStore
from services.redis.store_redis import RedisStore
from services.refresh import parts as refresh_parts
from services.refresh.parts import RefreshParts
from services.registration import parts as registration_parts
from services.registration.parts import RegistrationParts
from services.rooms.access import Access
from services.rooms.authors import Authors
from services.rooms.channels import Channels
from services.rooms.joins import Joins
from services.rooms.model_registry import ModelRegistry
from services.rooms.presence import Presence
from services.rooms.renames import Renames
from services.rooms.room_protocol import message_event
from services.rooms.rooms import Rooms
from services.rooms.shares import Shares
from services.rooms.usage import Usage
from services.secret import Secret
from services.sessions.admission import Admission
from services.sessions.control import Control
from services.sessions.last_seen import LastSeen
from services.sessions.login_cache import SLACK_SECONDS, LoginCache
from services.sessions.login_sessions import LoginSessions
from services.sessions.login_states import LoginStates
from services.sessions.logout_ack import LogoutAcknowledgement
from services.sessions.node_lease import NodeLease
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
from services.sockets.session_watch import SessionWatch
from services.sockets.socket_limit import SocketLimit
from services.sockets.unjoined_counts import UnjoinedCounts
from services.step_up.freshness import Freshness
from services.step_up.step_up import StepUp
from services.storage.database import Database
from services.storage.encryption import Encryption
from services.webhooks import parts as webhook_parts
from services.webhooks.outbox import WebhookOutbox
from services.websocket.direct_connection import WebSocketConnection
from services.websocket.frames import Opcode
from services.websocket.protocol import CloseCode
from tests.support.databases import opened
from tests.support.redis import PATIENCE, RealRedis, until, within

DEVICE = Device("Firefox on Linux", "192.0.2.7")
JWT_SECRET = Secret("a secret of the tests, 32 bytes or more")
ACCESS_TTL, REFRESH_TTL, LIFETIME, TICKET_TTL = 900.0, 3600.0, 86400.0, 30.0
LEASE = 3600.0
"""Longer than any test: nothing here learns of revocations by itself."""
MAX_SESSIONS = 100
HISTORY_MESSAGES, HISTORY_SECONDS = 1000, 86400.0
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

    def epoch(self, key: str) -> str | None:
        return self.inner.epoch(key)

    def call(self, *commands: Command) -> Awaitable[list[Any]]:
        self.groups.append(commands)
        return self.inner.call(*commands)

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
    """Join the services of one node, as `services.composition.container.build` does."""
    metrics, hub = Metrics(), Hub()
    # A log in Redis has the ids of Redis' clock, which no test can turn.
    rooms = Rooms(
        bus,
        as_event=lambda kept: message_event(kept.id, kept.body),
        clock=clock if isinstance(bus, MemoryBus) else time.time,
        proof_clock=clock,
    )
    control = Control(bus, rooms, name, metrics)
    control.on_replaced(lambda session_id: replace(hub, session_id))
    tokens = Tokens([JWT_SECRET], ISSUER, ttl=ACCESS_TTL, clock=clock)
    cache = LoginCache(counting, ACCESS_TTL, clock)
    revocations = Revocations(database, cache, hub, control, metrics, ACCESS_TTL, clock)
    freshness = Freshness(database, settings.step_up_seconds, clock)
    sessions = LoginSessions(
        database,
        tokens,
        cache,
        revocations,
        REFRESH_TTL,
        LIFETIME,
        settings.max_sessions_per_user,
        clock,
        epoch=lambda: freshness.epoch,
    )
    session_ends = SessionEnds(database, revocations, clock)
    shared = SharedGrants(database, ACCESS_TTL + SLACK_SECONDS, clock)
    outbox = WebhookOutbox(clock)
    channels = Channels(
        database,
        revocations,
        clock,
        shares=Shares(
            settings.max_channels_per_owner,
            settings.max_memberships_given,
            settings.max_memberships_given_to_one,
        ),
        outbox=outbox,
    )
    access = Access(hub, channels, shared)
    authors = Authors(database)
    revocations.on_access(Renames(hub, authors, access.apply).apply)
    passwords = shared_passwords()
    limits = HourlyLimits(counting.inner, limits_of(settings), metrics, clock)
    tickets = Tickets(counting, database, tokens.tickets, limits, TICKET_TTL, clock)
    pool, nodes = SessionPool(counting, clock), Nodes(counting, name, clock)
    watch = LoopWatch()
    node_lease = NodeLease(watch, hub, revocations, control, LEASE)
    admission = Admission(
        tokens,
        tickets,
        cache,
        LoginStates(database, clock),
        revocations,
        node_lease,
        shared,
        metrics,
        clock,
    )
    audit = AuditTrail(database, lambda _: None, settings.log_format, metrics, clock)
    tell_of_sessions(sessions, revocations, outbox, audit)
    encryption = Encryption(settings.encryption_keys)
    mail = mail_parts.join(settings, database, encryption, metrics, limits, ISSUER, clock)
    health = Health(database, counting, encryption, metrics, name)
    app_keys = AppKeys(
        database, encryption, bool(settings.app_audiences), health.keys_are_wrong, clock
    )
    app_tokens = AppTokens(app_keys, ISSUER, settings.app_audiences, clock)
    registration = registration_parts.join(
        database,
        session_ends,
        revocations,
        limits,
        tokens.links,
        ISSUER,
        settings.signup,
        settings.email_domains,
        hooks.invited(audit),
        hooks.handed_over(audit),
        mail.outbox,
        clock,
        clock,
    )
    oauth = oauth_parts.join(
        Providers(settings.oauth_providers, ISSUER, clock),
        database,
        encryption,
        sessions,
        session_ends,
        revocations,
        limits,
        health.keys_are_wrong,
        metrics,
        registration.rules,
        registration.handovers,
        clock,
        outbox,
    )
    limit = SocketLimit(counting, hub, settings.max_sockets_per_user, clock)
    factors = factor_parts.join(
        database,
        encryption,
        sessions,
        tokens,
        limits,
        health.keys_are_wrong,
        settings.app_name,
        metrics,
        mail.outbox,
        hooks.passkey_copied(audit),
        clock,
    )
    registration.handovers.on_handover(factors.factors.remove_all)
    accounts = Accounts(
        database,
        passwords,
        sessions,
        session_ends,
        revocations,
        registration.rules,
        SignInLimits(limits),
        Devices(tokens.devices),
        factors.challenges.begin_within,
        metrics,
        clock,
        outbox,
        mail.outbox,
        settings.email_verification != "off",
    )
    services = Services(
        node=name,
        infrastructure=Infrastructure(
            settings, None, None, counting, bus, database, metrics, watch
        ),
        metrics=metrics,
        hub=hub,
        pool=pool,
        admission=admission,
        joins=Joins(admission, rooms, limit),
        accounts=accounts,
        administration=Administration(
            database, session_ends, revocations, oauth.take_out, clock, outbox=outbox
        ),
        export=Export(database, factors.factors.methods, clock),
        authors=authors,
        login_sessions=sessions,
        session_ends=session_ends,
        refresh=refresh_parts.join(
            database,
            sessions,
            session_ends,
            revocations,
            tokens.refresh,
            limits,
            REFRESH_TTL,
            clock,
        ),
        channels=channels,
        shared_grants=shared,
        revocations=revocations,
        tickets=tickets,
        last_seen=LastSeen(sessions),
        control=control,
        nodes=nodes,
        token_binding=TokenBinding(counting, database, control, revocations, hub, name, clock),
        access=access,
        node_lease=node_lease,
        logout_ack=LogoutAcknowledgement(session_ends, pool, nodes, control),
        bus=bus,
        rooms=rooms,
        presence=Presence(counting, rooms, name, clock),
        session_watch=SessionWatch(rooms, name),
        usage=Usage(counting, clock),
        models=ModelRegistry(database, counting),
        api_keys=ApiKeys(
            database, cache, revocations, admission.wait_current, tokens.api_keys, clock
        ),
        health=health,
        background=Background(metrics, database.callers),
        audit=audit,
        passwords=passwords,
        registration=registration,
        password_links=PasswordLinks(
            database,
            passwords,
            session_ends,
            revocations,
            LinkTokens(tokens.links, limits, ISSUER),
            registration.rules,
            registration.handovers,
            outbox,
            mail.outbox,
            clock,
        ),
        recovery=recovery_parts.join(
            database,
            accounts,
            passwords,
            sessions,
            registration,
            limits,
            LinkTokens(tokens.links, limits, ISSUER),
            mail.outbox,
            outbox,
            settings.email_verification,
            hooks.happened(audit, "link.created", "forgot"),
            hooks.happened(audit, "account.created"),
            clock,
        ),
        limits=limits,
        tokens=tokens,
        app_keys=app_keys,
        app_tokens=app_tokens,
        introspection=Introspection(admission, tokens, app_tokens),
        publishing=Publishing(database, rooms, Idempotency(database, clock), clock),
        encryption=encryption,
        native_codes=NativeCodes(
            database, sessions, session_ends, revocations, tokens.codes, limits, clock
        ),
        oauth=oauth,
        mail=mail,
        webhooks=webhook_parts.join(
            outbox,
            database,
            encryption,
            health.keys_are_wrong,
            metrics,
            settings.webhook_private,
            clock,
        ),
        unjoined_counts=UnjoinedCounts(counting, nodes, settings.max_unjoined_per_address),
        freshness=freshness,
        step_up=StepUp(
            database, accounts, sessions, freshness, factors.factors, factors.passkeys, clock
        ),
        factors=factors.factors,
        login_challenges=factors.challenges,
        passkeys=factors.passkeys,
        overview=Overview(
            counting, nodes, Meter(metrics, hub.__len__, lambda: rooms.channels), Totals(database)
        ),
    )
    joined = {f.name: getattr(services, f.name) for f in fields(Parts) if hasattr(services, f.name)}
    return Parts(
        name=name,
        clock=clock,
        database=database,
        store=counting,
        cache=cache,
        services=services,
        context=SocketContext(services, {**EVENTS, **ROOM_EVENTS}, clock),
        **joined,
    )


def replace(hub: Hub, session_id: str) -> None:
    """As the container does it."""
    if (client := hub.get(session_id)) is not None:
        client.close(CloseCode.REPLACED)


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
