"""Introspection of each kind of credential: its result, its cost, and its end."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from services.backends.introspection import INACTIVE
from services.errors import Unavailable
from tests.backends.test_app_tokens import issue, with_apps
from tests.support.parts import ACCESS_TTL, ISSUER, database_away, node
from tests.support.redis import RealRedis, redis_server

__all__ = ["redis_server"]


@pytest.mark.gen_test
async def test_only_access_tokens_and_app_tokens_are_introspected(database_url: str) -> None:
    async with node(database_url, settings=with_apps()) as parts:
        look = parts.services.introspection.look
        await parts.services.app_keys.read()
        login = await parts.signed_in(await parts.user("Ada"))
        claims, now = login.claims, parts.clock()
        found = msgspec.to_builtins(await look(login.access_token.reveal()))
        assert found == {
            "active": True,
            "sub": login.user.id,
            "sid": claims.sid,
            "role": "user",
            "name": "Ada",
            "exp": now + ACCESS_TTL,
            "iat": now,
            "iss": ISSUER,
            "aud": "usher",
            "token_type": "Bearer",
            "auth_time": now,
            "acr": "1",
        }
        app = await issue(parts, login)
        response = msgspec.to_builtins(await look(app.token.reveal()))
        assert response == found | {"aud": "shop", "exp": now + 300}
        ticket = (await parts.tickets.issue(claims)).reveal()
        _, key = await parts.api_keys.create("k", ["read"], await parts.user("Root", "admin"))
        refresh = login.refresh_token.reveal()
        for other in ("", "x", "a.b.c", ticket, key.reveal(), refresh, "ü" * 9, "\ud800"):
            assert await look(other) == INACTIVE
        assert msgspec.json.encode(INACTIVE) == b'{"active":false}'
        assert await parts.tickets.take(ticket) == claims, "the ticket is not used up"


@pytest.mark.gen_test
@pytest.mark.parametrize("end", ["logout", "disabled", "deleted", "password", "expired"])
async def test_it_is_inactive_at_once_on_another_node(
    database_url: str, redis_server: RealRedis, end: str
) -> None:
    settings = with_apps()
    async with (
        node(database_url, redis_server, settings=settings, name="here") as here,
        node(
            database_url, redis_server, settings=settings, clock=here.clock, name="there"
        ) as there,
    ):
        for parts in (here, there):
            await parts.services.app_keys.read()
        # Not by the message between nodes: Redis' keys alone have to do.
        there.control.on_revocations(lambda _: 0)
        await here.user("Another", "admin")
        login = await here.signed_in()
        tokens = [login.access_token.reveal(), (await issue(here, login)).token.reveal()]
        for token in tokens:
            assert (await there.services.introspection.look(token)).active
        if end == "logout":
            await here.session_ends.end(login.user.id, login.claims.sid, "logout")
        elif end == "disabled":
            await here.administration.update(login.user.id, None, True)
        elif end == "deleted":
            await here.administration.delete(login.user.id)
        elif end == "password":
            await here.session_ends.end_all(login.user.id, "password_changed")
        else:
            here.clock.forward(ACCESS_TTL)
        for token in tokens:
            assert await there.services.introspection.look(token) == INACTIVE


@pytest.mark.gen_test
async def test_the_common_case_is_one_round_trip_and_no_query(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server, settings=with_apps()) as parts:
        await parts.services.app_keys.read()
        login = await parts.signed_in()
        app = await issue(parts, login)
        await database_away(parts)
        for token in (login.access_token.reveal(), app.token.reveal()):
            parts.store.groups.clear()
            assert (await parts.services.introspection.look(token)).active
            assert len(parts.store.groups) == 1


@pytest.mark.gen_test
async def test_an_undetermined_result_is_unavailable_and_not_inactive(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        parts.store.groups.clear()
        await parts.store.call(("DEL", f"usher:{{{login.user.id}}}:login:{login.claims.sid}"))
        await database_away(parts)
        with pytest.raises(Unavailable):
            await parts.services.introspection.look(login.access_token.reveal())


@pytest.mark.gen_test
async def test_many_ask_at_once(database_url: str) -> None:
    async with node(database_url) as parts:
        logins = [await parts.signed_in() for _ in range(20)]
        look = parts.services.introspection.look
        found = await asyncio.gather(*(look(one.access_token.reveal()) for one in logins))
        assert [one.sub for one in found] == [one.user.id for one in logins]
