"""Installations of every earlier version, brought forward with all they hold."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import peewee
import pytest

from services.accounts.passwords import Passwords
from services.storage.encryption import generate_key
from services.storage.migrations import DIRECTORY, HISTORY_TABLE
from tests.storage.installations import EMAIL, FIRST, NODES, Row, database_kind, history
from tests.support.checks import rows
from tests.support.databases import opened, opened_at
from tests.support.redis import RealRedis, redis_server
from tests.support.server import PASSWORD, Client, Usher, log_in, sign_up, usher

__all__ = ["database_kind", "redis_server"]

FAR = 4e9
"""Epoch seconds that no test lives to see."""
MIGRATIONS = sorted(file.stem for file in DIRECTORY.glob("[0-9]*.py"))
ROWS: dict[str, dict[str, Row]] = {
    FIRST: {
        "users": {
            "id": "u",
            "email": EMAIL,
            "email_verified": True,
            "name": "Ada",
            "role": "admin",
            "founder": 1,
            "created_at": 1.5,
        },
        "login_sessions": {
            "id": "s",
            "user_id": "u",
            "method": "password",
            "device": "d",
            "ip": "192.0.2.7",
            "created_at": 1.5,
            "last_seen_at": 2.5,
            "expires_at": FAR,
        },
        "refresh_tokens": {"hash": "r", "session_id": "s", "created_at": 1.5, "expires_at": FAR},
        "revocations": {
            "kind": "session",
            "subject": "gone",
            "user_id": "u",
            "reason": "logout",
            "created_at": 1.5,
            "expires_at": FAR,
        },
        "tickets": {"hash": "t", "payload": "{}", "expires_at": FAR},
        "installation": {"key": "k", "value": "v"},
    },
    "0002_channels": {
        "channels": {
            "id": "c",
            "name": "Herons",
            "private": True,
            "owner_id": "u",
            "created_at": 1.5,
        },
        "channel_members": {
            "channel_id": "c",
            "user_id": "u",
            "access_right": "read",
            "since": 1.5,
        },
        "channel_roles": {"channel_id": "c", "role": "user", "access_right": "write", "since": 1.5},
    },
    "0003_backends": {
        "api_keys": {
            "id": "a",
            "hash": "h",
            "name": "n",
            "scopes": "read",
            "created_by": "u",
            "created_at": 1.5,
        },
        "usage_models": {"id": "m", "title": "M"},
    },
    "0004_identities": {
        "identities": {
            "provider": "idp",
            "subject": "ada",
            "issuer": "https://idp.example",
            "user_id": "u",
            "email": EMAIL,
            "linked_at": 1.5,
            "last_used_at": 2.5,
        },
        "oauth_tokens": {
            "id": "o",
            "provider": "idp",
            "subject": "ada",
            "user_id": "u",
            "login_session_id": "s",
            "access_token": "sealed",
            "scopes": "openid",
            "created_at": 1.5,
        },
        "used_once": {"hash": "x", "expires_at": FAR},
    },
    "0005_unlinked_providers": {"unlinked_providers": {"user_id": "u", "provider": "idp"}},
    "0007_known_networks": {
        "known_networks": {"user_id": "u", "network": "192.0.2.7", "last_used_at": 1.5},
        "refresh_keys": {"key_id": "k", "last_used_at": 1.5},
    },
    "0010_audit_events": {
        "audit_events": {
            "at": 1.5,
            "kind": "login",
            "actor": "u",
            "subject": "u",
            "session": "s",
            "address": "192.0.2.7",
            "reason": "",
            "target": "",
        },
    },
    "0013_app_keys": {
        "app_keys": {
            "number": 1,
            "kid": "k",
            "private_key": "sealed",
            "public_key": "{}",
            "created_at": 1.5,
        },
    },
    "0014_idempotency_keys": {
        "idempotency_keys": {
            "hash": "h",
            "fingerprint": "f",
            "token": "t",
            "claimed_at": 1.5,
            "expires_at": FAR,
        },
    },
    "0015_native_codes": {
        "native_codes": {
            "hash": "h",
            "session_id": "s",
            "challenge": "c",
            "redirect_uri": "http://127.0.0.1:1/",
            "created_at": 1.5,
        },
    },
    "0017_webhooks": {
        "webhooks": {
            "id": "w",
            "url": "https://receiver.test/",
            "secret": "sealed",
            "created_at": 1.5,
            "created_by": "u",
        },
        "webhook_subscriptions": {"type": "user.created", "webhook_id": "w"},
        "webhook_deliveries": {
            "webhook_id": "w",
            "event_id": "e",
            "type": "user.created",
            "subject": "u",
            "queue": "u",
            "body": "{}",
            "state": "waiting",
            "due_at": 1.5,
            "created_at": 1.5,
        },
    },
    "0018_account_links": {
        "account_links": {
            "hash": "h",
            "user_id": "u",
            "purpose": "password",
            "state": "s",
            "created_at": 1.5,
            "expires_at": FAR,
        },
    },
    "0022_outgoing_mails": {
        "outgoing_mails": {
            "id": 1,
            "kind": "reset_password",
            "is_asked": True,
            "sealed": "s",
            "attempts": 2,
            "due_at": FAR,
            "claim": "c",
            "is_handed": False,
            "created_at": 1.5,
            "expires_at": FAR,
        },
    },
    "0019_factors": {
        "totp_secrets": {"user_id": "u", "secret": "sealed", "created_at": 1.5},
        "recovery_codes": {"hash": "h", "user_id": "u"},
        "passkeys": {
            "id": "p",
            "credential_id": "c",
            "user_id": "u",
            "name": "Key",
            "public_key": "k",
            "created_at": 1.5,
        },
        "login_challenges": {
            "hash": "h",
            "user_id": "u",
            "method": "password",
            "client": "browser",
            "state": "s",
            "created_at": 1.5,
            "expires_at": FAR,
        },
    },
    "0020_invitations": {
        "invitations": {
            "id": "i",
            "hash": "h",
            "role": "user",
            "created_by": "u",
            "created_at": 1.5,
            "expires_at": FAR,
        },
    },
}
"""One row for each table that a migration made, in the columns that it had then."""


def test_each_migration_has_a_number_of_its_own_and_none_is_left_out() -> None:
    numbers = [int(name.partition("_")[0]) for name in MIGRATIONS]
    assert numbers == list(range(1, len(MIGRATIONS) + 1))


@pytest.mark.parametrize("version", MIGRATIONS[:-1])
def test_an_older_installation_is_brought_forward_with_all_it_holds(
    bare_database_url: str, version: str
) -> None:
    rows = {table: row for name in ROWS if name <= version for table, row in ROWS[name].items()}

    async def check() -> None:
        async with opened_at(bare_database_url, version) as database:
            assert await database.run(history) == [name for name in MIGRATIONS if name <= version]
            tables = set(await database.run(lambda db: db.get_tables()))
            assert tables - {HISTORY_TABLE, "sqlite_sequence"} == set(rows), "a row for each"
            for table, row in rows.items():
                await database.run(insert, table, row)
        async with opened(bare_database_url) as database:
            assert await database.run(history) == MIGRATIONS
            for table, row in rows.items():
                assert await database.run(stored, table, list(row)) == [tuple(row.values())]

    asyncio.run(check())


def insert(db: peewee.Database, table: str, row: Row) -> None:
    places = ", ".join([db.param] * len(row))
    db.execute_sql(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", tuple(row.values()))


def stored(db: peewee.Database, table: str, columns: list[str]) -> list[tuple[object, ...]]:
    query = db.execute_sql(f"SELECT {', '.join(columns)} FROM {table}")
    return [tuple(row) for row in query.fetchall()]


@pytest.mark.slow
@pytest.mark.parametrize("before", ["empty", FIRST])
def test_nodes_that_start_at_once_bring_it_up_once_and_all_work(
    bare_database_url: str, redis_server: RealRedis, before: str
) -> None:
    if before == FIRST:
        asyncio.run(leave_an_account(bare_database_url))
    settings = {
        "REDIS_URL": redis_server.url,
        "JWT_SECRETS": "one secret that all of the nodes have in common",
        "ENCRYPTION_KEYS": generate_key().reveal(),
        "PUBLIC_URL": "http://usher.test",
    }
    with ExitStack() as stack, ThreadPoolExecutor(NODES) as pool:

        def start(_: int) -> Usher:
            return stack.enter_context(usher(bare_database_url, **settings))

        nodes = list(pool.map(start, range(NODES)))
        if before == "empty":
            assert sign_up(nodes[0], email=EMAIL).user["role"] == "admin"
        for node in nodes:
            assert log_in(node, EMAIL).user["role"] == "admin"
            assert Client(node).get("/readyz").status == 200
        applied = rows(nodes[0], f"SELECT name FROM {HISTORY_TABLE} ORDER BY name")
        assert [name for (name,) in applied] == MIGRATIONS


async def leave_an_account(bare_database_url: str) -> None:
    """As the first version did."""
    passwords = Passwords()
    try:
        phc = await passwords.hash(PASSWORD)
    finally:
        passwords.close()
    user = {"id": "u", "email": EMAIL, "name": "Ada", "password_hash": phc, "role": "admin"}
    async with opened_at(bare_database_url, FIRST) as database:
        await database.run(insert, "users", user | {"founder": 1, "created_at": 1.5})
