"""Sign-ins that wait for a second factor: once, for five minutes, and five wrong answers."""

from __future__ import annotations

import asyncio

import peewee
import pyotp
import pytest

from models.login_challenge import LoginChallenge
from models.user import User
from services.composition.upkeep import Upkeep
from services.errors import RateLimited, SecondFactorNeeded, Unauthenticated, WrongFactor
from services.factors.challenges import CHALLENGE_SECONDS, MAX_WRONG, CodeAnswer
from services.opaque import token_hash
from services.sessions.session_views import Device, SignedIn
from tests.support.parts import DEVICE, Parts, node, settings_of_tests
from tests.support.server import PASSWORD, address

STEP = 30.0
TRIES = 100
WRONG = "000000"


class Person:
    """Somebody with a password and an authenticator app."""

    def __init__(self, parts: Parts, email: str, signed_in: SignedIn) -> None:
        self.parts, self.email, self.id = parts, email, signed_in.user.id
        self.app, self.codes = pyotp.TOTP(pyotp.random_base32()), [""]

    def code(self) -> str:
        self.parts.clock.forward(STEP)
        return self.app.at(self.parts.clock())

    async def log_in(self, device: Device = DEVICE) -> str:
        """The challenge of a sign-in whose password was right."""
        with pytest.raises(SecondFactorNeeded) as needed:
            await self.parts.accounts.log_in(self.email, PASSWORD, device)
        return str(needed.value.public["challenge"])

    async def log_in_again(self) -> None:
        """A sign-in with the password alone."""
        await self.parts.accounts.log_in(self.email, PASSWORD, DEVICE)

    async def begin(self, client: str = "browser") -> str:
        """The same without the time that a password takes."""

        def work(db: peewee.Database) -> SecondFactorNeeded | None:
            user = User.select().where(User.id == self.id).get(db)
            return self.parts.login_challenges.begin_within(db, user, "password", client)

        needed = await self.parts.database.run(work)
        assert needed is not None
        assert needed.public["methods"] == ("totp", "recovery_code")
        return str(needed.public["challenge"])


async def person(parts: Parts) -> Person:
    email = address()
    signed_in = await parts.accounts.sign_up(email, PASSWORD, "Ada", DEVICE)
    made, sid = Person(parts, email, signed_in), signed_in.claims.sid
    made.app = pyotp.TOTP((await parts.factors.begin_totp(made.id)).secret.reveal())
    made.codes = list(await parts.factors.confirm_totp(made.id, sid, made.app.at(parts.clock())))
    return made


async def complete(parts: Parts, challenge: str, code: str, device: Device = DEVICE) -> SignedIn:
    answer = CodeAnswer(code, parts.factors.use_code)
    return (await parts.login_challenges.complete(challenge, answer, None, device))[0]


async def signs_in(parts: Parts, challenge: str, code: str, device: Device = DEVICE) -> None:
    assert (await complete(parts, challenge, code, device)).access_token


@pytest.mark.gen_test
async def test_a_password_alone_opens_no_session_and_with_a_code_it_does_on_another_node(
    database_url: str,
) -> None:
    settings = settings_of_tests()
    async with (
        node(database_url, settings=settings) as one,
        node(database_url, clock=one.clock, settings=settings) as other,
    ):
        ada = await person(one)
        before = len(await one.login_sessions.active(ada.id))
        challenge = await ada.log_in()
        assert len(await one.login_sessions.active(ada.id)) == before
        assert (await complete(other, challenge, ada.code())).user.id == ada.id
        assert len(await one.login_sessions.active(ada.id)) == before + 1
        with pytest.raises(Unauthenticated) as refused:
            await complete(one, challenge, ada.code())
        assert not isinstance(refused.value, WrongFactor)


@pytest.mark.gen_test
async def test_an_account_without_one_signs_in_as_before(database_url: str) -> None:
    async with node(database_url) as parts:
        ada = await person(parts)
        await parts.factors.remove_totp(ada.id)
        assert (await parts.accounts.log_in(ada.email, PASSWORD, DEVICE)).user.id == ada.id


@pytest.mark.gen_test
async def test_a_recovery_code_stands_in_for_the_app_once(database_url: str) -> None:
    async with node(database_url) as parts:
        ada = await person(parts)
        await signs_in(parts, await ada.begin(), ada.codes[0])
        with pytest.raises(WrongFactor):
            await complete(parts, await ada.begin(), ada.codes[0])


@pytest.mark.gen_test
async def test_the_fifth_wrong_answer_is_the_last(database_url: str) -> None:
    async with node(database_url) as parts:
        ada = await person(parts)
        challenge = await ada.begin()
        for _ in range(MAX_WRONG - 1):
            with pytest.raises(WrongFactor):
                await complete(parts, challenge, WRONG)
        for code in (WRONG, ada.code()):
            with pytest.raises(Unauthenticated) as refused:
                await complete(parts, challenge, code)
            assert not isinstance(refused.value, WrongFactor)
        await signs_in(parts, await ada.begin(), ada.code())


@pytest.mark.gen_test
async def test_a_challenge_ends_after_five_minutes_and_is_deleted(database_url: str) -> None:
    async with node(database_url) as parts:
        ada = await person(parts)
        challenge = await ada.begin()
        parts.clock.forward(CHALLENGE_SECONDS)
        with pytest.raises(Unauthenticated):
            await complete(parts, challenge, ada.code())
        await Upkeep(parts.database, parts.clock).purge()
        assert await parts.database.run(LoginChallenge.select().count) == 0


@pytest.mark.gen_test
async def test_a_clock_that_was_set_back_does_not_prolong_it(database_url: str) -> None:
    async with node(database_url) as parts:
        ada = await person(parts)
        challenge = await ada.begin()
        parts.clock.forward(-10 * CHALLENGE_SECONDS)
        with pytest.raises(Unauthenticated):
            await complete(parts, challenge, ada.codes[0])


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "change", ["password", "email", "signed out everywhere", "disabled", "deleted", "app removed"]
)
async def test_a_change_of_the_account_invalidates_it(database_url: str, change: str) -> None:
    async with node(database_url) as parts:
        ada = await person(parts)
        challenge = await ada.begin()
        values = {
            "password": {User.password_hash: "another"},
            "email": {User.email: address()},
            "disabled": {User.disabled_at: 1.0},
        }
        if change in values:
            update = User.update(values[change]).where(User.id == ada.id)
            await parts.database.run(update.execute)
        elif change == "signed out everywhere":
            await parts.services.session_ends.end_all(ada.id, "signed_out_by_admin")
        elif change == "deleted":
            await parts.database.run(lambda db: User.delete().where(User.id == ada.id).execute(db))
        else:
            await parts.factors.remove_totp(ada.id)
        with pytest.raises(Unauthenticated) as refused:
            await complete(parts, challenge, ada.codes[0])
        assert not isinstance(refused.value, WrongFactor)


@pytest.mark.gen_test
async def test_of_parallel_answers_with_one_challenge_one_signs_in(database_url: str) -> None:
    async with node(database_url) as parts:
        ada = await person(parts)
        challenge = await ada.begin()
        code = ada.code()
        before = len(await parts.login_sessions.active(ada.id))
        answers = [complete(parts, challenge, code) for _ in range(TRIES)]
        results = await asyncio.gather(*answers, return_exceptions=True)
        assert sum(isinstance(result, SignedIn) for result in results) == 1
        assert len(await parts.login_sessions.active(ada.id)) == before + 1


@pytest.mark.gen_test
async def test_of_parallel_wrong_answers_five_are_looked_at(database_url: str) -> None:
    async with node(database_url) as parts:
        ada = await person(parts)
        challenge = await ada.begin()
        answers = [complete(parts, challenge, WRONG) for _ in range(2 * MAX_WRONG)]
        results = await asyncio.gather(*answers, return_exceptions=True)
        assert sum(isinstance(result, WrongFactor) for result in results) == MAX_WRONG - 1


@pytest.mark.gen_test
async def test_it_is_bound_to_the_client_that_began_it(database_url: str) -> None:
    async with node(database_url) as parts:
        ada = await person(parts)
        challenge = await ada.begin("native")
        answer = CodeAnswer(ada.codes[0], parts.factors.use_code)
        with pytest.raises(Unauthenticated):
            await parts.login_challenges.complete(challenge, answer, "browser", DEVICE)
        _, client = await parts.login_challenges.complete(challenge, answer, None, DEVICE)
        assert client == "native"
        newest = (await parts.login_sessions.active(ada.id))[0]
        assert "native" in {s.client for s in await parts.login_sessions.active(ada.id)}, newest


@pytest.mark.gen_test
@pytest.mark.parametrize("text", ["", "usher_2f_", "usher_2f_" + "A" * 65, "\ud800", "x" * 300])
async def test_an_invented_challenge_is_refused_without_a_look_up(
    database_url: str, text: str
) -> None:
    async with node(database_url) as parts:
        await parts.database.close()
        with pytest.raises(Unauthenticated):
            await complete(parts, text, WRONG)


@pytest.mark.gen_test
async def test_the_challenge_itself_is_not_stored(database_url: str) -> None:
    async with node(database_url) as parts:
        challenge = await (await person(parts)).begin()
        rows = await parts.database.run(
            lambda db: list(LoginChallenge.select().tuples().execute(db))
        )
        assert token_hash(challenge) in str(rows)
        assert challenge not in str(rows)


# ---- limits --------------------------------------------------------------------------------


async def guess_until_refused(parts: Parts, ada: Person, device: Device) -> int:
    """How many codes somebody who has the password can guess."""
    for number in range(100):
        try:
            await complete(parts, await ada.begin(), WRONG, device)
        except WrongFactor:
            continue
        except RateLimited:
            return number
    raise AssertionError("no limit")


@pytest.mark.gen_test
async def test_a_thief_of_the_password_guesses_few_codes_and_locks_no_user_out(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        ada = await person(parts)
        most = parts.limits.of.factor_guesses.amount
        thief = Device("curl", "203.0.113.1")
        assert await guess_until_refused(parts, ada, thief) == most
        other = Device("curl", "203.0.113.2")
        with pytest.raises(
            RateLimited
        ):  # from another address, because all unknown devices share the limit
            await complete(parts, await ada.begin(), WRONG, other)
        await signs_in(parts, await ada.begin(), ada.code())
        token = parts.accounts.devices.token(ada.email)
        known = Device("Firefox", "203.0.113.3", kept=token)
        await signs_in(parts, await ada.begin(), ada.code(), known)
        travelling = Device("Firefox", "203.0.113.4")
        await signs_in(parts, await ada.begin(), ada.codes[0], travelling)


@pytest.mark.gen_test
async def test_sign_ins_count_with_the_second_factor_and_not_with_the_first(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        ada = await person(parts)
        most = parts.limits.of.signins.amount
        thief = Device("curl", "203.0.113.1")
        for _ in range(most):
            await parts.limits.take((parts.limits.of.half_signins, f"{ada.id}\0{thief.ip}"))
        with pytest.raises(RateLimited):
            await parts.accounts.log_in(ada.email, PASSWORD, thief)
        await signs_in(parts, await ada.begin(), ada.code())
        for _ in range(most - 1):
            await parts.limits.take((parts.limits.of.signins, ada.id))
        challenge = await ada.begin()
        with pytest.raises(RateLimited):
            await complete(parts, challenge, ada.code())
