"""Passkeys: registered and used once each, bound to page, domain, login session and user."""

from __future__ import annotations

import asyncio
from typing import Any

import pyotp
import pytest

from models.passkey import Passkey
from services.errors import (
    NotFound,
    PasskeyCopied,
    PasskeyRefused,
    SecondFactorNeeded,
    TooManyPasskeys,
    Unauthenticated,
)
from services.factors.ceremonies import RelyingParty
from services.factors.challenges import PasskeyAnswer
from services.factors.passkeys import MAX_PASSKEYS
from services.factors.webauthn_challenges import CHALLENGE_SECONDS
from services.sessions.session_views import SignedIn
from tests.factors.test_challenges import Person, person
from tests.support.databases import on_sqlite
from tests.support.parts import DEVICE, Parts, node, settings_of_tests
from tests.support.soft_passkey import SoftPasskey

ORIGIN = "https://usher.example"
PARTY = RelyingParty("usher.example", "Usher", (ORIGIN, "https://app.usher.example"))
TRIES = 100
NEW = "an otter under the old bridge 3"


async def registered(parts: Parts, user_id: str, **kind: Any) -> SoftPasskey:
    key = SoftPasskey(ORIGIN, **kind)
    sid = await session(parts, user_id)
    options = await parts.passkeys.creation_options(PARTY, user_id, sid)
    await parts.passkeys.register(PARTY, user_id, sid, key.create(options), "Phone")
    return key


async def session(parts: Parts, user_id: str) -> str:
    """A login session of somebody."""
    return (await parts.signed_in(user_id)).claims.sid


async def with_key(parts: Parts, **kind: Any) -> tuple[str, SoftPasskey]:
    user_id = await parts.user()
    return user_id, await registered(parts, user_id, **kind)


async def signed_in(parts: Parts, credential: dict[str, Any]) -> SignedIn:
    asserted = await parts.passkeys.verify(PARTY, credential)
    challenges = parts.login_challenges
    return await challenges.by_passkey(asserted, parts.passkeys.use, "browser", DEVICE)


def asked(parts: Parts) -> dict[str, Any]:
    return parts.passkeys.request_options(PARTY)


@pytest.mark.gen_test
async def test_a_passkey_signs_in_without_a_name_on_another_node(database_url: str) -> None:
    settings = settings_of_tests()
    async with (
        node(database_url, settings=settings) as one,
        node(database_url, clock=one.clock, settings=settings) as other,
    ):
        user_id, key = await with_key(one)
        options = asked(one)
        assert "allowCredentials" not in options or options["allowCredentials"] == []
        result = await signed_in(other, key.get(options))
        assert (result.user.id, result.claims.acr, result.method) == (user_id, "2", "passkey")
        (row,) = await one.passkeys.of(user_id)
        assert (row.name, row.last_used_at) == ("Phone", one.clock())


@pytest.mark.gen_test
async def test_options_ask_for_a_resident_key_of_this_user(database_url: str) -> None:
    async with node(database_url) as parts:
        user_id, key = await with_key(parts)
        sid = await session(parts, user_id)
        options = await parts.passkeys.creation_options(PARTY, user_id, sid)
        chosen = options["authenticatorSelection"]
        assert (chosen["residentKey"], chosen["userVerification"]) == ("required", "preferred")
        assert key.user_handle.decode() == user_id
        (known,) = options["excludeCredentials"]
        assert known["id"] == key.create(options)["id"]


@pytest.mark.gen_test
async def test_a_passkey_without_verification_is_one_factor(database_url: str) -> None:
    async with node(database_url) as parts:
        user_id, key = await with_key(parts, verifies=False)
        assert (await signed_in(parts, key.get(asked(parts)))).claims.acr == "1"
        ada = await person(parts)
        hers = await registered(parts, ada.id, verifies=False)
        with pytest.raises(SecondFactorNeeded) as needed:
            await signed_in(parts, hers.get(asked(parts)))
        assert needed.value.public["methods"] == ("totp", "recovery_code")
        assert await parts.factors.methods(user_id) == (), "a passkey alone asks for no factor"


async def answered(parts: Parts, ada: Person, key: SoftPasskey) -> SignedIn:
    """A sign-in with the password, and a passkey as second factor."""
    needed = await begin(parts, ada)
    asserted = await parts.passkeys.verify(PARTY, key.get(asked(parts)))
    answer = PasskeyAnswer(asserted, parts.passkeys.use)
    challenge = str(needed.public["challenge"])
    return (await parts.login_challenges.complete(challenge, answer, None, DEVICE))[0]


async def begin(parts: Parts, ada: Person) -> SecondFactorNeeded:
    with pytest.raises(SecondFactorNeeded) as needed:
        await ada.log_in_again()
    assert "passkey" in needed.value.public["methods"]  # type: ignore[operator]  # a tuple
    return needed.value


@pytest.mark.gen_test
async def test_a_passkey_is_a_second_factor_and_another_users_is_none(database_url: str) -> None:
    async with node(database_url) as parts:
        ada = await person(parts)
        hers = await registered(parts, ada.id, verifies=False)
        assert (await answered(parts, ada, hers)).claims.acr == "2"
        _, other = await with_key(parts)
        with pytest.raises(Unauthenticated):
            await answered(parts, ada, other)


@pytest.mark.gen_test
@pytest.mark.parametrize("of", ["sign-in", "registration"])
async def test_of_parallel_uses_of_one_challenge_one_counts(database_url: str, of: str) -> None:
    async with node(database_url) as parts:
        user_id, key = await with_key(parts)
        if of == "sign-in":
            credential = key.get(asked(parts))
            tries = [signed_in(parts, credential) for _ in range(TRIES // 2)]
        else:
            sid = await session(parts, user_id)
            options = await parts.passkeys.creation_options(PARTY, user_id, sid)
            made = [SoftPasskey(ORIGIN).create(options) for _ in range(TRIES // 2)]
            tries = [
                parts.passkeys.register(PARTY, user_id, sid, one, "x")  # type: ignore[misc]
                for one in made
            ]
        results = await asyncio.gather(*tries, return_exceptions=True)
        good = [result for result in results if not isinstance(result, BaseException)]
        assert len(good) == 1
        assert all(isinstance(r, PasskeyRefused) for r in results if r not in good)


@pytest.mark.gen_test
async def test_a_challenge_ends_and_a_clock_set_back_does_not_prolong_it(database_url: str) -> None:
    async with node(database_url) as parts:
        _, key = await with_key(parts)
        credential = key.get(asked(parts))
        for seconds in (CHALLENGE_SECONDS, -10 * CHALLENGE_SECONDS):
            parts.clock.forward(seconds)
            with pytest.raises(PasskeyRefused):
                await signed_in(parts, credential)


@pytest.mark.gen_test
async def test_options_of_another_purpose_session_or_user_are_refused(database_url: str) -> None:
    async with node(database_url) as parts:
        user_id, key = await with_key(parts)
        register, new = parts.passkeys.register, SoftPasskey(ORIGIN)
        sid = await session(parts, user_id)
        options = await parts.passkeys.creation_options(PARTY, user_id, sid)
        with pytest.raises(PasskeyRefused):
            await signed_in(parts, key.get(options))
        with pytest.raises(PasskeyRefused):
            await register(PARTY, user_id, "another", new.create(options), "x")
        with pytest.raises(PasskeyRefused):
            await register(PARTY, await parts.user(), sid, new.create(options), "x")
        creating = {**options, "challenge": asked(parts)["challenge"]}
        with pytest.raises(PasskeyRefused):
            await register(PARTY, user_id, sid, new.create(creating), "x")
        assert len(await parts.passkeys.of(user_id)) == 1


@pytest.mark.gen_test
@pytest.mark.parametrize("origin", ["https://evil.example", "http://usher.example", "null"])
async def test_another_page_is_refused(database_url: str, origin: str) -> None:
    async with node(database_url) as parts:
        _, key = await with_key(parts)
        key.origin = origin
        with pytest.raises(PasskeyRefused):
            await signed_in(parts, key.get(asked(parts)))
        key.origin = PARTY.origins[1]
        assert (await signed_in(parts, key.get(asked(parts)))).access_token


@pytest.mark.gen_test
async def test_frames_handles_and_flags_that_the_library_passes_are_refused(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        _, key = await with_key(parts)
        framed = key.get(asked(parts), crossOrigin=True, topOrigin="https://evil.example")
        with pytest.raises(PasskeyRefused):
            await signed_in(parts, framed)
        key.user_handle = b"somebody else"
        with pytest.raises(PasskeyRefused):
            await signed_in(parts, key.get(asked(parts)))
        key.user_handle, key.synced = b"", True
        with pytest.raises(PasskeyRefused):
            await signed_in(parts, key.get(asked(parts)))
        key.synced, key.rp_id = False, "evil.example"
        with pytest.raises(PasskeyRefused):
            await signed_in(parts, key.get(asked(parts)))


@pytest.mark.gen_test
async def test_a_decreased_counter_is_refused_and_recorded_and_deletes_nothing(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        user_id, key = await with_key(parts, counter=5)
        key.counter = 6
        await signed_in(parts, key.get(asked(parts)))
        for counter in (6, 5, 0):
            key.counter = counter
            with pytest.raises(PasskeyCopied):
                await signed_in(parts, key.get(asked(parts)))
        await parts.services.audit.write_rows()
        found = await parts.services.audit.page(None, 10, kind="passkey.counter_went_back")
        assert {(row.subject, row.count) for row in found} == {(user_id, 3)}
        key.counter = 7
        assert (await signed_in(parts, key.get(asked(parts)))).user.id == user_id


@pytest.mark.gen_test
async def test_an_authenticator_without_a_counter_signs_in_again_and_again(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        _, key = await with_key(parts)
        for _ in range(3):
            await signed_in(parts, key.get(asked(parts)))


@pytest.mark.gen_test
async def test_passkeys_are_named_and_removed_by_their_user_alone(database_url: str) -> None:
    async with node(database_url) as parts:
        user_id, key = await with_key(parts)
        other = await parts.user()
        (row,) = await parts.passkeys.of(user_id)
        assert (await parts.passkeys.rename(user_id, row.id, " Key ring ")).name == "Key ring"
        for act in (
            parts.passkeys.rename(other, row.id, "x"),
            parts.passkeys.remove(other, row.id),
        ):
            with pytest.raises(NotFound):
                await act
        await parts.passkeys.remove(user_id, row.id)
        assert await parts.passkeys.of(user_id) == []
        with pytest.raises(PasskeyRefused):
            await signed_in(parts, key.get(asked(parts)))


@pytest.mark.gen_test
async def test_one_has_up_to_twenty_and_each_once(database_url: str) -> None:
    async with node(database_url) as parts:
        user_id, key = await with_key(parts)
        sid = await session(parts, user_id)
        options = await parts.passkeys.creation_options(PARTY, user_id, sid)
        with pytest.raises(PasskeyRefused):  # registered already
            await parts.passkeys.register(PARTY, user_id, sid, key.create(options), "x")
        for _ in range(MAX_PASSKEYS - 1):
            await registered(parts, user_id)
        with pytest.raises(TooManyPasskeys):
            await parts.passkeys.creation_options(PARTY, user_id, sid)


@pytest.mark.gen_test
async def test_a_disabled_account_cannot_sign_in_with_a_passkey(database_url: str) -> None:
    async with node(database_url) as parts:
        user_id, key = await with_key(parts)
        await parts.services.administration.update(user_id, None, True)
        with pytest.raises(Unauthenticated):
            await signed_in(parts, key.get(asked(parts)))


def broken(credential: dict[str, Any]) -> list[Any]:
    """What no authenticator sends, in every member."""
    values: list[Any] = [None, 1, [], {}, "", "x", "\ud800", "AAAA", "e30", True, 1.5]
    found: list[Any] = [{**credential, name: v} for name in credential for v in values]
    response = credential["response"]
    for name in response:
        found += [{**credential, "response": {**response, name: v}} for v in values]
        cut = {**response, name: response[name][:-3]}
        found.append({**credential, "response": cut})
    found += [{k: v for k, v in credential.items() if k != name} for name in credential]
    return [{}, *found]


@on_sqlite
@pytest.mark.gen_test
async def test_whatever_is_broken_in_a_credential_is_refused_and_nothing_else(
    database_url: str,
) -> None:
    """On one kind of database: nothing of it gets that far."""
    async with node(database_url) as parts:
        user_id, key = await with_key(parts)
        good = key.get(asked(parts))
        harmless = ("clientExtensionResults", "authenticatorAttachment")
        for credential in broken(good):
            try:
                await parts.passkeys.verify(PARTY, credential)
            except PasskeyRefused:
                continue
            same = {k: v for k, v in credential.items() if k not in harmless}
            assert same.get("id") == good["id"], credential
        sid = await session(parts, user_id)
        options = await parts.passkeys.creation_options(PARTY, user_id, sid)
        for credential in broken(SoftPasskey(ORIGIN).create(options)):
            try:
                await parts.passkeys.register(PARTY, user_id, sid, credential, "x")
            except PasskeyRefused:
                continue
            break  # a member that says nothing; the challenge is used now
        rows = await parts.database.run(lambda db: Passkey.select().count(db))
        assert rows <= 2


@pytest.mark.gen_test
async def test_a_call_in_progress_adds_no_credential_after_its_session_has_ended(
    database_url: str,
) -> None:
    """The owner takes the account back while a thief's calls wait for the database."""
    async with node(database_url) as parts:
        user_id = await parts.user(role="admin")
        await parts.user(role="admin")
        sid = await session(parts, user_id)
        key = SoftPasskey(ORIGIN)
        options = await parts.passkeys.creation_options(PARTY, user_id, sid)
        app = pyotp.TOTP((await parts.factors.begin_totp(user_id)).secret.reveal())
        code = app.at(parts.clock())
        await parts.session_ends.end_all(user_id, "address_restored")
        invitations = parts.services.registration.invitations
        for act in (
            parts.passkeys.register(PARTY, user_id, sid, key.create(options), "x"),
            parts.factors.confirm_totp(user_id, sid, code),
            parts.accounts.set_first_password(user_id, sid, NEW),
            parts.services.api_keys.create("x", ["users"], user_id, sid=sid),
            invitations.create(user_id, role="admin", sid=sid),
        ):
            with pytest.raises(Unauthenticated):
                await act
        assert await parts.passkeys.of(user_id) == []
        assert await parts.factors.methods(user_id) == ()
        assert not await parts.accounts.has_password(user_id)
        assert await parts.services.api_keys.active() == []
        assert await invitations.active("", 9) == []
