"""Does a join cost more the more socket sessions there are?"""

from __future__ import annotations

import secrets
import time
from contextlib import closing

import msgspec
from redis.client import Pipeline

from benchmarks.harness import SHARES, USHER, Figure, Lab, Sample
from benchmarks.installation import MAX_PIPELINE, Installation
from benchmarks.servers import Server
from benchmarks.sizes import FULL, Sizes
from benchmarks.ws_load import handshake, visit
from services.sockets.session_pool import SocketSession, session_key, user_index_key

SOCKETS_OF_ONE = 10
"""Socket sessions of each of the people that are made up."""
MAX_PEOPLE = 200
"""Written in one go: about 4,000 commands."""
SETTLE_SECONDS = 0.5
KEEP_SECONDS = 600
"""Nobody renews these records, so they get a longer lease than real ones: longer than a round."""
GROWN = "most ÷ fewest sessions"


class Growth:
    """Joins as in `joins`, while Redis holds the records of more and more socket sessions.

    The records are made up: written by the benchmark with the types and keys of
    services/sockets/session_pool.py, ten for each user, under a longer lease. The joins are real.
    """

    name = "growth"
    title = "Cost of a join as the number of live socket sessions grows"
    subjects: tuple[str, ...] = (USHER,)
    figures: tuple[Figure, ...] = (
        *(
            figure
            for count in FULL.sessions
            for figure in (
                Figure(f"{count:,} sessions, joins", "/s"),
                Figure(f"{count:,} sessions, server CPU", "ms per 1,000"),
                Figure(f"{count:,} sessions, Redis CPU", "ms per 1,000"),
            )
        ),
        Figure(f"server CPU, {GROWN}", "", 2),
        Figure(f"Redis CPU, {GROWN}", "", 2),
        *SHARES,
    )

    def logins_used_up(self, sizes: Sizes) -> int:
        return 0

    def run(self, lab: Lab, subject: str) -> Sample:
        values: dict[str, float] = {}
        costs: list[dict[str, float]] = []
        with lab.room_servers(subject) as (server, *_):
            _join(lab, server, max(1, lab.sizes.grown_joins // 10))
            with closing(_MadeUp(lab.installation)) as made_up:
                for count in lab.sizes.sessions:
                    made_up.grow(count)
                    meter = lab.meter(server)
                    done = _join(lab, server, lab.sizes.grown_joins)
                    usage = meter.stop()
                    costs.append(usage.per_thousand(done))
                    values[f"{count:,} sessions, joins"] = done / usage.wall
                    for name, value in costs[-1].items():
                        values[f"{count:,} sessions, {name}"] = value
                    values |= usage.shares()
        for name, few in costs[0].items():
            if few:
                values[f"{name}, {GROWN}"] = costs[-1][name] / few
        return Sample(values)


class _MadeUp:
    """Records of socket sessions that are on no node."""

    def __init__(self, installation: Installation) -> None:
        self._client = installation.redis()
        self._keys: list[str] = []
        self.count = 0

    def grow(self, count: int) -> None:
        """Write records until there are so many."""
        while self.count < count:
            pipeline = self._client.pipeline(transaction=False)
            for _ in range(min(MAX_PEOPLE, (count - self.count) // SOCKETS_OF_ONE)):
                self._write_one(pipeline)
            pipeline.execute()
        # Redis may rewrite its append-only file after so much: that is the filling's cost.
        time.sleep(SETTLE_SECONDS)
        while self._client.info("persistence")["aof_rewrite_in_progress"]:
            time.sleep(0.1)

    def _write_one(self, pipeline: Pipeline) -> None:
        """One user with all their sockets: see `SessionPool.write`."""
        now, user_id = time.time(), secrets.token_urlsafe(16)
        index = user_index_key(user_id)
        for _ in range(SOCKETS_OF_ONE):
            session = SocketSession(
                session_id=secrets.token_urlsafe(16),
                user_id=user_id,
                login_session_id=secrets.token_urlsafe(16),
                name="Somebody",
                role="user",
                node="elsewhere",
                connected_at=now,
                expires_at=now + KEEP_SECONDS,
            )
            key = session_key(session.session_id)
            pipeline.set(key, msgspec.json.encode(session), ex=KEEP_SECONDS)
            member = f"{session.login_session_id}/{session.session_id}"
            pipeline.zadd(index, {member: now + KEEP_SECONDS})
            self._keys.append(key)
        pipeline.expire(index, KEEP_SECONDS)
        self._keys.append(index)
        self.count += SOCKETS_OF_ONE

    def close(self) -> None:
        """Take all of them out again."""
        for start in range(0, len(self._keys), MAX_PIPELINE):
            self._client.delete(*self._keys[start : start + MAX_PIPELINE])
        self._client.close()


def _join(lab: Lab, server: Server, count: int) -> int:
    installation = lab.installation
    tokens = list(installation.mint.spread(installation.logins, count))
    upgrades = [handshake(server.address, token, origin=installation.origin) for token in tokens]
    return visit(server.address, upgrades, lab.greeting(USHER), lab.sizes.lanes)
