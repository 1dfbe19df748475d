"""Creates the services of one server and connects them."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

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
from services.composition.health import Health
from services.composition.infrastructure import Infrastructure
from services.event_loop.background import Background
from services.event_loop.steady_clock import SteadyClock
from services.factors import parts as factor_parts
from services.factors.challenges import LoginChallenges
from services.factors.factors import Factors
from services.factors.passkeys import Passkeys
from services.grants.shared import SharedGrants
from services.limits.hourly import HourlyLimits, limits_of
from services.mail import parts as mail_parts
from services.mail.parts import MailParts
from services.metrics import Metrics
from services.native.codes import NativeCodes
from services.overview.meter import Meter
from services.overview.overview import Overview
from services.overview.totals import Totals
from services.providers import parts as oauth_parts
from services.providers.parts import OAuthParts
from services.providers.registry import Providers
from services.recovery import parts as recovery_parts
from services.recovery.parts import RecoveryParts
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
from services.rooms.room_protocol import gap_event, message_event
from services.rooms.rooms import Rooms
from services.rooms.shares import Shares
from services.rooms.usage import Usage
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
from services.sessions.tickets import Tickets
from services.sessions.token_binding import TokenBinding
from services.sessions.tokens import Tokens
from services.sockets.hub import Hub
from services.sockets.nodes import Nodes
from services.sockets.session_pool import SessionPool
from services.sockets.session_watch import SessionWatch
from services.sockets.socket_limit import SocketLimit
from services.sockets.unjoined_counts import UnjoinedCounts
from services.step_up.freshness import Freshness
from services.step_up.step_up import StepUp
from services.storage.encryption import Encryption
from services.webhooks import hooks as webhook_hooks
from services.webhooks import parts as webhook_parts
from services.webhooks.outbox import WebhookOutbox
from services.webhooks.parts import WebhookParts
from services.websocket.protocol import CloseCode

log = logging.getLogger("usher")


@dataclass(frozen=True)
class Services:
    """The services that handlers may call."""

    node: str
    infrastructure: Infrastructure
    metrics: Metrics
    hub: Hub
    pool: SessionPool
    admission: Admission
    joins: Joins
    accounts: Accounts
    administration: Administration
    export: Export
    authors: Authors
    login_sessions: LoginSessions
    session_ends: SessionEnds
    refresh: RefreshParts
    channels: Channels
    shared_grants: SharedGrants
    revocations: Revocations
    tickets: Tickets
    last_seen: LastSeen
    control: Control
    nodes: Nodes
    token_binding: TokenBinding
    access: Access
    node_lease: NodeLease
    logout_ack: LogoutAcknowledgement
    bus: Bus
    rooms: Rooms
    presence: Presence
    session_watch: SessionWatch
    usage: Usage
    models: ModelRegistry
    api_keys: ApiKeys
    health: Health
    background: Background
    audit: AuditTrail
    passwords: Passwords
    registration: RegistrationParts
    password_links: PasswordLinks
    limits: HourlyLimits
    tokens: Tokens
    app_keys: AppKeys
    app_tokens: AppTokens
    introspection: Introspection
    publishing: Publishing
    encryption: Encryption
    native_codes: NativeCodes
    oauth: OAuthParts
    webhooks: WebhookParts
    mail: MailParts
    unjoined_counts: UnjoinedCounts
    freshness: Freshness
    step_up: StepUp
    factors: Factors
    recovery: RecoveryParts
    login_challenges: LoginChallenges
    passkeys: Passkeys
    overview: Overview


def build(
    infrastructure: Infrastructure,
    issuer: str,
    pages: str,
    write_lines: Callable[[str], None],
    node: str = "",
    clock: Callable[[], float] | None = None,
    passwords: Passwords | None = None,
) -> Services:
    """Create the services and connect them. Nothing is started.

    Args:
        issuer: `iss` of the tokens: the public URL.
        pages: the base URL of links in mails, invitations and reset links, without a trailing
            slash: the one that the start screen shows, because the browser's cookies are there.
        write_lines: writes lines of the audit trail. It must not block.
        node: the id of this node; a random one by default.
        clock: replaces all clocks of the services, for tests.
        passwords: hashes passwords; with threads of its own by default.
    """
    wall, steady = clock or time.time, clock or SteadyClock()
    settings, metrics = infrastructure.settings, infrastructure.metrics
    store, database = infrastructure.store, infrastructure.database
    token_life = max(settings.access_token_ttl_seconds, settings.ticket_ttl_seconds)
    tokens = Tokens(settings.jwt_secrets, issuer, ttl=settings.access_token_ttl_seconds, clock=wall)
    node, hub = node or secrets.token_urlsafe(8), Hub()
    pool, nodes = SessionPool(store, wall), Nodes(store, node, wall)
    watch = infrastructure.watch
    freshness = Freshness(database, settings.step_up_seconds, steady)
    rooms = Rooms(
        infrastructure.bus,
        as_event=lambda kept: message_event(kept.id, kept.body),
        clock=wall if isinstance(infrastructure.bus, MemoryBus) else time.time,  # that of the ids
        stalled=watch.check,
        as_gap=gap_event,
        proof_clock=freshness.clock,
    )
    control = Control(infrastructure.bus, rooms, node, metrics)
    control.on_replaced(lambda session_id: _replace(hub, session_id))
    cache = LoginCache(store, token_life, wall)
    revocations = Revocations(database, cache, hub, control, metrics, token_life, wall)
    login_sessions = LoginSessions(
        database,
        tokens,
        cache,
        revocations,
        settings.refresh_token_ttl_seconds,
        settings.session_lifetime_seconds,
        settings.max_sessions_per_user,
        clock=wall,
        steady=steady,
        epoch=lambda: freshness.epoch,
        verified_only=settings.email_verification == "required",
    )
    session_ends = SessionEnds(database, revocations, wall)
    shared = SharedGrants(
        database, token_life + SLACK_SECONDS, wall, settings.max_joined_open_channels
    )
    outbox = WebhookOutbox(wall)
    channels = Channels(
        database,
        revocations,
        wall,
        shares=Shares(
            settings.max_channels_per_owner,
            settings.max_memberships_given,
            settings.max_memberships_given_to_one,
            settings.max_open_channels_per_owner,
        ),
        outbox=outbox,
        forget=infrastructure.bus.forget,
    )
    access = Access(hub, channels, shared)
    audit = AuditTrail(database, write_lines, settings.log_format, metrics, wall)
    tell_of_sessions(login_sessions, revocations, outbox, audit)
    node_lease = NodeLease(watch, hub, revocations, control, settings.lease_seconds)
    authors = Authors(database)
    revocations.on_access(Renames(hub, authors, access.apply).apply)
    passwords = passwords or Passwords(callers=database.callers)
    limits = HourlyLimits(
        store,
        limits_of(settings),
        metrics,
        clock or time.monotonic,
        processes=settings.processes,
    )
    tickets = Tickets(store, database, tokens.tickets, limits, settings.ticket_ttl_seconds, wall)
    admission = Admission(
        tokens,
        tickets,
        cache,
        LoginStates(database, wall),
        revocations,
        node_lease,
        shared,
        metrics,
        wall,
    )
    encryption = Encryption(settings.encryption_keys)
    mail = mail_parts.join(settings, database, encryption, metrics, limits, pages, clock)
    health = Health(
        database,
        store,
        encryption,
        metrics,
        node,
        mail=mail.dispatcher.state,
        worker=infrastructure.worker,
    )
    app_keys = AppKeys(
        database, encryption, bool(settings.app_audiences), health.keys_are_wrong, wall
    )
    app_tokens = AppTokens(app_keys, issuer, settings.app_audiences, wall)
    registration = registration_parts.join(
        database,
        session_ends,
        revocations,
        limits,
        tokens.links,
        pages,
        settings.signup,
        settings.email_domains,
        hooks.invited(audit),
        hooks.handed_over(audit),
        mail.outbox,
        wall,
        clock,
    )
    oauth = oauth_parts.join(
        Providers(settings.oauth_providers, issuer, wall),
        database,
        encryption,
        login_sessions,
        session_ends,
        revocations,
        limits,
        health.keys_are_wrong,
        metrics,
        registration.rules,
        registration.handovers,
        wall,
        outbox,
    )
    factors = factor_parts.join(
        database,
        encryption,
        login_sessions,
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
        login_sessions,
        session_ends,
        revocations,
        registration.rules,
        SignInLimits(limits),
        Devices(tokens.devices),
        factors.challenges.begin_within,
        metrics,
        wall,
        outbox,
        mail.outbox,
        verifies=settings.email_verification != "off",
    )
    return Services(
        node=node,
        infrastructure=infrastructure,
        metrics=metrics,
        hub=hub,
        pool=pool,
        admission=admission,
        joins=Joins(
            admission,
            rooms,
            SocketLimit(store, hub, settings.max_sockets_per_user, wall, settings.processes),
        ),
        accounts=accounts,
        administration=Administration(
            database,
            session_ends,
            revocations,
            oauth.take_out,
            wall,
            outbox,
            mail.outbox,
        ),
        export=Export(database, factors.factors.methods, wall),
        authors=authors,
        login_sessions=login_sessions,
        session_ends=session_ends,
        refresh=refresh_parts.join(
            database,
            login_sessions,
            session_ends,
            revocations,
            tokens.refresh,
            limits,
            settings.refresh_token_ttl_seconds,
            wall,
            steady,
        ),
        channels=channels,
        shared_grants=shared,
        revocations=revocations,
        tickets=tickets,
        last_seen=LastSeen(login_sessions),
        control=control,
        nodes=nodes,
        token_binding=TokenBinding(store, database, control, revocations, hub, node, wall),
        access=access,
        node_lease=node_lease,
        logout_ack=LogoutAcknowledgement(session_ends, pool, nodes, control),
        bus=infrastructure.bus,
        rooms=rooms,
        presence=Presence(store, rooms, node, wall),
        session_watch=SessionWatch(rooms, node),
        usage=Usage(store, wall),
        models=ModelRegistry(database, store),
        api_keys=ApiKeys(
            database, cache, revocations, admission.wait_current, tokens.api_keys, wall
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
            LinkTokens(tokens.links, limits, pages),
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
            login_sessions,
            registration,
            limits,
            LinkTokens(tokens.links, limits, pages),
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
        publishing=Publishing(database, rooms, Idempotency(database, wall), wall),
        encryption=encryption,
        native_codes=NativeCodes(
            database, login_sessions, session_ends, revocations, tokens.codes, limits, clock
        ),
        oauth=oauth,
        webhooks=webhook_parts.join(
            outbox,
            database,
            encryption,
            health.keys_are_wrong,
            metrics,
            settings.webhook_private,
            wall,
        ),
        mail=mail,
        unjoined_counts=UnjoinedCounts(
            store, nodes, settings.max_unjoined_per_address, settings.processes
        ),
        freshness=freshness,
        step_up=StepUp(
            database, accounts, login_sessions, freshness, factors.factors, factors.passkeys, wall
        ),
        factors=factors.factors,
        login_challenges=factors.challenges,
        passkeys=factors.passkeys,
        overview=Overview(
            store,
            nodes,
            Meter(metrics, hub.__len__, lambda: rooms.channels),
            Totals(database, wall),
        ),
    )


def tell_of_sessions(
    login_sessions: LoginSessions,
    revocations: Revocations,
    outbox: WebhookOutbox,
    audit: AuditTrail,
) -> None:
    """Connect the events of login sessions to webhooks and the audit trail."""
    login_sessions.on_opening(webhook_hooks.opened(outbox))
    revocations.on_recorded(webhook_hooks.ended(outbox))
    login_sessions.on_opened(hooks.opened(audit))
    revocations.on_made(hooks.revoked(audit))


def _replace(hub: Hub, session_id: str) -> None:
    """Close a socket whose bearer token has opened another socket on another node."""
    if (client := hub.get(session_id)) is not None:
        client.close(CloseCode.REPLACED)
