"""Invalid refresh tokens cost no look-up; valid ones are accepted whatever attackers send."""

from __future__ import annotations

import asyncio
import secrets

import msgspec
import peewee
import pytest

from models.login_session import RefreshToken
from models.refresh_key import RefreshKey
from services.errors import DatabaseUnavailable, RateLimited, Unauthenticated, UsherError
from services.keyed_tokens import KeyedTokens, Keyring
from services.limits.hourly import HourlyLimits, limits_of
from services.opaque import token_hash
from services.refresh.keys import DAY_SECONDS, RefreshKeys
from services.refresh.refreshes import Refreshes
from services.secret import Secret
from services.sessions.tokens import REFRESH_PREFIX
from tests.support.parts import REFRESH_TTL, Parts, node, settings_of_tests

HERE = "2001:db8::1"
FEW = msgspec.structs.replace(settings_of_tests(), limit_wrong_signins=3, limit_refreshes=8)
OTHER_SECRET = Secret("another secret, which signed before it was rotated")


def made_with(secret: Secret) -> KeyedTokens:
    return KeyedTokens(Keyring([secret], "refresh-token"), REFRESH_PREFIX)


def bad(number: int = 0) -> str:
    """Refresh tokens of every form that cannot be ours."""
    made = made_with(OTHER_SECRET).make("ada").reveal()
    return (secrets.token_urlsafe(32), made, "junk", "", "usher_rt....", "\ud800")[number % 6]


async def codes(parts: Parts, *tokens: str, ip: str = HERE) -> list[str]:
    async def one(token: str) -> str:
        try:
            await parts.services.refresh.refreshes.refresh(token, ip)
        except UsherError as error:
            return error.code
        return "ok"

    return list(await asyncio.gather(*map(one, tokens)))


async def without_database(parts: Parts) -> None:
    await parts.database.close()


@pytest.mark.gen_test
async def test_what_is_none_of_ours_is_refused_without_the_database(database_url: str) -> None:
    async with node(database_url) as parts:
        await parts.services.refresh.keys.read()
        good = (await parts.signed_in()).refresh_token.reveal()
        await without_database(parts)
        assert set(await codes(parts, *map(bad, range(6)))) == {"unauthenticated"}
        with pytest.raises(DatabaseUnavailable):
            await parts.services.refresh.refreshes.refresh(good, HERE)


@pytest.mark.gen_test
async def test_of_concurrent_invalid_tokens_of_one_address_exactly_the_limit_is_answered(
    database_url: str,
) -> None:
    async with node(database_url, settings=FEW) as parts:
        found = await codes(parts, *map(bad, range(10)))
        assert sorted(found) == ["rate_limited"] * 7 + ["unauthenticated"] * 3
        assert await codes(parts, bad(), ip="2001:db8::ffff") == ["rate_limited"]
        assert await codes(parts, bad(), ip="192.0.2.1") == ["unauthenticated"]


@pytest.mark.gen_test
async def test_a_valid_token_is_accepted_from_an_address_with_invalid_ones(
    database_url: str,
) -> None:
    async with node(database_url, settings=FEW) as parts:
        good = (await parts.signed_in()).refresh_token.reveal()
        await codes(parts, *map(bad, range(10)))
        assert await codes(parts, bad()) == ["rate_limited"]
        assert await codes(parts, good) == ["ok"]


@pytest.mark.gen_test
async def test_refreshes_of_one_user_are_limited_and_no_unauthenticated_clients_count(
    database_url: str,
) -> None:
    async with node(database_url, settings=FEW) as parts:
        user = await parts.user()
        ended = await parts.signed_in(user)
        await parts.session_ends.end(user, ended.claims.sid, "logout")
        assert await codes(parts, ended.refresh_token.reveal()) == ["unauthenticated"]
        for _ in range(9):  # an old token of somebody does not use up what is theirs
            assert await codes(parts, ended.refresh_token.reveal()) == ["rate_limited"]
        token = (await parts.signed_in(user)).refresh_token.reveal()
        for _ in range(8):
            newer = await parts.services.refresh.refreshes.refresh(token, HERE)
            token = newer.refresh_token.reveal()
        with pytest.raises(RateLimited):
            await parts.services.refresh.refreshes.refresh(token, HERE)
        assert await codes(parts, (await parts.signed_in()).refresh_token.reveal()) == ["ok"]


@pytest.mark.gen_test
async def test_nothing_is_counted_while_the_database_is_unavailable(database_url: str) -> None:
    async with node(database_url, settings=FEW) as parts:
        good = (await parts.signed_in()).refresh_token.reveal()
        sessions = parts.services.refresh.refreshes

        class Away:
            async def refresh(self, _: str) -> None:
                raise DatabaseUnavailable

        limits = parts.services.limits
        keys, callers = parts.services.refresh.keys, parts.database.callers
        away = Refreshes(Away(), parts.tokens.refresh, keys, limits, callers)  # type: ignore[arg-type]
        for _ in range(20):
            with pytest.raises(DatabaseUnavailable):
                await away.refresh(good, HERE)
        await sessions.refresh(good, HERE)


# ---- tokens of before, and of retired secrets ------------------------------------------------


def _old_form(db: peewee.Database, sid: str, token: str, now: float) -> None:
    RefreshToken.insert(
        hash=token_hash(token), session=sid, created_at=now, expires_at=now + 600
    ).execute(db)


@pytest.mark.gen_test
async def test_a_token_of_before_the_checksum_continues_working_where_there_are_such(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        old = [secrets.token_urlsafe(32) for _ in range(2)]
        for token in old:
            await parts.database.run(_old_form, login.claims.sid, token, parts.clock())
        await parts.services.refresh.keys.read()
        assert await codes(parts, old[0]) == ["unauthenticated"]  # a new installation has none
        row = {"key_id": "none", "last_used_at": parts.clock()}
        await parts.database.run(lambda db: RefreshKey.insert(row).execute(db))
        await parts.services.refresh.keys.read()
        new = await parts.services.refresh.refreshes.refresh(old[0], HERE)
        assert parts.tokens.refresh.read(new.refresh_token.reveal()) is not None
        parts.clock.forward(REFRESH_TTL + DAY_SECONDS + 1)
        await parts.services.refresh.keys.read()
        await without_database(parts)
        assert await codes(parts, old[1]) == ["unauthenticated"]


@pytest.mark.gen_test
async def test_a_token_of_a_retired_secret_continues_working(database_url: str) -> None:
    async with node(database_url) as parts:
        before = made_with(OTHER_SECRET)
        await RefreshKeys(parts.database, before, REFRESH_TTL, parts.clock).read()
        await parts.services.refresh.keys.read()
        login = await parts.signed_in()
        old = before.make(login.user.id).reveal()
        await parts.database.run(_old_form, login.claims.sid, old, parts.clock())
        assert await codes(parts, old, bad()) == ["ok", "unauthenticated"]
        # Of an unknown secret, none can be.
        unknown = made_with(Secret("x" * 32)).make("ada")
        await without_database(parts)
        assert await codes(parts, unknown.reveal()) == ["unauthenticated"]


@pytest.mark.gen_test
async def test_unknown_tokens_of_a_retired_secret_count_before_they_are_looked_up(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        before = made_with(OTHER_SECRET)
        await RefreshKeys(parts.database, before, REFRESH_TTL, parts.clock).read()
        await parts.services.refresh.keys.read()
        limits = HourlyLimits(parts.store.inner, limits_of(FEW), parts.metrics, parts.clock)
        keys, callers = parts.services.refresh.keys, parts.database.callers
        few = Refreshes(parts.refresh.rotation, parts.tokens.refresh, keys, limits, callers)
        for _ in range(3):
            with pytest.raises(Unauthenticated):
                await few.refresh(before.make("ada").reveal(), HERE)
        await without_database(parts)
        with pytest.raises(RateLimited):
            await few.refresh(before.make("ada").reveal(), HERE)
