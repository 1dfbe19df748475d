"""Authenticator apps and recovery codes: single use, one step of clock skew, encrypted storage."""

from __future__ import annotations

import asyncio

import peewee
import pyotp
import pytest

from models.totp_secret import RecoveryCode, TotpSecret
from services.errors import (
    FactorInUse,
    NotFound,
    RateLimited,
    Unavailable,
    UsherError,
    WrongCode,
)
from services.factors.factors import Factors
from services.providers.key_rotation import rotate_keys
from services.storage.encryption import Encryption, check_canary, generate_key
from tests.support.databases import look
from tests.support.parts import Parts, node, settings_of_tests

STEP = 30.0
SID = "the login session"
MANY = pytest.mark.parametrize("tries", [100, pytest.param(1000, marks=pytest.mark.slow)])


async def somebody(parts: Parts) -> tuple[str, str]:
    """Somebody who is signed in: the ids of the account and the login session."""
    claims = (await parts.signed_in()).claims
    return claims.sub, claims.sid


async def enrolled(parts: Parts) -> tuple[str, pyotp.TOTP, tuple[str, ...]]:
    """Somebody with an authenticator app: the id, the app, the recovery codes. The step of the
    first code is over."""
    user_id, sid = await somebody(parts)
    app = pyotp.TOTP((await parts.factors.begin_totp(user_id)).secret.reveal())
    codes = await parts.factors.confirm_totp(user_id, sid, app.at(parts.clock()))
    parts.clock.forward(STEP)
    return user_id, app, codes


async def proven(parts: Parts, user_id: str, code: str) -> bool:
    try:
        assert await parts.factors.prove(user_id, SID, code) == "2"
    except WrongCode:
        return False
    return True


@pytest.mark.gen_test
async def test_an_app_is_in_use_from_its_first_right_code_on(database_url: str) -> None:
    async with node(database_url) as parts:
        user_id, sid = await somebody(parts)
        made = await parts.factors.begin_totp(user_id)
        app = pyotp.TOTP(made.secret.reveal())
        found = pyotp.parse_uri(made.url.reveal())
        assert found == app or (found.secret, found.issuer) == (app.secret, "Usher")
        assert await parts.factors.methods(user_id) == ()
        assert not (await parts.factors.totp_state(user_id)).enabled
        with pytest.raises(WrongCode):
            await parts.factors.confirm_totp(user_id, sid, "000000")
        assert not await proven(parts, user_id, app.at(parts.clock()))
        codes = await parts.factors.confirm_totp(user_id, sid, app.at(parts.clock()))
        assert len(set(codes)) == 10
        assert await parts.factors.methods(user_id) == ("totp", "recovery_code")
        state = await parts.factors.totp_state(user_id)
        assert (state.enabled, state.recovery_codes_left) == (True, 10)
        with pytest.raises(FactorInUse):
            await parts.factors.begin_totp(user_id)
        with pytest.raises(WrongCode):
            await parts.factors.confirm_totp(user_id, sid, app.at(parts.clock() + STEP))


@pytest.mark.gen_test
async def test_the_code_that_confirms_an_app_is_used_up_by_it(database_url: str) -> None:
    async with node(database_url) as parts:
        user_id, sid = await somebody(parts)
        app = pyotp.TOTP((await parts.factors.begin_totp(user_id)).secret.reveal())
        code = app.at(parts.clock())
        await parts.factors.confirm_totp(user_id, sid, code)
        assert not await proven(parts, user_id, code)


@pytest.mark.gen_test
async def test_requesting_another_secret_invalidates_the_first(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        user_id, sid = await somebody(parts)
        first, second = [
            pyotp.TOTP((await parts.factors.begin_totp(user_id)).secret.reveal()) for _ in range(2)
        ]
        with pytest.raises(WrongCode):
            await parts.factors.confirm_totp(user_id, sid, first.at(parts.clock()))
        assert await parts.factors.confirm_totp(user_id, sid, second.at(parts.clock()))


@pytest.mark.gen_test
async def test_a_code_passes_a_step_early_or_late_and_no_more(database_url: str) -> None:
    async with node(database_url) as parts:
        user_id, app, _ = await enrolled(parts)
        parts.clock.forward(10 * STEP)
        for steps, passes in ((-2, False), (2, False), (-1, True), (0, True), (1, True)):
            code = app.at(parts.clock() + steps * STEP)
            assert await proven(parts, user_id, code) == passes, steps


@pytest.mark.gen_test
async def test_no_code_passes_twice_nor_an_older_one_after_it(database_url: str) -> None:
    async with node(database_url) as parts:
        user_id, app, _ = await enrolled(parts)
        parts.clock.forward(10 * STEP)
        now, before = app.at(parts.clock()), app.at(parts.clock() - STEP)
        assert await proven(parts, user_id, f" {now[:3]} {now[3:]} ")
        assert not await proven(parts, user_id, now)
        assert not await proven(parts, user_id, before)
        parts.clock.forward(-5 * STEP)  # the clock is set back
        assert not await proven(parts, user_id, app.at(parts.clock()))


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "code",
    ["", "12345", "1234567", "\uff11\uff12\uff13\uff14\uff15\uff16", "١٢٣٤٥٦", "a" * 16, "\ud800"],
)
async def test_what_is_no_code_is_refused_like_a_wrong_one(database_url: str, code: str) -> None:
    async with node(database_url) as parts:
        user_id, _, _ = await enrolled(parts)
        assert not await proven(parts, user_id, code)


@pytest.mark.gen_test
@pytest.mark.parametrize("kind", ["totp", "recovery"])
@MANY
async def test_of_parallel_tries_on_two_nodes_one_passes(
    database_url: str, kind: str, tries: int
) -> None:
    settings = settings_of_tests()
    async with (
        node(database_url, settings=settings) as one,
        node(database_url, clock=one.clock, settings=settings) as other,
    ):
        user_id, app, codes = await enrolled(one)
        code = app.at(one.clock()) if kind == "totp" else codes[0]

        async def tried(parts: Parts) -> bool:
            return await parts.database.run(parts.factors.use_code, user_id, code)

        both = [tried(parts) for parts in (one, other) for _ in range(tries // 2)]
        assert sorted(await asyncio.gather(*both)) == [False] * (tries - 1) + [True]


@pytest.mark.gen_test
async def test_a_recovery_code_passes_once_however_it_is_typed(database_url: str) -> None:
    async with node(database_url) as parts:
        user_id, _, codes = await enrolled(parts)
        other, _, _ = await enrolled(parts)
        bits = 5 * len(codes[0].replace("-", ""))  # base32
        assert bits >= 112, "ASVS 6.5.2: what a fast hash is enough for"
        assert not await proven(parts, other, codes[0]), "another user's"
        assert await proven(parts, user_id, codes[0].replace("-", " ").upper())
        assert not await proven(parts, user_id, codes[0])
        assert (await parts.factors.totp_state(user_id)).recovery_codes_left == 9
        new = await parts.factors.new_recovery_codes(user_id)
        assert not await proven(parts, user_id, codes[1]), "of the older ones none"
        assert await proven(parts, user_id, new[0])


@pytest.mark.gen_test
async def test_wrong_codes_are_limited_by_login_session(database_url: str) -> None:
    async with node(database_url) as parts:
        user_id, app, _ = await enrolled(parts)
        for _ in range(parts.limits.of.factor_guesses.amount):
            assert not await proven(parts, user_id, "000000")
        with pytest.raises(RateLimited):
            await parts.factors.prove(user_id, SID, app.at(parts.clock()))
        assert await parts.factors.prove(user_id, "another", app.at(parts.clock())) == "2"


@pytest.mark.gen_test
async def test_removing_the_app_removes_the_second_factor_and_another_can_be_set_up(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        user_id, app, codes = await enrolled(parts)
        await parts.factors.remove_totp(user_id)
        assert await parts.factors.methods(user_id) == ()
        for code in (app.at(parts.clock()), codes[0]):
            assert not await proven(parts, user_id, code)
        for gone in (parts.factors.remove_totp, parts.factors.new_recovery_codes):
            with pytest.raises(NotFound):
                await gone(user_id)
        assert (await parts.factors.begin_totp(user_id)).secret.reveal() != app.secret


@pytest.mark.gen_test
async def test_another_part_can_remove_all_of_it_in_its_transaction(database_url: str) -> None:
    async with node(database_url) as parts:
        user_id, _, _ = await enrolled(parts)
        other, _, _ = await enrolled(parts)
        assert await parts.database.run(Factors.remove_all, user_id)
        assert not await parts.database.run(Factors.remove_all, user_id)
        assert await parts.factors.methods(user_id) == ()
        assert await parts.factors.methods(other) == ("totp", "recovery_code")


@pytest.mark.gen_test
async def test_neither_secret_nor_code_can_be_read_in_the_database(database_url: str) -> None:
    async with node(database_url) as parts:
        _, app, codes = await enrolled(parts)

        def raw(db: peewee.Database) -> str:
            tables = (TotpSecret, RecoveryCode)
            return repr([list(table.select().tuples().execute(db)) for table in tables])

        stored = await parts.database.run(raw)
        assert app.secret not in stored
        for code in codes:
            assert code not in stored
            assert code.replace("-", "") not in stored


@pytest.mark.gen_test
async def test_secrets_come_under_the_newest_key_and_a_wrong_key_is_no_wrong_code(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        old, new = generate_key(), generate_key()
        encryption = parts.services.encryption
        encryption.replace_keys([old])
        assert await check_canary(parts.database, encryption)
        user_id, app, _ = await enrolled(parts)
        encryption.replace_keys([new])
        with pytest.raises(Unavailable):
            await parts.factors.prove(user_id, SID, app.at(parts.clock()))
        done = await rotate_keys(parts.database, Encryption((new, old)))
        assert done.unreadable == 0
        assert await proven(parts, user_id, app.at(parts.clock()))


@pytest.mark.gen_test
async def test_with_wrong_keys_no_app_can_be_set_up(database_url: str) -> None:
    async with node(database_url) as parts:
        user_id = await parts.user()
        factors = Factors(
            parts.database, parts.services.encryption, parts.limits, lambda: True, "Usher"
        )
        with pytest.raises(Unavailable):
            await factors.begin_totp(user_id)
        assert look(database_url, "SELECT count(*) FROM totp_secrets")[0][0] == 0


@pytest.mark.gen_test
async def test_an_account_that_is_gone_has_no_factor(database_url: str) -> None:
    async with node(database_url) as parts:
        assert await parts.factors.methods("nobody") == ()
        with pytest.raises(UsherError):
            await parts.factors.begin_totp("nobody")
