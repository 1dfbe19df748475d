"""Where accounts have signed in from, and which secrets refresh tokens were made with.

Written as SQL and not from the models, as 0001 is.
"""

from __future__ import annotations

import ipaddress
import time
from typing import Any

import peewee

TABLE = """
    CREATE TABLE known_networks (
        user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        network TEXT NOT NULL,
        last_used_at DOUBLE PRECISION NOT NULL,
        PRIMARY KEY (user_id, network)
    )
    """
KEYS = """
    CREATE TABLE refresh_keys (
        key_id TEXT NOT NULL PRIMARY KEY,
        last_used_at DOUBLE PRECISION NOT NULL
    )
    """
BY_NETWORK = "CREATE INDEX known_networks_network ON known_networks (network, last_used_at)"
INDEX = "CREATE INDEX known_networks_last_used_at ON known_networks (last_used_at)"


def up(migrator: Any, db: peewee.Database) -> None:  # noqa: ARG001  # the runner passes both
    """Called by `services.storage.migrations.migrate`, inside its transaction."""
    db.execute_sql(TABLE)
    db.execute_sql(INDEX)
    db.execute_sql(BY_NETWORK)
    db.execute_sql(KEYS)
    _know_those_of_sessions(db)
    # Refresh tokens without a checksum stay valid until they expire.
    if db.execute_sql("SELECT 1 FROM refresh_tokens LIMIT 1").fetchone():
        mark = db.param
        db.execute_sql(
            f"INSERT INTO refresh_keys VALUES ({mark}, {mark})",  # noqa: S608
            ("none", time.time()),
        )


def _know_those_of_sessions(db: peewee.Database) -> None:
    """Users who have signed in before are known at once."""
    rows = db.execute_sql(
        "SELECT user_id, ip, max(created_at) FROM login_sessions WHERE ip <> '' "
        "GROUP BY user_id, ip"
    ).fetchall()
    newest: dict[tuple[str, str], float] = {}
    for user_id, ip, at in rows:
        key = (user_id, _network_of(ip))
        newest[key] = max(at, newest.get(key, 0.0))
    mark = db.param
    for (user_id, network), at in newest.items():
        db.execute_sql(
            f"INSERT INTO known_networks VALUES ({mark}, {mark}, {mark})",  # noqa: S608
            (user_id, network, at),
        )


def _network_of(ip: str) -> str:
    """As services/limits/networks.py had it when this was written."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return ip
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
