"""Compares what first joins cost in several versions of the server, side by side.

    python -m benchmarks.first_joins old=/path/to/a/worktree new=.

A first join is one that Redis knows nothing about: Redis is emptied, and everybody comes back at
once, each with a login session of their own. Then they join again, as usual. The people are copies
of one account, written into the database, because signing up thousands is an hour of Argon2.
"""

from __future__ import annotations

import argparse
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

import redis

from benchmarks import machine
from benchmarks.accounts import Login, TokenMint
from benchmarks.compare import SETTLE_SECONDS, Subject, cpu_seconds, start
from benchmarks.ws_load import handshake, visit
from services.embedded.redis_server import EmbeddedRedis
from services.settings.settings import DATABASE_FILE

CROWD = 500
"""Connections at one time."""
ORDINARY = 1
"""A login of the second account: the first one is the administrator's."""
FIGURES = ("first, CPU µs", "usual, CPU µs", "first, seconds", "usual, seconds")
Person = dict[str, str]
"""The claims of somebody's tokens that differ: `sub` and `sid`."""


def copies(folder: Path, login: Login, count: int) -> list[Person]:
    """Copy an account and its login session, whatever columns this version has.

    `folder`: the data folder.
    """
    body = login.access_token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    people = [
        {"sub": secrets.token_urlsafe(16), "sid": secrets.token_urlsafe(16)} for _ in range(count)
    ]
    database = sqlite3.connect(folder / DATABASE_FILE, timeout=30)
    with closing(database), database:
        user = row(database, "SELECT * FROM users WHERE id = ?", claims["sub"])
        session = row(database, "SELECT * FROM login_sessions WHERE id = ?", claims["sid"])
        own = [user | {"id": p["sub"], "email": f"{p['sub']}@example.com"} for p in people]
        insert(database, "users", own)
        opened = [session | {"id": p["sid"], "user_id": p["sub"]} for p in people]
        insert(database, "login_sessions", opened)
    return people


def row(database: sqlite3.Connection, sql: str, key: str) -> dict[str, Any]:
    """The only row of a query."""
    cursor = database.execute(sql, [key])
    (found,) = cursor.fetchall()
    return dict(zip((column[0] for column in cursor.description), found, strict=True))


def insert(database: sqlite3.Connection, table: str, rows: list[dict[str, Any]]) -> None:
    """Insert rows with all of their columns."""
    names, marks = ", ".join(f'"{name}"' for name in rows[0]), ", ".join("?" * len(rows[0]))
    sql = f"INSERT INTO {table} ({names}) VALUES ({marks})"
    database.executemany(sql, [list(values.values()) for values in rows])


def crowd(subject: Subject, tokens: list[str]) -> tuple[float, float]:
    """Everybody joins at once: CPU µs a join of the server, and seconds until the last is in."""
    upgrades = [handshake(subject.address, token=token) for token in tokens]
    before, began = cpu_seconds(subject.pid), time.monotonic()
    visit(subject.address, upgrades, b'"joined"', CROWD)
    took = time.monotonic() - began
    time.sleep(SETTLE_SECONDS)  # what goes on behind the last close
    return (cpu_seconds(subject.pid) - before) * 1e6 / len(tokens), took


def one_round(subject: Subject, people: list[Person], mint: TokenMint) -> list[float]:
    """The values of FIGURES."""
    first, usual = (
        [mint.another(subject.logins[ORDINARY], **person) for person in people] for _ in range(2)
    )
    with closing(redis.Redis.from_url(EmbeddedRedis(subject.folder, Path()).url)) as store:
        store.flushall()
    cpu, seconds = crowd(subject, first)
    usual_cpu, usual_seconds = crowd(subject, usual)
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
    parser.add_argument("trees", nargs="+", metavar="name=folder")
    chosen = parser.parse_args()
    machine.raise_file_limit(4 * CROWD)
    secret = secrets.token_urlsafe(48)
    mint, samples = TokenMint(secret), dict[str, list[list[float]]]()
    with ExitStack() as stack:
        subjects = []
        for name, _, folder in (tree.partition("=") for tree in chosen.trees):
            subject = start(stack, name, Path(folder), secret)
            subjects.append(
                (subject, copies(subject.folder, subject.logins[ORDINARY], chosen.people))
            )
        stack.enter_context(machine.working_on(machine.pick_cores().load))
        for number in range(chosen.rounds):
            for subject, people in subjects if number % 2 else reversed(subjects):
                samples.setdefault(subject.name, []).append(one_round(subject, people, mint))
    print(f"load {os.getloadavg()[0]:.1f}; {chosen.people:,} people, {CROWD} at one time;", end=" ")
    print(f"medians of {chosen.rounds} rounds")
    print(*report([subject.name for subject, _ in subjects], samples), sep="\n")


if __name__ == "__main__":
    main()
