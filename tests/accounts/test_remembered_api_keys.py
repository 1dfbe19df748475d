"""API keys that a node remembers: what that saves, and how soon a revoked one is refused."""

from __future__ import annotations

import pytest

from services.accounts.api_key_rows import USED_EVERY_SECONDS
from services.accounts.api_keys import ApiKeys
from services.errors import DatabaseUnavailable, Unauthenticated
from tests.accounts.keys import make
from tests.support.parts import Clock, database_away, node, redis_away
from tests.support.redis import RealRedis, redis_server

__all__ = ["redis_server"]


@pytest.mark.gen_test
async def test_a_cached_key_costs_one_round_trip_and_no_query(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        key_id, key = await make(parts)
        assert not parts.api_keys.remembers(key, "read")
        await parts.api_keys.check(key, "read")
        assert parts.api_keys.remembers(key, "read")
        await database_away(parts)
        parts.store.groups.clear()
        assert (await parts.api_keys.check(key, "read")).id == key_id
        assert [len(group) for group in parts.store.groups] == [1]


@pytest.mark.gen_test
async def test_what_is_remembered_of_a_key_holds_for_a_minute(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        passed = Clock(0.0)
        keys = ApiKeys(
            parts.database,
            parts.cache,
            parts.revocations,
            parts.admission.wait_current,
            parts.tokens.api_keys,
            parts.clock,
            passed,
        )
        _, key = await make(parts)
        await keys.check(key, "read")
        await database_away(parts)
        passed.forward(USED_EVERY_SECONDS - 0.1)
        await keys.check(key, "read")
        passed.forward(0.2)
        with pytest.raises(DatabaseUnavailable):
            await keys.check(key, "read")


@pytest.mark.gen_test
@pytest.mark.parametrize("change", ["revoked", "role", "disabled", "deleted"])
async def test_another_node_refuses_a_remembered_key_at_once(
    database_url: str, redis_server: RealRedis, change: str
) -> None:
    async with (
        node(database_url, redis_server, name="here") as here,
        node(database_url, redis_server, clock=here.clock, name="there") as there,
    ):
        await here.user("Another", "admin")
        root = await here.user("Root", "admin")
        row, key = await here.api_keys.create("billing", ["read"], root)
        await there.api_keys.check(key.reveal(), "read")
        assert there.api_keys.remembers(key.reveal(), "read")
        # Not by the message between nodes: Redis' keys alone have to do.
        there.control.on_revocations(lambda _: 0)
        if change == "revoked":
            await here.api_keys.revoke(row.id)
        elif change == "deleted":
            await here.administration.delete(root)
        elif change == "role":
            await here.administration.update(root, "user", None)
        else:
            await here.administration.update(root, None, True)
        with pytest.raises(Unauthenticated):
            await there.api_keys.check(key.reveal(), "read")


@pytest.mark.gen_test
@pytest.mark.parametrize("change", ["revoked", "role", "disabled"])
async def test_the_rows_refuse_a_cached_key_if_redis_lost_the_revocation(
    database_url: str, redis_server: RealRedis, change: str
) -> None:
    async with node(database_url, redis_server) as parts:
        await parts.user("Another", "admin")
        root = await parts.user("Root", "admin")
        row, key = await parts.api_keys.create("billing", ["read"], root)
        await parts.api_keys.check(key.reveal(), "read")
        async with node(database_url, clock=parts.clock, name="alone") as other:
            if change == "revoked":
                await other.api_keys.revoke(row.id)
            elif change == "role":
                await other.administration.update(root, "user", None)
            else:
                await other.administration.update(root, None, True)
        await parts.revocations.sweep()
        with pytest.raises(Unauthenticated):
            await parts.api_keys.check(key.reveal(), "read")


@pytest.mark.gen_test
async def test_without_redis_the_database_decides_whether_a_key_is_valid(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        key_id, key = await make(parts)
        await parts.api_keys.check(key, "read")
        await redis_away(parts, redis_server)
        assert (await parts.api_keys.check(key, "read")).id == key_id
        await parts.api_keys.revoke(key_id)
        with pytest.raises(Unauthenticated):
            await parts.api_keys.check(key, "read")
