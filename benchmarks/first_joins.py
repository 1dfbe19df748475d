"""Compares what first joins cost in several versions of the server, side by side.

    python -m benchmarks.first_joins old=/path/to/a/worktree new=.
    python -m benchmarks.first_joins --database postgresql old=/path/to/a/worktree new=.

A first join is one that Redis knows nothing about: Redis is emptied, and everybody comes back at
once, each with a login session of their own. Then they join again, as usual. The people are copies
of one account, written into the database, because signing up thousands is an hour of Argon2.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import secrets
import sqlite3
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import asyncpg
import redis

from benchmarks import machine
from benchmarks.accounts import Login, TokenMint
from benchmarks.compare import DATABASES, SETTLE_SECONDS, Subject, cpu_seconds, start
from benchmarks.ws_load import handshake, visit
from services.embedded.redis_server import EmbeddedRedis
from services.settings.settings import DATABASE_FILE

CROWD = 500
"""Connections at one time. 7b7d460 refuses so many on PostgreSQL: `--at-once 100`."""
ORDINARY = 1
"""A login of the second account: the first one is the administrator's."""
FIGURES = ("first, CPU µs", "usual, CPU µs", "first, seconds", "usual, seconds")
Person = dict[str, str]
"""The claims of somebody's tokens that differ: `sub` and `sid`."""


def copies(folder: Path, login: Login, count: int, database_url: str = "") -> list[Person]:
    """Copy an account and its login session, whatever columns this version has.

    `folder`: the data folder.
    """
    body = login.access_token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    people = [
        {"sub": secrets.token_urlsafe(16), "sid": secrets.token_urlsafe(16)} for _ in range(count)
    ]
    if database_url:
        asyncio.run(copy_in_postgresql(database_url, claims, people))
        return people
    database = sqlite3.connect(folder / DATABASE_FILE, timeout=30)
    with closing(database), database:
        user = row(database, "SELECT * FROM users WHERE id = ?", claims["sub"])
        session = row(database, "SELECT * FROM login_sessions WHERE id = ?", claims["sid"])
        own = [user | {"id": p["sub"], "email": f"{p['sub']}@example.com"} for p in people]
        insert(database, "users", own)
        opened = [session | {"id": p["sid"], "user_id": p["sub"]} for p in people]
        insert(database, "login_sessions", opened)
    return people


async def copy_in_postgresql(url: str, claims: Person, people: list[Person]) -> None:
    """The same in PostgreSQL, which takes a row as JSON."""
    copied = """
        INSERT INTO {table} SELECT (jsonb_populate_record(r, jsonb_build_object({changed}))).*
        FROM {table} r, unnest($1::text[], $2::text[]) AS p(sub, sid) WHERE r.id = $3
    """
    users = copied.format(table="users", changed="'id', sub, 'email', sub || '@example.com'")
    sessions = copied.format(table="login_sessions", changed="'id', sid, 'user_id', sub")
    everybody = [p["sub"] for p in people], [p["sid"] for p in people]
    link = await asyncpg.connect(url)
    try:
        await link.execute(users, *everybody, claims["sub"])
        await link.execute(sessions, *everybody, claims["sid"])
        await link.execute("ANALYZE")
    finally:
        await link.close()


def row(database: sqlite3.Connection, sql: str, key: str | int) -> dict[str, Any]:
    """The only row of a query."""
    cursor = database.execute(sql, [key])
    (found,) = cursor.fetchall()
    return dict(zip((column[0] for column in cursor.description), found, strict=True))


def insert(database: sqlite3.Connection, table: str, rows: list[dict[str, Any]]) -> None:
    """Insert rows with all of their columns."""
    names, marks = ", ".join(f'"{name}"' for name in rows[0]), ", ".join("?" * len(rows[0]))
    sql = f"INSERT INTO {table} ({names}) VALUES ({marks})"
    database.executemany(sql, [list(values.values()) for values in rows])


def crowd(subject: Subject, tokens: list[str], at_once: int) -> tuple[float, float]:
    """Everybody joins at once: CPU µs a join of the server, and seconds until the last is in."""
    upgrades = [handshake(subject.address, token=token) for token in tokens]
    before, began = cpu_seconds(subject.pid), time.monotonic()
    visit(subject.address, upgrades, b'"joined"', at_once)
    took = time.monotonic() - began
    time.sleep(SETTLE_SECONDS)  # what goes on behind the last close
    return (cpu_seconds(subject.pid) - before) * 1e6 / len(tokens), took


def one_round(subject: Subject, people: list[Person], mint: TokenMint, at_once: int) -> list[float]:
    """The values of FIGURES."""
    first, usual = (
        [mint.another(subject.logins[ORDINARY], **person) for person in people] for _ in range(2)
    )
    with closing(redis.Redis.from_url(EmbeddedRedis(subject.folder, Path()).url)) as store:
        store.flushall()
    cpu, seconds = crowd(subject, first, at_once)
    usual_cpu, usual_seconds = crowd(subject, usual, at_once)
    return [cpu, usual_cpu, seconds, usual_seconds]


def report(names: list[str], samples: dict[str, list[list[float]]]) -> Iterator[str]:
    """A line for each figure: the median, and the ratio to the first version's."""
    for number, figure in enumerate(FIGURES):
        for name in names:
            own = [values[number] for values in samples[name]]
            first = [values[number] for values in samples[names[0]]]
            ratio = statistics.median(a / b for a, b in zip(own, first, strict=True))
            yield f"{figure:16} {name:8} {statistics.median(own):9.2f}   {ratio:.3f} of {names[0]}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=CROWD, help="connections")
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    parser.add_argument("trees", nargs="+", metavar="name=folder")
    chosen = parser.parse_args()
    at_once = chosen.at_once
    machine.raise_file_limit(4 * at_once)
    secret = secrets.token_urlsafe(48)
    mint, samples = TokenMint(secret), dict[str, list[list[float]]]()
    with ExitStack() as stack:
        subjects = []
        for name, _, folder in (tree.partition("=") for tree in chosen.trees):
            subject = start(stack, name, Path(folder), secret, chosen.database)
            login, url = subject.logins[ORDINARY], subject.database_url
            subjects.append((subject, copies(subject.folder, login, chosen.people, url)))
        stack.enter_context(machine.working_on(machine.pick_cores().load))
        for number in range(chosen.rounds):
            for subject, people in subjects if number % 2 else reversed(subjects):
                samples.setdefault(subject.name, []).append(
                    one_round(subject, people, mint, at_once)
                )
    print(f"{chosen.database}, load {os.getloadavg()[0]:.1f};", end=" ")
    print(f"{chosen.people:,} people, {at_once} at one time;", end=" ")
    print(f"medians of {chosen.rounds} rounds")
    print(*report([subject.name for subject, _ in subjects], samples), sep="\n")


if __name__ == "__main__":
    main()
