"""Codes of native sign-ins: used once over all nodes, in time, and with their verifier."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import peewee
import pytest

from models.native_code import NativeCode
from models.user import User
from services.errors import RateLimited, Unauthenticated
from services.native.codes import CODE_SECONDS, REFUSED, REUSED
from services.native.requests import NativeRequest
from services.opaque import token_hash
from services.sessions.session_views import Device, ProviderSession, SignedIn
from tests.support.parts import DEVICE, LIFETIME, Parts, node

URI = "http://127.0.0.1:49152/callback"
APP = Device("an app", "192.0.2.8", client="native")
VERIFIER = secrets.token_urlsafe(32)


def request(verifier: str = VERIFIER, uri: str = URI) -> NativeRequest:
    digest = hashlib.sha256(verifier.encode()).digest()
    return NativeRequest(uri, "state", base64.urlsafe_b64encode(digest).rstrip(b"=").decode())


async def code_of(parts: Parts, browser: SignedIn) -> str:
    codes = parts.services.native_codes
    refresh = browser.refresh_token.reveal()
    return (await codes.for_browser(browser.claims, refresh, request(), DEVICE)).reveal()


async def exchanged(parts: Parts, code: str, verifier: str = VERIFIER, uri: str = URI) -> SignedIn:
    return await parts.services.native_codes.exchange(code, verifier, uri, APP)


async def refused(parts: Parts, code: str, verifier: str = VERIFIER, uri: str = URI) -> str:
    with pytest.raises(Unauthenticated) as error:
        await exchanged(parts, code, verifier, uri)
    assert error.value.public == {"error": "invalid_grant"}, "and nothing of what was wrong"
    return error.value.evidence


async def why_ended(parts: Parts, user_id: str) -> list[str]:
    return [session.reason for session in await parts.login_sessions.ended(user_id)]


@asynccontextmanager
async def two_nodes(database_url: str) -> AsyncIterator[tuple[Parts, Parts]]:
    async with node(database_url) as one, node(database_url, clock=one.clock) as other:
        yield one, other


@pytest.mark.gen_test
async def test_a_code_becomes_a_login_session_of_the_app(database_url: str) -> None:
    async with two_nodes(database_url) as (one, other):
        browser = await one.signed_in()
        code = await code_of(one, browser)
        app = await exchanged(other, code)
        assert app.user == browser.user
        assert app.claims.sid != browser.claims.sid
        assert (await one.refresh.rotation.refresh(app.refresh_token.reveal())).user == app.user
        listed = {row.id: row for row in await one.login_sessions.active(app.user.id)}
        session = listed[app.claims.sid]
        assert (session.client, session.device, session.ip) == ("native", "an app", "192.0.2.8")
        assert session.method == "password"
        assert session.expires_at == pytest.approx(one.clock() + LIFETIME)
        assert listed[browser.claims.sid].client == "browser"
        rows = await one.database.run(lambda db: list(NativeCode.select().execute(db)))
        assert [row.hash for row in rows] == [token_hash(code)]
        assert code not in repr([vars(row) for row in rows])


@pytest.mark.gen_test
async def test_of_a_hundred_concurrent_callers_on_two_nodes_one_succeeds(
    database_url: str,
) -> None:
    async with two_nodes(database_url) as both:
        browser = await both[0].signed_in()
        code = await code_of(both[0], browser)
        tries = [exchanged(parts, code) for parts in both * 50]
        came = await asyncio.gather(*tries, return_exceptions=True)
        [app] = [one for one in came if isinstance(one, SignedIn)]
        others = [one for one in came if one is not app]
        assert {type(one) for one in others} <= {Unauthenticated, RateLimited}
        assert await why_ended(both[0], app.user.id) == [REUSED]
        with pytest.raises(Unauthenticated):
            await both[1].refresh.rotation.refresh(app.refresh_token.reveal())


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "wrong",
    [
        {"verifier": secrets.token_urlsafe(32)},
        {"verifier": ""},
        {"verifier": VERIFIER + "="},
        {"verifier": VERIFIER[:-1]},
        {"verifier": "ü" * 43},
        {"uri": URI + "/"},
        {"uri": ""},
    ],
)
async def test_a_wrong_try_uses_the_code_up(database_url: str, wrong: dict[str, str]) -> None:
    async with node(database_url) as parts:
        browser = await parts.signed_in()
        code = await code_of(parts, browser)
        assert REFUSED in await refused(parts, code, **wrong)
        assert "over" in await refused(parts, code)
        assert await why_ended(parts, browser.user.id) == [REFUSED]
        assert await parts.admission.login_states.of(browser.claims) is not None, (
            "the browser stays"
        )


@pytest.mark.gen_test
async def test_a_second_use_ends_the_session_that_came_of_it_everywhere(database_url: str) -> None:
    async with two_nodes(database_url) as (one, other):
        browser = await one.signed_in()
        code = await code_of(one, browser)
        app = await exchanged(one, code)
        one.clock.forward(3000.0)  # however long after
        assert REUSED in await refused(other, code, verifier="wrong" * 10)
        assert await one.admission.login_states.of(app.claims) is None
        assert await why_ended(one, app.user.id) == [REUSED]
        assert "over" in await refused(one, code)
        assert await why_ended(one, app.user.id) == [REUSED], "once"


@pytest.mark.gen_test
async def test_a_code_has_a_minute_by_whatever_clock(database_url: str) -> None:
    async with node(database_url) as parts:
        browser = await parts.signed_in()
        codes = [await code_of(parts, browser) for _ in range(4)]
        parts.clock.forward(CODE_SECONDS - 0.1)
        await exchanged(parts, codes[0])
        parts.clock.forward(0.1)
        assert REFUSED in await refused(parts, codes[1])
        parts.clock.forward(-CODE_SECONDS - 10.0)
        assert REFUSED in await refused(parts, codes[2]), "a clock that was set back"
        parts.clock.forward(CODE_SECONDS + 100.0)
        active = await parts.login_sessions.active(browser.user.id)
        assert len(active) == 2, "the browser's and the app's: one that nobody came for is over"


@pytest.mark.gen_test
async def test_what_ends_login_sessions_ends_one_that_waits(database_url: str) -> None:
    async with node(database_url) as parts:
        for end in ("signed_out", "disabled", "deleted"):
            browser = await parts.signed_in()
            user = browser.user.id
            code = await code_of(parts, browser)
            if end == "signed_out":
                await parts.session_ends.end_all(user, "password_changed")
            elif end == "disabled":
                disabled = User.update({User.disabled_at: 1.0}).where(User.id == user)
                await parts.database.run(disabled.execute)
            else:
                gone = User.delete().where(User.id == user)
                await parts.database.run(gone.execute)
            assert "over" in (why := await refused(parts, code)) or "gone" in why


@pytest.mark.gen_test
async def test_the_session_of_an_app_does_not_count_as_a_new_authentication(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        browser = await parts.signed_in()
        proven = parts.clock()
        parts.clock.forward(400.0)
        browser = await parts.refresh.rotation.refresh(browser.refresh_token.reveal())
        app = await exchanged(parts, await code_of(parts, browser))
        assert app.claims.auth_time == proven
        newer = await parts.refresh.rotation.refresh(app.refresh_token.reveal())
        assert newer.claims.auth_time == proven


@pytest.mark.gen_test
async def test_only_a_whole_live_sign_in_of_a_browser_makes_one(database_url: str) -> None:
    async with node(database_url) as parts:
        one, other = await parts.signed_in(), await parts.signed_in()
        codes = parts.services.native_codes
        for claims, token in (
            (one.claims, other.refresh_token.reveal()),
            (one.claims, ""),
            (one.claims, "x"),
            (msgspec.structs.replace(one.claims, sid=other.claims.sid), one.refresh_token.reveal()),
        ):
            with pytest.raises(Unauthenticated):
                await codes.for_browser(claims, token, request(), DEVICE)
        await parts.session_ends.end(one.user.id, one.claims.sid, "logout")
        with pytest.raises(Unauthenticated):
            await code_of(parts, one)
        assert await parts.login_sessions.active(one.user.id) == []


@pytest.mark.slow
@pytest.mark.gen_test
async def test_an_hour_has_sixty_codes_for_a_user(database_url: str) -> None:
    async with node(database_url) as parts:
        browser = await parts.signed_in()
        for _ in range(60):
            await code_of(parts, browser)
        with pytest.raises(RateLimited):
            await code_of(parts, browser)
        await code_of(parts, await parts.signed_in())


@pytest.mark.gen_test
async def test_guessing_codes_is_limited_and_a_valid_code_is_not(database_url: str) -> None:
    async with node(database_url) as parts:
        code = await code_of(parts, await parts.signed_in())
        guesses = ["", "x", "usher_nc_" + "x" * 65, code[:-1] + "x", "x" * 10_000, "\ud800"]
        for number in range(100):
            assert "form" in await refused(parts, guesses[number % len(guesses)])
        with pytest.raises(RateLimited):
            await exchanged(parts, "x")
        await exchanged(parts, code)


@pytest.mark.gen_test
async def test_a_logout_at_the_provider_ends_what_came_of_its_sign_in(database_url: str) -> None:
    async with node(database_url) as parts:
        user_id = await parts.user()

        def by_provider(db: peewee.Database) -> SignedIn:
            user = User.select().where(User.id == user_id).get(db)
            origin = ProviderSession("idp", "sub-1", "sid-1")
            return parts.login_sessions.open_within(db, user, "oauth:idp", DEVICE, origin)

        browser = await parts.database.run(by_provider)
        app = await exchanged(parts, await code_of(parts, browser))
        ended = await parts.database.run(
            parts.session_ends.end_of_provider_within, "idp", None, "sid-1", "provider"
        )
        assert {one.subject for one in ended} == {browser.claims.sid, app.claims.sid}
