"""Usher set up for the kit: with the kit's provider, and limits that are quickly reached."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args

from conformance.provider import Provider, running
from conformance.target import ProviderSettings, Target
from services.accounts.api_key_rows import Scope
from tests.support.nodes import nodes
from tests.support.path_prefix import Below
from tests.support.server import PATIENCE, Client, Usher, free_port, sign_up, usher

JOIN_TIMEOUT, MAX_UNJOINED, MAX_SOCKETS = 6, 60, 20
MAX_SESSIONS, LIMIT_SIGNINS, LIMIT_WRONG_SIGNINS = 12, 16, 20
LIMIT_REFRESHES, LIMIT_TICKETS = 40, 300
NAME = "conformance"


@contextmanager
def kits_own_provider() -> Iterator[Provider]:
    """The kit's provider. It listens before the server is told of it: its port is the system's."""
    with running(ProviderSettings(NAME, "127.0.0.1", 0, "", NAME, NAME)) as provider:
        yield provider


def settings_for(provider: ProviderSettings) -> dict[str, object]:
    """What an operator sets, see docs/conformance.md."""
    return {
        "OAUTH_PROVIDERS": provider.name,
        "OAUTH_CONFORMANCE_ISSUER": provider.issuer,
        "OAUTH_CONFORMANCE_CLIENT_ID": provider.client_id,
        "OAUTH_CONFORMANCE_CLIENT_SECRET": provider.client_secret,
        "JOIN_TIMEOUT_SECONDS": JOIN_TIMEOUT,
        "TICKET_TTL_SECONDS": 5,
        "MAX_UNJOINED_PER_ADDRESS": MAX_UNJOINED,
        "MAX_SOCKETS_PER_USER": MAX_SOCKETS,
        "MAX_SESSIONS_PER_USER": MAX_SESSIONS,
        "LIMIT_SIGNINS": LIMIT_SIGNINS,
        "LIMIT_REFRESHES": LIMIT_REFRESHES,
        "LIMIT_TICKETS": LIMIT_TICKETS,
        "LIMIT_WRONG_SIGNINS": LIMIT_WRONG_SIGNINS,
        "APP_AUDIENCES": NAME,
    }


def target(
    servers: list[Usher], admin: Client, provider: ProviderSettings, **options: Any
) -> Target:
    """As the command's arguments would say it. Bounds are wide: the machine may be busy."""
    body = {"name": "conformance", "scopes": list(get_args(Scope))}
    made = admin.post("/api/admin/api-keys", body)
    assert made.status == 201, made
    usual: dict[str, Any] = {
        "nodes": tuple(server.url for server in servers),
        "origin": servers[0].origin,
        "admin_key": made.body["key"],
        "admin_token": admin.token,
        "provider": provider,
        "allowance": PATIENCE / 2,
        "patience": PATIENCE,
        "timeout": PATIENCE,
        "join_timeout": float(JOIN_TIMEOUT),
        "max_unjoined": MAX_UNJOINED,
        "max_sockets": MAX_SOCKETS,
        "max_sessions": MAX_SESSIONS,
        "limit_signins": LIMIT_SIGNINS,
        "limit_refreshes": LIMIT_REFRESHES,
        "limit_tickets": LIMIT_TICKETS,
        "limit_wrong_signins": LIMIT_WRONG_SIGNINS,
        "app_audience": NAME,
        "exhaust": True,
    }
    return Target(**{**usual, **options})


@contextmanager
def one_node(kind: str, provider: ProviderSettings, **settings: object) -> Iterator[Target]:
    """A node with sockets of this form (tests/support/server.py)."""
    with usher(kind, **{**settings_for(provider), **settings}) as server:
        yield target([server], sign_up(server), provider)


@contextmanager
def node_below(path: str, kind: str, provider: ProviderSettings) -> Iterator[Target]:
    """A node that everybody reaches below a path of its host."""
    port = free_port()
    settings = {"PORT": port, "PUBLIC_URL": f"http://127.0.0.1:{port}{path}"}
    with usher(kind, **{**settings_for(provider), **settings}) as server:
        reached = Below(server.url + path).as_server
        yield target([reached], sign_up(reached), provider, public_url=reached.url)


@contextmanager
def two_nodes(kind: str, provider: ProviderSettings) -> Iterator[Target]:
    """Two nodes, with the rate of messages that the contract has."""
    settings = {**settings_for(provider), "MESSAGE_RATE": 50}
    with nodes(kind, 2, **settings) as both:
        yield target([both[0], both[1]], both.admin, provider)
