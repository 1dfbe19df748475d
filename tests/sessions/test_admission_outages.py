"""Admission when Redis was emptied, or Redis or the database is away."""

from __future__ import annotations

import pytest

from models.user import User
from services.errors import DatabaseUnavailable, StoreUnavailable, Unauthenticated, Unavailable
from services.sessions.login_cache import login_key
from tests.sessions.joins import database_joins, disable, join, logout, refused
from tests.support.parts import database_away, node, redis_away, redis_back
from tests.support.redis import RealRedis, redis_server

__all__ = ["redis_server"]

# ---- Redis does not know -------------------------------------------------------------------


@pytest.mark.gen_test
async def test_when_redis_was_emptied_the_database_decides_and_redis_learns_it(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        login, over = await parts.signed_in(), await parts.signed_in()
        await logout(parts, over)
        redis_server.ask("FLUSHALL")
        await join(parts, login)
        assert database_joins(parts, "unknown_to_redis") == 1
        await join(parts, login)
        assert database_joins(parts, "unknown_to_redis") == 1
        async with node(database_url, redis_server) as restarted:
            await refused(restarted, over)
            assert database_joins(restarted, "unknown_to_redis") == 1


@pytest.mark.gen_test
async def test_a_disabled_or_deleted_user_is_refused_by_the_database(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        off, gone = await parts.signed_in(), await parts.signed_in()
        await parts.database.run(disable, off.user.id)
        await parts.database.run(
            lambda db: User.delete().where(User.id == gone.user.id).execute(db)
        )
        redis_server.ask("FLUSHALL")
        await refused(parts, off)
        await refused(parts, gone)


# ---- Redis or the database away ------------------------------------------------------------


@pytest.mark.gen_test
async def test_without_redis_the_database_decides(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        login, over = await parts.signed_in(), await parts.signed_in()
        await redis_away(parts, redis_server)
        await logout(parts, over)
        await join(parts, login)
        await refused(parts, over)
        assert database_joins(parts, "redis_away") == 1
        async with node(database_url) as restarted:
            await refused(restarted, over)
            await join(restarted, login)


@pytest.mark.gen_test
async def test_without_the_database_a_usual_join_continues_and_an_unknown_one_waits(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        login, unknown = await parts.signed_in(), await parts.signed_in()
        await parts.store.call(("DEL", login_key(unknown.user.id, unknown.claims.sid)))
        await database_away(parts)
        await join(parts, login)
        with pytest.raises(DatabaseUnavailable):
            await join(parts, unknown)


@pytest.mark.gen_test
async def test_without_both_stores_joins_are_unavailable_and_not_unauthenticated(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        login = await parts.signed_in()
        ticket = (await parts.tickets.issue(login.claims)).reveal()
        await redis_away(parts, redis_server)
        await database_away(parts)
        with pytest.raises(Unavailable):
            await join(parts, login)
        with pytest.raises(StoreUnavailable):
            await parts.admission.claims_of(ticket)
        with pytest.raises(Unauthenticated):
            await parts.admission.claims_of("a.b.c")


@pytest.mark.gen_test
async def test_nothing_revoked_comes_back_in_after_redis_was_away(
    database_url: str, redis_server: RealRedis
) -> None:
    async with (
        node(database_url, redis_server) as here,
        node(database_url, redis_server, here.clock) as there,
    ):
        login = await here.signed_in()
        await join(there, login)
        (record,) = await there.store.call(("GET", login_key(login.user.id, login.claims.sid)))
        await redis_away(here, redis_server, there)
        await logout(here, login)
        await refused(here, login)
        await redis_back(here, redis_server, there)
        # As if Redis had kept its data: it never heard of the logout.
        await here.store.call(("SET", login_key(login.user.id, login.claims.sid), record))
        await refused(here, login)
        await there.revocations.sweep()
        await refused(there, login)
        async with node(database_url, redis_server, here.clock) as restarted:
            await restarted.revocations.sweep()
            await refused(restarted, login)
