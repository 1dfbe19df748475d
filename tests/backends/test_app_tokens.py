"""App tokens and their keys, checked with PyJWT as a backend would."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import jwt
import msgspec
import peewee
import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.asymmetric import ec

from models.app_key import AppKey
from services.backends.app_keys import (
    AHEAD_SECONDS,
    CACHE_SECONDS,
    MAX_LIFE_SECONDS,
    SPARE_SECONDS,
    AppKeys,
    add_pair,
)
from services.backends.app_tokens import AppToken
from services.errors import BadRequest, Unauthenticated, Unavailable
from services.secret import Secret
from services.sessions.session_views import SignedIn
from services.settings.settings import Settings
from services.storage.encryption import Encryption
from tests.support.parts import ISSUER, Parts, node, settings_of_tests

AUDIENCES = ("shop", "https://files.example")


def with_apps() -> Settings:
    return msgspec.structs.replace(settings_of_tests(), app_audiences=AUDIENCES)


def issue(parts: Parts, login: SignedIn, audience: str = "shop") -> Any:
    async def issued() -> AppToken:
        identity = await parts.admission.identify(login.claims)
        return parts.services.app_tokens.issue(identity, audience)

    return issued()


def checked(token: str, keys: AppKeys, audience: str = "shop") -> dict[str, Any]:
    """What a backend finds in a token, with nothing but the published keys."""
    published = jwt.PyJWKSet.from_dict({"keys": msgspec.to_builtins(keys.published())})
    key = published[jwt.get_unverified_header(token)["kid"]]
    # The clock of these tests is not that of the library.
    options: Any = {"verify_exp": False, "verify_iat": False, "require": ["exp", "iat", "sub"]}
    found: dict[str, Any] = jwt.decode(
        token, key, ["ES256"], options, audience=audience, issuer=ISSUER
    )
    return found


@pytest.mark.gen_test
async def test_a_backend_checks_a_token_with_the_published_key_alone(database_url: str) -> None:
    async with node(database_url, settings=with_apps()) as parts:
        await parts.services.app_keys.read()
        login = await parts.signed_in(await parts.user("Ada"))
        issued = await issue(parts, login)
        token = issued.token.reveal()
        header = jwt.get_unverified_header(token)
        (key,) = parts.services.app_keys.published()
        assert header == {"alg": "ES256", "typ": "at+jwt", "kid": key.kid}
        assert checked(token, parts.services.app_keys) == {
            "iss": ISSUER,
            "aud": "shop",
            "sub": login.user.id,
            "sid": login.claims.sid,
            "jti": checked(token, parts.services.app_keys)["jti"],
            "iat": parts.clock(),
            "exp": parts.clock() + MAX_LIFE_SECONDS,
            "role": "user",
            "name": "Ada",
            "auth_time": login.claims.auth_time,
            "acr": "1",
        }
        assert issued.expires_in == MAX_LIFE_SECONDS
        with pytest.raises(jwt.InvalidAudienceError):
            checked(token, parts.services.app_keys, "https://files.example")


@pytest.mark.gen_test
async def test_a_token_is_for_the_audiences_of_the_settings_only(database_url: str) -> None:
    async with node(database_url, settings=with_apps()) as parts:
        await parts.services.app_keys.read()
        login = await parts.signed_in()
        for audience in ("", "usher", "SHOP", "files.example", "shop,https://files.example"):
            with pytest.raises(BadRequest) as refused:
                await issue(parts, login, audience)
            assert "audience" in str(refused.value.public["detail"])


@pytest.mark.gen_test
async def test_no_token_outlives_the_login_session(database_url: str) -> None:
    async with node(database_url, settings=with_apps()) as parts:
        await parts.services.app_keys.read()
        login = await parts.signed_in()
        identity = await parts.admission.identify(login.claims)
        assert identity.session_expires_at == login.session_expires_at
        ends = parts.clock() + 10.0
        short = msgspec.structs.replace(identity, session_expires_at=ends)
        issued = parts.services.app_tokens.issue(short, "shop")
        assert issued.expires_in == 10.0
        assert checked(issued.token.reveal(), parts.services.app_keys)["exp"] == ends
        parts.clock.forward(10.0)
        with pytest.raises(Unauthenticated):
            parts.services.app_tokens.issue(short, "shop")


@pytest.mark.gen_test
async def test_it_is_not_accepted_by_usher_itself(database_url: str) -> None:
    async with node(database_url, settings=with_apps()) as parts:
        await parts.services.app_keys.read()
        token = (await issue(parts, await parts.signed_in())).token.reveal()
        with pytest.raises(Unauthenticated):
            await parts.admission.claims_of(token)


# ---- what is no token ----------------------------------------------------------------------


def segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.gen_test
async def test_a_forged_token_is_refused(database_url: str) -> None:
    async with node(database_url, settings=with_apps()) as parts:
        apps = parts.services.app_tokens
        await parts.services.app_keys.read()
        login = await parts.signed_in()
        good = (await issue(parts, login)).token.reveal()
        assert (await apps.verify(good))[0].sub == login.user.id
        header = jwt.get_unverified_header(good)
        payload = checked(good, parts.services.app_keys)
        head, body, signature = good.split(".")
        own = ec.generate_private_key(ec.SECP256R1())
        public = parts.services.app_keys.signer().public
        forged = [
            "",
            ".",
            "..",
            good[:-4] + "AAAA",
            good + "A",
            f"{head}.{segment(payload | {'role': 'admin'})}.{signature}",
            f"{segment(header | {'alg': 'none'})}.{body}.",
            jwt.encode(payload, own, "ES256", headers=header),
            jwt.encode(payload, own, "ES256", headers={"typ": "at+jwt"}),
            # The public key as the secret of an HMAC (RFC 8725 section 2.1).
            jwt.encode(
                payload, str(public.public_numbers()), "HS256", headers=header | {"alg": "HS256"}
            ),
            "ü" * 50,
            "A" * 10_000,
        ]
        private: Any = parts.services.app_keys.signer().private
        wrong_claims: tuple[dict[str, Any], ...] = (
            {"iss": "http://other"},
            {"aud": "other"},
            {"aud": ["shop"]},
            {"sub": "a{b}"},
            {"exp": "soon"},
            {"exp": parts.clock()},
            {"iat": parts.clock() + 60},
            {"role": "root"},
            {"acr": "3"},
        )
        forged += [
            jwt.encode(payload | wrong, private, "ES256", headers=header) for wrong in wrong_claims
        ]
        for name in ("sub", "sid", "jti", "exp", "iat", "iss", "aud", "role"):
            less = {k: v for k, v in payload.items() if k != name}
            forged.append(jwt.encode(less, private, "ES256", headers=header))
        forged.append(jwt.encode(payload, private, "ES256", headers=header | {"typ": "JWT"}))
        forged.append(jwt.encode(payload, private, "ES256", headers=header | {"kid": "x"}))
        for token in forged:
            with pytest.raises(Unauthenticated):
                await apps.verify(token)


# ---- keys ----------------------------------------------------------------------------------


def encryption_of(settings: Settings) -> Encryption:
    return Encryption(settings.encryption_keys)


async def rotate(parts: Parts, settings: Settings) -> None:
    encryption = encryption_of(settings)
    await parts.database.run(lambda db: add_pair(db, encryption, parts.clock()))


@pytest.mark.gen_test
async def test_while_keys_are_rotated_no_token_is_refused(database_url: str) -> None:
    settings = with_apps()
    async with node(database_url, settings=settings) as parts:
        keys = parts.services.app_keys
        await keys.read()
        (old,) = keys.published()
        # What a backend keeps for as long as it may.
        kept, kept_at = keys.published(), parts.clock()
        await rotate(parts, settings)
        start = parts.clock()
        seen: list[tuple[str, int]] = []
        tokens: list[tuple[float, str]] = []
        while parts.clock() < start + AHEAD_SECONDS + MAX_LIFE_SECONDS + SPARE_SECONDS + 90:
            if int(parts.clock() - start) % 60 == 0:
                await keys.read()
            if parts.clock() - kept_at >= CACHE_SECONDS:
                kept, kept_at = keys.published(), parts.clock()
            login = await parts.signed_in()
            token = (await issue(parts, login)).token.reveal()
            tokens = [(at, t) for at, t in tokens if parts.clock() < at + MAX_LIFE_SECONDS]
            tokens.append((parts.clock(), token))
            known = {key.kid for key in kept}
            for _, active in tokens:
                kid = jwt.get_unverified_header(active)["kid"]
                assert kid in known
                assert kid in {key.kid for key in keys.published()}
                assert (await parts.services.app_tokens.verify(active))[1] == "shop"
            seen.append((jwt.get_unverified_header(token)["kid"], len(keys.published())))
            parts.clock.forward(30.0)
        assert seen[0] == (old.kid, 2)
        assert {kid for kid, _ in seen} > {old.kid}
        assert max(count for _, count in seen) == 2
        assert seen[-1][1] == 1
        assert seen[-1][0] != old.kid
        await keys.read()
        parts.clock.forward(2 * SPARE_SECONDS)
        await keys.read()
        assert await parts.database.run(lambda db: AppKey.select().count(db)) == 1


@pytest.mark.gen_test
async def test_the_private_key_lies_encrypted(database_url: str) -> None:
    settings = with_apps()
    async with node(database_url, settings=settings) as parts:
        await parts.services.app_keys.read()
        (row,) = await parts.database.run(lambda db: list(AppKey.select().execute(db)))
        assert "PRIVATE" not in row.private_key
        assert encryption_of(settings).decrypt(row.private_key).startswith(b"-----BEGIN PRIVATE")
        assert "d" not in json.loads(row.public_key)


@pytest.mark.gen_test
async def test_nodes_that_start_at_once_have_one_key(database_url: str) -> None:
    settings = with_apps()
    async with (
        node(database_url, settings=settings, name="here") as here,
        node(database_url, settings=settings, clock=here.clock, name="there") as there,
    ):
        await asyncio.gather(here.services.app_keys.read(), there.services.app_keys.read())
        assert here.services.app_keys.published() == there.services.app_keys.published()
        assert len(here.services.app_keys.published()) == 1


@pytest.mark.gen_test
async def test_a_node_knows_the_token_of_a_key_that_it_has_not_read(database_url: str) -> None:
    settings = with_apps()
    async with (
        node(database_url, settings=settings, name="here") as here,
        node(database_url, settings=settings, clock=here.clock, name="there") as there,
    ):
        await here.services.app_keys.read()
        login = await here.signed_in()
        token = (await issue(here, login)).token.reveal()
        assert (await there.services.app_tokens.verify(token))[0].sub == login.user.id


@pytest.mark.gen_test
async def test_without_audiences_there_is_no_key_and_no_token(database_url: str) -> None:
    async with node(database_url) as parts:
        await parts.services.app_keys.read()
        assert parts.services.app_keys.published() == []
        with pytest.raises(BadRequest):
            await issue(parts, await parts.signed_in())
        assert await parts.database.run(lambda db: AppKey.select().count(db)) == 0


@pytest.mark.gen_test
async def test_with_another_encryption_key_none_is_issued_and_none_is_lost(
    database_url: str,
) -> None:
    settings = with_apps()
    other = msgspec.structs.replace(
        settings, encryption_keys=(Secret(Fernet.generate_key().decode()),)
    )
    async with node(database_url, settings=settings) as parts:
        await parts.services.health.check()
        await parts.services.app_keys.read()
        published = parts.services.app_keys.published()
        async with node(database_url, settings=other, clock=parts.clock) as wrong:
            await wrong.services.health.check()
            await wrong.services.app_keys.read()
            assert wrong.services.app_keys.published() == published
            with pytest.raises(Unavailable):
                await issue(wrong, await wrong.signed_in())
        await parts.services.app_keys.read()
        await issue(parts, await parts.signed_in())


@pytest.mark.gen_test
async def test_of_two_rotations_at_once_one_key_stays(database_url: str) -> None:
    settings = with_apps()
    async with node(database_url, settings=settings) as parts:
        await parts.services.app_keys.read()
        await asyncio.gather(*(rotate(parts, settings) for _ in range(4)), return_exceptions=True)
        numbers = await parts.database.run(numbers_of)
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) >= 2


def numbers_of(db: peewee.Database) -> list[int]:
    return [row.number for row in AppKey.select().order_by(AppKey.number).execute(db)]
