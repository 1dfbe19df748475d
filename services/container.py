"""Every part of one server, made and joined in one place."""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass

from services import oauth_parts
from services.access import Access
from services.accounts import Accounts
from services.admission import Admission
from services.api_keys import ApiKeys
from services.background import Background
from services.bearers import Bearers
from services.bus import Bus
from services.channels import Channels
from services.control import Control
from services.cutting import Cutting
from services.encryption import Encryption
from services.foundation import Foundation
from services.health import Health
from services.hub import Hub
from services.login_cache import LoginCache
from services.login_sessions import LoginSessions
from services.metrics import Metrics
from services.model_registry import ModelRegistry
from services.nodes import Nodes
from services.oauth_parts import OAuthParts
from services.oauth_providers import Providers
from services.passwords import Passwords
from services.presence import Presence
from services.protocol import CloseCode
from services.rate_limit import GuessLimit
from services.revocations import Revocations
from services.room_protocol import message_event
from services.rooms import Rooms
from services.seen import Seen
from services.session_pool import SessionPool
from services.tickets import Tickets
from services.tokens import Tokens
from services.usage import Usage

log = logging.getLogger("usher")


@dataclass(frozen=True)
class Services:
    """What handlers may call."""

    node: str
    foundation: Foundation
    metrics: Metrics
    hub: Hub
    pool: SessionPool
    admission: Admission
    accounts: Accounts
    login_sessions: LoginSessions
    channels: Channels
    revocations: Revocations
    tickets: Tickets
    seen: Seen
    control: Control
    nodes: Nodes
    bearers: Bearers
    access: Access
    cutting: Cutting
    bus: Bus
    rooms: Rooms
    presence: Presence
    usage: Usage
    models: ModelRegistry
    api_keys: ApiKeys
    health: Health
    background: Background
    passwords: Passwords
    guesses: GuessLimit
    oauth: OAuthParts


def build(foundation: Foundation, issuer: str) -> Services:
    """Join the parts. Nothing runs yet.

    Args:
        issuer: `iss` of the tokens: the public URL.
    """
    settings, metrics = foundation.settings, foundation.metrics
    store, database = foundation.store, foundation.database
    token_life = max(settings.access_token_ttl_seconds, settings.ticket_ttl_seconds)
    tokens = Tokens(settings.jwt_secrets, issuer, ttl=settings.access_token_ttl_seconds)
    node, hub = secrets.token_urlsafe(8), Hub()
    pool, nodes = SessionPool(store), Nodes(store, node)
    rooms = Rooms(foundation.bus, as_event=lambda kept: message_event(kept.id, kept.body))
    control = Control(foundation.bus, rooms, node, metrics)
    control.on_replaced(lambda session_id: _replace(hub, session_id))
    cache = LoginCache(store, token_life)
    revocations = Revocations(database, cache, hub, control, metrics, token_life)
    login_sessions = LoginSessions(
        database,
        tokens,
        cache,
        revocations,
        settings.refresh_token_ttl_seconds,
        settings.session_lifetime_seconds,
    )
    channels = Channels(database, revocations)
    access = Access(hub, channels)
    revocations.on_access(access.apply)
    passwords = Passwords()
    guesses = GuessLimit(store, metrics)
    tickets = Tickets(store, database, settings.ticket_ttl_seconds)
    encryption = Encryption(settings.encryption_keys)
    health = Health(database, store, encryption, metrics, on_cut_off=lambda: _cut_off(hub))
    providers = Providers(settings.oauth_providers, issuer)
    oauth = oauth_parts.join(
        providers, database, encryption, login_sessions, revocations, guesses, health, metrics
    )
    return Services(
        node=node,
        foundation=foundation,
        metrics=metrics,
        hub=hub,
        pool=pool,
        admission=Admission(tokens, tickets, cache, login_sessions, revocations, metrics),
        accounts=Accounts(
            database,
            passwords,
            login_sessions,
            revocations,
            guesses,
            oauth.tokens,
            oauth.logout.give_back,
            metrics,
        ),
        login_sessions=login_sessions,
        channels=channels,
        revocations=revocations,
        tickets=tickets,
        seen=Seen(login_sessions),
        control=control,
        nodes=nodes,
        bearers=Bearers(store, control),
        access=access,
        cutting=Cutting(login_sessions, pool, nodes, control),
        bus=foundation.bus,
        rooms=rooms,
        presence=Presence(store, rooms, node),
        usage=Usage(store),
        models=ModelRegistry(database, store),
        api_keys=ApiKeys(database),
        health=health,
        background=Background(metrics),
        passwords=passwords,
        guesses=guesses,
        oauth=oauth,
    )


def _cut_off(hub: Hub) -> None:
    if cut := hub.cut_all(CloseCode.UNAVAILABLE):
        log.error("neither the database nor redis for a whole lease: %d sockets closed", cut)


def _replace(hub: Hub, session_id: str) -> None:
    """The bearer token of a socket here has opened another one on another node."""
    if (client := hub.get(session_id)) is not None:
        client.close(CloseCode.REPLACED)
