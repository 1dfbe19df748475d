"""The login cache, in a real Redis and in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from services.claims import Claims
from services.errors import StoreUnavailable
from services.grants.rules import Grant, Right
from services.redis.store import Store
from services.redis.store_memory import MemoryStore
from services.redis.store_redis import RedisStore
from services.sessions.login_cache import (
    SLACK_SECONDS,
    Known,
    LoginCache,
    LoginState,
    login_key,
    revoked_key,
)
from tests.support.parts import Clock, CountingStore
from tests.support.redis import PATIENCE, RealRedis, redis_server, until

__all__ = ["redis_server"]

NOTHING = Known(False, None)
REVOKED = Known(True, None)


class Installation:
    def __init__(self, store: Store) -> None:
        self.clock, self.store = Clock(), CountingStore(store)
        self.cache = LoginCache(self.store, 900.0, self.clock)
        now = self.clock()
        self.claims = Claims("ada", "sid", "jti", now, now + 900.0, "user")
        self.state = LoginState("Ada", "user", now + 5000.0, now, {"c": Grant(Right.READ, now)}, 0)


@pytest.fixture(params=["redis", "memory"])
def redis_or_none(request: pytest.FixtureRequest) -> Iterator[RealRedis | None]:
    server = RealRedis() if request.param == "redis" else None
    yield server
    if server is not None:
        server.close()


@asynccontextmanager
async def installation(redis: RealRedis | None) -> AsyncIterator[Installation]:
    store: Store = MemoryStore()
    if redis is not None:
        store = RedisStore(redis.url, timeout=PATIENCE)
        await store.connect()
    try:
        yield Installation(store)
    finally:
        await store.close()


@pytest.mark.gen_test
async def test_what_was_never_noted_is_unknown_and_not_revoked(
    redis_or_none: RealRedis | None,
) -> None:
    async with installation(redis_or_none) as h:
        assert h.cache.known(await h.cache.look_up(h.claims)) == NOTHING


@pytest.mark.gen_test
async def test_a_noted_session_is_known_after_one_round_trip(
    redis_or_none: RealRedis | None,
) -> None:
    async with installation(redis_or_none) as h:
        h.cache.remember("ada", "sid", h.state)
        h.store.groups.clear()
        assert h.cache.known(await h.cache.look_up(h.claims)) == Known(False, h.state)
        assert [len(group) for group in h.store.groups] == [1]


@pytest.mark.parametrize(
    ("user", "sid"), [("bob", "sid"), ("ada", "another"), ("ad", "a:login:sid")]
)
@pytest.mark.gen_test
async def test_another_session_or_user_is_not_meant(
    redis_or_none: RealRedis | None, user: str, sid: str
) -> None:
    async with installation(redis_or_none) as h:
        h.cache.remember(user, sid, h.state)
        await h.cache.revoke([(user, sid)])
        assert h.cache.known(await h.cache.look_up(h.claims)) == NOTHING


@pytest.mark.parametrize("subject", ["sid", "jti"])
@pytest.mark.gen_test
async def test_a_revocation_of_session_or_token_wins_over_a_note_written_before_or_after(
    redis_or_none: RealRedis | None, subject: str
) -> None:
    async with installation(redis_or_none) as h:
        h.cache.remember("ada", "sid", h.state)
        await h.cache.revoke([("ada", subject)])
        assert h.cache.known(await h.cache.look_up(h.claims)) == REVOKED
        h.cache.remember("ada", "sid", h.state)
        assert h.cache.known(await h.cache.look_up(h.claims)) == REVOKED


@pytest.mark.gen_test
async def test_revoking_a_token_leaves_its_session_to_other_tokens(
    redis_or_none: RealRedis | None,
) -> None:
    async with installation(redis_or_none) as h:
        h.cache.remember("ada", "sid", h.state)
        await h.cache.revoke([("ada", "another-jti")])
        assert h.cache.known(await h.cache.look_up(h.claims)) == Known(False, h.state)


@pytest.mark.gen_test
async def test_many_are_revoked_in_one_round_trip_and_none_in_none(
    redis_or_none: RealRedis | None,
) -> None:
    async with installation(redis_or_none) as h:
        await h.cache.revoke([])
        assert h.store.groups == []
        await h.cache.revoke([("ada", f"s{n}") for n in range(10)] + [("ada", "sid")])
        assert len(h.store.groups) == 1
        assert h.cache.known(await h.cache.look_up(h.claims)) == REVOKED


@pytest.mark.gen_test
async def test_a_session_past_its_end_is_unknown(redis_or_none: RealRedis | None) -> None:
    async with installation(redis_or_none) as h:
        h.cache.remember("ada", "sid", h.state)
        h.clock.forward(5000.0)
        assert h.cache.known(await h.cache.look_up(h.claims)) == NOTHING


@pytest.mark.parametrize(
    "record", [b"", b"{}", b"\xff", b"null", b'{"name":"Ada","role":"user","expires_at":"soon"}']
)
@pytest.mark.gen_test
async def test_a_record_that_cannot_be_read_counts_as_none(
    redis_or_none: RealRedis | None, record: bytes
) -> None:
    async with installation(redis_or_none) as h:
        await h.store.call(("SET", login_key("ada", "sid"), record))
        assert h.cache.known(await h.cache.look_up(h.claims)) == NOTHING


@pytest.mark.gen_test
async def test_both_keys_live_a_little_longer_than_any_token(redis_server: RealRedis) -> None:
    async with installation(redis_server) as h:
        for sid in ("sid", "old"):
            h.cache.remember("ada", sid, h.state)
        await h.cache.revoke([("ada", "old")])
        for key in (login_key("ada", "sid"), revoked_key("ada", "old")):
            left = redis_server.ask("PTTL", key)
            assert 900_000 < left <= (900 + SLACK_SECONDS) * 1000
        assert redis_server.ask("EXISTS", login_key("ada", "old")) == 0


@pytest.mark.gen_test
async def test_the_keys_of_one_look_up_lie_in_one_slot_of_a_cluster() -> None:
    for key in (login_key("ada", "s"), revoked_key("ada", "s"), revoked_key("ada", "jti")):
        assert key.partition("{")[2].partition("}")[0] == "ada"


@pytest.mark.gen_test
async def test_without_redis_noting_is_quiet_and_asking_and_revoking_are_refused(
    redis_server: RealRedis,
) -> None:
    async with installation(redis_server) as h:
        redis_server.kill()
        await until(lambda: not h.store.available)
        h.cache.remember("ada", "sid", h.state)
        with pytest.raises(StoreUnavailable):
            h.cache.known(await h.cache.look_up(h.claims))
        with pytest.raises(StoreUnavailable):
            await h.cache.revoke([("ada", "sid")])
        redis_server.start()
        await until(lambda: h.store.available)
        assert h.cache.known(await h.cache.look_up(h.claims)) == NOTHING
